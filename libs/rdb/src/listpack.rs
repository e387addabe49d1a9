//! The listpack of Redis 7: small lists, hashes, sets and sorted sets.
//!
//! `u32 total bytes | u16 count | entries | FF`, little endian. A count of
//! 65535 means unknown. The bytes are those that Redis writes for the same
//! edits, and they are edited in place: the blob is at once the live value,
//! the tier record and the RDB payload.
//!
//! Invariant: a [`ListPack`] is always valid. It is built empty or validated
//! once, and every edit keeps it so; positions must be taken from the same
//! listpack and are void after any edit but the one that returned them.

mod encoding;
#[cfg(test)]
mod tests;
mod value;
mod view;

pub use value::LpValue;
pub use view::{Iter, ListPackRef};

use crate::capacity::{release_excess, resize_gap};
use crate::error::Corrupt;
use encoding::{END, Encoded, entry_len};

/// Bytes of total length and count.
const HEADER_BYTES: usize = 6;
/// Bytes of a listpack without elements.
const EMPTY_BYTES: usize = HEADER_BYTES + 1;
/// The header's count when it can't tell.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// No listpack should grow beyond this (Redis `LISTPACK_MAX_SAFETY_SIZE`).
pub const SAFE_BYTES_MAX: usize = 1 << 30;

/// Where an element starts. Void after an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(u32);

impl Pos {
    #[inline]
    fn at(self) -> usize {
        self.0 as usize
    }
}

/// An owned listpack, edited in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPack {
    bytes: Vec<u8>,
}

impl Default for ListPack {
    fn default() -> Self {
        Self::new()
    }
}

/// Building and taking apart.
impl ListPack {
    /// An empty listpack.
    pub fn new() -> Self {
        Self::with_capacity(EMPTY_BYTES)
    }

    /// An empty listpack with room for `bytes` in total.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut blob = Vec::with_capacity(bytes.max(EMPTY_BYTES));
        blob.extend_from_slice(&[EMPTY_BYTES as u8, 0, 0, 0, 0, 0, END]);
        Self { bytes: blob }
    }

    /// Takes over a blob after checking every entry.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Corrupt> {
        view::validate(&bytes)?;
        Ok(Self { bytes })
    }

    /// A borrowed view, which has all the reading methods too.
    #[inline]
    pub fn view(&self) -> ListPackRef<'_> {
        ListPackRef::from_trusted(&self.bytes)
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

    /// Bytes that `element` takes as an entry.
    pub fn entry_bytes(element: &[u8]) -> usize {
        Encoded::of_bytes(element).len()
    }

    /// Whether `additional` bytes may be added within [`SAFE_BYTES_MAX`]
    /// (Redis `lpSafeToAdd`). To be asked before an element of unbounded size
    /// is added: see [`ListPack::push_back`].
    #[inline]
    pub fn safe_to_add(&self, additional: usize) -> bool {
        self.bytes.len().saturating_add(additional) <= SAFE_BYTES_MAX
    }
}

/// Reading: see [`ListPackRef`] for each.
impl ListPack {
    /// Size in bytes, header and end mark included.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Number of elements; a walk if it is 65535 or more.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= EMPTY_BYTES
    }

    /// The first element.
    #[inline]
    pub fn first(&self) -> Option<Pos> {
        self.view().first()
    }

    /// The last element.
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.view().last()
    }

    /// The element after `pos`.
    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        self.view().next(pos)
    }

    /// The element before `pos`.
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.view().prev(pos)
    }

    /// The element at `pos`.
    #[inline]
    pub fn value(&self, pos: Pos) -> LpValue<'_> {
        debug_assert!(
            entry_len(&self.bytes, pos.at()).is_some(),
            "no listpack entry at {pos:?}"
        );
        self.view().value(pos)
    }

    /// The element at `index`, from the tail if negative.
    #[inline]
    pub fn seek(&self, index: i64) -> Option<Pos> {
        self.view().seek(index)
    }

    /// The first element equal to `needle` from `start` on.
    #[inline]
    pub fn find(&self, start: Pos, needle: &[u8], skip: usize) -> Option<Pos> {
        self.view().find(start, needle, skip)
    }

    /// The first element equal to `needle` of all; `skip` as in [`ListPack::find`].
    #[inline]
    pub fn find_first(&self, needle: &[u8], skip: usize) -> Option<Pos> {
        self.find(self.first()?, needle, skip)
    }

    /// All elements, from either end.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// The elements from `start` on.
    #[inline]
    pub fn iter_from(&self, start: Pos) -> Iter<'_> {
        self.view().iter_from(start)
    }
}

