//! Statistics of the running server: what INFO, LATENCY HISTOGRAM and CONFIG RESETSTAT see.
//!
//! The hot path only adds to counters of the calling thread's own [`Shard`]: each worker owns one
//! and is its only writer, so an addition is a load and a store without a bus lock. Shard 0 is
//! shared by all other threads and uses atomic additions. Readers add the shards up.

mod histogram;
mod sampler;

pub use histogram::{Histogram, HistogramSnapshot};
pub use sampler::{Metric, Sampler};

use crate::acl::log::Reason;
use crate::command::error::CommandError;
use crate::command::registry;
use crate::command::table::Spec;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Error codes that are counted one by one; more of them come only from odd scripts.
const ERROR_CODES_MAX: usize = 128;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread the only writer of worker `index`'s shard.
pub fn own_shard(index: usize) {
    SHARD.set(index + 1);
}

/// What is counted for each command.
#[derive(Debug, Default)]
struct CommandCounters {
    calls: AtomicU64,
    usec: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    histogram: OnceLock<Box<Histogram>>,
}

/// One command's figures, all shards together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CommandStats {
    /// Executions.
    pub calls: u64,
    /// Microseconds in them.
    pub usec: u64,
    /// Refusals before execution.
    pub rejected: u64,
    /// Executions that answered an error.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Shard {
    commands: AtomicU64,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    cycles: AtomicU64,
    cycle_usec: AtomicU64,
    cycle_usec_max: AtomicU64,
    cycle_commands_max: AtomicU64,
    log_usec: AtomicU64,
    by_command: Box<[CommandCounters]>,
}

/// What threads did between two sleeps, all shards together (Redis: its event loop).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CycleStats {
    /// `eventloop_cycles`
    pub count: u64,
    /// `eventloop_duration_sum`
    pub usec: u64,
    /// `eventloop_duration_max`
    pub usec_max: u64,
    /// `eventloop_cmd_per_cycle_max`
    pub commands_max: u64,
    /// `eventloop_duration_aof_sum`: writing the log
    pub log_usec: u64,
    /// `eventloop_duration_cron_sum`: periodic work
    pub periodic_usec: u64,
}

/// See the module. Field names with a quoted text are INFO's.
#[derive(Debug)]
pub struct Stats {
    shards: Box<[Shard]>,
    /// `total_connections_received`
    pub connections: AtomicU64,
    /// `rejected_connections`
    pub rejected: AtomicU64,
    /// `total_error_replies`
    pub errors: AtomicU64,
    /// `expired_time_cap_reached_count`
    pub expire_time_caps: AtomicU64,
    /// Cuts of snapshots (`total_forks`).
    pub cuts: AtomicU64,
    /// How long the newest of them held all up, us (`latest_fork_usec`).
    pub cut_usec: AtomicU64,
    /// `expire_cycle_cpu_milliseconds`, in microseconds here
    pub expire_usec: AtomicU64,
    /// `eventloop_duration_cron_sum`
    pub periodic_usec: AtomicU64,
    /// `acl_access_denied_auth`, `..._cmd`, `..._key`, `..._channel`
    denied: [AtomicU64; 4],
    /// `used_memory_peak`, bytes
    pub memory_peak: AtomicUsize,
    /// `used_memory_startup`, bytes
    pub memory_startup: AtomicUsize,
    /// Rates of the last 1.6 s.
    pub sampler: Mutex<Sampler>,
    error_codes: Mutex<BTreeMap<String, u64>>,
}

impl Stats {
    /// Zeros, for a server with so many workers.
    pub fn new(workers: usize) -> Self {
        let commands = registry::numbered().len();
        let shard = || Shard {
            by_command: (0..commands).map(|_| CommandCounters::default()).collect(),
            ..Shard::default()
        };
        Self {
            shards: (0..=workers).map(|_| shard()).collect(),
            connections: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            expire_time_caps: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            cut_usec: AtomicU64::new(0),
            expire_usec: AtomicU64::new(0),
            periodic_usec: AtomicU64::new(0),
            denied: Default::default(),
            memory_peak: AtomicUsize::new(0),
            memory_startup: AtomicUsize::new(0),
            sampler: Mutex::default(),
            error_codes: Mutex::default(),
        }
    }

    /// The calling thread's shard, and whether the thread is its only writer.
    fn shard(&self) -> (Option<&Shard>, bool) {
        match SHARD.get() {
            own if own > 0 && own < self.shards.len() => (self.shards.get(own), true),
            _ => (self.shards.first(), false),
        }
    }

    /// How often something was denied for this reason.
    pub fn denied(&self, reason: Reason) -> &AtomicU64 {
        let [auth, command, key, channel] = &self.denied;
        match reason {
            Reason::Auth => auth,
            Reason::Command => command,
            Reason::Key => key,
            Reason::Channel => channel,
        }
    }

