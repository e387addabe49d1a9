//! Commands that can't run: unknown ones, wrong numbers of arguments, wrong types, wrong values.

use crate::wire::{Pair, line, none, resp};

/// Commands, words separated by blanks; each line of several is one connection.
const LINES: &[&[&str]] = &[
    &["nosuch"],
    &["nosuch a b"],
    &["a'b c'd"],
    &["get|x", "config|get x"],
    &["GET"],
    &["GET a b"],
    &["set", "SET a"],
    &["MSET a", "MSET a b c"],
    &["CONFIG", "CONFIG GET", "CONFIG BLA", "config bla x"],
    &[
        "CLIENT FOO",
        "CLIENT KILL",
        "CLIENT KILL ID x",
        "CLIENT REPLY x",
    ],
    &["CLIENT PAUSE x", "CLIENT NO-EVICT x", "CLIENT TRACKING x"],
    &[
        "OBJECT",
        "OBJECT XX a",
        "OBJECT ENCODING",
        "OBJECT FREQ nokey",
    ],
    &["MEMORY FOO", "COMMAND foo", "SLOWLOG x", "LATENCY x"],
    &["CLUSTER x", "PUBSUB x", "SLOWLOG GET x", "SLOWLOG GET -2"],
    &[
        "LPUSH l 1",
        "GET l",
        "INCR l",
        "HGET l f",
        "SADD l x",
        "ZADD l 1 x",
        "APPEND l x",
        "SETRANGE l 0 x",
        "GETSET l x",
        "BITCOUNT l",
        "STRLEN l",
        "HINCRBY l f 1",
        "SMEMBERS l",
        "ZSCORE l m",
        "GETDEL l",
        "SUNION l l",
        "ZUNION 1 l",
        "DEL l",
    ],
    &[
        "SET s abc",
        "INCR s",
        "INCRBYFLOAT s 1",
        "LPUSH s x",
        "HSET s a b",
        "HSET s a",
        "EXPIRE s abc",
        "EXPIRE s 9223372036854775807",
        "SETBIT s -1 1",
        "SETBIT s 4294967296 1",
        "SETBIT s 0 2",
        "SETRANGE s 536870912 x",
        "SETRANGE s -1 x",
        "GETRANGE s a b",
        "SET s v EX 0",
        "SET s v EX x",
        "SET s v NX XX",
        "SET s v FOO",
        "SET s v EX 1 PX 1",
        "MOVE s 99",
        "MOVE s 0",
        "DEL s",
    ],
    &[
        "SELECT 99",
        "SELECT abc",
        "SELECT -1",
        "SWAPDB 0 99",
        "SWAPDB a 1",
    ],
    &[
        "ZADD z abc m",
        "ZADD z nan m",
        "ZADD z NX XX 1 m",
        "ZADD z 1",
        "ZRANGE z a b",
        "ZRANGE z 0 1 BYSCORE LIMIT 0",
        "ZRANGEBYSCORE z x y",
        "ZRANGEBYLEX z a b",
        "ZINTER 0",
        "ZINTER a b",
        "ZUNIONSTORE d 2 a",
    ],
    &[
        "LRANGE l x y",
        "LSET nol 0 x",
        "LINSERT l MID a b",
        "LPOP l -1",
        "BLPOP l -1",
        "BLPOP l x",
        "LMPOP 0 l LEFT",
        "LMPOP 1 l UP",
        "LPOS l a RANK 0",
    ],
    &[
        "EXEC", "DISCARD", "MULTI", "MULTI", "nosuch", "EXEC", "WATCH",
    ],
    &["MULTI", "WATCH a", "GET", "SET a 1", "EXEC"],
    &["MULTI", "SET t 1", "LPUSH t x", "INCR t", "EXEC", "DEL t"],
    &["SUBSCRIBE c", "GET a", "PING", "nosuch", "UNSUBSCRIBE"],
    &[
        "HELLO 4",
        "HELLO x",
        "HELLO 3 FOO",
        "HELLO 2 AUTH a",
        "AUTH x",
        "AUTH a b",
        "AUTH",
        "AUTH a b c",
    ],
    &["RESTORE k 0 garbage", "RESTORE k -1 x", "RESTORE k x x"],
    &[
        "SCAN x",
        "SCAN 0 COUNT 0",
        "SCAN 0 FOO",
        "HSCAN k x",
        "SORT a LIMIT x y",
    ],
    &[
        "WAIT x 1",
        "WAIT -1 -1",
        "DEBUG SLEEP",
        "SHUTDOWN x",
        "SHUTDOWN SAVE NOSAVE",
    ],
    &[
        "FLUSHALL x",
        "SAVE x",
        "BGSAVE x",
        "REPLICAOF a",
        "REPLICAOF NO TWO",
        "REPLICAOF a 99999",
    ],
    &["PSYNC", "REPLCONF foo", "REPLCONF listening-port x"],
    &[
        "INFO nosuch",
        "MONITOR x",
        "ECHO",
        "PING a b",
        "TIME a",
        "DBSIZE a",
        "LOLWUT VERSION x",
    ],
    &["QUIT a"],
];

