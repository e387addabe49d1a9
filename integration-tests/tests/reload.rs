//! DEBUG RELOAD and LOADAOF: the data go through their files and back, beside a real Redis.

use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    Server::start(kind, folder, &[&DEBUG, options].concat())
}

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

/// Keys of all types in three databases, with and without expiry.
fn fill(client: &mut Client, keys: usize) -> anyhow::Result<()> {
    for db in [0, 3, 9] {
        client.ok(&format!("SELECT {db}"))?;
        for n in 0..keys {
            let long = "x".repeat(n % 300);
            client.ok(&format!("SET string:{n} {n}{long}"))?;
            client.ok(&format!("RPUSH list:{} a{long} {n}", n % 20))?;
            client.ok(&format!("HSET hash:{} field{n} v{long}", n % 20))?;
            client.ok(&format!("SADD set:{} {n} member{n}", n % 20))?;
            client.ok(&format!("ZADD zset:{} {n}.5 member{n}", n % 20))?;
        }
        client.ok("PEXPIREAT string:1 4102444800000")?;
        client.ok("PEXPIRE hash:1 100000000")?;
    }
    client.ok("SELECT 0")?;
    Ok(())
}

fn digest(client: &mut Client) -> anyhow::Result<String> {
    Ok(client.ok("DEBUG DIGEST")?.text())
}

/// Runs `lines` while another client increments a counter; no increment that was answered may be
/// lost, and none may be answered twice.
fn beside_a_writer(server: &Server, lines: &[&str]) -> anyhow::Result<i64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> anyhow::Result<i64> {
            let mut client = server.client()?;
            let mut last = client.ok("GET counter")?.int().unwrap_or(0);
            while !stop.load(Ordering::Relaxed) {
                let next = client.ok("INCR counter")?.int().unwrap_or(-1);
                anyhow::ensure!(next == last + 1, "{last} was followed by {next}");
                last = next;
            }
            Ok(last)
        });
        let ran = server.client().and_then(|mut client| {
            lines
                .iter()
                .try_for_each(|line| client.ok(line).map(|_| ()))
        });
        stop.store(true, Ordering::Relaxed);
        let last = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        ran?;
        last
    })
}

#[test]
fn a_reload_keeps_the_data_and_loses_no_write_with_and_without_tiering() -> anyhow::Result<()> {
    let tiered = ["--maxmemory", "160mb", "--enable-rocksdb-feature", "yes"];
    for options in [&[][..], &tiered] {
        let folder = tempfile::tempdir()?;
        let server = start(Kind::RedRock, folder.path(), options)?;
        let mut client = server.client()?;
        fill(&mut client, 200)?;
        let before = digest(&mut client)?;
        client.ok("ROCKEVICT string:1 hash:3 list:2").ok();
        client.ok("DEBUG RELOAD")?;
        assert_eq!(digest(&mut client)?, before, "{options:?}");
        assert_eq!(client.ok("DBSIZE")?.int(), Some(280));
        let last = beside_a_writer(&server, &["DEBUG RELOAD"; 5])?;
        assert!(last > 0);
        assert_eq!(client.ok("GET counter")?.int(), Some(last));
        client.ok("DEL counter")?;
        assert_eq!(digest(&mut client)?, before, "{options:?}");
    }
    Ok(())
}

#[test]
fn options_of_reload_do_as_in_redis() -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for kind in [Kind::RedRock, Kind::Redis] {
        if kind == Kind::Redis && !has_redis() {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let server = start(kind, folder.path(), &[])?;
        let mut client = server.client()?;
        let mut seen = Vec::new();
        client.ok("SET kept 1")?;
        client.ok("SET changed old")?;
        client.ok("SET gone soon PX 1")?;
        client.ok("SAVE")?;
        client.ok("DEBUG SLEEP 0.01")?;
        client.ok("SET changed new")?;
        client.ok("SET extra 1")?;
        // What the file has wins, what it does not have stays.
        client.ok("DEBUG RELOAD NOSAVE NOFLUSH MERGE")?;
        seen.push(client.ok("MGET kept changed extra gone")?);
        client.ok("SET changed newer")?;
        client.ok("WATCH kept")?;
        client.ok("DEBUG RELOAD NOSAVE")?;
        client.ok("MULTI")?;
        client.ok("PING")?;
        seen.push(client.ok("EXEC")?);
        seen.push(client.ok("MGET kept changed extra gone")?);
        seen.push(client.ok("DBSIZE")?);
        seen.push(Reply::Error(error(&mut client, "DEBUG RELOAD NOPE")?));
        client.ok("SET saved 1")?;
        client.ok("debug reload merge")?;
        seen.push(client.ok("GET saved")?);
        let info = client.ok("INFO persistence")?.text();
        assert!(info.contains("rdb_changes_since_last_save:0\r\n"), "{info}");
        std::fs::remove_file(folder.path().join("dump.rdb"))?;
        seen.push(Reply::Error(error(&mut client, "DEBUG RELOAD NOSAVE")?));
        outcomes.push(seen);
    }
    let (first, rest) = outcomes.split_first().expect("our server");
    rest.iter().for_each(|other| assert_eq!(first, other));
    Ok(())
}

