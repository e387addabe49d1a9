//! Latency histograms with the buckets of HdrHistogram as Redis sets it up: 1 ns to 1 s, two
//! significant digits. Percentiles and distributions come out with the same figures.

use std::sync::atomic::{AtomicU64, Ordering};

/// Linear buckets of the first range; every further range doubles in width and has half as many.
const SUB_BUCKETS: u64 = 256;
const HALF: u64 = SUB_BUCKETS / 2;
/// Largest value told apart; longer ones count as this.
const VALUE_MAX: u64 = 1_000_000_000;
/// 23 ranges reach past [`VALUE_MAX`].
const SLOTS: usize = 24 * HALF as usize;

fn slot_of(value: u64) -> usize {
    let value = value.clamp(1, VALUE_MAX);
    let range = u64::from(64 - (value | (SUB_BUCKETS - 1)).leading_zeros()) - 8;
    ((range + 1) * HALF + (value >> range) - HALF) as usize
}

/// The largest value that shares the slot.
fn slot_top(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < SUB_BUCKETS {
        return slot;
    }
    let range = slot / HALF - 1;
    (((slot % HALF) + HALF + 1) << range) - 1
}

/// Counts by latency in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    slots: [AtomicU64; SLOTS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }
}

impl Histogram {
    /// The counter of a value.
    pub fn slot(&self, nanoseconds: u64) -> &AtomicU64 {
        // `slot_of` is below SLOTS for every value; the first slot is never used otherwise.
        self.slots
            .get(slot_of(nanoseconds))
            .unwrap_or(&self.slots[0])
    }

    /// Sets all to zero.
    pub fn reset(&self) {
        self.slots
            .iter()
            .for_each(|slot| slot.store(0, Ordering::Relaxed));
    }
}

/// A copy of one or several histograms' counts.
#[derive(Debug, Clone)]
pub struct HistogramSnapshot {
    slots: Vec<u64>,
    total: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self {
            slots: vec![0; SLOTS],
            total: 0,
        }
    }
}

impl HistogramSnapshot {
    /// Adds what another histogram counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, slot) in self.slots.iter_mut().zip(&histogram.slots) {
            let count = slot.load(Ordering::Relaxed);
            *sum += count;
            self.total += count;
        }
    }

    /// Number of recorded latencies.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency, in nanoseconds, that `percent` of all don't exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = percent.min(100.0) / 100.0 * self.total as f64 + 0.5;
        let wanted = (wanted as u64).max(1);
        let mut seen = 0;
        for (slot, count) in self.slots.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return slot_top(slot);
            }
        }
        0
    }

    /// The cumulative distribution by powers of two, as LATENCY HISTOGRAM shows it: pairs of
    /// microseconds and number of calls that took no longer. Empty steps are left out.
    pub fn distribution(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let (mut seen, mut next) = (0, 0);
        let mut level = 1024;
        while seen < self.total && next < SLOTS {
            let last = slot_of(level).min(SLOTS - 1);
            let before = seen;
            while next <= last {
                seen += self.slots.get(next).copied().unwrap_or(0);
                next += 1;
            }
            if seen > before {
                steps.push((slot_top(last) / 1000, seen));
            }
            level *= 2;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_ordered_and_hold_their_values_within_two_digits() {
        let mut last = 0;
        for value in (1..=VALUE_MAX).step_by(9973) {
            let slot = slot_of(value);
            assert!(slot < SLOTS && slot >= last, "{value}");
            let top = slot_top(slot);
            assert!(
                top >= value && top - value <= value / 100,
                "{value} in {top}"
            );
            assert!(slot == 0 || slot_top(slot - 1) < value);
            last = slot;
        }
        assert_eq!(slot_of(u64::MAX), slot_of(VALUE_MAX));
        assert_eq!(slot_of(0), 1);
    }

    #[test]
    fn percentiles_are_those_that_redis_shows() {
        let histogram = Histogram::default();
        for micros in [1, 1, 1, 2] {
            histogram
                .slot(micros * 1000)
                .fetch_add(1, Ordering::Relaxed);
        }
        let mut snapshot = HistogramSnapshot::default();
        snapshot.add(&histogram);
        assert_eq!(snapshot.percentile(50.0), 1003);
        assert_eq!(snapshot.percentile(99.0), 2007);
        assert_eq!(snapshot.distribution(), [(1, 3), (2, 4)]);
        for (micros, step) in [
            (7, 8),
            (30, 33),
            (33, 33),
            (34, 66),
            (500, 528),
            (2000, 2113),
        ] {
            let one = Histogram::default();
            one.slot(micros * 1000).fetch_add(1, Ordering::Relaxed);
            let mut snapshot = HistogramSnapshot::default();
            snapshot.add(&one);
            assert_eq!(snapshot.distribution(), [(step, 1)], "{micros}");
        }
    }
}
