//! Fields that expire: the replies, events and propagation of Redis 7.4 and 8, as their
//! documentation and source tell them; for small hashes and large ones alike.

mod option;

use crate::command::testing::{Bench, NOW};
use crate::keyspace::ExpireMode;
use crate::notify::Class;

fn given(rdb_version: u32, large: bool, commands: &[&str]) -> Bench {
    let show = |class, event: &str, key: &str, _| {
        let class = match class {
            Class::HASH => "h",
            Class::GENERIC => "g",
            _ => "?",
        };
        format!("{class}:{event}:{key}")
    };
    let mut bench = Bench::new(show, &[]);
    bench.config.snapshot.rdb_version = rdb_version;
    if large {
        bench.config.limits.hash_listpack_entries_max = 0;
    }
    let gate = bench.keyspace.field_expiry.clone();
    gate.set_rdb_version(rdb_version)
        .expect("nothing expires yet");
    for command in commands {
        let ran = bench.run(command);
        assert!(!ran.text.starts_with('-'), "{command}: {}", ran.text);
    }
    bench
}

/// Small and large.
fn both(commands: &[&str]) -> [Bench; 2] {
    [given(12, false, commands), given(12, true, commands)]
}

fn expect(bench: &mut Bench, rows: &[(&str, &str)]) {
    for (command, reply) in rows {
        assert_eq!(bench.text(command), *reply, "{command}");
    }
}

#[test]
fn times_are_given_and_told_field_by_field() {
    for mut bench in both(&["HSET h a 1 b 2 c 3 d 4", "SET s x"]) {
        expect(
            &mut bench,
            &[
                ("HEXPIRE h 10 FIELDS 3 a b none", "*3 :1 :1 :-2"),
                ("HTTL h FIELDS 4 a b c none", "*4 :10 :10 :-1 :-2"),
                ("HPTTL h FIELDS 1 a", "*1 :10000"),
                ("HEXPIRETIME h FIELDS 2 a c", "*2 :1700000010 :-1"),
                ("HPEXPIRETIME h FIELDS 1 a", "*1 :1700000010000"),
                ("HPEXPIRE h 20001 NX FIELDS 2 a c", "*2 :0 :1"),
                ("HTTL h FIELDS 2 a c", "*2 :10 :21"),
                ("HPEXPIRE h 5 XX FIELDS 2 a d", "*2 :1 :0"),
                ("HPTTL h FIELDS 2 a d", "*2 :5 :-1"),
                ("HEXPIRE h 5 GT FIELDS 4 a b d none", "*4 :1 :0 :0 :-2"),
                ("HEXPIRE h 7 LT FIELDS 4 a b d none", "*4 :0 :1 :1 :-2"),
                ("HTTL h FIELDS 4 a b c d", "*4 :5 :7 :21 :7"),
                ("HEXPIREAT h 1700000100 FIELDS 1 a", "*1 :1"),
                ("HPEXPIREAT h 1700000100001 FIELDS 1 b", "*1 :1"),
                (
                    "HPEXPIRETIME h FIELDS 2 a b",
                    "*2 :1700000100000 :1700000100001",
                ),
                ("HPERSIST h FIELDS 3 a a none", "*3 :1 :-1 :-2"),
                ("HTTL h FIELDS 1 a", "*1 :-1"),
                // In the past: deleted. The second time there is no such field.
                ("HEXPIREAT h 1 FIELDS 2 b b", "*2 :2 :-2"),
                ("HPEXPIRE h 0 FIELDS 1 c", "*1 :2"),
                ("HMGET h a b c d", "*4 $1 1 $-1 $-1 $1 4"),
                ("HEXPIRE none 10 FIELDS 2 a b", "*2 :-2 :-2"),
                ("HTTL none FIELDS 2 a b", "*2 :-2 :-2"),
                ("HPERSIST none FIELDS 1 a", "*1 :-2"),
                ("EXISTS none", ":0"),
            ],
        );
        let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        for command in [
            "HEXPIRE s x FIELDS 1 a",
            "HTTL s x 1 a",
            "HPERSIST s x 1 a",
            "HGETEX s x 1 a",
            "HGETDEL s x 1 a",
            "HSETEX s FIELDS 1 a 1",
        ] {
            assert_eq!(bench.text(command), wrong, "{command}");
        }
        bench.now_ms = NOW + 8_000;
        expect(
            &mut bench,
            &[("HTTL h FIELDS 2 a d", "*2 :-1 :-2"), ("HGET h d", "$-1")],
        );
    }
}

