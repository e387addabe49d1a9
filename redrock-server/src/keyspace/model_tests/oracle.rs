//! What must be true: after each step, now and then, and at the end.

use super::super::cold::key::TierKey;
use super::super::cold::{DueIndex, Times};
use super::super::hot::found::Found;
use super::super::tiering::fifo::TierOp;
use super::world::{World, decode, value_of};
use super::{DATABASES, Value};
use std::collections::{BTreeMap, BTreeSet};

fn earliest(value: &Value) -> Option<i64> {
    match value {
        Value::Hash(fields) => fields.values().filter_map(|(_, time)| *time).min(),
        Value::String(_) => None,
    }
}

fn is_timed(value: &Value) -> bool {
    earliest(value).is_some()
}

impl World {
    /// DBSIZE and its like, exact at any time.
    pub(super) fn check_counts(&self) {
        for index in 0..DATABASES {
            let database = self.keyspace.database(index).expect("a database");
            let entries = &self.model[index];
            let expires = entries.values().filter(|(_, expire)| expire.is_some());
            let timed = entries.values().filter(|(value, _)| is_timed(value));
            assert_eq!(database.keys, entries.len() as u64, "DBSIZE");
            assert_eq!(database.expires, expires.count() as u64, "expiries");
            assert_eq!(database.timed, timed.count() as u64, "timed hashes");
        }
    }

    /// What memory has of a key is what the model has.
    pub(super) fn check_entry(&self, index: usize, key: &[u8]) {
        let hash = self.keyspace.positioner.hash(key);
        if let Some(found) = self.keyspace.databases[index].table.find(hash, key) {
            self.check_found(index, found);
        }
    }

    fn check_found(&self, index: usize, found: Found<'_>) {
        let name = found.key().escape_ascii();
        let Some((value, expire)) = self.model[index].get(found.key()) else {
            panic!("{name} is in memory and does not exist");
        };
        assert_eq!(found.expire(), *expire, "the expiry of {name}");
        assert_eq!(found.field_time(), earliest(value), "a field of {name}");
        if let Some(found) = found.value() {
            assert_eq!(value_of(found), *value, "the value of {name}");
        }
    }

    /// The live databases' part of the tier as it will be when the queue is empty.
    fn tier_to_come(&self) -> BTreeMap<TierKey, (Vec<u8>, Times)> {
        let mut tier = BTreeMap::new();
        for database in &self.keyspace.databases[..DATABASES] {
            let all = self.store.scan_keys(database.generation, 0, usize::MAX);
            for (_, key) in all.expect("scan").0 {
                let hash = self.keyspace.positioner.hash(&key);
                let tier_key = database.tier_key(hash, &key);
                let value = self.store.get(&tier_key).expect("read");
                let times = self.store.times_of(&tier_key).expect("read");
                tier.insert(tier_key, (value.expect("just seen").record, times));
            }
        }
        self.queue.for_each(|op| match op {
            TierOp::Put {
                key, record, times, ..
            } => {
                tier.insert(key.clone(), (record.clone(), *times));
            }
            TierOp::Delete { key, .. } => {
                tier.remove(key);
            }
            TierOp::SetTimes { key, new, .. } => {
                // After a write in vain what is deleted behind this may be gone already.
                if let Some((_, times)) = tier.get_mut(key) {
                    *times = *new;
                }
            }
            TierOp::ForgetDue { .. } | TierOp::DropGeneration(_) | TierOp::Marker(_) => {}
        });
        tier.retain(|key, _| self.keyspace.database_of(key.generation()).is_some());
        tier
    }

    /// The data set is the tier, once its queue is empty, plus what is dirty, and nothing is in both
    /// (I6); all of it is what the model has.
    pub(super) fn check_everything(&self) {
        let mut tier = self.tier_to_come();
        for index in 0..DATABASES {
            let table = &self.keyspace.databases[index].table;
            for (key, (value, expire)) in &self.model[index] {
                let found = table.find(self.keyspace.positioner.hash(key), key);
                if let Some(found) = found {
                    self.check_found(index, found);
                }
                let name = key.escape_ascii();
                let cold = tier.remove(&self.keyspace.tier_key(index, key));
                let is_dirty = found.is_some_and(Found::is_dirty);
                assert_eq!(cold.is_none(), is_dirty, "where {name} is");
                if let Some((record, times)) = cold {
                    assert_eq!(decode(&record), *value, "the record of {name}");
                    let fields = earliest(value);
                    let key = *expire;
                    assert_eq!(times, Times { key, fields }, "the times of {name}");
                }
            }
        }
        assert!(tier.is_empty(), "the tier has what is gone: {tier:?}");
    }

    /// Everything agrees with the model once the queue is empty.
    pub(super) fn settle(&mut self) {
        while self.taking.is_some() {
            self.walk();
            self.apply();
        }
        self.finish_reads();
        self.finish_expiring();
        self.drain();
        self.check_everything();
        assert_eq!(self.keyspace.pinned(), 0, "pins are left");
        self.check_index();
        self.check_flushed();
        for index in 0..DATABASES {
            for number in 0..40 {
                let key = format!("key:{number}").into_bytes();
                self.check(index, &key);
            }
        }
        self.check_counts();
    }

    /// Each entry of the expiry index is true, and none is missing, but for flushed databases.
    fn check_index(&self) {
        for part in [DueIndex::Keys, DueIndex::Fields] {
            let all = self.store.due(part, i64::MAX, usize::MAX).expect("scan");
            let known = all.into_iter().filter_map(|(time, key)| {
                let index = self.keyspace.database_of(key.generation())?;
                Some((index, key.key().to_vec(), time))
            });
            let known: BTreeSet<_> = known.collect();
            let mut expected = BTreeSet::new();
            for index in 0..DATABASES {
                let generation = self.keyspace.databases[index].generation;
                let all = self.store.scan_keys(generation, 0, usize::MAX);
                for (_, key) in all.expect("scan").0 {
                    let (value, expire) = &self.model[index][&key];
                    let time = match part {
                        DueIndex::Keys => *expire,
                        DueIndex::Fields => earliest(value),
                    };
                    expected.extend(time.map(|time| (index, key.clone(), time)));
                }
            }
            assert_eq!(known, expected, "{part:?}");
        }
    }

    /// Nothing of a flushed database is left on disk.
    fn check_flushed(&self) {
        for generation in 0..self.keyspace.next_generation {
            if self.keyspace.database_of(generation).is_none() {
                let all = self.store.scan_keys(generation, 0, usize::MAX);
                let left = all.expect("scan").0;
                assert!(left.is_empty(), "records of a flushed database are left");
            }
        }
    }
}
