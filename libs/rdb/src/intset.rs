//! The intset of Redis: small sets of integers.
//!
//! `u32 width | u32 count | integers`, little endian, ascending, without
//! duplicates; the width is 2, 4 or 8 bytes and only grows, when an integer
//! comes that needs more, as in Redis. The blob is edited in place.

use crate::capacity::{reserve_total, resize_gap};
use crate::error::Corrupt;

const HEADER_BYTES: usize = 8;

/// Bytes that `value` needs.
#[inline]
fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

/// Integer `index` of `content`, which holds it.
#[inline]
fn load(content: &[u8], width: usize, index: usize) -> i64 {
    let tail = &content[index * width..];
    match width {
        2 => tail
            .first_chunk()
            .map_or(0, |raw| i64::from(i16::from_le_bytes(*raw))),
        4 => tail
            .first_chunk()
            .map_or(0, |raw| i64::from(i32::from_le_bytes(*raw))),
        _ => tail.first_chunk().map_or(0, |raw| i64::from_le_bytes(*raw)),
    }
}

/// Where `value` is among `count` integers (`Ok`) or would have to be (`Err`).
#[inline]
fn search(content: &[u8], width: usize, count: usize, value: i64) -> Result<usize, usize> {
    // Integers often come in order: look at both ends first, as Redis does.
    if count == 0 || value < load(content, width, 0) {
        return Err(0);
    }
    if value > load(content, width, count - 1) {
        return Err(count);
    }
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        let found = load(content, width, middle);
        if found == value {
            return Ok(middle);
        }
        if found < value {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Err(low)
}

/// A borrowed intset.
#[derive(Debug, Clone, Copy)]
pub struct IntSetRef<'a> {
    width: usize,
    /// The integers alone: a whole number of them.
    content: &'a [u8],
}

impl<'a> IntSetRef<'a> {
    /// Checks width, size and order. As in Redis an empty set is an error:
    /// no such key can exist.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let set = Self::from_trusted(bytes)?;
        let mut integers = set.iter();
        let mut before = integers.next().ok_or(Corrupt::new("empty intset", 4))?;
        for (i, value) in integers.enumerate() {
            if value <= before {
                let offset = HEADER_BYTES + (i + 1) * set.width;
                return Err(Corrupt::new("intset out of order", offset));
            }
            before = value;
        }
        Ok(set)
    }

    /// Checks width and size alone: for bytes whose order was checked when
    /// they were written, such as a record that carries a checksum. Out of
    /// order, look-ups may miss but nothing panics.
    pub fn from_trusted(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let Some((header, content)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Corrupt::new("intset shorter than its header", 0));
        };
        let [a, b, c, d, e, f, g, h] = *header;
        let width = match u32::from_le_bytes([a, b, c, d]) {
            2 => 2,
            4 => 4,
            8 => 8,
            _ => return Err(Corrupt::new("unknown intset encoding", 0)),
        };
        let count = u64::from(u32::from_le_bytes([e, f, g, h]));
        if count * width as u64 != content.len() as u64 {
            return Err(Corrupt::new("intset length differs from its header", 4));
        }
        Ok(Self { width, content })
    }

    /// Number of integers.
    #[inline]
    pub fn len(&self) -> usize {
        self.content.len() / self.width
    }

    /// Whether there is no integer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Whether `value` is a member.
    #[inline]
    pub fn contains(&self, value: i64) -> bool {
        self.index_of(value).is_some()
    }

    /// The rank of `value`, from the lowest.
    #[inline]
    pub fn index_of(&self, value: i64) -> Option<usize> {
        if width_of(value) > self.width {
            return None;
        }
        search(self.content, self.width, self.len(), value).ok()
    }

    /// The integer of rank `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| load(self.content, self.width, index))
    }

    /// All integers, ascending.
    #[inline]
    pub fn iter(&self) -> Iter<'a> {
        Iter {
            width: self.width,
            content: self.content,
        }
    }
}

