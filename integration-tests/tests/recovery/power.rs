//! The power goes: what `appendfsync` promises is there, and all that is there is of one instant.
//!
//! Data directory and log are on a file system of their own. All our processes freeze, that file
//! system is shut down without a last write, and mounted anew: what is left is what its device
//! had. What must be there is known from the load, which notes when what was acknowledged.

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::{
    copy_durable, freeze, info, kill_each, processes, wait_ended,
};
use redrock_integration_tests::load::oracle::{Found, Oracle};
use redrock_integration_tests::load::steps::{Plan, WRITERS};
use redrock_integration_tests::load::{Counts, Ledger, Load};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DISK_BYTES: u64 = 1 << 30;
/// Between two looks at what was acknowledged.
const STEP: Duration = Duration::from_millis(20);
/// What `everysec` may lose, and what it may if a sync takes long.
const LOSS_MAX: Duration = Duration::from_secs(1);
const LOSS_STALLED_MAX: Duration = Duration::from_secs(2);

/// What had been acknowledged at which time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Counts)>>,
}

impl Watch {
    fn start(ledger: &Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ledger, stopped) = (ledger.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let counts = ledger.acknowledged();
                // Behind the look: all of it was acknowledged by then.
                seen.push((Instant::now(), counts));
                std::thread::sleep(STEP);
            }
            seen
        });
        Self { stop, thread }
    }

    fn end(self) -> anyhow::Result<Vec<(Instant, Counts)>> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join();
        seen.map_err(|_| anyhow::anyhow!("the watch panicked"))
    }
}

/// A loss of power, as clients saw it.
struct Loss {
    at: Instant,
    seen: Vec<(Instant, Counts)>,
}

impl Loss {
    /// What had been acknowledged so long before.
    fn acknowledged_before(&self, age: Duration) -> Counts {
        let of = |at: &Instant| self.at.saturating_duration_since(*at);
        let seen = self.seen.iter().rev().find(|(at, _)| of(at) >= age);
        seen.map_or([0; WRITERS], |(_, counts)| *counts)
    }

    /// For how long clients had been getting replies to what is not in `found`.
    fn lost(&self, found: Counts) -> Duration {
        let is_there = |counts: &Counts| counts.iter().zip(found).all(|(seen, is)| *seen <= is);
        let first = self.seen.iter().find(|(_, counts)| !is_there(counts));
        first.map_or(Duration::ZERO, |(at, _)| {
            self.at.saturating_duration_since(*at)
        })
    }

    /// How much later than meant things happened on this machine.
    fn delays(&self) -> Duration {
        let gaps = self.seen.windows(2).map(|pair| pair[1].0 - pair[0].0);
        gaps.max().unwrap_or_default().saturating_sub(STEP) + STEP
    }
}

/// A server whose disk can lose its power.
struct Machine {
    // Servers are gone before it is unmounted.
    disk: SmallDisk,
    options: Vec<&'static str>,
    ledger: Arc<Ledger>,
    oracle: Oracle,
    random: StdRng,
}

impl Machine {
    /// `None` where no such disk can be had, or no Redis.
    fn new(fsync: &'static str, plan: Plan, more: &[&'static str]) -> anyhow::Result<Option<Self>> {
        if !has_redis() {
            return Ok(None);
        }
        let Some(disk) = SmallDisk::mount_ext4(DISK_BYTES) else {
            return Ok(None);
        };
        let options = ["--enable-debug-command", "yes", "--appendonly", "yes"];
        let ledger = Ledger::new(plan);
        Ok(Some(Self {
            disk,
            options: [&options[..], &["--appendfsync", fsync], more].concat(),
            oracle: Oracle::start(&ledger)?,
            ledger,
            random: StdRng::seed_from_u64(plan.seed),
        }))
    }

    fn start(&self) -> anyhow::Result<Server> {
        Server::start(Kind::RedRock, self.disk.path(), &self.options)
    }

    /// The power goes while `load` is at work, and comes back.
    fn lose_power(&self, server: Server, load: Load, watch: Watch) -> anyhow::Result<Loss> {
        let pids = processes(&server);
        let at = Instant::now();
        freeze(&pids)?;
        self.disk.lose_power()?;
        kill_each(&pids, 0)?;
        wait_ended(&pids)?;
        drop(server);
        load.join_dead()?;
        let seen = watch.end()?;
        self.disk.mount_again()?;
        Ok(Loss { at, seen })
    }

    /// What a start finds, checked: at least `least`, and as the steps make it. Redis finds the
    /// same in what the loss has left, or if that had to be cut in what it was cut to.
    fn recovered(&mut self, least: Counts) -> anyhow::Result<(Server, Found)> {
        let copy = tempfile::tempdir()?;
        copy_durable(self.disk.path(), copy.path())?;
        let server = self.start()?;
        if server.log_text().contains(" truncated: ") {
            // Pages that were not written are zeros, which Redis refuses anywhere: it needs our
            // start, or our check, first.
            copy_durable(self.disk.path(), copy.path())?;
        }
        let most = self.ledger.begun();
        let found = self.oracle.check(&mut server.client()?, least, most);
        let found = found.with_context(|| server.log_text())?;
        self.redis_agrees(copy.path(), &found)?;
        self.ledger.resume(found.counts);
        Ok((server, found))
    }

    fn redis_agrees(&mut self, copy: &Path, ours: &Found) -> anyhow::Result<()> {
        let redis = Server::start(Kind::Redis, copy, &["--appendonly", "yes"])?;
        let (mut client, counts) = (redis.client()?, ours.counts);
        let theirs = self.oracle.check(&mut client, counts, counts)?;
        anyhow::ensure!(theirs == *ours, "Redis: {theirs:?}, we: {ours:?}");
        Ok(())
    }
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        cold_keys: 2000,
        cold_bytes: 200,
    }
}

