//! What string commands tell others: log and replicas, WATCHers and listeners to keyspace events.
//! Their replies are compared with a real Redis elsewhere.

use crate::command::effect::Effect;
use crate::command::testing::{Bench, NOW};
use crate::keyspace::ExpireMode;
use crate::keyspace::db::Db;

fn given(commands: &[&str]) -> Bench {
    Bench::new(|_, event, key, _| format!("{event} {key}"), commands)
}

fn expire_of(bench: &mut Bench, key: &str) -> Option<i64> {
    let mut effect = Effect::default();
    let keyspace = &mut bench.keyspace;
    let mut db = Db::new(keyspace, &bench.server, &mut effect, 0, bench.now_ms);
    db.presence(key.as_bytes())
        .expect("nothing is cold")
        .and_then(|found| found.expire)
}

#[test]
fn expiries_leave_as_absolute_times() {
    let mut bench = given(&[]);
    for (command, propagated) in [
        ("SET k v", "SET k v"),
        ("SET k v EX 10", "SET k v PXAT 1700000010000"),
        ("set k v px 10 NX", ""),
        ("SET k v XX GET PX 10", "SET k v PXAT 1700000000010"),
        ("SET k v EXAT 1800000000", "SET k v PXAT 1800000000000"),
        ("set k v pxat 1800000000000", "set k v pxat 1800000000000"),
        ("SET k v get KEEPTTL GET", "SET k v KEEPTTL"),
        ("SETEX k 10 v", "SET k v PXAT 1700000010000"),
        ("PSETEX k 10 v", "SET k v PXAT 1700000000010"),
        ("GETSET k w", "SET k w"),
        ("GETEX k", ""),
        ("GETEX k PERSIST", ""),
        ("GETEX k EX 5", "PEXPIREAT k 1700000005000"),
        ("GETEX k PERSIST", "PERSIST k"),
        ("GETEX k PXAT 1", "DEL k"),
        ("GETDEL k", ""),
    ] {
        assert_eq!(bench.run(command).propagated, propagated, "{command}");
    }
}

#[test]
fn float_increments_leave_as_their_result() {
    let mut bench = given(&["SETEX k 100 3.0"]);
    let ran = bench.run("INCRBYFLOAT k 1.1");
    assert_eq!(ran.text, "$3 4.1");
    assert_eq!(ran.propagated, "SET k 4.1 KEEPTTL");
    assert_eq!(expire_of(&mut bench, "k"), Some(NOW + 100_000));
}

#[test]
fn events_and_changes_are_counted_as_redis_counts_them() {
    let mut bench = given(&["SET n 1"]);
    for (command, events, dirty) in [
        ("SET k v EX 10", &["set k", "expire k"][..], 1),
        ("GETEX k PERSIST", &["persist k"], 1),
        ("GETEX k PX 5", &["expire k"], 1),
        ("GETEX k PXAT 5", &["del k"], 1),
        ("MSET a 1 b 2", &["set a", "set b"], 2),
        ("MSETNX c 1 a 2", &[], 0),
        ("SETNX a 1", &[], 0),
        ("INCR n", &["incrby n"], 1),
        ("INCR nan", &["incrby nan"], 1),
        ("APPEND a 1", &["append a"], 1),
        ("SETRANGE a 5 xy", &["setrange a"], 1),
        ("SETRANGE z 5 ", &[], 0),
        ("SETBIT bits 3 1", &["setbit bits"], 1),
        ("SETBIT bits 3 1", &[], 0),
        ("SETBIT bits 30 0", &["setbit bits"], 1),
        (
            "BITFIELD bits SET u4 0 3 INCRBY u4 8 1",
            &["setbit bits"],
            2,
        ),
        ("BITFIELD bits GET u4 0", &[], 0),
        ("BITOP NOT to bits", &["set to"], 1),
        ("BITOP AND to none", &["del to"], 1),
        ("BITOP AND to none", &[], 0),
        ("GETDEL a", &["del a"], 1),
        ("GETDEL a", &[], 0),
    ] {
        let ran = bench.run(command);
        assert_eq!(ran.events, events, "{command}: {ran:?}");
        assert_eq!(ran.dirty, dirty, "{command}");
        assert_eq!(ran.propagated.is_empty(), dirty == 0, "{command}");
    }
}

#[test]
fn a_string_that_only_grew_is_propagated() {
    let mut bench = given(&[]);
    let ran = bench.run("BITFIELD k OVERFLOW FAIL SET u2 100 9");
    assert_eq!(ran.text, "*1 $-1");
    assert_eq!(ran.propagated, "BITFIELD k OVERFLOW FAIL SET u2 100 9");
    assert_eq!(bench.run("STRLEN k").text, ":13");
}

#[test]
fn an_expired_key_is_deleted_by_the_command_that_finds_it() {
    let mut bench = given(&["SETEX k 10 v"]);
    bench.now_ms += 10_001;
    let ran = bench.run("APPEND k w");
    assert_eq!(
        (ran.text.as_str(), ran.propagated.as_str()),
        (":1", "DEL k APPEND k w")
    );
    assert_eq!(expire_of(&mut bench, "k"), None);
}

#[test]
fn nothing_is_deleted_for_its_time_on_a_replica() {
    let mut bench = given(&["SET k v"]);
    bench.keyspace.expire_mode = ExpireMode::Hide;
    assert_eq!(bench.run("GETEX k PXAT 5").propagated, "PEXPIREAT k 5");
    assert_eq!(bench.run("GET k").text, "$-1");
}

#[test]
fn a_new_value_keeps_or_clears_the_expiry() {
    let mut bench = given(&[]);
    for (command, expire) in [
        ("SETEX k 10 1", Some(NOW + 10_000)),
        ("INCR k", Some(NOW + 10_000)),
        ("SET k 2 KEEPTTL", Some(NOW + 10_000)),
        ("SET k 3 PX 5", Some(NOW + 5)),
        ("SET k word KEEPTTL", Some(NOW + 5)),
        ("SET k wort PX 7", Some(NOW + 7)),
        ("APPEND k s", Some(NOW + 7)),
        ("SETBIT k 100 1", Some(NOW + 7)),
        ("SET k 4", None),
        ("SETEX k 10 1", Some(NOW + 10_000)),
        ("MSET k 1", None),
        ("SETEX k 10 1", Some(NOW + 10_000)),
        ("GETSET k 1", None),
        ("SETEX k 10 1", Some(NOW + 10_000)),
        ("BITOP OR k k", None),
    ] {
        bench.run(command);
        assert_eq!(expire_of(&mut bench, "k"), expire, "{command}");
    }
}

#[test]
fn strings_beyond_the_largest_bulk_are_refused() {
    let mut bench = given(&["SET k v"]);
    let refused = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(bench.run("SETRANGE k 1048576 x").text, refused);
    assert_eq!(
        bench.run("SETRANGE new 9223372036854775807 x").text,
        refused
    );
    assert_eq!(bench.run("SETRANGE k 1048575 x").text, ":1048576");
    assert_eq!(bench.run("APPEND k x").text, refused);
    assert_eq!(bench.run("STRLEN new").text, ":0");
}
