//! What holds while a log or a dump is loaded.

use super::{AOF, segment};
use redrock_integration_tests::daemons::companions_up;
use redrock_integration_tests::process::{Kind, Server, copy_folder, free_port, has_redis};
use redrock_integration_tests::resp::{Reply, encode};
use std::path::Path;
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

/// An RDB with two keys that expired long ago.
fn expired_rdb() -> Vec<u8> {
    let mut bytes = b"REDIS0010\xfe\x00".to_vec();
    for entry in [&b"\x00\x05count\xc0\x05"[..], b"\x00\x04gone\xc0\x01"] {
        bytes
            .extend_from_slice(&[b"\xfc", &1_000_000_000_000u64.to_le_bytes()[..], entry].concat());
    }
    bytes.push(0xff);
    // A checksum of zero: none.
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[test]
fn expired_keys_of_a_base_stay_for_the_log_and_those_of_a_dump_go_but_on_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("appendonlydir");
    std::fs::create_dir(&log).unwrap();
    let mut commands = Vec::new();
    encode(&mut commands, &["INCR", "count"]);
    encode(&mut commands, &["PERSIST", "count"]);
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\n\
                    file appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(log.join("appendonly.aof.1.base.rdb"), expired_rdb()).unwrap();
    std::fs::write(log.join("appendonly.aof.1.incr.aof"), commands).unwrap();
    std::fs::write(log.join("appendonly.aof.manifest"), manifest).unwrap();
    std::fs::write(folder.path().join("dump.rdb"), expired_rdb()).unwrap();
    let kinds: &[Kind] = if has_redis() {
        &[Kind::RedRock, Kind::Redis]
    } else {
        &[Kind::RedRock]
    };
    // Nobody listens there.
    let replica = ["--replicaof", "127.0.0.1", "1"];
    for &kind in kinds {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path()).unwrap();
        let start = |options: &[&str]| Server::start(kind, copy.path(), options).unwrap();
        let server = start(&AOF);
        let mut client = server.client().unwrap();
        assert_eq!(client.ok("GET count").unwrap().text(), "6", "{kind:?}");
        assert_eq!(client.ok("GET gone").unwrap(), Reply::Nil, "{kind:?}");
        server.kill_family().unwrap();
        let server = start(&[]);
        assert_eq!(
            server.client().unwrap().ok("DBSIZE").unwrap().int(),
            Some(0),
            "{kind:?}"
        );
        server.kill_family().unwrap();
        // They go by their master's word alone, and nobody sees them meanwhile.
        let server = start(&replica);
        let mut client = server.client().unwrap();
        assert_eq!(client.ok("DBSIZE").unwrap().int(), Some(2), "{kind:?}");
        assert_eq!(client.ok("GET gone").unwrap(), Reply::Nil, "{kind:?}");
        server.kill_family().unwrap();
    }
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
    let percent = info
        .lines()
        .find_map(|line| line.strip_prefix("loading_loaded_perc:"));
    let percent: f64 = percent.unwrap().parse().unwrap();
    assert!((0.0..=100.0).contains(&percent), "{info}");
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

/// No machine has so much.
const TOO_LARGE: u64 = 4 << 40;

/// The start is refused with both figures, and the file stays as it is.
fn refused_for_size(folder: &Path, options: &[&str], file: &Path, need: u64) -> anyhow::Result<()> {
    let before = std::fs::metadata(file)?;
    let (status, text) = Server::refused(Kind::RedRock, folder, free_port()?, options)?;
    assert_eq!(status.code(), Some(1), "{text}");
    let figures = [
        format!("needs at least {need} bytes of memory"),
        " bytes are free".into(),
        "load-anyway yes".into(),
        file.display().to_string(),
    ];
    assert!(figures.iter().all(|part| text.contains(part)), "{text}");
    let free = text.split(") and ").nth(1);
    let free = free.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(free.is_some_and(|free| 0 < free && free < need), "{text}");
    let after = std::fs::metadata(file)?;
    assert_eq!(after.len(), before.len());
    assert_eq!(after.modified()?, before.modified()?);
    Ok(())
}

