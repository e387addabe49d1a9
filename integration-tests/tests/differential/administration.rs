//! Administration: settings with good and bad values, what the server tells of itself, and commands of
//! what it is not: a cluster, a replica, a host of modules.

use crate::families::Family;
use crate::pair::{CHECKS, Pair};
use crate::templates;
use crate::wire::{Reply, Words};
use crate::words::Generator;

/// Settings that change nothing for the tests, and values for them.
const SETTINGS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "128|5|0|-1|x|1kb|$int"),
    ("hash-max-ziplist-value", "64|1|1kb|x||$int"),
    ("list-max-listpack-size", "-2|-5|-6|0|128|x|$int"),
    ("list-compress-depth", "0|1|-1|x|$int"),
    ("set-max-intset-entries", "512|4|-1|x|$int"),
    ("zset-max-listpack-entries", "128|3|-1|x|$int"),
    ("zset-max-ziplist-value", "64|2k|2KB|2kib|x|$int"),
    ("stream-node-max-entries", "100|0|-1|x|$int"),
    ("stream-node-max-bytes", "4096|1mb|-1|x|$int"),
    ("hll-sparse-max-bytes", "3000|16000|-1|x|$int"),
    ("maxmemory-samples", "5|1|0|64|65|x|$int"),
    ("lfu-log-factor", "10|0|-1|x|$int"),
    ("lfu-decay-time", "1|0|-1|x|$int"),
    ("active-expire-effort", "1|10|0|11|x|$int"),
    ("hz", "10|1|0|500|501|x|$int"),
    ("dynamic-hz", "yes|no|YES|x|1|"),
    ("activerehashing", "yes|no|No|x|0|"),
    ("lazyfree-lazy-user-del", "yes|no|x"),
    ("lazyfree-lazy-user-flush", "yes|no|x"),
    ("notify-keyspace-events", "KEA|AKE|Kg$lshzxetdn|Km|x|Ex||g"),
    ("tcp-keepalive", "300|0|-1|x|$int"),
    ("lua-time-limit", "5000|0|-1|x"),
    ("busy-reply-threshold", "5000|0|-1|x"),
    ("slowlog-log-slower-than", "-1|10000000|x|-2"),
    ("slowlog-max-len", "128|0|-1|x|$int"),
    ("latency-monitor-threshold", "0|10000000|-1|x"),
    ("latency-tracking", "yes|no|x"),
    (
        "latency-tracking-info-percentiles",
        "50|50~99~99.9||x|101|-1",
    ),
    ("repl-timeout", "60|0|-1|x"),
    ("repl-backlog-ttl", "3600|0|-1|x"),
    ("replica-priority", "100|0|-1|x"),
    ("slave-priority", "100|7|x"),
    ("replica-announced", "yes|no|x"),
    ("min-slaves-max-lag", "10|0|-1|x"),
    ("client-output-buffer-limit", "x|normal|pubsub"),
    ("client-query-buffer-limit", "1gb|2mb|1kb|x|-1"),
    ("proto-max-bulk-len", "512mb|1mb|1kb|x|-1"),
    ("maxmemory-policy", "noeviction|x|NOEVICTION|"),
    ("loglevel", "notice|verbose|NOTICE|x|"),
    ("tracking-table-max-keys", "1000000|0|-1|x"),
    ("acllog-max-len", "128|0|-1|x"),
    ("rdb-save-incremental-fsync", "yes|no|x"),
    ("no-appendfsync-on-rewrite", "yes|no|x"),
    ("stop-writes-on-bgsave-error", "yes|no|x"),
    ("crash-log-enabled", "yes|no|x"),
    ("jemalloc-bg-thread", "yes|no|x"),
    ("socket-mark-id", "0|x"),
    ("list-max-ziplist-size", "-2|x"),
];

/// Settings that nobody may change while the server runs, or at all from afar.
const REFUSED: &[&str] = &[
    "databases 5",
    "daemonize yes",
    "cluster-enabled yes",
    "rdbchecksum no",
    "io-threads 2",
    "aclfile x",
    "appendfilename x",
    "dir /",
    "dbfilename x.rdb",
    "enable-debug-command yes",
    "nosuch 1",
    "",
    "hz",
    "hz 10 hz 11",
    "hz 10 nosuch 1",
    "hz 10 daemonize yes",
    "hz 10 slowlog-max-len",
    "list-max-listpack-size 3 list-max-ziplist-size 4",
    "client-output-buffer-limit normal 0 0 0 x",
    "client-output-buffer-limit normal~0~0~0",
];

