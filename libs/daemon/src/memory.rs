//! What a process takes of memory, as the kernel tells it in `/proc`.
//!
//! The memory bound is measured as the sum of PSS (shared pages divided among
//! those who share) and as each process's peak resident size.

use std::fs;
use std::io;

/// Bytes of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessMemory {
    /// Resident.
    pub rss_bytes: u64,
    /// Proportional share.
    pub pss_bytes: u64,
    /// Highest resident size since the start or [`reset_peak`].
    pub peak_rss_bytes: u64,
}

/// Of a process that this one may look at. Reading PSS walks the page tables:
/// about a millisecond per gigabyte, so don't ask too often.
pub fn read(pid: u32) -> io::Result<ProcessMemory> {
    let resident = read_resident(pid)?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(ProcessMemory {
        pss_bytes: field_bytes(&rollup, "Pss:").ok_or_else(malformed)?,
        ..resident
    })
}

/// As [`read`] but without PSS (0): cheap.
pub fn read_resident(pid: u32) -> io::Result<ProcessMemory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(ProcessMemory {
        rss_bytes: field_bytes(&status, "VmRSS:").ok_or_else(malformed)?,
        pss_bytes: 0,
        peak_rss_bytes: field_bytes(&status, "VmHWM:").ok_or_else(malformed)?,
    })
}

/// Starts a new measurement of the peak (for one phase of a test or job).
pub fn reset_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The figure of a line `Name:   123 kB`.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// A zombie has no such lines either.
fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the process tells no memory figures",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_plausible_figures() {
        let memory = read(std::process::id()).unwrap();
        assert!(memory.rss_bytes > 100_000, "{memory:?}");
        assert!(
            memory.pss_bytes > 0 && memory.pss_bytes <= memory.peak_rss_bytes,
            "{memory:?}"
        );
    }

    #[test]
    fn lines_are_read_exactly() {
        let text = "VmHWM:\t     120 kB\nVmRSS:\t      80 kB\nPss_Dirty: 5 kB\nPss: 7 kB\n";
        assert_eq!(field_bytes(text, "VmRSS:"), Some(80 * 1024));
        assert_eq!(field_bytes(text, "Pss:"), Some(7 * 1024));
        assert_eq!(field_bytes(text, "VmSwap:"), None);
        assert_eq!(field_bytes("Pss: x kB", "Pss:"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(read(u32::MAX).is_err());
    }
}
