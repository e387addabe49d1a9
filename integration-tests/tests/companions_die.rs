//! Persister and agent killed in the middle of what needs them, or absent altogether: clients
//! see no error but for that, the supervisor brings them back, work resumes, nothing is lost.

use anyhow::Context as _;
use redrock_integration_tests::daemons::{
    Daemon, ask_companion, companion, companions_up, copy_durable, info, kill_9, signal, until,
};
use redrock_integration_tests::load::oracle::Oracle;
use redrock_integration_tests::load::steps::Plan;
use redrock_integration_tests::load::{Counts, Ledger, Load};
use redrock_integration_tests::memory::family;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use rustix::process::Signal;
use std::sync::Arc;

/// With a pace at which the cold part of a save takes seconds.
const OPTIONS: [&str; 12] = [
    "--appendonly",
    "yes",
    "--maxmemory",
    "128mb",
    "--enable-rocksdb-feature",
    "yes",
    "--snapshot-rate",
    "1mb",
    "--enable-debug-command",
    "yes",
    "--loglevel",
    "notice",
];

/// The companions' names in INFO.
const COMPANIONS: [&str; 2] = ["persist", "replica"];

struct Setting {
    folder: tempfile::TempDir,
    options: Vec<&'static str>,
    ledger: Arc<Ledger>,
    oracle: Oracle,
}

impl Setting {
    fn new(seed: u64, options: &[&'static str]) -> anyhow::Result<(Self, Server)> {
        println!("seed {seed}");
        let plan = Plan {
            seed,
            cold_keys: between(10_000, 200_000),
            cold_bytes: 500,
        };
        let ledger = Ledger::new(plan);
        let setting = Self {
            folder: tempfile::tempdir()?,
            options: options.to_vec(),
            oracle: Oracle::start(&ledger)?,
            ledger,
        };
        let server = setting.start()?;
        let mut client = server.client()?;
        setting.ledger.preload(&mut client)?;
        client.ok("ROCKALL")?;
        Ok((setting, server))
    }

    fn start(&self) -> anyhow::Result<Server> {
        Server::start(Kind::RedRock, self.folder.path(), &self.options)
    }

    /// Server, restarted server and a Redis on a copy of the folder hold what was written.
    fn nothing_is_lost(&mut self, server: Server, end: Counts) -> anyhow::Result<()> {
        self.oracle.check(&mut server.client()?, end, end)?;
        server.kill_family()?;
        self.ledger.resume(end);
        let copy = tempfile::tempdir()?;
        copy_durable(self.folder.path(), copy.path())?;
        let redis = Server::start(Kind::Redis, copy.path(), &["--appendonly", "yes"])?;
        self.oracle.check(&mut redis.client()?, end, end)?;
        let again = self.start()?;
        self.oracle.check(&mut again.client()?, end, end)?;
        Ok(())
    }
}

/// A job of the persister: what starts it, what shows it, what counts it.
struct Work {
    command: &'static str,
    running: &'static str,
    counter: &'static str,
    status: &'static str,
}

const SAVE: Work = Work {
    command: "BGSAVE",
    running: "rdb_bgsave_in_progress",
    counter: "rdb_saves",
    status: "rdb_last_bgsave_status",
};

const REWRITE: Work = Work {
    command: "BGREWRITEAOF",
    running: "aof_rewrite_in_progress",
    counter: "aof_rewrites",
    status: "aof_last_bgrewrite_status",
};

impl Work {
    fn is(&self, client: &mut Client, field: &str, value: &str) -> anyhow::Result<bool> {
        Ok(info(client, "persistence", field)? == value)
    }