    /// Counts an executed command. `track`: `latency-tracking` is on.
    pub fn executed(&self, spec: &Spec, usec: u64, failed: bool, track: bool) {
        let (Some(shard), own) = self.shard() else {
            return;
        };
        add(&shard.commands, 1, own);
        let Some(counters) = shard.by_command.get(usize::from(spec.index)) else {
            return;
        };
        add(&counters.calls, 1, own);
        add(&counters.usec, usec, own);
        if failed {
            add(&counters.failed, 1, own);
        }
        if track {
            let histogram = counters.histogram.get_or_init(Box::default);
            add(histogram.slot(usec.saturating_mul(1000)), 1, own);
        }
    }

    /// Counts a command that was refused before it ran.
    pub fn refused(&self, spec: &Spec) {
        let (Some(shard), own) = self.shard() else {
            return;
        };
        if let Some(counters) = shard.by_command.get(usize::from(spec.index)) {
            add(&counters.rejected, 1, own);
        }
    }

    /// Counts an error reply under its code.
    pub fn error(&self, error: &CommandError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text = error.resp();
        let code = match memchr::memchr(b' ', &text) {
            Some(end) => text.get(..end).unwrap_or_default(),
            None => b"ERR",
        };
        let code = String::from_utf8_lossy(code);
        let mut codes = self.error_codes.lock();
        if let Some(count) = codes.get_mut(&*code) {
            *count += 1;
        } else if codes.len() < ERROR_CODES_MAX {
            codes.insert(code.into_owned(), 1);
        }
    }

    /// Counts received bytes.
    pub fn input(&self, bytes: usize) {
        let (Some(shard), own) = self.shard() else {
            return;
        };
        add(&shard.input_bytes, bytes as u64, own);
        add(&shard.reads, 1, own);
    }

    /// Counts sent bytes.
    pub fn output(&self, bytes: usize) {
        let (Some(shard), own) = self.shard() else {
            return;
        };
        add(&shard.output_bytes, bytes as u64, own);
        add(&shard.writes, 1, own);
    }

    /// Counts what the calling thread did between two sleeps.
    pub fn cycle(&self, usec: u64, commands: u64) {
        let (Some(shard), own) = self.shard() else {
            return;
        };
        add(&shard.cycles, 1, own);
        add(&shard.cycle_usec, usec, own);
        for (max, value) in [
            (&shard.cycle_usec_max, usec),
            (&shard.cycle_commands_max, commands),
        ] {
            if value > max.load(Ordering::Relaxed) {
                max.fetch_max(value, Ordering::Relaxed);
            }
        }
    }

    /// Counts the writing of the log before replies leave.
    pub fn log_written(&self, usec: u64) {
        if let (Some(shard), own) = self.shard() {
            add(&shard.log_usec, usec, own);
        }
    }

    /// A snapshot's cut has held all up for so long.
    pub fn cut_made(&self, took: Duration) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.cut_usec
            .store(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Commands of the calling thread's shard so far.
    pub fn own_commands(&self) -> u64 {
        let (shard, _) = self.shard();
        shard.map_or(0, |shard| shard.commands.load(Ordering::Relaxed))
    }

    /// What was counted of the threads' work.
    pub fn cycles(&self) -> CycleStats {
        let max = |counter: fn(&Shard) -> &AtomicU64| {
            let shards = self.shards.iter();
            let values = shards.map(|shard| counter(shard).load(Ordering::Relaxed));
            values.max().unwrap_or(0)
        };
        CycleStats {
            count: self.sum(|shard| &shard.cycles),
            usec: self.sum(|shard| &shard.cycle_usec),
            usec_max: max(|shard| &shard.cycle_usec_max),
            commands_max: max(|shard| &shard.cycle_commands_max),
            log_usec: self.sum(|shard| &shard.log_usec),
            periodic_usec: self.periodic_usec.load(Ordering::Relaxed),
        }
    }

    /// `eventloop_duration_cmd_sum`: microseconds in commands.
    pub fn command_usec(&self) -> u64 {
        let all = self.shards.iter().flat_map(|shard| &shard.by_command);
        all.map(|counters| counters.usec.load(Ordering::Relaxed))
            .sum()
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| counter(shard).load(Ordering::Relaxed))
            .sum()
    }

    /// `total_commands_processed`
    pub fn commands(&self) -> u64 {
        self.sum(|shard| &shard.commands)
    }

    /// `total_net_input_bytes`, without replication
    pub fn input_bytes(&self) -> u64 {
        self.sum(|shard| &shard.input_bytes)
    }

    /// `total_net_output_bytes`, without replication
    pub fn output_bytes(&self) -> u64 {
        self.sum(|shard| &shard.output_bytes)
    }

