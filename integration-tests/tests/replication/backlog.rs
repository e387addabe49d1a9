//! The append-only file as the backlog: what an absent replica lacks outlives rewrites and restarts,
//! within `repl-backlog-disk-size` and for `repl-backlog-disk-ttl`.

use crate::link::{
    Proxy, companions_up, fill, info, link_is, number, same_data, start, synced, until,
};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use std::path::Path;

/// No rewrite but those asked for.
const LOGGED: [&str; 6] = [
    "--appendonly",
    "yes",
    "--auto-aof-rewrite-percentage",
    "0",
    "--enable-debug-command",
    "yes",
];

fn start_on(folder: &Path, port: u16, options: &[&str]) -> anyhow::Result<Server> {
    let all = [&LOGGED[..], options].concat();
    let server = Server::spawn_on(port, Kind::RedRock, folder, &all)?.wait_ready()?;
    companions_up(&mut server.client()?)?;
    Ok(server)
}

/// A replica of ours behind a proxy, with all that the master has.
fn replica_behind(proxy: &Proxy, folder: &Path, master: &mut Client) -> anyhow::Result<Server> {
    let port = proxy.port.to_string();
    let options = ["--appendonly", "yes", "--replicaof", "127.0.0.1", &port];
    let server = start(Kind::RedRock, folder, &options)?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    same_data(master, &mut replica)?;
    Ok(server)
}

/// A rewrite from its beginning to its end.
fn rewrite(client: &mut Client) -> anyhow::Result<()> {
    let done = number(client, "persistence", "aof_rewrites")?;
    client.ok("BGREWRITEAOF")?;
    until("the rewrite", || {
        Ok(number(client, "persistence", "aof_rewrites")? > done
            && number(client, "persistence", "aof_rewrite_in_progress")? == 0)
    })?;
    assert_eq!(
        info(client, "persistence", "aof_last_bgrewrite_status")?,
        "ok"
    );
    Ok(())
}

/// Bytes of segments in the append-only directory.
fn segment_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.join("appendonlydir"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".incr.aof") {
            // It may go while we look.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(bytes)
}

fn bases(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder.join("appendonlydir"))? {
        count += usize::from(entry?.file_name().to_string_lossy().contains(".base."));
    }
    Ok(count)
}

/// Values of the same keys again and again, so that the data stay small and the stream grows.
fn write(client: &mut Client, megabytes: u64) -> anyhow::Result<()> {
    (0..megabytes).try_for_each(|_| fill(client, "again", 0..64, 16 << 10))
}

#[test]
fn a_replica_goes_on_across_rewrites_and_a_killed_master() -> anyhow::Result<()> {
    let (top, below) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let port = free_port()?;
    let server = start_on(top.path(), port, &[])?;
    let mut master = server.client()?;
    fill(&mut master, "key", 0..2000, 100)?;
    let proxy = Proxy::to(port)?;
    let follower = replica_behind(&proxy, below.path(), &mut master)?;
    let mut replica = follower.client()?;
    for round in 1..=2 {
        proxy.cut();
        link_is(&mut replica, "down")?;
        write(&mut master, 4)?;
        rewrite(&mut master)?;
        write(&mut master, 4)?;
        rewrite(&mut master)?;
        assert_eq!(bases(top.path())?, 1, "replaced bases go at once");
        fill(&mut master, "after", 0..200, 100)?;
        proxy.heal();
        link_is(&mut replica, "up")?;
        same_data(&mut master, &mut replica)?;
        synced(&mut master, (1, round))?;
    }
    proxy.cut();
    link_is(&mut replica, "down")?;
    write(&mut master, 2)?;
    rewrite(&mut master)?;
    server.kill_family()?;
    let server = start_on(top.path(), port, &[])?;
    let mut master = server.client()?;
    write(&mut master, 2)?;
    rewrite(&mut master)?;
    write(&mut master, 2)?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    synced(&mut master, (0, 1))
}

#[test]
fn beyond_its_size_the_backlog_goes_and_a_real_replica_synchronizes_anew() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (top, below) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = start_on(
        top.path(),
        free_port()?,
        &["--repl-backlog-disk-size", "4mb"],
    )?;
    let mut master = server.client()?;
    let proxy = Proxy::to(server.port)?;
    let port = proxy.port.to_string();
    let follower = start(
        Kind::Redis,
        below.path(),
        &["--replicaof", "127.0.0.1", &port],
    )?;
    let mut replica = follower.client()?;
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    // Within the size it goes on.
    proxy.cut();
    link_is(&mut replica, "down")?;
    write(&mut master, 2)?;
    rewrite(&mut master)?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    synced(&mut master, (1, 1))?;
    proxy.cut();
    link_is(&mut replica, "down")?;
    for _ in 0..6 {
        write(&mut master, 3)?;
        rewrite(&mut master)?;
    }
    // A backlog, and the file that it begins in.
    until("what is beyond the size goes", || {
        Ok(segment_bytes(top.path())? < 9 << 20)
    })?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    synced(&mut master, (2, 1))
}

#[test]
fn without_replicas_nothing_is_kept_and_after_the_time_no_more() -> anyhow::Result<()> {
    let (top, below) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = ["--repl-backlog-disk-ttl", "1"];
    let server = start_on(top.path(), free_port()?, &options)?;
    let mut master = server.client()?;
    write(&mut master, 4)?;
    rewrite(&mut master)?;
    until("nobody needs the log", || {
        Ok(segment_bytes(top.path())? < 1 << 20)
    })?;
    let proxy = Proxy::to(server.port)?;
    let follower = replica_behind(&proxy, below.path(), &mut master)?;
    let mut replica = follower.client()?;
    proxy.cut();
    link_is(&mut replica, "down")?;
    write(&mut master, 4)?;
    rewrite(&mut master)?;
    // The first half minute of a persister keeps everything that a replica may need.
    until("nobody is waited for", || {
        Ok(segment_bytes(top.path())? < 1 << 20)
    })?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)?;
    synced(&mut master, (2, 0))
}
