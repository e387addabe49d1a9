//! How fast the cold part of a snapshot is copied (`snapshot-rate`).
//!
//! - a number: that many bytes per second, over any second;
//! - 0: as fast as it goes;
//! - automatic: as fast as the disk and RocksDB's iteration allow, on a thread of low priority
//!   by then, so that the server's own work goes first. What keeps the disk usable is that the writer
//!   syncs every few megabytes and drops those pages from the page cache.

use std::time::{Duration, Instant};

/// `snapshot-rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Automatic,
    Unlimited,
    BytesPerSecond(u64),
}

/// What may go at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// A leaky bucket over bytes.
#[derive(Debug)]
pub struct Pacer {
    bytes_per_second: Option<u64>,
    /// When what was charged so far is paid for.
    paid_at: Instant,
}

impl Pacer {
    pub fn new(rate: Rate, now: Instant) -> Pacer {
        let bytes_per_second = match rate {
            Rate::Automatic | Rate::Unlimited => None,
            Rate::BytesPerSecond(bytes) => Some(bytes.max(1)),
        };
        Pacer {
            bytes_per_second,
            paid_at: now,
        }
    }

    /// Charges `bytes` and tells how long to wait before going on.
    pub fn charge(&mut self, bytes: u64, now: impl FnOnce() -> Instant) -> Duration {
        let Some(per_second) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let now = now();
        // Time that passed unused is lost but for a short burst.
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(earliest) + cost;
        self.paid_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_a_pause_saves_up_a_short_burst_only() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Rate::BytesPerSecond(1000), start);
        assert_eq!(pacer.charge(500, || start), Duration::from_millis(500));
        assert_eq!(pacer.charge(500, || start), Duration::from_millis(1000));
        let later = start + Duration::from_secs(60);
        assert_eq!(pacer.charge(100, || later), Duration::ZERO);
        assert_eq!(pacer.charge(100, || later), Duration::from_millis(100));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let start = Instant::now();
        for rate in [Rate::Automatic, Rate::Unlimited] {
            assert_eq!(
                Pacer::new(rate, start).charge(u64::MAX, || start),
                Duration::ZERO
            );
        }
    }
}
