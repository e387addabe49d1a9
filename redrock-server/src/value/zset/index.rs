//! Finds an element's id by the hash of its member.
//!
//! Extendible hashing: a directory over the hash's top bits names segments of at most
//! [`SEGMENT_MAX`] elements, so no insertion ever rehashes the whole set. A segment is open
//! addressing with linear probing whose entries are **in ascending order of their hash** (the
//! home slot is proportional to the hash, and nothing wraps around). The whole index is thus
//! ordered by hash, and a scan cursor is simply the next hash: it stays right while the set
//! grows, shrinks, or goes to disk and comes back.
//!
//! Invariants of a segment: an entry stands at or after its home slot, with no empty slot between;
//! hashes ascend along the slots.

/// Entries of a segment before it is split.
const SEGMENT_MAX: usize = 1024;
/// Directory bits beyond which segments grow instead of being split.
const DEPTH_MAX: u32 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    hash: u32,
    id: u32,
}

const EMPTY: Entry = Entry {
    hash: 0,
    id: u32::MAX,
};

impl Entry {
    fn is_empty(self) -> bool {
        self.id == u32::MAX
    }
}

#[derive(Debug, Clone)]
struct Segment {
    /// Number of top hash bits that all entries share.
    depth: u32,
    len: usize,
    /// Number of home slots; `slots` may be longer, by what spills over the last one.
    homes: usize,
    slots: Vec<Entry>,
}

