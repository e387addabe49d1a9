//! Whole entries under another name or in another database, and databases to choose from.

use super::ExpireMode;
use super::db::{Db, Expiry, Presence};
use super::expire::has_passed;
use super::hot::entry::{Entry, NewValue};
use super::hot::found::Found;
use crate::command::CommandResult;
use crate::notify::Class;
use crate::value::{ObjectType, ValueRef};
use std::sync::Arc;

/// Longest string with the encoding `embstr` (Redis: `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`).
const EMBEDDED_BYTES_MAX: usize = 44;

/// What an entry with a value holds, for a new entry: a heap object is shared, not copied.
fn value_of(entry: &Entry) -> NewValue<'_> {
    match (entry.share(), entry.value()) {
        (Some(object), _) => NewValue::Heap(object),
        (None, Some(ValueRef::Int(n))) => NewValue::Int(n),
        (None, Some(ValueRef::Str(bytes))) => NewValue::Inline(bytes),
        _ => NewValue::Inline(b""),
    }
}

impl Db<'_> {
    /// Changes which database the rest of the command (or of an EXEC) sees; false if there is no
    /// such database.
    pub fn select(&mut self, index: usize) -> bool {
        let exists = index < self.keyspace.database_count();
        if exists {
            self.index = index;
        }
        exists
    }

    /// As [`Db::presence`], counted as a hit or a miss (EXISTS, TYPE, TTL).
    pub fn look(&mut self, key: &[u8]) -> CommandResult<Option<Presence>> {
        let found = self.presence(key)?;
        match found {
            Some(_) => self.keyspace.stats.hits += 1,
            None => {
                self.keyspace.stats.misses += 1;
                self.notifier
                    .notify(Class::KEY_MISS, "keymiss", key, self.index);
            }
        }
        Ok(found)
    }

    /// The encoding of a value, which must be in memory (OBJECT ENCODING).
    pub fn encoding(&mut self, key: &[u8]) -> CommandResult<Option<&'static str>> {
        let hash = self.hash(key);
        let Some(entry) = self.resident_entry(hash, key)? else {
            return Ok(None);
        };
        Ok(entry.value().map(|value| match value {
            // What was set as a whole and is short; what was edited in place is on the heap.
            ValueRef::Str(bytes)
                if entry.share().is_none() && bytes.len() <= EMBEDDED_BYTES_MAX =>
            {
                "embstr"
            }
            other => other.encoding(),
        }))
    }

    /// Whether a key is there and its time has passed. Deletes nothing.
    pub fn has_expired(&self, key: &[u8]) -> bool {
        let found = self.database().table.find(self.hash(key), key);
        self.keyspace.expire_mode != ExpireMode::Ignore
            && has_passed(found.and_then(Found::expire), self.now_ms())
    }

    /// Makes sure that `from` is in memory and `to` known, before anything changes. False if
    /// there is no `from`.
    fn both_known(&mut self, from: &[u8], target: usize, to: &[u8]) -> CommandResult<bool> {
        let hash = self.hash(from);
        if self.resident_entry(hash, from)?.is_none() {
            return Ok(false);
        }
        self.other(target).presence(to)?;
        Ok(true)
    }

    fn replace_entry(&mut self, key: &[u8], fresh: Entry, access: Option<u32>) {
        let hash = self.hash(key);
        if let Some(old) = self.remove_entry(hash, key) {
            self.keyspace.garbage.add(old);
        }
        let object_type = fresh.object_type();
        self.insert(hash, fresh);
        if let Some(access) = access {
            let table = &mut self.keyspace.databases[self.index].table;
            table.set_access(hash, key, access);
        }
        if matches!(
            object_type,
            ObjectType::List | ObjectType::ZSet | ObjectType::Stream
        ) {
            self.signal_ready(key);
        }
    }

    /// Moves a value with its expiry and access data, replacing what is at the target. The caller
    /// has made sure that the names or the databases differ. False if there is no `from`.
    pub fn move_entry(&mut self, from: &[u8], target: usize, to: &[u8]) -> CommandResult<bool> {
        if !self.both_known(from, target, to)? {
            return Ok(false);
        }
        let Some(entry) = self.remove_entry(self.hash(from), from) else {
            return Ok(false);
        };
        let fresh = Entry::new(to, value_of(&entry), entry.expire());
        let access = entry.access();
        drop(entry);
        self.other(target).replace_entry(to, fresh, Some(access));
        Ok(true)
    }

    /// Copies a value with its expiry, replacing what is at the target. As [`Db::move_entry`].
    pub fn copy_entry(&mut self, from: &[u8], target: usize, to: &[u8]) -> CommandResult<bool> {
        if !self.both_known(from, target, to)? {
            return Ok(false);
        }
        let Some(entry) = self.database().table.find_value(self.hash(from), from) else {
            return Ok(false);
        };
        let value = match value_of(entry) {
            NewValue::Heap(object) => NewValue::Heap(Arc::new((*object).clone())),
            small => small,
        };
        let fresh = Entry::new(to, value, entry.expire());
        self.other(target).replace_entry(to, fresh, None);
        Ok(true)
    }

    /// Gives a key a value that was decoded, replacing whatever it held (RESTORE, loading).
    pub fn restore(
        &mut self,
        key: &[u8],
        value: NewValue<'_>,
        expire: Option<i64>,
    ) -> CommandResult {
        self.put(key, value, expire.map_or(Expiry::Clear, Expiry::At))?;
        if let Some(found) = self.presence(key)?
            && matches!(
                found.object_type,
                ObjectType::List | ObjectType::ZSet | ObjectType::Stream
            )
        {
            self.signal_ready(key);
        }
        Ok(())
    }
}
