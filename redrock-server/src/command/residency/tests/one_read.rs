//! Reads of the pool that go to one command, and what may happen between a read and its answer.

use super::bench::Bench;
use crate::command::CommandError;
use crate::command::dispatch::{Outcome, Wait};
use crate::command::effect::Effect;
use crate::keyspace::db::{Db, Expiry};
use crate::notify::Class;
use crate::waits::WaitBudget;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// Two databases with keys in the tier: `key` with its stub in memory, `bare` without.
fn cold_world() -> Bench {
    let mut bench = Bench::connected();
    for (db, value) in [(1, "other"), (0, "value")] {
        bench.run(&format!("SELECT {db}"));
        for key in ["key", "bare"] {
            bench.run(&format!("SET {key} {value}"));
        }
        bench.evict(db, &["key"], false);
        bench.evict(db, &["bare"], true);
    }
    bench.server.keyspace.lock().set_lending(true);
    bench
}

fn is_hot(bench: &Bench, key: &str) -> bool {
    let keyspace = bench.server.keyspace.lock();
    assert!(!keyspace.has_lent());
    let table = &keyspace.database(0).expect("database").table;
    table
        .find_value(table.hash(key.as_bytes()), key.as_bytes())
        .is_some()
}

/// Loaded and lent values, and commands that waited.
fn counts(bench: &Bench) -> (u64, u64, u64) {
    let keyspace = bench.server.keyspace.lock();
    let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
    (stats.loaded, stats.lent, stats.waits)
}

#[tokio::test]
async fn a_value_that_is_read_once_goes_to_its_command_and_stays_when_it_is_read_again() {
    let mut bench = cold_world();
    bench.start_reader();
    let filters = bench.cold.stats.filter_checks.load(Ordering::Relaxed);
    for key in ["key", "bare"] {
        let (reply, waits) = bench.run_waiting(&format!("GET {key}")).await;
        assert_eq!((reply.as_str(), waits), ("$5 value", 1));
        assert!(!is_hot(&bench, key));
        let (reply, waits) = bench.run_waiting(&format!("GETRANGE {key} 0 1")).await;
        assert_eq!((reply.as_str(), waits), ("$2 va", 1));
        assert!(is_hot(&bench, key));
        assert_eq!(bench.run(&format!("STRLEN {key}")), ":5");
    }
    assert_eq!(counts(&bench), (4, 2, 4));
    // Of the key without a stub, once for each read.
    let now = bench.cold.stats.filter_checks.load(Ordering::Relaxed);
    assert_eq!(now - filters, 2);
    let keyspace = bench.server.keyspace.lock();
    assert_eq!((keyspace.stats.hits, keyspace.stats.misses), (6, 0));
    assert_eq!(keyspace.pinned(), 0);
}