impl<'a> IntoIterator for IntSetRef<'a> {
    type Item = i64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Integers of an intset, from either end.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    width: usize,
    content: &'a [u8],
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        let (_, rest) = self.content.split_at_checked(self.width)?;
        let value = load(self.content, self.width, 0);
        self.content = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.content.len() / self.width;
        (left, Some(left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<i64> {
        let (rest, last) = self
            .content
            .split_at_checked(self.content.len().checked_sub(self.width)?)?;
        let value = load(last, self.width, 0);
        self.content = rest;
        Some(value)
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// An owned intset, edited in place. Always valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntSet {
    bytes: Vec<u8>,
}

impl Default for IntSet {
    fn default() -> Self {
        Self::new()
    }
}

impl IntSet {
    /// An empty set of the narrowest width.
    pub fn new() -> Self {
        Self {
            bytes: vec![2, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// Takes over a blob after checking it: see [`IntSetRef::from_bytes`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Corrupt> {
        IntSetRef::from_bytes(&bytes)?;
        Ok(Self { bytes })
    }

    /// A borrowed view.
    #[inline]
    pub fn view(&self) -> IntSetRef<'_> {
        IntSetRef {
            width: self.width(),
            content: &self.bytes[HEADER_BYTES..],
        }
    }

    /// The blob.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The blob, given up.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back all memory that is not in use.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Bytes an integer takes: 2, 4 or 8.
    #[inline]
    pub fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    /// Number of integers.
    #[inline]
    pub fn len(&self) -> usize {
        (self.bytes.len() - HEADER_BYTES) / self.width()
    }

    /// Whether there is no integer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Whether `value` is a member.
    #[inline]
    pub fn contains(&self, value: i64) -> bool {
        self.view().contains(value)
    }

    /// The integer of rank `index`, from the lowest; with a random index a
    /// random member.
    #[inline]
    pub fn get(&self, index: usize) -> Option<i64> {
        self.view().get(index)
    }

    /// All integers, ascending.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// Adds `value`; false if it was a member already.
    ///
    /// # Panics
    /// Beyond 2^32 - 1 members, the reach of the header.
    pub fn insert(&mut self, value: i64) -> bool {
        let width = self.width();
        let index = if width_of(value) > width {
            self.widen(width_of(value));
            // It lies outside all that the old width could hold.
            if value < 0 { 0 } else { self.len() }
        } else {
            match search(&self.bytes[HEADER_BYTES..], width, self.len(), value) {
                Ok(_) => return false,
                Err(index) => index,
            }
        };
        let width = self.width();
        let at = HEADER_BYTES + index * width;
        resize_gap(&mut self.bytes, at, 0, width);
        self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        self.write_count();
        true
    }

    /// Removes `value`; false if it was no member.
    pub fn remove(&mut self, value: i64) -> bool {
        let Some(index) = self.view().index_of(value) else {
            return false;
        };
        self.remove_at(index);
        true
    }

    /// Removes and returns the integer of rank `index`.
    pub fn remove_at(&mut self, index: usize) -> Option<i64> {
        let value = self.get(index)?;
        let width = self.width();
        resize_gap(&mut self.bytes, HEADER_BYTES + index * width, width, 0);
        self.write_count();
        Some(value)
    }

    /// Rewrites all integers with `width` bytes, and makes room for one more.
    fn widen(&mut self, width: usize) {
        let old_width = self.width();
        let count = self.len();
        let old_len = self.bytes.len();
        let new_len = HEADER_BYTES + count * width;
        reserve_total(&mut self.bytes, new_len + width);
        self.bytes.resize(new_len, 0);
        // From the last one on, so that nothing unread is overwritten.
        for index in (0..count).rev() {
            let value = load(&self.bytes[HEADER_BYTES..old_len], old_width, index);
            let at = HEADER_BYTES + index * width;
            self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        self.bytes[0] = width as u8;
    }

    fn write_count(&mut self) {
        let count = self.len();
        assert!(u32::try_from(count).is_ok(), "intset beyond 2^32 integers");
        self.bytes[4..HEADER_BYTES].copy_from_slice(&(count as u32).to_le_bytes());
    }
}

impl<'a> IntoIterator for &'a IntSet {
    type Item = i64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<i64> for IntSet {
    fn from_iter<I: IntoIterator<Item = i64>>(values: I) -> Self {
        let mut set = Self::new();
        for value in values {
            set.insert(value);
        }
        set
    }
}

#[cfg(test)]
mod tests;
