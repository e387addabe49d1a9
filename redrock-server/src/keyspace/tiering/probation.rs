//! The order in which values on probation came.
//!
//! Values that came at the same time lie in the same pages of the allocator: leaving in this order
//! they leave whole pages, in any other they leave gaps that only values of their size fill. So each
//! of them has a place here, be it ever so small, and a place has 8 bytes only: the hash, in runs of one
//! database each. Databases take turns by runs and not by values.

use crate::keyspace::position::KeyHash;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Places in a run: a page of them.
const RUN_PLACES: usize = 512;
/// Runs that are not full yet, at most: of databases that were flushed some may be left.
const OPEN_MAX: usize = 64;

/// A value on probation. Its entry may have gone or been promoted since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probationer {
    pub hash: KeyHash,
    pub generation: u32,
    /// Its memory as it came, or the mean of those that came with it.
    pub bytes: u32,
}

#[derive(Debug)]
struct Run {
    generation: u32,
    hashes: Vec<KeyHash>,
    taken: usize,
    /// Of those that are not taken.
    bytes: u64,
}

impl Run {
    fn new(generation: u32) -> Self {
        Self {
            generation,
            hashes: Vec::with_capacity(RUN_PLACES),
            taken: 0,
            bytes: 0,
        }
    }

    fn first(&self) -> Option<Probationer> {
        let hash = *self.hashes.get(self.taken)?;
        let left = (self.hashes.len() - self.taken) as u64;
        Some(Probationer {
            hash,
            generation: self.generation,
            bytes: u32::try_from(self.bytes / left).unwrap_or(u32::MAX),
        })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Order {
    full: VecDeque<Run>,
    /// By generation.
    open: HashMap<u32, Run>,
    len: usize,
    bytes: u64,
}

impl Order {
    /// How many have a place.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory of their values as they came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes in the last one.
    pub(super) fn push(&mut self, probationer: Probationer) {
        let generation = probationer.generation;
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&generation) {
            self.full.extend(self.open.drain().map(|(_, run)| run));
        }
        let run = self.open.entry(generation);
        let run = run.or_insert_with(|| Run::new(generation));
        run.hashes.push(probationer.hash);
        run.bytes += u64::from(probationer.bytes);
        self.len += 1;
        self.bytes += u64::from(probationer.bytes);
        if run.hashes.len() >= RUN_PLACES
            && let Some(run) = self.open.remove(&generation)
        {
            self.full.push_back(run);
        }
    }

    /// The first one.
    pub(super) fn first(&mut self) -> Option<Probationer> {
        loop {
            if self.full.is_empty() {
                self.full.extend(self.open.drain().map(|(_, run)| run));
            }
            match self.full.front()?.first() {
                Some(first) => return Some(first),
                None => self.full.pop_front(),
            };
        }
    }

    /// Takes out the first one.
    pub(super) fn pop(&mut self) -> Option<Probationer> {
        let first = self.first()?;
        let run = self.full.front_mut()?;
        run.taken += 1;
        run.bytes -= u64::from(first.bytes);
        self.len -= 1;
        self.bytes -= u64::from(first.bytes);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::position::Positioner;

    fn probationer(number: u64, generation: u32) -> Probationer {
        Probationer {
            hash: Positioner::new((1, 2)).hash(&number.to_le_bytes()),
            generation,
            bytes: 10 + number as u32 % 7,
        }
    }

    #[test]
    fn of_one_database_the_first_to_come_is_the_first_to_go() {
        let mut order = Order::default();
        let count = 3 * RUN_PLACES as u64 + 17;
        (0..count).for_each(|number| order.push(probationer(number, 3)));
        assert_eq!(order.len() as u64, count);
        for number in 0..count {
            let next = order.pop().expect("as many as came");
            assert_eq!(next.hash, probationer(number, 3).hash);
            assert_eq!(next.generation, 3);
            // The order goes on at its end meanwhile.
            if number == 100 {
                order.push(probationer(count, 3));
            }
        }
        assert_eq!(
            order.pop().map(|last| last.hash),
            Some(probationer(count, 3).hash)
        );
        assert!(order.pop().is_none());
        assert_eq!((order.len(), order.bytes()), (0, 0));
    }

    #[test]
    fn databases_in_turn_share_the_order() {
        let mut order = Order::default();
        let count = 20_000;
        for number in 0..count {
            order.push(probationer(number, number as u32 % 100));
        }
        let mut seen = std::collections::HashSet::new();
        while let Some(next) = order.pop() {
            assert!(seen.insert((next.hash.bits(), next.generation)));
        }
        assert_eq!(seen.len() as u64, count);
        assert_eq!((order.len(), order.bytes()), (0, 0));
    }
}
