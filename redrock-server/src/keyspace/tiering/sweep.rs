//! The governor's hand: goes over the hot table segment by segment and moves the coldest values
//! towards the tier.

use crate::keyspace::Keyspace;
use crate::keyspace::hot::entry::Entry;

/// Where the hand is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hand {
    database: usize,
    segment: usize,
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
    /// Share of a segment's entries to take, the coldest first, percent.
    pub share_percent: usize,
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

/// Values queued in one lock hold at most, so that no client waits for long.
const SPILLS_MAX: usize = 64;
const SPILL_BYTES_MAX: usize = 128 << 10;

impl Keyspace {
    /// Works on the next segment.
    pub fn sweep(&mut self, hand: &mut Hand, step: Step) -> Swept {
        let mut swept = Swept::default();
        let Some((index, segment)) = self.next_segment(hand, &mut swept.wrapped) else {
            return swept;
        };
        let access = self.access;
        let Some(entries) = self.databases[index].table.segment(segment) else {
            return swept;
        };
        let coldest = |mut all: Vec<(u32, Vec<u8>)>| {
            all.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.0));
            all.truncate((all.len() * step.share_percent).div_ceil(100));
            all
        };
        let values = entries.values().map(|entry| {
            // What was loaded and not touched again goes before everything else.
            let coldness = match entry.is_on_probation() {
                true => u32::MAX,
                false => access.coldness(entry.access()),
            };
            (coldness, entry.key().to_vec())
        });
        let mut candidates = coldest(values.collect());
        if step.drop_stubs {
            // Beside the values, not before them: those have most of the bytes.
            let stubs = entries.stubs();
            let stubs = stubs.map(|stub| (access.coldness(stub.access), stub.key.to_vec()));
            candidates.extend(coldest(stubs.collect()));
        }
        for (_, key) in candidates {
            if !self.sweep_key(index, &key, step, &mut swept) {
                break;
            }
        }
        swept
    }

    fn sweep_key(&mut self, index: usize, key: &[u8], step: Step, swept: &mut Swept) -> bool {
        let hash = self.positioner.hash(key);
        let entry = self.databases[index].table.find_value(hash, key);
        if let Some(entry) = entry
            && entry.is_dirty()
        {
            let bytes = entry.memory_bytes();
            if !step.spill {
                return true;
            }
            if self.tiering.as_ref().is_none_or(|t| !t.queue.has_room()) {
                swept.queue_full = true;
                // Clean ones may still be dropped.
                return step.drop_values;
            }
            if swept.spilled >= SPILLS_MAX || swept.spilled_bytes >= SPILL_BYTES_MAX {
                return step.drop_values;
            }
            if self.spill(index, hash, key) {
                swept.spilled += 1;
                swept.spilled_bytes += bytes;
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
