//! What commands of this family tell others, and their rarer replies. The common ones are compared
//! with a real Redis elsewhere.

use crate::command::testing::{Bench, NOW};
use crate::keyspace::ExpireMode;
use std::sync::atomic::Ordering;

fn given(commands: &[&str]) -> Bench {
    Bench::new(|_, event, key, db| format!("{event} {key}@{db}"), commands)
}

#[test]
fn expiries_leave_as_absolute_times_and_past_ones_as_deletions() {
    let mut bench = given(&["SET k v"]);
    for (command, propagated, events) in [
        (
            "EXPIRE k 10",
            "PEXPIREAT k 1700000010000",
            &["expire k@0"][..],
        ),
        (
            "PEXPIRE k 10 XX",
            "PEXPIREAT k 1700000000010 XX",
            &["expire k@0"],
        ),
        (
            "EXPIREAT k 1800000000 gt",
            "PEXPIREAT k 1800000000000 gt",
            &["expire k@0"],
        ),
        (
            "pexpireat k 1800000000001",
            "pexpireat k 1800000000001",
            &["expire k@0"],
        ),
        ("EXPIRE k 10 NX", "", &[]),
        ("EXPIRE k 10 GT", "", &[]),
        ("PERSIST k", "PERSIST k", &["persist k@0"]),
        ("PERSIST k", "", &[]),
        ("EXPIRE k 10 XX", "", &[]),
        ("EXPIRE k 10 GT", "", &[]),
        (
            "EXPIRE k 10 LT",
            "PEXPIREAT k 1700000010000 LT",
            &["expire k@0"],
        ),
        ("EXPIRE k 10 LT", "", &[]),
        ("EXPIRE k -1", "DEL k", &["del k@0"]),
        ("EXPIRE k 10", "", &[]),
    ] {
        let ran = bench.run(command);
        assert_eq!(ran.propagated, propagated, "{command}");
        assert_eq!(ran.events, events, "{command}");
        assert_eq!(
            ran.text,
            if propagated.is_empty() { ":0" } else { ":1" },
            "{command}"
        );
    }
    let mut replica = given(&["SET k v"]);
    replica.keyspace.expire_mode = ExpireMode::Ignore;
    assert_eq!(replica.run("PEXPIREAT k 1").propagated, "PEXPIREAT k 1");
    assert_eq!(replica.text("EXISTS k"), ":1");
}

#[test]
fn expire_checks_options_then_number_then_key() {
    let mut bench = given(&["SET k v"]);
    let max = i64::MAX;
    for (command, reply) in [
        ("EXPIRE k x y".to_owned(), "-ERR Unsupported option y"),
        (
            "EXPIRE none 1 nx gt".to_owned(),
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "EXPIRE none 1 lt gt".to_owned(),
            "-ERR GT and LT options at the same time are not compatible",
        ),
        (
            "EXPIRE none x".to_owned(),
            "-ERR value is not an integer or out of range",
        ),
        (
            format!("EXPIRE none {max}"),
            "-ERR invalid expire time in 'expire' command",
        ),
        (
            format!("PEXPIRE none {max}"),
            "-ERR invalid expire time in 'pexpire' command",
        ),
        (
            format!("EXPIREAT none -{max}"),
            "-ERR invalid expire time in 'expireat' command",
        ),
        (format!("PEXPIREAT none {max}"), ":0"),
        (format!("PEXPIREAT k {max}"), ":1"),
        ("PEXPIRETIME k".to_owned(), ":9223372036854775807"),
    ] {
        assert_eq!(bench.text(&command), reply, "{command}");
    }
}

#[test]
fn ttl_rounds_to_seconds_and_never_goes_below_zero() {
    let mut bench = given(&["SET k v PX 1499", "SET forever v"]);
    for (command, reply) in [
        ("TTL k", ":1"),
        ("PTTL k", ":1499"),
        ("EXPIRETIME k", ":1700000001"),
        ("PEXPIRETIME k", ":1700000001499"),
        ("TTL forever", ":-1"),
        ("PEXPIRETIME forever", ":-1"),
        ("TTL none", ":-2"),
    ] {
        assert_eq!(bench.text(command), reply, "{command}");
    }
}

