//! Looking: what reads a key, records the access, and finds that a key has expired.

use super::super::ExpireMode;
use super::super::expire::has_passed;
use super::super::hot::entry::Entry;
use super::super::hot::found::Found;
use super::super::position::KeyHash;
use super::{Collection, Db, Presence, StringRef};
use crate::command::effect::deletion;
use crate::command::{CommandError, CommandResult};
use crate::notify::Class;
use crate::value::{Object, ValueRef};
use std::sync::Arc;

/// Where the value of an existing key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::keyspace) enum Place {
    /// In memory.
    Memory,
    /// In the tier only: a stub is in memory.
    Tier,
}

impl Db<'_> {
    /// Whether there is such a key, and where its value is; deletes it first if it has expired
    /// and this server may. A key that may be in the tier and of which nothing is in memory is
    /// [`CommandError::Cold`].
    pub(in crate::keyspace) fn locate(
        &mut self,
        hash: KeyHash,
        key: &[u8],
    ) -> CommandResult<Option<Place>> {
        let table = &self.keyspace.databases[self.index].table;
        let (place, expire) = match table.find_value(hash, key) {
            Some(entry) => (Place::Memory, entry.expire()),
            None => match table.find_stub(hash, key) {
                Some(stub) => (Place::Tier, stub.expire),
                None if self.keyspace.may_be_cold(self.index, hash, key) => {
                    return self.locate_unknown(hash, key);
                }
                None => return Ok(None),
            },
        };
        if has_passed(expire, self.now_ms) {
            match self.keyspace.expire_mode {
                ExpireMode::Ignore => {}
                ExpireMode::Hide => return Ok(None),
                ExpireMode::Delete if self.now_ms() < self.keyspace.expiry_paused_until_ms => {
                    return Ok(None);
                }
                ExpireMode::Delete => {
                    if !self.notifier.expiry_rests() {
                        self.expire_now(hash, key);
                    }
                    return Ok(None);
                }
            }
        }
        Ok(Some(place))
    }

    /// The tier must be asked: the command waits, or (in EXEC and scripts) reads now.
    fn locate_unknown(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult<Option<Place>> {
        self.cold(key)?;
        match self.database().table.find(hash, key) {
            Some(_) => self.locate(hash, key),
            None => Ok(None),
        }
    }

    /// A value must come from the tier: fails with [`CommandError::Cold`], or reads it now where
    /// the command can't wait any more.
    fn cold(&mut self, key: &[u8]) -> CommandResult {
        if self.can_wait() {
            return Err(CommandError::Cold(self.index, key.to_vec()));
        }
        let read = self.keyspace.load_blocking(self.index, key);
        read.map_err(CommandError::tier)
    }

    /// Removes what has expired and is only hidden, where a new value takes its place. Whatever hid it: that
    /// may be over by now, as a pause.
    pub(super) fn remove_hidden(&mut self, key: &[u8]) {
        if self.database().expires > 0 {
            self.expire_if_due(key);
        }
    }

    fn expire_now(&mut self, hash: KeyHash, key: &[u8]) {
        if let Some(entry) = self.remove_entry(hash, key) {
            self.keyspace.garbage.add(entry);
        }
        self.keyspace.stats.expired += 1;
        let word = deletion(self.keyspace.lazy_expire);
        self.effect.before(self.index, &[word, key]);
        self.signal_gone(key);
        self.notifier
            .notify(Class::EXPIRED, "expired", key, self.index);
    }

    /// Deletes a key whose time has come (active expiry). False if it is not due.
    pub fn expire_if_due(&mut self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        let found = self.database().table.find(hash, key);
        let due = has_passed(found.and_then(Found::expire), self.now_ms);
        if due {
            self.expire_now(hash, key);
        }
        due
    }

    /// Looks a value up for reading: counts hit or miss and records the access.
    pub fn read_any(&mut self, key: &[u8]) -> CommandResult<Option<ValueRef<'_>>> {
        if self.keyspace.lent(self.index, key).is_some() {
            // Whose value is lent was looked for, and touched, just now.
            self.keyspace.stats.hits += 1;
            return Ok(self.keyspace.lent(self.index, key));
        }
        let hash = self.hash(key);
        let touch = self.touch;
        let access = self.keyspace.access;
        let Some(place) = self.locate(hash, key)? else {
            self.keyspace.stats.misses += 1;
            self.notifier
                .notify(Class::KEY_MISS, "keymiss", key, self.index);
            return Ok(None);
        };
        self.keyspace.stats.hits += 1;
        self.resident(place, key)?;
        let database = &mut self.keyspace.databases[self.index];
        let Some(entry) = database.table.find_value_mut(hash, key) else {
            return Ok(None);
        };
        if touch {
            entry.touch(&access);
        }
        Ok(entry.value())
    }

    /// Makes sure that an existing key has its value in memory.
    pub(in crate::keyspace) fn resident(&mut self, place: Place, key: &[u8]) -> CommandResult {
        match place {
            Place::Memory => Ok(()),
            Place::Tier => self.cold(key),
        }
    }

    /// The entry of an existing key with its value, which is brought into memory.
    pub(in crate::keyspace) fn resident_entry(
        &mut self,
        hash: KeyHash,
        key: &[u8],
    ) -> CommandResult<Option<&Entry>> {
        let Some(place) = self.locate(hash, key)? else {
            return Ok(None);
        };
        self.resident(place, key)?;
        Ok(self.database().table.find_value(hash, key))
    }

    /// Looks a value up without counting or recording anything.
    pub fn peek(&mut self, key: &[u8]) -> CommandResult<Option<ValueRef<'_>>> {
        let hash = self.hash(key);
        let entry = self.resident_entry(hash, key)?;
        Ok(entry.and_then(Entry::value))
    }

    /// Looks a collection up for reading. `-WRONGTYPE` if it is of another type.
    pub fn read<T: Collection + 'static>(&mut self, key: &[u8]) -> CommandResult<Option<&T>> {
        match self.read_any(key)? {
            None => Ok(None),
            Some(value) => T::of(value).map(Some).ok_or(CommandError::WrongType),
        }
    }

    /// As [`Db::read`], but shared, so that several collections can be held at once. Drop it
    /// before changing the key: the next change of a shared value works on a copy.
    pub fn read_shared<T: Collection + 'static>(
        &mut self,
        key: &[u8],
    ) -> CommandResult<Option<Arc<Object>>> {
        if self.read::<T>(key)?.is_none() {
            return Ok(None);
        }
        Ok(self.share(key))
    }

    /// The collection that a key, which was read, has: shared, as by [`Db::read_shared`].
    pub fn share(&self, key: &[u8]) -> Option<Arc<Object>> {
        let hash = self.hash(key);
        let entry = self.database().table.find_value(hash, key);
        entry.and_then(Entry::share)
    }

    /// A value with its expiry for use outside the locks: shared, and copied only where it lives in
    /// its entry. While it is held the next change works on a copy.
    pub fn shared(&mut self, key: &[u8]) -> CommandResult<Option<(Arc<Object>, Option<i64>)>> {
        let hash = self.hash(key);
        let Some(entry) = self.resident_entry(hash, key)? else {
            return Ok(None);
        };
        let object = match (entry.share(), entry.value()) {
            (Some(shared), _) => shared,
            (None, Some(ValueRef::Int(n))) => {
                let text = itoa::Buffer::new().format(n).as_bytes().to_vec();
                Arc::new(Object::Raw(text))
            }
            (None, Some(ValueRef::Str(bytes))) => Arc::new(Object::Raw(bytes.to_vec())),
            (None, _) => return Ok(None),
        };
        Ok(Some((object, entry.expire())))
    }

    /// Looks a string up for reading. `-WRONGTYPE` if it is of another type.
    pub fn read_string(&mut self, key: &[u8]) -> CommandResult<Option<StringRef<'_>>> {
        match self.read_any(key)? {
            None => Ok(None),
            Some(ValueRef::Int(n)) => Ok(Some(StringRef::Int(n))),
            Some(ValueRef::Str(bytes)) => Ok(Some(StringRef::Bytes(bytes))),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// Whether the key exists, with type and expiry; needs no value in memory.
    pub fn presence(&mut self, key: &[u8]) -> CommandResult<Option<Presence>> {
        let hash = self.hash(key);
        if self.locate(hash, key)?.is_none() {
            return Ok(None);
        }
        let found = self.database().table.find(hash, key);
        Ok(found.map(|found| Presence {
            object_type: found.object_type(),
            expire: found.expire(),
            cold: found.is_stub(),
        }))
    }

    /// Whether the key exists.
    pub fn exists(&mut self, key: &[u8]) -> CommandResult<bool> {
        Ok(self.presence(key)?.is_some())
    }

    /// Access data as (idle seconds, LFU counter), for OBJECT IDLETIME and FREQ.
    pub fn access(&mut self, key: &[u8]) -> Option<(u32, u32)> {
        let policy = self.keyspace.access;
        let hash = self.hash(key);
        self.locate(hash, key).ok()??;
        let access = self.database().table.find(hash, key)?.access();
        Some((policy.idle_seconds(access), policy.decayed(access)))
    }

    /// Sets access data as RESTORE and loading do.
    pub fn set_access(&mut self, key: &[u8], idle_seconds: Option<u64>, freq: Option<u8>) {
        let policy = self.keyspace.access;
        let hash = self.hash(key);
        if !matches!(self.locate(hash, key), Ok(Some(_))) {
            return;
        }
        let table = &mut self.keyspace.databases[self.index].table;
        if let Some(idle) = idle_seconds
            && !policy.lfu
        {
            let idle = idle.min(0xff_ffff) as u32;
            let access = policy.clock_seconds.wrapping_sub(idle) & 0xff_ffff;
            table.set_access(hash, key, access);
        }
        if let Some(freq) = freq
            && policy.lfu
        {
            table.set_access(hash, key, policy.clock_minutes << 8 | u32::from(freq));
        }
    }

    /// Records an access (TOUCH).
    pub fn touch_key(&mut self, key: &[u8]) -> CommandResult<bool> {
        let access = self.keyspace.access;
        let hash = self.hash(key);
        if self.locate(hash, key)?.is_none() {
            return Ok(false);
        }
        let table = &mut self.keyspace.databases[self.index].table;
        if let Some(entry) = table.find_value_mut(hash, key) {
            entry.touch(&access);
        } else {
            self.touch_stub(hash, key);
        }
        Ok(true)
    }

    fn touch_stub(&mut self, hash: KeyHash, key: &[u8]) {
        let access = self.keyspace.access;
        let table = &mut self.keyspace.databases[self.index].table;
        if let Some(stub) = table.find_stub(hash, key) {
            let touched = access.touched(stub.access);
            table.set_access(hash, key, touched);
        }
    }

    /// Memory of a key in bytes, its entry and value (MEMORY USAGE).
    pub fn memory_bytes(&mut self, key: &[u8]) -> CommandResult<Option<usize>> {
        let hash = self.hash(key);
        let entry = self.resident_entry(hash, key)?;
        Ok(entry.map(|entry| entry.memory_bytes() + 8))
    }
}
