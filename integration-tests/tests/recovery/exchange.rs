//! Redis's files and ours, each read by the other server.

use super::AOF;
use redrock_integration_tests::dataset::{self, random_writes};
use redrock_integration_tests::process::{Kind, Server, copy_folder, has_redis};
use redrock_integration_tests::resp::encode;
use std::time::Duration;

#[test]
fn redis_starts_on_our_folder_and_we_on_redis_s_with_the_same_data() {
    if !has_redis() {
        return;
    }
    let (ours, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(Kind::RedRock, ours.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    random_writes(&mut client, 1, 4000).unwrap();
    let expected = dataset::read(&mut client, 4).unwrap();
    assert!(expected.len() > 100);
    server.kill().unwrap();

    copy_folder(ours.path(), copy.path()).unwrap();
    let redis = Server::start(Kind::Redis, copy.path(), &AOF).unwrap();
    let mut client = redis.client().unwrap();
    assert_eq!(
        dataset::read(&mut client, 4).unwrap(),
        expected,
        "Redis on our folder"
    );

    // Redis goes on, rewrites, and goes on: an RDB base and two of its increments.
    random_writes(&mut client, 2, 1000).unwrap();
    client.ok("BGREWRITEAOF").unwrap();
    while !client
        .ok("INFO persistence")
        .unwrap()
        .text()
        .contains("aof_rewrite_in_progress:0")
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    random_writes(&mut client, 3, 1000).unwrap();
    let expected = dataset::read(&mut client, 4).unwrap();
    redis.kill().unwrap();

    let back = tempfile::tempdir().unwrap();
    copy_folder(copy.path(), back.path()).unwrap();
    let server = Server::start(Kind::RedRock, back.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(
        dataset::read(&mut client, 4).unwrap(),
        expected,
        "we on Redis's folder"
    );
    random_writes(&mut client, 4, 500).unwrap();
    let expected = dataset::read(&mut client, 4).unwrap();
    server.kill().unwrap();
    let server = Server::start(Kind::RedRock, back.path(), &AOF).unwrap();
    assert_eq!(
        dataset::read(&mut server.client().unwrap(), 4).unwrap(),
        expected
    );
    assert!(server.terminate().unwrap().success());
    let redis = Server::start(Kind::Redis, back.path(), &AOF).unwrap();
    assert_eq!(
        dataset::read(&mut redis.client().unwrap(), 4).unwrap(),
        expected,
        "and back"
    );
}

#[test]
fn a_dump_and_a_single_file_of_redis_are_loaded() {
    if !has_redis() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let redis = Server::start(Kind::Redis, folder.path(), &[]).unwrap();
    let mut client = redis.client().unwrap();
    random_writes(&mut client, 5, 3000).unwrap();
    client.ok("SET gone x PX 1").unwrap();
    client.ok("SAVE").unwrap();
    client.ok("DEL gone").unwrap();
    let expected = dataset::read(&mut client, 4).unwrap();
    redis.kill().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let server = Server::start(Kind::RedRock, folder.path(), &[]).unwrap();
    assert_eq!(
        dataset::read(&mut server.client().unwrap(), 4).unwrap(),
        expected
    );
    server.kill().unwrap();

    // A file from before Redis 7: an RDB in front, commands behind it.
    let single = folder.path().join("appendonly.aof");
    let mut bytes = std::fs::read(folder.path().join("dump.rdb")).unwrap();
    encode(&mut bytes, &["SELECT", "3"]);
    encode(&mut bytes, &["SET", "tail", "1"]);
    std::fs::write(&single, bytes).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    client.ok("SELECT 3").unwrap();
    assert_eq!(client.ok("GET tail").unwrap().text(), "1");
    client.ok("SET more 1").unwrap();
    client.ok("DEL tail").unwrap();
    client.ok("SELECT 0").unwrap();
    assert!(!single.exists() && folder.path().join("appendonlydir/appendonly.aof").exists());
    server.kill().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut found = dataset::read(&mut server.client().unwrap(), 4).unwrap();
    assert!(found.remove(&(3, b"more".to_vec())).is_some());
    assert_eq!(found, expected);
}
