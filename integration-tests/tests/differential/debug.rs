//! DEBUG as test suites use it: replies and error texts of a real Redis, in and out of MULTI.

use redrock_integration_tests::daemons::companions_up;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};

/// Left out are encodings that Redis 7.2 chose anew, and texts that compress: compressors differ. `@n` stands for n bytes of text.
const SESSION: &[&str] = &[
    "SET s hello",
    "SET n 12345",
    "SET big 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "RPUSH l a b c",
    "RPUSH L @600 @600 @9000 x",
    "SADD si 1 2 3",
    "SADD st a b c",
    "HSET h f v",
    "ZADD z 1 a 2.5 b",
    "SET e v PX 100000000",
    "DEBUG",
    "DEBUG SLEEP",
    "DEBUG SLEEP 0",
    "DEBUG SLEEP abc",
    "DEBUG SLEEP -1",
    "DEBUG SLEEP 0.01 x",
    "DEBUG OBJECT",
    "DEBUG OBJECT none",
    "DEBUG OBJECT s",
    "DEBUG OBJECT n",
    "DEBUG OBJECT big",
    "DEBUG OBJECT L",
    "DEBUG OBJECT si",
    "DEBUG OBJECT h",
    "DEBUG OBJECT z",
    "DEBUG OBJECT s x",
    "DEBUG DIGEST",
    "DEBUG DIGEST x",
    "DEBUG DIGEST-VALUE",
    "DEBUG DIGEST-VALUE s n big l L si st h z e none",
    "DEBUG RELOAD",
    "DEBUG RELOAD FOO",
    "DEBUG RELOAD NOSAVE",
    "DEBUG RELOAD NOSAVE NOFLUSH MERGE",
    "DEBUG RELOAD MERGE",
    "DEBUG DIGEST",
    "DEBUG OBJECT L",
    "DEBUG OBJECT s",
    "DEBUG SET-ACTIVE-EXPIRE",
    "DEBUG SET-ACTIVE-EXPIRE 0",
    "DEBUG SET-ACTIVE-EXPIRE abc",
    "DEBUG SET-ACTIVE-EXPIRE 1 2",
    "SET gone v PX 1",
    "DEBUG SLEEP 0.01",
    "DBSIZE",
    "DEBUG DIGEST-VALUE gone",
    "DEBUG OBJECT gone",
    "DEBUG LISTPACK gone",
    "EXISTS gone",
    "DEBUG OBJECT gone",
    "DEBUG SET-ACTIVE-EXPIRE 1",
    "DEBUG CHANGE-REPL-ID",
    "DEBUG CHANGE-REPL-ID x",
    "DEBUG STRINGMATCH-TEST",
    "DEBUG nosuch",
    "DEBUG nosuch a b",
    "DEBUG SDSLEN n",
    "DEBUG SDSLEN l",
    "DEBUG SDSLEN none",
    "DEBUG LISTPACK h",
    "DEBUG LISTPACK s",
    "DEBUG LISTPACK none",
    "DEBUG QUICKLIST L",
    "DEBUG QUICKLIST s",
    "DEBUG ERROR foo",
    "DEBUG LOG foo",
    "DEBUG POPULATE -1",
    "DEBUG POPULATE 3",
    "DEBUG POPULATE 3 k 10",
    "GET k:1",
    "DEBUG DIGEST",
    "FLUSHALL",
    "DEBUG DIGEST",
    "SET k v",
    "MULTI",
    "DEBUG SLEEP 0",
    "DEBUG OBJECT k",
    "DEBUG DIGEST",
    "DEBUG DIGEST-VALUE k",
    "DEBUG SET-ACTIVE-EXPIRE 1",
    "SET m 1",
    "DEBUG RELOAD",
    "SET m2 1",
    "DEBUG RELOAD FOO",
    "DEBUG CHANGE-REPL-ID",
    "EXEC",
    "DBSIZE",
    "DEBUG DIGEST",
];

/// With the log on, after what was written to it.
const WITH_LOG: &[&str] = &[
    "SET a 1",
    "RPUSH l a b c",
    "DEBUG DIGEST",
    "DEBUG LOADAOF",
    "DEBUG DIGEST",
    "DBSIZE",
    "INCR a",
    "DEBUG LOADAOF",
    "GET a",
];

/// Without what differs from run to run: the address and the clock.
fn masked(reply: Reply) -> Reply {
    match reply {
        Reply::Status(text) if text.starts_with("Value at:") => {
            let words = text.split(' ').map(|word| match word.split_once(':') {
                Some((name @ ("at" | "lru"), _)) => format!("{name}:"),
                _ => word.to_owned(),
            });
            Reply::Status(words.collect::<Vec<_>>().join(" "))
        }
        Reply::Array(elements) => Reply::Array(elements.into_iter().map(masked).collect()),
        other => other,
    }
}

fn replies(client: &mut Client, session: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for line in session {
        let word = |word: &str| match word.strip_prefix('@').map(str::parse) {
            Some(Ok(bytes)) => "v".repeat(bytes),
            _ => word.to_owned(),
        };
        let words: Vec<String> = line.split(' ').map(word).collect();
        found.push(format!("{line}: {:?}", masked(client.run(&words)?)));
    }
    Ok(found)
}

#[test]
fn debug_answers_as_redis_does() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for (session, options) in [(SESSION, &[][..]), (WITH_LOG, &["--appendonly", "yes"][..])] {
        let mut both = Vec::new();
        for kind in [Kind::Redis, Kind::RedRock] {
            let folder = tempfile::tempdir()?;
            let options = [options, &["--enable-debug-command", "yes"]].concat();
            let server = Server::start(kind, folder.path(), &options)?;
            let mut client = server.client()?;
            if kind == Kind::RedRock {
                companions_up(&mut client)?;
            }
            both.push(replies(&mut client, session)?);
        }
        let pairs = both[0].iter().zip(&both[1]);
        let differ: Vec<_> = pairs.filter(|(real, ours)| real != ours).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
    Ok(())
}

/// Redis 7.2 has it, 7.0 has not.
#[test]
fn debug_stringmatch_len_matches_long_texts() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--enable-debug-command", "yes", "--companions", "external"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    for (line, found) in [
        ("DEBUG STRINGMATCH-LEN a* abc", 1),
        ("DEBUG STRINGMATCH-LEN a* b", 0),
        ("DEBUG STRINGMATCH-LEN [ab]?c abc", 1),
    ] {
        assert_eq!(client.ok(line)?.int(), Some(found), "{line}");
    }
    let wrong = client.run(&["DEBUG", "STRINGMATCH-LEN", "a"])?;
    let text = "ERR unknown subcommand or wrong number of arguments for 'STRINGMATCH-LEN'. Try \
                DEBUG HELP.";
    assert_eq!(wrong, Reply::Error(text.into()));
    // Exponential without a bound on what is tried.
    let pattern = format!("{}b", "a*".repeat(2_000));
    let text = "a".repeat(50_000);
    assert_eq!(
        client
            .run(&["DEBUG", "STRINGMATCH-LEN", &pattern, &text])?
            .int(),
        Some(0)
    );
    Ok(())
}
