//! A segment: the keys of one contiguous range of positions, at most a few hundred. Those with
//! their value in memory are entries of a table; the stubs of the others are packed beside it.

use super::entry::Entry;
use super::found::Found;
use super::stubs::{Stub, Stubs};
use crate::keyspace::position::KeyHash;
use hashbrown::HashTable;

/// Keys past which a segment is split in two.
pub const SEGMENT_ENTRIES_MAX: usize = 512;

/// Capacity up to which a table of values stays when its values are deleted.
const CAPACITY_KEPT: usize = 64;

/// See the module. A key is among the values or the stubs, never both.
#[derive(Debug, Default)]
pub struct Segment {
    values: HashTable<Entry>,
    /// In place and not behind a pointer: what is read to find a key is mostly in no cache.
    stubs: Stubs,
    /// Number of leading position bits that all its keys share.
    pub depth: u32,
    /// Nothing here expires before this time (unix ms), neither a key nor a field of a hash in
    /// memory; `i64::MAX` when nothing has an expiry.
    pub expire_floor: i64,
    /// Grows whenever a key is added.
    insertions: u64,
}

impl Segment {
    /// An empty segment.
    pub fn new(depth: u32) -> Self {
        Self {
            values: HashTable::new(),
            stubs: Stubs::default(),
            depth,
            expire_floor: i64::MAX,
            insertions: 0,
        }
    }

    /// Divides what is in this one by the next bit of the positions. The first takes its number.
    pub fn split(&mut self, hasher: impl Fn(&[u8]) -> KeyHash + Copy) -> (Self, Self) {
        let depth = self.depth + 1;
        let is_high = |hash: KeyHash| hash.prefix(depth) & 1 == 1;
        let (mut low, mut high) = (Self::new(depth), Self::new(depth));
        for entry in self.values.drain() {
            let hash = hasher(entry.key());
            let half = if is_high(hash) { &mut high } else { &mut low };
            half.insert(hash, entry, hasher);
        }
        (low.stubs, high.stubs) = std::mem::take(&mut self.stubs).split(hasher, is_high);
        for half in [&mut low, &mut high] {
            half.refresh_expire_floor();
        }
        low.insertions = self.insertions + 1;
        (low, high)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.values.len() + self.stub_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys with their value in memory.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Number of stubs.
    pub fn stub_count(&self) -> usize {
        self.stubs.len()
    }

    /// Whether it is to be split before more is added.
    pub fn is_full(&self) -> bool {
        self.len() >= SEGMENT_ENTRIES_MAX || self.stubs.is_large()
    }

    /// Grows whenever a key is added: while it stays the same, at most some keys have gone.
    pub fn insertions(&self) -> u64 {
        self.insertions
    }

    /// The keys that have this hash.
    pub fn with_hash(
        &self,
        hash: KeyHash,
        hasher: impl Fn(&[u8]) -> KeyHash + Copy,
    ) -> impl Iterator<Item = Found<'_>> {
        let values = self.values_with_hash(hash, hasher);
        let stubs = self.stubs.with_hash(hash, hasher);
        values.map(Found::Value).chain(stubs.map(Found::Stub))
    }

    /// The entries with their value whose keys have this hash.
    pub fn values_with_hash(
        &self,
        hash: KeyHash,
        hasher: impl Fn(&[u8]) -> KeyHash + Copy,
    ) -> impl Iterator<Item = &Entry> {
        let values = self.values.iter_hash(hash.slot());
        values.filter(move |entry| hasher(entry.key()) == hash)
    }

    /// The entry of a key that has its value in memory.
    #[inline]
    pub fn find_value(&self, hash: KeyHash, key: &[u8]) -> Option<&Entry> {
        self.values.find(hash.slot(), |e| e.key() == key)
    }

    /// As [`Segment::find_value`], for editing or replacing in place.
    #[inline]
    pub fn find_value_mut(&mut self, hash: KeyHash, key: &[u8]) -> Option<&mut Entry> {
        self.values.find_mut(hash.slot(), |e| e.key() == key)
    }

