//! Changing: what gives a key a value, an expiry, or an end.

use super::super::hot::entry::{Entry, INLINE_BYTES_MAX, NewValue};
use super::super::position::KeyHash;
use super::super::snapshot::LARGE_VALUE_BYTES;
use super::{Collection, Db, Expiry, StringRef};
use crate::command::{CommandError, CommandResult};
use crate::keyspace::ExpireMode;
use crate::notify::Class;
use crate::value::{Object, ValueRef};
use redrock_rdb::number::parse_i64;
use std::sync::Arc;

impl Db<'_> {
    fn entry_for_change(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult<Option<&mut Entry>> {
        if self.locate(hash, key)?.is_none() {
            return Ok(None);
        }
        self.keyspace.before_change(self.index, hash, key);
        let table = &mut self.keyspace.databases[self.index].table;
        Ok(table.find_value_mut(hash, key))
    }

    pub(in crate::keyspace) fn insert(&mut self, hash: KeyHash, mut entry: Entry) {
        self.remove_hidden(entry.key());
        entry.set_dirty(true);
        entry.set_epoch(self.keyspace.epoch);
        entry.set_access(self.keyspace.access.initial());
        self.notifier
            .notify(Class::NEW, "new", entry.key(), self.index);
        self.database_mut().count_in(&entry);
        self.keyspace.note_inserted(self.index, hash, &mut entry);
        self.database_mut().table.insert(hash, entry);
    }

    /// Gives a key a new value of any type. Existing expiry as `expiry` says.
    pub(in crate::keyspace) fn put(
        &mut self,
        key: &[u8],
        value: NewValue<'_>,
        expiry: Expiry,
    ) -> CommandResult {
        let hash = self.hash(key);
        let access = self.keyspace.access;
        let mut replaced = None;
        let (before, after) = match self.entry_for_change(hash, key)? {
            None => {
                let expire = if let Expiry::At(ms) = expiry {
                    Some(ms)
                } else {
                    None
                };
                self.insert(hash, Entry::new(key, value, expire));
                self.note_replica_expiry(key, expire);
                return Ok(());
            }
            Some(entry) => {
                let before = entry.expire();
                let after = match expiry {
                    Expiry::Clear => None,
                    Expiry::Keep => before,
                    Expiry::At(ms) => Some(ms),
                };
                if after.is_some() == before.is_some() && overwrite_in_place(entry, &value) {
                    if let Some(ms) = after {
                        entry.replace_expire(ms);
                    }
                } else {
                    let mut fresh = Entry::new(key, value, after);
                    fresh.inherit(entry);
                    replaced = Some(std::mem::replace(entry, fresh));
                }
                entry.touch(&access);
                (before, after)
            }
        };
        if replaced.as_ref().is_some_and(Entry::is_stub) {
            // What was on disk is written over unread: as much a new value as any.
            self.keyspace.admit(self.index, hash, key);
        }
        if let Some(old) = replaced {
            let timed = old.has_timed_fields();
            self.keyspace.garbage.add(old);
            self.signal_if_awaited(key);
            self.timed_replaced(hash, key, timed);
        }
        self.expire_changed(hash, before, after);
        self.note_replica_expiry(key, after);
        Ok(())
    }

    /// A new entry took the place of one that was a hash with fields that expire, or not.
    fn timed_replaced(&mut self, hash: KeyHash, key: &[u8], before: bool) {
        let database = self.database_mut();
        let entry = database.table.find_value(hash, key);
        let Some(after) = entry.map(Entry::field_time) else {
            return;
        };
        if before || after.is_some() {
            database.timed_changed(before, after.is_some());
            database.table.note_expire(hash, after);
        }
    }

    fn expire_changed(&mut self, hash: KeyHash, before: Option<i64>, after: Option<i64>) {
        let database = self.database_mut();
        match (before, after) {
            (None, Some(_)) => database.expires += 1,
            (Some(_), None) => database.expires -= 1,
            _ => {}
        }
        if after.is_some() {
            database.table.note_expire(hash, after);
        }
    }

    /// Sets a string; it is stored as an integer where its bytes are one.
    pub fn set_string(&mut self, key: &[u8], bytes: &[u8], expiry: Expiry) -> CommandResult {
        let int = if bytes.len() <= 20 {
            parse_i64(bytes)
        } else {
            None
        };
        match int {
            Some(n) => self.put(key, NewValue::Int(n), expiry),
            None if bytes.len() <= INLINE_BYTES_MAX => {
                self.put(key, NewValue::Inline(bytes), expiry)
            }
            None => {
                let object = Arc::new(Object::Raw(bytes.to_vec()));
                self.put(key, NewValue::Heap(object), expiry)
            }
        }
    }

    /// Sets a string as text even where its bytes are an integer: its encoding is `embstr` or
    /// `raw`, as that of INCRBYFLOAT's result.
    pub fn set_text(&mut self, key: &[u8], bytes: &[u8], expiry: Expiry) -> CommandResult {
        if bytes.len() <= INLINE_BYTES_MAX {
            self.put(key, NewValue::Inline(bytes), expiry)
        } else {
            self.set_object(key, Object::Raw(bytes.to_vec()), expiry)
        }
    }

    /// Sets an integer string.
    pub fn set_int(&mut self, key: &[u8], n: i64, expiry: Expiry) -> CommandResult {
        self.put(key, NewValue::Int(n), expiry)
    }

    /// Sets any object, replacing whatever the key held. A string's encoding is `raw`.
    pub fn set_object(&mut self, key: &[u8], object: Object, expiry: Expiry) -> CommandResult {
        self.put(key, NewValue::Heap(Arc::new(object)), expiry)
    }

    /// A string for editing in place (`APPEND`, `SETRANGE`, `SETBIT`); created empty if absent.
    /// Its encoding is `raw` from now on.
    pub fn string_mut(&mut self, key: &[u8]) -> CommandResult<&mut Vec<u8>> {
        let hash = self.hash(key);
        let entry = self.resident_entry(hash, key)?;
        let on_heap = entry.is_some_and(|entry| entry.share().is_some());
        match self.read_string_untouched(key)? {
            None => {
                let object = Arc::new(Object::Raw(Vec::new()));
                self.insert(hash, Entry::new(key, NewValue::Heap(object), None));
            }
            Some(_) if on_heap => {}
            Some(text) => {
                let bytes = text.to_vec();
                let Some(entry) = self.entry_for_change(hash, key)? else {
                    return Err(CommandError::NoSuchKey);
                };
                if entry.object_mut().is_none() {
                    let value = NewValue::Heap(Arc::new(Object::Raw(bytes)));
                    let mut fresh = Entry::new(key, value, entry.expire());
                    fresh.inherit(entry);
                    *entry = fresh;
                }
            }
        }
        match self.object_for_change(hash, key)? {
            Some(Object::Raw(bytes)) => Ok(bytes),
            _ => Err(CommandError::WrongType),
        }
    }

    fn read_string_untouched(&mut self, key: &[u8]) -> CommandResult<Option<StringRef<'_>>> {
        match self.peek(key)? {
            None => Ok(None),
            Some(ValueRef::Int(n)) => Ok(Some(StringRef::Int(n))),
            Some(ValueRef::Str(bytes)) => Ok(Some(StringRef::Bytes(bytes))),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// A large value that a snapshot still has to send leaves memory for a file, so that EXEC and
    /// scripts need neither wait for it nor work on a copy.
    fn spool_old_value(&self, hash: KeyHash, key: &[u8]) {
        let Some(snapshot) = &self.keyspace.snapshot else {
            return;
        };
        let entry = self.database().table.find_value(hash, key);
        if let Some(object) = entry
            .filter(|entry| entry.is_shared())
            .and_then(Entry::share)
            && object.memory_bytes() > LARGE_VALUE_BYTES
        {
            snapshot.spool_value(&object);
        }
    }

    pub(in crate::keyspace) fn object_for_change(
        &mut self,
        hash: KeyHash,
        key: &[u8],
    ) -> CommandResult<Option<&mut Object>> {
        let touch = self.touch;
        let access = self.keyspace.access;
        let can_wait = self.can_wait();
        if self.entry_for_change(hash, key)?.is_none() {
            return Ok(None);
        }
        if !can_wait {
            self.spool_old_value(hash, key);
        }
        let Some(entry) = self.database_mut().table.find_value_mut(hash, key) else {
            return Ok(None);
        };
        if touch {
            // What is read and written has been wanted twice.
            entry.set_fresh(false);
            entry.touch(&access);
        }
        if entry.is_shared()
            && let Some(object) = entry.share()
        {
            if object.memory_bytes() > LARGE_VALUE_BYTES && can_wait {
                return Err(CommandError::Busy);
            }
            // A snapshot still reads the old value: the writer continues on a copy.
            let mut fresh = Entry::new(
                key,
                NewValue::Heap(Arc::new((*object).clone())),
                entry.expire(),
            );
            fresh.inherit(entry);
            *entry = fresh;
        }
        Ok(entry.object_mut())
    }

    /// A collection for editing, or `None` if the key does not exist. `-WRONGTYPE` if it is of
    /// another type. After removing elements call [`Db::remove_if_empty`].
    pub fn write<T: Collection + 'static>(&mut self, key: &[u8]) -> CommandResult<Option<&mut T>> {
        let hash = self.hash(key);
        match self.peek(key)? {
            None => return Ok(None),
            Some(value) if T::of(value).is_none() => return Err(CommandError::WrongType),
            Some(_) => {}
        }
        match self.object_for_change(hash, key)? {
            None => Ok(None),
            Some(object) => T::of_mut(object).map(Some).ok_or(CommandError::WrongType),
        }
    }

    /// A collection for editing, created empty if absent: the caller must add an element.
    pub fn write_or_create<T: Collection + 'static>(
        &mut self,
        key: &[u8],
    ) -> CommandResult<&mut T> {
        let hash = self.hash(key);
        match self.peek(key)? {
            None => {
                let value = NewValue::Heap(Arc::new(T::empty()));
                self.insert(hash, Entry::new(key, value, None));
            }
            Some(value) if T::of(value).is_none() => return Err(CommandError::WrongType),
            Some(_) => {}
        }
        match self.object_for_change(hash, key)?.and_then(T::of_mut) {
            Some(value) => Ok(value),
            None => Err(CommandError::WrongType),
        }
    }

    /// Removes a collection that has become empty; true if it was. The caller notifies `del`.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        let empty = match self.peek(key) {
            Ok(Some(ValueRef::Hash(v))) => v.len() == 0,
            Ok(Some(ValueRef::List(v))) => v.len() == 0,
            Ok(Some(ValueRef::Set(v))) => v.len() == 0,
            Ok(Some(ValueRef::ZSet(v))) => v.len() == 0,
            _ => false,
        };
        if empty {
            let hash = self.hash(key);
            self.remove_entry(hash, key);
        }
        empty
    }

    pub(in crate::keyspace) fn remove_entry(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        self.keyspace.before_change(self.index, hash, key);
        let database = &mut self.keyspace.databases[self.index];
        let entry = database.table.remove(hash, key)?;
        database.count_out(&entry);
        // Some wait for the end of what is there (XREADGROUP).
        self.signal_if_awaited(key);
        Some(entry)
    }

    /// Deletes a key; false if there was none. Needs no value in memory. The caller notifies.
    pub fn remove(&mut self, key: &[u8]) -> CommandResult<bool> {
        let hash = self.hash(key);
        if self.locate(hash, key)?.is_none() {
            return Ok(false);
        }
        let removed = self.remove_entry(hash, key);
        let existed = removed.is_some();
        removed
            .into_iter()
            .for_each(|entry| self.keyspace.garbage.add(entry));
        Ok(existed)
    }

    /// Takes a value out of the keyspace with its expiry (RENAME, MOVE, GETDEL).
    pub fn take(&mut self, key: &[u8]) -> CommandResult<Option<(Object, Option<i64>)>> {
        let taken = self.copy_of(key)?;
        if taken.is_some() {
            let hash = self.hash(key);
            self.remove_entry(hash, key);
        }
        Ok(taken)
    }

    /// An independent copy of a value with its expiry (COPY, DUMP).
    pub fn copy_of(&mut self, key: &[u8]) -> CommandResult<Option<(Object, Option<i64>)>> {
        let hash = self.hash(key);
        let Some(entry) = self.resident_entry(hash, key)? else {
            return Ok(None);
        };
        let expire = entry.expire();
        let object = match (entry.value(), entry.share()) {
            (None, _) => return Ok(None),
            (Some(_), Some(shared)) => (*shared).clone(),
            (Some(ValueRef::Int(n)), None) => {
                Object::Raw(itoa::Buffer::new().format(n).as_bytes().to_vec())
            }
            (Some(ValueRef::Str(bytes)), None) => Object::Raw(bytes.to_vec()),
            (Some(_), None) => return Ok(None),
        };
        Ok(Some((object, expire)))
    }

    /// Sets or removes the expiry of an existing key, cold or not; false if there is none.
    pub fn set_expire(&mut self, key: &[u8], expire: Option<i64>) -> CommandResult<bool> {
        let hash = self.hash(key);
        if self.locate(hash, key)?.is_none() {
            return Ok(false);
        }
        let (clean, before) = match self.database().table.find(hash, key) {
            None => return Ok(false),
            Some(found) => (!found.is_dirty(), found.expire()),
        };
        if clean {
            // The value stays as it is in the tier; only the small record beside it changes.
            self.keyspace
                .tier_set_expire(self.index, hash, key, before, expire);
        } else {
            self.keyspace.before_change(self.index, hash, key);
        }
        let table = &mut self.database_mut().table;
        match table.find_value_mut(hash, key) {
            Some(entry) => match (before, expire) {
                (Some(_), Some(ms)) => entry.replace_expire(ms),
                (None, None) => {}
                _ => *entry = entry.with_expire(expire),
            },
            None => {
                table.set_stub_expire(hash, key, expire);
            }
        }
        self.expire_changed(hash, before, expire);
        self.note_replica_expiry(key, expire);
        Ok(true)
    }

    /// On a replica that takes writes of clients: it must delete this key itself. What its master
    /// sends, and what is loaded, comes with expiry off altogether.
    fn note_replica_expiry(&mut self, key: &[u8], expire: Option<i64>) {
        if expire.is_some() && self.keyspace.expire_mode == ExpireMode::Hide {
            let slot = (self.index, key.to_vec());
            self.keyspace.replica_expires.insert(slot);
        }
    }
}

/// Overwrites an integer or a string of the same length without a new allocation.
fn overwrite_in_place(entry: &mut Entry, value: &NewValue<'_>) -> bool {
    match value {
        NewValue::Int(n) => entry.replace_int(*n),
        NewValue::Inline(bytes) => match entry.inline_mut() {
            Some(old) if old.len() == bytes.len() => {
                old.copy_from_slice(bytes);
                true
            }
            _ => false,
        },
        _ => false,
    }
}
