//! Reading cold keys for commands that wait for them.
//!
//! One read serves all who wait for a key. A read is marked stale when an operation of its key is
//! queued meanwhile; what it returns is then thrown away and the waiting commands look again.
//! A loaded entry is pinned until the commands that waited for it have run; whether it stays for
//! longer is for [`super::admission`] to say.

use super::Tiering;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdValue};
use crate::keyspace::hot::entry::Entry;
use crate::keyspace::hot::found::Found;
use crate::value::{ObjectType, codec};
use redrock_rdb::object::ObjectError;
use tokio::sync::oneshot;

/// What a waiter learns: `Err` names the key and what is the matter with its value.
pub type LoadResult = Result<(), String>;

/// Bytes of a key that errors show.
const KEY_SHOWN_MAX: usize = 128;

/// How errors call a value.
fn name(key: &[u8]) -> String {
    let cut = key.get(..KEY_SHOWN_MAX);
    let dots = if cut.is_some() { "..." } else { "" };
    let shown = cut.unwrap_or(key).escape_ascii();
    format!("the value of key '{shown}{dots}'")
}

fn unreadable(key: &TierKey, error: &ColdError) -> String {
    let what = if error.is_damage() {
        "is damaged"
    } else {
        "can't be read"
    };
    format!("{} {what}: {error}", name(key.key()))
}

/// One read under way.
#[derive(Debug)]
pub struct Load {
    stale: bool,
    waiters: Vec<oneshot::Sender<LoadResult>>,
}

impl Load {
    /// What is being read is out of date.
    pub fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// A read that nobody else waits for yet.
    pub(super) fn alone() -> Self {
        Self {
            stale: false,
            waiters: Vec::new(),
        }
    }

    /// Whether what was read is for who has begun the read alone, and not out of date.
    pub(super) fn is_for_one(&self) -> bool {
        !self.stale && self.waiters.is_empty()
    }

    /// Whether what was read is out of date.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Makes commands that joined this read look again.
    pub(super) fn wake(self) {
        for waiter in self.waiters {
            // A waiter that is gone has closed its connection.
            let _ = waiter.send(Ok(()));
        }
    }
}

/// A read that is done, and who is to be told.
#[derive(Debug)]
#[must_use = "who waits must be woken"]
pub struct Finished {
    waiters: Vec<oneshot::Sender<LoadResult>>,
    result: LoadResult,
}

impl Finished {
    /// A read that went well, and that nobody waits for.
    pub(super) fn for_nobody() -> Self {
        Self {
            waiters: Vec::new(),
            result: Ok(()),
        }
    }

    /// How the read went.
    pub fn result(&self) -> &LoadResult {
        &self.result
    }

    /// Wakes who waits; without the lock, which is what they want next.
    pub fn wake(self) {
        for waiter in self.waiters {
            // A waiter that is gone has closed its connection.
            let _ = waiter.send(self.result.clone());
        }
    }
}

/// A value as it was read, decoded without the lock.
#[derive(Debug)]
pub struct ReadValue {
    decoded: Result<codec::Decoded, ObjectError>,
    object_type: ObjectType,
    expire: Option<i64>,
}

impl ReadValue {
    /// Decodes a record and takes in its key's expiry.
    pub fn decode(record: &[u8], expire: Option<i64>) -> Self {
        Self {
            decoded: codec::decode(record),
            object_type: codec::object_type(record),
            expire,
        }
    }

    /// Whether it is a string, and not damaged.
    pub(super) fn is_sound_string(&self) -> bool {
        self.object_type == ObjectType::String && self.decoded.is_ok()
    }

    /// When the key expires, as the tier has it.
    pub(super) fn expire(&self) -> Option<i64> {
        self.expire
    }

    /// The value itself; all of it again if there is none.
    pub(super) fn into_decoded(self) -> Result<codec::Decoded, Self> {
        let Self {
            decoded,
            object_type,
            expire,
        } = self;
        decoded.map_err(|error| Self {
            decoded: Err(error),
            object_type,
            expire,
        })
    }
}

/// Whether a read has to be started.
#[derive(Debug)]
pub enum Join {
    /// The key is in memory, or known to be absent.
    Resident,
    /// Wait for this; `start` names the key when the caller must start the read.
    Wait {
        /// Resolves when the read is done.
        done: oneshot::Receiver<LoadResult>,
        /// The read to start, if it isn't under way.
        start: Option<TierKey>,
    },
}