fn delayed(client: &mut Client) -> anyhow::Result<u64> {
    Ok(info(client, "persistence", "aof_delayed_fsync")?.parse()?)
}

/// Rounds under `always`: whatever was replied to is there.
fn nothing_is_lost(mut machine: Machine, rounds: u64) -> anyhow::Result<()> {
    let mut server = machine.start()?;
    machine.ledger.preload(&mut server.client()?)?;
    for round in 0..rounds {
        let mut client = server.client()?;
        if machine.options.contains(&"--maxmemory") {
            client.ok("ROCKALL")?;
            let report = client.ok("ROCK REPORT")?.elements();
            let share = report.last().map(Reply::text).unwrap_or_default();
            println!("{share} % of the keys are on disk only");
        }
        let watch = Watch::start(&machine.ledger);
        let load = Load::flat_out(server.port, &machine.ledger);
        load.advance(20)?;
        load.advance_in_all(machine.random.random_range(0..2000))?;
        machine.lose_power(server, load, watch)?;
        let acknowledged = machine.ledger.acknowledged();
        let (next, found) = machine.recovered(acknowledged)?;
        println!(
            "round {round}: {acknowledged:?} acknowledged, {:?} there",
            found.counts
        );
        server = next;
    }
    server.kill_family()
}

#[test]
fn power_loss_under_always_takes_nothing_acknowledged() -> anyhow::Result<()> {
    match Machine::new("always", plan(seed()), &[])? {
        Some(machine) => nothing_is_lost(machine, between(3, 60)),
        None => Ok(()),
    }
}

#[test]
fn nor_does_it_with_values_on_disk_only() -> anyhow::Result<()> {
    let tiered = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    let plan = Plan {
        cold_keys: 20_000,
        ..plan(seed() + 1)
    };
    match Machine::new("always", plan, &tiered)? {
        Some(machine) => nothing_is_lost(machine, between(2, 20)),
        None => Ok(()),
    }
}

#[test]
fn power_loss_under_everysec_takes_at_most_a_second() -> anyhow::Result<()> {
    let Some(mut machine) = Machine::new("everysec", plan(seed() + 2), &[])? else {
        return Ok(());
    };
    let mut server = machine.start()?;
    machine.ledger.preload(&mut server.client()?)?;
    let mut longest = Duration::ZERO;
    for round in 0..between(4, 60) {
        let mut client = server.client()?;
        let before = delayed(&mut client)?;
        let watch = Watch::start(&machine.ledger);
        let load = Load::start(server.port, &machine.ledger);
        // The loss comes at another part of the sync thread's second each time.
        let wait = machine.random.random_range(1500..2500);
        std::thread::sleep(Duration::from_millis(wait));
        let stalled = delayed(&mut client)? > before;
        let loss = machine.lose_power(server, load, watch)?;
        let max = if stalled { LOSS_STALLED_MAX } else { LOSS_MAX };
        let least = loss.acknowledged_before(max + loss.delays());
        let (next, found) = machine.recovered(least)?;
        let lost = loss.lost(found.counts);
        println!(
            "round {round}: {lost:?} lost, stalled {stalled}, delays up to {:?}",
            loss.delays()
        );
        longest = longest.max(lost);
        server = next;
    }
    // Else the power was never lost.
    anyhow::ensure!(longest > Duration::ZERO, "nothing was ever lost");
    server.kill_family()
}

#[test]
fn power_loss_under_no_takes_only_what_the_kernel_had_not_written() -> anyhow::Result<()> {
    let Some(mut machine) = Machine::new("no", plan(seed() + 3), &[])? else {
        return Ok(());
    };
    let mut server = machine.start()?;
    machine.ledger.preload(&mut server.client()?)?;
    machine.disk.sync()?;
    for round in 0..between(2, 20) {
        let watch = Watch::start(&machine.ledger);
        let load = Load::flat_out(server.port, &machine.ledger);
        load.advance(20)?;
        let written = machine.ledger.acknowledged();
        machine.disk.sync()?;
        load.advance(100)?;
        let loss = machine.lose_power(server, load, watch)?;
        let acknowledged = machine.ledger.acknowledged();
        let (next, found) = machine.recovered(written)?;
        println!(
            "round {round}: {written:?} synced, {acknowledged:?} acknowledged, {:?} there: {:?}",
            found.counts,
            loss.lost(found.counts)
        );
        // Else the power was not lost.
        let lost = found
            .counts
            .iter()
            .zip(acknowledged)
            .any(|(is, was)| *is < was);
        anyhow::ensure!(lost, "nothing was lost");
        server = next;
    }
    server.kill_family()
}
