//! Server, persister or both die at numbered operations on files (`redrock_log::failpoint`), in every
//! procedure that changes what a start reads, and in the start itself: what was acknowledged is
//! there, what was deleted is not back, and nothing is left lying about.
//!
//! A round is: a life in which somebody is armed, that ends in a procedure under load; perhaps some
//! armed starts behind it; a start without, whose data are compared with a real Redis that ran the
//! same steps; and, for a share, a real Redis on the folder as the dead left it. Which operation is
//! hit is random: all of them are reached, and none has to be named.

mod checks;
mod life;
mod procedures;
mod strike;

use anyhow::Context as _;
use checks::{check_files, nothing_left_over, redis_agrees};
use life::{Ending, Life};
use procedures::{Procedure, Rule};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_daemon::role_lock::{Role, is_held};
use redrock_integration_tests::daemons::{copy_durable, until};
use redrock_integration_tests::load::oracle::{Found, Oracle};
use redrock_integration_tests::load::steps::Plan;
use redrock_integration_tests::load::{Counts, Ledger, Load};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::scale::{between, seed};
use std::sync::Arc;
use strike::{Strikes, Who};

/// How data are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Always,
    EverySecond,
    /// No log: what the last save has.
    Dump,
}

/// What a start must find.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Each writer between these.
    Steps(Counts, Counts),
    /// As [`Expected::Steps`], or nothing at all: a flush was not acknowledged.
    OrNothing(Counts, Counts),
}

struct Matrix {
    keeping: Keeping,
    folder: tempfile::TempDir,
    port: u16,
    plan: Plan,
    ledger: Arc<Ledger>,
    oracle: Oracle,
    random: StdRng,
    strikes: Strikes,
    /// What the last start had in the end.
    digest: String,
}

impl Matrix {
    fn new(seed: u64, keeping: Keeping) -> anyhow::Result<Self> {
        let plan = Plan {
            seed,
            cold_keys: between(3000, 20_000),
            cold_bytes: 400,
        };
        let ledger = Ledger::new(plan);
        Ok(Self {
            keeping,
            folder: tempfile::tempdir()?,
            port: free_port()?,
            plan,
            oracle: Oracle::start(&ledger)?,
            ledger,
            random: StdRng::seed_from_u64(seed),
            strikes: Strikes::default(),
            digest: String::new(),
        })
    }

