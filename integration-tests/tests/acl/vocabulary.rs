//! Random rules and commands.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Commands as they stand in rules.
const COMMANDS: &[&str] = &[
    "get",
    "set",
    "GET",
    "del",
    "mget",
    "mset",
    "lpush",
    "blpop",
    "lmpop",
    "sort",
    "sort_ro",
    "zunionstore",
    "copy",
    "bitfield",
    "publish",
    "subscribe",
    "psubscribe",
    "config",
    "config|get",
    "CONFIG|SET",
    "client",
    "client|list",
    "acl|whoami",
    "acl",
    "multi",
    "ping",
    "info",
    "object",
    "debug",
    "nosuch",
    "config|nosuch",
];

const CATEGORIES: &[&str] = &[
    "read",
    "write",
    "keyspace",
    "string",
    "list",
    "sortedset",
    "hash",
    "set",
    "pubsub",
    "connection",
    "transaction",
    "blocking",
    "fast",
    "slow",
    "dangerous",
    "admin",
    "FAST",
    "nosuch",
];

const PATTERNS: &[&str] = &["a*", "b*", "ab*", "*", "c", "[ab]", "key:?"];

const WHOLE: &[&str] = &[
    "on",
    "on",
    "off",
    "nopass",
    "resetpass",
    "allkeys",
    "resetkeys",
    "allchannels",
    "resetchannels",
    "allcommands",
    "nocommands",
    "+@all",
    "-@all",
    "reset",
    "clearselectors",
    "sanitize-payload",
    "skip-sanitize-payload",
    "ON",
    "nonsense",
    "+",
    "~",
    "",
];

fn pick<'a>(random: &mut StdRng, among: &[&'a str]) -> &'a str {
    among
        .get(random.random_range(0..among.len()))
        .copied()
        .unwrap_or_default()
}

/// A rule that may stand in a selector.
fn permission(random: &mut StdRng) -> String {
    let sign = if random.random_bool(0.7) { '+' } else { '-' };
    match random.random_range(0..10) {
        0..3 => format!("{sign}{}", pick(random, COMMANDS)),
        3..5 => format!("{sign}@{}", pick(random, CATEGORIES)),
        5 => format!("~{}", pick(random, PATTERNS)),
        6 => format!("%R~{}", pick(random, PATTERNS)),
        7 => format!("%W~{}", pick(random, PATTERNS)),
        8 => format!("&{}", pick(random, PATTERNS)),
        _ => format!("+select|{}", random.random_range(0..3)),
    }
}

/// The rules of one SETUSER.
pub(crate) fn rules(random: &mut StdRng) -> Vec<String> {
    let count = random.random_range(0..7);
    (0..count)
        .map(|_| match random.random_range(0..20) {
            0..10 => permission(random),
            10..15 => pick(random, WHOLE).to_owned(),
            15 => format!(">{}", pick(random, &["one", "two", ""])),
            16 => format!("<{}", pick(random, &["one", "two"])),
            17 => format!("#{}", "0a".repeat(random.random_range(31..=32))),
            _ => {
                let inner: Vec<String> = (0..random.random_range(0..4))
                    .map(|_| permission(random))
                    .collect();
                let end = if random.random_bool(0.95) { ")" } else { "" };
                format!("({}{end}", inner.join(" "))
            }
        })
        .collect()
}

/// What users try. Only what leaves both servers alike whoever may do it.
const TRIES: &[&str] = &[
    "GET k",
    "SET k x",
    "SET k x GET",
    "SET k x XX KEEPTTL",
    "DEL k k",
    "EXISTS k k",
    "MGET k k k",
    "MSET k 1 k 2",
    "COPY k k",
    "RENAME k k",
    "LPUSH l k",
    "LRANGE k 0 -1",
    "LMPOP 2 k k LEFT",
    "BLMPOP 0.01 1 k LEFT",
    "SORT k",
    "SORT k BY nosort",
    "SORT k BY w*",
    "SORT k GET #",
    "SORT k STORE k",
    "SORT_RO k",
    "SORT_RO k GET o*",
    "ZUNIONSTORE k 2 k k",
    "ZUNIONSTORE k 5 k",
    "ZUNION 2 k k",
    "BITFIELD k GET u8 0",
    "BITFIELD k SET u8 0 1",
    "BITFIELD_RO k GET u8 0",
    "PUBLISH k x",
    "SPUBLISH k x",
    "PING",
    "ECHO x",
    "SELECT 0",
    "SELECT 1",
    "SELECT 2",
    "CONFIG GET nosuch",
    "CONFIG SET nosuch x",
    "CONFIG NOSUCH",
    "CLIENT GETNAME",
    "CLIENT NO-EVICT off",
    "ACL WHOAMI",
    "ACL CAT nosuch",
    "OBJECT ENCODING k",
    "OBJECT HELP x",
    "TOUCH k k",
    "TYPE k",
    "EXPIRE k 100",
    "TTL k",
    "DBSIZE",
    "WATCH k",
    "UNWATCH",
    "HSET h k x",
    "SINTERSTORE k k k",
    "SMOVE k k x",
    "LCS k k",
    "BITOP AND k k k",
    "SINTERCARD 2 k k",
    "GETEX k PERSIST",
    "APPEND k 1",
    "NOSUCH k",
    "GET",
    "MULTI",
    "EXEC",
    "DISCARD",
    "KEYS k",
    "RANDOMKEY x",
    "SUBSTR k 0 1",
];

const KEYS: &[&str] = &["a", "ab", "a1", "b", "b1", "c", "d", "key:1", "k"];

/// A command with random keys or channels in place of `k`.
pub(crate) fn command(random: &mut StdRng) -> Vec<String> {
    pick(random, TRIES)
        .split(' ')
        .map(|word| match word {
            "k" => pick(random, KEYS).to_owned(),
            other => other.to_owned(),
        })
        .collect()
}
