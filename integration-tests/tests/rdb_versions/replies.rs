//! The fixtures, and comparing a server's answers with recorded ones.

use redrock_integration_tests::process::Server;
use redrock_integration_tests::resp::{Client, Reply};
use std::path::{Path, PathBuf};

/// The fixtures' folder.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new("fixtures/rdb/servers").join(name)
}

/// A folder with the fixture as its dump.
pub(crate) fn folder_with(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(name), folder.path().join("dump.rdb")).unwrap();
    folder
}

/// Servers among the fixtures whose answers are recorded, with what we need to start on their files.
pub(crate) const SERVERS: [(&str, &[&str]); 6] = [
    ("redis-6.0.20", &[]),
    ("redis-6.2.16", &[]),
    ("redis-7.2.6", &[]),
    ("redis-7.4-rc1", &["--rdb-version", "12"]),
    ("redis-7.4.1", &["--rdb-version", "12"]),
    ("valkey-8.0.1", &[]),
];

/// A reply as redis-cli writes it into a file.
fn as_text(reply: &Reply) -> String {
    match reply {
        Reply::Nil => String::new(),
        Reply::Error(text) => text.clone(),
        Reply::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(as_text).collect();
            elements.join("\n")
        }
        other => other.text(),
    }
}

/// Redis spells scores in digests in another way since 7.2.
const SPELT_IN_TWO_WAYS: &str = "DEBUG DIGEST-VALUE zset:";

/// Asks what the fixture's server was asked and compares. Of `except` the answers may be others. Gives
/// the number of questions.
pub(crate) fn assert_answers(client: &mut Client, name: &str, except: &[&str]) -> usize {
    let text = std::fs::read_to_string(fixture(&format!("{name}.replies"))).unwrap();
    let mut asked = 0;
    for part in text.strip_prefix("> ").unwrap().split("\n> ") {
        let (question, expected) = part.split_once('\n').unwrap();
        let words: Vec<&str> = question.split(' ').collect();
        let found = as_text(&client.run(&words).unwrap());
        asked += 1;
        let mut except = except.iter().chain(&[SPELT_IN_TWO_WAYS]);
        if except.any(|start| question.starts_with(start)) {
            continue;
        }
        assert_eq!(found.trim_end(), expected.trim_end(), "{name}: {question}");
    }
    client.ok("SELECT 0").unwrap();
    asked
}

/// The newest version of files that a server reads.
pub(crate) fn version_read(server: &Server) -> (String, u16) {
    let info = server.client().unwrap().ok("INFO server").unwrap().text();
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name));
        value.map(str::to_owned)
    };
    if let Some(version) = field("valkey_version:") {
        return (format!("Valkey {version}"), 11);
    }
    let version = field("redis_version:").unwrap();
    let rdb_version = match version.split('.').take(2).collect::<Vec<_>>().join(".") {
        older if older.starts_with('6') => 9,
        version if version == "7.0" => 10,
        version if version == "7.2" => 11,
        _ => 12,
    };
    (format!("Redis {version}"), rdb_version)
}
