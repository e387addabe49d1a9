//! Which values deserve memory: what came lately is on probation, what was wanted again stays.
//!
//! ```text
//!   read from the tier, or written anew          left not long ago (a ghost)
//!             │                                              │
//!             ▼                                              ▼
//!        probation ───────── touched once more ──────▶  the hot values
//!   a tenth of memory, first in first out        heat: touches since the hand
//!             │                                  came by, one less each time
//!             ▼ untouched                                    ▼ heat 0
//!       leaves; its hash stays as a ghost                  leaves
//! ```
//!
//! The shape is that of S3-FIFO (Yang et al., SOSP 2023) over segments instead of a queue. A scan and
//! a bulk load pass through probation only: they cost the hot values a tenth of memory at most,
//! whatever their length. A value that is wanted twice within about as many distinct values as memory
//! holds is promoted, be it that it had left in between. The
//! policy (`maxmemory-policy`) says how much heat counts: one touch (LRU) or many (LFU).
//!
//! Where memory is full a string that is read for the first time does not even come on probation: it is
//! lent to its command ([`super::lend`]) and leaves a ghost.
//!
//! A stub has no heat: its value had none when it left, and is judged anew when it comes back.

use super::probation::{Order, Probationer};
use super::sweep::{Hand, Step, Swept};
use crate::keyspace::Keyspace;
use crate::keyspace::hot::HotTable;
use crate::keyspace::hot::entry::Entry;
use crate::keyspace::position::KeyHash;

/// Memory of hot values for which there is room for one ghost, bytes: with values of 1 KB there are
/// half as many ghosts as hot values. More promote what is wanted too seldom, fewer follow a change of
/// what is wanted too slowly (simulated: zipf 0.99, then other keys).
const BYTES_PER_GHOST: u64 = 2048;
/// The same for a value on probation: all may be, for hardly any takes less.
const BYTES_PER_PROBATION: u64 = 64;
/// Bounds of both.
const ENTRIES_MIN: u64 = 1 << 12;
const ENTRIES_MAX: u64 = 1 << 24;
/// Probation may take this share of the hot values' memory before it pays first, percent.
const PROBATION_PERCENT: u64 = 10;

/// Values on probation that are looked at in one lock hold.
const LOOKS: usize = 64;
/// Steps without fruit until probation and hand pay in turn: all that is left may be where the other
/// one doesn't look. Values that lose heat count as no fruit, so it is many.
pub const FRUITLESS_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Admission {
    probation: Order,
    probation_max: usize,
    probation_bytes_max: u64,
    ghosts: Ghosts,
}

impl Admission {
    /// For about `hot_bytes` of values in memory.
    pub fn new(hot_bytes: u64) -> Self {
        let entries = |bytes: u64| (hot_bytes / bytes).clamp(ENTRIES_MIN, ENTRIES_MAX) as usize;
        Self {
            probation: Order::default(),
            probation_max: entries(BYTES_PER_PROBATION),
            probation_bytes_max: hot_bytes / 100 * PROBATION_PERCENT,
            ghosts: Ghosts::new(entries(BYTES_PER_GHOST)),
        }
    }

    /// As [`Self::new`] from now on. Ghosts are forgotten.
    pub fn resize(&mut self, hot_bytes: u64) {
        let fresh = Self::new(hot_bytes);
        self.probation_max = fresh.probation_max;
        self.probation_bytes_max = fresh.probation_bytes_max;
        self.ghosts = fresh.ghosts;
    }

    /// Takes in a value that is about to be in memory.
    pub fn admit(&mut self, generation: u32, hash: KeyHash, entry: &mut Entry) {
        if self.ghosts.contains(generation, hash) {
            return entry.admit(true);
        }
        entry.admit(false);
        if self.probation.len() >= self.probation_max {
            // Without a place in the order it is the hand's, and of the first that it takes.
            entry.set_probation(false);
            return;
        }
        let bytes = u32::try_from(entry.memory_bytes()).unwrap_or(u32::MAX);
        self.probation.push(Probationer {
            hash,
            generation,
            bytes,
        });
    }

    /// Whether a value left not long ago, or was lent.
    pub(super) fn is_ghost(&self, generation: u32, hash: KeyHash) -> bool {
        self.ghosts.contains(generation, hash)
    }

    /// A value was wanted that is not in memory, and did not come.
    pub(super) fn note_ghost(&mut self, generation: u32, hash: KeyHash) {
        self.ghosts.add(generation, hash);
    }

    fn probation_pays(&self) -> bool {
        self.probation.bytes() > self.probation_bytes_max
    }
}

