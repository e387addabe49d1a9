//! Fields of hashes that expire: whether they may, how many hashes have some, and what deletes
//! them.
//!
//! RDB versions before 12 can't hold them. With an older `rdb-version` clients give no field an
//! expiry, and the option can't be lowered while some field has one: so nothing is ever in memory
//! that can't be saved. What a log or a master says is done in any case; a start, and a load of a
//! master's data, end with an error that names the option ([`check`]).
//!
//! Like keys, fields whose time has passed are deleted on a master only, and the deletion is
//! propagated (as HDEL); a replica hides them, and what applies a log takes them as they are.

use super::db::Db;
use super::hot::entry::Entry;
use super::{Database, ExpireMode, Keyspace};
use crate::command::CommandResult;
use crate::notify::Class;
use crate::value::{Object, ValueRef};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The first RDB version with fields that expire.
pub const RDB_VERSION_MIN: u32 = 12;

/// See the module. Shared with who has no lock: the option's hook.
#[derive(Debug, Default)]
pub struct FieldExpiry {
    allowed: AtomicBool,
    hashes: AtomicU64,
    warned: AtomicBool,
}

impl FieldExpiry {
    /// Whether `rdb-version` lets clients give fields an expiry.
    pub fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::SeqCst)
    }

    /// Hashes with fields that expire, in all databases, those of a load under way included.
    pub fn hashes(&self) -> u64 {
        self.hashes.load(Ordering::SeqCst)
    }

    /// Follows the option; an error if fields expire that the version can't hold.
    pub fn set_rdb_version(&self, version: u32) -> Result<(), String> {
        let before = self.allowed.load(Ordering::SeqCst);
        self.allowed
            .store(version >= RDB_VERSION_MIN, Ordering::SeqCst);
        check(self.hashes(), version).inspect_err(|_| self.allowed.store(before, Ordering::SeqCst))
    }

    /// A master or a log gives fields an expiry that can't be saved.
    pub fn warn_unsaved(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "fields of hashes expire that rdb-version can't hold: snapshots fail until \
                 rdb-version is {RDB_VERSION_MIN}"
            );
        }
    }
}

/// An error if so many hashes have fields that expire and RDB version `version` can't hold them.
pub fn check(hashes: u64, version: u32) -> Result<(), String> {
    if version >= RDB_VERSION_MIN || hashes == 0 {
        return Ok(());
    }
    Err(format!(
        "{hashes} hashes have fields that expire, which rdb-version {version} can't hold: set \
         rdb-version {RDB_VERSION_MIN}, or make the fields persistent (HPERSIST) first"
    ))
}

impl Database {
    /// An entry came.
    pub(super) fn count_in(&mut self, entry: &Entry) {
        self.keys += 1;
        self.expires += u64::from(entry.has_expire());
        self.timed_changed(false, entry.has_timed_fields());
    }

    /// An entry went.
    pub(super) fn count_out(&mut self, entry: &Entry) {
        self.keys -= 1;
        self.expires -= u64::from(entry.has_expire());
        self.timed_changed(entry.has_timed_fields(), false);
    }

    /// Whether a key is a hash with fields that expire.
    pub(super) fn timed_changed(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => {
                self.timed += 1;
                self.field_expiry.hashes.fetch_add(1, Ordering::SeqCst);
            }
            (true, false) => {
                self.timed -= 1;
                self.field_expiry.hashes.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }

    /// Hashes that are in the tier were not counted one by one.
    pub(super) fn add_timed(&mut self, hashes: u64) {
        self.timed += hashes;
        self.field_expiry.hashes.fetch_add(hashes, Ordering::SeqCst);
    }

    /// The content is nobody's any more.
    pub(super) fn forget_timed(&self) {
        self.field_expiry
            .hashes
            .fetch_sub(self.timed, Ordering::SeqCst);
    }
}

impl Keyspace {
    /// Hashes with fields that expire, in the live databases.
    pub fn timed_hashes(&self) -> u64 {
        let live = self.databases.iter().take(self.live);
        live.map(|database| database.timed).sum()
    }

