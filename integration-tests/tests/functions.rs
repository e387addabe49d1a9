//! Functions live as long as data: they come back after a kill, from a snapshot and from the log, and
//! go to replicas and from masters, real Redis servers included.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{companions_up, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};

const LIBRARY: &str = "#!lua name=counters\n\
    redis.register_function('add', function(keys, args) \
        return redis.call('incrby', keys[1], args[1] or 1) end)\n\
    redis.register_function{function_name = 'read', flags = {'no-writes'}, \
        callback = function(keys) return redis.call('get', keys[1]) end}\n\
    redis.register_function{function_name = 'forever', flags = {'no-writes'}, \
        callback = function() while true do end end}";

const LATER: &str = "#!lua name=later\nredis.register_function('late', function() return 1 end)";

fn load(client: &mut Client) -> anyhow::Result<()> {
    add(client, LIBRARY)
}

fn add(client: &mut Client, library: &str) -> anyhow::Result<()> {
    match client.run(&["FUNCTION", "LOAD", library])? {
        Reply::Bulk(_) => Ok(()),
        other => anyhow::bail!("{library}: {other:?}"),
    }
}

/// All texts of a reply, one a line.
fn flat(reply: Reply) -> String {
    match reply {
        Reply::Array(elements) => elements.into_iter().map(flat).collect(),
        other => other.text() + "\n",
    }
}

fn error(client: &mut Client, words: &[&str]) -> anyhow::Result<String> {
    match client.run(words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{words:?}: {other:?}"),
    }
}

/// How many functions the sources in FUNCTION LIST register.
fn listed(client: &mut Client) -> anyhow::Result<usize> {
    let reply = client.run(&["FUNCTION", "LIST", "WITHCODE"])?;
    Ok(flat(reply).matches("register_function").count())
}

fn adds(client: &mut Client, expected: i64) -> anyhow::Result<()> {
    let reply = client.run(&["FCALL", "add", "1", "n", "5"])?;
    anyhow::ensure!(reply.int() == Some(expected), "{reply:?}");
    Ok(())
}

#[test]
fn functions_survive_kill_9_by_the_log_and_a_rewrite() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ];
    let mut server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    load(&mut client)?;
    adds(&mut client, 5)?;
    server.kill()?;
    // From the log alone.
    server = Server::start(Kind::RedRock, folder.path(), &options)?;
    client = server.client()?;
    adds(&mut client, 10)?;
    companions_up(&mut client)?;
    let _started = client.ok("BGREWRITEAOF")?;
    until("the rewrite", || {
        let info = client.ok("INFO persistence")?.text();
        Ok(info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0"))
    })?;
    add(&mut client, LATER)?;
    client.ok("FUNCTION DELETE later")?;
    server.kill()?;
    // From the base that the rewrite made, and the log behind it.
    server = Server::start(Kind::RedRock, folder.path(), &options)?;
    client = server.client()?;
    adds(&mut client, 15)?;
    let info = client.ok("INFO memory")?.text();
    anyhow::ensure!(info.contains("number_of_libraries:1\r"), "{info}");
    anyhow::ensure!(info.contains("number_of_functions:3\r"), "{info}");
    Ok(())
}

#[test]
fn functions_go_through_a_dump_between_us_and_redis() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for (writer, reader) in [(Kind::RedRock, Kind::Redis), (Kind::Redis, Kind::RedRock)] {
        let folder = tempfile::tempdir()?;
        let server = Server::start(writer, folder.path(), &["--appendonly", "no"])?;
        let mut client = server.client()?;
        if writer == Kind::RedRock {
            companions_up(&mut client)?;
        }
        load(&mut client)?;
        adds(&mut client, 5)?;
        client.ok("SAVE")?;
        drop(server);
        let server = Server::start(reader, folder.path(), &["--appendonly", "no"])?;
        let mut client = server.client()?;
        adds(&mut client, 10)?;
        anyhow::ensure!(listed(&mut client)? == 3);
    }
    Ok(())
}

#[test]
fn replicas_have_the_master_s_functions_in_both_directions() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for (kind, follower) in [(Kind::RedRock, Kind::Redis), (Kind::Redis, Kind::RedRock)] {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let options = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let master = Server::start(kind, folders[0].path(), &options)?;
        let mut client = master.client()?;
        let replica = Server::start(follower, folders[1].path(), &options)?;
        let mut other = replica.client()?;
        for client in [(&mut client, kind), (&mut other, follower)] {
            if client.1 == Kind::RedRock {
                companions_up(client.0)?;
            }
        }
        load(&mut client)?;
        // What a replica had of its own goes.
        add(&mut other, LATER)?;
        other.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
        until("the full sync", || {
            Ok(other
                .ok("INFO replication")?
                .text()
                .contains("master_link_status:up"))
        })?;
        anyhow::ensure!(error(&mut other, &["FCALL", "late", "0"])?.contains("Function not found"));
        adds(&mut client, 5)?;
        let more = LIBRARY
            .replace("counters", "others")
            .replace("'add'", "'sum'");
        let more = more
            .replace("'read'", "'look'")
            .replace("'forever'", "'ever'");
        add(&mut client, &more)?;
        until("the stream", || {
            let reply = other.run(&["FCALL_RO", "look", "1", "n"])?;
            Ok(matches!(&reply, Reply::Bulk(text) if text == b"5"))
        })?;
        let refused = error(&mut other, &["FCALL", "sum", "1", "n"])?;
        anyhow::ensure!(refused.starts_with("READONLY"), "{refused}");
        client.ok("FUNCTION FLUSH")?;
        until("the flush", || Ok(listed(&mut other)? == 0))?;
    }
    Ok(())
}

#[test]
fn a_function_that_does_not_end_is_busy_and_can_be_killed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--busy-reply-threshold", "50"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    load(&mut client)?;
    let mut other = server.client()?;
    client.send(&["FCALL", "forever", "0"])?;
    until("the function is busy", || {
        Ok(matches!(other.run(&["GET", "n"])?, Reply::Error(text)
            if text.contains("FUNCTION KILL")))
    })?;
    let stats = flat(other.run(&["FUNCTION", "STATS"])?);
    anyhow::ensure!(stats.contains("command\nFCALL\nforever\n0\n"), "{stats}");
    let refused = error(&mut other, &["SCRIPT", "KILL"])?;
    anyhow::ensure!(refused.contains("FUNCTION KILL"), "{refused}");
    other.ok("FUNCTION KILL")?;
    let ended = client.receive().context("the function's client")?;
    anyhow::ensure!(
        matches!(&ended, Reply::Error(text) if text.contains("killed")),
        "{ended:?}"
    );
    adds(&mut client, 5)
}

#[test]
fn a_library_that_does_not_end_while_it_is_loaded_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    let endless = "#!lua name=endless\nwhile true do end";
    let refused = error(&mut client, &["FUNCTION", "LOAD", endless])?;
    anyhow::ensure!(refused.contains("FUNCTION LOAD timeout"), "{refused}");
    let hungry = "#!lua name=hungry\nlocal t = {} while true do t[1 + #t] = ('x'):rep(100000) end";
    let refused = error(&mut client, &["FUNCTION", "LOAD", hungry])?;
    anyhow::ensure!(
        refused.contains("not enough memory") || refused.contains("timeout"),
        "{refused}"
    );
    load(&mut client)?;
    adds(&mut client, 5)
}
