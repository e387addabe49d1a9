//! The hot table: an extendible directory of small segments ordered by position (I4).
//!
//! The directory has 2^depth slots, indexed by the top `depth` bits of the position; a segment
//! whose own depth is smaller fills several neighbouring slots. A full segment splits alone, so
//! no operation ever rehashes more than [`segment::SEGMENT_ENTRIES_MAX`] entries; doubling the
//! directory copies 4-byte slots only.

pub mod entry;
pub mod segment;

use super::position::{KeyHash, POSITION_BITS, POSITION_END, Positioner};
use entry::Entry;
use segment::{SEGMENT_ENTRIES_MAX, Segment};

/// Depth past which segments grow instead of splitting: only equal positions could get there.
const DEPTH_MAX: u32 = 40;

/// All keys of one generation that are in memory, values or stubs.
#[derive(Debug)]
pub struct HotTable {
    positioner: Positioner,
    /// log2 of the number of directory slots.
    depth: u32,
    slots: Vec<u32>,
    segments: Vec<Segment>,
    len: usize,
    /// Bytes of the segments' tables.
    segment_bytes: usize,
}

impl HotTable {
    /// An empty table.
    pub fn new(positioner: Positioner) -> Self {
        Self {
            positioner,
            depth: 0,
            slots: vec![0],
            segments: vec![Segment::new(0)],
            len: 0,
            segment_bytes: 0,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.positioner.hash(key)
    }

    fn segment_index(&self, hash: KeyHash) -> usize {
        self.slots[hash.prefix(self.depth)] as usize
    }

    /// The entry of a key.
    pub fn find(&self, hash: KeyHash, key: &[u8]) -> Option<&Entry> {
        self.segments[self.segment_index(hash)].find(hash, key)
    }

    /// The entry of a key, for editing or replacing.
    pub fn find_mut(&mut self, hash: KeyHash, key: &[u8]) -> Option<&mut Entry> {
        let index = self.segment_index(hash);
        self.segments[index].find_mut(hash, key)
    }

    /// Notes that a key got an expiry, so that active expiry finds it.
    pub fn note_expire(&mut self, hash: KeyHash, expire: Option<i64>) {
        let index = self.segment_index(hash);
        self.segments[index].note_expire(expire);
    }

    /// Adds an entry whose key is not there yet.
    pub fn insert(&mut self, hash: KeyHash, entry: Entry) {
        let mut index = self.segment_index(hash);
        while self.segments[index].len() >= SEGMENT_ENTRIES_MAX
            && self.segments[index].depth < DEPTH_MAX
        {
            self.split(index, hash);
            index = self.segment_index(hash);
        }
        let positioner = self.positioner;
        let segment = &mut self.segments[index];
        self.segment_bytes -= segment.table_bytes();
        segment.insert(hash, entry, |key| positioner.hash(key));
        self.segment_bytes += segment.table_bytes();
        self.len += 1;
    }

    /// Removes and returns a key's entry.
    pub fn remove(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let index = self.segment_index(hash);
        let positioner = self.positioner;
        let segment = &mut self.segments[index];
        let removed = segment.remove(hash, key)?;
        self.len -= 1;
        self.segment_bytes -= segment.table_bytes();
        segment.shrink(|key| positioner.hash(key));
        self.segment_bytes += segment.table_bytes();
        Some(removed)
    }

    fn split(&mut self, index: usize, hash: KeyHash) {
        let depth = self.segments[index].depth;
        if depth == self.depth {
            let doubled = self.slots.iter().flat_map(|&slot| [slot, slot]).collect();
            self.slots = doubled;
            self.depth += 1;
        }
        let new_depth = depth + 1;
        let (mut low, mut high) = self.segments[index].halves();
        let positioner = self.positioner;
        for entry in self.segments[index].drain() {
            let entry_hash = positioner.hash(entry.key());
            let half = if entry_hash.prefix(new_depth) & 1 == 0 {
                &mut low
            } else {
                &mut high
            };
            half.insert(entry_hash, entry, |key| positioner.hash(key));
        }
        let high_index = self.segments.len() as u32;
        self.segment_bytes += low.table_bytes() + high.table_bytes();
        self.segment_bytes -= self.segments[index].table_bytes();
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

    /// The entries of a segment of which the key has this hash.
    pub fn with_hash(&self, segment: usize, hash: KeyHash) -> impl Iterator<Item = &Entry> {
        let segment = self.segment(segment).into_iter();
        segment.flat_map(move |segment| segment.with_hash(hash, |key| self.hash(key)))
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

    /// Bytes of directory and segment tables, without the entries.
    pub fn table_bytes(&self) -> usize {
        self.slots.len() * 4 + self.segments.len() * size_of::<Segment>() + self.segment_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use entry::NewValue;

    #[test]
    fn keeps_every_key_through_splits_and_orders_segments_by_position() {
        let mut table = HotTable::new(Positioner::new((1, 2)));
        for i in 0..20_000u32 {
            let key = format!("key:{i}");
            let hash = table.hash(key.as_bytes());
            table.insert(
                hash,
                Entry::new(key.as_bytes(), NewValue::Int(i.into()), None),
            );
        }
        assert_eq!(table.len(), 20_000);
        let sum = |table: &HotTable| {
            table
                .segments
                .iter()
                .map(Segment::table_bytes)
                .sum::<usize>()
        };
        assert_eq!(table.segment_bytes, sum(&table));
        for i in 0..20_000u32 {
            let key = format!("key:{i}");
            let found = table.find(table.hash(key.as_bytes()), key.as_bytes());
            assert!(found.is_some(), "{key} was lost");
        }
        let (mut at, mut seen) = (0, 0);
        while at < POSITION_END {
            let (index, end) = table.segment_at(at);
            for entry in table.segment(index).into_iter().flat_map(Segment::iter) {
                let position = table.hash(entry.key()).position();
                assert!(at <= position && position < end);
                seen += 1;
            }
            at = end;
        }
        assert_eq!(seen, 20_000);
        for i in 0..20_000u32 {
            let key = format!("key:{i}");
            let hash = table.hash(key.as_bytes());
            assert!(table.remove(hash, key.as_bytes()).is_some());
        }
        assert!(table.is_empty());
        assert_eq!(table.segment_bytes, sum(&table));
    }
}
