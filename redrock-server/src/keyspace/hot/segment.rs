//! A segment: the entries of one contiguous range of positions, at most a few hundred.

use super::entry::Entry;
use crate::keyspace::position::KeyHash;
use hashbrown::HashTable;

/// Entries past which a segment is split in two.
pub const SEGMENT_ENTRIES_MAX: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub struct Segment {
    entries: HashTable<Entry>,
    /// Number of leading position bits that all its entries share.
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
            entries: HashTable::new(),
            depth,
            expire_floor: i64::MAX,
            insertions: 0,
        }
    }

    /// Two empty segments for what is in this one. The first takes its number.
    pub fn halves(&self) -> (Self, Self) {
        let depth = self.depth + 1;
        let low = Self {
            insertions: self.insertions + 1,
            ..Self::new(depth)
        };
        (low, Self::new(depth))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Grows whenever a key is added: while it stays the same, at most some keys have gone.
    pub fn insertions(&self) -> u64 {
        self.insertions
    }

    /// The entries of which the key has this hash.
    pub fn with_hash(
        &self,
        hash: KeyHash,
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter_hash(hash.slot());
        entries.filter(move |entry| hasher(entry.key()) == hash)
    }

    /// The entry of a key.
    pub fn find(&self, hash: KeyHash, key: &[u8]) -> Option<&Entry> {
        self.entries.find(hash.slot(), |e| e.key() == key)
    }

    /// The entry of a key, for editing or replacing in place.
    pub fn find_mut(&mut self, hash: KeyHash, key: &[u8]) -> Option<&mut Entry> {
        self.entries.find_mut(hash.slot(), |e| e.key() == key)
    }

    /// Adds an entry whose key is not there yet.
    pub fn insert(&mut self, hash: KeyHash, entry: Entry, hasher: impl Fn(&[u8]) -> KeyHash) {
        self.expire_floor = self.expire_floor.min(entry.due_ms());
        self.insertions += 1;
        self.entries
            .insert_unique(hash.slot(), entry, |e| hasher(e.key()).slot());
    }

    /// Removes and returns a key's entry.
    pub fn remove(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let found = self
            .entries
            .find_entry(hash.slot(), |e| e.key() == key)
            .ok()?;
        Some(found.remove().0)
    }

    /// Lowers the expiry floor for a key or a field that got an expiry.
    pub fn note_expire(&mut self, expire: Option<i64>) {
        if let Some(ms) = expire {
            self.expire_floor = self.expire_floor.min(ms);
        }
    }

    /// Recomputes the expiry floor after expired entries went.
    pub fn refresh_expire_floor(&mut self) {
        self.expire_floor = self
            .entries
            .iter()
            .map(Entry::due_ms)
            .min()
            .unwrap_or(i64::MAX);
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// All entries for editing, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// Takes all entries out.
    pub fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.drain()
    }

    /// Bytes of the table itself, without the entries.
    pub fn table_bytes(&self) -> usize {
        self.entries.allocation_size()
    }

    /// Gives back room after many removals.
    pub fn shrink(&mut self, hasher: impl Fn(&[u8]) -> KeyHash) {
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            let target = self.entries.len() * 2;
            self.entries.shrink_to(target, |e| hasher(e.key()).slot());
        }
    }
}