const COMMANDS: &[&str] = &[
    "CONFIG GET hash-max-*|*-max-*|lfu-????-*|nosuch|HZ|[hl]z",
    "CONFIG GET",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "CONFIG HELP",
    "CONFIG x",
    "LATENCY LATEST",
    "LATENCY HISTORY command|nosuch",
    "LATENCY RESET ?command|nosuch",
    "LATENCY GRAPH command|nosuch",
    "LATENCY DOCTOR",
    "LATENCY HISTOGRAM nosuch|config",
    "LATENCY HELP",
    "LATENCY x",
    "MEMORY USAGE $k ?SAMPLES|x ?0|5|-1|x",
    "MEMORY HELP",
    "MEMORY PURGE",
    "MEMORY x",
    "SLOWLOG GET ?0|-1|5|-2|x",
    "SLOWLOG LEN",
    "SLOWLOG RESET",
    "SLOWLOG HELP",
    "SLOWLOG x",
    "COMMAND COUNT",
    "COMMAND HELP",
    "COMMAND x",
    "COMMAND LIST FILTERBY x|MODULE|ACLCAT|PATTERN x",
    "COMMAND LIST FILTERBY MODULE nosuch",
    "COMMAND LIST FILTERBY ACLCAT nosuch",
    "COMMAND INFO nosuch",
    "COMMAND DOCS nosuch",
    "COMMAND GETKEYS",
    "COMMAND GETKEYSANDFLAGS x",
    "CLIENT HELP",
    "CLIENT LIST TYPE normal|x|master|replica|pubsub",
    "CLIENT LIST ID 999999|x|-1",
    "CLIENT LIST x",
    "CLIENT KILL 1.2.3.4:5",
    "CLIENT KILL ID 999999|x|0|-1",
    "CLIENT KILL TYPE x|master",
    "CLIENT KILL USER nosuch|x",
    "CLIENT KILL ADDR 1.2.3.4:5 ?LADDR ?1.2.3.4:5 ?SKIPME ?yes|no|x",
    "CLIENT KILL",
    "CLIENT PAUSE 0|x|-1 ?WRITE|ALL|x",
    "CLIENT UNPAUSE",
    "CLIENT TRACKING on|off|x ?REDIRECT ?999999|x ?BCAST ?PREFIX ?k ?OPTIN ?OPTOUT ?NOLOOP",
    "CLIENT TRACKING off",
    "CLIENT TRACKINGINFO",
    "CLIENT CACHING yes|no|x",
    "CLIENT GETREDIR",
    "CLUSTER INFO|NODES|SLOTS|x|HELP",
    "READWRITE",
    "READONLY",
    "ASKING",
    "MODULE LIST|HELP|x",
    "MODULE UNLOAD x",
    "ROLE",
    "LASTSAVE",
    "REPLCONF x ?y",
    "REPLICAOF",
    "REPLICAOF NO ONE",
    "SLAVEOF NO ONE",
    "REPLICAOF x x",
    "FAILOVER ?ABORT|x|TIMEOUT|TO ?5|x",
    "WAIT 0 0|-1|x",
    "WAIT x 0",
    "SHUTDOWN ABORT|x",
    "SHUTDOWN ABORT NOW",
    "BGSAVE x",
    "OBJECT HELP",
    "PUBSUB HELP",
    "XINFO HELP",
    "XGROUP HELP",
    "SCRIPT HELP",
    "ACL HELP",
    "LOLWUT VERSION x",
    "INFO nosuch",
    "DBSIZE",
];

fn setting(generator: &mut Generator) -> (&'static str, &'static str) {
    SETTINGS[generator.below(SETTINGS.len() as u32) as usize]
}

/// `CONFIG SET` of one to three settings.
fn set(generator: &mut Generator) -> Words {
    if generator.below(8) == 0 {
        let refused = generator.pick(REFUSED);
        return generator.undamaged(&[&format!("CONFIG SET {refused}")]);
    }
    let mut words: Words = vec![b"CONFIG".to_vec(), b"SET".to_vec()];
    for _ in 0..1 + generator.below(5) / 3 {
        let (name, values) = setting(generator);
        let value = match name {
            "client-output-buffer-limit" => vec![
                generator
                    .pick(&[
                        "normal 0 0 0",
                        "replica 256mb 64mb 60",
                        "slave 1gb 1 1 pubsub 32mb 8mb 60",
                        "PUBSUB 32mb 8mb 60",
                        "x 0 0 0",
                        "normal 0 0",
                        "normal x 0 0",
                        "normal 0 0 -1",
                        "master 0 0 0",
                        "",
                    ])
                    .into(),
            ],
            _ => vec![generator.undamaged(&[values]).join(&b' ')],
        };
        words.push(match generator.below(10) {
            0 => name.to_ascii_uppercase().into(),
            _ => name.into(),
        });
        words.extend(value);
    }
    words
}

