//! What a command leaves in the log.

use super::{AOF, segment};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::Reply;

/// The commands of a segment whose words hold no asterisk, SELECT left out, and `T` for what looks
/// like a time in milliseconds.
fn commands(content: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(content);
    let commands = text.split('*').skip(1).map(|command| {
        let words = command.lines().skip(2).step_by(2);
        let words = words.map(|word| match word.parse::<u64>() {
            Ok(number) if number > 1_000_000_000_000 => "T",
            _ => word,
        });
        words.collect::<Vec<_>>().join(" ")
    });
    commands
        .filter(|command| !command.starts_with("SELECT"))
        .collect()
}

#[test]
fn what_changed_nothing_is_not_appended_and_commands_are_rewritten_to_their_effect() {
    let kinds: &[Kind] = match has_redis() {
        true => &[Kind::RedRock, Kind::Redis],
        false => &[Kind::RedRock],
    };
    for &kind in kinds {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(kind, folder.path(), &AOF).unwrap();
        let mut client = server.client().unwrap();
        for line in [
            "SET a 1",
            "DEL missing",
            "SETNX a 2",
            "EXPIRE missing 5",
            "SREM missing x",
            "SADD s x",
            "SADD s x",
            "SPOP s",
            "EXPIRE a 100",
            "SET b 1 EX 100",
            "INCRBYFLOAT f 0.5",
            "GETDEL b",
            "LPUSH list y",
            "BLPOP list 0",
        ] {
            client.ok(line).unwrap();
        }
        let script =
            "redis.call('SET', 'c', '1') redis.call('GET', 'c') return redis.call('INCR', 'c')";
        assert_eq!(client.run(&["EVAL", script, "0"]).unwrap(), Reply::Int(2));
        server.kill().unwrap();
        let found = commands(&std::fs::read(segment(folder.path())).unwrap());
        let expected = [
            "SET a 1",
            "SADD s x",
            "SREM s x",
            "PEXPIREAT a T",
            "SET b 1 PXAT T",
            "SET f 0.5 KEEPTTL",
            "DEL b",
            "LPUSH list y",
            "LPOP list",
            "MULTI",
            "SET c 1",
            "INCR c",
            "EXEC",
        ];
        assert_eq!(found, expected, "{kind:?}");
    }
}