#[test]
fn commands_that_can_not_run_get_the_error_of_redis() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&["--enable-debug-command", "yes"])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let mut cases: Vec<Vec<u8>> = LINES
        .iter()
        .map(|lines| lines.iter().flat_map(|text| line(text)).collect())
        .collect();
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let mut words: Vec<&[u8]> = vec![b"nosuch"];
    words.extend(many.iter().map(|word| word.as_bytes()));
    cases.extend([
        resp(&words),
        resp(&[b"nosuch", &[b'x'; 50], &[b'y'; 50], &[b'z'; 50], b"w"]),
        resp(&[&[b'n'; 300], &[b'y'; 300]]),
        resp(&[b"no\r\nsuch", b"a\r\nb"]),
        resp(&[b"no\x00such", b"a\x00b"]),
        resp(&[b"config", b"no\x00such"]),
        resp(&[b"\xff\xfe", b"\xfd"]),
        resp(&[b""]),
        resp(&[b"", b"a"]),
        resp(&[b"FOO\n", b"bar"]),
        resp(&[b"CLIENT", b"SETNAME", b"a b"]),
        resp(&[b"RESTORE", b"k", b"0", b"\x00\x01a\x0a\x00\0\0\0\0\0\0\0\0"]),
        resp(&[
            b"RESTORE",
            b"k",
            b"0",
            b"\x00\xff\xff\xff\xff\x0a\x00\0\0\0\0\0\0\0\0",
        ]),
    ]);
    let mut failures = Vec::new();
    for case in &cases {
        pair.compare(case, &mut failures)?;
    }
    none(failures, cases.len());
    Ok(())
}

/// CONFIG SET that is refused: name and value pairs.
const SETTINGS: &[&[&str]] = &[
    &["nosuch", "1"],
    &["a"],
    &[],
    &["maxmemory", "abc"],
    &["maxmemory", "-1"],
    &["maxmemory", "1", "maxmemory", "2"],
    &["port", "-1"],
    &["port", "70000"],
    &["hz", "x"],
    &["hz", ""],
    &["appendonly", "maybe"],
    &["appendfsync", "sometimes"],
    &["databases", "5"],
    &["dir", "/nonexistent"],
    &["save", "abc"],
    &["save", "1"],
    &["save", "0 1"],
    &["maxclients", "0"],
    &["hz", "5", "nosuch", "1"],
    &["hz", "7", "maxmemory", "zz"],
    &["proto-max-bulk-len", "1"],
    &["client-query-buffer-limit", "1"],
    &["client-output-buffer-limit", "x"],
    &["client-output-buffer-limit", "normal 1 2"],
    &["notify-keyspace-events", "xyzq"],
    &["maxmemory-policy", "x"],
    &["bind", "999.1.1.1"],
    &["unixsocketperm", "999"],
    &["oom-score-adj-values", "1 2"],
    &["latency-tracking-info-percentiles", "101"],
    &["slowlog-log-slower-than", "-2"],
    &["tcp-keepalive", "-1"],
    &["replicaof", "x 1"],
    &["requirepass", "x", "requirepass", "y"],
    &["list-max-listpack-size", "x"],
    &["dbfilename", "a/b"],
    &["appendfilename", "x"],
    &["appenddirname", "x"],
];

#[test]
fn config_set_refuses_as_redis_does_and_changes_nothing() -> anyhow::Result<()> {
    let Some(pair) = Pair::start(&[])? else {
        return Ok(());
    };
    let pair = pair.ready()?;
    let mut failures = Vec::new();
    for setting in SETTINGS {
        let mut words: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
        words.extend(setting.iter().map(|word| word.as_bytes()));
        pair.compare(&resp(&words), &mut failures)?;
        // The last is still the default; what was set together with a bad one, too.
        for name in ["hz", "maxmemory", "save", "maxclients", "appendonly"] {
            pair.compare(&line(&format!("CONFIG GET {name}")), &mut failures)?;
        }
    }
    none(failures, SETTINGS.len());
    Ok(())
}
