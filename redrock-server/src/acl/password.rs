//! Passwords, of which only hashes are kept.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(..)")
    }
}

impl Hash {
    /// Hashes a password.
    pub fn of(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (slot, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = *pair else {
                return None;
            };
            *slot = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(hash))
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Compares in a time that tells nothing about where two hashes differ.
    pub fn is(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(other.0.iter());
        let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}
