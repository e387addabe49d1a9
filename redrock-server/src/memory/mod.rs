//! What the process uses.

pub mod oom_score;
pub mod stats;
pub mod thread;

use tikv_jemalloc_ctl::{epoch, stats as allocator};

/// Bytes handed out by the allocator, and bytes resident of this process.
pub fn measure() -> (u64, u64) {
    // A failing mallctl means that statistics are compiled out: then only RSS is known.
    let _ = epoch::advance();
    let resident = resident_bytes();
    let known = allocator::allocated::read().is_ok();
    let allocated = if known {
        stats::allocated() as u64
    } else {
        resident
    };
    (allocated, resident)
}

/// The process's resident set, bytes.
pub fn resident_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Gives unused pages of all arenas back to the system.
pub fn purge() {
    if !stats::purge() {
        tracing::debug!("allocator purge failed");
    }
}

/// Memory that could still be used, bytes: the machine's, or less if our group has a limit.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let number = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    Some(limit.map_or(machine, |limit| machine.min(limit.saturating_sub(used))))
}