#[test]
fn moving_keeps_expiry_and_encoding_and_tells_both_names() {
    let mut bench = given(&["SET a 12", "APPEND a 3", "PEXPIRE a 500", "SET b old PX 9"]);
    let ran = bench.run("RENAME a b");
    assert_eq!(ran.events, ["rename_from a@0", "rename_to b@0"]);
    assert_eq!((ran.dirty, ran.propagated.as_str()), (1, "RENAME a b"));
    for (command, reply) in [
        ("OBJECT ENCODING b", "$3 raw"),
        ("PTTL b", ":500"),
        ("DBSIZE", ":1"),
        ("RENAME none b", "-ERR no such key"),
        ("RENAME none none", "-ERR no such key"),
        ("RENAME b b", "+OK"),
        ("RENAMENX b b", ":0"),
        (
            "COPY b b",
            "-ERR source and destination objects are the same",
        ),
        ("COPY b c DB 9", "-ERR DB index is out of range"),
        ("COPY b c DB", "-ERR syntax error"),
        ("COPY b c DB 3", ":1"),
        ("COPY b c DB 3", ":0"),
        ("COPY b c DB 3 REPLACE", ":1"),
        (
            "MOVE b 0",
            "-ERR source and destination objects are the same",
        ),
        ("MOVE b -1", "-ERR DB index is out of range"),
        ("MOVE b x", "-ERR value is not an integer or out of range"),
    ] {
        assert_eq!(bench.text(command), reply, "{command}");
    }
    let ran = bench.run("MOVE b 3");
    assert_eq!(ran.events, ["move_from b@0", "move_to b@3"]);
    assert_eq!(bench.text("DBSIZE"), ":0");
    assert_eq!(bench.run("SWAPDB 0 3").dirty, 1);
    for (command, reply) in [
        ("DBSIZE", ":2"),
        ("GET c", "$3 123"),
        ("PTTL c", ":500"),
        ("OBJECT ENCODING b", "$3 raw"),
        ("PTTL b", ":500"),
    ] {
        assert_eq!(bench.text(command), reply, "{command}");
    }
    let ran = bench.run("COPY b d");
    assert_eq!((ran.events, ran.dirty), (vec!["copy_to d@0".to_owned()], 1));
    bench.run("APPEND d 4");
    assert_eq!(bench.text("GET b"), "$3 123", "the copy is independent");
}

#[test]
fn a_moved_list_wakes_who_waits_for_its_new_name() {
    let mut bench = given(&["RPUSH l a b"]);
    bench.keyspace.ready.clear();
    bench.run("RENAME l m");
    assert_eq!(bench.keyspace.ready, [(0, b"m".to_vec())]);
    bench.run("MOVE m 1");
    assert_eq!(bench.keyspace.ready.last(), Some(&(1, b"m".to_vec())));
}

#[test]
fn what_dump_writes_restores_to_the_same_value() {
    let mut bench = given(&[
        "SET int 42",
        "SET str hello",
        "RPUSH list a 1 2",
        "SADD ints 1 2 3",
        "SADD words a b",
        "HSET hash f v",
        "ZADD zset 1.5 m",
    ]);
    for key in ["int", "str", "list", "ints", "words", "hash", "zset"] {
        let dumped = bench.run(&format!("DUMP {key}")).reply;
        let body = dumped
            .windows(2)
            .position(|w| w == b"\r\n")
            .expect("a bulk")
            + 2;
        let payload = dumped[body..dumped.len() - 2].to_vec();
        let ran = bench.run_argv(&[b"RESTORE", b"copy", b"500", &payload, b"REPLACE"]);
        assert_eq!(ran.text, "+OK", "{key}");
        assert!(
            ran.propagated.ends_with("REPLACE ABSTTL"),
            "{}",
            ran.propagated
        );
        assert_eq!(ran.events, ["restore copy@0"]);
        let encoding = bench.text(&format!("OBJECT ENCODING {key}"));
        assert_eq!(bench.text("OBJECT ENCODING copy"), encoding, "{key}");
        assert_eq!(bench.run("DUMP copy").reply, dumped, "{key}");
        assert_eq!(bench.text("PTTL copy"), ":500");
    }
    let ran = bench.run_argv(&[b"RESTORE", b"int", b"0", b"whatever it is"]);
    assert_eq!(ran.text, "-BUSYKEY Target key name already exists.");
    let ran = bench.run_argv(&[b"RESTORE", b"new", b"0", b"whatever it is"]);
    assert_eq!(ran.text, "-ERR DUMP payload version or checksum are wrong");
    let ran = bench.run_argv(&[b"RESTORE", b"new", b"-1", b""]);
    assert_eq!(ran.text, "-ERR Invalid TTL value, must be >= 0");
}

