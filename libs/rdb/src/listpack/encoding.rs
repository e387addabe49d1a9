//! One listpack entry: `encoding+payload | backlen`.
//!
//! The first byte tells the kind: `0xxxxxxx` 7 bit unsigned, `10xxxxxx` string
//! under 64 bytes, `110xxxxx` 13 bit signed, `1110xxxx` string under 4096
//! bytes, `F0` string with a 32 bit length, `F1`-`F4` signed 16, 24, 32 and 64
//! bit little endian, `FF` the end. The backlen is the length of what precedes
//! it in the entry, 7 bits a byte, most significant first, the bit 0x80 set on
//! every byte but the first, so that it is read from its end.

use super::LpValue;
use crate::number::parse_i64;

/// The byte after the last entry.
pub(super) const END: u8 = 0xFF;

/// Bytes of the longest encoding header: that of a 64 bit integer.
const HEAD_BYTES_MAX: usize = 9;
/// Bytes of the longest backlen.
pub(super) const BACKLEN_BYTES_MAX: usize = 5;

/// An entry ready to be copied into a listpack.
pub(super) struct Encoded<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    body: &'a [u8],
    back: [u8; BACKLEN_BYTES_MAX],
    back_len: usize,
}

impl<'a> Encoded<'a> {
    /// The entry of `element`: an integer if that loses nothing.
    #[inline]
    pub(super) fn of_bytes(element: &'a [u8]) -> Self {
        match parse_i64(element) {
            Some(value) => Self::of_int(value),
            None => Self::of_str(element),
        }
    }

    /// The entry of an integer, in the shortest encoding that holds it.
    #[inline]
    pub(super) fn of_int(value: i64) -> Self {
        let mut head = [0u8; HEAD_BYTES_MAX];
        let raw = value.to_le_bytes();
        let head_len = if (0..=127).contains(&value) {
            head[0] = raw[0];
            1
        } else if (-4096..=4095).contains(&value) {
            head[0] = 0xC0 | (raw[1] & 0x1F);
            head[1] = raw[0];
            2
        } else {
            let (tag, width) = if i16::try_from(value).is_ok() {
                (0xF1, 2)
            } else if (-0x80_0000..=0x7F_FFFF).contains(&value) {
                (0xF2, 3)
            } else if i32::try_from(value).is_ok() {
                (0xF3, 4)
            } else {
                (0xF4, 8)
            };
            head[0] = tag;
            head[1..=width].copy_from_slice(&raw[..width]);
            1 + width
        };
        Self::finish(head, head_len, &[])
    }

    #[inline]
    fn of_str(element: &'a [u8]) -> Self {
        let mut head = [0u8; HEAD_BYTES_MAX];
        let len = element.len();
        let head_len = if len < 64 {
            head[0] = 0x80 | len as u8;
            1
        } else if len < 4096 {
            head[0] = 0xE0 | (len >> 8) as u8;
            head[1] = len as u8;
            2
        } else {
            head[0] = 0xF0;
            // Longer elements are refused before they are written: the whole
            // listpack has a 32 bit length.
            head[1..5].copy_from_slice(&(len as u32).to_le_bytes());
            5
        };
        Self::finish(head, head_len, element)
    }

    #[inline]
    fn finish(head: [u8; HEAD_BYTES_MAX], head_len: usize, body: &'a [u8]) -> Self {
        let (back, back_len) = encode_backlen(head_len + body.len());
        Self {
            head,
            head_len,
            body,
            back,
            back_len,
        }
    }

    /// Size in bytes of the whole entry.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len() + self.back_len
    }

    /// Writes the entry into `out`, which has exactly [`Encoded::len`] bytes.
    #[inline]
    pub(super) fn write_into(&self, out: &mut [u8]) {
        // Most entries have one byte before and one after the payload: single
        // stores, where copies of unknown length would be calls.
        let (head, rest) = out.split_at_mut(self.head_len);
        match head {
            [only] => *only = self.head[0],
            _ => head.copy_from_slice(&self.head[..self.head_len]),
        }
        let (body, back) = rest.split_at_mut(self.body.len());
        if !body.is_empty() {
            body.copy_from_slice(self.body);
        }
        match back {
            [only] => *only = self.back[0],
            _ => back.copy_from_slice(&self.back[..self.back_len]),
        }
    }
}

