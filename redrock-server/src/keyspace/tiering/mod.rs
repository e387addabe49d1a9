//! Tiering: which keys are in memory, on disk or on their way (I6). The only place that sees
//! both hot entries and the cold store.
//!
//! States of a key, all under the shard locks:
//!
//! | entry in memory | flags | tier after the queue drained |
//! |---|---|---|
//! | value | dirty | nothing |
//! | value | clean, in flight | the same value (put queued, value kept) |
//! | value | clean | the same value |
//! | stub | clean | the value |
//! | none, tombstone pending | | nothing |
//! | none | | whatever it says |

pub mod admission;
pub mod census;
pub mod cold_expiry;
mod cold_fields;
mod denied;
pub mod direct;
pub mod fifo;
pub mod gate;
pub mod governor;
pub mod health;
pub mod lend;
pub mod loader;
pub mod one_read;
pub mod pace;
pub mod policy;
mod presence;
mod probation;
pub mod reader;
mod relief;
pub mod scan;
pub mod start;
pub mod sweep;
pub mod transit;
pub mod turns;

use super::cold::key::TierKey;
use super::cold::{ColdStore, Times};
use super::hot::entry::Entry;
use super::hot::found::Found;
use super::hot::stubs::STUB_KEY_BYTES_MAX;
use super::position::KeyHash;
use super::{Database, Keyspace};
use crate::value::codec;
use admission::Admission;
use fifo::{TierOp, TierQueue};
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Keys known to be absent though the filter said maybe; forgotten all at once past this.
const ABSENT_MAX: usize = 1 << 14;

/// Applied operations that the keyspace is told of in one lock hold, so that no client waits for long.
const APPLIED_AT_ONCE: usize = 8;

/// The keyspace's side of tiering; see the module.
#[derive(Debug)]
pub struct Tiering {
    /// The tier.
    pub cold: Arc<ColdStore>,
    /// Operations on their way to it.
    pub queue: Arc<TierQueue>,
    /// Newest queued operation of each key that has one.
    pending: HashMap<TierKey, u64>,
    next_seq: u64,
    /// Reads under way.
    loads: HashMap<TierKey, loader::Load>,
    /// Keys that a waiting command needs in memory.
    pins: HashMap<TierKey, u32>,
    absent: HashSet<TierKey>,
    denied: denied::Denied,
    presence: presence::Presence,
    /// The value that the command that runs may read, if it was lent one.
    lent: Option<lend::Lent>,
    /// Memory is so full that values are lent.
    lends: bool,
    /// What came lately, and what left unwanted.
    pub(super) admission: Admission,
    /// Values leave as soon as their put is applied; stubs too.
    pressure: (bool, bool),
    /// Counters for INFO.
    pub stats: TieringStats,
}

/// Counters for `# Tiering` in INFO.
#[derive(Debug, Default, Clone)]
pub struct TieringStats {
    /// Values moved to the tier.
    pub spilled: u64,
    /// Clean values dropped without a write.
    pub dropped: u64,
    /// Stubs dropped.
    pub stubs_dropped: u64,
    /// Values loaded for a waiting command.
    pub loaded: u64,
    /// Those of them that did not stay.
    pub lent: u64,
    /// Commands that waited for a load.
    pub waits: u64,
    /// Reads made under the locks (EXEC and scripts on undeclared keys).
    pub blocking_reads: u64,
    /// Those of them that failed.
    pub failed_reads: u64,
}

impl Tiering {
    /// Tiering into an empty store, for values of about `hot_bytes` in memory.
    pub fn new(cold: Arc<ColdStore>, queue: Arc<TierQueue>, hot_bytes: u64) -> Self {
        Self {
            cold,
            queue,
            pending: HashMap::new(),
            next_seq: 0,
            loads: HashMap::new(),
            pins: HashMap::new(),
            absent: HashSet::new(),
            denied: denied::Denied::default(),
            presence: presence::Presence::default(),
            lent: None,
            lends: false,
            admission: Admission::new(hot_bytes),
            pressure: (false, false),
            stats: TieringStats::default(),
        }
    }