/// Redis: `keyIsExpired` asks for more than the expiry, `checkAlreadyExpired` for as much.
#[test]
fn a_key_is_there_in_the_millisecond_of_its_expiry_and_gone_in_the_next() {
    let mut bench = given(&["SET k v PX 5"]);
    for (later, expected) in [
        (5, ["$1 v", ":1", ":0", ":0", "*1 $1 k", "*2 $1 0 *1 $1 k"]),
        (6, ["$-1", ":0", ":-2", ":-2", "*0", "*2 $1 0 *0"]),
    ] {
        bench.now_ms = NOW + later;
        let commands = ["GET k", "EXISTS k", "PTTL k", "TTL k", "KEYS *", "SCAN 0"];
        // KEYS deletes nothing, so it looks first.
        for at in [4, 0, 1, 2, 3, 5] {
            assert_eq!(bench.text(commands[at]), expected[at], "{}", commands[at]);
        }
    }
    bench.now_ms = NOW;
    bench.run("SET now v PXAT 1700000000000");
    assert_eq!(
        bench.text("GET now"),
        "$1 v",
        "SET does not look at the clock"
    );
}

#[test]
fn a_command_deletes_what_it_gives_the_present_time() {
    let mut bench = given(&[]);
    for command in [
        "PEXPIREAT k 1700000000000",
        "EXPIREAT k 1700000000",
        "EXPIRE k 0",
        "PEXPIRE k 0",
        "GETEX k PXAT 1700000000000",
        "GETEX k EXAT 1700000000",
    ] {
        bench.run("SET k v");
        let ran = bench.run(command);
        assert_eq!(ran.propagated, "DEL k", "{command}");
        assert_eq!(ran.events, ["del k@0"], "{command}");
        assert_eq!(bench.text("EXISTS k"), ":0", "{command}");
    }
    bench.run("SET k v");
    bench.run("PEXPIREAT k 1700000000001");
    assert_eq!(bench.text("PTTL k"), ":1");
}

#[test]
fn restoring_what_is_past_its_time_deletes() {
    let mut bench = given(&["SET k v"]);
    let mut payload = Vec::new();
    redrock_rdb::dump::write(&mut payload, 0, b"\x01x", 10);
    let restore: [&[u8]; 6] = [
        b"RESTORE",
        b"k",
        b"1700000000000",
        &payload,
        b"ABSTTL",
        b"REPLACE",
    ];
    let ran = bench.run_argv(&restore);
    assert_eq!(
        (ran.text.as_str(), ran.propagated.as_str()),
        ("+OK", "DEL k")
    );
    assert_eq!(ran.events, ["del k@0"]);
    let ran = bench.run_argv(&restore);
    assert_eq!(
        (ran.text.as_str(), ran.propagated.as_str(), ran.dirty),
        ("+OK", "", 0)
    );
}

#[test]
fn deletions_are_told_one_by_one_and_only_for_what_was_there() {
    let mut bench = given(&["SET a 1", "SET b 2", "SET old 3 PX 5"]);
    bench.now_ms += 6;
    let ran = bench.run("DEL a none old a b");
    assert_eq!((ran.text.as_str(), ran.dirty), (":2", 2));
    assert_eq!(ran.events, ["expired old@0", "del a@0", "del b@0"]);
    assert_eq!(ran.propagated, "DEL old DEL a none old a b");
    assert_eq!(bench.run("UNLINK a b").propagated, "");
}

