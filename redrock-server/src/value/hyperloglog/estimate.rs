//! From registers to a cardinality: Otmar Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches", arXiv:1702.01284. The order of the operations is Redis's: the results
//! are compared to the unit.

use super::REGISTERS;

/// Bits of the hash that are not the register's number.
const Q: usize = 50;
/// 0.5 / ln 2
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// How many registers have each value.
#[derive(Debug, Clone)]
pub(super) struct Histogram([u32; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Histogram {
    /// That of some registers.
    pub(super) fn of(registers: impl Iterator<Item = u8>) -> Self {
        let mut histogram = Self::default();
        registers.for_each(|value| histogram.add(value, 1));
        histogram
    }

    /// Adds some registers of one value.
    pub(super) fn add(&mut self, value: u8, registers: usize) {
        self.0[usize::from(value & 63)] += registers as u32;
    }

    /// The estimated cardinality. What only a made-up string can have (all registers above what a
    /// hash gives) is what Redis's conversion of infinity yields.
    pub(super) fn cardinality(&self) -> u64 {
        let registers = REGISTERS as f64;
        let share = |value: usize| f64::from(self.0[value]) / registers;
        let highest = f64::from(self.0[Q + 1]);
        let mut z = registers * tau((registers - highest) / registers);
        for value in (1..=Q).rev() {
            z += f64::from(self.0[value]);
            z *= 0.5;
        }
        z += registers * sigma(share(0));
        let estimate = (ALPHA * registers * registers / z).round();
        if estimate.is_finite() {
            estimate as u64
        } else {
            1 << 63
        }
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}
