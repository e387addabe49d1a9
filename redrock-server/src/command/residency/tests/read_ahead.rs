//! How often the tier is read for whom, by RocksDB's own counters.

use super::bench::Bench;
use crate::command::dispatch::{Outcome, Wait};
use crate::keyspace::tiering::direct::DirectRead;
use crate::waits::WaitBudget;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("key:{n}")).collect()
}

/// As many keys with a value of their own, in the tier, with their stubs in memory.
fn cold_keys(bench: &mut Bench, count: usize) -> Vec<String> {
    let names = names(count);
    for name in &names {
        bench.run(&format!("SET {name} of-{name}"));
    }
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.evict(0, &keys, false);
    names
}

/// Lets commands read themselves.
fn open_direct(bench: &Bench) {
    bench.server.readers.direct.note_pool(1 << 24, None);
}

#[test]
fn commands_that_need_no_value_read_no_disk_while_the_stub_is_in_memory() {
    let mut bench = Bench::new();
    // All names begin alike: any of them is what RANDOMKEY may answer.
    bench.run("SET key:dumped x");
    let mut dump = Vec::new();
    bench.try_run("DUMP key:dumped", &mut dump);
    cold_keys(&mut bench, 60);
    let before = bench.cold.rocksdb_reads();
    let reads = bench.cold.stats.reads.load(Ordering::Relaxed);
    for (n, (command, reply)) in [
        ("SET # w", "+OK"),
        ("SET # w NX", "$-1"),
        ("SET # w XX", "+OK"),
        ("SET # w EX 100", "+OK"),
        ("SET # w PX 100000", "+OK"),
        ("SET # w EXAT 33177117420", "+OK"),
        ("SET # w PXAT 33177117420000", "+OK"),
        ("SET # w KEEPTTL", "+OK"),
        ("SETEX # 100 w", "+OK"),
        ("PSETEX # 100000 w", "+OK"),
        ("SETNX # w", ":0"),
        ("MSET # w key:new:1 w", "+OK"),
        ("MSETNX # w key:new:2 w", ":0"),
        ("DEL #", ":1"),
        ("UNLINK #", ":1"),
        ("EXISTS # #", ":2"),
        ("EXPIRE # 100", ":1"),
        ("PEXPIRE # 100000", ":1"),
        ("EXPIREAT # 33177117420", ":1"),
        ("PEXPIREAT # 33177117420000", ":1"),
        ("EXPIRE # 100 XX", ":0"),
        ("PERSIST #", ":0"),
        ("TTL #", ":-1"),
        ("PTTL #", ":-1"),
        ("EXPIRETIME #", ":-1"),
        ("PEXPIRETIME #", ":-1"),
        ("TYPE #", "+string"),
        ("TOUCH #", ":1"),
        ("WATCH #", "+OK"),
        ("UNWATCH", "+OK"),
    ]
    .into_iter()
    .enumerate()
    {
        let command = command.replace('#', &format!("key:{n}"));
        assert_eq!(bench.run(&command), reply, "{command}");
        let now = bench.cold.rocksdb_reads();
        assert_eq!(now, before, "{command} has read the tier");
    }
    // All of them at once, whoever has a stub only.
    assert_eq!(bench.run("DBSIZE"), ":60");
    for command in ["RANDOMKEY", "SCAN 0 COUNT 1000", "KEYS key:*"] {
        assert!(bench.run(command).contains("key:"), "{command}");
    }
    let head = dump.iter().position(|byte| *byte == b'\n').expect("a dump") + 1;
    let body = &dump[head..dump.len() - 2];
    let argv = [&b"RESTORE"[..], b"key:50", b"0", body, b"REPLACE"];
    assert_eq!(bench.run_words(&argv), "+OK");
    assert_eq!(bench.cold.rocksdb_reads(), before);
    assert_eq!(bench.cold.stats.reads.load(Ordering::Relaxed), reads);
    assert_eq!(bench.run("GET key:50"), "$1 x");
}

#[tokio::test]
async fn one_disk_read_serves_all_who_wait_for_a_key() {
    const CLIENTS: u64 = 20;
    let mut bench = Bench::without_readers();
    cold_keys(&mut bench, 1);
    let before = bench.cold.rocksdb_reads();
    let mut budgets: Vec<_> = (0..CLIENTS).map(|_| WaitBudget::default()).collect();
    let mut waits = Vec::new();
    for budget in &mut budgets {
        let keys = vec![(0, b"key:0".to_vec())];
        let wait = bench.server.clone().wait_for(Wait::Load(keys), budget);
        let mut wait = Box::pin(wait);
        poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        waits.push(wait);
    }
    bench.start_reader();
    for wait in waits {
        wait.await.expect("the value");
    }
    assert_eq!(bench.cold.rocksdb_reads() - before, 1);
    assert_eq!(bench.run("GET key:0"), "$8 of-key:0");
    let keyspace = bench.server.keyspace.lock();
    let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
    assert_eq!((stats.waits, stats.loaded), (CLIENTS, 1));
}

