//! What only modules can read is left out, named everywhere, and kept nowhere.

use crate::replies::{fixture, folder_with};
use redrock_integration_tests::fake_master::{Answer, FakeMaster};
use redrock_integration_tests::process::{Kind, Server, binary};
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::path::Path;
use std::process::Command;

fn info(client: &mut Client, field: &str) -> String {
    let text = client.ok("INFO persistence").unwrap().text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field}: {text}")).to_owned()
}

const TYPES: [&str; 2] = [
    "test__rdb version 1: 1 keys of 42 bytes, the first 'module:d' in database 2, 2 pieces of data apart \
     from keys",
    "test___dt version 1: 3 keys of 81 bytes, the first 'module:a' in database 0",
];

fn assert_loaded(server: &Server) {
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("GET before").unwrap().text(), "1");
    assert_eq!(client.ok("DBSIZE").unwrap().int(), Some(1));
    client.ok("SELECT 2").unwrap();
    assert_eq!(client.ok("GET after").unwrap().text(), "1");
    assert_eq!(client.ok("DBSIZE").unwrap().int(), Some(1));
    assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), "2");
    assert_eq!(info(&mut client, "rdb_last_load_module_keys_skipped"), "4");
    assert_eq!(
        info(&mut client, "rdb_last_load_modules_skipped"),
        "test__rdb/1=1,test___dt/1=3"
    );
    let text = server.log_text();
    assert!(
        text.contains("4 keys of modules were left out of the RDB"),
        "{text}"
    );
    for part in TYPES {
        assert!(text.contains(part), "{part}: {text}");
    }
    let each = "leaving out key 'module:b' in database 0 at offset 155: of module type test___dt version 1";
    assert!(text.contains(each), "{text}");
}

fn check(path: &Path) -> String {
    let mut command = Command::new(binary("redrock-persist").unwrap());
    let output = command.arg("check").arg(path).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn assert_remarked(text: &str) {
    assert!(
        text.starts_with("remark") && text.contains("2 keys"),
        "{text}"
    );
    assert!(text.contains("4 keys belong to modules ("), "{text}");
    assert!(text.contains("; a load leaves them out"), "{text}");
    for part in TYPES {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn values_of_modules_are_left_out_of_a_dump_and_named() {
    let folder = folder_with("modules.rdb");
    assert_remarked(&check(&folder.path().join("dump.rdb")));
    let options = ["--companions", "external", "--enable-debug-command", "yes"];
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    assert_loaded(&server);
    // The count is the last load's.
    let mut client = server.client().unwrap();
    let rdb = std::fs::read(fixture("redis-7.2.6.rdb")).unwrap();
    std::fs::write(folder.path().join("dump.rdb"), rdb).unwrap();
    client.ok("DEBUG RELOAD NOSAVE").unwrap();
    assert_eq!(info(&mut client, "rdb_last_load_module_keys_skipped"), "0");
    assert_eq!(info(&mut client, "rdb_last_load_modules_skipped"), "");
}

#[test]
fn values_of_modules_in_front_of_a_log_are_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(fixture("modules.rdb")).unwrap();
    encode(&mut bytes, &["SELECT", "5"]);
    encode(&mut bytes, &["SET", "tail", "1"]);
    let single = folder.path().join("appendonly.aof");
    std::fs::write(&single, &bytes).unwrap();
    assert_remarked(&check(&single));
    // A tail that would be cut is told beside it.
    bytes.extend_from_slice(b"*2\r\n$3\r\nDEL");
    std::fs::write(&single, &bytes).unwrap();
    let text = check(&single);
    assert_remarked(&text);
    assert!(text.contains("aof-load-truncated yes keeps"), "{text}");
    let options = ["--companions", "external", "--appendonly", "yes"];
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    assert_loaded(&server);
    let mut client = server.client().unwrap();
    client.ok("SELECT 5").unwrap();
    assert_eq!(client.ok("GET tail").unwrap().text(), "1");
}

#[test]
fn a_replica_of_a_server_with_modules_names_what_it_does_not_take() {
    // A master that sends the file as it is: a server of the same RESP that has it as its snapshot.
    let folder = folder_with("modules.rdb");
    let rdb = std::fs::read(folder.path().join("dump.rdb")).unwrap();
    std::fs::remove_file(folder.path().join("dump.rdb")).unwrap();
    let answer = Answer {
        rdb,
        ..Answer::default()
    };
    let master = FakeMaster::start(answer).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &[]).unwrap();
    let mut client = server.client().unwrap();
    client
        .ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))
        .unwrap();
    let deadline = std::time::Instant::now() + redrock_integration_tests::scale::PATIENCE;
    while client.ok("DBSIZE").unwrap().int() != Some(1) {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            server.log_text()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_loaded(&server);
}

#[test]
fn a_module_s_payload_is_refused_as_by_a_redis_without_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::start(Kind::RedRock, folder.path(), &["--companions", "external"]).unwrap();
    let mut client = server.client().unwrap();
    let mut payload = Vec::new();
    redrock_rdb::dump::write(
        &mut payload,
        7,
        b"\x81\xb5\xeb\x2d\xff\xff\xdd\xb4\x01\x02\x01\x05\x01c\x00",
        10,
    );
    assert_eq!(
        client
            .run(&[b"RESTORE", &b"key"[..], b"0", &payload])
            .unwrap(),
        Reply::Error("ERR Bad data format".into())
    );
}