    /// As [`Keyspace::timed_hashes`], in what is being loaded behind them.
    pub fn timed_hashes_staged(&self) -> u64 {
        let staged = self.databases.iter().skip(self.live);
        staged.map(|database| database.timed).sum()
    }
}

impl Db<'_> {
    /// Fields whose time lies before this are over.
    pub fn field_cutoff(&self) -> i64 {
        match self.keyspace.expire_mode {
            ExpireMode::Ignore => i64::MIN,
            ExpireMode::Delete | ExpireMode::Hide => self.now_ms(),
        }
    }

    /// The times of a hash's fields may have changed: to be called after every change of one that
    /// is or was [`is_timed`](crate::value::hash::Hash::is_timed).
    pub fn fields_changed(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        let database = &mut self.keyspace.databases[self.index];
        let Some(entry) = database.table.find_value_mut(hash, key) else {
            return;
        };
        let earliest = match entry.value() {
            Some(ValueRef::Hash(value)) => value.earliest(),
            _ => return,
        };
        let before = entry.has_timed_fields();
        entry.set_timed_fields(earliest.is_some());
        database.timed_changed(before, earliest.is_some());
        database.table.note_expire(hash, earliest);
    }

    /// Deletes fields that are over, the earliest first, at most `max`; how many. None where this
    /// server may not, or the value is not in memory.
    pub fn expire_fields(&mut self, key: &[u8], max: usize) -> CommandResult<usize> {
        let cutoff_ms = self.field_cutoff();
        let over = match self.hash_in_memory(key) {
            Some(hash) => hash.over(cutoff_ms, max),
            None => Vec::new(),
        };
        self.delete_over(key, &over)
    }

    /// Deletes those of `fields` that are over, as [`Db::expire_fields`].
    pub fn expire_named(&mut self, key: &[u8], fields: &[&[u8]]) -> CommandResult<usize> {
        let cutoff_ms = self.field_cutoff();
        let mut over: Vec<Vec<u8>> = match self.hash_in_memory(key) {
            Some(hash) => fields
                .iter()
                .filter(|field| hash.lookup(field, cutoff_ms).is_over())
                .map(|field| field.to_vec())
                .collect(),
            None => Vec::new(),
        };
        over.sort_unstable();
        over.dedup();
        self.delete_over(key, &over)
    }

    fn hash_in_memory(&self, key: &[u8]) -> Option<&crate::value::hash::Hash> {
        let entry = self.database().table.find_value(self.hash(key), key)?;
        match entry.value()? {
            ValueRef::Hash(hash) => Some(hash),
            _ => None,
        }
    }

    fn delete_over(&mut self, key: &[u8], fields: &[Vec<u8>]) -> CommandResult<usize> {
        if fields.is_empty() || self.keyspace.expire_mode != ExpireMode::Delete {
            return Ok(0);
        }
        let hash = self.hash(key);
        let Some(Object::Hash(value)) = self.object_for_change(hash, key)? else {
            return Ok(0);
        };
        let deleted = fields.iter().filter(|field| value.remove(field)).count();
        let emptied = value.len() == 0;
        let mut words: Vec<&[u8]> = vec![b"HDEL", key];
        words.extend(fields.iter().map(Vec::as_slice));
        self.effect.before(self.index, &words);
        self.keyspace.stats.expired_fields += deleted as u64;
        self.notify(key, Class::HASH, "hexpired");
        if emptied {
            if let Some(entry) = self.remove_entry(hash, key) {
                self.keyspace.garbage.add(entry);
            }
            self.notify(key, Class::GENERIC, "del");
        } else {
            self.fields_changed(key);
        }
        self.signal_gone(key);
        Ok(deleted)
    }
}
