//! What a command sees of the keyspace: one selected database under the locks.
//!
//! Every change goes through [`Db::before_change`]: it is where snapshots take their pre-image
//! and where a clean entry becomes dirty. No other code may alter an entry's value or expiry.

use super::hot::entry::{Entry, INLINE_BYTES_MAX, NewValue};
use super::position::KeyHash;
use super::snapshot::LARGE_VALUE_BYTES;
use super::{Database, ExpireMode, Keyspace};
use crate::command::effect::Effect;
use crate::command::{CommandError, CommandResult};
use crate::notify::{Class, Notifier};
use crate::value::{Object, ObjectType, ValueRef, hash::Hash, list::List, set::Set, zset::ZSet};
use redrock_rdb::number::parse_i64;
use std::sync::Arc;

/// A collection type that commands ask for by type.
pub trait Collection: Sized {
    /// The value as this type.
    fn of(value: ValueRef<'_>) -> Option<&Self>;
    /// The object as this type, for editing.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// An empty one.
    fn empty() -> Object;
    /// Number of elements.
    fn size(&self) -> usize;
}

macro_rules! collection {
    ($type:ident) => {
        impl Collection for $type {
            fn of(value: ValueRef<'_>) -> Option<&Self> {
                match value {
                    ValueRef::$type(value) => Some(value),
                    _ => None,
                }
            }
            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                match object {
                    Object::$type(value) => Some(value),
                    _ => None,
                }
            }
            fn empty() -> Object {
                Object::$type($type::new())
            }
            fn size(&self) -> usize {
                self.len()
            }
        }
    };
}
collection!(Hash);
collection!(List);
collection!(Set);
collection!(ZSet);

/// A string value: an integer kept as such, or bytes.
#[derive(Debug, Clone, Copy)]
pub enum StringRef<'a> {
    /// Encoding `int`.
    Int(i64),
    /// Encodings `embstr` and `raw`.
    Bytes(&'a [u8]),
}

impl StringRef<'_> {
    /// The text, written into `digits` if it is an integer.
    pub fn as_bytes<'b>(&'b self, digits: &'b mut itoa::Buffer) -> &'b [u8] {
        match self {
            Self::Int(n) => digits.format(*n).as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// An owned copy of the text.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happens to the expiry when a key gets a new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// No expiry, whatever it was.
    Clear,
    /// As it was.
    Keep,
    /// At this time, unix ms.
    At(i64),
}

/// What a key's presence alone tells, without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The type.
    pub object_type: ObjectType,
    /// The expiry, unix ms.
    pub expire: Option<i64>,
    /// Whether the value is in the tier only.
    pub cold: bool,
}

/// One selected database. See the module.
pub struct Db<'a> {
    pub(super) keyspace: &'a mut Keyspace,
    pub(super) notifier: &'a dyn Notifier,
    pub(super) index: usize,
    now_ms: i64,
    /// False for `CLIENT NO-TOUCH` and for OBJECT, DEBUG and the like.
    pub touch: bool,
    /// Cold values are read under the locks instead of failing with [`CommandError::Cold`]: EXEC
    /// and scripts, which can't be run again once they have changed something.
    pub blocking_reads: bool,
    /// What the command changed so far.
    pub effect: &'a mut Effect,
}

impl<'a> Db<'a> {
    /// Database `index` of a locked keyspace at time `now_ms`.
    pub fn new(
        keyspace: &'a mut Keyspace,
        notifier: &'a dyn Notifier,
        effect: &'a mut Effect,
        index: usize,
        now_ms: i64,
    ) -> Self {
        Self {
            keyspace,
            notifier,
            index,
            now_ms,
            touch: true,
            blocking_reads: false,
            effect,
        }
    }

