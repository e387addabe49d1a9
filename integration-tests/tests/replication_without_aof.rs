//! Real replicas of a master whose append-only file is off: one base on demand, the stream under
//! `repl/`, partial resynchronization from it, and what a restart makes of it.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::dataset::random_writes;
use redrock_integration_tests::process::{Kind, Server, binary, copy_folder, has_redis};
use redrock_integration_tests::resp::{Client, encode};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn number(client: &mut Client, field: &str) -> anyhow::Result<u64> {
    let text = info(client, "all", field)?;
    text.parse().with_context(|| format!("{field}: {text:?}"))
}

/// A master of ours with its companions up.
struct Master {
    server: Server,
    client: Client,
}

impl Master {
    fn start(folder: &Path, options: &[&str]) -> anyhow::Result<Master> {
        let options = [&["--enable-debug-command", "yes"], options].concat();
        let server = Server::start(Kind::RedRock, folder, &options)?;
        let mut client = server.client()?;
        until("companions up", || {
            let text = client.ok("INFO companions")?.text();
            Ok(text.matches("state=up").count() == 2)
        })?;
        Ok(Master { server, client })
    }

    fn replica(&self, folder: &Path) -> anyhow::Result<(Server, Client)> {
        let port = self.server.port.to_string();
        let replica = Server::start(Kind::Redis, folder, &["--replicaof", "127.0.0.1", &port])?;
        let client = replica.client()?;
        Ok((replica, client))
    }

    /// Until so many replicas follow the stream.
    fn online(&mut self, count: usize) -> anyhow::Result<()> {
        until("replicas online", || {
            let text = self.client.ok("INFO replication")?.text();
            Ok(text.matches("state=online").count() == count)
        })
    }

    /// Until the replica has what the master has, and exactly that.
    fn same_data(&mut self, replicas: &mut [&mut Client]) -> anyhow::Result<()> {
        self.client.ok("SET barrier 1")?;
        let count = replicas.len();
        let got = self.client.ok(&format!("WAIT {count} 30000"))?;
        anyhow::ensure!(got.int() == Some(count as i64), "WAIT gave {got:?}");
        let wanted = self.client.ok("DEBUG DIGEST")?;
        for replica in replicas {
            anyhow::ensure!(replica.ok("DEBUG DIGEST")? == wanted, "other data");
        }
        Ok(())
    }

    /// Writes `megabytes` into the stream, always the same 16 keys.
    fn write(&mut self, megabytes: usize) -> anyhow::Result<()> {
        let value = vec![b'x'; 16 << 10];
        for _ in 0..megabytes {
            let mut bytes = Vec::new();
            for n in 0..64 {
                encode(
                    &mut bytes,
                    &[b"SET", format!("bulk:{}", n % 16).as_bytes(), &value],
                );
            }
            self.client.send_raw(&bytes)?;
            for _ in 0..64 {
                self.client.receive()?;
            }
        }
        Ok(())
    }
}

/// Points a replica at a port where nobody listens, once it has a place in the stream.
fn cut_link(master: &mut Master, replica: &mut Client) -> anyhow::Result<()> {
    until("the replica's link is up", || {
        Ok(info(replica, "replication", "master_link_status")? == "up")
    })?;
    replica.ok("REPLICAOF 127.0.0.1 1")?;
    until("the link is cut", || {
        Ok(number(&mut master.client, "connected_slaves")? == 0)
    })
}

fn follow_again(master: &mut Master, replica: &mut Client) -> anyhow::Result<()> {
    replica.ok(&format!("REPLICAOF 127.0.0.1 {}", master.server.port))?;
    master.online(1)
}

/// How often a replica has synchronized fully and partially, by its own account.
fn syncs(replica: &Server) -> (usize, usize) {
    let text = replica.log_text();
    (
        text.matches("Full resync from master").count(),
        text.matches("Successful partial resynchronization").count(),
    )
}

/// Until INFO, which is brought up to date once a second, shows a figure.
fn shows(client: &mut Client, field: &str, wanted: u64) -> anyhow::Result<()> {
    until(&format!("{field}:{wanted}"), || {
        Ok(number(client, field)? == wanted)
    })
}

/// The history that a replica follows.
fn replica_of(replica: &mut Client) -> anyhow::Result<String> {
    info(replica, "all", "master_replid")
}

