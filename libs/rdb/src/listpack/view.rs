//! Reading a listpack that somebody else holds.
//!
//! Every read is bounds-checked and ends: over bytes that were not validated
//! the answers mean nothing, but nothing panics or loops for ever.

use std::iter::FusedIterator;

use super::encoding::{
    END, backlen_size, decode, decode_backlen, encode_backlen, encoded_len, entry_len,
};
use super::{COUNT_UNKNOWN, HEADER_BYTES, LpValue, Pos};
use crate::error::Corrupt;
use crate::number::parse_i64;

/// A borrowed listpack.
#[derive(Debug, Clone, Copy)]
pub struct ListPackRef<'a> {
    bytes: &'a [u8],
}

impl<'a> ListPackRef<'a> {
    /// Checks every entry, as Redis's deep sanitization does.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        validate(bytes)?;
        Ok(Self { bytes })
    }

    /// Takes bytes that were validated when they were written, such as a
    /// record that carries a checksum.
    #[inline]
    pub fn from_trusted(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The whole blob.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Size in bytes, header and end mark included.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Number of elements. Walks the listpack if the header doesn't know it
    /// (65535 elements or more, once).
    #[inline]
    pub fn len(&self) -> usize {
        match self.header_count() {
            COUNT_UNKNOWN => self.count_from(HEADER_BYTES),
            known => usize::from(known),
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// The header's count; 65535 stands for unknown.
    #[inline]
    pub(super) fn header_count(&self) -> u16 {
        match self.bytes.get(4..6) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            _ => 0,
        }
    }

    /// Number of elements from byte `at` on.
    pub(super) fn count_from(&self, mut at: usize) -> usize {
        let mut count = 0;
        while let Some(len) = entry_len(self.bytes, at) {
            count += 1;
            at += len;
        }
        count
    }

    #[inline]
    fn entry_at(&self, at: usize) -> Option<Pos> {
        match *self.bytes.get(at)? {
            END => None,
            _ => Some(Pos(u32::try_from(at).ok()?)),
        }
    }

    /// The first element.
    #[inline]
    pub fn first(&self) -> Option<Pos> {
        self.entry_at(HEADER_BYTES)
    }

    /// The last element.
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.before(self.bytes.len().checked_sub(1)?)
    }

    /// The element after `pos`.
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.entry_at(pos.at() + entry_len(self.bytes, pos.at())?)
    }

    /// The element before `pos`.
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.at())
    }

    #[inline]
    fn before(&self, at: usize) -> Option<Pos> {
        if at <= HEADER_BYTES {
            return None;
        }
        let len = decode_backlen(self.bytes, at)?;
        let start = at.checked_sub(len + backlen_size(len))?;
        if start < HEADER_BYTES {
            None
        } else {
            self.entry_at(start)
        }
    }

    /// The element at `pos`. A position that is no element's reads as the
    /// empty string: only unchecked bytes can lead there, or a position kept
    /// over an edit.
    #[inline]
    pub fn value(&self, pos: Pos) -> LpValue<'a> {
        decode(self.bytes, pos.at()).map_or(LpValue::Str(&[]), |(value, _)| value)
    }

    /// The element at `index`; a negative one counts from the tail, -1 being
    /// the last. Walks from the nearer end.
    pub fn seek(&self, index: i64) -> Option<Pos> {
        let mut from_tail = index < 0;
        // Steps from the chosen end.
        let mut steps = if from_tail {
            index.unsigned_abs() - 1
        } else {
            index.unsigned_abs()
        };
        let count = self.header_count();
        if count != COUNT_UNKNOWN {
            let count = u64::from(count);
            if steps >= count {
                return None;
            }
            if steps > count / 2 {
                from_tail = !from_tail;
                steps = count - 1 - steps;
            }
        }
        let mut pos = if from_tail {
            self.last()?
        } else {
            self.first()?
        };
        for _ in 0..steps {
            pos = if from_tail {
                self.prev(pos)?
            } else {
                self.next(pos)?
            };
        }
        Some(pos)
    }

    /// The first element from `start` on that equals `needle`, where `skip`
    /// elements are left out after each one compared: 1 compares the fields of
    /// field-value pairs only.
    #[inline]
    pub fn find(&self, start: Pos, needle: &[u8], skip: usize) -> Option<Pos> {
        let needle_int = parse_i64(needle);
        let mut at = start.at();
        loop {
            let (value, len) = decode(self.bytes, at)?;
            let equal = match value {
                LpValue::Str(bytes) => bytes == needle,
                LpValue::Int(int) => needle_int == Some(int),
            };
            if equal {
                return Some(Pos(u32::try_from(at).ok()?));
            }
            at += len + backlen_size(len);
            for _ in 0..skip {
                at += entry_len(self.bytes, at)?;
            }
        }
    }

    /// All elements, from either end.
    #[inline]
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            bytes: self.bytes,
            front: HEADER_BYTES,
            back: self.bytes.len().saturating_sub(1),
        }
    }

    /// The elements from `start` on.
    #[inline]
    pub fn iter_from(&self, start: Pos) -> Iter<'a> {
        Iter {
            front: start.at(),
            ..self.iter()
        }
    }
}