const POSITION: &str = "-ERR Mandatory argument FIELDS is missing or not at the right position";
const COUNT: &str = "-ERR Number of fields must be a positive integer";
const GREATER: &str = "-ERR Parameter `numFields` should be greater than 0";
const MATCHING: &str = "-ERR The `numfields` parameter must match the number of arguments";
const INTEGER: &str = "-ERR value is not an integer or out of range";
const NEGATIVE: &str = "-ERR invalid expire time, must be >= 0";
const ONE_TIME: &str = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
const ARITY: &str = "-ERR wrong number of arguments for 'hsetex' command";

#[test]
fn arguments_are_refused_in_the_words_of_redis() {
    for mut bench in both(&["HSET h a 1"]) {
        expect(
            &mut bench,
            &[
                ("HEXPIRE h 10 FIELD 1 a", POSITION),
                ("HEXPIRE h 10 NX 1 a a", POSITION),
                ("HEXPIRE h 10 FIELDS 0 a", GREATER),
                ("HEXPIRE h 10 FIELDS x a", GREATER),
                ("HEXPIRE h 10 FIELDS 2 a", MATCHING),
                ("HEXPIRE h 10 FIELDS 1 a b", MATCHING),
                ("HEXPIRE h x FIELDS 1 a", INTEGER),
                ("HEXPIRE h -1 FIELDS 1 a", NEGATIVE),
                (
                    "HEXPIRE h 70368744178 FIELDS 1 a",
                    "-ERR invalid expire time in 'hexpire' command",
                ),
                (
                    "HPEXPIRE h 70368744177663 FIELDS 1 a",
                    "-ERR invalid expire time in 'hpexpire' command",
                ),
                (
                    "HPEXPIREAT h 70368744177664 FIELDS 1 a",
                    "-ERR invalid expire time in 'hpexpireat' command",
                ),
                ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "*1 :1"),
                ("HPEXPIRETIME h FIELDS 1 a", "*1 :70368744177663"),
                ("HTTL h FIELD 1 a", POSITION),
                ("HTTL h FIELDS 0 a", COUNT),
                ("HTTL h FIELDS 3 a b", MATCHING),
                ("HPERSIST h 1 a b", POSITION),
                ("HPERSIST h FIELDS -5 a", COUNT),
                ("HGETDEL h FIELDS 0 a", COUNT),
                ("HGETDEL h FIELDS 2 a", MATCHING),
            ],
        );
    }
}

#[test]
fn arguments_of_the_commands_of_redis_8_are_refused_in_its_words() {
    for mut bench in both(&["HSET h a 1"]) {
        expect(
            &mut bench,
            &[
                ("HGETEX h EX 10 FIELDS 2 a", MATCHING),
                ("HGETEX h EX x FIELDS 1 a", INTEGER),
                ("HGETEX h PX -1 FIELDS 1 a", NEGATIVE),
                ("HGETEX h PERSIST 1 a", POSITION),
                ("HGETEX h KEEPTTL FIELDS 1 a", POSITION),
                ("HSETEX h EX 10 PX 10 FIELDS 1 a 1", ONE_TIME),
                ("HSETEX h KEEPTTL EX 10 FIELDS 1 a 1", ONE_TIME),
                (
                    "HSETEX h FNX FXX FIELDS 1 a 1",
                    "-ERR Only one of FXX or FNX arguments can be specified",
                ),
                (
                    "HSETEX h PERSIST FIELDS 1 a 1",
                    "-ERR unknown argument: PERSIST",
                ),
                ("HSETEX h FIELDS 0 a 1", "-ERR invalid number of fields"),
                ("HSETEX h FIELDS 2 a 1", ARITY),
                ("HSETEX h FIELDS 1 a 1 b", ARITY),
                (
                    "HSETEX h FNX FXX",
                    "-ERR Only one of FXX or FNX arguments can be specified",
                ),
                ("HSETEX h FNX EX 5", ARITY),
                (
                    "HSETEX h PXAT 70368744177664 FIELDS 1 a 1",
                    "-ERR invalid expire time in 'hsetex' command",
                ),
                ("HGETALL h", "*2 $1 a $1 1"),
            ],
        );
    }
}

