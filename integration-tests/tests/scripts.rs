//! Scripts beside what Redis compares with: a script that runs for too long, keys that it did not
//! declare and that are on disk, and what replicas and the log get of it.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{companions_up, kill_9, processes};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::time::{Duration, Instant};

const WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const OPTIONS: [&str; 6] = [
    "--companions",
    "external",
    "--busy-reply-threshold",
    "20",
    "--enable-debug-command",
    "yes",
];

fn until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + WAIT;
    while !done()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn is_busy(client: &mut Client) -> anyhow::Result<bool> {
    Ok(client.run(&["PING"])? == error(BUSY))
}

fn info(client: &mut Client, field: &str) -> anyhow::Result<i64> {
    let text = client.ok("INFO everything")?.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.unwrap_or("-1").parse()?)
}

/// A server, one client whose script is busy, and another client.
fn busy(
    folder: &std::path::Path,
    options: &[&str],
    script: &str,
) -> anyhow::Result<(Server, Client, Client)> {
    let options: Vec<&str> = OPTIONS.iter().chain(options).copied().collect();
    let server = Server::start(Kind::RedRock, folder, &options)?;
    let (mut running, mut other) = (server.client()?, server.client()?);
    running.send(&["EVAL", script, "1", "k"])?;
    until("BUSY", || is_busy(&mut other))?;
    Ok((server, running, other))
}

#[test]
fn others_are_told_of_a_busy_script_and_can_kill_it() -> anyhow::Result<()> {
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local c = coroutine.wrap(function() while true do end end) while true do pcall(c) end",
    ] {
        let folder = tempfile::tempdir()?;
        let (server, mut running, mut other) = busy(folder.path(), &[], script)?;
        // A new connection is served too, and what needs no data works.
        let mut third = server.client()?;
        assert_eq!(third.run(&["GET", "k"])?, error(BUSY));
        assert_eq!(third.ok("MULTI")?.text(), "OK");
        assert_eq!(third.run(&["SET", "k", "v"])?, error(BUSY));
        let aborted = third.run(&["EXEC"])?;
        assert!(
            matches!(&aborted, Reply::Error(text) if text.starts_with("EXECABORT")),
            "{aborted:?}"
        );
        // One that goes meanwhile holds nothing up.
        drop(third);
        assert_eq!(other.ok("SCRIPT KILL")?.text(), "OK");
        let ended = running.receive()?;
        assert!(
            matches!(&ended, Reply::Error(text) if text.contains("Script killed by user")),
            "{ended:?}"
        );
        until("the end", || Ok(other.ok("PING").is_ok()))?;
        assert_eq!(
            other.run(&["SCRIPT", "KILL"])?,
            error("NOTBUSY No scripts in execution right now.")
        );
        assert_eq!(running.ok("SET k v")?.text(), "OK");
    }
    Ok(())
}

#[test]
fn a_script_that_ends_by_itself_answers_and_waiting_clients_go_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "redis.call('set', KEYS[1], 'v') local n = 0 \
                  while n < 30000000 do n = n + 1 end return n";
    let (server, mut running, mut other) = busy(folder.path(), &[], script)?;
    let killed = other.run(&["SCRIPT", "KILL"])?;
    assert!(
        matches!(&killed, Reply::Error(text) if text.starts_with("UNKILLABLE")),
        "{killed:?}"
    );
    let mut watcher = server.client()?;
    watcher.send(&["WATCH", "k"])?;
    assert_eq!(running.receive()?, Reply::Int(30_000_000));
    assert_eq!(watcher.receive()?, Reply::Status("OK".into()));
    assert_eq!(other.ok("GET k")?.text(), "v");
    Ok(())
}

#[test]
fn shutdown_nosave_ends_a_script_that_has_written() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let logged = ["--appendonly", "yes", "--appendfsync", "always"];
    let script = "redis.call('set', KEYS[1], 'v') while true do end";
    let (mut server, running, mut other) = busy(folder.path(), &logged, script)?;
    let refused = other.run(&["SHUTDOWN"])?;
    assert_eq!(refused, error(BUSY));
    other.send(&["SHUTDOWN", "NOSAVE"])?;
    server.wait_exit()?;
    drop((server, running));
    // Nothing of it is there: it never ended.
    let options: Vec<&str> = OPTIONS.iter().chain(&logged).copied().collect();
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    assert_eq!(server.client()?.ok("DBSIZE")?, Reply::Int(0));
    Ok(())
}

#[test]
fn the_server_s_own_work_goes_on_beside_a_busy_script() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes", "--busy-reply-threshold", "20"];
    let mut server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let (mut running, mut other) = (server.client()?, server.client()?);
    companions_up(&mut other)?;
    let script = "redis.call('set', KEYS[1], 'v') while true do end";
    running.send(&["EVAL", script, "1", "k"])?;
    until("BUSY", || is_busy(&mut other))?;
    // Who looks after the companions ends the server, too.
    for _ in 0..3 {
        let before = processes(&server);
        let companion = before.iter().find(|pid| **pid != server.pid());
        kill_9(*companion.context("a companion")?)?;
        until("another companion", || {
            let now = processes(&server);
            Ok(now.len() == before.len() && now.iter().any(|pid| !before.contains(pid)))
        })?;
    }
    // It has looked at everything some times, once a second.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(3500) {
        assert!(is_busy(&mut other)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    other.send(&["SHUTDOWN", "NOSAVE"])?;
    server.wait_exit()?;
    Ok(())
}

