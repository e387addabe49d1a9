//! Cold values lent to one command: it reads them, and nothing of them stays in memory but their ghost
//! (DESIGN 7: a cold read is served without promotion, a second touch promotes). While there is room to
//! spare they come into memory at once.
//!
//! A value is lent and given back within one hold of the keyspace, so it can't become out of date. What the
//! hold begins with, the end of the read, looks for the key; the command need not look once more.

use super::Tiering;
use super::loader::{Finished, Load, ReadValue};
use crate::keyspace::Keyspace;
use crate::keyspace::cold::ColdError;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::expire::has_passed;
use crate::keyspace::hot::found::Found;
use crate::keyspace::position::KeyHash;
use crate::value::codec::Decoded;
use crate::value::{ObjectType, ValueRef};

/// The command to which a value may be lent.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// It records accesses.
    pub touch: bool,
    /// Its time, unix ms.
    pub now_ms: i64,
}

/// A value that one command may read.
#[derive(Debug)]
pub struct Lent {
    key: TierKey,
    value: Decoded,
}

impl Tiering {
    /// Whether a value may be lent that was read for a key: one that was not wanted lately, for else it
    /// is to stay.
    fn may_lend(&self, key: &TierKey, hash: KeyHash, value: &ReadValue) -> bool {
        self.lends && value.is_sound_string() && !self.admission.is_ghost(key.generation(), hash)
    }
}

impl Keyspace {
    /// Sets whether cold values are lent to who reads them for the first time.
    pub fn set_lending(&mut self, on: bool) {
        if let Some(tiering) = &mut self.tiering {
            tiering.lends = on;
        }
    }

    /// A read is done: lends its value to the command that the caller is about to run where nobody else waits
    /// for it, or puts it into memory ([`Keyspace::finish_read`]).
    pub(super) fn finish_read_for_one(
        &mut self,
        (tier_key, hash): (TierKey, KeyHash),
        read: Result<Option<ReadValue>, ColdError>,
        reader: Reader,
    ) -> Finished {
        let load = self.tiering.as_ref().and_then(|t| t.loads.get(&tier_key));
        let read = match read {
            Ok(Some(value)) if load.is_some_and(Load::is_for_one) => {
                match self.lend((&tier_key, hash), value, reader) {
                    Ok(value) => {
                        if let Some(tiering) = &mut self.tiering {
                            tiering.loads.remove(&tier_key);
                            tiering.lent = Some(Lent {
                                key: tier_key,
                                value,
                            });
                        }
                        return Finished::for_nobody();
                    }
                    Err(value) => Ok(Some(value)),
                }
            }
            read => read,
        };
        self.finish_read(&tier_key, read)
    }

    /// The value that was read, if it may be lent: else all of it is given back.
    fn lend(
        &mut self,
        (key, hash): (&TierKey, KeyHash),
        value: ReadValue,
        reader: Reader,
    ) -> Result<Decoded, ReadValue> {
        let Some(index) = self.database_of(key.generation()) else {
            return Err(value);
        };
        let Some(tiering) = &mut self.tiering else {
            return Err(value);
        };
        let table = &mut self.databases[index].table;
        let (is_string, stub_access, expire) = match table.find(hash, key.key()) {
            Some(Found::Value(_)) => return Err(value),
            Some(Found::Stub(stub)) => {
                let is_string = stub.object_type == ObjectType::String;
                (is_string, Some(stub.access), stub.expire)
            }
            None => {
                tiering.presence.note(true);
                (true, None, value.expire())
            }
        };
        // What has expired is found to have by the command itself.
        if !is_string || has_passed(expire, reader.now_ms) || !tiering.may_lend(key, hash, &value) {
            return Err(value);
        }
        let value = value.into_decoded()?;
        tiering.admission.note_ghost(key.generation(), hash);
        tiering.stats.loaded += 1;
        tiering.stats.lent += 1;
        if let Some(access) = stub_access.filter(|_| reader.touch) {
            table.set_stub_access(hash, key.key(), self.access.touched(access));
        }
        Ok(value)
    }

    /// Whether the command that is about to run has been lent its value.
    pub fn has_lent(&self) -> bool {
        self.tiering
            .as_ref()
            .is_some_and(|tiering| tiering.lent.is_some())
    }

    /// The command has run. What it was lent is freed by the caller, without the lock.
    pub fn take_lent(&mut self) -> Option<Lent> {
        self.tiering.as_mut()?.lent.take()
    }

    /// The value of a key, if it is lent.
    pub(in crate::keyspace) fn lent(&self, index: usize, key: &[u8]) -> Option<ValueRef<'_>> {
        let lent = self.tiering.as_ref()?.lent.as_ref()?;
        let generation = self.databases[index].generation;
        let is_it = lent.key.generation() == generation && lent.key.key() == key;
        is_it.then(|| lent.value.as_value_ref())
    }
}
