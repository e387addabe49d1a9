//! What commands wait for before they run.

mod applied;
mod bench;
mod one_read;
mod read_ahead;
mod together;

use crate::command::dispatch::{Outcome, Wait};
use crate::config::OptionSet;
use crate::keyspace::snapshot::ring::Ring;
use crate::net::client::{Client, ClientShared};
use crate::notify::Class;
use crate::pubsub::Kind;
use crate::waits::WaitBudget;
use bench::Bench;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn all_values_are_asked_for_at_once_and_presence_reads_nothing() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.run(&format!("SET {key} v"));
    }
    bench.evict(0, &["a", "b"], false);
    assert_eq!(
        bench.waits("MGET a c b none"),
        [(0, "a".into()), (0, "b".into())]
    );
    assert_eq!(bench.waits("RENAME a b"), [(0, "a".into())]);
    let before = bench.cold.stats.reads.load(Ordering::Relaxed);
    for (command, reply) in [
        ("EXISTS a b none", ":2"),
        ("TYPE a", "+string"),
        ("EXPIRE a 100", ":1"),
        ("TTL a", ":100"),
        ("PERSIST a", ":1"),
        ("DBSIZE", ":3"),
        ("SET b w", "+OK"),
        ("SETNX a x", ":0"),
        ("DEL a", ":1"),
        ("GET b", "$1 w"),
    ] {
        assert_eq!(bench.run(command), reply, "{command}");
    }
    assert_eq!(bench.cold.stats.reads.load(Ordering::Relaxed), before);
}

#[test]
fn a_key_without_a_stub_is_asked_for_even_where_presence_is_enough() {
    let mut bench = Bench::new();
    bench.run("SET a v");
    bench.evict(0, &["a"], true);
    assert_eq!(bench.waits("EXISTS a"), [(0, "a".into())]);
}

#[tokio::test]
async fn a_transaction_waits_once_for_all_its_keys_in_all_databases() {
    let mut bench = Bench::new();
    bench.run("SET a 1");
    bench.run("RPUSH l x");
    bench.run("SELECT 2");
    bench.run("SET b 2");
    bench.run("SELECT 0");
    bench.evict(0, &["a", "l"], false);
    bench.evict(2, &["b"], true);
    for command in [
        "MULTI",
        "INCR a",
        "SELECT 2",
        "INCR b",
        "SELECT 0",
        "RPUSH l y",
    ] {
        bench.run(command);
    }
    let (reply, waits) = bench.run_waiting("EXEC").await;
    assert_eq!((reply.as_str(), waits), ("*5 :2 +OK :3 +OK :2", 1));
    let keyspace = bench.server.keyspace.lock();
    assert_eq!(keyspace.pinned(), 0);
    let stats = &keyspace.tiering.as_ref().expect("tiering").stats;
    assert_eq!((stats.loaded, stats.blocking_reads), (3, 0));
}

#[tokio::test]
async fn what_a_script_is_told_before_it_is_run_again_is_told_once() {
    let mut bench = Bench::new();
    let mut config = (*bench.server.config()).clone();
    config.observation.events = Class::parse_mask("Em").expect("letters");
    bench.server.set_config(config, &OptionSet::default());
    let mut listener = Client::new(Arc::default(), String::new(), String::new(), 0);
    let pubsub = &bench.server.pubsub;
    pubsub.subscribe(Kind::Pattern, b"*", &mut listener);
    bench.run("SET a v");
    bench.evict(0, &["a"], false);
    let script =
        "EVAL return{redis.call('EXISTS','a'),redis.call('GET','none'),redis.call('GET','a')} 0";
    let (reply, waits) = bench.run_waiting(script).await;
    assert_eq!((reply.as_str(), waits), ("*3 :1 $-1 $1 v", 1));
    let told = listener.shared.outbox.lock();
    assert_eq!(String::from_utf8_lossy(&told).matches("none").count(), 1);
}

#[test]
fn a_move_waits_for_what_a_snapshot_reads_before_it_changes_anything() {
    let mut bench = Bench::new();
    let item = "x".repeat(1000);
    for n in 0..400 {
        bench.run(&format!("RPUSH list {n}{item}"));
        bench.run(&format!("SADD set {n}{item}"));
    }
    bench.run("RPUSH from a b c");
    bench.run("SADD some a b c");
    let moves = [
        ("LMOVE from list LEFT RIGHT", "$1 a"),
        ("RPOPLPUSH from list", "$1 c"),
        ("SMOVE some set a", ":1"),
    ];
    let ring = Arc::new(Ring::new(64 << 20, 64 << 10));
    assert!(bench.server.keyspace.lock().cut(ring.clone()).is_some());
    for (command, _) in moves.into_iter().chain(moves) {
        let outcome = bench.try_run(command, &mut Vec::new());
        let waits = matches!(outcome, Outcome::Retry(Wait::Snapshot));
        assert!(waits, "{command}: {outcome:?}");
    }
    assert_eq!(bench.run("LRANGE from 0 -1"), "*3 $1 a $1 b $1 c");
    assert_eq!(bench.run("SCARD some"), ":3");
    // It has been read.
    drop(bench.server.keyspace.lock().end_snapshot());
    drop(ring);
    for (command, reply) in moves {
        assert_eq!(bench.run(command), reply, "{command}");
    }
    assert_eq!(bench.run("LLEN list"), ":402");
    assert_eq!(bench.run("LRANGE from 0 -1"), "*1 $1 b");
    assert_eq!(bench.run("SMISMEMBER set a b"), "*2 :1 :0");
    assert_eq!(bench.run("SCARD some"), ":2");
}

#[tokio::test]
async fn what_a_served_client_needs_is_loaded_before_it_is_served() {
    let mut bench = Bench::new();
    bench.run("RPUSH to x");
    bench.evict(0, &["to"], false);
    let shared = Arc::new(ClientShared {
        id: 7,
        ..ClientShared::default()
    });
    let waiting = Client::new(shared, String::new(), String::new(), 0);
    let request = crate::net::client::BlockRequest {
        keys: vec![b"from".to_vec()],
        deadline_ms: None,
        on_timeout: |reply| reply.null(),
        wants: crate::value::ObjectType::List,
        or_gone: false,
        again: None,
    };
    let command = [&b"BLMOVE"[..], b"from", b"to", b"LEFT", b"RIGHT", b"0"];
    let command = crate::net::client::OwnedCommand::new(&command);
    bench
        .server
        .keyspace
        .lock()
        .blocked
        .park(Box::new(waiting), command, request);
    assert_eq!(bench.waits("RPUSH from y"), [(0, "to".into())]);
    assert_eq!(bench.run_waiting("RPUSH from y").await.0, ":1");
    assert_eq!(bench.run("LRANGE to 0 -1"), "*2 $1 x $1 y");
}

#[tokio::test]
async fn pins_survive_a_flush_of_what_was_pinned() {
    let mut bench = Bench::new();
    bench.run("SET a v");
    bench.evict(0, &["a"], false);
    let wait = Wait::Load(vec![(0, b"a".to_vec())]);
    let mut budget = WaitBudget::default();
    let pins = bench
        .server
        .clone()
        .wait_for(wait, &mut budget)
        .await
        .expect("load");
    assert_eq!(bench.server.keyspace.lock().pinned(), 1);
    bench.run("FLUSHALL");
    drop(pins);
    assert_eq!(bench.server.keyspace.lock().pinned(), 0);
    assert_eq!(bench.run("GET a"), "$-1");
}