    fn options(&mut self) -> Vec<&'static str> {
        let mut options = vec!["--enable-debug-command", "yes"];
        options.extend(["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"]);
        if self.random.random_ratio(1, 4) {
            options.extend(["--warm-restart", "no"]);
        }
        options.extend(match self.keeping {
            Keeping::Always => ["--appendonly", "yes", "--appendfsync", "always"],
            Keeping::EverySecond => ["--appendonly", "yes", "--appendfsync", "everysec"],
            Keeping::Dump => ["--appendonly", "no", "--appendfsync", "no"],
        });
        options
    }

    /// A start at which nobody is armed; the port is that of the server that died.
    fn start(&mut self) -> anyhow::Result<Server> {
        let options = self.options();
        let server = Server::spawn_on(self.port, Kind::RedRock, self.folder.path(), &options)?;
        server.wait_ready()
    }

    fn armed(&mut self, procedure: Procedure) -> anyhow::Result<Life> {
        let who = Who::any(&mut self.random);
        let points = who.points(procedure, &mut self.random);
        let options = self.options();
        let server = Server::spawn_armed(self.port, self.folder.path(), &options, &points)?;
        Ok(Life::new(server, points))
    }

    /// The data at rest: on disk as far as they will be, known in every byte.
    fn settle(&mut self, client: &mut Client, anew: bool) -> anyhow::Result<()> {
        if anew {
            client.ok("FLUSHALL")?;
            self.plan.seed += 1;
            self.ledger = Ledger::new(self.plan);
            self.oracle = Oracle::start(&self.ledger)?;
            self.ledger.preload(client)?;
        }
        if self.random.random() {
            client.ok("ROCKALL")?;
        }
        if self.keeping == Keeping::Dump {
            redrock_integration_tests::daemons::ask_companion(client, "SAVE", || false)?;
        }
        self.digest = client.ok("DEBUG DIGEST")?.text();
        Ok(())
    }

    /// A life that ends at an armed point or, if that is never reached, by kill -9.
    fn armed_life(&mut self, procedure: Procedure) -> anyhow::Result<Expected> {
        let mut life = self.armed(procedure)?;
        let (load, rule) = match life.is_ready()? {
            true => self.live(&mut life, procedure)?,
            false => (None, Rule::Acknowledged),
        };
        let ending = life.end(&mut self.random)?;
        if let Some(load) = load {
            load.join_dead()?;
        }
        let (acknowledged, most) = (self.ledger.acknowledged(), self.ledger.begun());
        let expected = match rule {
            Rule::Acknowledged => Expected::Steps(acknowledged, most),
            Rule::From(least) => Expected::Steps(least, most),
            Rule::OrNothing(least) => Expected::OrNothing(least, most),
        };
        self.tell(procedure, &ending);
        for _ in 0..self.random.random_range(0..3) {
            let mut life = self.armed(Procedure::Start)?;
            if life.is_ready()? {
                life.wait_settled()?;
            }
            let ending = life.end(&mut self.random)?;
            self.tell(Procedure::Start, &ending);
        }
        Ok(expected)
    }

    fn tell(&mut self, procedure: Procedure, ending: &Ending) {
        println!("{procedure:?}: {ending}");
        self.strikes.add(procedure, ending);
    }

    fn live(
        &mut self,
        life: &mut Life,
        procedure: Procedure,
    ) -> anyhow::Result<(Option<Load>, Rule)> {
        let held = life.digest();
        if let Some(held) = held {
            let digest = &self.digest;
            anyhow::ensure!(held == *digest, "a restart changed {digest} to {held}");
        }
        procedures::run(self, life, procedure)
    }

    /// What an unarmed start finds, compared with what it must.
    fn found(&mut self, client: &mut Client, expected: Expected) -> anyhow::Result<Found> {
        let (least, most) = match expected {
            Expected::Steps(least, most) => (least, most),
            Expected::OrNothing(least, most) => {
                if client.ok("INFO keyspace")?.text().contains("db") {
                    (least, most)
                } else {
                    self.forget()?;
                    ([0; 4], [0; 4])
                }
            }
        };
        self.oracle.check(client, least, most)
    }

    /// From now on nothing is expected but what comes after an acknowledged flush.
    fn forget(&mut self) -> anyhow::Result<()> {
        self.plan.seed += 1;
        let nothing = Plan {
            cold_keys: 0,
            ..self.plan
        };
        self.ledger = Ledger::new(nothing);
        self.oracle = Oracle::start(&self.ledger)?;
        Ok(())
    }

    fn round(&mut self, number: u64) -> anyhow::Result<()> {
        let procedure = Procedure::any(self.keeping, &mut self.random);
        let expected = self.armed_life(procedure)?;
        let copy = match number % 3 {
            0 => Some(self.copy()?),
            _ => None,
        };
        let server = self.start()?;
        let mut client = server.client()?;
        let found = self.found(&mut client, expected);
        let found = found.with_context(|| server.log_text())?;
        if let Some(copy) = copy {
            redis_agrees(self.keeping, &mut self.oracle, copy.path(), &found)?;
        }
        self.ledger.resume(found.counts);
        nothing_left_over(self.folder.path()).with_context(|| server.log_text())?;
        if number % 4 == 3 {
            procedures::succeeds(&mut client, self.keeping)?;
        }
        self.settle(&mut client, self.ledger.plan.cold_keys == 0)?;
        drop(client);
        match self.random.random() {
            true => server.kill_family()?,
            false => anyhow::ensure!(server.terminate()?.success(), "a clean end"),
        }
        check_files(self.folder.path())?;
        if number % 3 == 1 {
            let copy = self.copy()?;
            let found = Found {
                counts: self.ledger.acknowledged(),
                digest: self.digest.clone(),
            };
            redis_agrees(self.keeping, &mut self.oracle, copy.path(), &found)?;
        }
        Ok(())
    }

    /// The folder as the dead left it: once the persister of a server that was killed has ended too.
    fn copy(&self) -> anyhow::Result<tempfile::TempDir> {
        until("the end of a persister without its server", || {
            Ok(!is_held(self.folder.path(), Role::Persist)?)
        })?;
        let copy = tempfile::tempdir()?;
        copy_durable(self.folder.path(), copy.path())?;
        Ok(copy)
    }
}

fn run(keeping: Keeping, seed: u64, rounds: u64) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    println!("{keeping:?}, seed {seed}, {rounds} rounds");
    let mut matrix = Matrix::new(seed, keeping)?;
    let server = matrix.start()?;
    let mut client = server.client()?;
    matrix.ledger.preload(&mut client)?;
    matrix.settle(&mut client, false)?;
    drop(client);
    server.kill_family()?;
    for number in 0..rounds {
        let done = matrix.round(number);
        done.with_context(|| format!("{keeping:?}, seed {seed}, round {number}"))?;
    }
    matrix.strikes.report(keeping, rounds)
}

#[test]
fn with_a_sync_for_each_reply_every_acknowledged_write_survives() -> anyhow::Result<()> {
    run(Keeping::Always, seed(), between(10, 200))
}

#[test]
fn with_a_sync_each_second_too_for_the_kernel_lives_on() -> anyhow::Result<()> {
    run(Keeping::EverySecond, seed() + 1, between(8, 150))
}

#[test]
fn without_a_log_the_last_save_survives_as_a_whole() -> anyhow::Result<()> {
    run(Keeping::Dump, seed() + 2, between(7, 150))
}
