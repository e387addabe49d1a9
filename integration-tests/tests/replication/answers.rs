//! What a replica answers while it has no link, of keys that have expired, and when it is told to follow somebody
//! else in the middle of something.

use crate::link::{Proxy, companions_up, fill, info, link_is, same_data, start, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

const KINDS: [Kind; 2] = [Kind::Redis, Kind::RedRock];

/// A real master, and a replica of each kind behind the port.
fn real_master(folder: &Path) -> anyhow::Result<Server> {
    start(Kind::Redis, folder, &["--repl-diskless-sync-delay", "0"])
}

fn replica(kind: Kind, folder: &Path, port: u16, more: &[&str]) -> anyhow::Result<Server> {
    let port = port.to_string();
    let of = ["--replicaof", "127.0.0.1", &port];
    let server = start(kind, folder, &[&of[..], more].concat())?;
    link_is(&mut server.client()?, "up")?;
    Ok(server)
}

fn answers(client: &mut Client, lines: &[&'static str]) -> anyhow::Result<Vec<String>> {
    let answer = |line: &&'static str| {
        let words: Vec<&str> = line.split(' ').collect();
        Ok(format!("{line}: {:?}", client.run(&words)?))
    };
    lines.iter().map(answer).collect()
}

/// Asked of a replica whose data are stale.
const STALE: &[&str] = &[
    "GET key:1",
    "SET key:1 x",
    "EVAL return(1) 0",
    "EVAL return(redis.call('get','key:1')) 0",
    "PING",
    "ECHO x",
    "DBSIZE",
    "KEYS key:1",
    "SELECT 1",
    "SELECT 0",
    "PUBLISH channel message",
    "CLIENT GETNAME",
    "CONFIG GET replica-serve-stale-data",
    "WAIT 0 0",
    "MULTI",
    "GET key:1",
    "PING",
    "EXEC",
    "PSYNC ? -1",
];

#[test]
fn a_replica_without_its_link_answers_as_configured() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let upper = tempfile::tempdir()?;
    let server = real_master(upper.path())?;
    fill(&mut server.client()?, "key", 0..10, 10)?;
    let mut found = Vec::new();
    for kind in KINDS {
        let lower = tempfile::tempdir()?;
        let proxy = Proxy::to(server.port)?;
        let stale = ["--replica-serve-stale-data", "no"];
        let follower = replica(kind, lower.path(), proxy.port, &stale)?;
        let mut client = follower.client()?;
        until(
            "the data",
            || Ok(client.run(&["DBSIZE"])?.int() == Some(10)),
        )?;
        proxy.cut();
        link_is(&mut client, "down")?;
        let refused = answers(&mut client, STALE)?;
        let state = client.ok("ROLE")?.elements().get(3).map(Reply::text);
        assert!(
            matches!(
                state.as_deref(),
                Some("connect" | "connecting" | "handshake")
            ),
            "{state:?}"
        );
        client.ok("CONFIG SET replica-serve-stale-data yes")?;
        let served = answers(&mut client, STALE)?;
        proxy.heal();
        link_is(&mut client, "up")?;
        found.push([refused, served]);
    }
    let [real, ours] = &found[..] else {
        anyhow::bail!("two kinds");
    };
    assert_eq!(ours, real);
    let refusals = real[0].iter().filter(|text| text.contains("MASTERDOWN"));
    assert!(refusals.count() > 4, "{real:?}");
    Ok(())
}

/// Asked of a replica that has keys past their time.
const PAST: &[&str] = &[
    "GET past",
    "EXISTS past past-hash keep",
    "TTL past",
    "PTTL past-hash",
    "EXPIRETIME past",
    "TYPE past-hash",
    "HGETALL past-hash",
    "HLEN past-hash",
    "STRLEN past",
    "TOUCH past",
    "MGET past keep",
    "DUMP past",
    "DBSIZE",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "OBJECT ENCODING past",
    "DEL past",
    "SET past 2",
];