#[test]
fn a_backup_larger_than_memory_is_refused_with_both_figures_unless_load_anyway() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.rdb");
    // All holes: nothing of it is on the disk, and nothing of it is read before it is refused.
    std::fs::File::create(&dump)
        .unwrap()
        .set_len(TOO_LARGE)
        .unwrap();
    refused_for_size(folder.path(), &[], &dump, TOO_LARGE).unwrap();
    let anyway = ["--load-anyway", "yes"];
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &anyway).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(
        text.contains("Wrong signature trying to load DB from file"),
        "{text}"
    );
    assert!(!text.contains("bytes are free"), "{text}");
    // With values in the tier the file may be larger than memory.
    let tiered = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];
    let port = free_port().unwrap();
    let (_, text) = Server::refused(Kind::RedRock, folder.path(), port, &tiered).unwrap();
    assert!(
        text.contains("Wrong signature") && !text.contains("bytes are free"),
        "{text}"
    );

    // The same as the base of a log.
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("appendonlydir");
    std::fs::create_dir(&log).unwrap();
    let base = log.join("appendonly.aof.1.base.rdb");
    std::fs::File::create(&base)
        .unwrap()
        .set_len(TOO_LARGE)
        .unwrap();
    let manifest = "file appendonly.aof.1.base.rdb seq 1 type b\n";
    std::fs::write(log.join("appendonly.aof.manifest"), manifest).unwrap();
    refused_for_size(folder.path(), &AOF, &base, TOO_LARGE).unwrap();
    let text = std::fs::read_to_string(log.join("appendonly.aof.manifest")).unwrap();
    assert_eq!(text, manifest);
}

#[test]
fn a_compressed_backup_is_judged_by_the_memory_that_its_writer_used() {
    let mut small = b"REDIS0010\xfa\x08used-mem\x0d4398046511104\xff".to_vec();
    // A checksum of zero: none.
    small.extend_from_slice(&[0; 8]);
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.rdb");
    std::fs::write(&dump, &small).unwrap();
    refused_for_size(folder.path(), &[], &dump, TOO_LARGE).unwrap();
    let single = tempfile::tempdir().unwrap();
    let file = single.path().join("appendonly.aof");
    std::fs::write(&file, &small).unwrap();
    refused_for_size(single.path(), &AOF, &file, TOO_LARGE).unwrap();
    assert!(!single.path().join("appendonlydir").exists());
    let server = Server::start(Kind::RedRock, folder.path(), &["--load-anyway", "yes"]).unwrap();
    assert_eq!(
        server.client().unwrap().ok("DBSIZE").unwrap().int(),
        Some(0)
    );
}

fn get_a(server: &Server) -> anyhow::Result<Reply> {
    server.client()?.ok("GET a")
}

#[test]
fn the_log_is_loaded_if_it_is_enabled_else_the_dump_else_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--companions", "external"];
    let start = |kind, path: &Path, log: &str| {
        let ours: &[&str] = if kind == Kind::RedRock { &options } else { &[] };
        Server::start(kind, path, &[ours, &["--appendonly", log]].concat()).unwrap()
    };
    let server = start(Kind::RedRock, folder.path(), "yes");
    assert_eq!(get_a(&server).unwrap(), Reply::Nil, "nothing there yet");
    server.client().unwrap().ok("SET a 2").unwrap();
    assert!(server.terminate().unwrap().success());
    let mut dump = b"REDIS0010\xfe\x00\x00\x01a\xc0\x01\xff".to_vec();
    dump.extend_from_slice(&[0; 8]);
    std::fs::write(folder.path().join("dump.rdb"), &dump).unwrap();
    let only_dump = tempfile::tempdir().unwrap();
    std::fs::write(only_dump.path().join("dump.rdb"), &dump).unwrap();
    let kinds: &[Kind] = if has_redis() {
        &[Kind::RedRock, Kind::Redis]
    } else {
        &[Kind::RedRock]
    };
    for &kind in kinds {
        for (path, log, expected) in [
            (folder.path(), "yes", Reply::Bulk(b"2".to_vec())),
            (folder.path(), "no", Reply::Bulk(b"1".to_vec())),
            (only_dump.path(), "no", Reply::Bulk(b"1".to_vec())),
            (only_dump.path(), "yes", Reply::Nil),
        ] {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(path, copy.path()).unwrap();
            let server = start(kind, copy.path(), log);
            assert_eq!(
                get_a(&server).unwrap(),
                expected,
                "{kind:?} with appendonly {log}"
            );
            let warned = server
                .log_text()
                .contains("dump.rdb was not loaded. To load it");
            let expected = kind == Kind::RedRock && expected == Reply::Nil;
            assert_eq!(warned, expected, "{}", server.log_text());
        }
    }
    // As the warning says: without the log, which is then turned on.
    let server = Server::start(Kind::RedRock, only_dump.path(), &[]).unwrap();
    let mut client = server.client().unwrap();
    companions_up(&mut client).unwrap();
    client.ok("CONFIG SET appendonly yes").unwrap();
    server.kill_family().unwrap();
    assert_eq!(
        get_a(&start(Kind::RedRock, only_dump.path(), "yes")).unwrap(),
        Reply::Bulk(b"1".to_vec())
    );
}
