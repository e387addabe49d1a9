//! Walking over the keys in memory in the order of their positions (I4): SCAN, KEYS, RANDOMKEY.
//!
//! A cursor is a position: all keys before it have been seen, whatever moved between tiers or
//! segments meanwhile, because a key's position never changes. Keys that share a position are
//! never divided between two calls.

use super::Keyspace;
use super::hot::found::Found;
use super::hot::segment::Segment;
use super::position::{KeyHash, POSITION_END};

/// Segments that one call of SCAN looks at most, so that a table that became sparse can't hold
/// the lock for long.
const SEGMENTS_MAX: usize = 1024;

/// A step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanStep {
    /// Names of all keys in memory from the position asked for up to `next`, in order. Their
    /// times may have passed.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; [`POSITION_END`] when all were seen.
    pub next: u64,
}

impl Keyspace {
    /// Keys in memory from position `from` on: at least `count` unless the end or
    /// [`SEGMENTS_MAX`] comes first, and no more than share the last one's position.
    pub fn scan_step(&mut self, index: usize, from: u64, count: usize) -> ScanStep {
        let mut keys = Vec::new();
        let next = self.visit_from(index, from, |_, found| {
            keys.push(found.key().to_vec());
            keys.len() >= count
        });
        ScanStep { keys, next }
    }

