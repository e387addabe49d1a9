//! The keys' hashes of a segment in the order of positions, kept from one step of a walk to the next.
//!
//! Entries of a segment lie in no order, while a step of SCAN wants a few of them in theirs: it would
//! hash all of some hundred keys each time. A walk comes back to the same segment until it is through
//! with it, so that each key is hashed about once in a walk.
//!
//! Invariant: as long as a listing's count of insertions is its segment's, it has the hash of every key
//! that the segment has. Those of keys that have gone since may be among them.

use super::hot::HotTable;
use super::position::KeyHash;

/// Listings that are kept, of at most 4 KiB each: so many walks do not disturb each other.
const LISTINGS_MAX: usize = 16;

#[derive(Debug)]
struct Listing {
    generation: u32,
    segment: usize,
    insertions: u64,
    /// In order.
    hashes: Vec<KeyHash>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listings {
    kept: Vec<Listing>,
    /// Which one gives way next.
    oldest: usize,
}

impl Listings {
    /// Hashes of a segment's keys in order, and maybe of some that have gone. `generation` is the
    /// table's: there is no other table of that number.
    pub(super) fn of(&mut self, generation: u32, table: &HotTable, segment: usize) -> &[KeyHash] {
        let insertions = table.segment(segment).map_or(0, |s| s.insertions());
        let at = self
            .kept
            .iter()
            .position(|kept| (kept.generation, kept.segment) == (generation, segment));
        let (at, is_new) = match at {
            Some(at) => (at, self.kept[at].insertions != insertions),
            None => (self.place(), true),
        };
        let listing = &mut self.kept[at];
        if is_new {
            (listing.generation, listing.segment) = (generation, segment);
            listing.insertions = insertions;
            listing.hashes.clear();
            let keys = table.segment(segment).into_iter().flat_map(|s| s.iter());
            let hashes = keys.map(|found| table.hash(found.key()));
            listing.hashes.extend(hashes);
            listing.hashes.sort_unstable();
        }
        &listing.hashes
    }

    /// Where the next listing goes.
    fn place(&mut self) -> usize {
        if self.kept.len() < LISTINGS_MAX {
            self.kept.push(Listing {
                generation: 0,
                segment: 0,
                insertions: 0,
                hashes: Vec::new(),
            });
            return self.kept.len() - 1;
        }
        self.oldest = (self.oldest + 1) % LISTINGS_MAX;
        self.oldest
    }
}
