//! A real Redis replicates from us.

use crate::link::{
    Proxy, collections, companions_up, fill, link_is, same_data, spawn, start, synced,
};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::between;
use std::sync::atomic::{AtomicBool, Ordering};

/// Small on purpose: what a link misses must come from our disk.
const REPLICA: [&str; 4] = ["--repl-backlog-size", "16kb", "--repl-timeout", "300"];

const APPEND_ONLY: [&str; 2] = ["--appendonly", "yes"];

/// Our process and those that it started.
fn family(server: &Server) -> anyhow::Result<Vec<u32>> {
    let mut found = vec![server.pid()];
    for thread in std::fs::read_dir(format!("/proc/{}/task", server.pid()))? {
        let children = std::fs::read_to_string(thread?.path().join("children"))?;
        found.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    Ok(found)
}

/// Resident memory of our processes together, bytes.
fn resident(server: &Server) -> anyhow::Result<u64> {
    let page = rustix::param::page_size() as u64;
    let mut sum = 0;
    for pid in family(server)? {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages = text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
        sum += pages.unwrap_or(0) * page;
    }
    Ok(sum)
}

/// Writes until told to stop; how many commands.
fn writer(port: u16, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut client = Client::connect(port)?;
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        client.ok(&format!("SET live:{} {}", count % 3000, "w".repeat(200)))?;
        client.ok("INCR writes")?;
        client.ok(&format!("RPUSH live:list {count}"))?;
        client.ok("LTRIM live:list -100 -1")?;
        count += 4;
    }
    Ok(count)
}

/// Attaches a real replica while a client writes; both have the same data then.
fn sync_under_writes(master: &Server, client: &mut Client) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let port = master.port.to_string();
    let options = [&REPLICA[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| writer(master.port, &stop));
        let attach = || -> anyhow::Result<Server> {
            let replica = spawn(Kind::Redis, folder.path(), &options)?.wait_ready()?;
            link_is(&mut replica.client()?, "up")?;
            Ok(replica)
        };
        let replica = attach();
        stop.store(true, Ordering::Release);
        let written = match writing.join() {
            Ok(written) => written?,
            Err(_) => anyhow::bail!("the writer panicked"),
        };
        anyhow::ensure!(written > 0, "nothing was written meanwhile");
        println!("{written} commands were written during the full sync");
        same_data(client, &mut replica?.client()?)
    })
}

#[test]
fn a_full_sync_under_writes_gives_a_real_replica_the_same_data() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let master = start(Kind::RedRock, folder.path(), &APPEND_ONLY)?;
    let mut client = master.client()?;
    companions_up(&mut client)?;
    fill(&mut client, "key", 0..between(20_000, 1_000_000), 300)?;
    collections(&mut client)?;
    sync_under_writes(&master, &mut client)?;
    synced(&mut client, (1, 0))?;
    Ok(())
}

#[test]
fn a_full_sync_of_more_data_than_memory_gives_the_same_data() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let tiering = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let options = [&APPEND_ONLY[..], &tiering].concat();
    let master = start(Kind::RedRock, folder.path(), &options)?;
    let mut client = master.client()?;
    companions_up(&mut client)?;
    // 1.2 times the bound; 15 times in the soak.
    fill(&mut client, "key", 0..between(75_000, 1_000_000), 2_000)?;
    collections(&mut client)?;
    let report = client.ok("ROCK REPORT")?.elements();
    println!("{report:?}");
    sync_under_writes(&master, &mut client)?;
    synced(&mut client, (1, 0))?;
    Ok(())
}

#[test]
fn a_cut_link_resumes_from_our_disk_however_small_the_replicas_backlog() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let master = start(Kind::RedRock, ours.path(), &APPEND_ONLY)?;
    let mut client = master.client()?;
    companions_up(&mut client)?;
    fill(&mut client, "key", 0..2_000, 100)?;
    let proxy = Proxy::to(master.port)?;
    let port = proxy.port.to_string();
    let options = [&REPLICA[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let server = start(Kind::Redis, theirs.path(), &options)?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    same_data(&mut client, &mut replica)?;
    for round in 1..=2 {
        proxy.cut();
        link_is(&mut replica, "down")?;
        // Hundreds of times the backlog that either side would keep in memory.
        fill(&mut client, "missed", 0..between(8_000, 400_000), 1_000)?;
        client.ok("SELECT 3")?;
        collections(&mut client)?;
        client.ok("SELECT 0")?;
        proxy.heal();
        link_is(&mut replica, "up")?;
        same_data(&mut client, &mut replica)?;
        synced(&mut client, (1, round))?;
    }
    // CLIENT KILL cuts as well, and knows replicas from clients.
    let lines = client.ok("CLIENT LIST TYPE replica")?.text();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains(" flags=S "), "{lines}");
    assert_eq!(client.ok("CLIENT KILL TYPE replica")?.int(), Some(1));
    synced(&mut client, (1, 3))?;
    link_is(&mut replica, "up")?;
    same_data(&mut client, &mut replica)
}

#[test]
fn a_replica_that_reads_nothing_costs_disk_and_no_memory() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = [&APPEND_ONLY[..], &["--repl-timeout", "300"]].concat();
    let master = start(Kind::RedRock, ours.path(), &options)?;
    let mut client = master.client()?;
    companions_up(&mut client)?;
    let proxy = Proxy::to(master.port)?;
    let port = proxy.port.to_string();
    let options = [&REPLICA[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let server = start(Kind::Redis, theirs.path(), &options)?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    // The same keys over and over: the data do not grow, the stream does.
    fill(&mut client, "key", 0..2_000, 1_000)?;
    same_data(&mut client, &mut replica)?;
    proxy.stop(true);
    let before = resident(&master)?;
    let rounds = between(30, 1_500);
    for _ in 0..rounds {
        fill(&mut client, "key", 0..2_000, 1_000)?;
    }
    let grown = resident(&master)?.saturating_sub(before);
    let written = rounds * 2_000 * 1_000;
    println!("{written} bytes written for a stopped replica, {grown} bytes of memory more");
    assert!(grown < 24 << 20, "{grown} bytes more for {written} written");
    proxy.stop(false);
    same_data(&mut client, &mut replica)?;
    synced(&mut client, (1, 0))?;
    Ok(())
}
