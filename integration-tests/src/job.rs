//! One server under measurement: its options, its cgroup, its samples, its verdicts.

use crate::cgroup::Cgroup;
use crate::memory::{MIB, Phase, Sampler};
use crate::mixed::Mixed;
use crate::process::{Kind, Server};
use crate::resp::Client;
use crate::scale::{between, scale, seed};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One at a time: what is measured is memory under full load.
static ALONE: Mutex<()> = Mutex::new(());

/// What all processes may take beyond `maxmemory` (I7).
const BEYOND_BYTES: u64 = 64 * MIB;
/// What the kernel may keep of their files beside that.
const PAGE_CACHE_BYTES: u64 = 128 * MIB;

/// Waits for the tests before.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The bound on data, MiB: the smallest that a server takes well, up to the issue's.
pub fn max_memory_mib() -> u64 {
    between(128, 200)
}

/// All of the data: ten times the bound, much of it in long values; in full size 3.5 million keys of
/// a kilobyte, which with the large collections among them is twenty times the bound.
pub fn data() -> Mixed {
    let full = scale() >= 100;
    let data = Mixed {
        seed: seed(),
        count: between(180_000, 3_500_000),
        long_bytes: if full { 1000 } else { 66_000 },
    };
    let times = data.total_bytes() / (max_memory_mib() * MIB);
    assert!(times >= 10, "{times} times the bound");
    data
}

/// How much thinner samples are at larger sizes, where a digest has compared everything.
pub fn stride() -> usize {
    usize::try_from(scale()).map_or(1, |scale| 1 + scale / 10)
}

/// What a reply may take when the server walks all data for it.
pub fn long_wait() -> Duration {
    Duration::from_secs(120 + 6 * scale())
}

/// Asks until it is so.
pub fn until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + long_wait();
    while !done()? {
        anyhow::ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A field of INFO.
pub fn info(client: &mut Client, section: &str, field: &str) -> anyhow::Result<String> {
    let text = client.ok(&format!("INFO {section}"))?.text();
    let prefix = format!("{field}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(found.unwrap_or_default().to_owned())
}

/// A running server of ours with everything that watches it.
pub struct Job {
    pub server: Server,
    pub client: Client,
    sampler: Sampler,
    /// Removed after the server, whose processes are in it.
    group: Result<Cgroup, String>,
    row: &'static str,
    max_memory_mib: u64,
    began: Instant,
}

impl Job {
    /// Starts a server with the feature on, measured from its first instruction; the phase until it
    /// serves is judged as `restore` if there is something to restore.
    pub fn start(row: &'static str, folder: &Path, more: &[&str]) -> anyhow::Result<Self> {
        Self::start_within(max_memory_mib(), row, folder, more)
    }

    /// [`Self::start`] with a bound of its own, MiB.
    pub fn start_within(
        max_memory_mib: u64,
        row: &'static str,
        folder: &Path,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let max_memory = format!("{max_memory_mib}mb");
        let mut options = vec!["--enable-rocksdb-feature", "yes"];
        options.extend(["--maxmemory-only-for-rocksdb", "yes"]);
        options.extend(["--maxmemory", &max_memory]);
        options.extend(["--enable-debug-command", "yes"]);
        // The defaults, which the harness turns off elsewhere.
        options.extend(["--save", "3600 1 300 100 60 10000"]);
        options.extend(more);
        let limit_bytes = max_memory_mib * MIB + BEYOND_BYTES + PAGE_CACHE_BYTES;
        let group = Cgroup::create(limit_bytes).map_err(|error| format!("{error:#}"));
        let began = Instant::now();
        let spawned = Server::spawn_inside(Kind::RedRock, folder, &options, group.as_ref().ok())?;
        let sampler = Sampler::start(spawned.pid());
        let server = spawned.wait_ready()?;
        let client = server.client()?;
        println!("{row}: redrock-server {}", options.join(" "));
        Ok(Self {
            server,
            client,
            sampler,
            group,
            row,
            max_memory_mib,
            began,
        })
    }

    /// Waits until both companions serve.
    pub fn wait_companions(&mut self) -> anyhow::Result<()> {
        let client = &mut self.client;
        until("companions up", || {
            let text = client.ok("INFO companions")?.text();
            Ok(text.matches("state=up").count() == 2)
        })
    }

    /// Ends a phase: prints its line and fails if the bound was passed.
    pub fn end_phase(&mut self, name: &str) -> anyhow::Result<()> {
        let phase = self.sampler.phase(name);
        let seconds = self.began.elapsed().as_secs_f64();
        self.began = Instant::now();
        let limit = self.max_memory_mib * MIB + BEYOND_BYTES;
        let verdict = self.judge(&phase, limit);
        let group = match &self.group {
            Err(reason) => format!("no cgroup here ({reason})"),
            Ok(group) => format!(
                "cgroup of {} MiB{}, {} kills",
                (limit + PAGE_CACHE_BYTES) / MIB,
                if group.swap_is_off { ", swap off" } else { "" },
                group.kills()?
            ),
        };
        println!(
            "{}: {phase}; limit {} MiB; {group}; {seconds:.1} s; {}",
            self.row,
            limit / MIB,
            if verdict.is_ok() { "pass" } else { "FAIL" },
        );
        verdict
    }

    fn judge(&self, phase: &Phase, limit: u64) -> anyhow::Result<()> {
        let name = &phase.name;
        anyhow::ensure!(phase.samples > 0, "{name}: nothing was measured");
        for (what, bytes) in [
            ("summed PSS", phase.peak_bytes),
            ("one process", phase.largest_process_bytes()),
        ] {
            anyhow::ensure!(
                bytes <= limit,
                "{name}: {what} took {bytes} bytes, the bound is {limit}"
            );
        }
        let kills = self.group.as_ref().map_or(Ok(0), Cgroup::kills)?;
        anyhow::ensure!(kills == 0, "{name}: the kernel killed {kills} processes");
        Ok(())
    }

    /// Ends all processes at once (SIGKILL).
    pub fn kill(self) -> anyhow::Result<()> {
        drop((self.client, self.sampler));
        self.server.kill_family()
    }

    /// Runs BGSAVE or BGREWRITEAOF and waits for its end, also of one that was under way.
    pub fn in_background(&mut self, command: &str) -> anyhow::Result<()> {
        let (flag, status) = match command {
            "BGSAVE" => ("rdb_bgsave_in_progress", "rdb_last_bgsave_status"),
            _ => ("aof_rewrite_in_progress", "aof_last_bgrewrite_status"),
        };
        let client = &mut self.client;
        until(command, || Ok(info(client, "persistence", flag)? == "0"))?;
        until("a start", || Ok(client.ok(command).is_ok()))?;
        until(command, || Ok(info(client, "persistence", flag)? == "0"))?;
        let found = info(client, "persistence", status)?;
        anyhow::ensure!(found == "ok", "{command}: {found}");
        Ok(())
    }

    /// `DEBUG DIGEST`, however long it takes.
    pub fn digest(&self) -> anyhow::Result<String> {
        digest(&self.server)
    }
}

/// `DEBUG DIGEST` of any server.
pub fn digest(server: &Server) -> anyhow::Result<String> {
    let mut client = server.client()?;
    client.set_reply_wait(long_wait())?;
    Ok(client.ok("DEBUG DIGEST")?.text())
}