#[test]
fn values_are_read_set_and_deleted_together_with_times() {
    for mut bench in both(&["HSET h a 1 b 2 c 3"]) {
        expect(
            &mut bench,
            &[
                ("HGETEX h FIELDS 2 a none", "*2 $1 1 $-1"),
                ("HGETEX h EX 10 FIELDS 2 a none", "*2 $1 1 $-1"),
                ("HGETEX h PXAT 1700000020000 FIELDS 1 b", "*1 $1 2"),
                ("HTTL h FIELDS 3 a b c", "*3 :10 :20 :-1"),
                ("HGETEX h PERSIST FIELDS 2 b c", "*2 $1 2 $1 3"),
                ("HTTL h FIELDS 2 a b", "*2 :10 :-1"),
                ("HGETEX h PX 0 FIELDS 2 b b", "*2 $1 2 $-1"),
                ("HGETEX none EX 1 FIELDS 1 b", "*1 $-1"),
                ("HLEN h", ":2"),
                ("HSETEX h FNX FIELDS 2 d 4 a 5", ":0"),
                ("HSETEX h FXX FIELDS 2 a 5 d 4", ":0"),
                ("HSETEX none FXX FIELDS 1 a 5", ":0"),
                ("HSETEX h FXX EX 30 FIELDS 2 a 5 c 6", ":1"),
                ("HSETEX h FNX PX 500 FIELDS 2 d 7 e 8", ":1"),
                ("HPTTL h FIELDS 4 a c d e", "*4 :30000 :30000 :500 :500"),
                ("HSETEX h KEEPTTL FIELDS 2 a 9 f 1", ":1"),
                ("HPTTL h FIELDS 2 a f", "*2 :30000 :-1"),
                ("HSETEX h FIELDS 1 c 1", ":1"),
                ("HTTL h FIELDS 1 c", "*1 :-1"),
                ("HSETEX h EXAT 1 FIELDS 2 c 1 g 1", ":1"),
                ("HMGET h a c g", "*3 $1 9 $-1 $-1"),
                ("HGETDEL h FIELDS 3 a a none", "*3 $1 9 $-1 $-1"),
                ("HGETDEL none FIELDS 1 a", "*1 $-1"),
                ("HGETDEL h FIELDS 4 d e f x", "*4 $1 7 $1 8 $1 1 $-1"),
                ("EXISTS h", ":0"),
                ("HSETEX h PX 0 FIELDS 1 a 1", ":1"),
                ("EXISTS h", ":0"),
            ],
        );
        bench.resp3 = true;
        expect(
            &mut bench,
            &[
                ("HSETEX h EX 5 FIELDS 1 a 1", ":1"),
                ("HGETEX h FIELDS 2 a b", "*2 $1 1 _"),
                ("HGETDEL h FIELDS 2 b a", "*2 _ $1 1"),
                ("HTTL h FIELDS 1 a", "*1 :-2"),
            ],
        );
    }
}

