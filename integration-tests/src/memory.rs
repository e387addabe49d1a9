//! The memory of a server and all processes that it started, sampled (invariant I7).
//!
//! Two figures a phase, from the kernel: the highest sum of PSS over the family at one moment, and
//! each process's own high-water mark (VmHWM), which misses no peak between two samples.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(50);
/// One MiB, bytes.
pub const MIB: u64 = 1 << 20;

/// A process and everything below it, itself first.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&parent) = all.get(at) {
        at += 1;
        let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                text.split_whitespace()
                    .filter_map(|n| n.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// The name of a process; empty if it has gone.
pub fn name(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}

/// A field of a file in `/proc`, bytes; 0 if the process has gone.
fn field(pid: u32, file: &str, field: &str) -> u64 {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    figure.unwrap_or(0) * 1024
}

/// Whether a process runs its parent's program still: one that is just being spawned, which has its
/// parent's very memory.
fn is_being_spawned(pid: u32, parent: u32) -> bool {
    let program = |pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    pid != parent && program(pid).is_some_and(|found| Some(found) == program(parent))
}

/// The summed PSS of a process and everything below it, bytes.
pub fn proportional_bytes(pid: u32) -> u64 {
    let of = |pid| field(pid, "smaps_rollup", "Pss:");
    let family = family(pid).into_iter();
    family
        .filter(|other| !is_being_spawned(*other, pid))
        .map(of)
        .sum()
}

/// The resident memory of one process, bytes; 0 if it has gone.
pub fn resident_bytes(pid: u32) -> u64 {
    field(pid, "status", "VmRSS:")
}

/// Samples until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    pid: u32,
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    samples: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What a phase took.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What was going on.
    pub name: String,
    /// Highest summed PSS, bytes.
    pub peak_bytes: u64,
    /// How often it was measured.
    pub samples: u64,
    /// High-water mark of each process that lives at the phase's end, bytes.
    pub high_water_bytes: BTreeMap<String, u64>,
}

impl Phase {
    /// The highest figure that one process alone reached, bytes.
    pub fn largest_process_bytes(&self) -> u64 {
        self.high_water_bytes.values().copied().max().unwrap_or(0)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let (peak, samples) = (mib(self.peak_bytes), self.samples);
        write!(
            out,
            "{}: PSS <= {peak:.1} MiB ({samples} samples), VmHWM",
            self.name
        )?;
        for (process, bytes) in &self.high_water_bytes {
            write!(out, " {process} {:.1}", mib(*bytes))?;
        }
        Ok(())
    }
}

fn sample(pid: u32, peak: &AtomicU64, samples: &AtomicU64) {
    let sum = proportional_bytes(pid);
    peak.fetch_max(sum, Ordering::Relaxed);
    samples.fetch_add(u64::from(sum > 0), Ordering::Relaxed);
}

impl Sampler {
    /// Begins to sample a process and everything below it.
    pub fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let samples = Arc::new(AtomicU64::new(0));
        let shared = (stop.clone(), peak.clone(), samples.clone());
        let thread = std::thread::spawn(move || {
            let (stop, peak, samples) = shared;
            while !stop.load(Ordering::Relaxed) {
                sample(pid, &peak, &samples);
                std::thread::park_timeout(INTERVAL);
            }
        });
        Self {
            pid,
            stop,
            peak,
            samples,
            thread: Some(thread),
        }
    }

    /// Ends a phase with a last sample, however short it was, and begins the next one with the
    /// high-water marks reset.
    pub fn phase(&self, name: &str) -> Phase {
        sample(self.pid, &self.peak, &self.samples);
        let mut high_water_bytes = BTreeMap::<String, u64>::new();
        for pid in family(self.pid) {
            let bytes = field(pid, "status", "VmHWM:");
            let highest = high_water_bytes.entry(self::name(pid)).or_default();
            *highest = bytes.max(*highest);
            // Resets the mark; where that isn't allowed, the mark is that of all phases so far.
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        Phase {
            name: name.into(),
            peak_bytes: self.peak.swap(0, Ordering::Relaxed),
            samples: self.samples.swap(0, Ordering::Relaxed),
            high_water_bytes,
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