    /// From now on memory holds about `hot_bytes` of values.
    pub fn set_hot_bytes(&mut self, hot_bytes: u64) {
        self.admission.resize(hot_bytes);
    }

    /// Registers a queued operation of a key; any read of it under way is out of date.
    fn register(&mut self, key: &TierKey) -> u64 {
        self.next_seq += 1;
        if let Some(load) = self.loads.get_mut(key) {
            load.mark_stale();
        }
        self.absent.remove(key);
        self.denied.forget(key);
        self.pending.insert(key.clone(), self.next_seq);
        self.next_seq
    }

    fn delete(&mut self, key: TierKey, times: Times) {
        let seq = self.register(&key);
        self.queue.push(TierOp::Delete { key, times, seq });
    }

    /// Queues a record as it is; its entry is marked by the caller.
    pub(super) fn put(&mut self, key: TierKey, record: Vec<u8>, times: Times) {
        let seq = self.register(&key);
        self.stats.spilled += 1;
        self.queue.push(TierOp::Put {
            key,
            record,
            times,
            seq,
        });
    }

    /// Whether values leave as soon as they can.
    pub(super) fn under_pressure(&self) -> bool {
        self.pressure.0
    }

    pub(super) fn note_present(&mut self, key: impl FnOnce() -> TierKey) {
        if !self.absent.is_empty() || !self.loads.is_empty() {
            let key = key();
            self.absent.remove(&key);
            if let Some(load) = self.loads.get_mut(&key) {
                load.mark_stale();
            }
        }
    }

    fn note_absent(&mut self, key: TierKey) {
        if self.absent.len() >= ABSENT_MAX {
            self.absent.clear();
        }
        self.absent.insert(key);
    }
}

/// The times that stand beside an entry's record.
pub(super) fn times_of(entry: &Entry) -> Times {
    Times {
        key: entry.expire(),
        fields: entry.field_time(),
    }
}

/// What left memory.
#[derive(Debug)]
pub struct Dropped {
    /// The value, to be freed without the lock; `None` where only a stub was.
    pub value: Option<Entry>,
    /// Bytes of it.
    pub bytes: usize,
}

impl Dropped {
    fn value(entry: Entry) -> Self {
        Self {
            bytes: entry.memory_bytes(),
            value: Some(entry),
        }
    }
}

impl Database {
    /// The tier's name of a key of this database.
    pub fn tier_key(&self, hash: KeyHash, key: &[u8]) -> TierKey {
        TierKey::new(self.generation, hash, key)
    }
}

impl Keyspace {
    /// Turns tiering on, before the first key.
    pub fn enable_tiering(&mut self, tiering: Tiering) {
        self.tiering = Some(Box::new(tiering));
    }

    /// The one gate before an entry's value changes or the entry goes: the snapshot's pre-image,
    /// and the step from clean to dirty with its tier delete.
    pub(super) fn before_change(&mut self, index: usize, hash: KeyHash, key: &[u8]) {
        let database = &mut self.databases[index];
        let generation = database.generation;
        let entry = match database.table.find_value_mut(hash, key) {
            Some(entry) => entry,
            None => match database.table.unpack_stub(hash, key) {
                Some(entry) => entry,
                None => return,
            },
        };
        if entry.epoch() != self.epoch {
            if let Some(snapshot) = &mut self.snapshot
                && entry.is_dirty()
            {
                snapshot.pre_image(generation, entry, &self.access);
            }
            entry.set_epoch(self.epoch);
        }
        if !entry.is_dirty() {
            entry.set_dirty(true);
            entry.set_in_flight(false);
            if let Some(tiering) = &mut self.tiering {
                let times = times_of(entry);
                tiering.delete(TierKey::new(generation, hash, key), times);
            }
        }
    }

