//! The keyspace with its tier, the model beside it, and the steps that both take.

use super::super::cold::key::TierKey;
use super::super::cold::options::ColdBudget;
use super::super::cold::{ColdStore, ColdValue, Times};
use super::super::db::Db;
use super::super::hot::entry::Entry as HotEntry;
use super::super::position::Positioner;
use super::super::tiering::Tiering;
use super::super::tiering::fifo::{Applied, TierQueue};
use super::super::tiering::loader::{Join, LoadResult};
use super::super::tiering::one_read::OneRead;
use super::super::tiering::sweep::Hand;
use super::super::{ExpireMode, Keyspace};
use super::taking::Taking;
use super::{DATABASES, Model, NOW, Silent, Tally, Value};
use crate::command::CommandError;
use crate::command::effect::Effect;
use crate::value::{ValueRef, codec};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot::Receiver;

/// So little that some values are on probation too long.
const HOT_BYTES: u64 = 64 << 10;

/// A read under way: what it saw, whether the key is pinned, and who waits for it.
pub(super) struct Read {
    pub(super) tier_key: TierKey,
    pub(super) value: Option<ColdValue>,
    pub(super) pinned: bool,
    pub(super) waiters: Vec<Receiver<LoadResult>>,
}

pub(super) struct World {
    pub(super) random: StdRng,
    pub(super) keyspace: Keyspace,
    pub(super) store: Arc<ColdStore>,
    pub(super) queue: Arc<TierQueue>,
    pub(super) model: Model,
    pub(super) reads: Vec<Read>,
    /// Reads for one command each: what they have read, for which database it was.
    pub(super) one_reads: Vec<(usize, OneRead)>,
    /// What active expiry has found due and read the times of.
    pub(super) expiring: Vec<(i64, TierKey, Times)>,
    /// What was written and the keyspace has not been told of.
    pub(super) untold: Applied,
    pub(super) hand: Hand,
    pub(super) taking: Option<Taking>,
    pub(super) tally: Tally,
    /// Its steps are printed.
    pub(super) is_traced: bool,
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

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
        let store = Arc::new(store);
        let queue = Arc::new(TierQueue::new(1 << 20));
        let mut keyspace = Keyspace::new(DATABASES, Positioner::new((seed, 7)));
        keyspace.expire_mode = ExpireMode::Delete;
        keyspace.enable_tiering(Tiering::new(store.clone(), queue.clone(), HOT_BYTES));
        Self {
            random: StdRng::seed_from_u64(seed),
            keyspace,
            store,
            queue,
            model: vec![BTreeMap::new(); DATABASES],
            reads: Vec::new(),
            one_reads: Vec::new(),
            expiring: Vec::new(),
            untold: Applied::new(),
            hand: Hand::default(),
            taking: None,
            tally: Tally::default(),
            is_traced: false,
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
                Err(CommandError::Cold(index, key)) => self.load_now(index, &key),
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("a key stays cold");
    }

    pub(super) fn note(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
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
            // Another read of it is under way, or active expiry's: it ends now.
            self.finish_reads();
            self.finish_expiring();
        }
        self.keyspace.unpin(index, key);
    }

    /// One step, and what must be true after each.
    pub(super) fn step(&mut self) {
        let index = self.random.random_range(0..DATABASES);
        let key = self.key();
        let step = self.random.random_range(0..112);
        if self.is_traced {
            println!("{step} {index} {}", key.escape_ascii());
        }
        match step {
            0..20 => self.set(index, key.clone()),
            20..26 => self.hset(index, key.clone()),
            26..28 => self.expire_fields(index, key.clone()),
            28..36 => self.append(index, key.clone()),
            36..44 => self.remove(index, key.clone()),
            44..50 => self.expire(index, key.clone()),
            50..54 => self.check(index, &key),
            54..58 => self.look(index, &key),
            58..60 => self.scan(index),
            60..72 => self.spill(index, &key),
            72..82 => self.drop(index, &key),
            82..90 => self.apply(),
            90..92 => self.start_read(index, &key),
            92 => self.overtake_read(index, &key),
            93 if self.random.random_bool(0.7) => self.start_one_read(index, &key),
            93 => self.finish_reads(),
            94..96 => self.flush(index),
            96 => self.swap(),
            97 => self.cut(),
            98 => self.load_to_tier(index, key.clone()),
            99..101 => self.walk(),
            101 => self.finish_one_read(),
            102..104 => self.rename(index, &key),
            104 => self.copy(index, &key),
            105..108 => self.make_room(),
            108 => self.press(),
            109 => self.apply_in_vain(),
            110 => self.begin_expiring(),
            _ => self.finish_expiring(),
        }
        self.check_memory();
        self.check_counts();
        self.check_entry(index, &key);
        if self.random.random_range(0..16) == 0 {
            self.check_everything();
        }
    }
}