/// Names under `repl/` that end so.
fn files(folder: &Path, suffix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("repl")).into_iter().flatten();
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(suffix)).collect()
}

/// Bytes of segments under `repl/`.
fn segment_bytes(folder: &Path) -> u64 {
    let length = |name: &String| std::fs::metadata(folder.join("repl").join(name));
    let names = files(folder, ".incr.aof");
    names
        .iter()
        .flat_map(length)
        .map(|metadata| metadata.len())
        .sum()
}

/// Until little more than a backlog of 2 MB is kept, however fast it was written.
fn shrinks(master: &mut Master, folder: &Path) -> anyhow::Result<()> {
    until("what nobody is kept for goes", || {
        master.write(1)?;
        // Segments go a few times a second: at full speed there is always more than a backlog.
        std::thread::sleep(Duration::from_millis(20));
        Ok(segment_bytes(folder) < 8 << 20)
    })
}

/// Writes to all types until told to stop.
fn writer(port: u16, seed: u64) -> anyhow::Result<impl FnOnce() -> anyhow::Result<()>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let mut client = Client::connect(port)?;
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut round = 0;
        while !stopping.load(Ordering::Relaxed) {
            random_writes(&mut client, seed + round, 100)?;
            round += 1;
        }
        Ok(())
    });
    Ok(move || {
        stop.store(true, Ordering::Relaxed);
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })
}

#[test]
fn replicas_that_come_together_share_one_base_under_writes() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, one, two) = (
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let mut master = Master::start(ours.path(), &[])?;
    master.client.ok("DEBUG POPULATE 50000 key 200")?;
    random_writes(&mut master.client, 1, 2000)?;
    assert_eq!(number(&mut master.client, "repl_backlog_active")?, 0);
    assert_eq!(number(&mut master.client, "master_repl_offset")?, 0);
    assert!(!ours.path().join("repl").exists(), "nobody needs a log yet");

    let stop = writer(master.server.port, 100)?;
    let (_first, mut first) = master.replica(one.path())?;
    let (_second, mut second) = master.replica(two.path())?;
    master.online(2)?;
    random_writes(&mut master.client, 2, 1000)?;
    stop()?;
    master.same_data(&mut [&mut first, &mut second])?;

    assert_eq!(
        files(ours.path(), ".rdb"),
        ["base.1.rdb"],
        "one base, shared"
    );
    let client = &mut master.client;
    shows(client, "sync_full", 2)?;
    shows(client, "repl_backlog_active", 1)?;
    let (offset, first_byte) = (
        number(client, "master_repl_offset")?,
        number(client, "repl_backlog_first_byte_offset")?,
    );
    assert!(first_byte >= 1 && first_byte < offset);
    assert!(number(client, "repl_backlog_histlen")? > 0);
    assert!(number(client, "repl_backlog_size")? >= 1 << 30);
    let role = client.ok("ROLE")?.elements();
    assert_eq!(
        role.get(2).map(|list| list.clone().elements().len()),
        Some(2)
    );
    assert_eq!(info(client, "all", "aof_enabled")?, "0");
    Ok(())
}

#[test]
fn replicas_share_one_base_of_cold_values_too() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, one) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let two = tempfile::tempdir()?;
    let feature = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];
    let mut master = Master::start(ours.path(), &feature)?;
    master.client.ok("DEBUG POPULATE 20000 key 200")?;
    random_writes(&mut master.client, 3, 1000)?;
    let spilled = master.client.ok("ROCKALL")?.int();
    assert!(spilled.is_some_and(|count| count > 19_000), "{spilled:?}");
    let (_first, mut first) = master.replica(one.path())?;
    let (_second, mut second) = master.replica(two.path())?;
    master.online(2)?;
    random_writes(&mut master.client, 4, 500)?;
    master.same_data(&mut [&mut first, &mut second])?;
    assert_eq!(
        files(ours.path(), ".rdb"),
        ["base.1.rdb"],
        "one base, shared"
    );
    assert!(!ours.path().join("dump.rdb").exists());
    Ok(())
}

