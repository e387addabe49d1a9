//! The one total order of keys (I4): a key's position is a keyed 48-bit hash of its name.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Bits of a position.
pub const POSITION_BITS: u32 = 48;

/// One past the largest position.
pub const POSITION_END: u64 = 1 << POSITION_BITS;

/// A key's full hash: its top 48 bits are the position, all of it spreads keys in a segment.
/// Hashes order as positions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The key's place in the total order, below [`POSITION_END`].
    pub fn position(self) -> u64 {
        self.0 >> (64 - POSITION_BITS)
    }

    /// The top `depth` bits of the position.
    pub fn prefix(self, depth: u32) -> usize {
        if depth == 0 {
            0
        } else {
            (self.0 >> (64 - depth)) as usize
        }
    }

    /// Hash for the table within a segment. Keys of a segment share their top bits; the low bits
    /// of this product depend on the low bits only, its top bits on all.
    pub fn slot(self) -> u64 {
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// The full 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// Hashes keys with a secret, so that clients can't aim at one segment.
#[derive(Debug, Clone, Copy)]
pub struct Positioner {
    secret: (u64, u64),
}

impl Positioner {
    /// Uses the given secret.
    pub fn new(secret: (u64, u64)) -> Self {
        Self { secret }
    }

    /// The secret.
    pub fn secret(&self) -> (u64, u64) {
        self.secret
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        KeyHash(hasher.finish())
    }
}