impl<'a> IntoIterator for ListPackRef<'a> {
    type Item = LpValue<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements of a listpack, from either end.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    /// First byte of the next entry from the front.
    front: usize,
    /// First byte after the next entry from the back.
    back: usize,
}

impl<'a> Iter<'a> {
    /// The next element from the front, with its position.
    #[inline]
    pub fn next_entry(&mut self) -> Option<(Pos, LpValue<'a>)> {
        if self.front >= self.back {
            return None;
        }
        let at = self.front;
        let (value, len) = decode(self.bytes, at)?;
        self.front += len + backlen_size(len);
        Some((Pos(u32::try_from(at).ok()?), value))
    }

    /// The next element from the back, with its position.
    #[inline]
    pub fn next_entry_back(&mut self) -> Option<(Pos, LpValue<'a>)> {
        if self.front >= self.back {
            return None;
        }
        let pos = ListPackRef { bytes: self.bytes }.before(self.back)?;
        self.back = pos.at();
        let (value, _) = decode(self.bytes, pos.at())?;
        Some((pos, value))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = LpValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<LpValue<'a>> {
        self.next_entry().map(|(_, value)| value)
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<LpValue<'a>> {
        self.next_entry_back().map(|(_, value)| value)
    }
}

impl FusedIterator for Iter<'_> {}

/// Checks header, every entry with its backlen, the end mark and the count.
/// Gives the number of elements.
pub(super) fn validate(bytes: &[u8]) -> Result<usize, Corrupt> {
    let Some(end) = bytes
        .len()
        .checked_sub(1)
        .filter(|&end| end >= HEADER_BYTES)
    else {
        return Err(Corrupt::new("listpack shorter than its header", 0));
    };
    let total = bytes
        .first_chunk()
        .map(|raw| u32::from_le_bytes(*raw) as usize);
    if total != Some(bytes.len()) {
        return Err(Corrupt::new("listpack length differs from its header", 0));
    }
    if bytes[end] != END {
        return Err(Corrupt::new("listpack without end mark", end));
    }
    // Without the end mark, so that no entry can reach over it.
    let entries = &bytes[..end];
    let mut at = HEADER_BYTES;
    let mut count = 0usize;
    while at < end {
        let len =
            encoded_len(entries, at).ok_or(Corrupt::new("unknown or cut listpack encoding", at))?;
        let back_at = at + len;
        let back_len = check_backlen(entries, back_at, len)?;
        at = back_at + back_len;
        count += 1;
    }
    let claimed = u16::from_le_bytes([bytes[4], bytes[5]]);
    if claimed != COUNT_UNKNOWN && usize::from(claimed) != count {
        return Err(Corrupt::new("listpack count differs from its header", 4));
    }
    Ok(count)
}

/// Checks that the backlen at `at` is the one for `len`; gives its size.
#[inline]
fn check_backlen(entries: &[u8], at: usize, len: usize) -> Result<usize, Corrupt> {
    let (expected, size) = encode_backlen(len);
    let Some(found) = entries.get(at..at + size) else {
        return Err(Corrupt::new("listpack entry beyond the end", at));
    };
    let equal = match found {
        [only] => *only == expected[0],
        _ => found == &expected[..size],
    };
    if equal {
        Ok(size)
    } else {
        Err(Corrupt::new("listpack backlen differs from its entry", at))
    }
}
