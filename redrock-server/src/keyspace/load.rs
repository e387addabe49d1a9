//! Putting the entries of a file into the keyspace: a start, and a replica's full sync.
//!
//! A file is loaded into the live databases (a start), or into **staged** ones that stand behind
//! them and are exchanged for the live ones at the end ([`Keyspace::swap_staged`]): the old data
//! serves meanwhile. A staged database is a database like any other for the governor and the
//! tier; only clients and snapshots don't see it.
//!
//! Values that find no room go straight to the tier: small ones as values whose put is queued
//! (they leave when it is applied), large ones as stubs that are never decoded (I6 holds for
//! both: they are clean, and the queue has what the tier will have).

use super::hot::entry::{Entry, NewValue};
use super::hot::stubs::{STUB_KEY_BYTES_MAX, Stub};
use super::tiering::times_of;
use super::{Database, Keyspace};
use crate::value::codec;
use crate::value::{Limits, ObjectType};
use redrock_rdb::file::Entry as FileEntry;
use redrock_rdb::object::{ObjectError, types};

/// Payloads above this many bytes are not decoded on their way to the tier.
const UNDECODED_BYTES_MIN: usize = 16 << 10;

/// An entry of a file, ready for the keyspace; made without any lock.
#[derive(Debug)]
pub struct PreparedEntry {
    entry: Entry,
    /// The value as the tier keeps it; present if it is to go there.
    record: Option<Vec<u8>>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadOutcome {
    /// It is there.
    Stored,
    /// The key was there already; nothing changed.
    Duplicate,
}

impl PreparedEntry {
    /// Decodes a file's entry, whose payload the reader has brought into the superset form.
    /// `to_tier`: memory is short, the value goes to the tier.
    pub fn new(entry: FileEntry, limits: &Limits, to_tier: bool) -> Result<Self, ObjectError> {
        let FileEntry {
            key,
            object_type,
            payload,
            expire_at_ms,
            idle_secs,
            frequency,
        } = entry;
        let is_large = payload.len() >= UNDECODED_BYTES_MIN && key.len() <= STUB_KEY_BYTES_MAX;
        let stub = (to_tier && is_large)
            .then(|| type_of(object_type))
            .flatten();
        let hot = match stub {
            Some(kind) => Entry::new(&key, NewValue::Stub(kind), expire_at_ms),
            None => {
                let value = codec::decode_payload(object_type, &payload, limits)?;
                Entry::new(&key, value.as_new_value(), expire_at_ms)
            }
        };
        let record = to_tier.then(|| {
            let mut record = Vec::with_capacity(payload.len() + 1);
            record.push(object_type);
            record.extend_from_slice(&payload);
            record
        });
        Ok(Self {
            entry: hot,
            record,
            idle_seconds: idle_secs,
            frequency,
        })
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.entry.key()
    }
}

/// The type of a value in the superset form.
fn type_of(object_type: u8) -> Option<ObjectType> {
    Some(match object_type {
        types::STRING => ObjectType::String,
        types::LIST_QUICKLIST_2 => ObjectType::List,
        types::SET | types::SET_INTSET | types::SET_LISTPACK => ObjectType::Set,
        types::ZSET_2 | types::ZSET_LISTPACK => ObjectType::ZSet,
        types::HASH | types::HASH_LISTPACK => ObjectType::Hash,
        _ => return None,
    })
}

impl Keyspace {
    /// Puts an entry into database `index` (a staged one: see [`Keyspace::staged_index`]). An
    /// error is the tier's, which may have to be asked whether the key is new.
    pub fn load_entry(
        &mut self,
        index: usize,
        prepared: PreparedEntry,
    ) -> Result<LoadOutcome, String> {
        let PreparedEntry {
            mut entry,
            record,
            idle_seconds,
            frequency,
        } = prepared;
        let hash = self.positioner.hash(entry.key());
        if self.has_key(index, hash, entry.key())? {
            return Ok(LoadOutcome::Duplicate);
        }
        let access = self.access;
        entry.set_epoch(self.epoch);
        entry.set_access(match (access.lfu, idle_seconds, frequency) {
            (true, _, Some(counter)) => access.clock_minutes << 8 | u32::from(counter),
            (false, Some(idle), _) => {
                access
                    .clock_seconds
                    .wrapping_sub(idle.min(0xff_ffff) as u32)
                    & 0xff_ffff
            }
            _ => access.initial(),
        });
        let times = times_of(&entry);
        let database = &mut self.databases[index];
        match (record, &mut self.tiering) {
            (Some(record), Some(tiering)) => {
                entry.set_in_flight(true);
                tiering.put(database.tier_key(hash, entry.key()), record, times);
            }
            _ => {
                entry.set_dirty(true);
                let tier_key = database.tier_key(hash, entry.key());
                if let Some(tiering) = &mut self.tiering {
                    tiering.note_present(|| tier_key);
                }
            }
        }
        database.count_in(&entry);
        if entry.is_stub() {
            database.table.insert_stub(hash, &Stub::of(&entry));
        } else {
            database.table.insert(hash, entry);
        }
        Ok(LoadOutcome::Stored)
    }

