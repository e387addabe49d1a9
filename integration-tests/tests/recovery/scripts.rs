//! Logs of Redis before 7, which hold scripts themselves and not what they did.

use super::{AOF, segment};
use redrock_integration_tests::dataset;
use redrock_integration_tests::process::{Kind, Server, copy_folder, has_redis};
use redrock_integration_tests::resp::{Reply, encode};

const LOADED: &str = "return redis.call('append', KEYS[1], ARGV[1])";
const LIBRARY: &str = "#!lua name=counting\nredis.register_function('count', function(keys, args) \
                       return redis.call('incrby', keys[1], args[1]) end)";
/// Each level is a call from C with a buffer of its own on the stack.
const DEEP: &str = "local function deep(n) if n == 0 then return 'd' end \
                    return (string.gsub('x', 'x', function() return deep(n - 1) end)) end \
                    return redis.call('set', KEYS[1], deep(180))";

/// The commands of such a log. `loaded` is the digest of [`LOADED`].
fn log(loaded: &str) -> Vec<u8> {
    let commands: [&[&str]; 16] = [
        &["SELECT", "0"],
        &["SET", "a", "1"],
        &[
            "EVAL",
            "return redis.call('set', KEYS[1], ARGV[1])",
            "1",
            "set",
            "by a script",
        ],
        &[
            "EVAL",
            "redis.call('select', 2) redis.call('rpush', 'list', 'x', 'y')",
            "0",
        ],
        &["SCRIPT", "LOAD", LOADED],
        &["EVALSHA", loaded, "1", "text", "one "],
        &["MULTI"],
        &["EVALSHA", loaded, "1", "text", "two"],
        &["EVAL", "return redis.call('incr', 'count')", "0"],
        &["EXEC"],
        &["FUNCTION", "LOAD", LIBRARY],
        &["FCALL", "count", "1", "count", "5"],
        &[
            "EVAL",
            "return redis.call('pexpireat', 'set', '4000000000000')",
            "0",
        ],
        &["EVAL", DEEP, "1", "deep"],
        &["SCRIPT", "FLUSH"],
        &["INCR", "count"],
    ];
    let mut bytes = Vec::new();
    for command in commands {
        encode(&mut bytes, command);
    }
    bytes
}

/// What fails does so again and has run up to there. Redis 7 dies of an error in its log.
fn failing() -> Vec<u8> {
    let commands: [&[&str]; 3] = [
        &[
            "EVAL",
            "redis.call('set', 'half', 'way') redis.call('incr', 'half')",
            "0",
        ],
        &["EVAL", "no Lua", "0"],
        &["EVALSHA", "0000000000000000000000000000000000000000", "0"],
    ];
    let mut bytes = Vec::new();
    for command in commands {
        encode(&mut bytes, command);
    }
    bytes
}

#[test]
fn scripts_in_a_log_run_again_as_in_redis() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &AOF)?;
    let mut client = server.client()?;
    let loaded = client.run(&["SCRIPT", "LOAD", LOADED])?.text();
    server.kill()?;
    let path = segment(folder.path());
    let bytes = [std::fs::read(&path)?, log(&loaded)].concat();
    std::fs::write(&path, bytes)?;
    let copy = tempfile::tempdir()?;
    copy_folder(folder.path(), copy.path())?;
    let bytes = [std::fs::read(&path)?, failing()].concat();
    std::fs::write(&path, bytes)?;

    let server = Server::start(Kind::RedRock, folder.path(), &AOF)?;
    let mut client = server.client()?;
    for (key, value) in [
        ("a", "1"),
        ("set", "by a script"),
        ("half", "way"),
        ("text", "one two"),
        ("count", "7"),
        ("deep", "d"),
    ] {
        assert_eq!(client.ok(&format!("GET {key}"))?.text(), value, "{key}");
    }
    let known = client.ok(&format!("SCRIPT EXISTS {loaded}"))?;
    assert_eq!(known, Reply::Array(vec![Reply::Int(0)]), "it was flushed");
    let mut found = dataset::read(&mut client, 4)?;
    assert!(found.contains_key(&(2, b"list".to_vec())));
    // What they did is in the log once: as the scripts.
    server.kill()?;
    let server = Server::start(Kind::RedRock, folder.path(), &AOF)?;
    assert_eq!(dataset::read(&mut server.client()?, 4)?, found);
    found.remove(&(0, b"half".to_vec()));
    if has_redis() {
        let redis = Server::start(Kind::Redis, copy.path(), &AOF)?;
        assert_eq!(dataset::read(&mut redis.client()?, 4)?, found);
    }
    Ok(())
}