#[tokio::test]
async fn what_changes_between_a_read_and_its_answer_is_what_the_command_answers() {
    for key in ["key", "bare"] {
        for (change, answer) in [
            ("SET # new", "$3 new"),
            ("DEL #", "$-1"),
            ("GETDEL #", "$-1"),
            ("APPEND # -more", "$10 value-more"),
            ("SETRANGE # 0 V", "$5 Value"),
            ("RENAME # away", "$-1"),
            ("RENAME fresh #", "$5 fresh"),
            ("EXPIRE # -1", "$-1"),
            ("PEXPIRE # 1000000", "$5 value"),
            ("FLUSHDB", "$-1"),
            ("FLUSHALL", "$-1"),
            ("SWAPDB 0 1", "$5 other"),
            ("SWAPDB 1 2", "$5 value"),
            ("MOVE # 2", "$-1"),
            ("MULTI", "$5 value"),
        ] {
            let mut bench = cold_world();
            bench.run("SET fresh fresh");
            let get = format!("GET {key}");
            let read = bench.begin(&get);
            bench.start_reader();
            let read = read.done().await.expect("what was read");
            let change = change.replace('#', key);
            if change == "MULTI" {
                // Who reads it in a transaction waits for nobody: it comes into memory.
                bench.run("MULTI");
                bench.run(&get);
                let mut keyspace = bench.server.keyspace.lock();
                keyspace.load_blocking(0, key.as_bytes()).expect("a value");
                drop(keyspace);
                assert_eq!(bench.run("EXEC"), "*1 $5 value");
            } else {
                change_beside(&mut bench, &change).await;
            }
            let (outcome, reply) = bench.run_with(&get, read);
            let reply = match outcome {
                Outcome::Done => reply,
                Outcome::Retry(wait) => {
                    drop(wait);
                    bench.run_waiting(&get).await.0
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(reply, answer, "{change}");
            assert!(!bench.server.keyspace.lock().has_lent());
        }
    }
}

/// Runs a command of another client: one that needs the key that is being read waits for the end of that
/// read, which is not in sight. It is as if that read had just begun, then.
async fn change_beside(bench: &mut Bench, command: &str) {
    let mut out = Vec::new();
    match bench.try_run(command, &mut out) {
        Outcome::Done => assert!(!out.starts_with(b"-"), "{command}"),
        Outcome::Retry(Wait::Load(keys)) => {
            let mut keyspace = bench.server.keyspace.lock();
            for (db, key) in keys {
                keyspace.load_blocking(db, &key).expect("a value");
            }
            drop(keyspace);
            let reply = bench.run(command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        other => panic!("{command}: {other:?}"),
    }
}

#[tokio::test]
async fn who_comes_for_a_key_that_is_read_for_another_waits_for_that_read() {
    let mut bench = cold_world();
    let reads = bench.cold.rocksdb_reads();
    let first = bench.begin("GET key");
    let mut budget = WaitBudget::default();
    let mut others = Vec::new();
    for command in ["GET key", "APPEND key -more"] {
        let outcome = bench.try_run(command, &mut Vec::new());
        let Outcome::Retry(wait @ Wait::Load(_)) = outcome else {
            panic!("{outcome:?}");
        };
        let server = bench.server.clone();
        let mut other = Box::pin(async move {
            let mut budget = WaitBudget::default();
            server.wait_for(wait, &mut budget).await
        });
        let polled = poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx).is_pending()));
        assert!(polled.await);
        others.push(other);
    }
    bench.start_reader();
    let read = budget.wait_for_read(first).await.expect("a read");
    let (outcome, reply) = bench.run_with("GET key", read);
    assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    assert_eq!(reply, "$5 value");
    for other in others {
        drop(other.await.expect("the value"));
    }
    // More than one wanted it.
    assert!(is_hot(&bench, "key"));
    assert_eq!(bench.cold.rocksdb_reads() - reads, 1);
    assert_eq!(
        (counts(&bench), bench.server.keyspace.lock().pinned()),
        ((1, 0, 3), 0)
    );
}

#[tokio::test]
async fn a_read_whose_command_is_gone_ends_all_the_same() {
    let mut bench = cold_world();
    // Before the pool has read, after it, and by a command that does not take it.
    drop(bench.begin("GET key"));
    bench.start_reader();
    while !is_hot(&bench, "key") {
        std::thread::yield_now();
    }
    assert_eq!(bench.run("GET key"), "$5 value");
    bench.run("SET key2 value");
    bench.evict(0, &["key2"], false);
    let read = bench.begin("GET key2");
    // Jobs come after all reads.
    let job = bench.server.readers.run(|_, _| ()).await;
    assert!(job.is_some());
    drop(read);
    while !is_hot(&bench, "key2") {
        std::thread::yield_now();
    }
    let read = bench.begin("GET bare").done().await.expect("a read");
    let (outcome, reply) = bench.run_with("PING", read);
    assert!(matches!(outcome, Outcome::Done) && reply == "+PONG");
    assert!(is_hot(&bench, "bare"));
    assert_eq!(counts(&bench).1, 0);
}

#[tokio::test]
async fn a_key_without_a_stub_expires_though_its_value_is_lent() {
    let mut bench = cold_world();
    for (key, ttl) in [("later", 1_000_000), ("soon", 30)] {
        bench.run(&format!("SET {key} v PX {ttl}"));
        bench.evict(0, &[key], true);
    }
    let (later, soon) = (bench.begin("GET later"), bench.begin("GET soon"));
    bench.start_reader();
    let later = later.done().await.expect("a read");
    assert_eq!(bench.run_with("GET later", later).1, "$1 v");
    assert!(!is_hot(&bench, "later"));
    let soon = soon.done().await.expect("a read");
    let until = crate::clock::unix_ms() + 31;
    while crate::clock::unix_ms() < until {
        std::thread::yield_now();
    }
    assert_eq!(bench.run_with("GET soon", soon).1, "$-1");
    let keyspace = bench.server.keyspace.lock();
    assert_eq!((keyspace.stats.expired, keyspace.stats.misses), (1, 1));
}

#[tokio::test]
async fn a_new_key_is_asked_for_once() {
    let mut bench = cold_world();
    let asked = |bench: &Bench| bench.cold.stats.filter_checks.load(Ordering::Relaxed);
    for (command, keys) in [
        ("SET new:1 v", 1),
        ("MSET new:2 v new:3 v", 2),
        ("GET none", 1),
        ("RPUSH new:4 v", 1),
        ("EXISTS none", 0),
    ] {
        let before = asked(&bench);
        bench.run(command);
        assert_eq!(asked(&bench) - before, keys, "{command}");
    }
    // What was denied and then put is found.
    bench.run("SET none v");
    bench.evict(0, &["none"], true);
    bench.start_reader();
    assert_eq!(bench.run_waiting("GET none").await.0, "$1 v");
    assert_eq!(bench.run_waiting("DEL none").await.0, ":1");
    assert_eq!(bench.run("GET none"), "$-1");
}

/// To ask the filters for a key that is there costs half of a read: while most are there nobody does.
#[test]
fn who_reads_itself_asks_the_filters_only_where_most_keys_are_absent() {
    let mut bench = cold_world();
    bench.server.readers.direct.note_pool(1 << 24, None);
    let asked = |bench: &Bench| bench.cold.stats.filter_checks.load(Ordering::Relaxed);
    let asks = |bench: &mut Bench, command: &str, reply: &str| {
        let before = asked(bench);
        assert_eq!(bench.run(command), reply, "{command}");
        asked(bench) - before
    };
    bench.run("HSET hash f v");
    bench.run("SET other v");
    // While nothing is in the tier only, nothing is asked at all.
    bench.run("SET stays-cold v");
    bench.evict(0, &["hash", "other", "stays-cold"], true);
    assert_eq!(asks(&mut bench, "GET bare", "$5 value"), 0);
    assert_eq!(asks(&mut bench, "HGET hash f", "$1 v"), 0);
    assert_eq!(asks(&mut bench, "MGET bare other", "*2 $5 value $1 v"), 0);
    bench.run("HSET hash f v");
    bench.run("SET other v");
    bench.evict(0, &["hash", "other"], true);
    assert_eq!(asks(&mut bench, "MGET none:1 other", "*2 $-1 $1 v"), 0);
    // What changes a key asks: it may not be there, and then need not be read.
    assert_eq!(asks(&mut bench, "HSET hash f w", ":0"), 1);
    assert_eq!(asks(&mut bench, "GET none", "$-1"), 0, "the read told");
    assert_eq!(asks(&mut bench, "GET none", "$-1"), 0, "it is known");
    for n in 0..64 {
        asks(&mut bench, &format!("GET none:{n}"), "$-1");
    }
    assert_eq!(asks(&mut bench, "GET none:64", "$-1"), 1, "most are absent");
    // What a read did not find is found once it is put.
    bench.run("SET none v");
    bench.evict(0, &["none"], true);
    assert_eq!(asks(&mut bench, "GET none", "$1 v"), 1);
    for _ in 0..64 {
        bench.run("SET bare value");
        bench.evict(0, &["bare"], true);
        asks(&mut bench, "GET bare", "$5 value");
    }
    bench.run("SET none v");
    bench.evict(0, &["none"], true);
    assert_eq!(
        asks(&mut bench, "GET none", "$1 v"),
        0,
        "most are there again"
    );
}

/// The tier's filters may say of a key that was denied that it may be there, a moment later: a command
/// that has changed something goes on all the same.
#[test]
fn a_command_that_has_changed_something_reads_what_it_meets_then() {
    let mut bench = Bench::new();
    bench.run("SET cold v");
    bench.evict(0, &["cold"], true);
    let mut effect = Effect::default();
    let mut keyspace = bench.server.keyspace.lock();
    let mut db = Db::new(&mut keyspace, &*bench.server, &mut effect, 0, 1);
    assert!(matches!(db.exists(b"cold"), Err(CommandError::Cold(0, _))));
    db.set_string(b"new", b"v", Expiry::Clear).expect("set");
    db.changed(b"new", Class::STRING, "set");
    assert!(db.other(0).exists(b"cold").expect("read in place"));
    let other = Db::new(&mut keyspace, &*bench.server, &mut effect, 0, 1).exists(b"colder");
    assert!(other.is_ok_and(|exists| !exists), "the filters deny it");
}
