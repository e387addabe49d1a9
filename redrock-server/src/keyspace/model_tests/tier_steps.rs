//! Steps of the tier: values on their way there and back, batches in part and in vain, room that is
//! made, and the expiry of what is cold.

use super::super::cold::DueIndex;
use super::super::db::Db;
use super::super::tiering::admission::FRUITLESS_MAX;
use super::super::tiering::cold_expiry::Due;
use super::super::tiering::lend::Reader;
use super::super::tiering::loader::{Join, ReadValue};
use super::super::tiering::one_read::{Need, OneRead};
use super::super::tiering::sweep::{Choice, Step};
use super::world::{Read, World, value_of};
use super::{DATABASES, NOW, Silent};
use crate::command::CommandError;
use crate::command::effect::Effect;
use rand::RngExt as _;

/// What active expiry takes for the time: some of the keys are past theirs.
const LATER: i64 = NOW + 500;

impl World {
    pub(super) fn spill(&mut self, index: usize, key: &[u8]) {
        let hash = self.keyspace.positioner.hash(key);
        self.keyspace.spill(index, hash, key);
    }

    pub(super) fn drop(&mut self, index: usize, key: &[u8]) {
        let hash = self.keyspace.positioner.hash(key);
        let whole = self.random.random_bool(0.5);
        drop(self.keyspace.drop_clean(index, hash, key, whole));
    }

    /// The tier's writer takes a batch or a part of one; the keyspace is told now or later.
    pub(super) fn apply(&mut self) {
        let count_max = match self.random.random_range(0..3) {
            0 => self.random.random_range(1..4),
            _ => usize::MAX,
        };
        let before = self.queue.bytes();
        self.untold
            .extend(self.queue.apply_some(&self.store, count_max));
        if before > 0 && !self.queue.is_empty() {
            self.note("a part of a batch");
        }
        if self.random.random_bool(0.7) {
            self.tell();
        } else if !self.untold.is_empty() {
            self.note("word of a batch that comes later");
        }
    }

    fn tell(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        drop(self.keyspace.applied(&untold));
    }

    /// All that is queued is applied, and told.
    pub(super) fn drain(&mut self) {
        while !self.queue.is_empty() {
            self.apply();
        }
        self.tell();
    }

    /// A write that fails half-way: it is tried again.
    pub(super) fn apply_in_vain(&mut self) {
        let count_max = self.random.random_range(1..6);
        if self.queue.apply_in_vain(&self.store, count_max) {
            self.note("a write in vain");
        }
    }

    /// A read that is slow: what it saw arrives later. Others may wait for the same one.
    pub(super) fn start_read(&mut self, index: usize, key: &[u8]) {
        let pinned = self.random.random_bool(0.5);
        match self.keyspace.join_load(index, key) {
            Join::Wait {
                start: Some(tier_key),
                done,
            } => {
                let value = self.store.get(&tier_key).expect("read");
                self.reads.push(Read {
                    tier_key,
                    value,
                    pinned,
                    waiters: vec![done],
                });
                if !pinned {
                    self.keyspace.unpin(index, key);
                }
                if self.random.random_bool(0.2) {
                    self.start_read(index, key);
                }
            }
            Join::Wait { start: None, done } => {
                let tier_key = self.keyspace.tier_key(index, key);
                self.keyspace.unpin(index, key);
                let mut reads = self.reads.iter_mut();
                if let Some(read) = reads.find(|read| read.tier_key == tier_key) {
                    read.waiters.push(done);
                    self.note("two who wait for one read");
                }
            }
            Join::Resident => self.keyspace.unpin(index, key),
        }
    }

    /// As [`World::start_read`] for a command that reads a string, and may be lent it.
    pub(super) fn start_one_read(&mut self, index: usize, key: &[u8]) {
        let reads_itself = self.random.random_bool(0.5);
        let need = self.keyspace.begin_read(index, key, NOW, || reads_itself);
        if let Need::Read(begun) = need {
            let read = self.store.get_as(begun.key(), ReadValue::decode);
            self.one_reads.push((index, begun.done(read, None)));
        }
    }

    /// What is lent is what the key has now, wherever its database is by now; the command runs anyhow.
    fn finish_one(&mut self, index: usize, read: OneRead) {
        let reader = Reader {
            touch: self.random.random_bool(0.5),
            now_ms: NOW,
        };
        let key = read.key().to_vec();
        read.finish(&mut self.keyspace, reader).expect("a value");
        let lent = self.keyspace.has_lent();
        if lent {
            self.note("a value that was lent");
        }
        for index in 0..DATABASES {
            let mut effect = Effect::default();
            let mut db = Db::new(&mut self.keyspace, &Silent, &mut effect, index, NOW);
            let found = match db.read_any(&key) {
                Ok(found) => found.map(value_of),
                Err(CommandError::Cold(..)) => continue,
                Err(error) => panic!("{error:?}"),
            };
            let expected = self.model[index].get(&key).map(|(value, _)| value.clone());
            assert_eq!(found, expected, "{}", key.escape_ascii());
        }
        drop(self.keyspace.take_lent());
        if !lent {
            self.check(index, &key);
        }
    }

