//! The hot table: an extendible directory of small segments ordered by position (I4).
//!
//! The directory has 2^depth slots, indexed by the top `depth` bits of the position; a segment
//! whose own depth is smaller fills several neighbouring slots. A full segment splits alone, so
//! no operation ever rehashes more than [`segment::SEGMENT_ENTRIES_MAX`] keys; doubling the
//! directory copies 4-byte slots only.

pub mod entry;
pub mod found;
pub mod segment;
pub mod stubs;
#[cfg(test)]
mod tests;

use super::position::{KeyHash, POSITION_BITS, POSITION_END, Positioner};
use entry::Entry;
use found::Found;
use segment::Segment;
use stubs::Stub;

/// Depth past which segments grow instead of splitting: only equal positions could get there.
const DEPTH_MAX: u32 = 40;

/// Sums over segments.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Extent {
    keys: usize,
    /// Bytes of the tables and stubs.
    bytes: usize,
    stubs: usize,
    stub_bytes: usize,
}

impl Extent {
    fn of(segment: &Segment) -> Self {
        Self {
            keys: segment.len(),
            bytes: segment.table_bytes(),
            stubs: segment.stub_count(),
            stub_bytes: segment.stub_bytes(),
        }
    }

    fn replace(&mut self, before: Self, after: Self) {
        self.keys = self.keys + after.keys - before.keys;
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.stubs = self.stubs + after.stubs - before.stubs;
        self.stub_bytes = self.stub_bytes + after.stub_bytes - before.stub_bytes;
    }
}

/// All keys of one generation that are in memory, values or stubs.
#[derive(Debug)]
pub struct HotTable {
    positioner: Positioner,
    /// log2 of the number of directory slots.
    depth: u32,
    slots: Vec<u32>,
    segments: Vec<Segment>,
    extent: Extent,
}

impl HotTable {
    /// An empty table.
    pub fn new(positioner: Positioner) -> Self {
        Self {
            positioner,
            depth: 0,
            slots: vec![0],
            segments: vec![Segment::new(0)],
            extent: Extent::default(),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.extent.keys
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys of which only the stub is here.
    pub fn stub_count(&self) -> usize {
        self.extent.stubs
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.positioner.hash(key)
    }

    fn segment_index(&self, hash: KeyHash) -> usize {
        self.slots[hash.prefix(self.depth)] as usize
    }

    /// The entry of a key that has its value in memory.
    pub fn find_value(&self, hash: KeyHash, key: &[u8]) -> Option<&Entry> {
        self.segments[self.segment_index(hash)].find_value(hash, key)
    }

    /// As [`HotTable::find_value`], for editing or replacing.
    pub fn find_value_mut(&mut self, hash: KeyHash, key: &[u8]) -> Option<&mut Entry> {
        let index = self.segment_index(hash);
        self.segments[index].find_value_mut(hash, key)
    }

    /// The stub of a key.
    pub fn find_stub(&self, hash: KeyHash, key: &[u8]) -> Option<Stub<'_>> {
        self.segments[self.segment_index(hash)].find_stub(hash, key)
    }

    /// What is here of a key.
    pub fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Found<'_>> {
        match self.find_value(hash, key) {
            Some(entry) => Some(Found::Value(entry)),
            None => self.find_stub(hash, key).map(Found::Stub),
        }
    }

    /// Notes that a key got an expiry, so that active expiry finds it.
    pub fn note_expire(&mut self, hash: KeyHash, expire: Option<i64>) {
        let index = self.segment_index(hash);
        self.segments[index].note_expire(expire);
    }

    /// Changes a segment; the sums follow.
    fn edit<T>(&mut self, hash: KeyHash, change: impl FnOnce(&mut Segment) -> T) -> T {
        let index = self.segment_index(hash);
        let segment = &mut self.segments[index];
        let before = Extent::of(segment);
        let result = change(segment);
        self.extent.replace(before, Extent::of(segment));
        result
    }

    /// Splits the segment of a key as long as it is full.
    fn make_room(&mut self, hash: KeyHash) {
        loop {
            let index = self.segment_index(hash);
            let segment = &self.segments[index];
            if !segment.is_full() || segment.depth >= DEPTH_MAX {
                return;
            }
            self.split(index, hash);
        }
    }