/// Size in bytes of the backlen of an entry whose encoding and payload take
/// `len` bytes. The uneven limits (16383 takes three bytes) are Redis's.
#[inline]
pub(super) const fn backlen_size(len: usize) -> usize {
    if len <= 127 {
        1
    } else if len < 16_383 {
        2
    } else if len < 2_097_151 {
        3
    } else if len < 268_435_455 {
        4
    } else {
        5
    }
}

/// The backlen for `len`, and its size in bytes.
#[inline]
pub(super) fn encode_backlen(len: usize) -> ([u8; BACKLEN_BYTES_MAX], usize) {
    let mut back = [0u8; BACKLEN_BYTES_MAX];
    if len <= 127 {
        back[0] = len as u8;
        return (back, 1);
    }
    let size = backlen_size(len);
    let mut rest = len;
    for (i, byte) in back[..size].iter_mut().enumerate().rev() {
        *byte = (rest & 0x7F) as u8 | if i == 0 { 0 } else { 0x80 };
        rest >>= 7;
    }
    (back, size)
}

/// Reads the backlen that ends just before `end`.
#[inline]
pub(super) fn decode_backlen(bytes: &[u8], end: usize) -> Option<usize> {
    let mut len = 0usize;
    for (i, &byte) in bytes
        .get(..end)?
        .iter()
        .rev()
        .take(BACKLEN_BYTES_MAX)
        .enumerate()
    {
        len |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

/// Size in bytes of encoding and payload of the entry at `at`; `None` at the
/// end mark and for what is no entry. The payload may pass the end of `bytes`.
#[inline]
pub(super) fn encoded_len(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    Some(match first {
        0x00..=0x7F => 1,
        0x80..=0xBF => 1 + usize::from(first & 0x3F),
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 2 + (usize::from(first & 0x0F) << 8 | usize::from(*bytes.get(at + 1)?)),
        0xF0 => 5 + u32::from_le_bytes(*bytes.get(at + 1..)?.first_chunk()?) as usize,
        0xF1 => 3,
        0xF2 => 4,
        0xF3 => 5,
        0xF4 => 9,
        _ => return None,
    })
}

/// Size in bytes of the whole entry at `at`, backlen included.
#[inline]
pub(super) fn entry_len(bytes: &[u8], at: usize) -> Option<usize> {
    let len = encoded_len(bytes, at)?;
    Some(len + backlen_size(len))
}

/// The value at `at` and the size in bytes of its encoding and payload.
/// `None` at the end mark, and for what is no whole entry.
#[inline]
pub(super) fn decode(bytes: &[u8], at: usize) -> Option<(LpValue<'_>, usize)> {
    let (&first, tail) = bytes.get(at..)?.split_first()?;
    Some(match first {
        0x00..=0x7F => (LpValue::Int(i64::from(first)), 1),
        0x80..=0xBF => {
            let len = usize::from(first & 0x3F);
            (LpValue::Str(tail.get(..len)?), 1 + len)
        }
        0xC0..=0xDF => {
            let raw = i64::from(first & 0x1F) << 8 | i64::from(*tail.first()?);
            // Bit 12 is the sign.
            (LpValue::Int(raw << 51 >> 51), 2)
        }
        0xE0..=0xEF => {
            let (&low, tail) = tail.split_first()?;
            let len = usize::from(first & 0x0F) << 8 | usize::from(low);
            (LpValue::Str(tail.get(..len)?), 2 + len)
        }
        0xF0 => {
            let (len, tail) = tail.split_first_chunk()?;
            let len = u32::from_le_bytes(*len) as usize;
            (LpValue::Str(tail.get(..len)?), 5 + len)
        }
        0xF1 => (
            LpValue::Int(i64::from(i16::from_le_bytes(*tail.first_chunk()?))),
            3,
        ),
        0xF2 => {
            let [a, b, c] = *tail.first_chunk()?;
            (
                LpValue::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)),
                4,
            )
        }
        0xF3 => (
            LpValue::Int(i64::from(i32::from_le_bytes(*tail.first_chunk()?))),
            5,
        ),
        0xF4 => (LpValue::Int(i64::from_le_bytes(*tail.first_chunk()?)), 9),
        _ => return None,
    })
}