#[test]
fn a_reload_that_fails_leaves_the_data() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    client.ok("SAVE")?;
    client.ok("SET b 2")?;
    // Without MERGE the file may hold nothing that is there.
    let text = error(&mut client, "DEBUG RELOAD NOSAVE NOFLUSH")?;
    assert!(text.starts_with("ERR Error trying to load"), "{text}");
    assert!(
        server.log_text().contains("duplicated key"),
        "{}",
        server.log_text()
    );
    let path = folder.path().join("dump.rdb");
    let bytes = std::fs::read(&path)?;
    std::fs::write(&path, &bytes[..bytes.len() - 12])?;
    error(&mut client, "DEBUG RELOAD NOSAVE")?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(2));
    // Within a transaction nothing can be loaded from a file that others have written.
    client.ok("MULTI")?;
    client.ok("DEBUG RELOAD NOSAVE")?;
    assert!(matches!(
        &client.ok("EXEC")?.elements()[..],
        [Reply::Error(_)]
    ));
    error(&mut client, "DEBUG LOADAOF")?;
    assert_eq!(client.ok("MGET a b")?.elements().len(), 2);

    let folder = tempfile::tempdir()?;
    let server = start(Kind::RedRock, folder.path(), &["--companions", "external"])?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    let text = error(&mut client, "DEBUG RELOAD")?;
    assert!(text.starts_with("ERR persister is not available"), "{text}");
    assert_eq!(client.ok("GET a")?.text(), "1");
    Ok(())
}

#[test]
fn the_log_is_loaded_again_without_losing_a_write() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes"];
    let server = start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    fill(&mut client, 100)?;
    let before = digest(&mut client)?;
    client.ok("DEBUG LOADAOF")?;
    assert_eq!(digest(&mut client)?, before);
    client.ok("BGREWRITEAOF")?;
    let last = beside_a_writer(&server, &["DEBUG LOADAOF"; 5])?;
    assert_eq!(client.ok("GET counter")?.int(), Some(last));
    // What Redis's suite puts into the stream, and what is no command, too.
    client.ok("DEBUG REPLICATE SET replicated 1")?;
    assert_eq!(client.ok("EXISTS replicated")?.int(), Some(0));
    client.ok("DEBUG LOADAOF")?;
    assert_eq!(client.ok("DEL replicated counter")?.int(), Some(2));
    assert_eq!(digest(&mut client)?, before);
    server.kill()?;
    let server = start(Kind::RedRock, folder.path(), &options)?;
    assert_eq!(digest(&mut server.client()?)?, before);
    Ok(())
}

#[test]
fn how_long_or_often_a_key_was_used_is_saved_where_the_policy_goes_by_it() -> anyhow::Result<()> {
    for (policy, how, asked) in [
        ("allkeys-lru", ["IDLETIME", "5000"], "IDLETIME"),
        ("volatile-lfu", ["FREQ", "200"], "FREQ"),
        ("allkeys-random", ["IDLETIME", "5000"], "IDLETIME"),
    ] {
        let folder = tempfile::tempdir()?;
        let options = ["--maxmemory-policy", policy];
        let server = start(Kind::RedRock, folder.path(), &options)?;
        let mut client = server.client()?;
        client.ok("SET model small")?;
        client.run(&["SET".to_owned(), "long".into(), "x".repeat(400_000)])?;
        for model in ["model", "long"] {
            let Reply::Bulk(dump) = client.ok(&format!("DUMP {model}"))? else {
                anyhow::bail!("DUMP");
            };
            let key = format!("{model}:old");
            let words: [&[u8]; 4] = [b"RESTORE", key.as_bytes(), b"0", &dump];
            let words = [&words[..], &how.map(str::as_bytes)].concat();
            assert_eq!(client.run(&words)?, Reply::Status("OK".into()));
        }
        client.ok("DEBUG RELOAD")?;
        let mut readers = vec![client];
        let theirs = has_redis()
            .then(|| start(Kind::Redis, folder.path(), &options))
            .transpose()?;
        readers.extend(theirs.as_ref().map(Server::client).transpose()?);
        for client in &mut readers {
            for key in ["model:old", "long:old"] {
                let value = client.ok(&format!("OBJECT {asked} {key}"))?.int();
                let value = value.unwrap_or(-1);
                let kept = match policy {
                    "allkeys-lru" => (5000..5100).contains(&value),
                    "volatile-lfu" => (195..=201).contains(&value),
                    _ => value < 100,
                };
                assert!(kept, "{policy}, {key}: {value}");
            }
        }
    }
    Ok(())
}
