//! Redis's files and ours, each read by the other server.

use super::AOF;
use redrock_integration_tests::daemons::{ask_companion, info, until};
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

/// A log as Redis before 7 wrote it, without an RDB in front, and what it holds.
fn plain_log() -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in [
        "SELECT 0",
        "SET a 1",
        "RPUSH list x y",
        "SELECT 3",
        "SET other 2",
        "DEL missing",
    ] {
        encode(&mut bytes, &line.split(' ').collect::<Vec<_>>());
    }
    bytes
}

fn assert_plain_log(server: &Server, whose: &str) -> anyhow::Result<()> {
    let mut client = server.client()?;
    let found = dataset::read(&mut client, 4)?;
    let keys: Vec<_> = found.keys().map(|(db, key)| (*db, &key[..])).collect();
    assert_eq!(
        keys,
        [(0, &b"a"[..]), (0, b"list"), (3, b"other")],
        "{whose}"
    );
    assert_eq!(client.ok("GET a")?.text(), "1", "{whose}");
    assert_eq!(client.ok("LLEN list")?.int(), Some(2), "{whose}");
    Ok(())
}

#[test]
fn a_single_file_without_an_rdb_in_front_is_loaded_and_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let single = folder.path().join("appendonly.aof");
    std::fs::write(&single, plain_log()).unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_plain_log(&server, "we").unwrap();
    let directory = folder.path().join("appendonlydir");
    assert!(!single.exists());
    assert_eq!(
        std::fs::read(directory.join("appendonly.aof")).unwrap(),
        plain_log()
    );
    let manifest = std::fs::read_to_string(directory.join("appendonly.aof.manifest")).unwrap();
    assert!(
        manifest.starts_with("file appendonly.aof seq 1 type b\n"),
        "{manifest}"
    );
    server.kill().unwrap();
    if has_redis() {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path()).unwrap();
        let redis = Server::start(Kind::Redis, copy.path(), &AOF).unwrap();
        assert_plain_log(&redis, "Redis on what we made of it").unwrap();
    }
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_plain_log(&server, "we again").unwrap();
}

#[test]
fn a_folder_of_redis_before_7_that_died_in_a_rewrite_is_its_log_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("appendonly.aof"), plain_log()).unwrap();
    // What its child had written, what was about to be renamed, and half of a dump.
    let log = plain_log();
    let leftovers = [
        (
            "temp-rewriteaof-4711.aof",
            &b"REDIS0009\xfa\x09redis-ver"[..],
        ),
        ("temp-rewriteaof-bg-4711.aof", &log[..log.len() / 2]),
        ("temp-4712.rdb", b"REDIS0009\xfa"),
    ];
    for (name, content) in leftovers {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_plain_log(&server, "beside temporary files").unwrap();
    until("the end of the temporary files", || {
        Ok(leftovers
            .iter()
            .all(|(name, _)| !folder.path().join(name).exists()))
    })
    .unwrap();
    server.kill_family().unwrap();
    let server = Server::start(Kind::RedRock, folder.path(), &AOF).unwrap();
    assert_plain_log(&server, "without them").unwrap();
}

/// Names that must be quoted in a manifest.
const NAMES: [&str; 4] = [
    "--appendfilename",
    "my log.aof",
    "--appenddirname",
    "my logs",
];

/// Rewrites the log and waits for the end of it.
fn rewrite(server: &Server) -> anyhow::Result<()> {
    let mut client = server.client()?;
    let before = info(&mut client, "persistence", "aof_rewrites")?;
    ask_companion(&mut client, "BGREWRITEAOF", || false)?;
    // Redis counts a rewrite when it begins, we when it ends.
    until("the end of the rewrite", || {
        let counted = info(&mut client, "persistence", "aof_rewrites")? != before;
        Ok(counted && info(&mut client, "persistence", "aof_rewrite_in_progress")? == "0")
    })
}

