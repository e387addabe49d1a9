//! What survives which death, and what the other server makes of the files.

use redrock_integration_tests::dataset::{self, random_writes};
use redrock_integration_tests::process::{Kind, Server, copy_folder, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const AOF: [&str; 2] = ["--appendonly", "yes"];

fn policy(fsync: &str) -> Vec<&str> {
    vec!["--appendonly", "yes", "--appendfsync", fsync]
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("appendonlydir/appendonly.aof.1.incr.aof")
}

/// What one connection got acknowledged before the server died.
struct Acknowledged {
    pushes: i64,
    count: i64,
}

/// Pushes rising numbers onto a list of its own and counts along, until the server is gone.
fn hammer(port: u16, name: usize, pipeline: usize) -> Acknowledged {
    let mut done = Acknowledged {
        pushes: 0,
        count: 0,
    };
    let Ok(mut client) = Client::connect(port) else {
        return done;
    };
    let mut next = 0;
    loop {
        let mut bytes = Vec::new();
        for _ in 0..pipeline {
            next += 1;
            encode(
                &mut bytes,
                &["RPUSH", &format!("list:{name}"), &next.to_string()],
            );
            encode(&mut bytes, &["INCR", &format!("count:{name}")]);
        }
        if client.send_raw(&bytes).is_err() {
            return done;
        }
        for _ in 0..pipeline {
            match (client.receive(), client.receive()) {
                (Ok(Reply::Int(pushes)), Ok(Reply::Int(count))) => {
                    done = Acknowledged { pushes, count };
                }
                (Ok(Reply::Int(pushes)), _) => {
                    done.pushes = pushes;
                    return done;
                }
                _ => return done,
            }
        }
    }
}

#[test]
fn everything_acknowledged_survives_kill_9_under_every_policy() {
    for fsync in ["always", "everysec", "no"] {
        let folder = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
            server.client().unwrap().ok("FLUSHALL").unwrap();
            let port = server.port;
            let threads: Vec<_> = (0..6)
                .map(|name| std::thread::spawn(move || hammer(port, name, 1 + 7 * (name % 3))))
                .collect();
            std::thread::sleep(Duration::from_millis(400));
            server.kill().unwrap();
            let acknowledged: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
            let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
            let mut client = server.client().unwrap();
            for (name, acknowledged) in acknowledged.iter().enumerate() {
                assert!(
                    acknowledged.pushes > 0,
                    "{fsync}, round {round}: nothing was written"
                );
                let count = client
                    .ok(&format!("GET count:{name}"))
                    .unwrap()
                    .int()
                    .unwrap_or(0);
                assert!(
                    count >= acknowledged.count,
                    "{fsync}, round {round}, client {name}"
                );
                let list = client
                    .ok(&format!("LRANGE list:{name} 0 -1"))
                    .unwrap()
                    .elements();
                assert!(
                    list.len() as i64 >= acknowledged.pushes,
                    "{fsync}, client {name}"
                );
                let in_order = list.iter().zip(1..).all(|(e, n)| e.int() == Some(n));
                assert!(in_order, "{fsync}, client {name}: the list has a hole");
            }
            assert!(server.terminate().unwrap().success());
        }
    }
}

#[test]
fn what_one_client_saw_of_another_s_write_survives_too() {
    let folder = tempfile::tempdir().unwrap();
    for fsync in ["everysec", "always"] {
        let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
        let port = server.port;
        let writer = std::thread::spawn(move || hammer(port, 0, 16));
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            let Ok(mut client) = Client::connect(port) else {
                return seen;
            };
            while let Ok(reply) = client.run(&["GET", "count:0"]) {
                seen = seen.max(reply.int().unwrap_or(0));
            }
            seen
        });
        std::thread::sleep(Duration::from_millis(300));
        server.kill().unwrap();
        writer.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(seen > 0);
        let server = Server::start(Kind::RedRock, folder.path(), &policy(fsync)).unwrap();
        let count = server
            .client()
            .unwrap()
            .ok("GET count:0")
            .unwrap()
            .int()
            .unwrap();
        assert!(
            count >= seen,
            "{fsync}: {seen} was observed, {count} is left"
        );
    }
}

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