impl Keyspace {
    /// Asks for a key to be in memory; pins it. Every call is paired with one [`Keyspace::unpin`].
    pub fn join_load(&mut self, index: usize, key: &[u8]) -> Join {
        let hash = self.positioner.hash(key);
        let tier_key = self.databases[index].tier_key(hash, key);
        let resident = match self.databases[index].table.find(hash, key) {
            Some(found) => !found.is_stub(),
            // The filter, which is what takes time, has just said that it may be in the tier.
            None => self.is_known_absent(index, &tier_key),
        };
        let Some(tiering) = &mut self.tiering else {
            return Join::Resident;
        };
        *tiering.pins.entry(tier_key.clone()).or_insert(0) += 1;
        if resident {
            return Join::Resident;
        }
        tiering.stats.waits += 1;
        let (sender, done) = oneshot::channel();
        match tiering.loads.get_mut(&tier_key) {
            Some(load) => {
                load.waiters.push(sender);
                Join::Wait { done, start: None }
            }
            None => {
                let load = Load {
                    stale: false,
                    waiters: vec![sender],
                };
                tiering.loads.insert(tier_key.clone(), load);
                Join::Wait {
                    done,
                    start: Some(tier_key),
                }
            }
        }
    }

    /// Begins reads that the caller makes itself, at once, and ends by [`Keyspace::finish_read`].
    /// `None` if it had to wait for somebody else: a key is being read, or is on its way to the tier.
    pub fn begin_reads(&mut self, keys: &[(usize, Vec<u8>)]) -> Option<Vec<TierKey>> {
        let mut tier_keys = Vec::with_capacity(keys.len());
        for (index, key) in keys {
            let hash = self.positioner.hash(key);
            let database = self.databases.get(*index)?;
            let tier_key = database.tier_key(hash, key);
            let stub = database.table.find_stub(hash, key);
            let loads = &self.tiering.as_ref()?.loads;
            if loads.contains_key(&tier_key) || stub.is_some_and(|stub| stub.in_flight) {
                return None;
            }
            // A command may name a key twice.
            if !tier_keys.contains(&tier_key) {
                tier_keys.push(tier_key);
            }
        }
        let tiering = self.tiering.as_mut()?;
        tiering.stats.waits += keys.len() as u64;
        for tier_key in &tier_keys {
            tiering.loads.insert(tier_key.clone(), Load::alone());
        }
        Some(tier_keys)
    }

    /// Ends one pin.
    pub fn unpin(&mut self, index: usize, key: &[u8]) {
        let tier_key = self.tier_key(index, key);
        self.unpin_tier(&tier_key);
    }

    /// [`Keyspace::unpin`] by the name that the key had when it was pinned: a flush or a swap
    /// since then has given the database's number to another content.
    pub fn unpin_tier(&mut self, tier_key: &TierKey) {
        if let Some(tiering) = &mut self.tiering
            && let Some(count) = tiering.pins.get_mut(tier_key)
        {
            *count -= 1;
            if *count == 0 {
                tiering.pins.remove(tier_key);
            }
        }
    }

    /// The tier's name of a key.
    pub fn tier_key(&self, index: usize, key: &[u8]) -> TierKey {
        self.databases[index].tier_key(self.positioner.hash(key), key)
    }

    /// Keys that are pinned, for tests.
    #[cfg(test)]
    pub fn pinned(&self) -> usize {
        self.tiering
            .as_ref()
            .map_or(0, |tiering| tiering.pins.len())
    }

    /// As [`Keyspace::finish_read`] for a value that is not decoded yet.
    pub fn finish_load(
        &mut self,
        tier_key: &TierKey,
        read: Result<Option<ColdValue>, ColdError>,
    ) -> Finished {
        let decode = |value: ColdValue| ReadValue::decode(&value.record, value.expire);
        let decoded = read.map(|value| value.map(decode));
        self.finish_read(tier_key, decoded)
    }

    /// A read is done: puts its value into memory. The caller wakes who waits for it.
    pub fn finish_read(
        &mut self,
        tier_key: &TierKey,
        read: Result<Option<ReadValue>, ColdError>,
    ) -> Finished {
        let tiering = self.tiering.as_mut();
        let Some(load) = tiering.and_then(|tiering| tiering.loads.remove(tier_key)) else {
            return Finished::for_nobody();
        };
        let result = match read {
            _ if load.stale => Ok(()),
            Ok(value) => self.install(tier_key, value).inspect_err(|text| {
                self.note_failed_read(text, None);
            }),
            Err(error) => Err(self.note_unreadable(tier_key, &error)),
        };
        Finished {
            waiters: load.waiters,
            result,
        }
    }

