//! The keyspace with its tier, the model beside it, and the steps that both take.

use super::super::cold::key::TierKey;
use super::super::cold::options::ColdBudget;
use super::super::cold::{ColdStore, ColdValue, DueIndex};
use super::super::db::{Db, Expiry};
use super::super::hot::entry::Entry as HotEntry;
use super::super::position::Positioner;
use super::super::tiering::Tiering;
use super::super::tiering::fifo::TierQueue;
use super::super::tiering::loader::{Join, LoadResult};
use super::super::{ExpireMode, Keyspace};
use super::taking::Taking;
use super::{DATABASES, Model, NOW, Silent, Value};
use crate::command::CommandError;
use crate::command::effect::Effect;
use crate::value::{Limits, ValueRef, codec, hash::Hash};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot::Receiver;

pub(super) struct World {
    pub(super) random: StdRng,
    pub(super) keyspace: Keyspace,
    pub(super) store: Arc<ColdStore>,
    pub(super) queue: Arc<TierQueue>,
    pub(super) model: Model,
    reads: Vec<(TierKey, Option<ColdValue>, Receiver<LoadResult>)>,
    pub(super) taking: Option<Taking>,
    pub(super) snapshots: usize,
    /// Few keys make rare sequences of one key likely.
    key_count: u32,
    _folder: tempfile::TempDir,
}

pub(super) fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Int(n) => Value::String(n.to_string().into_bytes()),
        ValueRef::Str(bytes) => Value::String(bytes.to_vec()),
        ValueRef::Hash(hash) => {
            let pairs = hash.iter();
            let time = |field: &[u8]| hash.time_of(field).flatten();
            Value::Hash(
                pairs
                    .map(|(f, v)| (f.to_vec(), (v.to_vec(), time(&f.to_vec()))))
                    .collect(),
            )
        }
        other => panic!("unexpected type {:?}", other.object_type()),
    }
}