    /// Kills `victim` in the middle, and lets it succeed afterwards.
    fn with_death_of(
        &self,
        setting: &Setting,
        server: &Server,
        victim: &str,
    ) -> anyhow::Result<()> {
        let mut client = server.client()?;
        companions_up(&mut client)?;
        let load = Load::start(server.port, &setting.ledger);
        load.advance(5)?;
        client.ok("CONFIG SET snapshot-rate 1mb")?;
        let before = info(&mut client, "persistence", self.counter)?;
        let reply = ask_companion(&mut client, self.command, || false)?;
        anyhow::ensure!(matches!(reply, Reply::Status(_)), "{reply:?}");
        load.advance(5)?;
        let running = self.is(&mut client, self.running, "1")?;
        anyhow::ensure!(
            running,
            "{} was over too soon to be disturbed",
            self.command
        );
        let pid = companion(&mut client, victim)?;
        kill_9(pid)?;
        client.ok("CONFIG SET snapshot-rate 0")?;
        until("a new companion", || {
            // None runs between two starts.
            let other = companion(&mut client, victim).is_ok_and(|now| now != pid);
            let text = client.ok("INFO companions")?.text();
            Ok(other && text.matches("state=up").count() == 2)
        })?;
        if victim == "persist" {
            anyhow::ensure!(self.is(&mut client, self.counter, &before)?);
            until("the end of it in INFO", || {
                self.is(&mut client, self.running, "0")
            })?;
            ask_companion(&mut client, self.command, || false)?;
        }
        until(self.command, || {
            Ok(!self.is(&mut client, self.counter, &before)?)
        })?;
        anyhow::ensure!(self.is(&mut client, self.status, "ok")?);
        load.advance(5)?;
        let end = load.stop()?;
        println!("{}, {victim} killed: {end:?}", self.command);
        Ok(())
    }
}

#[test]
fn killed_during_a_save_or_a_rewrite_the_next_one_succeeds() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (mut setting, server) = Setting::new(seed(), &OPTIONS)?;
    for _ in 0..between(1, 10) {
        for victim in COMPANIONS {
            for work in [&SAVE, &REWRITE] {
                work.with_death_of(&setting, &server, victim)
                    .with_context(|| format!("{}, {victim}", work.command))?;
            }
        }
    }
    let litter: Vec<String> = std::fs::read_dir(setting.folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(
        !litter.iter().any(|name| name.starts_with("temp")),
        "{litter:?}"
    );
    // The dump is one of an instant: Redis loads it.
    let copy = tempfile::tempdir()?;
    std::fs::copy(
        setting.folder.path().join("dump.rdb"),
        copy.path().join("dump.rdb"),
    )?;
    Server::start(Kind::Redis, copy.path(), &[])?.kill()?;
    let end = setting.ledger.acknowledged();
    setting.nothing_is_lost(server, end)
}

/// Stops a real replica as soon as the agent knows it, so that its full sync can't go on; kills
/// `victim`, lets the replica go on, and waits until it follows.
fn sync_with_death_of(setting: &mut Setting, server: &Server, victim: &str) -> anyhow::Result<()> {
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let load = Load::start(server.port, &setting.ledger);
    load.advance(5)?;
    let theirs = tempfile::tempdir()?;
    let port = server.port.to_string();
    let options = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start(Kind::Redis, theirs.path(), &options)?;
    until("a replica that is known", || {
        Ok(info(&mut client, "replication", "connected_slaves")? == "1")
    })?;
    signal(replica.pid(), Signal::STOP)?;
    let state = info(&mut client, "replication", "slave0")?;
    let pid = companion(&mut client, victim)?;
    kill_9(pid)?;
    load.advance(5)?;
    signal(replica.pid(), Signal::CONT)?;
    let mut other = replica.client()?;
    until("a link that is up", || {
        let up = info(&mut other, "replication", "master_link_status")? == "up";
        Ok(up
            && client
                .ok("INFO replication")?
                .text()
                .contains("state=online"))
    })?;
    load.advance(5)?;
    let end = load.stop()?;
    // What expires in between is gone from both before they are compared.
    let ours = setting.oracle.check(&mut client, end, end)?;
    setting.ledger.resume(end);
    let offset = info(&mut client, "replication", "master_repl_offset")?;
    until("a replica that has everything", || {
        let reached = info(&mut other, "replication", "slave_repl_offset")?;
        Ok(reached.parse::<u64>()? >= offset.parse::<u64>()?)
    })?;
    let theirs = other.ok("DEBUG DIGEST")?.text();
    anyhow::ensure!(ours.digest == theirs, "we: {ours:?}, the replica: {theirs}");
    println!("full sync ({state}), {victim} killed: {end:?}");
    replica.kill()
}

#[test]
fn killed_during_a_full_sync_the_replica_gets_all_in_the_end() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (mut setting, server) = Setting::new(seed() + 1, &OPTIONS)?;
    for _ in 0..between(1, 10) {
        for victim in COMPANIONS {
            sync_with_death_of(&mut setting, &server, victim)
                .with_context(|| format!("full sync, {victim}"))?;
        }
    }
    let end = setting.ledger.acknowledged();
    setting.nothing_is_lost(server, end)
}

#[test]
fn killed_again_and_again_during_a_restore_the_server_does_without_them() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (mut setting, server) = Setting::new(seed() + 2, &OPTIONS)?;
    let load = Load::start(server.port, &setting.ledger);
    load.advance(50)?;
    let end = load.stop()?;
    for _ in 0..between(1, 10) {
        server_loads_alone(&mut setting, end)?;
    }
    drop(server);
    let server = setting.start()?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("CONFIG SET snapshot-rate 0")?;
    for work in [&SAVE, &REWRITE] {
        let before = info(&mut client, "persistence", work.counter)?;
        client.ok(work.command)?;
        until(work.command, || {
            Ok(!work.is(&mut client, work.counter, &before)?)
        })?;
        anyhow::ensure!(work.is(&mut client, work.status, "ok")?);
    }
    setting.nothing_is_lost(server, end)
}