    /// The same keyspace with another database selected.
    pub fn other(&mut self, index: usize) -> Db<'_> {
        Db {
            keyspace: self.keyspace,
            notifier: self.notifier,
            index,
            now_ms: self.now_ms,
            touch: self.touch,
            blocking_reads: self.blocking_reads,
            effect: self.effect,
        }
    }

    /// The selected database's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The running command's time, unix ms.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The keyspace, for administration.
    pub fn keyspace(&mut self) -> &mut Keyspace {
        self.keyspace
    }

    pub(super) fn database(&self) -> &Database {
        &self.keyspace.databases[self.index]
    }

    fn database_mut(&mut self) -> &mut Database {
        &mut self.keyspace.databases[self.index]
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        self.keyspace.positioner.hash(key)
    }

    /// Number of keys (`DBSIZE`: expired ones that are still there count).
    pub fn len(&self) -> u64 {
        self.database().keys
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // ----- looking ---------------------------------------------------------------------------

    /// Finds an entry, deleting it first if it has expired and this server may. A key that may
    /// be in the tier and has no entry is [`CommandError::Cold`].
    pub(super) fn entry(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult<Option<&mut Entry>> {
        let database = &self.keyspace.databases[self.index];
        let Some(entry) = database.table.find(hash, key) else {
            if !self.keyspace.may_be_cold(self.index, hash, key) {
                return Ok(None);
            }
            return self.entry_unknown(hash, key);
        };
        if let Some(ms) = entry.expire()
            && ms <= self.now_ms
        {
            match self.keyspace.expire_mode {
                ExpireMode::Ignore => {}
                ExpireMode::Hide => return Ok(None),
                ExpireMode::Delete => {
                    self.expire_now(hash, key);
                    return Ok(None);
                }
            }
        }
        Ok(self.keyspace.databases[self.index]
            .table
            .find_mut(hash, key))
    }

    /// The tier must be asked: the command waits, or (in EXEC and scripts) reads now.
    fn entry_unknown(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult<Option<&mut Entry>> {
        self.cold(key)?;
        match self.keyspace.databases[self.index].table.find(hash, key) {
            Some(_) => self.entry(hash, key),
            None => Ok(None),
        }
    }

    /// A value must come from the tier: fails with [`CommandError::Cold`], or reads it now where
    /// waiting is not possible any more.
    fn cold(&mut self, key: &[u8]) -> CommandResult {
        if !self.blocking_reads {
            return Err(CommandError::Cold(self.index, key.to_vec()));
        }
        let read = self.keyspace.load_blocking(self.index, key);
        read.map_err(|error| CommandError::text(format!("ERR {error}")))
    }

    fn expire_now(&mut self, hash: KeyHash, key: &[u8]) {
        if let Some(entry) = self.remove_entry(hash, key) {
            self.keyspace.garbage.add(entry);
        }
        self.keyspace.stats.expired += 1;
        self.effect.before(self.index, &[b"DEL", key]);
        self.signal(key);
        self.notifier
            .notify(Class::EXPIRED, "expired", key, self.index);
    }

    /// Deletes a key whose time has come (active expiry). False if it is not due.
    pub fn expire_if_due(&mut self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        let due = (self.database().table.find(hash, key))
            .and_then(Entry::expire)
            .is_some_and(|ms| ms <= self.now_ms);
        if due {
            self.expire_now(hash, key);
        }
        due
    }

    pub(super) fn touch_entry(entry: &mut Entry, access: &super::access::AccessPolicy) {
        let touched = access.touched(entry.access());
        entry.set_access(touched);
        // The first touch is that of the command that waited for the load; the second promotes.
        if entry.is_fresh() {
            entry.set_fresh(false);
        } else if entry.is_on_probation() {
            entry.set_probation(false);
        }
    }

    /// Looks a value up for reading: counts hit or miss and records the access.
    pub fn read_any(&mut self, key: &[u8]) -> CommandResult<Option<ValueRef<'_>>> {
        let hash = self.hash(key);
        let touch = self.touch;
        let access = self.keyspace.access;
        if self.entry(hash, key)?.is_none() {
            self.keyspace.stats.misses += 1;
            self.notifier
                .notify(Class::KEY_MISS, "keymiss", key, self.index);
            return Ok(None);
        }
        self.keyspace.stats.hits += 1;
        self.resident(hash, key)?;
        let database = &mut self.keyspace.databases[self.index];
        let Some(entry) = database.table.find_mut(hash, key) else {
            return Ok(None);
        };
        if touch {
            Self::touch_entry(entry, &access);
        }
        Ok(entry.value())
    }

    /// Makes sure that an existing entry has its value.
    pub(super) fn resident(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult {
        let stub = self
            .database()
            .table
            .find(hash, key)
            .is_some_and(Entry::is_stub);
        if stub { self.cold(key) } else { Ok(()) }
    }

    /// Looks a value up without counting or recording anything.
    pub fn peek(&mut self, key: &[u8]) -> CommandResult<Option<ValueRef<'_>>> {
        let hash = self.hash(key);
        if self.entry(hash, key)?.is_none() {
            return Ok(None);
        }
        self.resident(hash, key)?;
        Ok(self.database().table.find(hash, key).and_then(Entry::value))
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
        let hash = self.hash(key);
        Ok(self.database().table.find(hash, key).and_then(Entry::share))
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
        Ok(self.entry(hash, key)?.map(|entry| Presence {
            object_type: entry.object_type(),
            expire: entry.expire(),
            cold: entry.is_stub(),
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
        let access = self.entry(hash, key).ok()??.access();
        Some((policy.idle_seconds(access), policy.decayed(access)))
    }

    /// Sets access data as RESTORE and loading do.
    pub fn set_access(&mut self, key: &[u8], idle_seconds: Option<u64>, freq: Option<u8>) {
        let policy = self.keyspace.access;
        let hash = self.hash(key);
        let Ok(Some(entry)) = self.entry(hash, key) else {
            return;
        };
        if let Some(idle) = idle_seconds
            && !policy.lfu
        {
            let idle = idle.min(0xff_ffff) as u32;
            entry.set_access(policy.clock_seconds.wrapping_sub(idle) & 0xff_ffff);
        }
        if let Some(freq) = freq
            && policy.lfu
        {
            entry.set_access(policy.clock_minutes << 8 | u32::from(freq));
        }
    }

    /// Records an access (TOUCH).
    pub fn touch_key(&mut self, key: &[u8]) -> CommandResult<bool> {
        let access = self.keyspace.access;
        let hash = self.hash(key);
        let found = self.entry(hash, key)?;
        Ok(found.is_some_and(|entry| {
            Self::touch_entry(entry, &access);
            true
        }))
    }

    /// Memory of a key in bytes, its entry and value (MEMORY USAGE).
    pub fn memory_bytes(&mut self, key: &[u8]) -> CommandResult<Option<usize>> {
        let hash = self.hash(key);
        if self.entry(hash, key)?.is_none() {
            return Ok(None);
        }
        self.resident(hash, key)?;
        Ok(self
            .database()
            .table
            .find(hash, key)
            .map(|entry| entry.memory_bytes() + 8))
    }

    // ----- changing --------------------------------------------------------------------------

    fn entry_for_change(&mut self, hash: KeyHash, key: &[u8]) -> CommandResult<Option<&mut Entry>> {
        if self.entry(hash, key)?.is_none() {
            return Ok(None);
        }
        self.keyspace.before_change(self.index, hash, key);
        Ok(self.keyspace.databases[self.index]
            .table
            .find_mut(hash, key))
    }

    pub(super) fn insert(&mut self, hash: KeyHash, mut entry: Entry) {
        entry.set_dirty(true);
        entry.set_epoch(self.keyspace.epoch);
        entry.set_access(self.keyspace.access.initial());
        let has_expire = entry.has_expire();
        let database = self.database_mut();
        database.keys += 1;
        database.expires += u64::from(has_expire);
        let key = self
            .keyspace
            .tiering
            .is_some()
            .then(|| entry.key().to_vec());
        self.database_mut().table.insert(hash, entry);
        if let Some(key) = key {
            self.keyspace.note_inserted(self.index, hash, &key);
        }
    }

    /// Gives a key a new value of any type. Existing expiry as `expiry` says.
    pub(super) fn put(&mut self, key: &[u8], value: NewValue<'_>, expiry: Expiry) -> CommandResult {
        let hash = self.hash(key);
        let access = self.keyspace.access;
        let mut replaced = None;
        let now_expire = match self.entry_for_change(hash, key)? {
            None => {
                let expire = if let Expiry::At(ms) = expiry {
                    Some(ms)
                } else {
                    None
                };
                self.insert(hash, Entry::new(key, value, expire));
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
                Self::touch_entry(entry, &access);
                (before, after)
            }
        };
        if let Some(old) = replaced {
            self.keyspace.garbage.add(old);
        }
        self.expire_changed(hash, now_expire.0, now_expire.1);
        Ok(())
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

    /// Sets an integer string.
    pub fn set_int(&mut self, key: &[u8], n: i64, expiry: Expiry) -> CommandResult {
        self.put(key, NewValue::Int(n), expiry)
    }

    /// Sets any object, replacing whatever the key held. Strings are stored as `set_string` does.
    pub fn set_object(&mut self, key: &[u8], object: Object, expiry: Expiry) -> CommandResult {
        match object {
            Object::Raw(bytes) if bytes.len() <= INLINE_BYTES_MAX => {
                self.set_string(key, &bytes, expiry)
            }
            other => self.put(key, NewValue::Heap(Arc::new(other)), expiry),
        }
    }

    /// A string for editing in place (`APPEND`, `SETRANGE`, `SETBIT`); created empty if absent.
    /// Its encoding is `raw` from now on.
    pub fn string_mut(&mut self, key: &[u8]) -> CommandResult<&mut Vec<u8>> {
        let hash = self.hash(key);
        let on_heap = self
            .entry(hash, key)?
            .is_some_and(|entry| entry.share().is_some());
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

    fn object_for_change(
        &mut self,
        hash: KeyHash,
        key: &[u8],
    ) -> CommandResult<Option<&mut Object>> {
        let touch = self.touch;
        let access = self.keyspace.access;
        let blocking_reads = self.blocking_reads;
        let Some(entry) = self.entry_for_change(hash, key)? else {
            return Ok(None);
        };
        if touch {
            Self::touch_entry(entry, &access);
        }
        if entry.is_shared()
            && let Some(object) = entry.share()
        {
            if object.memory_bytes() > LARGE_VALUE_BYTES && !blocking_reads {
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

    pub(super) fn remove_entry(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        self.keyspace.before_change(self.index, hash, key);
        let database = &mut self.keyspace.databases[self.index];
        let entry = database.table.remove(hash, key)?;
        database.keys -= 1;
        database.expires -= u64::from(entry.has_expire());
        Some(entry)
    }

    /// Deletes a key; false if there was none. Needs no value in memory. The caller notifies.
    pub fn remove(&mut self, key: &[u8]) -> CommandResult<bool> {
        let hash = self.hash(key);
        if self.entry(hash, key)?.is_none() {
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
        if self.entry(hash, key)?.is_none() {
            return Ok(None);
        }
        self.resident(hash, key)?;
        let Some(entry) = self.database().table.find(hash, key) else {
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
        let (clean, before) = match self.entry(hash, key)? {
            None => return Ok(false),
            Some(entry) => (!entry.is_dirty(), entry.expire()),
        };
        if clean {
            // The value stays as it is in the tier; only the small record beside it changes.
            self.keyspace
                .tier_set_expire(self.index, hash, key, before, expire);
        } else {
            self.keyspace.before_change(self.index, hash, key);
        }
        if let Some(entry) = self.database_mut().table.find_mut(hash, key) {
            match (before, expire) {
                (Some(_), Some(ms)) => entry.replace_expire(ms),
                (None, None) => {}
                _ => *entry = entry.with_expire(expire),
            }
        }
        self.expire_changed(hash, before, expire);
        Ok(true)
    }

    // ----- telling ---------------------------------------------------------------------------

    /// See [`crate::command::Context::changed`].
    pub fn changed(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.signal(key);
        self.effect.dirty += 1;
        self.notifier.notify(class, event, key, self.index);
    }

    /// Wakes WATCHers and invalidates client-side caches of a key.
    pub fn signal(&mut self, key: &[u8]) {
        if !self.keyspace.watched.is_empty() {
            let exists = self.database().table.find(self.hash(key), key).is_some();
            self.keyspace.watched.changed(self.index, key, exists);
        }
        self.notifier.invalidate(key);
    }

    /// Publishes a keyspace event.
    pub fn notify(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.notifier.notify(class, event, key, self.index);
    }

    /// Tells blocked clients that a key may have what they wait for; they are served when the
    /// command (or the whole EXEC) is done.
    pub fn signal_ready(&mut self, key: &[u8]) {
        let index = self.index;
        if !self
            .keyspace
            .ready
            .iter()
            .any(|(db, k)| *db == index && k == key)
        {
            self.keyspace.ready.push((index, key.to_vec()));
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