    fn finish_read(&mut self, read: Read) {
        let loaded = |world: &Self| world.keyspace.tiering.as_ref().map(|t| t.stats.loaded);
        let before = loaded(self);
        let found = read.value.is_some();
        let finished = self.keyspace.finish_load(&read.tier_key, Ok(read.value));
        finished.wake();
        for mut done in read.waiters {
            assert_eq!(done.try_recv(), Ok(Ok(())), "a value was not found");
        }
        if found && loaded(self) == before {
            self.note("a read that was overtaken");
        }
        if read.pinned {
            self.keyspace.unpin_tier(&read.tier_key);
        }
    }

    pub(super) fn finish_reads(&mut self) {
        for read in std::mem::take(&mut self.reads) {
            self.finish_read(read);
        }
        // A check may need what another of them reads.
        while let Some((index, read)) = self.one_reads.pop() {
            self.finish_one(index, read);
        }
    }

    /// Reads end in any order.
    pub(super) fn finish_one_read(&mut self) {
        if !self.reads.is_empty() {
            let at = self.random.random_range(0..self.reads.len());
            let read = self.reads.swap_remove(at);
            self.finish_read(read);
        } else if let Some((index, read)) = self.one_reads.pop() {
            self.finish_one(index, read);
        }
    }

    /// A read of a cold key that is overtaken by changes of that very key: what it saw is out of
    /// date when it arrives, and must not come to life.
    pub(super) fn overtake_read(&mut self, index: usize, key: &[u8]) {
        self.spill(index, key);
        self.drain();
        self.drop(index, key);
        match self.random.random_bool(0.5) {
            true => self.start_read(index, key),
            false => self.start_one_read(index, key),
        }
        for _ in 0..self.random.random_range(1..6) {
            match self.random.random_range(0..14) {
                0..2 => self.set(index, key.to_vec()),
                2..5 => self.remove(index, key.to_vec()),
                5 => self.expire(index, key.to_vec()),
                6 => self.spill(index, key),
                7 => self.drop(index, key),
                8 => self.flush(index),
                9 => self.swap(),
                10 => self.rename(index, key),
                11 => self.begin_expiring(),
                _ => self.apply(),
            }
        }
        self.finish_reads();
        self.check(index, key);
    }

    /// What the governor does: values and stubs leave, as their heat and probation say.
    pub(super) fn make_room(&mut self) {
        let choices = [Choice::Coldest, Choice::Ahead, Choice::Stubs, Choice::All];
        let choice = choices[self.random.random_range(0..choices.len())];
        let step = Step {
            drop_values: choice != Choice::Ahead,
            drop_stubs: self.random.random_bool(0.5),
            spill: choice != Choice::Stubs,
            choice,
        };
        let fruitless = match self.random.random_range(0..3) {
            0 => FRUITLESS_MAX + self.random.random_range(1..3),
            _ => 0,
        };
        for _ in 0..self.random.random_range(1..4) {
            let swept = self.keyspace.make_room(&mut self.hand, step, fruitless);
            if !swept.dropped.is_empty() {
                self.note("room that was made");
            }
        }
    }

    pub(super) fn press(&mut self) {
        let (values, stubs) = (self.random.random_bool(0.5), self.random.random_bool(0.5));
        self.keyspace.set_pressure(values, stubs);
        self.keyspace.set_lending(self.random.random_bool(0.7));
    }

    /// Active expiry finds keys due and reads the times of those that are on disk only.
    pub(super) fn begin_expiring(&mut self) {
        let due = self.store.due(DueIndex::Keys, LATER, 8).expect("scan");
        for (time, key) in due {
            match self.keyspace.begin_cold_expiry(time, &key) {
                Due::Ask => {
                    let current = self.store.times_of(&key).expect("read");
                    self.expiring.push((time, key, current));
                }
                Due::Hot => {}
                Due::Stale => {
                    self.keyspace.forget_due(DueIndex::Keys, time, &key);
                    self.note("an index entry that was out of date");
                }
            }
        }
    }

    /// What was read arrives; by now the key may be another.
    pub(super) fn finish_expiring(&mut self) {
        for (time, key, current) in std::mem::take(&mut self.expiring) {
            let Some(index) = self.keyspace.end_cold_expiry(time, &key, current) else {
                continue;
            };
            let gone = self.model[index].remove(key.key());
            let due = gone.and_then(|(_, expire)| expire);
            assert_eq!(due, Some(time), "a key expires that is not due");
            let mut effect = Effect::default();
            let mut db = Db::new(&mut self.keyspace, &Silent, &mut effect, index, LATER);
            assert!(db.expire_if_due(key.key()));
            self.note("a key that expired on disk");
        }
    }
}
