//! The governor's hand: goes over the hot table segment by segment and moves the coldest values
//! towards the tier.
//!
//! A value that the hand meets loses one of its heat; one that has none left leaves. So the hand
//! goes as fast as memory is needed, and what stays are the hottest values of all segments, not of
//! each. What is on probation is not the hand's: see [`super::admission`].

use crate::keyspace::Keyspace;
use crate::keyspace::access::AccessPolicy;
use crate::keyspace::hot::entry::Entry;
use crate::keyspace::hot::segment::Segment;
use crate::keyspace::position::{KeyHash, Positioner};

/// Where the hand is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hand {
    database: usize,
    segment: usize,
}

/// Which values a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Those without heat; the others lose one.
    Coldest,
    /// Dirty ones without heat or on probation; they may yet be wanted, so nothing else changes.
    Ahead,
    /// None: only stubs, if they are to leave.
    Stubs,
    /// All, and of the stubs those that [`Choice::Stubs`] takes.
    All,
}

impl Choice {
    /// Stubs have a hand of their own beside that of the coldest values: those that it passed for the
    /// sake of stubs would lose heat.
    fn takes_stubs(self) -> bool {
        matches!(self, Self::Stubs | Self::All)
    }
}

/// What one step is to do.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Clean values leave memory.
    pub drop_values: bool,
    /// Stubs leave too.
    pub drop_stubs: bool,
    /// Dirty values are queued for the tier.
    pub spill: bool,
    /// Which values.
    pub choice: Choice,
}

/// What one step did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Values to be freed by the caller, without the lock.
    pub dropped: Vec<Entry>,
    /// Bytes of them and of stubs that left.
    pub dropped_bytes: usize,
    /// Values queued for the tier, and their bytes in memory.
    pub spilled: usize,
    /// Bytes of those.
    pub spilled_bytes: usize,
    /// The hand has gone round once.
    pub wrapped: bool,
    /// The queue took no more.
    pub queue_full: bool,
}

/// Of the stubs of a segment so many leave at a time, the coldest first.
const STUBS_TAKEN_PERCENT: usize = 25;

/// Values queued in one lock hold at most, so that no client waits for long.
const SPILLS_MAX: usize = 32;
const SPILL_BYTES_MAX: usize = 64 << 10;

impl Swept {
    /// Whether as much was spilled as one lock hold may.
    pub(super) fn is_enough(&self) -> bool {
        self.spilled >= SPILLS_MAX || self.spilled_bytes >= SPILL_BYTES_MAX
    }
}

/// Whether a value that the hand meets is to be moved.
fn is_chosen(entry: &Entry, choice: Choice) -> bool {
    match choice {
        Choice::All => true,
        Choice::Stubs => false,
        Choice::Ahead => entry.is_dirty() && (entry.is_on_probation() || entry.heat() == 0),
        Choice::Coldest => !entry.is_on_probation() && entry.heat() == 0,
    }
}

/// The hand has passed a value that stays. Who could not leave anyway, because it has to be written
/// first and the tier takes no more (`is_full`), loses nothing.
fn cool_down(entry: &mut Entry, is_full: bool) {
    let is_spared = entry.is_on_probation() || (is_full && entry.is_dirty());
    if !is_spared {
        entry.set_heat(entry.heat().saturating_sub(1));
    }
}

/// The stubs of a segment that go first: stubs have no heat, but tell when or how often their values
/// were wanted.
fn coldest_stubs(
    segment: &Segment,
    positioner: Positioner,
    access: &AccessPolicy,
) -> impl Iterator<Item = (KeyHash, Vec<u8>)> {
    let stubs = segment.stubs();
    let mut stubs: Vec<_> = stubs
        .map(|stub| (access.coldness(stub.access), stub.key))
        .collect();
    stubs.sort_unstable_by_key(|(coldness, _)| std::cmp::Reverse(*coldness));
    stubs.truncate((stubs.len() * STUBS_TAKEN_PERCENT).div_ceil(100));
    let named = move |(_, key): (u32, &[u8])| (positioner.hash(key), key.to_vec());
    stubs.into_iter().map(named)
}