    /// A new entry is about to be inserted.
    pub(super) fn note_inserted(&mut self, index: usize, hash: KeyHash, entry: &mut Entry) {
        if let Some(tiering) = &mut self.tiering {
            let database = &self.databases[index];
            tiering.note_present(|| database.tier_key(hash, entry.key()));
            tiering.admission.admit(database.generation, hash, entry);
        }
    }

    /// A clean entry's expiry changed: a small blind write beside the record.
    pub(super) fn tier_set_expire(
        &mut self,
        index: usize,
        hash: KeyHash,
        key: &[u8],
        old: Option<i64>,
        new: Option<i64>,
    ) {
        let database = &self.databases[index];
        let tier_key = database.tier_key(hash, key);
        let found = database.table.find(hash, key);
        let fields = found.and_then(Found::field_time);
        if let Some(tiering) = &mut self.tiering {
            let seq = tiering.register(&tier_key);
            tiering.queue.push(TierOp::SetTimes {
                key: tier_key,
                old: Times { key: old, fields },
                new: Times { key: new, fields },
                seq,
            });
        }
    }

    /// Queues a dirty value for the tier; it becomes clean now, and may leave memory once the
    /// put is applied. False if it can't be spilled at the moment.
    pub fn spill(&mut self, index: usize, hash: KeyHash, key: &[u8]) -> bool {
        let tier_key = self.databases[index].tier_key(hash, key);
        let Some(tiering) = &mut self.tiering else {
            return false;
        };
        if tiering.pins.contains_key(&tier_key) {
            return false;
        }
        let generation = self.databases[index].generation;
        let table = &mut self.databases[index].table;
        let Some(entry) = table.find_value_mut(hash, key) else {
            return false;
        };
        if !entry.is_dirty() {
            return false;
        }
        let Some(value) = entry.value() else {
            return false;
        };
        if entry.epoch() != self.epoch
            && let Some(snapshot) = &mut self.snapshot
        {
            snapshot.pre_image(generation, entry, &self.access);
        }
        let mut record = Vec::new();
        codec::encode(value, &mut record);
        let seq = tiering.register(&tier_key);
        let times = times_of(entry);
        entry.set_epoch(self.epoch);
        entry.set_dirty(false);
        entry.set_in_flight(true);
        tiering.stats.spilled += 1;
        tiering.queue.push(TierOp::Put {
            key: tier_key,
            record,
            times,
            seq,
        });
        true
    }

    /// Replaces a clean value by its stub, or (`whole`) removes what is in memory of the key.
    pub fn drop_clean(
        &mut self,
        index: usize,
        hash: KeyHash,
        key: &[u8],
        whole: bool,
    ) -> Option<Dropped> {
        let tier_key = self.databases[index].tier_key(hash, key);
        let tiering = self.tiering.as_mut()?;
        if tiering.pins.contains_key(&tier_key) {
            return None;
        }
        let table = &mut self.databases[index].table;
        let found = table.find(hash, key)?;
        let is_stub = found.is_stub();
        let whole = whole || (key.len() > STUB_KEY_BYTES_MAX && !is_stub);
        if found.is_dirty() || found.is_in_flight() || (is_stub && !whole) {
            return None;
        }
        if whole {
            // An operation on the record (an expiry) may still be queued: until it is applied the
            // stub is what makes it visible.
            // A read under way may have seen an older expiry: the stub has the one that counts.
            if tiering.pending.contains_key(&tier_key) || tiering.loads.contains_key(&tier_key) {
                return None;
            }
            tiering.stats.stubs_dropped += 1;
            if is_stub {
                let bytes = table.remove_stub(hash, key)?;
                return Some(Dropped { value: None, bytes });
            }
            return table.release(hash, key).map(Dropped::value);
        }
        tiering.stats.dropped += 1;
        table.value_to_stub(hash, key).map(Dropped::value)
    }