    /// The stub of a key.
    pub fn find_stub(&self, hash: KeyHash, key: &[u8]) -> Option<Stub<'_>> {
        self.stubs.find(hash, key)
    }

    /// The stubs, for changing what they say.
    pub fn stubs_mut(&mut self) -> &mut Stubs {
        &mut self.stubs
    }

    /// Adds an entry whose key is not there yet.
    pub fn insert(&mut self, hash: KeyHash, entry: Entry, hasher: impl Fn(&[u8]) -> KeyHash) {
        self.insertions += 1;
        self.put_value(hash, entry, hasher);
    }

    /// Adds the stub of a key that is not there yet.
    pub fn insert_stub(
        &mut self,
        hash: KeyHash,
        stub: &Stub<'_>,
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) {
        self.insertions += 1;
        self.note_expire(stub.expire);
        self.stubs.insert(hash, stub, hasher);
    }

    fn put_value(&mut self, hash: KeyHash, entry: Entry, hasher: impl Fn(&[u8]) -> KeyHash) {
        self.expire_floor = self.expire_floor.min(entry.due_ms());
        self.values
            .insert_unique(hash.slot(), entry, |e| hasher(e.key()).slot());
    }

    fn take_value(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let found = self.values.find_entry(hash.slot(), |e| e.key() == key);
        found.ok().map(|found| found.remove().0)
    }

    /// Removes and returns a key's entry, which has its value.
    pub fn remove(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> Option<Entry> {
        let removed = self.take_value(hash, key)?;
        let (len, capacity) = (self.values.len(), self.values.capacity());
        if capacity > CAPACITY_KEPT && len * 4 < capacity {
            self.values.shrink_to(len * 2, |e| hasher(e.key()).slot());
        }
        Some(removed)
    }

    /// Removes a key's stub; its bytes.
    pub fn remove_stub(&mut self, hash: KeyHash, key: &[u8]) -> Option<usize> {
        self.stubs.remove(hash, key)
    }

    /// A key's value leaves, its stub stays.
    pub fn value_to_stub(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        hasher: impl Fn(&[u8]) -> KeyHash + Copy,
    ) -> Option<Entry> {
        let entry = self.take_value(hash, key)?;
        self.stubs.insert(hash, &Stub::of(&entry), hasher);
        self.trim(hasher);
        Some(entry)
    }

    /// As [`Segment::remove`], for a value that leaves memory and not even a stub stays.
    pub fn release(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> Option<Entry> {
        let entry = self.take_value(hash, key)?;
        self.trim(hasher);
        Some(entry)
    }

    /// Gives back what the table of values has too much: values that leave for the tier leave by
    /// the thousands, and are not expected back at once.
    fn trim(&mut self, hasher: impl Fn(&[u8]) -> KeyHash) {
        let (len, capacity) = (self.values.len(), self.values.capacity());
        if len * 8 <= capacity * 3 {
            self.values.shrink_to(len, |e| hasher(e.key()).slot());
        }
    }

    /// A key's stub gives way to its entry; false if it has none.
    pub fn stub_to_value(
        &mut self,
        hash: KeyHash,
        entry: Entry,
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> bool {
        let had = self.remove_stub(hash, entry.key()).is_some();
        if had {
            self.put_value(hash, entry, hasher);
        }
        had
    }

    /// Lowers the expiry floor for a key or a field that got an expiry.
    pub fn note_expire(&mut self, expire: Option<i64>) {
        if let Some(ms) = expire {
            self.expire_floor = self.expire_floor.min(ms);
        }
    }

    /// Recomputes the expiry floor after expired keys went.
    pub fn refresh_expire_floor(&mut self) {
        self.expire_floor = self.iter().map(Found::due_ms).min().unwrap_or(i64::MAX);
    }

    /// All keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        let stubs = self.stubs().map(Found::Stub);
        self.values().map(Found::Value).chain(stubs)
    }

    /// All entries with their value, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.values.iter()
    }

    /// All entries with their value for editing, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.values.iter_mut()
    }

    /// All stubs, in no order.
    pub fn stubs(&self) -> impl Iterator<Item = Stub<'_>> {
        self.stubs.iter()
    }

    /// Bytes of the table of values, without the entries, and of the stubs.
    pub fn table_bytes(&self) -> usize {
        self.values.allocation_size() + self.stub_bytes()
    }

    /// Bytes of the stubs.
    pub fn stub_bytes(&self) -> usize {
        self.stubs.allocated_bytes()
    }
}