/// Adding and replacing. Bytes that spell an integer canonically are stored
/// as that integer.
///
/// # Panics
/// If the listpack would pass 4 GiB, the reach of its header.
/// [`ListPack::safe_to_add`] says no long before.
impl ListPack {
    /// Adds `element` at the tail.
    #[inline]
    pub fn push_back(&mut self, element: &[u8]) -> Pos {
        self.splice(self.end(), 0, &Encoded::of_bytes(element))
    }

    /// Adds an integer at the tail.
    #[inline]
    pub fn push_back_int(&mut self, value: i64) -> Pos {
        self.splice(self.end(), 0, &Encoded::of_int(value))
    }

    /// Adds `element` at the head.
    #[inline]
    pub fn push_front(&mut self, element: &[u8]) -> Pos {
        self.splice(HEADER_BYTES, 0, &Encoded::of_bytes(element))
    }

    /// Adds an integer at the head.
    #[inline]
    pub fn push_front_int(&mut self, value: i64) -> Pos {
        self.splice(HEADER_BYTES, 0, &Encoded::of_int(value))
    }

    /// Adds an element of another listpack at the tail.
    #[inline]
    pub fn push_back_value(&mut self, value: LpValue<'_>) -> Pos {
        match value {
            LpValue::Int(value) => self.push_back_int(value),
            LpValue::Str(bytes) => self.push_back(bytes),
        }
    }

    /// Adds `element` before `pos` and returns where it is.
    #[inline]
    pub fn insert_before(&mut self, pos: Pos, element: &[u8]) -> Pos {
        self.splice(pos.at(), 0, &Encoded::of_bytes(element))
    }

    /// Adds an integer before `pos` and returns where it is.
    #[inline]
    pub fn insert_before_int(&mut self, pos: Pos, value: i64) -> Pos {
        self.splice(pos.at(), 0, &Encoded::of_int(value))
    }

    /// Adds `element` after `pos` and returns where it is.
    #[inline]
    pub fn insert_after(&mut self, pos: Pos, element: &[u8]) -> Pos {
        self.splice(self.after(pos), 0, &Encoded::of_bytes(element))
    }

    /// Adds an integer after `pos` and returns where it is.
    #[inline]
    pub fn insert_after_int(&mut self, pos: Pos, value: i64) -> Pos {
        self.splice(self.after(pos), 0, &Encoded::of_int(value))
    }

    /// Puts `element` in the place of the one at `pos`.
    #[inline]
    pub fn replace(&mut self, pos: Pos, element: &[u8]) -> Pos {
        let removed = self.after(pos) - pos.at();
        self.splice(pos.at(), removed, &Encoded::of_bytes(element))
    }

    /// Puts an integer in the place of the element at `pos`.
    #[inline]
    pub fn replace_int(&mut self, pos: Pos, value: i64) -> Pos {
        let removed = self.after(pos) - pos.at();
        self.splice(pos.at(), removed, &Encoded::of_int(value))
    }

    /// Adds all elements of `other` at the tail.
    pub fn append(&mut self, other: ListPackRef<'_>) {
        self.splice_entries(self.end(), other);
    }

    /// Adds all elements of `other` at the head, in their order.
    pub fn prepend(&mut self, other: ListPackRef<'_>) {
        self.splice_entries(HEADER_BYTES, other);
    }

    /// `first` followed by `second`, in the allocation of the larger one.
    pub fn merge(mut first: Self, mut second: Self) -> Self {
        if first.byte_len() >= second.byte_len() {
            first.append(second.view());
            first
        } else {
            second.prepend(first.view());
            second
        }
    }
}

