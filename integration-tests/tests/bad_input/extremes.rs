//! Every command with arguments at the ends of their ranges: none takes the server down, hangs it
//! or costs a client its connection, whether the values are in memory or on disk.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};

const EXTREMES: &[&str] = &[
    "9223372036854775807",
    "9223372036854775806",
    "-9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999",
    "9223372036854775",
    "-9223372036854776",
    "4611686018427387904",
    "4294967296",
    "4294967295",
    "2147483648",
    "-2147483648",
    "536870912",
    "100",
    "2",
    "1",
    "0",
    "-1",
    "-2",
    "1e308",
    "-1e308",
    "1e4932",
    "1e-4950",
    "5e-324",
    "inf",
    "-inf",
    "nan",
    "0x10",
    "1.5",
    "(1",
    "(inf",
    "(",
    "[a",
    "[",
    "-",
    "+",
    "",
];

/// Words that mean something to some command.
const WORDS: &str = "EX PX EXAT PXAT NX XX GT LT CH INCR KEEPTTL GET PERSIST LIMIT COUNT MATCH \
    WITHSCORES WITHVALUES BYSCORE BYLEX REV WEIGHTS AGGREGATE SUM MIN MAX LEFT RIGHT BEFORE AFTER \
    RANK MAXLEN STORE BY ASC DESC ALPHA REPLACE ABSTTL IDLETIME FREQ DB BIT BYTE AND OR XOR NOT \
    DIFF u8 i64 u63 i1 u64 #0 #9223372036854775807 SET INCRBY OVERFLOW WRAP SAT FAIL LEN IDX \
    MINMATCHLEN WITHMATCHLEN TYPE string * ? a* KEYS m1 f1 v";

const KEYS: &[&str] = &[
    "s", "i", "l", "h", "x", "xi", "z", "ll", "hh", "xx", "zz", "none",
];

/// What ends the server or the connection, waits, stops the work of others, answers more than once,
/// or changes what the commands after it do to this client.
const LEFT_OUT: &str = "shutdown debug monitor subscribe psubscribe ssubscribe unsubscribe \
    punsubscribe sunsubscribe replicaof slaveof sync psync failover quit blpop brpop blmove blmpop bzpopmin bzpopmax bzmpop brpoplpush wait \
    waitaof save bgsave bgrewriteaof reset replconf auth hello select multi client config acl";

/// Names of commands and subcommands, and how many words each has at least.
fn commands(client: &mut Client) -> anyhow::Result<Vec<(Vec<String>, usize)>> {
    let mut found = Vec::new();
    for command in client.ok("COMMAND")?.elements() {
        let facts = command.elements();
        let name = facts.first().map(Reply::text).unwrap_or_default();
        if LEFT_OUT.split_whitespace().any(|left_out| left_out == name) {
            continue;
        }
        let subcommands = facts.get(9).cloned().map_or(vec![], Reply::elements);
        let entries = match subcommands.is_empty() {
            true => vec![facts],
            false => subcommands.into_iter().map(Reply::elements).collect(),
        };
        for facts in entries {
            let words = facts.first().map(Reply::text).unwrap_or_default();
            let arity = facts.get(1).and_then(Reply::int).unwrap_or(1);
            let least = usize::try_from(arity.unsigned_abs())?;
            found.push((words.split('|').map(str::to_owned).collect(), least));
        }
    }
    Ok(found)
}

/// Small and large values of each type.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    client.ok("FLUSHALL")?;
    client.ok("SET s hello")?;
    client.ok("SET i 9223372036854775800")?;
    for (few, many, count) in [("", "", 15), ("l", "-long-enough-to-be-no-listpack", 400)] {
        let (list, hash, set, zset) = match few {
            "" => ("l", "h", "x", "z"),
            _ => ("ll", "hh", "xx", "zz"),
        };
        for n in 0..count {
            client.send(&["RPUSH", list, &format!("e{n}{many}")])?;
            client.send(&["HSET", hash, &format!("f{n}"), &format!("v{n}{many}")])?;
            client.send(&["SADD", set, &format!("m{n}{many}")])?;
            client.send(&["ZADD", zset, &n.to_string(), &format!("m{n}{many}")])?;
            client.send(&["SADD", "xi", &n.to_string()])?;
        }
        for _ in 0..5 * count {
            client.receive()?;
        }
    }
    Ok(())
}

#[test]
fn no_argument_takes_the_server_down_or_hangs_it() -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed());
    let folder = tempfile::tempdir()?;
    let options = [
        ["--enable-rocksdb-feature", "yes"],
        ["--maxmemory", "160mb"],
        ["--companions", "external"],
        ["--proto-max-bulk-len", "1mb"],
    ];
    let server = Server::start(Kind::RedRock, folder.path(), options.as_flattened())?;
    let mut client = server.client()?;
    let commands = commands(&mut client)?;
    anyhow::ensure!(commands.len() > 150, "{} commands", commands.len());
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    for round in 0..between(15_000, 3_000_000) {
        if round % 1000 == 0 {
            fill(&mut client)?;
        }
        if round % 100 == 0 {
            client.ok("ROCKALL")?;
        }
        let mut pick = |from: &[&str]| from[random.random_range(0..from.len())].to_owned();
        let (name, least) = &commands[round as usize % commands.len()];
        let more: usize = pick(&["0", "0", "1", "2", "4"]).parse()?;
        let mut command = name.clone();
        while command.len() < least + more {
            let first = command.len() == name.len();
            let kind = pick(&["extreme", "extreme", "word", "key"]);
            command.push(match kind.as_str() {
                _ if first && pick(&["key", "key", "any"]) == "key" => pick(KEYS),
                "extreme" => pick(EXTREMES),
                "word" => pick(&words),
                _ => pick(KEYS),
            });
        }
        if let Err(error) = client.run(&command) {
            anyhow::bail!("round {round}: {command:?}: {error}\n{}", server.log_text());
        }
    }
    let log = server.log_text();
    anyhow::ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}