#[test]
fn a_torn_tail_is_cut_with_a_copy_or_refused_as_configured() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    client.ok("SET a 1").unwrap();
    client.ok("SET b 2").unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let whole = std::fs::read(&path).unwrap();
    for tail in [
        &b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1"[..],
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n9\r\n",
        b"\0\0\0\0\0\0",
    ] {
        std::fs::write(&path, [&whole[..], tail].concat()).unwrap();
        let strict = [&AOF[..], &["--aof-load-truncated", "no"]].concat();
        let port = free_port().unwrap();
        let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &strict).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(
            text.contains("offset") && text.contains("aof-load-truncated"),
            "{text}"
        );
        assert_eq!(
            std::fs::read(&path).unwrap().len(),
            whole.len() + tail.len()
        );

        let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
        let mut client = server.client().unwrap();
        assert_eq!(client.ok("GET a").unwrap().text(), "1");
        assert_eq!(client.ok("GET b").unwrap().text(), "2");
        server.kill().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        let copies: Vec<_> = std::fs::read_dir(folder.path().join("appendonlydir"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".cut-"))
            .collect();
        assert_eq!(copies.len(), 1, "{copies:?}");
        assert_eq!(std::fs::read(&copies[0]).unwrap(), tail);
        std::fs::remove_file(&copies[0]).unwrap();
    }
}

#[test]
fn damage_before_the_last_sync_refuses_the_start_and_names_place_and_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &policy("always")).unwrap();
    let mut client = server.client().unwrap();
    for n in 0..100 {
        client.ok(&format!("SET key:{n} value")).unwrap();
    }
    assert!(server.terminate().unwrap().success());
    let path = segment(folder.path());
    let good = std::fs::read(&path).unwrap();
    // A changed value parses; only the checksum tells. A cut is seen by the watermark.
    let mut flipped = good.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    for bad in [&flipped[..], &good[..good.len() / 2]] {
        std::fs::write(&path, bad).unwrap();
        let port = free_port().unwrap();
        let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        for word in [
            "is damaged: bytes",
            "Restore the file",
            "redrock-persist check",
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), bad, "nothing may be touched");
    }
    std::fs::write(&path, good).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_eq!(
        server.client().unwrap().ok("DBSIZE").unwrap().int(),
        Some(100)
    );
}

#[test]
fn an_unknown_command_in_the_log_refuses_the_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    server.kill().unwrap();
    let path = segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    encode(&mut bytes, &["FROBNICATE", "x"]);
    std::fs::write(&path, bytes).unwrap();
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("Unknown command 'FROBNICATE'") && text.contains("offset 23"),
        "{text}"
    );
}

#[test]
fn a_second_server_on_the_folder_or_the_port_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    let port = free_port().unwrap();
    let (status, text) = Server::refused(Kind::RedRock, folder.path(), port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains(&format!("pid {}", server.pid())), "{text}");
    let (status, text) = Server::refused(Kind::RedRock, other.path(), server.port, &AOF).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("Address already in use"), "{text}");
    assert!(
        !other.path().join("appendonlydir").exists(),
        "the port comes before the data"
    );
    server.client().unwrap().ok("SET still here").unwrap();
}

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

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let path = tempfile::tempdir().ok()?.keep();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(&path)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("skipped: a tmpfs can't be mounted here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_comes_back() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        return;
    };
    let server = Server::start(Kind::RedRock, &disk.0, &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    let value = "x".repeat(20_000);
    let mut acknowledged = 0;
    let refusal = loop {
        match client.run(&["RPUSH", "list", &value]).unwrap() {
            Reply::Int(n) => acknowledged = n,
            Reply::Error(text) => break text,
            other => panic!("{other:?}"),
        }
        assert!(acknowledged < 10_000, "the disk never filled up");
    };
    assert_eq!(
        refusal,
        "MISCONF Errors writing to the AOF file: No space left on device"
    );
    // Reading goes on.
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert!(
        client
            .ok("INFO persistence")
            .unwrap()
            .text()
            .contains("aof_last_write_status:err")
    );
    server.kill().unwrap();

    // Room again by an administrator's hand, here a larger disk.
    let server = Server::start(Kind::RedRock, &disk.0, &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    let refusal = loop {
        if let Reply::Error(text) = client.run(&["RPUSH", "list", &value]).unwrap() {
            break text;
        }
        acknowledged += 1;
    };
    assert!(refusal.starts_with("MISCONF"), "{refusal}");
    let grown = std::process::Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(&disk.0)
        .status()
        .unwrap();
    assert!(grown.success());
    let recovered = Arc::new(AtomicBool::new(false));
    for _ in 0..100 {
        if let Reply::Int(n) = client.run(&["RPUSH", "list", "after"]).unwrap() {
            acknowledged += 1;
            assert_eq!(n, acknowledged);
            recovered.store(true, Ordering::Relaxed);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(recovered.load(Ordering::Relaxed), "{}", server.log_text());
    server.kill().unwrap();
    let server = Server::start(Kind::RedRock, &disk.0, &AOF).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert_eq!(client.ok("LINDEX list -1").unwrap().text(), "after");
}