#[test]
fn a_link_that_was_cut_goes_on_where_it_was() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // More is written meanwhile than the 1 MB of memory that Redis would keep.
    let mut master = Master::start(ours.path(), &["--repl-backlog-disk-size", "64mb"])?;
    random_writes(&mut master.client, 3, 1000)?;
    let (process, mut replica) = master.replica(theirs.path())?;
    master.online(1)?;
    cut_link(&mut master, &mut replica)?;
    master.write(24)?;
    random_writes(&mut master.client, 4, 1000)?;
    assert!(files(ours.path(), ".incr.aof").len() > 1, "several files");
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (1, 1));
    shows(&mut master.client, "sync_partial_ok", 1)?;
    shows(&mut master.client, "sync_full", 1)
}

#[test]
fn who_lacks_more_than_the_backlog_synchronizes_anew() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut master = Master::start(ours.path(), &["--repl-backlog-disk-size", "2mb"])?;
    let (replica, mut client) = master.replica(theirs.path())?;
    master.online(1)?;
    master.same_data(&mut [&mut client])?;
    cut_link(&mut master, &mut client)?;
    master.write(16)?;
    shrinks(&mut master, ours.path())?;
    follow_again(&mut master, &mut client)?;
    master.same_data(&mut [&mut client])?;
    assert_eq!(syncs(&replica), (2, 0));

    // One that stays attached and takes nothing is dropped; the master never waits for it.
    let pid = rustix::process::Pid::from_raw(replica.pid() as i32).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
    until("the slow one is dropped", || {
        master.write(1)?;
        Ok(number(&mut master.client, "connected_slaves")? == 0)
    })?;
    until("its part goes", || Ok(segment_bytes(ours.path()) < 6 << 20))?;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
    master.online(1)?;
    master.same_data(&mut [&mut client])?;
    assert_eq!(syncs(&replica), (3, 0));
    shows(&mut master.client, "sync_full", 3)
}

#[test]
fn the_append_only_file_is_turned_on_and_off_under_a_replica() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut master = Master::start(ours.path(), &[])?;
    random_writes(&mut master.client, 5, 500)?;
    let (process, mut replica) = master.replica(theirs.path())?;
    master.online(1)?;
    let stop = writer(master.server.port, 500)?;
    for round in 0..2 {
        master.client.ok("CONFIG SET appendonly yes")?;
        shows(&mut master.client, "aof_enabled", 1)?;
        random_writes(&mut master.client, 10 + round, 300)?;
        master.client.ok("CONFIG SET appendonly no")?;
        random_writes(&mut master.client, 20 + round, 300)?;
        shows(&mut master.client, "aof_enabled", 0)?;
        shows(&mut master.client, "repl_backlog_active", 1)?;
    }
    stop()?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (1, 0), "the link was never cut");
    // The stream leads through both kinds of files.
    cut_link(&mut master, &mut replica)?;
    random_writes(&mut master.client, 30, 300)?;
    master.client.ok("CONFIG SET appendonly yes")?;
    random_writes(&mut master.client, 31, 300)?;
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (1, 1));
    // What the log of ours holds is the same data.
    let digest = master.client.ok("DEBUG DIGEST")?;
    master.server.kill()?;
    let mut again = Master::start(ours.path(), &["--appendonly", "yes"])?;
    assert_eq!(again.client.ok("DEBUG DIGEST")?, digest);
    Ok(())
}

#[test]
fn the_backlog_ends_when_nobody_has_come_back() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut master = Master::start(ours.path(), &["--repl-backlog-disk-ttl", "1"])?;
    let (process, mut replica) = master.replica(theirs.path())?;
    master.online(1)?;
    master.same_data(&mut [&mut replica])?;
    shows(&mut master.client, "repl_backlog_active", 1)?;
    let before = info(&mut master.client, "all", "master_replid")?;
    cut_link(&mut master, &mut replica)?;
    shows(&mut master.client, "repl_backlog_active", 0)?;
    let offset = number(&mut master.client, "master_repl_offset")?;
    // In no log: whoever was at that offset must not go on from there.
    random_writes(&mut master.client, 6, 500)?;
    assert_eq!(number(&mut master.client, "master_repl_offset")?, offset);
    until("its files go", || Ok(segment_bytes(ours.path()) == 0))?;
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (2, 0));
    until("another history", || {
        Ok(info(&mut master.client, "all", "master_replid")? != before)
    })
}

/// A companion that the test started; killed when dropped.
struct Companion(Child);