/// Command, what leaves, events, changes.
const EFFECTS: &[(&str, &str, &str, u64)] = &[
    (
        "HEXPIRE h 10 FIELDS 2 a none",
        "HPEXPIREAT h 1700000010000 FIELDS 1 a",
        "h:hexpire:h",
        1,
    ),
    (
        "HEXPIRE h 9 LT FIELDS 2 a b",
        "HPEXPIREAT h 1700000009000 LT FIELDS 2 a b",
        "h:hexpire:h",
        2,
    ),
    ("HEXPIRE h 10 NX FIELDS 2 a none", "", "", 0),
    (
        "HPERSIST h FIELDS 3 a c none",
        "HPERSIST h FIELDS 1 a",
        "h:hpersist:h",
        1,
    ),
    ("HPERSIST h FIELDS 1 a", "", "", 0),
    ("HPEXPIREAT h 5 FIELDS 2 b none", "HDEL h b", "h:hdel:h", 1),
    ("HGETEX h FIELDS 1 a", "", "", 0),
    (
        "HGETEX h EX 3 FIELDS 2 a none",
        "HPEXPIREAT h 1700000003000 FIELDS 1 a",
        "h:hexpire:h",
        1,
    ),
    (
        "HGETEX h PERSIST FIELDS 2 a c",
        "HPERSIST h FIELDS 1 a",
        "h:hpersist:h",
        1,
    ),
    ("HGETEX h PX 0 FIELDS 2 a none", "HDEL h a", "h:hdel:h", 1),
    (
        "HSETEX h PX 7 FIELDS 2 e 1 f 2",
        "HSET h e 1 f 2 HPEXPIREAT h 1700000000007 FIELDS 2 e f",
        "h:hset:h h:hexpire:h",
        2,
    ),
    (
        "HSETEX h KEEPTTL FIELDS 2 e 3 g 4",
        "HSET h e 3 g 4 HPEXPIREAT h 1700000000007 FIELDS 1 e",
        "h:hset:h",
        2,
    ),
    ("HSETEX h FIELDS 1 e 5", "HSET h e 5", "h:hset:h", 1),
    (
        "HSETEX h PX 0 FIELDS 1 e 5",
        "HDEL h e",
        "h:hset:h h:hdel:h",
        2,
    ),
    (
        "HINCRBYFLOAT h f 0.5",
        "HSET h f 2.5 HPEXPIREAT h 1700000000007 FIELDS 1 f",
        "h:hincrbyfloat:h",
        1,
    ),
    (
        "HINCRBYFLOAT h g 0.5",
        "HSET h g 4.5",
        "h:hincrbyfloat:h",
        1,
    ),
    ("HGETDEL h FIELDS 2 g none", "HDEL h g", "h:hdel:h", 1),
    (
        "HGETDEL h FIELDS 3 c d f",
        "HDEL h c d f",
        "h:hdel:h g:del:h",
        3,
    ),
];

#[test]
fn effects_are_told_and_leave_in_words_that_redis_7_4_knows() {
    for mut bench in both(&["HSET h a 1 b 2 c 3 d 4"]) {
        for &(command, propagated, events, dirty) in EFFECTS {
            let ran = bench.run(command);
            assert_eq!(
                (
                    ran.propagated.as_str(),
                    ran.events.join(" ").as_str(),
                    ran.dirty
                ),
                (propagated, events, dirty),
                "{command}: {ran:?}"
            );
        }
    }
}

