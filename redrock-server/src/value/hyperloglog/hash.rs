//! Where an element goes: MurmurHash64A, as Redis has it.

use super::REGISTERS;

const SEED: u64 = 0xadc8_3b19;
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();

/// What an element does: its register becomes at least `length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Number of the register.
    pub register: usize,
    /// Zeros that the rest of the hash begins with, and the one behind them: 1 to 51.
    pub length: u8,
}

impl Pattern {
    /// That of an element.
    pub fn of(element: &[u8]) -> Self {
        let hash = murmur64(element);
        let rest = (hash >> REGISTER_BITS) | (1 << (64 - REGISTER_BITS));
        Self {
            register: hash as usize & (REGISTERS - 1),
            length: rest.trailing_zeros() as u8 + 1,
        }
    }
}

fn murmur64(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u64::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> R)
}
