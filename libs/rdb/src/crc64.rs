//! CRC-64 as RDB files and DUMP payloads end with: Jones polynomial
//! 0xAD93D23594C935A9, reflected, initial value 0, no final inversion.
//!
//! In the reflected form that all code here uses, bit `i` of a `u64` stands
//! for `x^(63 - i)` and the first byte of a message for its highest powers.
//! Long inputs are folded 64 bytes at a time by carry-less multiplication
//! where the processor has it; the rest, and other processors, use eight
//! tables. Snapshots pass every byte through here, so this is as fast as
//! memory allows.

/// The polynomial, reflected.
const POLYNOMIAL: u64 = 0xAD93_D235_94C9_35A9u64.reverse_bits();

/// `value * x` modulo the polynomial.
const fn times_x(value: u64) -> u64 {
    (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 }
}

/// `TABLES[k][b]`: what byte `b` adds to the state when `k` bytes follow it.
static TABLES: [[u64; 256]; 8] = {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = times_x(crc);
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
};

/// Continues the checksum `crc` (0 at the start) over `bytes`.
#[inline]
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= folding::BYTES_MIN && std::arch::is_x86_feature_detected!("pclmulqdq") {
        // SAFETY: the processor has just been found to have the one feature
        // that the function is compiled for beyond the baseline.
        return unsafe { folding::crc64(crc, bytes) };
    }
    by_tables(crc, bytes)
}

/// Eight bytes a step, one table look-up each.
fn by_tables(mut crc: u64, bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let word = (crc ^ u64::from_le_bytes(*chunk)).to_le_bytes();
        crc = TABLES[7][usize::from(word[0])]
            ^ TABLES[6][usize::from(word[1])]
            ^ TABLES[5][usize::from(word[2])]
            ^ TABLES[4][usize::from(word[3])]
            ^ TABLES[3][usize::from(word[4])]
            ^ TABLES[2][usize::from(word[5])]
            ^ TABLES[1][usize::from(word[6])]
            ^ TABLES[0][usize::from(word[7])];
    }
    for &byte in rest {
        crc = TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    }
    crc
}

/// Folding: a 128 bit lane `H * x^64 + L` is replaced by a congruent one
/// further on in the message, `H * (x^(64 + d) mod P) + L * (x^d mod P)`.
/// A carry-less product of reflected operands comes out multiplied by `x`,
/// so that each constant is one power lower.
#[cfg(target_arch = "x86_64")]
mod folding {
    use super::{by_tables, times_x};
    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x,
        _mm_unpackhi_epi64, _mm_xor_si128,
    };

    /// Below this the set-up costs more than it saves.
    pub(super) const BYTES_MIN: usize = 64;

    const fn power_of_x(exponent: u32) -> i64 {
        let mut value = 1u64 << 63;
        let mut i = 0;
        while i < exponent {
            value = times_x(value);
            i += 1;
        }
        value as i64
    }

    /// The multipliers that move a lane on by `bits`: high part, low part.
    const fn multipliers(bits: u32) -> (i64, i64) {
        (power_of_x(64 + bits - 1), power_of_x(bits - 1))
    }

    const BY_16_BYTES: (i64, i64) = multipliers(128);
    const BY_64_BYTES: (i64, i64) = multipliers(512);

    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    fn load(chunk: &[u8; 16]) -> __m128i {
        let raw = i128::from_le_bytes(*chunk);
        _mm_set_epi64x((raw >> 64) as i64, raw as i64)
    }

    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    fn fold(lane: __m128i, multipliers: __m128i, next: __m128i) -> __m128i {
        let high = _mm_clmulepi64_si128::<0x00>(lane, multipliers);
        let low = _mm_clmulepi64_si128::<0x11>(lane, multipliers);
        _mm_xor_si128(_mm_xor_si128(high, low), next)
    }

    #[target_feature(enable = "pclmulqdq")]
    pub(super) fn crc64(crc: u64, bytes: &[u8]) -> u64 {
        let (blocks, rest) = bytes.as_chunks::<64>();
        let Some((first, blocks)) = blocks.split_first() else {
            return by_tables(crc, bytes);
        };
        let lanes_of = |block: &[u8; 64]| {
            let (lanes, _) = block.as_chunks::<16>();
            [
                load(&lanes[0]),
                load(&lanes[1]),
                load(&lanes[2]),
                load(&lanes[3]),
            ]
        };
        let [mut a, mut b, mut c, mut d] = lanes_of(first);
        a = _mm_xor_si128(a, _mm_cvtsi64_si128(crc as i64));
        let by_64 = _mm_set_epi64x(BY_64_BYTES.1, BY_64_BYTES.0);
        for block in blocks {
            let next = lanes_of(block);
            a = fold(a, by_64, next[0]);
            b = fold(b, by_64, next[1]);
            c = fold(c, by_64, next[2]);
            d = fold(d, by_64, next[3]);
        }
        let by_16 = _mm_set_epi64x(BY_16_BYTES.1, BY_16_BYTES.0);
        let mut lane = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
        let (chunks, rest) = rest.as_chunks::<16>();
        for chunk in chunks {
            lane = fold(lane, by_16, load(chunk));
        }
        // The lane is congruent to all that was read: its own checksum is
        // that of the message.
        let low = _mm_cvtsi128_si64(lane) as u64;
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(lane, lane)) as u64;
        let crc = by_tables(by_tables(0, &low.to_le_bytes()), &high.to_le_bytes());
        by_tables(crc, rest)
    }
}

/// A checksum over bytes that come in pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crc64 {
    state: u64,
}

impl Crc64 {
    /// The checksum of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a checksum that was read with [`Crc64::value`].
    pub fn resume(value: u64) -> Self {
        Self { state: value }
    }

    /// Takes in `bytes`.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.state = crc64(self.state, bytes);
    }

    /// The checksum of all bytes so far.
    #[inline]
    pub fn value(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One bit at a time, straight from the definition.
    fn by_bits(mut crc: u64, bytes: &[u8]) -> u64 {
        for &byte in bytes {
            crc ^= u64::from(byte);
            for _ in 0..8 {
                crc = times_x(crc);
            }
        }
        crc
    }

    #[test]
    fn the_check_value_of_redis_comes_out() {
        assert_eq!(crc64(0, b"123456789"), 0xE9C6_D914_C4B8_D9CA);
        assert_eq!(crc64(0, b""), 0);
    }

    proptest! {
        #[test]
        fn all_ways_agree_in_any_pieces(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            start in any::<u64>(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let expected = by_bits(start, &bytes);
            prop_assert_eq!(by_tables(start, &bytes), expected);
            prop_assert_eq!(crc64(start, &bytes), expected);
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut crc = Crc64::resume(start);
            crc.update(head);
            crc.update(tail);
            prop_assert_eq!(crc.value(), expected);
        }
    }
}