    /// `total_reads_processed`
    pub fn reads(&self) -> u64 {
        self.sum(|shard| &shard.reads)
    }

    /// `total_writes_processed`
    pub fn writes(&self) -> u64 {
        self.sum(|shard| &shard.writes)
    }

    /// One command's figures.
    pub fn command(&self, spec: &Spec) -> CommandStats {
        let mut sum = CommandStats::default();
        for shard in &self.shards {
            let Some(counters) = shard.by_command.get(usize::from(spec.index)) else {
                continue;
            };
            sum.calls += counters.calls.load(Ordering::Relaxed);
            sum.usec += counters.usec.load(Ordering::Relaxed);
            sum.rejected += counters.rejected.load(Ordering::Relaxed);
            sum.failed += counters.failed.load(Ordering::Relaxed);
        }
        sum
    }

    /// One command's latencies; `None` if none was recorded.
    pub fn histogram(&self, spec: &Spec) -> Option<HistogramSnapshot> {
        // Most commands have none; a snapshot is large.
        let mut sum: Option<HistogramSnapshot> = None;
        for shard in &self.shards {
            let counters = shard.by_command.get(usize::from(spec.index));
            if let Some(histogram) = counters.and_then(|c| c.histogram.get()) {
                sum.get_or_insert_default().add(histogram);
            }
        }
        sum.filter(|sum| sum.total() > 0)
    }

    /// Error codes with their counts, by code.
    pub fn error_codes(&self) -> Vec<(String, u64)> {
        self.error_codes
            .lock()
            .iter()
            .map(|(code, count)| (code.clone(), *count))
            .collect()
    }

    /// Samples rates and the memory peak; called every 100 ms.
    pub fn tick(&self, now_us: i64) {
        crate::memory::stats::refresh();
        let allocated = crate::memory::stats::allocated();
        self.memory_peak.fetch_max(allocated, Ordering::Relaxed);
        let cycles = self.cycles();
        let values = [
            self.commands(),
            self.input_bytes(),
            self.output_bytes(),
            cycles.count,
            cycles.usec,
        ];
        self.sampler.lock().sample(now_us, values);
    }

    /// Sets all to zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        let zero = |counter: &AtomicU64| counter.store(0, Ordering::Relaxed);
        for shard in &self.shards {
            let Shard {
                commands,
                input_bytes,
                output_bytes,
                reads,
                writes,
                cycles,
                cycle_usec,
                cycle_usec_max,
                cycle_commands_max,
                log_usec,
                by_command,
            } = shard;
            [commands, input_bytes, output_bytes, reads, writes]
                .into_iter()
                .chain([cycles, cycle_usec, cycle_usec_max])
                .chain([cycle_commands_max, log_usec])
                .for_each(zero);
            for counters in by_command {
                let CommandCounters {
                    calls,
                    usec,
                    rejected,
                    failed,
                    histogram,
                } = counters;
                [calls, usec, rejected, failed].into_iter().for_each(zero);
                if let Some(histogram) = histogram.get() {
                    histogram.reset();
                }
            }
        }
        let Self {
            connections,
            rejected,
            errors,
            expire_time_caps,
            cuts,
            cut_usec,
            expire_usec,
            periodic_usec,
            ..
        } = self;
        [connections, rejected, errors, expire_time_caps, expire_usec]
            .into_iter()
            .chain([periodic_usec, cuts, cut_usec])
            .chain(&self.denied)
            .for_each(zero);
        self.memory_peak
            .store(crate::memory::stats::allocated(), Ordering::Relaxed);
        *self.sampler.lock() = Sampler::default();
        self.error_codes.lock().clear();
    }
}

fn add(counter: &AtomicU64, n: u64, own: bool) {
    if own {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    } else {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_reset_clears_everything() {
        let stats = Stats::new(2);
        let spec = registry::find(b"get").expect("GET is a command");
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let stats = &stats;
                scope.spawn(move || {
                    own_shard(worker);
                    for _ in 0..1000 {
                        stats.executed(spec, 3, worker == 1, true);
                    }
                });
            }
        });
        stats.refused(spec);
        stats.error(&CommandError::WrongType);
        stats.error(&CommandError::fixed("NOCODE"));
        let sum = stats.command(spec);
        assert_eq!(
            sum,
            CommandStats {
                calls: 2000,
                usec: 6000,
                rejected: 1,
                failed: 1000
            }
        );
        assert_eq!(stats.commands(), 2000);
        assert_eq!(stats.histogram(spec).map(|h| h.total()), Some(2000));
        assert_eq!(
            stats.error_codes(),
            [("ERR".into(), 1), ("WRONGTYPE".into(), 1)]
        );
        stats.reset();
        assert_eq!(stats.command(spec), CommandStats::default());
        assert!(stats.histogram(spec).is_none() && stats.error_codes().is_empty());
    }
}