    /// The applier has written these operations. Under memory pressure their values leave at
    /// once; the caller frees them without the lock.
    pub fn applied(&mut self, applied: &[(TierKey, u64)]) -> Vec<Entry> {
        let mut dropped = Vec::new();
        for (tier_key, seq) in applied {
            let index = self.database_of(tier_key.generation());
            let Some(tiering) = &mut self.tiering else {
                break;
            };
            if tiering.pending.get(tier_key) != Some(seq) {
                continue;
            }
            tiering.pending.remove(tier_key);
            let (values, stubs) = tiering.pressure;
            let Some(index) = index else { continue };
            let hash = self.positioner.hash(tier_key.key());
            let table = &mut self.databases[index].table;
            if let Some(load) = tiering.loads.get_mut(tier_key)
                && table
                    .find_stub(hash, tier_key.key())
                    .is_some_and(|stub| stub.in_flight)
            {
                // It may have begun before the record was there.
                load.mark_stale();
            }
            if !table.end_flight(hash, tier_key.key()) || !values {
                continue;
            }
            // What was wanted again since it was chosen stays.
            let entry = table.find_value(hash, tier_key.key());
            if entry.is_none_or(|entry| entry.heat() == 0 && !entry.is_on_probation()) {
                let left = self.drop_clean(index, hash, tier_key.key(), stubs);
                dropped.extend(left.and_then(|left| left.value));
            }
        }
        dropped
    }

    /// [`Self::applied`] for all that the applier has left for who has the lock. Returns what
    /// left memory.
    pub fn take_applied(&mut self) -> Vec<Entry> {
        let Some(queue) = self.tiering.as_ref().map(|tiering| tiering.queue.clone()) else {
            return Vec::new();
        };
        self.applied(&queue.take_applied())
    }

    /// As [`Self::take_applied`], for the first of it.
    pub fn take_some_applied(&mut self) -> Vec<Entry> {
        let Some(queue) = self.tiering.as_ref().map(|tiering| tiering.queue.clone()) else {
            return Vec::new();
        };
        self.applied(&queue.take_some_applied(APPLIED_AT_ONCE))
    }

    /// Whether more may be spilled.
    pub(super) fn tier_has_room(&self) -> bool {
        let tiering = self.tiering.as_ref();
        tiering.is_some_and(|tiering| tiering.queue.has_room())
    }

    /// Bytes of what is on its way to the tier.
    pub(super) fn tier_queue_bytes(&self) -> u64 {
        let tiering = self.tiering.as_ref();
        tiering.map_or(0, |tiering| tiering.queue.bytes() as u64)
    }

    /// Bytes of memory that the tier takes: cache, memtables, and what is on its way.
    pub(super) fn tier_memory_bytes(&self) -> u64 {
        let bytes = |tiering: &Tiering| (tiering.cold.cache_bytes() + tiering.queue.bytes()) as u64;
        self.tiering.as_deref().map_or(0, bytes)
    }

    /// Records that the tier has taken so far.
    pub(super) fn tier_puts(&self) -> u64 {
        let puts = |tiering: &Tiering| tiering.cold.stats.puts.load(Ordering::Relaxed);
        self.tiering.as_deref().map_or(0, puts)
    }

    /// Bytes of records that the tier has taken so far.
    pub(super) fn tier_put_bytes(&self) -> u64 {
        let bytes = |tiering: &Tiering| tiering.cold.stats.put_bytes.load(Ordering::Relaxed);
        self.tiering.as_deref().map_or(0, bytes)
    }

    /// Sets what [`Keyspace::applied`] does with values.
    pub fn set_pressure(&mut self, values: bool, stubs: bool) {
        if let Some(tiering) = &mut self.tiering {
            tiering.pressure = (values, stubs);
        }
    }

    /// The database that a generation is the content of.
    pub fn database_of(&self, generation: u32) -> Option<usize> {
        self.databases
            .iter()
            .position(|d| d.generation == generation)
    }
}