    /// What could not be read is noted; in the words for clients.
    pub(super) fn note_unreadable(&self, key: &TierKey, error: &ColdError) -> String {
        let text = unreadable(key, error);
        self.note_failed_read(&text, Some(key));
        text
    }

    fn note_failed_read(&self, text: &str, key: Option<&TierKey>) {
        if let Some(tiering) = &self.tiering {
            tiering.queue.health.read_failed(text, key);
        }
    }

    /// Puts what the tier has for a key into memory, as a clean entry.
    fn install(&mut self, tier_key: &TierKey, value: Option<ReadValue>) -> LoadResult {
        let Some(index) = self.database_of(tier_key.generation()) else {
            return Ok(());
        };
        let key = tier_key.key();
        let hash = self.positioner.hash(key);
        let Some(tiering) = &mut self.tiering else {
            return Ok(());
        };
        let table = &mut self.databases[index].table;
        let stub = match table.find(hash, key) {
            Some(Found::Value(_)) => return Ok(()),
            Some(Found::Stub(stub)) => Some(stub),
            None => None,
        };
        let Some(value) = value else {
            if stub.is_some_and(|stub| stub.in_flight) {
                // Loaded from a file straight to the tier: the put is still queued. Who waits looks again.
                return self.never_written(key).map_or(Ok(()), Err);
            }
            if stub.is_some() {
                return Err(format!("{} is missing from the tier", name(key)));
            }
            tiering.presence.note(false);
            tiering.note_absent(tier_key.clone());
            return Ok(());
        };
        if stub.is_none() {
            tiering.presence.note(true);
        }
        let damaged = |what: &dyn std::fmt::Display| format!("{} is damaged: {what}", name(key));
        let new_value = value.decoded.map_err(|error| damaged(&error))?;
        let found = value.object_type;
        let known = stub.map(|stub| stub.object_type);
        if let Some(due) = known.filter(|due| *due != found) {
            let what = format!("it is a {}, not a {}", found.name(), due.name());
            return Err(damaged(&what));
        }
        // A stub's expiry is the truth: a change of it may still be queued.
        let expire = stub.map_or(value.expire, |stub| stub.expire);
        let mut entry = Entry::new(key, new_value.as_new_value(), expire);
        entry.set_epoch(self.epoch);
        entry.set_access(stub.map_or(self.access.initial(), |stub| stub.access));
        let generation = tier_key.generation();
        tiering.admission.admit(generation, hash, &mut entry);
        entry.set_fresh(true);
        tiering.stats.loaded += 1;
        if stub.is_some() {
            table.stub_to_value(hash, entry);
        } else {
            table.insert(hash, entry);
        }
        Ok(())
    }

    /// Why a value that is on its way to the tier does not get there, in the words for clients.
    fn never_written(&self, key: &[u8]) -> Option<String> {
        let error = self.tiering.as_ref()?.queue.failure()?;
        Some(format!("{} is on its way to disk: {error}", name(key)))
    }

    /// Reads a key from the tier here and now, under the locks. For EXEC and scripts on keys that
    /// they did not declare; counted.
    pub fn load_blocking(&mut self, index: usize, key: &[u8]) -> LoadResult {
        let result = self.read_blocking(index, key);
        if let (Err(_), Some(tiering)) = (&result, &mut self.tiering) {
            tiering.stats.failed_reads += 1;
        }
        result
    }

    fn read_blocking(&mut self, index: usize, key: &[u8]) -> LoadResult {
        let hash = self.positioner.hash(key);
        let tier_key = self.databases[index].tier_key(hash, key);
        let Some(tiering) = &mut self.tiering else {
            return Ok(());
        };
        tiering.stats.blocking_reads += 1;
        let cold = tiering.cold.clone();
        loop {
            let value = cold
                .get(&tier_key)
                .map_err(|error| self.note_unreadable(&tier_key, &error))?;
            let stub = self.databases[index].table.find_stub(hash, key);
            let queued = stub.is_some_and(|stub| stub.in_flight);
            if value.is_some() || !queued {
                let decode = |value: ColdValue| ReadValue::decode(&value.record, value.expire);
                let value = value.map(decode);
                let installed = self.install(&tier_key, value);
                return installed.inspect_err(|text| self.note_failed_read(text, None));
            }
            // The applier writes queued puts without any shard lock.
            if let Some(text) = self.never_written(key) {
                self.note_failed_read(&text, None);
                return Err(text);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

impl Tiering {
    /// Begins a read for expiry: any change of the key from here on makes what is read out of
    /// date.
    pub(super) fn begin_expiry_read(&mut self, key: &TierKey) {
        self.loads.insert(key.clone(), Load::alone());
    }
}
