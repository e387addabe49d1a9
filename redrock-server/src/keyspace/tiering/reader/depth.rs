//! How many threads read from a device at a time.
//!
//! A device that answers late has to be asked for more at once: by Little's law as many threads must
//! wait for it as it takes to make [`PER_READ`]'s number of reads a second at the latency that was
//! measured. More would not help a fast device, and where the clients are served by the same few
//! processors each thread that is woken costs them: with a device that answers in 80 us, 16 threads
//! made half of the reads a second that 4 make.
//!
//! The latency that counts is a low quantile: a thread that got its processor late did not wait for the device.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Threads there always are.
pub const THREADS_MIN: usize = 4;
/// Threads there are at most.
pub const THREADS_MAX: usize = 64;
/// The pool is to make a read in this time, if the device can: 50,000 a second.
const PER_READ: Duration = Duration::from_micros(20);
/// Three of ten reads are faster than the latency that counts: how it moves with each that is slower or
/// faster, in parts of a thousand.
const UP_PERMILLE: u64 = 15;
const DOWN_PERMILLE: u64 = 35;
/// Between these it is followed.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 100_000_000;

/// See the module.
#[derive(Debug)]
pub struct Depth {
    latency_ns: AtomicU64,
}

impl Default for Depth {
    fn default() -> Self {
        let latency = PER_READ * THREADS_MIN as u32;
        Self {
            latency_ns: AtomicU64::new(latency.as_nanos() as u64),
        }
    }
}

impl Depth {
    /// A read has waited for the device for so long.
    pub fn note(&self, took: Duration) {
        // Several threads note at a time; that one of them is lost does no harm.
        let latency_ns = self.latency_ns.load(Ordering::Relaxed);
        let next_ns = match u128::from(latency_ns) < took.as_nanos() {
            true => latency_ns + latency_ns * UP_PERMILLE / 1000,
            false => latency_ns - latency_ns * DOWN_PERMILLE / 1000,
        };
        let next_ns = next_ns.clamp(LATENCY_NS_MIN, LATENCY_NS_MAX);
        self.latency_ns.store(next_ns, Ordering::Relaxed);
    }

    /// Threads that may read at a time.
    pub fn threads(&self) -> usize {
        let latency_ns = self.latency_ns.load(Ordering::Relaxed);
        let threads = latency_ns / PER_READ.as_nanos() as u64;
        (threads as usize).clamp(THREADS_MIN, THREADS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_device_is_asked_for_more_at_once() {
        let depth = Depth::default();
        let after = |latency_us: u64| {
            for _ in 0..2000 {
                depth.note(Duration::from_micros(latency_us));
            }
            depth.threads()
        };
        assert_eq!(after(60), THREADS_MIN);
        assert!((22..=26).contains(&after(500)));
        assert_eq!(after(10_000), THREADS_MAX);
        assert_eq!(after(20), THREADS_MIN);
    }

    #[test]
    fn what_waits_for_a_processor_does_not_count() {
        let depth = Depth::default();
        for read in 0..4000 {
            // Half of the reads get their processor late.
            let late = if read % 2 == 0 { 4000 } else { 0 };
            depth.note(Duration::from_micros(70 + late));
        }
        assert!(depth.threads() <= THREADS_MIN + 1, "{}", depth.threads());
    }
}
