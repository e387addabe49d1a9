//! Cold values lent to one command: it reads them, and nothing of them stays in memory but their ghost
//! (DESIGN 7: a cold read is served without promotion, a second touch promotes). While there is room to
//! spare they come into memory at once.
//!
//! A value is lent and given back within one hold of the keyspace, so it can't become out of date.

use super::Tiering;
use super::loader::ReadValue;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::position::KeyHash;
use crate::value::codec::Decoded;
use crate::value::{ObjectType, ValueRef};

/// A value that one command may read.
#[derive(Debug)]
pub struct Lent {
    key: TierKey,
    value: Decoded,
}

impl Tiering {
    /// Whether a value may be lent that was read for a key with this stub: one that was not wanted
    /// lately, for else it is to stay.
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

    /// Lends what was read to the command that the caller is about to run, if it may be lent: else it
    /// is given back.
    pub(super) fn lend(&mut self, key: &TierKey, value: ReadValue) -> Result<(), ReadValue> {
        let hash = self.positioner.hash(key.key());
        let stub_type = self
            .database_of(key.generation())
            .and_then(|index| self.databases[index].table.find_stub(hash, key.key()))
            .map(|stub| stub.object_type);
        let Some(tiering) = &mut self.tiering else {
            return Err(value);
        };
        if stub_type != Some(ObjectType::String) || !tiering.may_lend(key, hash, &value) {
            return Err(value);
        }
        let value = value.into_decoded()?;
        tiering.admission.note_ghost(key.generation(), hash);
        tiering.stats.loaded += 1;
        tiering.stats.lent += 1;
        tiering.lent = Some(Lent {
            key: key.clone(),
            value,
        });
        Ok(())
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