pub(super) fn decode(record: &[u8]) -> Value {
    let decoded = codec::decode(record).expect("our own record");
    let entry = HotEntry::new(b"k", decoded.as_new_value(), None);
    value_of(entry.value().expect("a value"))
}

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
    pub(super) fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
        let store = Arc::new(store);
        let queue = Arc::new(TierQueue::new(1 << 20));
        let mut keyspace = Keyspace::new(DATABASES, Positioner::new((seed, 7)));
        keyspace.expire_mode = ExpireMode::Delete;
        keyspace.enable_tiering(Tiering::new(store.clone(), queue.clone(), 1 << 20));
        Self {
            random: StdRng::seed_from_u64(seed),
            keyspace,
            store,
            queue,
            model: vec![BTreeMap::new(); DATABASES],
            reads: Vec::new(),
            taking: None,
            snapshots: 0,
            key_count: if seed.is_multiple_of(2) { 4 } else { 40 },
            _folder: folder,
        }
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        format!("key:{}", self.random.random_range(0..self.key_count)).into_bytes()
    }

    /// Runs `command` as the dispatcher does: cold keys are read, then it runs again.
    pub(super) fn with_db<T>(
        &mut self,
        index: usize,
        mut command: impl FnMut(&mut Db<'_>) -> Result<T, CommandError>,
    ) -> T {
        for _ in 0..100 {
            let mut effect = Effect::default();
            let mut db = Db::new(&mut self.keyspace, &Silent, &mut effect, index, NOW);
            match command(&mut db) {
                Ok(value) => return value,
                Err(CommandError::Cold(_, key)) => self.load_now(index, &key),
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("a key stays cold");
    }

    fn load_now(&mut self, index: usize, key: &[u8]) {
        if let Join::Wait {
            start: Some(tier_key),
            mut done,
        } = self.keyspace.join_load(index, key)
        {
            let mut read = self.store.get(&tier_key).expect("read");
            while read.is_none() && !self.queue.is_empty() {
                // Its put may still be queued.
                self.apply();
                read = self.store.get(&tier_key).expect("read");
            }
            self.keyspace.finish_load(&tier_key, Ok(read)).wake();
            assert_eq!(done.try_recv(), Ok(Ok(())), "a value was not found");
        } else {
            // Another read of it is under way: it ends now.
            self.finish_reads();
        }
        self.keyspace.unpin(index, key);
    }

    fn finish_reads(&mut self) {
        for (tier_key, value, mut done) in std::mem::take(&mut self.reads) {
            self.keyspace.finish_load(&tier_key, Ok(value)).wake();
            assert_eq!(done.try_recv(), Ok(Ok(())), "a value was not found");
        }
    }

    pub(super) fn step(&mut self) {
        let index = self.random.random_range(0..DATABASES);
        let key = self.key();
        match self.random.random_range(0..100) {
            0..20 => self.set(index, key),
            20..26 => self.hset(index, key),
            26..28 => self.expire_fields(index, key),
            28..36 => self.append(index, key),
            36..44 => self.remove(index, key),
            44..50 => self.expire(index, key),
            50..54 => self.check(index, &key),
            54..58 => self.look(index, &key),
            58..60 => self.scan(index),
            60..72 => self.spill(index, &key),
            72..82 => self.drop(index, &key),
            82..90 => self.apply(),
            90..92 => self.start_read(index, &key),
            92 => self.overtake_read(index, &key),
            93 => self.finish_reads(),
            94..96 => self.flush(index),
            96 => self.swap(),
            97 => self.cut(),
            98 => self.load_to_tier(index, key),
            _ => self.walk(),
        }
        self.check_memory();
    }

    fn set(&mut self, index: usize, key: Vec<u8>) {
        let long = self.random.random_bool(0.1);
        let len = self.random.random_range(0..if long { 9000 } else { 40 });
        let value: Vec<u8> = (0..len)
            .map(|_| self.random.random_range(b'0'..b'z'))
            .collect();
        let expiry = match self.random.random_range(0..3) {
            0 => Expiry::Clear,
            1 => Expiry::Keep,
            _ => Expiry::At(NOW + self.random.random_range(1..1000)),
        };
        self.with_db(index, |db| db.set_string(&key, &value, expiry));
        let old = self.model[index].get(&key).and_then(|entry| entry.1);
        let expire = match expiry {
            Expiry::Clear => None,
            Expiry::Keep => old,
            Expiry::At(ms) => Some(ms),
        };
        self.model[index].insert(key, (Value::String(value), expire));
    }

    fn hset(&mut self, index: usize, key: Vec<u8>) {
        if matches!(self.model[index].get(&key), Some((Value::String(_), _))) {
            return;
        }
        let field = format!("f{}", self.random.random_range(0..200)).into_bytes();
        let value = vec![b'v'; self.random.random_range(0..90)];
        let time = self
            .random
            .random_bool(0.3)
            .then(|| NOW + self.random.random_range(-50..50));
        self.with_db(index, |db| {
            let hash = db.write_or_create::<Hash>(&key)?;
            hash.set(&field, &value, &Limits::default());
            hash.set_time(&field, time);
            db.fields_changed(&key);
            Ok(())
        });
        let entry = self.model[index]
            .entry(key)
            .or_insert((Value::Hash(BTreeMap::new()), None));
        if let Value::Hash(fields) = &mut entry.0 {
            fields.insert(field, (value, time));
        }
    }

    /// What active expiry does to a hash in memory.
    fn expire_fields(&mut self, index: usize, key: Vec<u8>) {
        self.with_db(index, |db| {
            db.peek(&key)?;
            while db.expire_fields(&key, 3)? > 0 {}
            Ok(())
        });
        let Some((Value::Hash(fields), _)) = self.model[index].get_mut(&key) else {
            return;
        };
        fields.retain(|_, (_, time)| time.is_none_or(|ms| ms >= NOW));
        if fields.is_empty() {
            self.model[index].remove(&key);
        }
    }

    fn append(&mut self, index: usize, key: Vec<u8>) {
        if matches!(self.model[index].get(&key), Some((Value::Hash(_), _))) {
            return;
        }
        self.with_db(index, |db| {
            db.string_mut(&key)?.extend_from_slice(b"+tail");
            Ok(())
        });
        let entry = self.model[index]
            .entry(key)
            .or_insert((Value::String(Vec::new()), None));
        if let Value::String(bytes) = &mut entry.0 {
            bytes.extend_from_slice(b"+tail");
        }
    }

    fn remove(&mut self, index: usize, key: Vec<u8>) {
        let removed = self.with_db(index, |db| db.remove(&key));
        assert_eq!(removed, self.model[index].remove(&key).is_some());
    }

    fn expire(&mut self, index: usize, key: Vec<u8>) {
        let expire = self
            .random
            .random_bool(0.7)
            .then(|| NOW + self.random.random_range(1..999));
        let found = self.with_db(index, |db| db.set_expire(&key, expire));
        assert_eq!(found, self.model[index].contains_key(&key));
        if let Some(entry) = self.model[index].get_mut(&key) {
            entry.1 = expire;
        }
    }

    fn check(&mut self, index: usize, key: &[u8]) {
        let found = self.with_db(index, |db| {
            let expire = db.presence(key)?.and_then(|presence| presence.expire);
            Ok(db.read_any(key)?.map(|value| (value_of(value), expire)))
        });
        assert_eq!(
            found.as_ref(),
            self.model[index].get(key),
            "{}",
            String::from_utf8_lossy(key)
        );
    }

    pub(super) fn spill(&mut self, index: usize, key: &[u8]) {
        let hash = self.keyspace.positioner.hash(key);
        self.keyspace.spill(index, hash, key);
    }

    pub(super) fn drop(&mut self, index: usize, key: &[u8]) {
        let hash = self.keyspace.positioner.hash(key);
        let whole = self.random.random_bool(0.5);
        drop(self.keyspace.drop_clean(index, hash, key, whole));
    }

    pub(super) fn apply(&mut self) {
        let applied = self.queue.apply_one_batch(&self.store);
        drop(self.keyspace.applied(&applied));
    }

    /// A read that is slow: what it saw arrives later.
    fn start_read(&mut self, index: usize, key: &[u8]) {
        if let Join::Wait {
            start: Some(tier_key),
            done,
        } = self.keyspace.join_load(index, key)
        {
            let value = self.store.get(&tier_key).expect("read");
            self.reads.push((tier_key, value, done));
        }
        self.keyspace.unpin(index, key);
    }

    /// A read of a cold key that is overtaken by changes of that very key: what it saw is out of
    /// date when it arrives, and must not come to life.
    fn overtake_read(&mut self, index: usize, key: &[u8]) {
        self.spill(index, key);
        while !self.queue.is_empty() {
            self.apply();
        }
        self.drop(index, key);
        self.start_read(index, key);
        for _ in 0..self.random.random_range(1..6) {
            match self.random.random_range(0..10) {
                0..2 => self.set(index, key.to_vec()),
                2..5 => self.remove(index, key.to_vec()),
                5 => self.expire(index, key.to_vec()),
                6 => self.spill(index, key),
                7 => self.drop(index, key),
                _ => self.apply(),
            }
        }
        self.finish_reads();
        self.check(index, key);
    }

    fn flush(&mut self, index: usize) {
        self.keyspace.flush(index, false);
        drop(self.keyspace.garbage.take());
        self.model[index].clear();
    }

    fn swap(&mut self) {
        let (a, b) = (
            self.random.random_range(0..DATABASES),
            self.random.random_range(0..DATABASES),
        );
        self.keyspace.swap(a, b);
        self.model.swap(a, b);
    }

    /// Everything agrees with the model once the queue is empty.
    pub(super) fn settle(&mut self) {
        while self.taking.is_some() {
            self.walk();
            self.apply();
        }
        self.finish_reads();
        while !self.queue.is_empty() {
            self.apply();
        }
        for index in 0..DATABASES {
            let database = self.keyspace.database(index).expect("a database");
            let expires = self.model[index].values().filter(|e| e.1.is_some()).count();
            assert_eq!(database.keys, self.model[index].len() as u64, "DBSIZE");
            assert_eq!(database.expires, expires as u64, "keys with an expiry");
            let timed = self.model[index].values().filter(|e| is_timed(&e.0));
            assert_eq!(database.timed, timed.count() as u64, "timed hashes");
            for number in 0..40 {
                let key = format!("key:{number}").into_bytes();
                self.check(index, &key);
            }
        }
        self.check_tier();
        self.check_index();
    }

    /// Each entry of the expiry index is true, and none is missing, but for flushed databases.
    fn check_index(&mut self) {
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

    /// The tier has neither dirty keys nor anything of a flushed database (I6).
    fn check_tier(&mut self) {
        while !self.queue.is_empty() {
            self.apply();
        }
        for generation in 0..self.keyspace.next_generation {
            let all = self.store.scan_keys(generation, 0, usize::MAX);
            let keys = all.expect("scan").0;
            let Some(index) = self.keyspace.database_of(generation) else {
                assert!(keys.is_empty(), "records of a flushed database are left");
                continue;
            };
            for (_, key) in keys {
                let hash = self.keyspace.positioner.hash(&key);
                let found = self.keyspace.databases[index].table.find(hash, &key);
                let tier_key = self.keyspace.tier_key(index, &key);
                let beside = self.store.times_of(&tier_key).expect("read");
                let (value, expire) = &self.model[index][&key];
                assert_eq!(beside.key, *expire, "the key's time");
                assert_eq!(beside.fields, earliest(value), "the first field's time");
                assert!(
                    found.is_none_or(|found| !found.is_dirty()),
                    "a dirty key is in the tier"
                );
            }
        }
    }
}
