//! Dense: 16384 registers of 6 bits, the first in the lowest bits of the first byte.

use super::{HEADER_BYTES, Pattern};

const MASK: u16 = 0x3f;

/// Byte and bit of a register.
fn place(register: usize) -> (usize, usize) {
    let bit = register * 6;
    (HEADER_BYTES + bit / 8, bit % 8)
}

/// A register's value.
pub(super) fn get(bytes: &[u8], register: usize) -> u8 {
    let (at, shift) = place(register);
    let byte = |at: usize| u16::from(bytes.get(at).copied().unwrap_or(0));
    (((byte(at) | byte(at + 1) << 8) >> shift) & MASK) as u8
}

fn set(bytes: &mut [u8], register: usize, value: u8) {
    let (at, shift) = place(register);
    let clear = !(MASK << shift);
    let bits = u16::from(value) << shift;
    if let Some(low) = bytes.get_mut(at) {
        *low = *low & clear as u8 | bits as u8;
    }
    // The last register ends with the string.
    if let Some(high) = bytes.get_mut(at + 1) {
        *high = *high & (clear >> 8) as u8 | (bits >> 8) as u8;
    }
}

/// Raises a register; false if it was as high.
pub(super) fn raise(bytes: &mut [u8], pattern: Pattern) -> bool {
    let raises = get(bytes, pattern.register) < pattern.length;
    if raises {
        set(bytes, pattern.register, pattern.length);
    }
    raises
}

/// All registers in order: four in three bytes.
pub(super) fn registers(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let (groups, _) = bytes
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks::<3>();
    groups.iter().flat_map(|&[a, b, c]| {
        [
            a & 63,
            (a >> 6 | b << 2) & 63,
            (b >> 4 | c << 4) & 63,
            c >> 2,
        ]
    })
}
