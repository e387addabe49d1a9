//! Files of other servers are loaded, and answered from as there.

use crate::replies::{SERVERS, assert_answers, fixture, folder_with};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::Client;
use redrock_rdb::file::{Entry, Item, RdbReader, ReaderOptions};
use redrock_rdb::object::{Object, decode};

const OPTIONS: [&str; 4] = ["--companions", "external", "--enable-debug-command", "yes"];

#[test]
fn files_of_other_servers_are_loaded_and_answer_as_they_did_there() {
    for (name, options) in SERVERS {
        let folder = folder_with(&format!("{name}.rdb"));
        let options = [&OPTIONS[..], options].concat();
        let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
        let mut client = server.client().unwrap();
        let asked = assert_answers(&mut client, name, &[]);
        assert!(asked > 60, "{name}: {asked} questions");
        assert_scores(&mut client, name);
        if !name.starts_with("redis-6") {
            assert_eq!(client.ok("FCALL seven 0").unwrap().int(), Some(7), "{name}");
        }
        let text = server.log_text();
        let (_, version) = name.split_once('-').unwrap();
        let said = format!("Loading RDB produced by version {}", version_said(version));
        assert!(text.contains(&said), "{said}: {text}");
        let memory = text.split_once("RDB memory usage when created ").unwrap().1;
        let megabytes: f64 = memory.split_once(" Mb").unwrap().0.parse().unwrap();
        assert!(
            text.contains("RDB age ") && (0.5..5.0).contains(&megabytes),
            "{text}"
        );
        let keys = client.ok("INFO persistence").unwrap().text();
        let loaded = if name.contains("7.4") { 33 } else { 29 };
        assert!(
            text.contains(&format!("keys loaded: {loaded}, keys expired: 0.")),
            "{text}"
        );
        assert!(
            keys.contains(&format!("rdb_last_load_keys_loaded:{loaded}\r")),
            "{keys}"
        );
        assert!(
            keys.contains("rdb_last_load_module_keys_skipped:0\r"),
            "{keys}"
        );
    }
}

/// Sorted sets have the file's scores to the last bit.
fn assert_scores(client: &mut Client, name: &str) {
    let mut compared = 0;
    for entry in entries(name) {
        let scores: Vec<(Vec<u8>, f64)> = match decode(entry.object_type, &entry.payload).unwrap() {
            Object::ZSet(members) => members,
            Object::ZSetListpack(pack) => {
                let all: Vec<Vec<u8>> = pack.iter().map(|value| value.to_vec()).collect();
                let score = |text: &[u8]| String::from_utf8_lossy(text).parse().unwrap();
                let pairs = all.chunks(2);
                pairs
                    .map(|pair| (pair[0].clone(), score(&pair[1])))
                    .collect()
            }
            _ => continue,
        };
        for (member, score) in scores {
            let found = client.run(&[b"ZSCORE", &entry.key[..], &member]).unwrap();
            let found: f64 = found.text().parse().unwrap();
            assert_eq!(found.to_bits(), score.to_bits(), "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 207, "{name}");
}

/// Release candidates call themselves so.
fn version_said(version: &str) -> &str {
    match version {
        "7.4-rc1" => "7.3.240",
        other => other,
    }
}

#[test]
fn the_single_file_of_redis_6_with_an_rdb_in_front_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let single = folder.path().join("appendonly.aof");
    std::fs::copy(fixture("redis-6.2.16.aof"), &single).unwrap();
    let options = [&OPTIONS[2..], &["--appendonly", "yes"]].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("GET behind").unwrap().text(), "1");
    client.ok("SELECT 3").unwrap();
    assert_eq!(client.ok("EXISTS other:database").unwrap().int(), Some(0));
    // What the commands behind the RDB changed apart, everything is there.
    let gone = ["TYPE other:database", "DEBUG DIGEST-VALUE other:database"];
    assert_answers(&mut client, "redis-6.2.16", &gone);
    assert!(!single.exists(), "it moves into the folder of the log");
}

fn entries(name: &str) -> Vec<Entry> {
    let rdb = std::fs::read(fixture(&format!("{name}.rdb"))).unwrap();
    let mut reader = RdbReader::new(&rdb[..], ReaderOptions::default()).unwrap();
    let mut entries = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::SelectDb(0) => entries.clear(),
            Item::SelectDb(_) => break,
            Item::Entry(entry) => entries.push(entry),
            _ => {}
        }
    }
    entries
}

#[test]
fn frequencies_and_idle_times_of_the_file_are_the_keys() {
    let start = |name: &str, policy: &str| {
        let folder = folder_with(&format!("{name}.rdb"));
        let options = [&OPTIONS[..], &["--maxmemory-policy", policy]].concat();
        (
            Server::start(Kind::RedRock, folder.path(), &options).unwrap(),
            folder,
        )
    };
    // Of Redis 7.2, whose counters have not decayed since the load.
    let (server, _folder) = start("redis-7.2.6", "allkeys-lfu");
    let mut client = server.client().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for entry in entries("redis-7.2.6") {
        let command = [b"OBJECT".as_slice(), b"FREQ", &entry.key];
        let found = client.run(&command).unwrap().int().unwrap();
        let saved = i64::from(entry.frequency.unwrap());
        // A minute may end meanwhile, which takes one away.
        assert!((saved - 1..=saved).contains(&found), "{found} of {saved}");
        seen.insert(saved);
    }
    assert!(!seen.is_empty());
    drop(server);

    let folder = folder_with("redis-6.2.16.rdb");
    let dump = folder.path().join("dump.rdb");
    std::fs::write(&dump, idle_file()).unwrap();
    let options = [&OPTIONS[..], &["--maxmemory-policy", "volatile-lru"]].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let mut client = server.client().unwrap();
    for (key, idle) in [("a", 5), ("b", 100_000), ("c", 0)] {
        let found = client.ok(&format!("OBJECT IDLETIME {key}")).unwrap();
        let found = found.int().unwrap();
        assert!(
            (idle..idle + 60).contains(&found),
            "{key}: {found} of {idle}"
        );
    }
}

/// Three keys, of which two have been idle.
fn idle_file() -> Vec<u8> {
    use redrock_rdb::file::{EntryMeta, RdbWriter, WriterOptions};
    let mut writer = RdbWriter::new(Vec::new(), WriterOptions::default()).unwrap();
    writer.select_db(0).unwrap();
    for (key, idle_secs) in [("a", Some(5)), ("b", Some(100_000)), ("c", None)] {
        let meta = EntryMeta {
            idle_secs,
            ..EntryMeta::default()
        };
        writer.entry(key.as_bytes(), &meta, 0, b"\x01v").unwrap();
    }
    writer.finish().unwrap().0
}