/// Removing and splitting.
impl ListPack {
    /// Removes the element at `pos`; returns the one that followed it.
    #[inline]
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.remove_from(pos, 1)
    }

    /// Removes up to `count` elements from `pos` on; returns the one that
    /// followed them.
    pub fn remove_from(&mut self, pos: Pos, count: usize) -> Option<Pos> {
        let mut end = pos.at();
        let mut removed = 0;
        while removed < count {
            match entry_len(&self.bytes, end) {
                Some(len) => end += len,
                None => break,
            }
            removed += 1;
        }
        let left = self
            .known_count()
            .map(|known| known.saturating_sub(removed));
        resize_gap(&mut self.bytes, pos.at(), end - pos.at(), 0);
        self.write_header(left);
        (self.bytes.get(pos.at()) != Some(&END)).then_some(pos)
    }

    /// Removes up to `count` elements from `index` on, which counts from the
    /// tail if negative. Nothing happens if there is no such element.
    pub fn remove_range(&mut self, index: i64, count: usize) {
        if count == 0 {
            return;
        }
        let Some(pos) = self.seek(index) else { return };
        let Some(known) = self.known_count() else {
            self.remove_from(pos, count);
            return;
        };
        let start = if index < 0 {
            known.saturating_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
        } else {
            usize::try_from(index).unwrap_or(usize::MAX)
        };
        if known.saturating_sub(start) <= count {
            // All the rest goes: no need to walk it.
            self.bytes.truncate(pos.at());
            self.bytes.push(END);
            release_excess(&mut self.bytes);
            self.write_header(Some(start));
        } else {
            self.remove_from(pos, count);
        }
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.push(END);
        release_excess(&mut self.bytes);
        self.write_header(Some(0));
    }

    /// Takes the elements from `pos` on into a listpack of their own.
    pub fn split_off(&mut self, pos: Pos) -> Self {
        let at = pos.at();
        let moved = self.view().count_from(at);
        let left = self.len().saturating_sub(moved);
        let mut tail = Self {
            bytes: Vec::with_capacity(HEADER_BYTES + self.bytes.len() - at),
        };
        tail.bytes.resize(HEADER_BYTES, 0);
        tail.bytes.extend_from_slice(&self.bytes[at..]);
        tail.write_header(Some(moved));
        self.bytes.truncate(at);
        self.bytes.push(END);
        release_excess(&mut self.bytes);
        self.write_header(Some(left));
        tail
    }
}

impl ListPack {
    /// Offset of the end mark.
    #[inline]
    fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    /// Offset of what follows the element at `pos`.
    #[inline]
    fn after(&self, pos: Pos) -> usize {
        let len = entry_len(&self.bytes, pos.at());
        debug_assert!(len.is_some(), "no listpack entry at {pos:?}");
        pos.at() + len.unwrap_or(0)
    }

    /// The number of elements if the header knows it.
    #[inline]
    fn known_count(&self) -> Option<usize> {
        let count = self.view().header_count();
        (count != COUNT_UNKNOWN).then_some(usize::from(count))
    }

    /// Writes length and count; a count that doesn't fit becomes unknown, and
    /// an unknown one stays so until a walk, as in Redis.
    #[inline]
    fn write_header(&mut self, count: Option<usize>) {
        let count = count
            .and_then(|count| u16::try_from(count).ok())
            .unwrap_or(COUNT_UNKNOWN);
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }

    /// Puts `entry` in the place of `removed` bytes (none, or one entry).
    #[inline]
    fn splice(&mut self, at: usize, removed: usize, entry: &Encoded<'_>) -> Pos {
        let inserted = entry.len();
        self.check_total(self.bytes.len() - removed + inserted);
        let count = self
            .known_count()
            .map(|known| known + usize::from(removed == 0));
        resize_gap(&mut self.bytes, at, removed, inserted);
        entry.write_into(&mut self.bytes[at..at + inserted]);
        self.write_header(count);
        Pos(at as u32)
    }

    fn splice_entries(&mut self, at: usize, other: ListPackRef<'_>) {
        let entries = other.as_bytes();
        let entries = entries
            .get(HEADER_BYTES..entries.len().saturating_sub(1))
            .unwrap_or(&[]);
        self.check_total(self.bytes.len() + entries.len());
        let count = self.len() + other.len();
        resize_gap(&mut self.bytes, at, 0, entries.len());
        self.bytes[at..at + entries.len()].copy_from_slice(entries);
        self.write_header(Some(count));
    }

    #[inline]
    fn check_total(&self, total: usize) {
        assert!(u32::try_from(total).is_ok(), "listpack beyond 4 GiB");
    }
}

impl<'a> IntoIterator for &'a ListPack {
    type Item = LpValue<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for ListPack {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut listpack = Self::new();
        for element in elements {
            listpack.push_back(element.as_ref());
        }
        listpack
    }
}