impl Segment {
    fn new(depth: u32, homes: usize) -> Self {
        Self {
            depth,
            len: 0,
            homes,
            slots: vec![EMPTY; homes],
        }
    }

    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash << self.depth) * self.homes as u64) >> 32) as usize
    }

    fn at(&self, i: usize) -> Entry {
        self.slots.get(i).copied().unwrap_or(EMPTY)
    }

    /// The first slot whose entry has this hash or a greater one, or is empty.
    fn lower_bound(&self, hash: u32) -> usize {
        let mut i = self.home(hash);
        loop {
            let entry = self.at(i);
            if entry.is_empty() || entry.hash >= hash {
                return i;
            }
            i += 1;
        }
    }

    fn position(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mut i = self.lower_bound(hash);
        loop {
            let entry = self.at(i);
            if entry.is_empty() || entry.hash != hash {
                return None;
            }
            if same(entry.id) {
                return Some(i);
            }
            i += 1;
        }
    }

    fn insert(&mut self, entry: Entry) {
        if (self.len + 1) * 5 > self.homes * 4 {
            *self = self.rebuilt(self.depth, (self.homes * 3 / 2).max(16), |_| true);
        }
        let at = self.lower_bound(entry.hash);
        let mut end = at;
        while !self.at(end).is_empty() {
            end += 1;
        }
        if end >= self.slots.len() {
            self.slots.resize(end + 1, EMPTY);
        }
        self.slots.copy_within(at..end, at + 1);
        self.slots[at] = entry;
        self.len += 1;
    }

    fn remove_at(&mut self, at: usize) {
        let mut end = at;
        loop {
            let next = self.at(end + 1);
            if next.is_empty() || self.home(next.hash) > end {
                break;
            }
            end += 1;
        }
        self.slots.copy_within(at + 1..end + 1, at);
        self.slots[end] = EMPTY;
        self.len -= 1;
        if self.homes > 64 && self.len * 4 < self.homes {
            *self = self.rebuilt(self.depth, self.homes / 2, |_| true);
        }
    }

    /// The entries that `keep` wants, in a segment of another size or depth.
    fn rebuilt(&self, depth: u32, homes: usize, keep: impl Fn(u32) -> bool) -> Self {
        let mut fresh = Self::new(depth, homes);
        let mut next = 0;
        for &entry in self.slots.iter().filter(|e| !e.is_empty() && keep(e.hash)) {
            // Entries come in ascending order: each goes to its home or after the last one.
            let at = fresh.home(entry.hash).max(next);
            if at >= fresh.slots.len() {
                fresh.slots.resize(at + 1, EMPTY);
            }
            fresh.slots[at] = entry;
            fresh.len += 1;
            next = at + 1;
        }
        fresh
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Number of hash bits that choose a directory entry.
    depth: u32,
    directory: Vec<u32>,
    segments: Vec<Segment>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            depth: 0,
            directory: vec![0],
            segments: vec![Segment::new(0, 16)],
        }
    }

    fn segment_number(&self, hash: u32) -> usize {
        // A shift by all 32 bits (depth 0) must give 0.
        let at = (u64::from(hash) >> (32 - self.depth)) as usize;
        self.directory[at] as usize
    }

    /// The id under `hash` that `same` accepts.
    pub(super) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = &self.segments[self.segment_number(hash)];
        segment.position(hash, same).map(|at| segment.at(at).id)
    }

    /// Adds an id, which must not be there yet.
    pub(super) fn insert(&mut self, hash: u32, id: u32) {
        let mut number = self.segment_number(hash);
        while self.segments[number].len >= SEGMENT_MAX && self.segments[number].depth < DEPTH_MAX {
            self.split(number, hash);
            number = self.segment_number(hash);
        }
        self.segments[number].insert(Entry { hash, id });
    }

    /// Splits the segment that `hash` belongs to by its next hash bit.
    fn split(&mut self, number: usize, hash: u32) {
        let old = &self.segments[number];
        let depth = old.depth + 1;
        let bit = 1u32 << (32 - depth);
        let homes = (old.len * 3 / 4).max(16);
        let low = old.rebuilt(depth, homes, |h| h & bit == 0);
        let high = old.rebuilt(depth, homes, |h| h & bit != 0);
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&n| [n, n]).collect();
            self.depth = depth;
        }
        let fresh = self.segments.len();
        self.segments[number] = low;
        self.segments.push(high);
        // The old segment's run of directory entries: its second half is the new one's.
        let run = 1usize << (self.depth - depth);
        let prefix = (u64::from(hash | bit) >> (32 - depth)) as usize;
        self.directory[prefix * run..(prefix + 1) * run].fill(fresh as u32);
    }

    /// Removes an id.
    pub(super) fn remove(&mut self, hash: u32, id: u32) {
        let number = self.segment_number(hash);
        let segment = &mut self.segments[number];
        if let Some(at) = segment.position(hash, |other| other == id) {
            segment.remove_at(at);
        }
    }

    /// Calls `visit` for the ids from hash `cursor` on, in order of their hashes, until at least
    /// `count` were visited; ids of equal hash are never parted. Returns the next cursor, 0 at
    /// the end.
    pub(super) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(u32)) -> u64 {
        let mut from = cursor;
        let mut visited = 0;
        while let Ok(hash) = u32::try_from(from) {
            let segment = &self.segments[self.segment_number(hash)];
            for entry in segment.slots.iter().skip(segment.lower_bound(hash)) {
                if entry.is_empty() || entry.hash < hash {
                    continue;
                }
                if visited >= count && u64::from(entry.hash) != from {
                    return u64::from(entry.hash);
                }
                visit(entry.id);
                visited += 1;
                from = u64::from(entry.hash);
            }
            let span = 1u64 << (32 - segment.depth);
            from = (u64::from(hash) / span + 1) * span;
            if visited >= count && from <= u64::from(u32::MAX) {
                return from;
            }
        }
        0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let slots: usize = match self.segments.as_slice() {
            // All segments are of about one size; the first few tell.
            few if few.len() <= 8 => few.iter().map(|s| s.slots.capacity()).sum(),
            many => {
                let sample: usize = many.iter().take(8).map(|s| s.slots.capacity()).sum();
                sample * many.len() / 8
            }
        };
        slots * size_of::<Entry>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.directory.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn scan_all(index: &Index, count: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = index.scan(cursor, count, |id| ids.push(id));
            if cursor == 0 {
                return ids;
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_and_scans_each_id_once(
            // Few distinct hashes force long runs and equal hashes.
            ops in prop::collection::vec((any::<bool>(), 0u32..400, prop::bool::weighted(0.3)), 1..1200),
            count in 1usize..40,
        ) {
            let mut index = Index::new();
            let mut model = BTreeMap::new();
            for (insert, n, clash) in ops {
                let hash = if clash { u32::MAX - n % 3 } else { n.wrapping_mul(0x9e37_79b9) };
                let id = n * 2 + u32::from(clash);
                if insert && !model.contains_key(&id) {
                    index.insert(hash, id);
                    model.insert(id, hash);
                } else if !insert {
                    index.remove(hash, id);
                    model.remove(&id);
                }
                prop_assert_eq!(index.find(hash, |other| other == id).is_some(), model.contains_key(&id));
            }
            let ids = scan_all(&index, count);
            prop_assert_eq!(ids.len(), model.len());
            prop_assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), model.keys().copied().collect());
        }
    }

    #[test]
    fn grows_by_splits_shrinks_and_keeps_its_order() {
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9).rotate_left(7) ^ n;
        let mut index = Index::new();
        for n in 0..50_000 {
            index.insert(hash(n), n);
        }
        assert!(index.segments.len() > 40);
        let ids = scan_all(&index, 100);
        assert_eq!(ids.len(), 50_000);
        assert!(ids.is_sorted_by_key(|&n| hash(n)));
        for n in 0..49_000 {
            index.remove(hash(n), n);
        }
        for n in 49_000..50_000 {
            assert_eq!(index.find(hash(n), |id| id == n), Some(n));
        }
        assert_eq!(scan_all(&index, 10).len(), 1000);
    }

    #[test]
    fn a_scan_sees_all_that_stays_while_the_index_changes() {
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b9);
        let mut index = Index::new();
        for n in 0..3000 {
            index.insert(hash(n), n);
        }
        let (mut seen, mut cursor, mut round) = (BTreeSet::new(), 0, 0);
        loop {
            cursor = index.scan(cursor, 17, |id| {
                seen.insert(id);
            });
            if cursor == 0 {
                break;
            }
            round += 1;
            for n in 0..40 {
                index.insert(hash(10_000 + round * 40 + n), 10_000 + round * 40 + n);
            }
            for n in 0..5 {
                index.remove(hash(1000 + round * 5 + n), 1000 + round * 5 + n);
            }
        }
        assert!((0..1000).all(|n| seen.contains(&n)));
    }
}