    /// Calls `visit` with the keys in memory from position `from` on, in order, until it says that
    /// there are enough; then with those of the same position that are left. Where to go on:
    /// [`POSITION_END`] at the end, and what comes after [`SEGMENTS_MAX`] in any case.
    pub(super) fn visit_from(
        &mut self,
        index: usize,
        from: u64,
        mut visit: impl FnMut(u64, Found<'_>) -> bool,
    ) -> u64 {
        let Some(database) = self.databases.get(index) else {
            return POSITION_END;
        };
        let table = &database.table;
        let (mut next, mut enough) = (from, false);
        for _ in 0..SEGMENTS_MAX {
            if next >= POSITION_END || enough {
                break;
            }
            let (number, end) = table.segment_at(next);
            if table.segment(number).is_none_or(Segment::is_empty) {
                next = end;
                continue;
            }
            let hashes = self.listings.of(database.generation, table, number);
            let first = hashes.partition_point(|hash| hash.position() < next);
            let mut last = None;
            for &hash in hashes.get(first..).unwrap_or_default() {
                if enough && last.is_none_or(|last: KeyHash| last.position() < hash.position()) {
                    return hash.position();
                }
                // Keys that share a hash are met together.
                if last.replace(hash) != Some(hash) {
                    for found in table.with_hash(number, hash) {
                        enough |= visit(hash.position(), found);
                    }
                }
            }
            next = end;
        }
        next
    }

    /// Calls `visit` with every key in memory, in no order.
    pub fn for_each_key(&self, index: usize, mut visit: impl FnMut(Found<'_>)) {
        let Some(database) = self.databases.get(index) else {
            return;
        };
        let table = &database.table;
        for segment in 0..table.segment_count() {
            table
                .segment(segment)
                .into_iter()
                .flat_map(Segment::iter)
                .for_each(&mut visit);
        }
    }

    /// One key in memory, chosen at random; `None` if there are none.
    pub fn random_hot_key(&self, index: usize) -> Option<&[u8]> {
        let table = &self.databases.get(index)?.table;
        if table.is_empty() {
            return None;
        }
        let mut at = rand::random_range(0..POSITION_END);
        // A segment near a random position, then any of its keys. Positions spread evenly, so
        // segments that share a depth are equally full, and deeper ones are chosen less often.
        loop {
            let (segment, end) = table.segment_at(at);
            let segment = table.segment(segment)?;
            if !segment.is_empty() {
                let nth = rand::random_range(0..segment.len());
                return segment.iter().nth(nth).map(Found::key);
            }
            at = if end >= POSITION_END { 0 } else { end };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::hot::entry::{Entry, NewValue};
    use crate::keyspace::position::Positioner;
    use std::collections::HashSet;

    fn keyspace(keys: usize) -> Keyspace {
        let mut keyspace = Keyspace::new(1, Positioner::new((3, 4)));
        for n in 0..keys {
            insert(&mut keyspace, &format!("key:{n}"));
        }
        keyspace
    }

    fn insert(keyspace: &mut Keyspace, key: &str) {
        let hash = keyspace.positioner.hash(key.as_bytes());
        let entry = Entry::new(key.as_bytes(), NewValue::Int(1), None);
        keyspace.databases[0].table.insert(hash, entry);
    }

    #[test]
    fn a_scan_returns_each_key_once_whatever_the_count() {
        for count in [1, 10, 511, 512, 513, 100_000] {
            let mut keyspace = keyspace(3000);
            let (mut at, mut seen) = (0, Vec::new());
            while at < POSITION_END {
                let step = keyspace.scan_step(0, at, count);
                assert!(step.keys.len() <= count && step.next > at);
                seen.extend(step.keys);
                at = step.next;
            }
            assert_eq!(seen.len(), 3000, "count {count}");
            assert_eq!(seen.into_iter().collect::<HashSet<_>>().len(), 3000);
        }
    }

    #[test]
    fn keys_that_stay_are_returned_while_segments_split_under_the_scan() {
        let mut keyspace = keyspace(400);
        let (mut at, mut seen, mut added) = (0, HashSet::new(), 0);
        while at < POSITION_END {
            let step = keyspace.scan_step(0, at, 7);
            seen.extend(step.keys);
            at = step.next;
            for _ in 0..50 {
                insert(&mut keyspace, &format!("added:{added}"));
                added += 1;
            }
        }
        assert!(keyspace.databases[0].table.segment_count() > 4);
        for n in 0..400 {
            assert!(
                seen.contains(format!("key:{n}").as_bytes()),
                "key:{n} was missed"
            );
        }
    }

    #[test]
    fn a_key_added_behind_the_cursor_of_a_listed_segment_is_returned_and_a_removed_one_is_not() {
        let mut keyspace = keyspace(300);
        let first = keyspace.scan_step(0, 0, 1);
        let position = |keyspace: &Keyspace, key: &[u8]| keyspace.positioner.hash(key).position();
        let added: Vec<String> = (0..50).map(|n| format!("added:{n}")).collect();
        for key in &added {
            insert(&mut keyspace, key);
        }
        let removed = b"key:7".as_slice();
        let hash = keyspace.positioner.hash(removed);
        keyspace.scan_step(0, first.next, 1);
        keyspace.databases[0].table.remove(hash, removed);
        let rest = keyspace.scan_step(0, first.next, 1000);
        assert_eq!(rest.next, POSITION_END);
        let rest: HashSet<Vec<u8>> = rest.keys.into_iter().collect();
        for key in &added {
            let is_behind = position(&keyspace, key.as_bytes()) >= first.next;
            assert_eq!(rest.contains(key.as_bytes()), is_behind, "{key}");
        }
        assert!(!rest.contains(removed));
    }

    #[test]
    fn walks_of_several_databases_and_after_a_flush_see_their_own_keys() {
        let mut keyspace = Keyspace::new(40, Positioner::new((3, 4)));
        for round in 0..3 {
            for index in 0..40 {
                let key = format!("key:{round}:{index}");
                let hash = keyspace.positioner.hash(key.as_bytes());
                let entry = Entry::new(key.as_bytes(), NewValue::Int(1), None);
                keyspace.databases[index].table.insert(hash, entry);
            }
            for index in 0..40 {
                let step = keyspace.scan_step(index, 0, 10);
                assert_eq!(step.keys, [format!("key:{round}:{index}").into_bytes()]);
                keyspace.flush(index, false);
            }
        }
    }

    #[test]
    fn random_keys_reach_every_key() {
        let keyspace = keyspace(1500);
        let chosen: HashSet<Vec<u8>> = (0..30_000)
            .filter_map(|_| keyspace.random_hot_key(0).map(<[u8]>::to_vec))
            .collect();
        assert!(chosen.len() > 1450, "only {} of 1500", chosen.len());
        assert_eq!(
            Keyspace::new(1, Positioner::new((1, 2))).random_hot_key(0),
            None
        );
    }
}