/// Where a probationer is, if it still is one.
fn find(table: &HotTable, hash: KeyHash) -> Option<&Entry> {
    let mut same = table.values_with_hash(hash);
    same.find(|entry| entry.is_on_probation())
}

impl Keyspace {
    /// As [`Admission::admit`] for an entry that is in memory.
    pub(in crate::keyspace) fn admit(&mut self, index: usize, hash: KeyHash, key: &[u8]) {
        let database = &mut self.databases[index];
        if let Some(tiering) = &mut self.tiering
            && let Some(entry) = database.table.find_value_mut(hash, key)
        {
            let generation = database.generation;
            tiering.admission.admit(generation, hash, entry);
        }
    }

    /// One step towards more room: values on probation while they take more than their share, else what
    /// the hand meets. After many steps in succession without fruit either pays in turn.
    pub fn make_room(&mut self, hand: &mut Hand, step: Step, fruitless: usize) -> Swept {
        let tiering = self.tiering.as_ref();
        let pays = tiering.is_some_and(|tiering| tiering.admission.probation_pays());
        let in_turn = fruitless > FRUITLESS_MAX;
        match (in_turn, pays) {
            (false, true) => self.end_probation(step, false),
            (true, _) if fruitless.is_multiple_of(2) => self.end_probation(step, true),
            _ => self.sweep(hand, step),
        }
    }

    /// Judges values on probation in the order in which they came, some at a time, and only while they
    /// take more than their share, or `all`: who was not wanted again leaves. Who has to be written first
    /// and can't be at the moment keeps its place, and with `all` those behind it are looked at: they may
    /// need no writing.
    fn end_probation(&mut self, step: Step, all: bool) -> Swept {
        let mut swept = Swept::default();
        for _ in 0..LOOKS {
            let Some(tiering) = &mut self.tiering else {
                break;
            };
            if swept.is_enough() || !(all || tiering.admission.probation_pays()) {
                break;
            }
            let Some(next) = tiering.admission.probation.first() else {
                break;
            };
            let waits = self.ends_probation(next, step, &mut swept);
            swept.queue_full |= waits;
            if waits && !all {
                break;
            }
            if let Some(tiering) = &mut self.tiering {
                tiering.admission.probation.pop();
                if waits {
                    tiering.admission.probation.push(next);
                }
            }
        }
        swept
    }

    /// Moves a value whose probation is over. True: it can't be written at the moment.
    fn ends_probation(&mut self, next: Probationer, step: Step, swept: &mut Swept) -> bool {
        let Some(index) = self.database_of(next.generation) else {
            return false;
        };
        let Some(entry) = find(&self.databases[index].table, next.hash) else {
            return false;
        };
        if entry.is_dirty() && !self.tier_has_room() {
            return true;
        }
        let key = entry.key().to_vec();
        self.sweep_key(index, next.hash, &key, step, swept);
        // What could not leave at once, because it is pinned or has to be written first, is the hand's
        // from here on.
        let left = self.databases[index].table.find_value_mut(next.hash, &key);
        if let Some(entry) = left {
            entry.set_probation(false);
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.admission.ghosts.add(next.generation, next.hash);
        }
        false
    }
}

/// Ghosts in one bucket: half a cache line.
const BUCKET_GHOSTS: usize = 8;

/// Hashes of the values that left probation unwanted: as many as memory has room for values, in
/// buckets that each forget their oldest.
struct Ghosts {
    buckets: Box<[[u32; BUCKET_GHOSTS]]>,
}

impl std::fmt::Debug for Ghosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ghosts")
            .field("buckets", &self.buckets.len())
            .finish_non_exhaustive()
    }
}

impl Ghosts {
    fn new(count: usize) -> Self {
        let buckets = (count / BUCKET_GHOSTS).next_power_of_two();
        Self {
            buckets: vec![[0; BUCKET_GHOSTS]; buckets].into_boxed_slice(),
        }
    }

    /// The bucket of a hash and its mark there, which is never 0.
    fn place(&self, generation: u32, hash: KeyHash) -> (usize, u32) {
        let mixed = (hash.bits() ^ u64::from(generation)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bucket = (mixed >> 32) as usize & (self.buckets.len() - 1);
        (bucket, hash.bits() as u32 | 1)
    }

    fn contains(&self, generation: u32, hash: KeyHash) -> bool {
        let (bucket, mark) = self.place(generation, hash);
        self.buckets[bucket].contains(&mark)
    }

    fn add(&mut self, generation: u32, hash: KeyHash) {
        let (bucket, mark) = self.place(generation, hash);
        let ghosts = &mut self.buckets[bucket];
        if !ghosts.contains(&mark) {
            ghosts.rotate_right(1);
            ghosts[0] = mark;
        }
    }
}

#[cfg(test)]
mod tests;
