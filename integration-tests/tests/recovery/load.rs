//! What holds while a log or a dump is loaded.

use super::{AOF, segment};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Reply, encode};
use std::time::Duration;

#[test]
fn expired_keys_stay_until_the_log_deletes_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    // When these ran the key was alive; all of it is long past now.
    for line in [
        "SET count 5 PXAT 1000000000000",
        "INCR count",
        "PERSIST count",
        "SET short 1 PXAT 1000000000000",
        "INCR short",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        encode(&mut bytes, &words);
    }
    std::fs::write(&path, bytes).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("GET count").unwrap().text(), "6");
    assert_eq!(client.ok("GET short").unwrap(), Reply::Nil);
}

#[test]
fn clients_hear_of_a_load_and_of_its_progress() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    for n in 0..1_500_000 {
        encode(&mut bytes, &["SET", &format!("key:{n}"), "v"]);
    }
    std::fs::write(&path, bytes).unwrap();
    let server = Server::spawn(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut client = loop {
        match server.client() {
            Ok(client) => break client,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let refused = client.run(&["GET", "key:1"]).unwrap();
    assert_eq!(
        refused,
        Reply::Error("LOADING Redis is loading the dataset in memory".into())
    );
    let info = client.ok("INFO persistence").unwrap().text();
    assert!(
        info.contains("loading:1") && info.contains("loading_eta_seconds:"),
        "{info}"
    );
    let server = server.wait_ready().unwrap();
    assert_eq!(client.ok("DBSIZE").unwrap().int(), Some(1_500_000));
    assert!(
        client
            .ok("INFO persistence")
            .unwrap()
            .text()
            .contains("loading:0")
    );
    // Told to end in the middle of a load, it ends.
    server.kill().unwrap();
    let server = Server::spawn(Kind::RedRock, folder.path(), &AOF).unwrap();
    while server.client().is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.terminate().unwrap();
}

#[test]
fn a_dump_larger_than_the_bound_is_loaded_within_it() {
    if !has_redis() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let redis = Server::start(Kind::Redis, folder.path(), &["--rdbcompression", "no"]).unwrap();
    let mut client = redis.client().unwrap();
    let (small, large) = ("v".repeat(1000), "w".repeat(60_000));
    for base in (0..300_000).step_by(1000) {
        let mut bytes = Vec::new();
        for n in base..base + 1000 {
            encode(&mut bytes, &["SET", &format!("key:{n}"), &small]);
        }
        encode(
            &mut bytes,
            &["RPUSH", &format!("list:{base}"), &large, "last"],
        );
        client.send_raw(&bytes).unwrap();
        for _ in 0..1001 {
            client.receive().unwrap();
        }
    }
    client.ok("SAVE").unwrap();
    redis.kill().unwrap();
    let bound = 200u64 << 20;
    assert!(
        std::fs::metadata(folder.path().join("dump.rdb"))
            .unwrap()
            .len()
            > bound
    );
    let options = [
        "--maxmemory",
        "200mb",
        "--enable-rocksdb-feature",
        "yes",
        "--companions",
        "external",
    ];
    let server = Server::start(Kind::RedRock, folder.path(), &options).unwrap();
    let peak = server.peak_bytes().unwrap();
    assert!(peak < bound + (64 << 20), "{peak} bytes were used");
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("DBSIZE").unwrap().int(), Some(300_300));
    for n in (0..300_000).step_by(7001) {
        assert_eq!(client.ok(&format!("GET key:{n}")).unwrap().text(), small);
    }
    for base in (0..300_000).step_by(50_000) {
        let list = client
            .ok(&format!("LRANGE list:{base} 0 -1"))
            .unwrap()
            .elements();
        assert_eq!(
            (list[0].text(), list[1].text()),
            (large.clone(), "last".into())
        );
    }
}
