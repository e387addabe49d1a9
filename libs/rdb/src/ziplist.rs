//! The ziplist of Redis before version 7, read only.
//!
//! `u32 total bytes | u32 offset of the last entry | u16 count | entries | FF`,
//! little endian. An entry is the size of the one before it (one byte, or FE
//! and four), an encoding byte and the payload. Old files and DUMP payloads
//! hold them; we turn them into listpacks.

use std::iter::FusedIterator;

use crate::error::Corrupt;
use crate::listpack::{ListPack, LpValue};

const HEADER_BYTES: usize = 10;
const END: u8 = 0xFF;
/// First byte of a previous size that takes four more.
const BIG_SIZE: u8 = 0xFE;
const COUNT_UNKNOWN: u16 = u16::MAX;

/// A validated, borrowed ziplist.
#[derive(Debug, Clone, Copy)]
pub struct ZipList<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// One entry, decoded.
struct Entry<'a> {
    /// The size that it states for the entry before it.
    previous_len: usize,
    value: LpValue<'a>,
    /// Its own size in bytes.
    len: usize,
}

impl<'a> ZipList<'a> {
    /// Checks header, every entry, the chain of sizes and the end mark.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Corrupt::new("ziplist shorter than its header", 0));
        };
        let [t0, t1, t2, t3, l0, l1, l2, l3, c0, c1] = *header;
        if u32::from_le_bytes([t0, t1, t2, t3]) as usize != bytes.len() {
            return Err(Corrupt::new("ziplist length differs from its header", 0));
        }
        let end = bytes.len() - 1;
        if end < HEADER_BYTES || bytes[end] != END {
            return Err(Corrupt::new("ziplist without end mark", end));
        }
        let mut at = HEADER_BYTES;
        let mut last = None;
        let mut previous_len = 0;
        let mut count = 0usize;
        while at < end {
            let entry = decode(&bytes[..end], at)?;
            if entry.previous_len != previous_len {
                return Err(Corrupt::new("ziplist sizes don't chain", at));
            }
            last = Some(at);
            previous_len = entry.len;
            at += entry.len;
            count += 1;
        }
        let stated_last = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if stated_last > end || last.is_some_and(|last| last != stated_last) {
            return Err(Corrupt::new("ziplist tail differs from its header", 4));
        }
        let stated_count = u16::from_le_bytes([c0, c1]);
        if stated_count != COUNT_UNKNOWN && usize::from(stated_count) != count {
            return Err(Corrupt::new("ziplist count differs from its header", 8));
        }
        Ok(Self { bytes, count })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All elements in order.
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            entries: &self.bytes[..self.bytes.len() - 1],
            at: HEADER_BYTES,
        }
    }

    /// The same elements as a listpack.
    pub fn to_listpack(&self) -> ListPack {
        let mut listpack = ListPack::with_capacity(self.bytes.len());
        for value in self.iter() {
            listpack.push_back_value(value);
        }
        listpack
    }
}

impl<'a> IntoIterator for ZipList<'a> {
    type Item = LpValue<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements of a ziplist.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    /// The blob without its end mark.
    entries: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = LpValue<'a>;

    fn next(&mut self) -> Option<LpValue<'a>> {
        let entry = decode(self.entries, self.at).ok()?;
        self.at += entry.len;
        Some(entry.value)
    }
}

impl FusedIterator for Iter<'_> {}

/// Decodes the entry at `at` of `entries`, which ends where the end mark is.
fn decode(entries: &[u8], at: usize) -> Result<Entry<'_>, Corrupt> {
    let cut = Corrupt::new("ziplist entry beyond the end", at);
    let rest = entries.get(at..).ok_or(cut)?;
    let (&first, rest) = rest.split_first().ok_or(cut)?;
    let (previous_len, rest) = match first {
        END => return Err(Corrupt::new("ziplist end mark before the end", at)),
        BIG_SIZE => {
            let (raw, rest) = rest.split_first_chunk().ok_or(cut)?;
            (u32::from_le_bytes(*raw) as usize, rest)
        }
        small => (usize::from(small), rest),
    };
    let (value, rest) = decode_value(rest).ok_or(cut)?;
    let value = value.ok_or(Corrupt::new("unknown ziplist encoding", at))?;
    let len = entries.len() - at - rest.len();
    Ok(Entry {
        previous_len,
        value,
        len,
    })
}

/// Decodes encoding and payload. `None`: they are cut; `Some(None, _)`: there
/// is no such encoding.
fn decode_value(bytes: &[u8]) -> Option<(Option<LpValue<'_>>, &[u8])> {
    let (&first, rest) = bytes.split_first()?;

    // String lengths are the only big endian numbers.
    let (len, rest) = match first {
        0x00..=0x3F => (usize::from(first), rest),
        0x40..=0x7F => {
            let (&low, rest) = rest.split_first()?;
            (usize::from(first & 0x3F) << 8 | usize::from(low), rest)
        }
        0x80..=0xBF => {
            let (raw, rest) = rest.split_first_chunk()?;
            (u32::from_be_bytes(*raw) as usize, rest)
        }
        _ => {
            let (value, rest) = decode_int(first, rest)?;
            return Some((value.map(LpValue::Int), rest));
        }
    };

    let (payload, rest) = rest.split_at_checked(len)?;
    Some((Some(LpValue::Str(payload)), rest))
}

fn decode_int(encoding: u8, rest: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let (value, rest) = match encoding {
        0xC0 => {
            let (raw, rest) = rest.split_first_chunk()?;
            (i64::from(i16::from_le_bytes(*raw)), rest)
        }
        0xD0 => {
            let (raw, rest) = rest.split_first_chunk()?;
            (i64::from(i32::from_le_bytes(*raw)), rest)
        }
        0xE0 => {
            let (raw, rest) = rest.split_first_chunk()?;
            (i64::from_le_bytes(*raw), rest)
        }
        0xF0 => {
            let ([a, b, c], rest) = rest.split_first_chunk()?;
            (i64::from(i32::from_le_bytes([0, *a, *b, *c]) >> 8), rest)
        }
        0xFE => {
            let (&raw, rest) = rest.split_first()?;
            (i64::from(raw as i8), rest)
        }
        // The value itself, 0 to 12, is in the encoding byte.
        0xF1..=0xFD => (i64::from(encoding & 0x0F) - 1, rest),
        _ => return Some((None, rest)),
    };
    Some((Some(value), rest))
}

#[cfg(test)]
mod tests;
