//! Which key is wanted next: zipf, over names in no order.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The exponent.
pub(crate) const EXPONENT: f64 = 0.99;
/// Spreads ranks over keys: a prime larger than any number of keys here.
const SPREAD: u64 = 4_294_967_291;

/// A sequence of keys.
pub(crate) struct Popular {
    /// Share of the accesses that the most wanted keys have together, by rank.
    shares: Vec<f64>,
    random: StdRng,
}

impl Popular {
    pub(crate) fn new(keys: u64, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-EXPONENT);
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self {
            shares,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The key of a rank.
    pub(crate) fn key(&self, rank: usize) -> u64 {
        (rank as u64 * SPREAD) % self.shares.len() as u64
    }

    /// The next key that is wanted.
    pub(crate) fn next(&mut self) -> u64 {
        let at: f64 = self.random.random();
        let rank = self.shares.partition_point(|share| *share < at);
        self.key(rank.min(self.shares.len() - 1))
    }

    /// The hit ratio of a memory that holds the most wanted `count` keys.
    pub(crate) fn ideal(&self, count: u64) -> f64 {
        let last = (count as usize).clamp(1, self.shares.len()) - 1;
        self.shares[last]
    }
}