impl Companion {
    fn start(name: &str, folder: &Path) -> anyhow::Result<Companion> {
        let mut command = Command::new(binary(name)?);
        command.arg("--dir").arg(folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Companion(command.spawn()?))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_persister_a_replica_is_put_off_and_comes_in_later() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = ["--companions", "external", "--enable-debug-command", "yes"];
    let server = Server::start(Kind::RedRock, ours.path(), &options)?;
    let client = server.client()?;
    let mut master = Master { server, client };
    let _agent = Companion::start("redrock-replica", ours.path())?;
    until("the agent is up", || {
        Ok(master
            .client
            .ok("INFO companions")?
            .text()
            .contains("state=up"))
    })?;
    let (replica, mut follower) = master.replica(theirs.path())?;
    until("it is refused", || {
        random_writes(&mut master.client, 7, 20)?;
        Ok(replica.log_text().contains("NOMASTERLINK"))
    })?;
    assert_eq!(number(&mut master.client, "master_repl_offset")?, 0);
    let _persister = Companion::start("redrock-persist", ours.path())?;
    master.online(1)?;
    master.same_data(&mut [&mut follower])
}

#[test]
fn a_killed_master_goes_on_behind_the_dump_that_its_log_continues() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut master = Master::start(ours.path(), &[])?;
    random_writes(&mut master.client, 8, 500)?;
    master.client.ok("SAVE")?;
    let old = tempfile::tempdir()?;
    std::fs::copy(ours.path().join("dump.rdb"), old.path().join("dump.rdb"))?;
    let old_digest = master.client.ok("DEBUG DIGEST")?;
    let (process, mut replica) = master.replica(theirs.path())?;
    master.online(1)?;
    random_writes(&mut master.client, 9, 500)?;
    master.client.ok("SAVE")?;
    master.write(2)?;
    random_writes(&mut master.client, 10, 500)?;
    master.same_data(&mut [&mut replica])?;
    let digest = master.client.ok("DEBUG DIGEST")?;
    until("the present history shows", || {
        Ok(replica_of(&mut replica)? == info(&mut master.client, "all", "master_replid")?)
    })?;
    let replid = replica_of(&mut replica)?;
    master.server.kill()?;
    let other = tempfile::tempdir()?;
    copy_folder(ours.path(), other.path())?;

    // The very dump: what the log holds behind it is there again, and the replica goes on.
    let mut master = Master::start(ours.path(), &[])?;
    assert_eq!(master.client.ok("DEBUG DIGEST")?, digest);
    assert_ne!(info(&mut master.client, "all", "master_replid")?, replid);
    assert_eq!(info(&mut master.client, "all", "master_replid2")?, replid);
    random_writes(&mut master.client, 11, 200)?;
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (1, 1));
    // Once more, from the same dump.
    let digest = master.client.ok("DEBUG DIGEST")?;
    master.server.kill()?;
    let mut master = Master::start(ours.path(), &[])?;
    assert_eq!(master.client.ok("DEBUG DIGEST")?, digest);
    drop(master);

    // Another dump: it alone counts, and what continues it not is gone, but for foreign files.
    std::fs::copy(old.path().join("dump.rdb"), other.path().join("dump.rdb"))?;
    std::fs::write(other.path().join("repl/notes.txt"), "keep")?;
    let mut master = Master::start(other.path(), &[])?;
    assert_eq!(master.client.ok("DEBUG DIGEST")?, old_digest);
    assert_eq!(files(other.path(), ""), ["notes.txt"]);
    assert_eq!(number(&mut master.client, "master_repl_offset")?, 0);
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (2, 1));
    Ok(())
}

#[test]
fn an_orderly_restart_loses_nothing_and_keeps_the_replica() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut master = Master::start(ours.path(), &["--save", "3600 1"])?;
    random_writes(&mut master.client, 12, 500)?;
    let (process, mut replica) = master.replica(theirs.path())?;
    master.online(1)?;
    random_writes(&mut master.client, 13, 500)?;
    master.same_data(&mut [&mut replica])?;
    let digest = master.client.ok("DEBUG DIGEST")?;
    assert!(master.server.terminate()?.success());
    let mut master = Master::start(ours.path(), &["--save", "3600 1"])?;
    assert_eq!(master.client.ok("DEBUG DIGEST")?, digest);
    follow_again(&mut master, &mut replica)?;
    master.same_data(&mut [&mut replica])?;
    assert_eq!(syncs(&process), (1, 1));
    Ok(())
}
