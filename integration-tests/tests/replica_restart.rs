//! A replica with a log of its own: what it keeps through full syncs, restarts and promotions, and
//! that it goes on with a real Redis from there, by partial resynchronization.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::{companions_up, info, signal, until};
use redrock_integration_tests::dataset::random_writes;
use redrock_integration_tests::process::{Kind, Server, binary, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::scale;
use rustix::process::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LOGGED: [&str; 4] = ["--appendonly", "yes", "--enable-debug-command", "yes"];

fn times() -> usize {
    usize::try_from(scale()).unwrap_or(1)
}

fn digest(client: &mut Client) -> anyhow::Result<String> {
    Ok(client.ok("DEBUG DIGEST")?.text())
}

/// How far it is, and what it holds.
fn stand(client: &mut Client) -> anyhow::Result<(String, String)> {
    Ok((info(client, "all", "master_repl_offset")?, digest(client)?))
}

fn replica_of(port: u16) -> Vec<String> {
    let port = port.to_string();
    let words = LOGGED
        .into_iter()
        .chain(["--replicaof", "127.0.0.1", &port]);
    words.map(str::to_owned).collect()
}

/// Our server on a port that others know it by.
fn start_on(folder: &Path, port: u16, options: &[&str]) -> anyhow::Result<Server> {
    Server::spawn_on(port, Kind::RedRock, folder, options)?.wait_ready()
}

/// Our server as a replica, with a log.
fn start_replica(folder: &Path, port: u16, master: u16) -> anyhow::Result<Server> {
    let options = replica_of(master);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    start_on(folder, port, &options)
}

/// Until the replica has all that the master has, and both hold the same.
fn same(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    until("a replica that caught up", || {
        Ok(info(replica, "everything", "master_link_status")? == "up"
            && info(replica, "everything", "slave_repl_offset")?
                == info(master, "everything", "master_repl_offset")?)
    })?;
    assert_eq!(digest(replica)?, digest(master)?);
    Ok(())
}

fn log_is_on(client: &mut Client) -> anyhow::Result<()> {
    until("the log after the full sync", || {
        Ok(info(client, "everything", "aof_enabled")? == "1")
    })
}

fn syncs(client: &mut Client) -> anyhow::Result<(String, String)> {
    Ok((
        info(client, "everything", "sync_full")?,
        info(client, "everything", "sync_partial_ok")?,
    ))
}

/// Our own counters come from the agent, once a second.
fn counted(client: &mut Client, full: u32, partial: u32) -> anyhow::Result<()> {
    let wanted = count(full, partial);
    let mut seen = wanted.clone();
    let result = until("the count of synchronizations", || {
        seen = syncs(client)?;
        Ok(seen == wanted)
    });
    result.map_err(|error| error.context(format!("{seen:?} instead of {wanted:?}")))
}

fn count(full: u32, partial: u32) -> (String, String) {
    (full.to_string(), partial.to_string())
}

#[test]
fn a_replica_goes_on_from_its_log_after_kill_9_and_keeps_what_it_acknowledged_as_a_master()
-> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let redis = Server::start(Kind::Redis, theirs.path(), &[])?;
    let mut master = redis.client()?;
    random_writes(&mut master, 1, 3000 * times())?;
    let port = free_port()?;
    let server = start_replica(ours.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    log_is_on(&mut client)?;
    random_writes(&mut master, 2, 2000 * times())?;
    same(&mut master, &mut client)?;
    server.kill_family()?;
    random_writes(&mut master, 3, 500)?;

    let server = start_replica(ours.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    assert_eq!(syncs(&mut master)?, count(1, 1));
    // Writes that end in another database than 0: the stream goes on there.
    master.ok("SELECT 2")?;
    master.ok("SET there 1")?;
    same(&mut master, &mut client)?;
    server.kill_family()?;
    master.ok("SET there 2")?;
    let server = start_replica(ours.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    assert_eq!(syncs(&mut master)?, count(1, 2));

    let former = info(&mut client, "everything", "master_replid")?;
    assert_eq!(former, info(&mut master, "everything", "master_replid")?);
    client.ok("REPLICAOF NO ONE")?;
    let promoted = info(&mut client, "everything", "master_replid")?;
    assert_ne!(promoted, former);
    assert_eq!(info(&mut client, "everything", "master_replid2")?, former);
    random_writes(&mut client, 4, 1000)?;
    let expected = digest(&mut client)?;
    let end = info(&mut client, "everything", "master_repl_offset")?;
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, ours.path(), &LOGGED)?;
    let mut client = server.client()?;
    assert_eq!(digest(&mut client)?, expected);
    assert_eq!(info(&mut client, "everything", "master_replid2")?, promoted);
    assert_eq!(info(&mut client, "everything", "master_repl_offset")?, end);
    Ok(())
}

#[test]
fn a_chain_survives_the_restart_of_its_middle_without_a_full_sync() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders = [(); 3].map(|()| tempfile::tempdir());
    let [first, middle, last] = folders;
    let (first, middle, last) = (first?, middle?, last?);
    let redis = Server::start(Kind::Redis, first.path(), &[])?;
    let mut master = redis.client()?;
    random_writes(&mut master, 5, 2000 * times())?;
    let port = free_port()?;
    let server = start_replica(middle.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    log_is_on(&mut client)?;
    let text = port.to_string();
    let leaf = Server::start(
        Kind::Redis,
        last.path(),
        &["--replicaof", "127.0.0.1", &text],
    )?;
    let mut replica = leaf.client()?;
    random_writes(&mut master, 6, 1000)?;
    same(&mut master, &mut replica)?;
    counted(&mut client, 1, 0)?;

    links_are_clients(&mut master, &mut client, redis.port)?;
    random_writes(&mut master, 7, 500)?;
    same(&mut master, &mut client)?;
    same(&mut master, &mut replica)?;
    counted(&mut client, 1, 1)?;
    let before = syncs(&mut master)?;
    assert_eq!(before, count(1, 1));

    server.kill_family()?;
    random_writes(&mut master, 8, 1000)?;
    let server = start_replica(middle.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    same(&mut master, &mut replica)?;
    assert_eq!(syncs(&mut master)?, count(1, 2));
    counted(&mut client, 0, 1)?;
    let id = info(&mut master, "everything", "master_replid")?;
    assert_eq!(info(&mut replica, "everything", "master_replid")?, id);
    Ok(())
}

#[test]
fn a_middle_without_a_log_comes_back_with_all_that_its_replica_has() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (first, middle, last) = (
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let redis = Server::start(Kind::Redis, first.path(), &[])?;
    let mut master = redis.client()?;
    random_writes(&mut master, 5, 1000 * times())?;
    let port = free_port()?;
    let (above, here) = (redis.port.to_string(), port.to_string());
    let options = [
        "--enable-debug-command",
        "yes",
        "--replicaof",
        "127.0.0.1",
        &above,
    ];
    let mut server = start_on(middle.path(), port, &options)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    let leaf = Server::start(
        Kind::Redis,
        last.path(),
        &["--replicaof", "127.0.0.1", &here],
    )?;
    let mut replica = leaf.client()?;
    same(&mut master, &mut replica)?;
    client.ok("SAVE")?;
    for round in 0..2 {
        // What is behind the dump is in the log for the replica alone.
        random_writes(&mut master, 7 + round, 500)?;
        same(&mut master, &mut replica)?;
        let held = stand(&mut replica)?;
        server.kill_family()?;
        signal(redis.pid(), Signal::STOP)?;
        server = start_on(middle.path(), port, &options)?;
        client = server.client()?;
        let came_back = stand(&mut client)?;
        signal(redis.pid(), Signal::CONT)?;
        assert_eq!(came_back, held);
        random_writes(&mut master, 17 + round, 500)?;
        same(&mut master, &mut client)?;
        same(&mut master, &mut replica)?;
        counted(&mut client, 0, 1)?;
    }
    assert_eq!(syncs(&mut master)?, count(1, 2));
    Ok(())
}

/// CLIENT LIST shows both links of the middle, and CLIENT KILL breaks them: they come back.
fn links_are_clients(
    master: &mut Client,
    client: &mut Client,
    master_port: u16,
) -> anyhow::Result<()> {
    let up = client.ok("CLIENT LIST TYPE master")?.text();
    assert!(
        up.contains(&format!("addr=127.0.0.1:{master_port} ")) && up.contains(" flags=M "),
        "{up}"
    );
    let down = client.ok("CLIENT LIST TYPE replica")?.text();
    assert!(down.contains(" flags=S "), "{down}");
    assert_eq!(client.ok("CLIENT KILL TYPE replica")?.int(), Some(1));
    until("a replica that came back", || {
        Ok(info(client, "everything", "sync_partial_ok")? == "1")
    })?;
    assert_eq!(client.ok("CLIENT KILL TYPE master")?.int(), Some(1));
    until("the link to the master again", || {
        Ok(info(master, "everything", "sync_partial_ok")? == "1"
            && info(client, "everything", "master_link_status")? == "up")
    })
}

#[test]
fn a_replica_follows_a_promoted_sibling_of_its_own_and_keeps_the_new_id() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folders = [(); 3].map(|()| tempfile::tempdir());
    let [first, second, ours] = folders;
    let (first, second, ours) = (first?, second?, ours?);
    let redis = Server::start(Kind::Redis, first.path(), &[])?;
    let mut master = redis.client()?;
    random_writes(&mut master, 9, 1000)?;
    let text = redis.port.to_string();
    let sibling = Server::start(
        Kind::Redis,
        second.path(),
        &["--replicaof", "127.0.0.1", &text],
    )?;
    let mut other = sibling.client()?;
    let port = free_port()?;
    let server = start_replica(ours.path(), port, redis.port)?;
    let mut client = server.client()?;
    same(&mut master, &mut client)?;
    log_is_on(&mut client)?;
    random_writes(&mut master, 10, 500)?;
    same(&mut master, &mut client)?;
    same(&mut master, &mut other)?;
    let former = info(&mut master, "everything", "master_replid")?;
    redis.kill()?;

    other.ok("REPLICAOF NO ONE")?;
    random_writes(&mut other, 11, 500)?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", sibling.port))?;
    same(&mut other, &mut client)?;
    assert_eq!(syncs(&mut other)?, count(0, 1));
    let promoted = info(&mut other, "everything", "master_replid")?;
    assert_eq!(info(&mut client, "everything", "master_replid")?, promoted);
    assert_eq!(info(&mut client, "everything", "master_replid2")?, former);
    server.kill_family()?;
    random_writes(&mut other, 12, 500)?;
    let server = start_replica(ours.path(), port, sibling.port)?;
    let mut client = server.client()?;
    same(&mut other, &mut client)?;
    assert_eq!(syncs(&mut other)?, count(0, 2));
    assert_eq!(info(&mut client, "everything", "master_replid2")?, former);
    Ok(())
}

#[test]
fn kill_9_around_a_promotion_loses_no_acknowledged_write_and_mixes_no_histories()
-> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let seed = 13;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let redis = Server::start(Kind::Redis, theirs.path(), &[])?;
    let mut master = redis.client()?;
    let port = free_port()?;
    for round in 0..5 * times() {
        random_writes(&mut master, round as u64, 200)?;
        let server = start_replica(ours.path(), port, redis.port)?;
        let mut client = server.client()?;
        same(&mut master, &mut client)?;
        log_is_on(&mut client)?;
        // The master goes on writing while the replica leaves it, and then dies.
        let delay = Duration::from_micros(random.random_range(0..30_000));
        let pid = server.pid();
        let promotion = std::thread::spawn(move || -> anyhow::Result<i64> {
            let mut acknowledged = 0;
            let _killed = client.ok("REPLICAOF NO ONE");
            while let Ok(reply) = client.ok("INCR promoted") {
                acknowledged = reply.int().unwrap_or(acknowledged);
            }
            Ok(acknowledged)
        });
        random_writes(&mut master, 1000 + round as u64, 100)?;
        std::thread::sleep(delay);
        assert_eq!(server.pid(), pid);
        server.kill_family()?;
        let acknowledged = promotion.join().expect("the client's thread")?;

        // As a master it has all that it said it has.
        let server = start_on(ours.path(), port, &LOGGED)?;
        let mut client = server.client()?;
        let found = client.ok("GET promoted")?.int().unwrap_or(0);
        assert!(found >= acknowledged, "round {round}: {found}");
        server.kill_family()?;
        // And back in its place it is the master's copy again, whichever way it takes.
        let server = start_replica(ours.path(), port, redis.port)?;
        same(&mut master, &mut server.client()?)?;
        log_is_on(&mut server.client()?)?;
        server.kill_family()?;
        let server = start_replica(ours.path(), port, redis.port)?;
        same(&mut master, &mut server.client()?)?;
        server.kill_family()?;
    }
    Ok(())
}

/// A companion that the test starts itself; dropping it kills it.
struct Companion(Child);

impl Companion {
    fn start(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let child = Command::new(binary(name)?)
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended with the server.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_persister_the_link_stays_up_and_the_log_comes_back_with_it() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let redis = Server::start(Kind::Redis, theirs.path(), &[])?;
    let mut master = redis.client()?;
    random_writes(&mut master, 14, 1000)?;
    let options = [&LOGGED[..], &["--companions", "external"]].concat();
    let server = Server::start(Kind::RedRock, ours.path(), &options)?;
    let mut client = server.client()?;
    client.ok("SET own 1")?;
    let _agent = Companion::start("redrock-replica", ours.path())?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", redis.port))?;
    same(&mut master, &mut client)?;
    until("the trouble in INFO", || {
        Ok(info(&mut client, "everything", "aof_last_bgrewrite_status")? == "err")
    })?;
    assert_eq!(info(&mut client, "everything", "aof_enabled")?, "0");
    // Promotion and back need no persister either.
    client.ok("REPLICAOF NO ONE")?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", redis.port))?;
    random_writes(&mut master, 15, 500)?;
    same(&mut master, &mut client)?;

    let _persister = Companion::start("redrock-persist", ours.path())?;
    log_is_on(&mut client)?;
    until("no trouble in INFO", || {
        Ok(info(&mut client, "everything", "aof_last_bgrewrite_status")? == "ok")
    })?;
    random_writes(&mut master, 16, 500)?;
    same(&mut master, &mut client)?;
    let (full, _) = syncs(&mut master)?;
    server.kill_family()?;
    let server = start_replica(ours.path(), free_port()?, redis.port)?;
    same(&mut master, &mut server.client()?)?;
    assert_eq!(syncs(&mut master)?.0, full, "no further full sync");
    Ok(())
}

#[test]
fn a_changed_id_is_kept_and_a_log_turned_off_and_on_is_no_history_to_go_on_from()
-> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let port = free_port()?;
    let server = start_on(ours.path(), port, &LOGGED)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    random_writes(&mut client, 17, 500)?;
    let text = port.to_string();
    let redis = Server::start(
        Kind::Redis,
        theirs.path(),
        &["--replicaof", "127.0.0.1", &text],
    )?;
    let mut replica = redis.client()?;
    same(&mut client, &mut replica)?;
    counted(&mut client, 1, 0)?;
    client.ok("DEBUG CHANGE-REPL-ID")?;
    let id = info(&mut client, "everything", "master_replid")?;
    assert_eq!(
        info(&mut client, "everything", "master_replid2")?,
        "0".repeat(40)
    );
    until("a full sync under the new id", || {
        Ok(info(&mut replica, "everything", "master_replid")? == id)
    })?;
    same(&mut client, &mut replica)?;
    server.kill_family()?;
    let server = start_on(ours.path(), port, &LOGGED)?;
    let mut client = server.client()?;
    assert_eq!(info(&mut client, "everything", "master_replid2")?, id);
    same(&mut client, &mut replica)?;
    counted(&mut client, 0, 1)?;

    // With the replica attached the stream goes on in another log, and back.
    let id = info(&mut client, "everything", "master_replid")?;
    client.ok("CONFIG SET appendonly no")?;
    client.ok("SET unlogged 1")?;
    client.ok("CONFIG SET appendonly yes")?;
    assert_eq!(info(&mut client, "everything", "master_replid")?, id);
    client.ok("SET logged 1")?;
    same(&mut client, &mut replica)?;
    assert_eq!(replica.ok("GET unlogged")?.text(), "1");
    counted(&mut client, 0, 1)?;

    // With none attached nobody logs the changes: they are not in the stream, and nobody may go
    // on across them.
    replica.ok("REPLICAOF NO ONE")?;
    until("the replica is gone", || {
        Ok(info(&mut client, "everything", "connected_slaves")? == "0")
    })?;
    client.ok("CONFIG SET appendonly no")?;
    client.ok("SET unlogged 2")?;
    client.ok("CONFIG SET appendonly yes")?;
    assert_ne!(info(&mut client, "everything", "master_replid")?, id);
    replica.ok(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    same(&mut client, &mut replica)?;
    assert_eq!(replica.ok("GET unlogged")?.text(), "2");
    counted(&mut client, 1, 1)?;
    Ok(())
}
