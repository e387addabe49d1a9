//! We replicate from a real Redis.

use crate::link::{
    Proxy, collections, companions_up, fill, info, link_is, promote, same_data, spawn, start, syncs,
};
use redrock_integration_tests::process::{Kind, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::between;

/// A real master that begins a full sync at once.
const MASTER: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

#[test]
fn we_follow_a_real_master_through_cuts_and_leave_it() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = [&MASTER[..], &["--repl-backlog-size", "1mb"]].concat();
    let server = start(Kind::Redis, theirs.path(), &options)?;
    let mut master = server.client()?;
    fill(&mut master, "key", 0..between(10_000, 1_000_000), 300)?;
    collections(&mut master)?;
    let proxy = Proxy::to(server.port)?;
    let follower = start(Kind::RedRock, ours.path(), &["--appendonly", "yes"])?;
    let mut replica = follower.client()?;
    companions_up(&mut replica)?;
    replica.ok("SET local gone-after-the-sync")?;
    replica.ok(&format!("REPLICAOF 127.0.0.1 {}", proxy.port))?;
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    assert_eq!(syncs(&mut master)?, (1, 0));
    for line in [
        "SET a 1",
        "DEL key:1",
        "FLUSHALL",
        "RPUSH list x",
        "EXPIRE key:1 100",
    ] {
        let text = error(&mut replica, line)?;
        assert_eq!(
            text,
            "READONLY You can't write against a read only replica."
        );
    }
    // Less than the master's backlog: the link resumes.
    proxy.cut();
    link_is(&mut replica, "down")?;
    fill(&mut master, "missed", 0..300, 500)?;
    assert_eq!(replica.ok("STRLEN missed:7")?.int(), Some(0));
    assert!(
        replica.ok("STRLEN key:7")?.int() > Some(200),
        "stale data are served"
    );
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    assert_eq!(syncs(&mut master)?, (1, 1));
    // More than that: a full sync, and the old data serve until it is there.
    proxy.cut();
    link_is(&mut replica, "down")?;
    fill(&mut master, "missed", 0..4_000, 1_000)?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    assert_eq!(syncs(&mut master)?, (2, 1));
    promote(&mut replica, "mine")?;
    assert_eq!(info(&mut replica, "replication", "role")?, "master");
    fill(&mut master, "later", 0..10, 10)?;
    assert_eq!(replica.ok("EXISTS later:1 mine same-data")?.int(), Some(2));
    Ok(())
}

#[test]
fn we_follow_a_master_that_was_killed_and_came_back() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = start(Kind::Redis, theirs.path(), &MASTER)?;
    let port = server.port.to_string();
    let mut master = server.client()?;
    fill(&mut master, "key", 0..2_000, 300)?;
    let options = ["--appendonly", "yes", "--replicaof", "127.0.0.1", &port];
    let follower = start(Kind::RedRock, ours.path(), &options)?;
    let mut replica = follower.client()?;
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    master.ok("SAVE")?;
    // Lost with the master: it must go here too.
    fill(&mut master, "unsaved", 0..100, 100)?;
    same_data(&mut master, &mut replica)?;
    server.kill()?;
    link_is(&mut replica, "down")?;
    let again = [&MASTER[..], &["--port", &port]].concat();
    let mut server = spawn(Kind::Redis, theirs.path(), &again)?;
    server.port = port.parse()?;
    let server = server.wait_ready()?;
    let mut master = server.client()?;
    assert_eq!(master.ok("EXISTS unsaved:1")?.int(), Some(0));
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    assert_eq!(replica.ok("EXISTS unsaved:1")?.int(), Some(0));
    Ok(())
}