#[tokio::test]
async fn a_command_of_many_keys_waits_once_for_one_multi_get() {
    const KEYS: usize = 24;
    for kind in ["mget", "exec", "script"] {
        let mut bench = Bench::new();
        let names = cold_keys(&mut bench, KEYS);
        let (reads, batches) = (
            bench.cold.rocksdb_reads(),
            bench.cold.stats.batches.load(Ordering::Relaxed),
        );
        let command = match kind {
            "mget" => format!("MGET {}", names.join(" ")),
            "exec" => {
                bench.run("MULTI");
                for name in &names {
                    assert_eq!(bench.run(&format!("GET {name}")), "+QUEUED");
                }
                "EXEC".to_owned()
            }
            _ => format!(
                "EVAL return(redis.call('MGET',unpack(KEYS))) {KEYS} {}",
                names.join(" ")
            ),
        };
        let (reply, waits) = bench.run_waiting(&command).await;
        assert!(
            reply.starts_with(&format!("*{KEYS} $8 of-key:0")),
            "{kind}: {reply}"
        );
        assert_eq!(waits, 1, "{kind}");
        assert_eq!(bench.cold.rocksdb_reads() - reads, KEYS as u64, "{kind}");
        let now = bench.cold.stats.batches.load(Ordering::Relaxed);
        assert_eq!(now - batches, 1, "{kind}");
    }
}

#[test]
fn a_command_reads_a_few_keys_itself_where_reads_are_known_to_be_quick() {
    // Nobody else reads.
    let mut bench = Bench::without_readers();
    cold_keys(&mut bench, 12);
    assert_eq!(bench.waits("GET key:0"), [(0, "key:0".into())]);
    open_direct(&bench);
    let before = bench.cold.rocksdb_reads();
    assert_eq!(bench.run("GET key:0"), "$8 of-key:0");
    assert_eq!(bench.run("STRLEN key:1"), ":8");
    assert_eq!(bench.run("APPEND key:2 -more"), ":13");
    assert_eq!(
        bench.run("MGET key:3 key:4 key:3"),
        "*3 $8 of-key:3 $8 of-key:4 $8 of-key:3"
    );
    assert_eq!(bench.cold.rocksdb_reads() - before, 5);
    assert_eq!(bench.waits("MGET key:5 key:6 key:7 key:8 key:9").len(), 5);
    bench.run("MULTI");
    bench.run("GET key:10");
    bench.run("APPEND key:11 -more");
    assert_eq!(bench.run("EXEC"), "*2 $9 of-key:10 :14");
    let keyspace = bench.server.keyspace.lock();
    assert_eq!(keyspace.pinned(), 0);
    assert_eq!(
        keyspace
            .tiering
            .as_ref()
            .expect("tiering")
            .stats
            .blocking_reads,
        0
    );
}

#[test]
fn a_key_that_nothing_is_known_of_is_read_by_its_command_too() {
    let mut bench = Bench::without_readers();
    for name in ["a", "b"] {
        bench.run(&format!("SET {name} v"));
    }
    bench.evict(0, &["a", "b"], true);
    open_direct(&bench);
    assert_eq!(bench.run("EXISTS a"), ":1");
    assert_eq!(bench.run("GETDEL b"), "$1 v");
    assert_eq!(bench.run("EXISTS b"), ":0");
}

#[test]
fn a_string_that_is_read_once_is_lent_and_stays_when_it_is_read_again() {
    let mut bench = Bench::without_readers();
    cold_keys(&mut bench, 2);
    bench.run("RPUSH list x");
    bench.evict(0, &["list"], false);
    open_direct(&bench);
    bench.server.keyspace.lock().set_lending(true);
    let is_stub = |bench: &Bench, key: &str| {
        let keyspace = bench.server.keyspace.lock();
        assert!(!keyspace.has_lent());
        let table = &keyspace.database(0).expect("database").table;
        let found = table.find(table.hash(key.as_bytes()), key.as_bytes());
        found.expect("the key").is_stub()
    };
    assert_eq!(bench.run("GET key:0"), "$8 of-key:0");
    assert!(is_stub(&bench, "key:0"));
    assert_eq!(bench.run("TTL key:0"), ":-1");
    assert_eq!(bench.run("STRLEN key:0"), ":8");
    assert!(!is_stub(&bench, "key:0"));
    // What changes a value needs it in memory, as do collections.
    assert_eq!(bench.run("APPEND key:1 -more"), ":13");
    assert!(!is_stub(&bench, "key:1"));
    assert!(bench.run("GET list").starts_with("-WRONGTYPE"));
    assert_eq!(bench.run("LRANGE list 0 -1"), "*1 $1 x");
    let keyspace = bench.server.keyspace.lock();
    let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
    assert_eq!((stats.lent, keyspace.pinned()), (1, 0));
}

#[test]
fn what_changes_during_a_commands_own_read_is_not_lost() {
    let mut bench = Bench::without_readers();
    cold_keys(&mut bench, 3);
    open_direct(&bench);
    let server = bench.server.clone();
    let begin = |keys: &[&str]| {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| (0, key.as_bytes().to_vec()))
            .collect();
        DirectRead::begin(&server, &mut server.keyspace.lock(), &keys)
    };
    let mut read = begin(&["key:0", "key:1"]).expect("a read");
    read.run(&server);
    assert_eq!(bench.run("SET key:0 new"), "+OK");
    assert_eq!(bench.run("DEL key:1"), ":1");
    read.finish(&mut server.keyspace.lock()).expect("no error");
    assert_eq!(bench.run("MGET key:0 key:1"), "*2 $3 new $-1");
    // Who comes while a key is being read waits for that read.
    let mut read = begin(&["key:2"]).expect("a read");
    assert!(begin(&["key:2"]).is_none());
    let mut out = Vec::new();
    let outcome = bench.try_run("GET key:2", &mut out);
    assert!(
        matches!(outcome, Outcome::Retry(Wait::Load(_))),
        "{outcome:?}"
    );
    read.run(&server);
    read.finish(&mut server.keyspace.lock()).expect("no error");
    assert_eq!(bench.run("GET key:2"), "$8 of-key:2");
}