/// Command, reply, what leaves, events.
const MET: &[(&str, &str, &str, &str)] = &[
    ("HGET h a", "$-1", "HDEL h a", "h:hexpired:h"),
    (
        "HMGET h a k b",
        "*3 $-1 $1 3 $-1",
        "HDEL h a b",
        "h:hexpired:h",
    ),
    ("HEXISTS h a", ":0", "HDEL h a", "h:hexpired:h"),
    ("HSTRLEN h a", ":0", "HDEL h a", "h:hexpired:h"),
    (
        "HSETNX h a 7",
        ":1",
        "HDEL h a HSETNX h a 7",
        "h:hexpired:h h:hset:h",
    ),
    (
        "HINCRBY h a 7",
        ":7",
        "HDEL h a HINCRBY h a 7",
        "h:hexpired:h h:hincrby:h",
    ),
    (
        "HINCRBYFLOAT h a 7",
        "$1 7",
        "HDEL h a HSET h a 7",
        "h:hexpired:h h:hincrbyfloat:h",
    ),
    (
        "HPEXPIRE h 9 FIELDS 1 a",
        "*1 :-2",
        "HDEL h a",
        "h:hexpired:h",
    ),
    (
        "HGETEX h PX 9 FIELDS 2 a k",
        "*2 $-1 $1 3",
        "HDEL h a HPEXPIREAT h 1700000000015 FIELDS 1 k",
        "h:hexpired:h h:hexpire:h",
    ),
    (
        "HSETEX h FNX FIELDS 1 a 1",
        ":1",
        "HDEL h a HSET h a 1",
        "h:hexpired:h h:hset:h",
    ),
    ("HGETDEL h FIELDS 1 a", "*1 $-1", "HDEL h a", "h:hexpired:h"),
    // As in Redis these do not look.
    ("HSET h a 7", ":0", "HSET h a 7", "h:hset:h"),
    ("HDEL h a", ":1", "HDEL h a", "h:hdel:h"),
    ("HLEN h", ":3", "", ""),
    // These show nothing of it.
    ("HGETALL h", "*2 $1 k $1 3", "", ""),
    ("HKEYS h", "*1 $1 k", "", ""),
    ("HVALS h", "*1 $1 3", "", ""),
    ("HSCAN h 0", "*2 $1 0 *2 $1 k $1 3", "", ""),
    ("HRANDFIELD h", "$1 k", "", ""),
    ("HRANDFIELD h 5", "*1 $1 k", "", ""),
    ("HRANDFIELD h -2", "*2 $1 k $1 k", "", ""),
    ("HTTL h FIELDS 2 a k", "*2 :-2 :-1", "", ""),
    ("HPERSIST h FIELDS 1 a", "*1 :-2", "", ""),
    ("SORT s BY nosort GET *->a GET *->k", "*2 $-1 $1 3", "", ""),
];

#[test]
fn a_field_that_is_over_is_deleted_by_who_meets_it_before_what_it_does() {
    let given = ["HSET h a 1 b 2 k 3", "HPEXPIRE h 5 FIELDS 2 a b"];
    for &(command, reply, propagated, events) in MET {
        for mut bench in both(&[&given[..], &["RPUSH s h"]].concat()) {
            // In its last millisecond it is there.
            bench.now_ms = NOW + 5;
            assert_eq!(bench.text("HMGET h a b"), "*2 $1 1 $1 2");
            bench.now_ms = NOW + 6;
            let ran = bench.run(command);
            assert_eq!(
                (
                    ran.text.as_str(),
                    ran.propagated.as_str(),
                    ran.events.join(" ").as_str()
                ),
                (reply, propagated, events),
                "{command}"
            );
        }
    }
    // The last field takes the hash with it.
    for mut bench in both(&["HSET h a 1", "HPEXPIRE h 5 FIELDS 1 a"]) {
        bench.now_ms = NOW + 6;
        let ran = bench.run("HGET h a");
        assert_eq!(ran.events, ["h:hexpired:h", "g:del:h"]);
        assert_eq!(bench.text("EXISTS h"), ":0");
        assert_eq!(bench.keyspace.stats.expired_fields, 1);
    }
}

#[test]
fn a_replica_hides_what_is_over_and_a_log_is_taken_as_it_is() {
    for mut bench in both(&["HSET h a 1 b 2", "HPEXPIRE h 5 FIELDS 1 a"]) {
        bench.now_ms = NOW + 6;
        bench.keyspace.expire_mode = ExpireMode::Hide;
        let ran = bench.run("HGET h a");
        assert_eq!((ran.text.as_str(), ran.propagated.as_str()), ("$-1", ""));
        expect(
            &mut bench,
            &[("HGETALL h", "*2 $1 b $1 2"), ("HLEN h", ":2")],
        );
        bench.keyspace.expire_mode = ExpireMode::Ignore;
        expect(
            &mut bench,
            &[
                ("HGET h a", "$1 1"),
                ("HINCRBY h a 1", ":2"),
                ("HPEXPIREAT h 5 FIELDS 1 b", "*1 :1"),
                ("HPEXPIRETIME h FIELDS 2 a b", "*2 :1700000000005 :5"),
            ],
        );
    }
}
