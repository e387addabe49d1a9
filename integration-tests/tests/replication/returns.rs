//! Servers that come back: a replica without a log goes on behind its dump, and a master that was
//! replaced goes on behind what its replica had of it. Neither takes a full sync.

use crate::link::{
    collections, companions_up, fill, info, link_is, number, promote, same_data, start, synced,
    until,
};
use redrock_integration_tests::dataset::random_writes;
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use std::path::Path;

/// A real master that begins a full sync at once, and whose memory holds what is missed.
const REDIS_MASTER: [&str; 4] = [
    "--repl-diskless-sync-delay",
    "0",
    "--repl-backlog-size",
    "64mb",
];

fn start_on(folder: &Path, port: u16, options: &[&str]) -> anyhow::Result<Server> {
    let all = [options, &["--enable-debug-command", "yes"]].concat();
    Server::spawn_on(port, Kind::RedRock, folder, &all)?.wait_ready()
}

fn master(kind: Kind, folder: &Path) -> anyhow::Result<Server> {
    match kind {
        Kind::Redis => start(kind, folder, &REDIS_MASTER),
        Kind::RedRock => {
            let server = start(kind, folder, &["--appendonly", "yes"])?;
            companions_up(&mut server.client()?)?;
            Ok(server)
        }
    }
}

/// Both hold the same data at the same offset, and agree on when keys expire.
fn equal(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    link_is(replica, "up")?;
    same_data(master, replica)?;
    until("equal offsets", || {
        let offset = number(master, "replication", "master_repl_offset")?;
        Ok(number(replica, "replication", "slave_repl_offset")? == offset)
    })?;
    for n in [0, 7, 299] {
        let line = format!("PEXPIRETIME ttl:{n}");
        let at = master.ok(&line)?;
        assert!(at.int() > Some(0), "{at:?}");
        assert_eq!(replica.ok(&line)?, at);
    }
    Ok(())
}

/// Writes that end in another database than the first.
fn write(master: &mut Client, seed: u64) -> anyhow::Result<()> {
    random_writes(master, seed, 500)?;
    fill(master, &format!("part-{seed}"), 0..500, 1000)?;
    master.ok("SELECT 3")?;
    master.ok(&format!("SET there {seed}"))?;
    master.ok("SELECT 0")?;
    Ok(())
}