#[test]
fn what_has_expired_is_gone_for_readers_and_goes_when_the_master_says_so() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let upper = tempfile::tempdir()?;
    let server = real_master(upper.path())?;
    let mut master = server.client()?;
    master.ok("DEBUG SET-ACTIVE-EXPIRE 0")?;
    let mut found = Vec::new();
    for kind in KINDS {
        let lower = tempfile::tempdir()?;
        let follower = replica(kind, lower.path(), server.port, &[])?;
        let mut client = follower.client()?;
        master.ok("SET keep 1")?;
        master.ok("SET past 1")?;
        master.ok("HSET past-hash f v")?;
        master.ok("PEXPIRE past-hash 200")?;
        master.ok("PEXPIRE past 200")?;
        assert_eq!(master.ok("WAIT 1 100000")?.int(), Some(1));
        until("keys past their time", || {
            let answers = [client.ok("GET past")?, client.ok("HGET past-hash f")?];
            Ok(answers.iter().all(|answer| *answer == Reply::Nil))
        })?;
        found.push(answers(&mut client, PAST)?);
        assert_eq!(client.ok("DBSIZE")?.int(), Some(3));
        // It is the master who deletes them.
        assert_eq!(master.ok("EXISTS past past-hash")?.int(), Some(0));
        same_data(&mut master, &mut client)?;
        until("the deletions", || {
            // `keep`, and what compares.
            Ok(client.ok("DBSIZE")?.int() == Some(2))
        })?;
        master.ok("FLUSHALL")?;
    }
    assert_eq!(found[1], found[0]);
    Ok(())
}

#[test]
fn replicaof_waits_for_no_script_and_ends_a_full_sync_without_a_trace() -> anyhow::Result<()> {
    let folders = [
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    ];
    let mut masters = Vec::new();
    for (folder, name) in folders.iter().zip(["one", "two"]) {
        let server = start(Kind::RedRock, folder.path(), &[])?;
        companions_up(&mut server.client()?)?;
        fill(&mut server.client()?, name, 0..2000, 1000)?;
        masters.push(server);
    }
    let quick = ["--busy-reply-threshold", "10"];
    let server = start(Kind::RedRock, folders[2].path(), &quick)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("SET before 1")?;
    // A script that goes on and on: as in Redis nothing else is done.
    let mut busy = server.client()?;
    busy.send(&["EVAL", "while true do end", "0"])?;
    until("a busy script", || {
        Ok(matches!(client.run(&["PING"])?, Reply::Error(text) if text.starts_with("BUSY")))
    })?;
    let proxy = Proxy::to(masters[0].port)?;
    let port = proxy.port.to_string();
    let refused = client.run(&["REPLICAOF", "127.0.0.1", &port])?;
    assert!(matches!(&refused, Reply::Error(text) if text.starts_with("BUSY")));
    client.ok("SCRIPT KILL")?;
    assert!(matches!(busy.receive()?, Reply::Error(_)));

    // A full sync that stands still in its middle; what was there serves on.
    proxy.stop_after(10_000);
    client.ok(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    until("a full sync that stands still", || Ok(proxy.is_stopped()))?;
    assert_eq!(
        info(&mut client, "replication", "master_link_status")?,
        "down"
    );
    assert_eq!(client.ok("GET before")?.text(), "1");
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", masters[1].port))?;
    link_is(&mut client, "up")?;
    same_data(&mut masters[1].client()?, &mut client)?;
    assert_eq!(client.ok("EXISTS before one:1")?.int(), Some(0));

    proxy.cut();
    proxy.stop(false);
    proxy.heal();
    proxy.stop_after(10_000);
    client.ok(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    until("another that stands still", || Ok(proxy.is_stopped()))?;
    client.ok("REPLICAOF NO ONE")?;
    client.ok("SET after 1")?;
    assert_eq!(client.ok("EXISTS one:1")?.int(), Some(0));
    assert_eq!(client.ok("EXISTS two:1 two:1999 after")?.int(), Some(3));
    Ok(())
}
