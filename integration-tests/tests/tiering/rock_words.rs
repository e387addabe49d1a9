//! The commands of the tier: arguments, errors, and where they are refused.

use super::{ALONE, error, start, statistic};
use redrock_integration_tests::process::{Kind, Server};

const LINES: [&str; 7] = [
    "ROCKEVICT a",
    "ROCKEVICTHASH h f",
    "ROCKALL",
    "ROCKMEM 1mb",
    "ROCKSTAT",
    "PURGEROCKSDB",
    "ROCK REPORT",
];

#[test]
fn without_a_tier_all_say_what_it_needs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &ALONE)?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    client.ok("HSET h f 1")?;
    for line in LINES {
        let text = "ERR the disk tier is off: it needs maxmemory and enable-rocksdb-feature yes";
        assert_eq!(error(&mut client, line)?, text, "{line}");
    }
    Ok(())
}

#[test]
fn bad_arguments_are_refused_and_nothing_happens() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    for line in [
        "ROCKEVICT",
        "ROCKEVICTHASH h",
        "ROCKALL now",
        "ROCKMEM",
        "ROCKSTAT x",
        "PURGEROCKSDB x",
    ] {
        let name = line.split(' ').next().unwrap_or_default().to_lowercase();
        let text = format!("ERR wrong number of arguments for '{name}' command");
        assert_eq!(error(&mut client, line)?, text, "{line}");
    }
    let arity = "ERR wrong number of arguments for 'rock|report' command";
    assert_eq!(error(&mut client, "ROCK REPORT x")?, arity);
    for size in ["0", "-1", "x", "1xb"] {
        let text = "ERR size is not a number of bytes";
        assert_eq!(error(&mut client, &format!("ROCKMEM {size}"))?, text);
    }
    for timeout in ["0", "-1", "x", "1.5", "86401"] {
        let text = "ERR timeout is not an integer or out of range";
        assert_eq!(error(&mut client, &format!("ROCKMEM 1mb {timeout}"))?, text);
    }
    assert_eq!(error(&mut client, "ROCKMEM 1mb 1 1")?, "ERR syntax error");
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(error(&mut client, "ROCKEVICTHASH a f")?, wrong);
    let unknown = error(&mut client, "ROCK AND ROLL")?;
    anyhow::ensure!(
        unknown.starts_with("ERR unknown subcommand 'AND'"),
        "{unknown}"
    );
    anyhow::ensure!(client.ok("ROCK HELP")?.elements().len() > 3);
    assert_eq!(statistic(&mut client, "spilled_values")?, 0);
    Ok(())
}

#[test]
fn none_may_be_used_where_it_would_hold_others_up() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), "128mb", &ALONE)?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    client.ok("HSET h f 1")?;
    for line in LINES {
        client.ok("MULTI")?;
        let refused = error(&mut client, line)?;
        assert_eq!(
            refused, "ERR Command not allowed inside a transaction",
            "{line}"
        );
        let aborted = error(&mut client, "EXEC")?;
        anyhow::ensure!(aborted.starts_with("EXECABORT"), "{line}: {aborted}");

        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let script = format!("return redis.call({})", words.join(","));
        let refused = client.run(&["EVAL", &script, "0"])?;
        let text = format!("{refused:?}");
        anyhow::ensure!(
            text.contains("This Redis command is not allowed from script"),
            "{line}: {text}"
        );
    }
    // Who may not administer may not move other people's values.
    client.ok("ACL SETUSER reader on >secret +@read ~*")?;
    let mut reader = server.client()?;
    reader.ok("AUTH reader secret")?;
    for line in LINES {
        let refused = error(&mut reader, line)?;
        anyhow::ensure!(refused.starts_with("NOPERM"), "{line}: {refused}");
    }
    assert_eq!(statistic(&mut client, "spilled_values")?, 0);
    Ok(())
}