/// What a command's words say of its keys.
fn keys_of(generator: &mut Generator) -> Words {
    let families = [
        templates::STRINGS,
        templates::LISTS,
        templates::SETS,
        templates::SORTED_SETS,
        templates::KEYS,
        templates::STREAMS,
        templates::PLACES,
    ];
    let family = families[generator.below(families.len() as u32) as usize];
    let asked = generator.pick(&["GETKEYS", "GETKEYSANDFLAGS"]);
    let mut words: Words = vec![b"COMMAND".to_vec(), asked.into()];
    words.extend(generator.command(family));
    words
}

/// Drives the family; the settings are as before in the end.
pub(crate) fn drive(
    pair: &mut Pair,
    generator: &mut Generator,
    _family: &Family,
    steps: u32,
) -> anyhow::Result<()> {
    let quiet = "CONFIG SET slowlog-log-slower-than -1 latency-monitor-threshold 0";
    pair.line(CHECKS, quiet)?;
    pair.line(CHECKS, "SLOWLOG RESET")?;
    pair.line(CHECKS, "LATENCY RESET")?;
    let mut before = Vec::new();
    for (name, _) in SETTINGS {
        let [ours, theirs] = pair.both(CHECKS, &format!("CONFIG GET {name}"))?;
        let value = |reply: &Reply| reply.elements().get(1).map(|value| value.bytes().to_vec());
        before.push((*name, [ours, theirs].map(|reply| value(&reply))));
    }
    for _ in 0..steps {
        let at = generator.below(CHECKS as u32) as usize;
        let words = match generator.below(10) {
            0..3 => set(generator),
            3..5 => keys_of(generator),
            5 => {
                let (name, _) = setting(generator);
                generator.undamaged(&[&format!("CONFIG GET {name}")])
            }
            _ => generator.undamaged(COMMANDS),
        };
        pair.run(at, &words)?;
        if pair.is_hopeless() {
            break;
        }
    }
    for (name, values) in before {
        let words = values.map(|value| {
            let value = value.unwrap_or_default();
            vec![b"CONFIG".to_vec(), b"SET".to_vec(), name.into(), value]
        });
        pair.each(CHECKS, words)?;
    }
    for at in 0..CHECKS {
        pair.line(at, "RESET")?;
    }
    Ok(())
}

/// Replies of this family in a form in which both must agree; `None`: as they are.
pub(crate) fn comparable(name: &str, sub: &str, reply: &Reply) -> Option<Reply> {
    let nothing = || Some(Reply::Null(b'$'));
    match (name, sub, reply) {
        ("CONFIG", "GET", Reply::Many(kind, pairs)) => {
            let mut pairs: Vec<_> = pairs
                .chunks(2)
                .filter(|pair| {
                    let name = pair[0].bytes();
                    SETTINGS.iter().any(|(known, _)| known.as_bytes() == name)
                })
                .map(shown_flags)
                .collect();
            pairs.sort();
            Some(Reply::Many(*kind, pairs.concat()))
        }
        // What it counts depends on what a server is made of.
        ("MEMORY", "USAGE", Reply::Line(b':', _))
        | ("COMMAND", "COUNT", _)
        | ("LASTSAVE", _, _)
        | ("LOLWUT", _, _)
        | ("CLIENT", "LIST", Reply::Bulk(..))
        | ("LATENCY", "HISTOGRAM", Reply::Many(..))
        | ("INFO", _, _) => nothing(),
        ("ROLE", _, Reply::Many(kind, parts)) if parts.len() == 3 => {
            // The offset is each server's own.
            Some(Reply::Many(*kind, vec![parts[0].clone(), parts[2].clone()]))
        }
        // Help grows from version to version.
        (_, "HELP", Reply::Many(..)) => nothing(),
        _ => None,
    }
}

/// Redis forgets `n` beside `A` when it shows `notify-keyspace-events`, and so at CONFIG REWRITE; we do
/// not.
fn shown_flags(pair: &[Reply]) -> Vec<Reply> {
    match pair {
        [name, Reply::Bulk(kind, flags)]
            if name.bytes() == b"notify-keyspace-events" && flags.contains(&b'A') =>
        {
            let kept = flags.iter().copied().filter(|flag| *flag != b'n');
            vec![name.clone(), Reply::Bulk(*kind, kept.collect())]
        }
        pair => pair.to_vec(),
    }
}