#[test]
fn flushes_are_propagated_even_if_nothing_was_there_and_touch_watched_keys() {
    let mut bench = given(&["SET a 1", "COPY a a DB 1"]);
    let flag = bench.client.watch_dirty.clone();
    bench.keyspace.watched.watch(0, b"none", 1, &flag, false);
    let ran = bench.run("FLUSHDB");
    assert_eq!((ran.dirty, ran.propagated.as_str()), (1, "FLUSHDB"));
    assert!(!flag.load(Ordering::Relaxed));
    bench.keyspace.watched.watch(1, b"a", 1, &flag, false);
    assert_eq!(bench.run("FLUSHALL sync").propagated, "FLUSHALL sync");
    assert!(flag.load(Ordering::Relaxed));
    assert_eq!(bench.run("FLUSHALL ASYNC").propagated, "FLUSHALL ASYNC");
    assert_eq!(bench.text("FLUSHDB now"), "-ERR syntax error");
    assert_eq!(bench.text("SWAPDB x 1"), "-ERR invalid first DB index");
    assert_eq!(
        bench.text("SWAPDB 1 99999999999"),
        "-ERR invalid second DB index"
    );
    assert_eq!(bench.text("SWAPDB 1 4"), "-ERR DB index is out of range");
}

#[test]
fn swapping_touches_keys_that_are_on_either_side() {
    for (command, dirty) in [("SET k v", true), ("SET other v", false)] {
        let mut bench = given(&[command]);
        let flag = bench.client.watch_dirty.clone();
        bench.keyspace.watched.watch(2, b"k", 1, &flag, false);
        bench.run("SWAPDB 0 2");
        assert_eq!(flag.load(Ordering::Relaxed), dirty, "{command}");
    }
}

#[test]
fn scan_filters_by_pattern_and_type_and_expires_what_it_meets() {
    let mut bench = given(&["SET s:1 v", "SET s:2 v PX 5", "RPUSH l:1 a", "SET t v"]);
    bench.now_ms += 6;
    assert_eq!(
        bench.text("SCAN 0 COUNT 100 MATCH s:*"),
        "*2 $1 0 *1 $3 s:1"
    );
    assert_eq!(
        bench.text("SCAN 0 COUNT 100 TYPE LIST"),
        "*2 $1 0 *1 $3 l:1"
    );
    assert_eq!(bench.text("SCAN 0 TYPE nonsense"), "*2 $1 0 *0");
    assert_eq!(bench.text("DBSIZE"), ":3");
    assert_eq!(bench.text("SCAN x"), "-ERR invalid cursor");
    assert_eq!(bench.text("SCAN 0 COUNT 0"), "-ERR syntax error");
    assert_eq!(bench.text("SCAN 99999999999999999"), "*2 $1 0 *0");
    assert_eq!(bench.text("KEYS l*"), "*1 $3 l:1");
}

#[test]
fn randomkey_skips_what_has_expired() {
    let mut bench = given(&["SET a v PX 5", "SET b v PX 5", "SET c v"]);
    bench.now_ms += 6;
    assert_eq!(bench.text("RANDOMKEY"), "$1 c");
    bench.run("DEL c");
    assert_eq!(bench.text("RANDOMKEY"), "$-1");
}

#[test]
fn object_answers_null_for_no_key_before_it_looks_at_the_policy() {
    let mut bench = given(&["SET k 7", "SET long 12345", "SET text x"]);
    for (command, reply) in [
        ("OBJECT FREQ none", "$-1"),
        ("OBJECT IDLETIME none", "$-1"),
        ("OBJECT ENCODING none", "$-1"),
        ("OBJECT REFCOUNT k", ":2147483647"),
        ("OBJECT REFCOUNT long", ":1"),
        ("OBJECT ENCODING k", "$3 int"),
        ("OBJECT ENCODING text", "$6 embstr"),
        ("TYPE k", "+string"),
        ("TYPE none", "+none"),
    ] {
        assert_eq!(bench.text(command), reply, "{command}");
    }
    assert!(
        bench
            .text("OBJECT FREQ k")
            .starts_with("-ERR An LFU maxmemory policy is not")
    );
}
