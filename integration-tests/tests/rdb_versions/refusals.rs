//! What can't be read is refused by name: what it is, which key, at which offset.

use crate::replies::fixture;
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::Reply;
use std::path::Path;

/// Starts over a folder and gives what the refusal says.
fn refusal(folder: &Path, options: &[&str]) -> String {
    let options = [&["--companions", "external"], options].concat();
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder, port, &options).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    text
}

/// A file's head, a database, a good key, and then this.
fn file(version: &str, rest: &[u8]) -> Vec<u8> {
    [
        b"REDIS",
        version.as_bytes(),
        b"\xfe\x03\x00\x04good\x01v",
        rest,
    ]
    .concat()
}

/// Where `rest` begins.
const REST: u64 = 9 + 2 + 8;

fn said(text: &str) -> String {
    text.to_owned()
}

/// What it is, the file's version, what it has behind a good key, and what is said of it.
type Case = (&'static str, &'static str, &'static [u8], [String; 2]);

/// What later versions have, and release candidates had.
fn of_other_versions() -> Vec<Case> {
    let place = |key: &str| format!("key '{key}' in database 3 at offset {REST}");
    let opcode_at = || format!("(RDB offset {})", REST + 1);
    let unknown = |object_type: u8| format!("unknown RDB type {object_type}:");
    let functions = "pre-release function format not supported";
    vec![
        (
            "stream of Redis 8.2",
            "0012",
            b"\x1a\x03new\x00",
            [unknown(26), place("new")],
        ),
        (
            "type 33",
            "0012",
            b"\x21\x03new\x00",
            [unknown(33), place("new")],
        ),
        (
            "slots of Valkey 9",
            "0011",
            b"\xf3\x01\x00",
            [said("unknown RDB opcode 243:"), opcode_at()],
        ),
        (
            "functions of Redis 7.0-rc2",
            "0010",
            b"\xf6\x03lib",
            [said(functions), opcode_at()],
        ),
    ]
}

fn damaged() -> Vec<Case> {
    let place = |key: &str| format!("key '{key}' in database 3 at offset {REST}");
    vec![
        (
            "a key twice",
            "0010",
            b"\x00\x04good\x01w",
            [
                said("RDB has duplicated key 'good' in DB 3"),
                format!("(RDB offset {REST})"),
            ],
        ),
        (
            "a member twice",
            "0010",
            b"\x02\x03set\x02\x01a\x01a",
            [said("duplicate element"), place("set")],
        ),
        (
            "a score that is none",
            "0008",
            b"\x03\x04zset\x01\x01a\xfd",
            [said("score is not a number"), place("zset")],
        ),
        (
            "a library that does not load",
            "0010",
            b"\xf5\x0bnot a lib()",
            [
                format!("RDB offset {REST}"),
                said("a function library can't be loaded"),
            ],
        ),
        (
            "a cut value",
            "0010",
            b"\x04\x04hash\x02\x01f",
            [said("Unexpected EOF"), place("hash")],
        ),
        (
            "the end",
            "0010",
            b"\xff\x01\x02\x03\x04\x05\x06\x07\x08",
            [
                said("Wrong RDB checksum"),
                format!("RDB offset {}", REST + 9),
            ],
        ),
    ]
}

#[test]
fn what_a_file_has_of_later_versions_or_damage_is_named_with_key_and_offset() {
    for (what, version, rest, reasons) in of_other_versions().into_iter().chain(damaged()) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dump.rdb"), file(version, rest)).unwrap();
        let text = refusal(folder.path(), &[]);
        for reason in &reasons {
            assert!(text.contains(reason), "{what}: {reason} in {text}");
        }
        // The file is as it was, and the same in front of a log.
        let dump = std::fs::read(folder.path().join("dump.rdb")).unwrap();
        assert_eq!(dump, file(version, rest));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("appendonly.aof"), dump).unwrap();
        let text = refusal(folder.path(), &["--appendonly", "yes"]);
        for reason in &reasons {
            assert!(
                text.contains(reason),
                "{what} in front of a log: {reason} in {text}"
            );
        }
    }
}

#[test]
fn versions_that_are_not_read_are_named_in_dumps_and_logs() {
    for (head, reason) in [
        (
            &b"REDIS0013"[..],
            "Can't handle RDB format version 0013: 1 to 12 are read",
        ),
        (
            b"VALKEY080",
            "Can't handle Valkey's RDB format version 080: versions 1 to 12 of Redis are read",
        ),
    ] {
        let mut rdb = std::fs::read(fixture("valkey-8.0.1.rdb")).unwrap();
        rdb[..9].copy_from_slice(head);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dump.rdb"), &rdb).unwrap();
        let text = refusal(folder.path(), &[]);
        assert!(text.contains(reason), "{text}");
        // The same as the base of a log.
        let log = folder.path().join("appendonlydir");
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join("appendonly.aof.1.base.rdb"), &rdb).unwrap();
        std::fs::write(log.join("appendonly.aof.1.incr.aof"), b"").unwrap();
        let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
        std::fs::write(log.join("appendonly.aof.manifest"), manifest).unwrap();
        let text = refusal(folder.path(), &["--appendonly", "yes"]);
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn payloads_are_restored_up_to_version_12() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--companions", "external", "--rdb-version", "12"];
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let mut client = server.client().unwrap();
    let mut restore = |object_type: u8, body: &[u8], version: u16| {
        let mut payload = Vec::new();
        redrock_rdb::dump::write(&mut payload, object_type, body, version);
        client
            .run(&[b"RESTORE", &b"key"[..], b"0", &payload, b"REPLACE"])
            .unwrap()
    };
    let ok = Reply::Status("OK".into());
    let wrong = Reply::Error("ERR DUMP payload version or checksum are wrong".into());
    for version in 1..=12 {
        assert_eq!(restore(0, b"\x01v", version), ok, "{version}");
    }
    // Redis 8.x, Valkey 9.
    for version in [13, 80, 0xffff] {
        assert_eq!(restore(0, b"\x01v", version), wrong, "{version}");
    }
    let bad = Reply::Error("ERR Bad data format".into());
    for object_type in [6, 8, 26, 255] {
        assert_eq!(restore(object_type, b"\x01v", 12), bad, "{object_type}");
    }
    // A hash whose field expires, as Redis 7.4 dumps it.
    let mut fields = 4_102_444_800_123u64.to_le_bytes().to_vec();
    fields.extend_from_slice(b"\x02\x01\x01a\x011\x00\x01b\x012");
    assert_eq!(restore(24, &fields, 12), ok);
    let times = client.ok("HPEXPIRETIME key FIELDS 2 a b").unwrap();
    assert_eq!(
        times,
        Reply::Array(vec![Reply::Int(4_102_444_800_123), Reply::Int(-1)])
    );
}