#[test]
fn a_log_under_other_names_is_written_rewritten_and_exchanged_with_redis() {
    let folder = tempfile::tempdir().unwrap();
    let options = [&AOF[..], &NAMES].concat();
    let start = |kind| Server::start(kind, folder.path(), &options).unwrap();
    let read = |server: &Server| dataset::read(&mut server.client().unwrap(), 4).unwrap();
    let server = start(Kind::RedRock);
    random_writes(&mut server.client().unwrap(), 11, 500).unwrap();
    rewrite(&server).unwrap();
    random_writes(&mut server.client().unwrap(), 12, 500).unwrap();
    let expected = read(&server);
    server.kill_family().unwrap();
    let directory = folder.path().join("my logs");
    for name in [
        "my log.aof.manifest",
        "my log.aof.1.base.rdb",
        "my log.aof.2.incr.aof",
    ] {
        assert!(directory.join(name).exists(), "{name}");
    }
    assert!(!folder.path().join("appendonlydir").exists());
    if has_redis() {
        let redis = start(Kind::Redis);
        assert_eq!(read(&redis), expected, "Redis on our folder");
        rewrite(&redis).unwrap();
        random_writes(&mut redis.client().unwrap(), 13, 500).unwrap();
        let changed = read(&redis);
        redis.kill().unwrap();
        let server = start(Kind::RedRock);
        assert_eq!(read(&server), changed, "we on Redis's");
        rewrite(&server).unwrap();
        server.kill_family().unwrap();
        assert_eq!(read(&start(Kind::RedRock)), changed, "rewritten");
    } else {
        assert_eq!(read(&start(Kind::RedRock)), expected);
    }
}

#[test]
fn a_log_of_redis_with_times_and_a_base_of_commands_goes_on_here_and_back() {
    if !has_redis() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plain = [
        "--aof-use-rdb-preamble",
        "no",
        "--aof-timestamp-enabled",
        "yes",
    ];
    let options = [&AOF[..], &NAMES, &plain].concat();
    let start = |kind| Server::start(kind, folder.path(), &options).unwrap();
    let read = |server: &Server| dataset::read(&mut server.client().unwrap(), 4).unwrap();
    let redis = start(Kind::Redis);
    random_writes(&mut redis.client().unwrap(), 21, 1000).unwrap();
    rewrite(&redis).unwrap();
    random_writes(&mut redis.client().unwrap(), 22, 500).unwrap();
    let content = |name: &str| std::fs::read(folder.path().join("my logs").join(name)).unwrap();
    assert!(content("my log.aof.2.base.aof").starts_with(b"#TS:"));
    // A time is noted when another second has begun.
    let mut client = redis.client().unwrap();
    until("a time in the log", || {
        client.ok("INCR count:timed")?;
        let log = content("my log.aof.2.incr.aof");
        Ok(log.windows(4).any(|part| part == b"#TS:"))
    })
    .unwrap();
    let expected = read(&redis);
    redis.kill().unwrap();

    let server = start(Kind::RedRock);
    assert_eq!(read(&server), expected, "we on Redis's folder");
    random_writes(&mut server.client().unwrap(), 23, 500).unwrap();
    let expected = read(&server);
    server.kill_family().unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path()).unwrap();
    let redis = Server::start(Kind::Redis, copy.path(), &options).unwrap();
    assert_eq!(read(&redis), expected, "Redis behind what we appended");
    redis.kill().unwrap();

    // A base of ours is an RDB, whatever `aof-use-rdb-preamble` says (docs/durability.md).
    let server = start(Kind::RedRock);
    assert_eq!(read(&server), expected);
    rewrite(&server).unwrap();
    server.kill_family().unwrap();
    let directory = folder.path().join("my logs");
    let names = std::fs::read_dir(&directory).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    let is_base = |name: &&std::ffi::OsString| name.to_string_lossy().contains(".base.");
    let bases: Vec<_> = names.iter().filter(is_base).collect();
    assert!(
        matches!(&bases[..], [base] if base.to_string_lossy().ends_with(".base.rdb")),
        "{names:?}"
    );
    assert_eq!(
        read(&start(Kind::Redis)),
        expected,
        "Redis behind our rewrite"
    );
}