fn goes_on_from_its_dump(kind: Kind) -> anyhow::Result<()> {
    let (theirs, ours, leaf) = (
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let top = master(kind, theirs.path())?;
    let mut client = top.client()?;
    collections(&mut client)?;
    write(&mut client, 1)?;
    let (above, port) = (top.port.to_string(), free_port()?);
    let options = [
        "--appendonly",
        "no",
        "--save",
        "3600 1",
        "--replicaof",
        "127.0.0.1",
        &above,
    ];
    let server = start_on(ours.path(), port, &options)?;
    let mut replica = server.client()?;
    equal(&mut client, &mut replica)?;
    write(&mut client, 2)?;
    equal(&mut client, &mut replica)?;
    replica.ok("SAVE")?;
    // Behind the dump: it comes once more, from the master.
    write(&mut client, 3)?;
    equal(&mut client, &mut replica)?;
    server.kill_family()?;
    write(&mut client, 4)?;

    let server = start_on(ours.path(), port, &options)?;
    let mut replica = server.client()?;
    equal(&mut client, &mut replica)?;
    synced(&mut client, (1, 1))?;
    // It passes on what it has, under its master's id.
    let below = port.to_string();
    let last = start(
        Kind::Redis,
        leaf.path(),
        &["--replicaof", "127.0.0.1", &below],
    )?;
    let mut third = last.client()?;
    link_is(&mut third, "up")?;
    let id = info(&mut client, "replication", "master_replid")?;
    assert_eq!(info(&mut third, "replication", "master_replid")?, id);
    // An orderly end saves: the next start goes on from there.
    assert!(server.terminate()?.success());
    write(&mut client, 5)?;
    let server = start_on(ours.path(), port, &options)?;
    let mut replica = server.client()?;
    equal(&mut client, &mut replica)?;
    synced(&mut client, (1, 2))?;
    link_is(&mut third, "up")?;
    // Whom the master waits for is the one in the middle.
    until("the data of the last one", || {
        Ok(client.ok("DEBUG DIGEST")? == third.ok("DEBUG DIGEST")?)
    })?;
    equal(&mut client, &mut third)
}

#[test]
fn a_replica_without_a_log_goes_on_from_its_dump_with_a_real_master() -> anyhow::Result<()> {
    match has_redis() {
        true => goes_on_from_its_dump(Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn a_replica_without_a_log_goes_on_from_its_dump_with_our_master() -> anyhow::Result<()> {
    match has_redis() {
        true => goes_on_from_its_dump(Kind::RedRock),
        false => Ok(()),
    }
}

#[test]
fn we_go_on_from_the_dump_of_a_real_replica_unless_our_clients_may_have_changed_it()
-> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (first, second, ours) = (
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let top = master(Kind::Redis, first.path())?;
    let mut client = top.client()?;
    collections(&mut client)?;
    write(&mut client, 1)?;
    let above = top.port.to_string();
    let of = ["--replicaof", "127.0.0.1", &above];
    let sibling = start(Kind::Redis, second.path(), &of)?;
    let mut replica = sibling.client()?;
    equal(&mut client, &mut replica)?;
    replica.ok("SAVE")?;
    sibling.kill()?;
    std::fs::copy(second.path().join("dump.rdb"), ours.path().join("dump.rdb"))?;
    write(&mut client, 2)?;
    let server = start(Kind::RedRock, ours.path(), &of)?;
    let mut replica = server.client()?;
    equal(&mut client, &mut replica)?;
    synced(&mut client, (1, 1))?;
    replica.ok("SAVE")?;
    server.kill_family()?;
    // Where clients may write, what they wrote may be in the dump: it must not survive.
    let writable = [&of[..], &["--replica-read-only", "no"]].concat();
    let server = start(Kind::RedRock, ours.path(), &writable)?;
    equal(&mut client, &mut server.client()?)?;
    synced(&mut client, (2, 1))
}

fn old_master_returns(kind: Kind) -> anyhow::Result<()> {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let logged = ["--appendonly", "yes"];
    let port = free_port()?;
    let server = start_on(one.path(), port, &logged)?;
    let mut former = server.client()?;
    companions_up(&mut former)?;
    collections(&mut former)?;
    write(&mut former, 1)?;
    let below = port.to_string();
    let options: &[&str] = match kind {
        Kind::Redis => &["--replicaof", "127.0.0.1", &below],
        Kind::RedRock => &["--appendonly", "yes", "--replicaof", "127.0.0.1", &below],
    };
    let other = start(kind, two.path(), options)?;
    let mut promoted = other.client()?;
    equal(&mut former, &mut promoted)?;
    write(&mut former, 2)?;
    equal(&mut former, &mut promoted)?;
    server.kill_family()?;
    if kind == Kind::RedRock {
        // Its log is to begin before the promotion.
        until("a log", || {
            Ok(info(&mut promoted, "persistence", "aof_enabled")? == "1")
        })?;
    }
    promote(&mut promoted, "promoted")?;
    write(&mut promoted, 3)?;

    // A start as a master gives the stream another id, which nobody has heard of.
    let above = other.port.to_string();
    let server = start_on(one.path(), port, &logged)?;
    let mut former = server.client()?;
    former.ok(&format!("REPLICAOF 127.0.0.1 {above}"))?;
    equal(&mut promoted, &mut former)?;
    synced(&mut promoted, (0, 1))?;
    let id = info(&mut promoted, "replication", "master_replid")?;
    assert_eq!(info(&mut former, "replication", "master_replid")?, id);
    // Its log goes on under that id, and so does a start as a replica.
    server.kill_family()?;
    write(&mut promoted, 4)?;
    let of = [&logged[..], &["--replicaof", "127.0.0.1", &above]].concat();
    let server = start_on(one.path(), port, &of)?;
    let mut former = server.client()?;
    equal(&mut promoted, &mut former)?;
    synced(&mut promoted, (0, 2))?;

    // One that wrote something as a master has another history.
    server.kill_family()?;
    let server = start_on(one.path(), port, &logged)?;
    let mut former = server.client()?;
    companions_up(&mut former)?;
    former.ok("SET own 1")?;
    former.ok(&format!("REPLICAOF 127.0.0.1 {above}"))?;
    equal(&mut promoted, &mut former)?;
    synced(&mut promoted, (1, 2))?;
    assert_eq!(former.ok("EXISTS own")?.int(), Some(0));
    Ok(())
}

#[test]
fn an_old_master_goes_on_behind_a_real_one_that_took_its_place() -> anyhow::Result<()> {
    match has_redis() {
        true => old_master_returns(Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn an_old_master_goes_on_behind_one_of_ours_that_took_its_place() -> anyhow::Result<()> {
    old_master_returns(Kind::RedRock)
}
