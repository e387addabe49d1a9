//! Three Sentinels over a master of one kind and a replica of the other: the master is killed under
//! writes, the replica is promoted, and the old master comes back as its replica.

use crate::link::{companions_up, fill, info, link_is, number, same_data, until};
use crate::sentinel::Sentinel;
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::between;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const SENTINELS: usize = 3;
const QUORUM: usize = 2;

fn spawn(kind: Kind, folder: &Path, port: u16, more: &[&str]) -> anyhow::Result<Server> {
    let options = [
        "--appendonly",
        "yes",
        "--enable-debug-command",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "64mb",
    ];
    let server = Server::spawn_on(port, kind, folder, &[&options[..], more].concat())?;
    let server = server.wait_ready()?;
    if kind == Kind::RedRock {
        companions_up(&mut server.client()?)?;
    }
    Ok(server)
}

/// Three of them, each of which knows the others and a replica.
fn sentinels(folders: &[tempfile::TempDir], master: u16) -> anyhow::Result<Vec<Sentinel>> {
    let watching = folders
        .iter()
        .map(|folder| Sentinel::watch(folder.path(), master, QUORUM));
    let mut all = watching.collect::<anyhow::Result<Vec<_>>>()?;
    for sentinel in &mut all {
        sentinel.knows_replica()?;
        until("the other Sentinels", || {
            let others = sentinel.client.ok("SENTINEL SENTINELS watched")?.elements();
            Ok(others.len() == SENTINELS - 1)
        })?;
    }
    Ok(all)
}

/// Counts up until the server is gone or it is told to stop, each number waited for; the numbers that
/// the replica has acknowledged, with what they stand in for.
fn write(
    port: u16,
    name: &str,
    stop: &AtomicBool,
    acknowledged: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut client = Client::connect(port)?;
    for n in 0.. {
        let key = format!("{name}:{n}");
        let written = client.run(&["SET", &key, &key]);
        let reached = match written {
            Ok(_) => client.run(&["WAIT", "1", "2000"]),
            Err(error) => Err(error),
        };
        match reached {
            Ok(reply) if reply.int() >= Some(1) => {
                let mut keys = acknowledged.lock().unwrap_or_else(|e| e.into_inner());
                keys.push(key);
            }
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes that nobody waits for, beside the others: the replica lacks some of them at any time.
fn write_much(port: u16, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut client = Client::connect(port)?;
    while !stop.load(Ordering::Acquire) && fill(&mut client, "much", 0..200, 500).is_ok() {}
    Ok(())
}

/// Runs `work` beside writes to a server, many of them if told; the acknowledged keys.
fn under_writes(
    port: u16,
    name: &str,
    much: bool,
    work: impl FnOnce(&Mutex<Vec<String>>) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let stop = AtomicBool::new(false);
    let acknowledged = Mutex::default();
    std::thread::scope(|scope| {
        let mut writers = vec![scope.spawn(|| write(port, name, &stop, &acknowledged))];
        if much {
            writers.push(scope.spawn(|| write_much(port, &stop)));
        }
        let done = work(&acknowledged);
        stop.store(true, Ordering::Release);
        for writer in writers {
            match writer.join() {
                Ok(written) => written?,
                Err(_) => anyhow::bail!("a writer panicked"),
            }
        }
        done
    })?;
    Ok(acknowledged.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn has_all(client: &mut Client, keys: &[String]) -> anyhow::Result<()> {
    for key in keys {
        let value = client.ok(&format!("GET {key}"))?.text();
        anyhow::ensure!(
            value == *key,
            "{key} was acknowledged and is lost: '{value}'"
        );
    }
    Ok(())
}

/// Where a stream ended under the id before the present one.
fn former_end(client: &mut Client) -> anyhow::Result<u64> {
    number(client, "replication", "second_repl_offset")
}

/// A master of the first kind, a replica of the second.
fn changes_over(first: Kind, second: Kind) -> anyhow::Result<()> {
    let folders: [tempfile::TempDir; 2] = [tempfile::tempdir()?, tempfile::tempdir()?];
    let watchers = [
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    ];
    let old_port = free_port()?;
    let old = spawn(first, folders[0].path(), old_port, &[])?;
    let text = old_port.to_string();
    let port = free_port()?;
    let new = spawn(
        second,
        folders[1].path(),
        port,
        &["--replicaof", "127.0.0.1", &text],
    )?;
    link_is(&mut new.client()?, "up")?;
    fill(&mut old.client()?, "key", 0..between(500, 50_000), 100)?;
    let mut sentinels = sentinels(&watchers, old_port)?;

    let enough = between(100, 5_000) as usize;
    // Of ours that comes back it matters whether it had more than its replica.
    let much = first == Kind::Redis;
    let before = under_writes(old_port, "before", much, |acknowledged| {
        until("writes that were acknowledged", || {
            let keys = acknowledged.lock().unwrap_or_else(|e| e.into_inner());
            Ok(keys.len() >= enough)
        })?;
        match first {
            Kind::Redis => old.kill(),
            Kind::RedRock => old.kill_family(),
        }
    })?;
    for sentinel in &mut sentinels {
        sentinel.waits_for_master(port)?;
    }
    // Sentinel has closed all clients of the new master.
    let mut master = new.client()?;
    until("the promotion", || {
        Ok(info(&mut master, "replication", "role")? == "master")
    })?;
    has_all(&mut master, &before)?;
    let promoted_at = former_end(&mut master)?;
    fill(&mut master, "alone", 0..500, 100)?;

    // The old master comes back as one, and the Sentinels make it follow.
    let old = spawn(first, folders[0].path(), old_port, &[])?;
    let goes_on = match first {
        // It does not know any more where it stood.
        Kind::Redis => false,
        Kind::RedRock => {
            let ended_at = former_end(&mut old.client()?)?;
            println!("the old master ended at {ended_at}, the new one began at {promoted_at}");
            ended_at <= promoted_at
        }
    };
    let after = under_writes(port, "after", false, |acknowledged| {
        until("a replica again", || {
            let role = old
                .client()
                .and_then(|mut c| info(&mut c, "replication", "role"));
            Ok(role.is_ok_and(|role| role == "slave"))
        })?;
        link_is(&mut old.client()?, "up")?;
        until("writes that were acknowledged", || {
            let keys = acknowledged.lock().unwrap_or_else(|e| e.into_inner());
            Ok(keys.len() >= enough)
        })
    })?;
    let mut replica = old.client()?;
    same_data(&mut master, &mut replica)?;
    for client in [&mut master, &mut replica] {
        has_all(client, &before)?;
        has_all(client, &after)?;
    }
    println!(
        "{} and {} writes were acknowledged",
        before.len(),
        after.len()
    );
    let full = number(&mut master, "stats", "sync_full")?;
    let partial = number(&mut master, "stats", "sync_partial_ok")?;
    let wanted = if goes_on { (0, 1) } else { (1, 0) };
    assert_eq!((full, partial), wanted);
    Ok(())
}

#[test]
fn a_real_master_is_replaced_by_us_and_comes_back() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::Redis, Kind::RedRock),
        false => Ok(()),
    }
}

#[test]
fn we_are_replaced_by_a_real_redis_and_come_back() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::RedRock, Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn we_are_replaced_by_one_of_ours_and_come_back() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::RedRock, Kind::RedRock),
        false => Ok(()),
    }
}
