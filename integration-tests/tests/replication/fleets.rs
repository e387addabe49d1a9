//! Three Sentinels over a master of one kind and a replica of the other: the master is killed under
//! writes, the replica is promoted, and the old master comes back as its replica.

use crate::link::{
    companions_up, fill, info, link_is, number, same_data, synced, takes_writes, until,
};
use crate::sentinel::Sentinel;
use anyhow::Context as _;
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::between;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const SENTINELS: usize = 3;
const QUORUM: usize = 2;

pub(crate) fn spawn(kind: Kind, folder: &Path, port: u16, more: &[&str]) -> anyhow::Result<Server> {
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

/// Three of them, each of which knows the others and so many replicas.
pub(crate) fn sentinels(
    folders: &[tempfile::TempDir],
    master: u16,
    replicas: usize,
) -> anyhow::Result<Vec<Sentinel>> {
    let watching = folders
        .iter()
        .map(|folder| Sentinel::watch(folder.path(), master, QUORUM));
    let mut all = watching.collect::<anyhow::Result<Vec<_>>>()?;
    for sentinel in &mut all {
        sentinel.knows_replicas(replicas)?;
        until("the other Sentinels", || {
            let others = sentinel.client.ok("SENTINEL SENTINELS watched")?.elements();
            Ok(others.len() == SENTINELS - 1)
        })?;
    }
    Ok(all)
}

/// What became of a writer's numbers, for who waits for them in vain.
#[derive(Debug, Default)]
struct Account {
    written: usize,
    /// Written, but not acknowledged in time.
    short: usize,
    /// The last that was not written, and what was answered.
    refused: Option<String>,
    /// Why there were no more.
    ended: Option<String>,
}

/// Counts up until the server is gone or it is told to stop, each number waited for; the numbers that
/// so many replicas have acknowledged, with what they stand in for.
fn write(
    port: u16,
    replicas: usize,
    name: &str,
    stop: &AtomicBool,
    acknowledged: &Mutex<Vec<String>>,
) -> anyhow::Result<Account> {
    let mut client = Client::connect(port)?;
    let wanted = replicas.to_string();
    let mut account = Account::default();
    for n in 0.. {
        let key = format!("{name}:{n}");
        let reached = match client.run(&["SET", &key, &key]) {
            Ok(Reply::Error(error)) => {
                account.refused = Some(format!("{key}: {error}"));
                Ok(Reply::Nil)
            }
            Ok(_) => {
                account.written += 1;
                client.run(&["WAIT", &wanted, "2000"])
            }
            Err(error) => Err(error),
        };
        match reached {
            Ok(reply) if reply.int() >= i64::try_from(replicas).ok() => {
                let mut keys = acknowledged.lock().unwrap_or_else(|e| e.into_inner());
                keys.push(key);
            }
            Ok(_) => account.short += 1,
            Err(error) => {
                account.ended = Some(format!("{error:#}"));
                break;
            }
        }
        if stop.load(Ordering::Acquire) {
            break;
        }
    }
    Ok(account)
}

/// Writes that nobody waits for, beside the others: the replica lacks some of them at any time.
fn write_much(port: u16, stop: &AtomicBool) -> anyhow::Result<Account> {
    let mut client = Client::connect(port)?;
    let mut account = Account::default();
    while !stop.load(Ordering::Acquire) && fill(&mut client, "much", 0..200, 500).is_ok() {
        account.written += 200;
    }
    Ok(account)
}

/// Runs `work` beside writes to a server, many of them if told; the keys that so many replicas have
/// acknowledged.
pub(crate) fn under_writes(
    (port, replicas): (u16, usize),
    name: &str,
    much: bool,
    work: impl FnOnce(&Mutex<Vec<String>>) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let stop = AtomicBool::new(false);
    let acknowledged = Mutex::default();
    std::thread::scope(|scope| {
        let mut writers = vec![scope.spawn(|| write(port, replicas, name, &stop, &acknowledged))];
        if much {
            writers.push(scope.spawn(|| write_much(port, &stop)));
        }
        let mut done = work(&acknowledged);
        stop.store(true, Ordering::Release);
        for writer in writers {
            match writer.join() {
                Ok(account) => {
                    let account = account?;
                    done = done.with_context(|| format!("beside {account:?}"));
                }
                Err(_) => anyhow::bail!("a writer panicked"),
            }
        }
        done
    })?;
    Ok(acknowledged.into_inner().unwrap_or_else(|e| e.into_inner()))
}

pub(crate) fn has_all(client: &mut Client, keys: &[String]) -> anyhow::Result<()> {
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
pub(crate) fn former_end(client: &mut Client) -> anyhow::Result<u64> {
    number(client, "replication", "second_repl_offset")
}

/// When the master is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killed {
    UnderWrites,
    /// The replica has everything.
    AfterThem,
}

/// A master, a replica and those who watch them.
struct Fleet {
    folders: [tempfile::TempDir; 2],
    old_kind: Kind,
    old_port: u16,
    old: Server,
    new: Server,
    sentinels: Vec<Sentinel>,
    _watchers: [tempfile::TempDir; SENTINELS],
}

fn enough() -> usize {
    between(100, 5_000) as usize
}

pub(crate) fn until_enough(acknowledged: &Mutex<Vec<String>>) -> anyhow::Result<()> {
    until("writes that were acknowledged", || {
        let keys = acknowledged.lock().unwrap_or_else(|e| e.into_inner());
        Ok(keys.len() >= enough())
    })
}

/// Waits until the replica is where the master's stream ends, and lets nothing more into that: what
/// the Sentinels publish neither.
fn has_everything(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    same_data(master, replica)?;
    master.ok("CLIENT PAUSE 600000 WRITE")?;
    until("a replica that has everything", || {
        let end = number(master, "replication", "master_repl_offset")?;
        Ok(number(replica, "replication", "slave_repl_offset")? == end)
    })
}

fn kill(server: Server, kind: Kind) -> anyhow::Result<()> {
    match kind {
        Kind::Redis => server.kill(),
        Kind::RedRock => server.kill_family(),
    }
}

impl Fleet {
    /// A master of the first kind, a replica of the second.
    fn start(first: Kind, second: Kind) -> anyhow::Result<Self> {
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let watchers = [
            tempfile::tempdir()?,
            tempfile::tempdir()?,
            tempfile::tempdir()?,
        ];
        let old_port = free_port()?;
        let old = spawn(first, folders[0].path(), old_port, &[])?;
        let of = ["--replicaof", "127.0.0.1", &old_port.to_string()];
        let new = spawn(second, folders[1].path(), free_port()?, &of)?;
        link_is(&mut new.client()?, "up")?;
        fill(&mut old.client()?, "key", 0..between(500, 50_000), 100)?;
        Ok(Self {
            folders,
            old_kind: first,
            old_port,
            old,
            new,
            sentinels: sentinels(&watchers, old_port, 1)?,
            _watchers: watchers,
        })
    }

    /// Kills the master and waits until the replica is one; a client of that, and what the replica had
    /// acknowledged before.
    fn change_over(mut self, killed: Killed) -> anyhow::Result<(Changed, Client, Vec<String>)> {
        let (old, kind) = (self.old, self.old_kind);
        // Of ours that comes back it matters whether it had more than its replica.
        let much = kind == Kind::Redis;
        let before = match killed {
            Killed::UnderWrites => {
                under_writes((self.old_port, 1), "before", much, |acknowledged| {
                    until_enough(acknowledged)?;
                    kill(old, kind)
                })?
            }
            Killed::AfterThem => {
                let before = under_writes((self.old_port, 1), "before", much, until_enough)?;
                has_everything(&mut old.client()?, &mut self.new.client()?)?;
                kill(old, kind)?;
                before
            }
        };
        for sentinel in &mut self.sentinels {
            sentinel.waits_for_master(self.new.port)?;
        }
        // Sentinel has closed all clients of the new master.
        let mut master = self.new.client()?;
        until("the promotion", || {
            Ok(info(&mut master, "replication", "role")? == "master")
        })?;
        has_all(&mut master, &before)?;
        takes_writes(&mut master, "promoted")?;
        fill(&mut master, "alone", 0..500, 100)?;
        let changed = Changed {
            old: spawn(kind, self.folders[0].path(), self.old_port, &[])?,
            new: self.new,
            _sentinels: self.sentinels,
            _folders: self.folders,
        };
        Ok((changed, master, before))
    }
}

/// The same once the old master has come back as one.
struct Changed {
    old: Server,
    new: Server,
    _sentinels: Vec<Sentinel>,
    _folders: [tempfile::TempDir; 2],
}

impl Changed {
    /// Waits until the Sentinels have made the old master follow, under writes to the new one.
    fn follows(&self) -> anyhow::Result<Vec<String>> {
        under_writes((self.new.port, 1), "after", false, |acknowledged| {
            until("a replica again", || {
                let client = self.old.client();
                let role = client.and_then(|mut client| info(&mut client, "replication", "role"));
                Ok(role.is_ok_and(|role| role == "slave"))
            })?;
            link_is(&mut self.old.client()?, "up")?;
            until_enough(acknowledged)
        })
    }
}

fn changes_over(first: Kind, second: Kind, killed: Killed) -> anyhow::Result<()> {
    let (changed, mut master, before) = Fleet::start(first, second)?.change_over(killed)?;
    let goes_on = match first {
        // It does not know any more where it stood.
        Kind::Redis => false,
        Kind::RedRock => {
            let promoted_at = former_end(&mut master)?;
            let ended_at = former_end(&mut changed.old.client()?)?;
            println!("the old master ended at {ended_at}, the new one began at {promoted_at}");
            ended_at <= promoted_at
        }
    };
    let after = changed.follows()?;
    let mut replica = changed.old.client()?;
    same_data(&mut master, &mut replica)?;
    for client in [&mut master, &mut replica] {
        has_all(client, &before)?;
        has_all(client, &after)?;
    }
    let (before, after) = (before.len(), after.len());
    println!("{before} and {after} writes were acknowledged");
    assert!(goes_on || killed == Killed::UnderWrites || first == Kind::Redis);
    synced(&mut master, if goes_on { (0, 1) } else { (1, 0) })
}

#[test]
fn a_real_master_is_replaced_by_us_and_comes_back() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::Redis, Kind::RedRock, Killed::UnderWrites),
        false => Ok(()),
    }
}

#[test]
fn we_are_replaced_by_a_real_redis_and_come_back() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::RedRock, Kind::Redis, Killed::UnderWrites),
        false => Ok(()),
    }
}

#[test]
fn we_are_replaced_by_a_real_redis_that_has_everything_and_go_on() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::RedRock, Kind::Redis, Killed::AfterThem),
        false => Ok(()),
    }
}

#[test]
fn we_are_replaced_by_one_of_ours_that_has_everything_and_go_on() -> anyhow::Result<()> {
    match has_redis() {
        true => changes_over(Kind::RedRock, Kind::RedRock, Killed::AfterThem),
        false => Ok(()),
    }
}