    fn has_key(
        &self,
        index: usize,
        hash: super::position::KeyHash,
        key: &[u8],
    ) -> Result<bool, String> {
        let database = &self.databases[index];
        if database.table.find(hash, key).is_some() {
            return Ok(true);
        }
        if !self.may_be_cold(index, hash, key) {
            return Ok(false);
        }
        match &self.tiering {
            Some(tiering) => {
                let read = tiering.cold.get(&database.tier_key(hash, key));
                read.map(|value| value.is_some())
                    .map_err(|error| error.to_string())
            }
            None => Ok(false),
        }
    }

    /// Whether memory is so short that loaded values should go to the tier, and whether the
    /// tier's queue takes more.
    pub fn load_pressure(&self) -> (bool, bool) {
        match &self.tiering {
            Some(tiering) => (tiering.under_pressure(), tiering.queue.has_room()),
            None => (false, true),
        }
    }

    /// Makes empty staged databases, one for each live one. What an abandoned load left in
    /// earlier ones is returned, to be freed without the lock.
    pub fn begin_staging(&mut self) -> Vec<Database> {
        let dropped = self.drop_staged();
        for _ in 0..self.live {
            let fresh = Database::new(self.next_generation, self.positioner, &self.field_expiry);
            self.next_generation += 1;
            self.databases.push(fresh);
        }
        dropped
    }

    /// The index of the staged database for live database `db`.
    pub fn staged_index(&self, db: usize) -> Option<usize> {
        let index = self.live + db;
        (db < self.live && index < self.databases.len()).then_some(index)
    }

    /// The staged databases become the live ones. Returns the old content, to be freed without
    /// the lock.
    pub fn swap_staged(&mut self) -> Vec<Database> {
        if self.databases.len() == 2 * self.live {
            for index in 0..self.live {
                self.databases.swap(index, self.live + index);
            }
        }
        self.drop_staged()
    }

    /// Gives up the staged databases. Returns their content, to be freed without the lock.
    pub fn drop_staged(&mut self) -> Vec<Database> {
        let staged: Vec<_> = self.databases.drain(self.live..).collect();
        staged
            .into_iter()
            .filter_map(|database| self.discard(database))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::position::Positioner;

    fn file_entry(key: &str, value: &str, expire_at_ms: Option<i64>) -> FileEntry {
        let mut payload = Vec::new();
        redrock_rdb::object::encode::string(&mut payload, value.as_bytes());
        FileEntry {
            key: key.into(),
            object_type: types::STRING,
            payload,
            expire_at_ms,
            idle_secs: None,
            frequency: None,
        }
    }

    fn load(keyspace: &mut Keyspace, index: usize, entry: FileEntry) -> LoadOutcome {
        let prepared = PreparedEntry::new(entry, &Limits::default(), false).unwrap();
        keyspace.load_entry(index, prepared).unwrap()
    }

    #[test]
    fn entries_count_once_and_duplicates_change_nothing() {
        let mut keyspace = Keyspace::new(2, Positioner::new((1, 2)));
        assert_eq!(
            load(&mut keyspace, 1, file_entry("a", "1", None)),
            LoadOutcome::Stored
        );
        assert_eq!(
            load(&mut keyspace, 1, file_entry("b", "x", Some(5))),
            LoadOutcome::Stored
        );
        assert_eq!(
            load(&mut keyspace, 1, file_entry("a", "2", Some(9))),
            LoadOutcome::Duplicate
        );
        let database = keyspace.database(1).unwrap();
        assert_eq!(
            (database.keys, database.expires, database.table.len()),
            (2, 1, 2)
        );
        assert_eq!(keyspace.database(0).unwrap().keys, 0);
    }

    #[test]
    fn staged_databases_are_out_of_sight_until_they_are_swapped_in() {
        let mut keyspace = Keyspace::new(2, Positioner::new((1, 2)));
        load(&mut keyspace, 0, file_entry("old", "1", None));
        assert_eq!(keyspace.staged_index(0), None);
        assert!(keyspace.begin_staging().is_empty());
        let staged = keyspace.staged_index(1).unwrap();
        load(&mut keyspace, staged, file_entry("new", "1", None));
        assert_eq!(
            (keyspace.database_count(), keyspace.staged_index(2)),
            (2, None)
        );
        assert!(keyspace.database(staged).is_none());
        let old = keyspace.swap_staged();
        assert_eq!(old.iter().map(|database| database.keys).sum::<u64>(), 1);
        assert_eq!(keyspace.database(0).unwrap().keys, 0);
        assert_eq!(keyspace.database(1).unwrap().keys, 1);
        assert!(keyspace.swap_staged().is_empty());
        assert_eq!(keyspace.database(1).unwrap().keys, 1);
    }
}
