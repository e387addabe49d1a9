//! kill -9 of server, persister and agent at random moments: what was replied to is there.
//!
//! After each death the server starts again on the same port at once, over whatever the dying
//! processes still hold. What it finds is compared with a real Redis that ran the same steps, and
//! with a real Redis that loads a copy of the folder.

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::{
    ask_companion, copy_durable, kill_each, processes, wait_ended,
};
use redrock_integration_tests::load::oracle::{Found, Oracle};
use redrock_integration_tests::load::steps::{Plan, WRITERS};
use redrock_integration_tests::load::{Ledger, Load};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use std::path::Path;
use std::sync::Arc;

/// What goes on when they are killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Writing,
    Saving,
    Rewriting,
}

const MOMENTS: [Moment; 3] = [Moment::Writing, Moment::Saving, Moment::Rewriting];
/// With a pace at which the cold part of a save takes seconds.
const TIERED: [&str; 6] = [
    "--maxmemory",
    "128mb",
    "--enable-rocksdb-feature",
    "yes",
    "--snapshot-rate",
    "2mb",
];

struct Setting {
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    ledger: Arc<Ledger>,
    oracle: Oracle,
    random: StdRng,
}

impl Setting {
    fn new(seed: u64, fsync: &str, tiered: bool) -> anyhow::Result<Self> {
        let plan = Plan {
            seed,
            cold_keys: if tiered {
                between(20_000, 200_000)
            } else {
                2000
            },
            cold_bytes: 500,
        };
        let mut options = vec!["--enable-debug-command", "yes"];
        options.extend(["--appendonly", "yes", "--appendfsync", fsync]);
        if tiered {
            options.extend(TIERED);
        }
        let ledger = Ledger::new(plan);
        Ok(Self {
            folder: tempfile::tempdir()?,
            port: free_port()?,
            options: options.into_iter().map(str::to_owned).collect(),
            oracle: Oracle::start(&ledger)?,
            ledger,
            random: StdRng::seed_from_u64(seed),
        })
    }

    fn start(&self) -> anyhow::Result<Server> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        Server::spawn_on(self.port, Kind::RedRock, self.folder.path(), &options)?.wait_ready()
    }

    /// One life and death of the server; gives the next life.
    fn round(&mut self, server: Server, moment: Moment, at_once: bool) -> anyhow::Result<Server> {
        let load = Load::flat_out(server.port, &self.ledger);
        load.advance(5)?;
        if let Moment::Saving | Moment::Rewriting = moment {
            begin(&mut server.client()?, moment)?;
        }
        load.advance_in_all(self.random.random_range(0..400))?;
        let pids = processes(&server);
        let middle = in_progress(&mut server.client()?)?;
        kill_each(&pids, self.random.random())?;
        let copy = if at_once {
            None
        } else {
            wait_ended(&pids)?;
            let copy = tempfile::tempdir()?;
            copy_durable(self.folder.path(), copy.path())?;
            Some(copy)
        };
        let next = self.start()?;
        load.join_dead()?;
        drop(server);
        let (least, most) = (self.ledger.acknowledged(), self.ledger.begun());
        let found = self.oracle.check(&mut next.client()?, least, most);
        let found = found.with_context(|| next.log_text())?;
        let lost: u64 = (0..WRITERS).map(|w| most[w] - found.counts[w]).sum();
        let when = if middle {
            "in the middle"
        } else {
            "nothing under way"
        };
        println!(
            "{moment:?}, {when}: {:?}, {lost} more had been sent",
            found.counts
        );
        if let Some(copy) = copy {
            self.redis_agrees(copy.path(), &found)?;
        }
        self.ledger.resume(found.counts);
        Ok(next)
    }

    /// A real Redis finds in the copy what we found in the original.
    fn redis_agrees(&mut self, copy: &Path, ours: &Found) -> anyhow::Result<()> {
        let redis = Server::start(Kind::Redis, copy, &["--appendonly", "yes"])?;
        let theirs = self
            .oracle
            .check(&mut redis.client()?, ours.counts, ours.counts)?;
        anyhow::ensure!(theirs == *ours, "Redis: {theirs:?}, we: {ours:?}");
        Ok(())
    }
}

/// Begins a save or a rewrite: it is under way when this returns, or over already.
fn begin(client: &mut Client, moment: Moment) -> anyhow::Result<()> {
    let command = match moment {
        Moment::Writing => return Ok(()),
        Moment::Saving => "BGSAVE",
        Moment::Rewriting => "BGREWRITEAOF",
    };
    let reply = ask_companion(client, command, || false)?;
    anyhow::ensure!(matches!(reply, Reply::Status(_)), "{command}: {reply:?}");
    Ok(())
}

/// Whether it still is.
fn in_progress(client: &mut Client) -> anyhow::Result<bool> {
    let text = client.ok("INFO persistence")?.text();
    Ok(text.contains("rdb_bgsave_in_progress:1") || text.contains("aof_rewrite_in_progress:1"))
}

fn run(seed: u64, fsync: &str, tiered: bool) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    println!("appendfsync {fsync}, tiered {tiered}, seed {seed}");
    let mut setting = Setting::new(seed, fsync, tiered)?;
    let mut server = setting.start()?;
    setting.ledger.preload(&mut server.client()?)?;
    for number in 0..between(6, 120) {
        let moment = MOMENTS[(number % 3) as usize];
        server = setting.round(server, moment, number % 2 == 1)?;
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_with_a_sync_for_each_reply() -> anyhow::Result<()> {
    run(seed(), "always", false)
}

#[test]
fn it_survives_with_a_sync_each_second() -> anyhow::Result<()> {
    run(seed() + 1, "everysec", false)
}

#[test]
fn it_survives_when_the_kernel_syncs() -> anyhow::Result<()> {
    run(seed() + 2, "no", false)
}

#[test]
fn it_survives_with_cold_values_and_a_sync_for_each_reply() -> anyhow::Result<()> {
    run(seed() + 3, "always", true)
}

#[test]
fn it_survives_with_cold_values_and_a_sync_each_second() -> anyhow::Result<()> {
    run(seed() + 4, "everysec", true)
}
