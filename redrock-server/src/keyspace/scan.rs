//! Walking over the keys in memory in the order of their positions (I4): SCAN, KEYS, RANDOMKEY.
//!
//! A cursor is a position: all keys before it have been seen, whatever moved between tiers or
//! segments meanwhile, because a key's position never changes. Keys that share a position are
//! never divided between two calls.

use super::Keyspace;
use super::hot::entry::Entry;
use super::hot::segment::Segment;
use super::position::POSITION_END;

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
    pub fn scan_step(&self, index: usize, from: u64, count: usize) -> ScanStep {
        let mut step = ScanStep {
            keys: Vec::new(),
            next: from,
        };
        let Some(database) = self.databases.get(index) else {
            return ScanStep {
                keys: Vec::new(),
                next: POSITION_END,
            };
        };
        let table = &database.table;
        for _ in 0..SEGMENTS_MAX {
            if step.next >= POSITION_END || step.keys.len() >= count {
                break;
            }
            let (segment, end) = table.segment_at(step.next);
            let entries = table.segment(segment).into_iter().flat_map(Segment::iter);
            let mut found: Vec<(u64, &[u8])> = entries
                .map(|entry| (table.hash(entry.key()).position(), entry.key()))
                .filter(|(position, _)| *position >= step.next)
                .collect();
            let wanted = count - step.keys.len();
            step.next = end;
            if wanted < found.len() {
                // Up to the end of the position of the last one that is wanted; the others are
                // not sorted.
                let (_, &mut (last, _), _) = found.select_nth_unstable(wanted.saturating_sub(1));
                let all = found.len();
                found.retain(|(position, _)| *position <= last);
                if found.len() < all {
                    step.next = last + 1;
                }
            }
            found.sort_unstable();
            step.keys
                .extend(found.into_iter().map(|(_, key)| key.to_vec()));
        }
        step
    }

    /// Calls `visit` with every entry in memory, in no order.
    pub fn for_each_entry(&self, index: usize, mut visit: impl FnMut(&Entry)) {
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
                return segment.iter().nth(nth).map(Entry::key);
            }
            at = if end >= POSITION_END { 0 } else { end };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::hot::entry::NewValue;
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
            let keyspace = keyspace(3000);
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