    /// Adds an entry whose key is not there yet.
    pub fn insert(&mut self, hash: KeyHash, entry: Entry) {
        self.make_room(hash);
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.insert(hash, entry, |key| positioner.hash(key));
        });
    }

    /// Adds the stub of a key that is not there yet.
    pub fn insert_stub(&mut self, hash: KeyHash, stub: &Stub<'_>) {
        self.make_room(hash);
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.insert_stub(hash, stub, |key| positioner.hash(key));
        });
    }

    /// Removes and returns the entry of a key that has its value in memory.
    pub fn remove(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.remove(hash, key, |key| positioner.hash(key))
        })
    }

    /// Removes a key's stub; its bytes.
    pub fn remove_stub(&mut self, hash: KeyHash, key: &[u8]) -> Option<usize> {
        self.edit(hash, |segment| segment.remove_stub(hash, key))
    }

    /// A key's value leaves and is returned, its stub stays.
    pub fn value_to_stub(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        self.make_room(hash);
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.value_to_stub(hash, key, |key| positioner.hash(key))
        })
    }

    /// As [`HotTable::remove`], for a value that leaves memory and not even a stub stays.
    pub fn release(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.release(hash, key, |key| positioner.hash(key))
        })
    }

    /// A key's stub gives way to its entry; false if it has none.
    pub fn stub_to_value(&mut self, hash: KeyHash, entry: Entry) -> bool {
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            segment.stub_to_value(hash, entry, |key| positioner.hash(key))
        })
    }

    /// A key's stub becomes an entry without a value, which the caller is about to remove or to
    /// replace ([`Entry::is_stub`]).
    pub fn unpack_stub(&mut self, hash: KeyHash, key: &[u8]) -> Option<&mut Entry> {
        let entry = self.find_stub(hash, key)?.to_entry();
        self.stub_to_value(hash, entry);
        self.find_value_mut(hash, key)
    }

    /// Sets or removes a stub's expiry; false if there is no stub.
    pub fn set_stub_expire(&mut self, hash: KeyHash, key: &[u8], expire: Option<i64>) -> bool {
        let positioner = self.positioner;
        self.edit(hash, |segment| {
            let stubs = segment.stubs_mut();
            stubs.set_expire(hash, key, expire, |key| positioner.hash(key))
        })
    }

    /// Sets a key's 24 bits of access data.
    pub fn set_access(&mut self, hash: KeyHash, key: &[u8], access: u32) {
        let index = self.segment_index(hash);
        let segment = &mut self.segments[index];
        if let Some(entry) = segment.find_value_mut(hash, key) {
            entry.set_access(access);
        } else {
            segment.stubs_mut().set_access(hash, key, access);
        }
    }

    /// As [`HotTable::set_access`] for a key that has a stub.
    pub fn set_stub_access(&mut self, hash: KeyHash, key: &[u8], access: u32) {
        let index = self.segment_index(hash);
        self.segments[index]
            .stubs_mut()
            .set_access(hash, key, access);
    }

    /// The newest put of a key's value is applied. False if nothing is here of the key.
    pub fn end_flight(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        let index = self.segment_index(hash);
        let segment = &mut self.segments[index];
        if let Some(entry) = segment.find_value_mut(hash, key) {
            entry.set_in_flight(false);
            return true;
        }
        segment.stubs_mut().end_flight(hash, key)
    }

    fn split(&mut self, index: usize, hash: KeyHash) {
        let depth = self.segments[index].depth;
        if depth == self.depth {
            let doubled = self.slots.iter().flat_map(|&slot| [slot, slot]).collect();
            self.slots = doubled;
            self.depth += 1;
        }
        let positioner = self.positioner;
        let segment = &mut self.segments[index];
        let before = Extent::of(segment);
        let (low, high) = segment.split(|key| positioner.hash(key));
        let mut after = Extent::of(&low);
        after.replace(Extent::default(), Extent::of(&high));
        self.extent.replace(before, after);
        let high_index = self.segments.len() as u32;
        self.segments[index] = low;
        self.segments.push(high);
        // The slots of the old segment are contiguous; their upper half goes to the new one.
        let span = 1usize << (self.depth - depth);
        let first = hash.prefix(depth) << (self.depth - depth);
        for slot in &mut self.slots[first + span / 2..first + span] {
            *slot = high_index;
        }
    }

    /// Number of segments; they are numbered in no order. For sampling and expiry.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// A segment by number.
    pub fn segment(&self, index: usize) -> Option<&Segment> {
        self.segments.get(index)
    }

    /// The keys of a segment that have this hash.
    pub fn with_hash(&self, segment: usize, hash: KeyHash) -> impl Iterator<Item = Found<'_>> {
        let segment = self.segment(segment).into_iter();
        segment.flat_map(move |segment| segment.with_hash(hash, |key| self.hash(key)))
    }

    /// The entries with their value whose keys have this hash.
    pub fn values_with_hash(&self, hash: KeyHash) -> impl Iterator<Item = &Entry> {
        let segment = &self.segments[self.segment_index(hash)];
        segment.values_with_hash(hash, |key| self.hash(key))
    }

    /// A segment by number, for editing its entries in place: none comes or goes.
    pub fn segment_mut(&mut self, index: usize) -> Option<&mut Segment> {
        self.segments.get_mut(index)
    }

    /// The number of the segment that holds `position`, and the position after its range
    /// ([`POSITION_END`] for the last).
    pub fn segment_at(&self, position: u64) -> (usize, u64) {
        let slot = if self.depth == 0 {
            0
        } else {
            position >> (POSITION_BITS - self.depth)
        };
        let index = self.slots[slot as usize] as usize;
        let depth = self.segments[index].depth;
        let end = if depth == 0 {
            POSITION_END
        } else {
            ((position >> (POSITION_BITS - depth)) + 1) << (POSITION_BITS - depth)
        };
        (index, end)
    }

    /// The hash function in use.
    pub fn positioner(&self) -> Positioner {
        self.positioner
    }

    /// Bytes of directory and segment tables, without the entries; stubs are among them.
    pub fn table_bytes(&self) -> usize {
        let segments = self.segments.capacity() * size_of::<Segment>();
        self.slots.capacity() * size_of::<u32>() + segments + self.extent.bytes
    }

    /// Bytes of stubs: what would be free without them.
    pub fn stub_bytes(&self) -> usize {
        self.extent.stub_bytes
    }
}