/// Starts over a copy of the folder and kills every companion that appears until it serves.
fn server_loads_alone(setting: &mut Setting, end: Counts) -> anyhow::Result<()> {
    let copy = tempfile::tempdir()?;
    copy_durable(setting.folder.path(), copy.path())?;
    let server = Server::spawn(Kind::RedRock, copy.path(), &setting.options)?;
    let mut killed = 0;
    until("the end of the load", || {
        for pid in family(server.pid()).into_iter().skip(1) {
            kill_9(pid)?;
            killed += 1;
        }
        let pong = server.client().and_then(|mut client| client.run(&["PING"]));
        Ok(killed > 1 && pong.is_ok_and(|pong| pong == Reply::Status("PONG".into())))
    })?;
    let found = setting.oracle.check(&mut server.client()?, end, end)?;
    println!("loaded with {killed} companions killed: {found:?}");
    Ok(())
}

#[test]
fn absent_altogether_only_what_needs_them_fails_until_they_come() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let options = [&OPTIONS[..], &["--companions", "external"]].concat();
    let (mut setting, server) = Setting::new(seed() + 3, &options)?;
    let load = Load::start(server.port, &setting.ledger);
    load.advance(10)?;
    let mut client = server.client()?;
    for line in ["SAVE", "BGSAVE", "BGREWRITEAOF"] {
        let reply = client.run(&[line])?;
        let Reply::Error(text) = &reply else {
            anyhow::bail!("{line}: {reply:?}");
        };
        anyhow::ensure!(text.starts_with("ERR persister is not available"), "{text}");
    }
    load.advance(50)?;
    // All that is there dies; the next life has no companions either.
    server.kill()?;
    load.join_dead()?;
    let server = setting.start()?;
    let (least, most) = (setting.ledger.acknowledged(), setting.ledger.begun());
    let found = setting.oracle.check(&mut server.client()?, least, most)?;
    setting.ledger.resume(found.counts);

    let load = Load::start(server.port, &setting.ledger);
    load.advance(5)?;
    let _persist = Daemon::start("redrock-persist", setting.folder.path(), "")?;
    let _agent = Daemon::start("redrock-replica", setting.folder.path(), "")?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    client.ok("CONFIG SET snapshot-rate 0")?;
    for work in [&SAVE, &REWRITE] {
        ask_companion(&mut client, work.command, || false)?;
        until(work.command, || {
            Ok(!work.is(&mut client, work.counter, "0")?)
        })?;
    }
    let theirs = tempfile::tempdir()?;
    let port = server.port.to_string();
    let replica = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start(Kind::Redis, theirs.path(), &replica)?;
    until("a replica that follows", || {
        Ok(info(&mut replica.client()?, "replication", "master_link_status")? == "up")
    })?;
    let end = load.stop()?;
    setting.nothing_is_lost(server, end)
}

/// Whether a write is taken, or refused for want of replicas.
fn is_taken(client: &mut Client) -> anyhow::Result<bool> {
    match client.run(&["INCR", "counted"])? {
        Reply::Int(_) => Ok(true),
        Reply::Error(text) if text.starts_with("NOREPLICAS") => Ok(false),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn the_agent_s_death_is_no_replica_s_silence() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let wanted = [
        "--min-replicas-to-write",
        "1",
        "--min-replicas-max-lag",
        "10",
    ];
    let options = [&["--appendonly", "yes"], &wanted[..]].concat();
    let server = Server::start(Kind::RedRock, ours.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    anyhow::ensure!(!is_taken(&mut client)?, "there is no replica yet");
    let port = server.port.to_string();
    let options = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start(Kind::Redis, theirs.path(), &options)?;
    until("a replica that counts", || is_taken(&mut client))?;
    for _ in 0..between(2, 20) {
        let pid = companion(&mut client, "replica")?;
        kill_9(pid)?;
        let mut taken = 0;
        until("a replica of the next agent", || {
            anyhow::ensure!(is_taken(&mut client)?, "refused after {taken} writes");
            taken += 1;
            let text = client.ok("INFO replication")?.text();
            let other = companion(&mut client, "replica").is_ok_and(|now| now != pid);
            Ok(other && text.contains("state=online"))
        })?;
        println!("{taken} writes while the agent was away");
    }
    // One that is silent counts until it is too long, and again once it speaks.
    signal(replica.pid(), Signal::STOP)?;
    until("the replica's silence", || Ok(!is_taken(&mut client)?))?;
    signal(replica.pid(), Signal::CONT)?;
    until("the replica's return", || is_taken(&mut client))
}