const TIERED: [&str; 8] = [
    "--companions",
    "external",
    "--appendonly",
    "no",
    "--enable-rocksdb-feature",
    "yes",
    "--maxmemory",
    "128mb",
];

#[test]
fn cold_keys_that_were_not_declared_are_loaded_outside_the_locks_until_the_first_write()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &TIERED)?;
    let mut client = server.client()?;
    for key in ["a", "b", "c"] {
        client.run(&["SET", key, &format!("value-{key}")])?;
    }
    client.ok("ROCKALL")?;
    let before = info(&mut client, "tiering_blocking_reads")?;
    let script = "local r = math.random(1000000) return {redis.call('get', 'a'), \
                  redis.call('get', 'b'), tostring(r)}";
    let values = client.run(&["EVAL", script, "0"])?.elements();
    assert_eq!(values[0].text() + &values[1].text(), "value-avalue-b");
    assert_eq!(info(&mut client, "tiering_blocking_reads")?, before);
    client.ok("ROCKALL")?;
    let script = "redis.call('set', 'd', 1) return redis.call('get', 'c')";
    assert_eq!(client.run(&["EVAL", script, "0"])?.text(), "value-c");
    assert_eq!(info(&mut client, "tiering_blocking_reads")?, before + 1);
    // Each is counted once, however often the script began.
    let script = "redis.call('incr', 'n') return {redis.call('get', 'a'), redis.call('incr', 'n')}";
    client.ok("ROCKALL")?;
    let values = client.run(&["EVAL", script, "0"])?.elements();
    assert_eq!(
        (values[0].text(), values[1].int()),
        ("value-a".into(), Some(2))
    );
    Ok(())
}

#[test]
fn memory_and_stack_of_a_script_are_bounded() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &TIERED)?;
    let mut client = server.client()?;
    for (script, text) in [
        (
            "local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1000) end",
            "not enough memory",
        ),
        ("return string.rep('x', 2000000000)", "not enough memory"),
        (
            "local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1000) end return pcall(f)",
            "not enough memory",
        ),
        (
            "local function f() return 1 + f() end return f()",
            "stack overflow",
        ),
        (
            "return string.find(string.rep('a', 100000), string.rep('a?', 100000))",
            "pattern too complex",
        ),
        (
            "local f = function(f) return string.gsub('x', 'x', function() return f(f) end) end \
             return f(f)",
            "C stack overflow",
        ),
    ] {
        let reply = client.run(&["EVAL", script, "0"])?;
        assert!(
            matches!(&reply, Reply::Error(error) if error.contains(text)),
            "{script}: {reply:?}"
        );
    }
    assert_eq!(client.run(&["EVAL", "return 1", "0"])?, Reply::Int(1));
    Ok(())
}

#[test]
fn effects_reach_a_real_replica_and_the_log_as_one_transaction() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let server = Server::start(Kind::RedRock, folders[0].path(), &options)?;
    let mut client = server.client()?;
    let replica = Server::start(Kind::Redis, folders[1].path(), &["--appendonly", "no"])?;
    let mut copy = replica.client()?;
    copy.ok(&format!("REPLICAOF 127.0.0.1 {}", server.port))?;
    until("the link", || {
        Ok(copy
            .ok("INFO replication")?
            .text()
            .contains("master_link_status:up"))
    })?;
    for script in [
        "redis.call('set', 'a', 1) redis.call('select', 2) redis.call('incr', 'b') \
         return redis.call('sadd', 's', 'x', 'y', 'z')",
        "redis.call('spop', 's') redis.call('set', 'e', 1, 'ex', 1000) redis.call('rpush', 'l', 1.5)",
        "redis.set_repl(redis.REPL_NONE) redis.call('get', 'a') redis.set_repl(redis.REPL_ALL) \
         redis.call('publish', 'c', 'm') redis.call('incrbyfloat', 'f', 0.1)",
        "redis.call('set', 'only', 1)",
    ] {
        client.run(&["EVAL", script, "0"])?;
    }
    let digest = client.ok("DEBUG DIGEST")?.text();
    until("the same data", || {
        Ok(copy.ok("DEBUG DIGEST")?.text() == digest)
    })?;
    let commands = copy.ok("INFO commandstats")?.text();
    assert!(!commands.contains("cmdstat_eval"), "{commands}");
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, folders[0].path(), &options)?;
    assert_eq!(server.client()?.ok("DEBUG DIGEST")?.text(), digest);
    Ok(())
}
