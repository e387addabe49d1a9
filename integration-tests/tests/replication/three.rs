//! Three Sentinels over a master and two replicas, all ours: the master is killed under writes that both
//! replicas are waited for. One of them takes its place, the other one goes on with it, and the old master
//! comes back as a replica.

use crate::fleets::{former_end, has_all, sentinels, spawn, under_writes, until_enough};
use crate::link::{fill, info, link_is, number, synced, takes_writes, until};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::between;
use std::path::Path;

fn ours(folder: &Path, port: u16, more: &[&str]) -> anyhow::Result<Server> {
    spawn(Kind::RedRock, folder, port, more)
}

fn replica(folder: &Path, master: u16) -> anyhow::Result<Server> {
    let of = ["--replicaof", "127.0.0.1", &master.to_string()];
    let server = ours(folder, free_port()?, &of)?;
    link_is(&mut server.client()?, "up")?;
    Ok(server)
}

/// The end of what a replica has of a stream that brings no more.
fn stands_at(replica: &Server) -> anyhow::Result<u64> {
    let mut client = replica.client()?;
    link_is(&mut client, "down")?;
    let (mut before, mut now) = (0, 1);
    until("all that was received is applied", || {
        before = number(&mut client, "replication", "slave_repl_offset")?;
        now = number(&mut client, "replication", "slave_read_repl_offset")?;
        Ok(before == now)
    })?;
    Ok(now)
}

/// Which of the two the Sentinels agree upon, first.
fn promoted(
    watching: &mut [crate::sentinel::Sentinel],
    two: [Server; 2],
) -> anyhow::Result<[Server; 2]> {
    let mut found = None;
    for sentinel in watching {
        let client = &mut sentinel.client;
        until("the failover", || {
            let address = client.ok("SENTINEL GET-MASTER-ADDR-BY-NAME watched")?;
            let port = address.elements().get(1).map(Reply::text);
            found = two
                .iter()
                .position(|server| port == Some(server.port.to_string()));
            Ok(found.is_some())
        })?;
    }
    let [one, other] = two;
    Ok(match found {
        Some(0) => [one, other],
        _ => [other, one],
    })
}

fn is_replica(server: &Server) -> bool {
    // Sentinel closes the clients of whom it gives another role.
    let role = |mut client: Client| info(&mut client, "replication", "role");
    server
        .client()
        .and_then(role)
        .is_ok_and(|role| role == "slave")
}

#[test]
fn what_both_replicas_acknowledged_outlives_the_master_and_nobody_starts_over() -> anyhow::Result<()>
{
    if !has_redis() {
        return Ok(());
    }
    let folders: Vec<_> = (0..6)
        .map(|_| tempfile::tempdir())
        .collect::<Result<_, _>>()?;
    let (data, watchers) = folders.split_at(3);
    let port = free_port()?;
    let old = ours(data[0].path(), port, &[])?;
    fill(&mut old.client()?, "key", 0..between(500, 50_000), 100)?;
    let two = [
        replica(data[1].path(), port)?,
        replica(data[2].path(), port)?,
    ];
    let mut watching = sentinels(watchers, port, 2)?;
    let before = under_writes((port, 2), "before", false, |acknowledged| {
        until_enough(acknowledged)?;
        old.kill_family()
    })?;
    let ends = [stands_at(&two[0])?, stands_at(&two[1])?];
    let former = two[0].port;
    let [new, second] = promoted(&mut watching, two)?;
    let second_end = if second.port == former {
        ends[0]
    } else {
        ends[1]
    };
    // Sentinel has closed all clients of the new master.
    let mut master = new.client()?;
    until("the promotion", || {
        Ok(info(&mut master, "replication", "role")? == "master")
    })?;
    has_all(&mut master, &before)?;
    let promoted_at = former_end(&mut master)?;
    takes_writes(&mut master, "promoted")?;
    fill(&mut master, "alone", 0..500, 100)?;

    let old = ours(data[0].path(), port, &[])?;
    let old_end = former_end(&mut old.client()?)?;
    let after = under_writes((new.port, 2), "after", false, |acknowledged| {
        until(
            "both follow",
            || Ok(is_replica(&old) && is_replica(&second)),
        )?;
        for server in [&old, &second] {
            link_is(&mut server.client()?, "up")?;
        }
        until_enough(acknowledged)
    })?;
    for server in [&old, &second] {
        let mut replica = server.client()?;
        until("the same data", || {
            Ok(master.ok("DEBUG DIGEST")? == replica.ok("DEBUG DIGEST")?)
        })?;
        has_all(&mut replica, &before)?;
        has_all(&mut replica, &after)?;
    }
    println!(
        "promoted at {promoted_at}, the other replica stood at {second_end}, the old master at \
         {old_end}; {} and {} writes were acknowledged",
        before.len(),
        after.len()
    );
    // Who has what the new master has not can't go on: it may be one write that nobody has acknowledged.
    let ahead = [second_end + 1, old_end].map(|end| u64::from(end > promoted_at));
    let ahead = ahead[0] + ahead[1];
    synced(&mut master, (ahead, 2 - ahead))
}