impl Keyspace {
    /// Works on the next segment.
    pub fn sweep(&mut self, hand: &mut Hand, step: Step) -> Swept {
        let mut swept = Swept::default();
        let Some((index, segment)) = self.next_segment(hand, &mut swept.wrapped) else {
            return swept;
        };
        let (positioner, access) = (self.positioner, self.access);
        let is_full = step.spill && !self.tier_has_room();
        let mut chosen: Vec<(KeyHash, Vec<u8>)> = Vec::new();
        let Some(entries) = self.databases[index].table.segment_mut(segment) else {
            return swept;
        };
        let (mut spills, mut spill_bytes) = (0, 0);
        for entry in entries
            .values_mut()
            .filter(|entry| is_chosen(entry, step.choice))
        {
            chosen.push((positioner.hash(entry.key()), entry.key().to_vec()));
            if entry.is_dirty() {
                spills += 1;
                spill_bytes += entry.memory_bytes();
            }
        }
        // More than one lock hold may write: the hand stays, and nobody pays for that.
        let stays = step.spill && (spills > SPILLS_MAX || spill_bytes > SPILL_BYTES_MAX);
        if step.choice == Choice::Coldest && !stays {
            entries
                .values_mut()
                .for_each(|entry| cool_down(entry, is_full));
        }
        if step.drop_stubs && step.choice.takes_stubs() {
            // Beside the values, not before them: those have most of the bytes.
            chosen.extend(coldest_stubs(entries, positioner, &access));
        }
        for (hash, key) in chosen {
            if !self.sweep_key(index, hash, &key, step, &mut swept) {
                break;
            }
        }
        if stays && swept.spilled > 0 {
            hand.segment -= 1;
        }
        swept
    }

    /// Moves one value or stub on its way. False: no more in this lock hold.
    pub(super) fn sweep_key(
        &mut self,
        index: usize,
        hash: KeyHash,
        key: &[u8],
        step: Step,
        swept: &mut Swept,
    ) -> bool {
        let entry = self.databases[index].table.find_value(hash, key);
        if let Some(entry) = entry
            && entry.is_dirty()
        {
            let bytes = entry.memory_bytes();
            if !step.spill {
                return true;
            }
            if !self.tier_has_room() {
                swept.queue_full = true;
                // Clean ones may still be dropped.
                return step.drop_values;
            }
            if swept.is_enough() {
                return step.drop_values;
            }
            if self.spill(index, hash, key) {
                swept.spilled += 1;
                swept.spilled_bytes += bytes;
                if step.drop_values {
                    self.cool(index, hash, key);
                }
            }
            return true;
        }
        if step.drop_values
            && let Some(old) = self.drop_clean(index, hash, key, step.drop_stubs)
        {
            swept.dropped_bytes += old.bytes;
            swept.dropped.extend(old.value);
        }
        true
    }

    /// What was chosen, whatever its heat, leaves as soon as it is written, unless it is wanted meanwhile.
    fn cool(&mut self, index: usize, hash: KeyHash, key: &[u8]) {
        if let Some(entry) = self.databases[index].table.find_value_mut(hash, key) {
            entry.set_heat(0);
            entry.set_probation(false);
        }
    }

    fn next_segment(&self, hand: &mut Hand, wrapped: &mut bool) -> Option<(usize, usize)> {
        // Empty databases are passed over; at most one round.
        for _ in 0..=self.databases.len() {
            if hand.database >= self.databases.len() {
                hand.database = 0;
                hand.segment = 0;
                *wrapped = true;
            }
            let table = &self.databases[hand.database].table;
            if !table.is_empty() && hand.segment < table.segment_count() {
                hand.segment += 1;
                return Some((hand.database, hand.segment - 1));
            }
            hand.database += 1;
            hand.segment = 0;
        }
        None
    }

    /// Bytes of all stubs.
    pub fn stub_bytes(&self) -> usize {
        self.databases.iter().map(|d| d.table.stub_bytes()).sum()
    }
}
