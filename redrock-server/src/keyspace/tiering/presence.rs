//! Keys of which nothing is in memory: whether they are in the tier.
//!
//! The filters say so, and for a key that is there asking them costs more than half of what reading it costs:
//! RocksDB looks for its block too. So a command that reads by itself asks them only where such keys were mostly
//! absent of late. Otherwise it reads, and is told by the read.

use crate::keyspace::Keyspace;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::position::KeyHash;

/// The whole of [`Presence::share`].
const WHOLE: u32 = 1 << 16;
/// The share is that of about so many keys.
const SHARE_OF: u32 = 64;

/// How many of the keys that were asked for lately without anything of them in memory are in the tier.
#[derive(Debug)]
pub(super) struct Presence {
    share: u32,
}

impl Default for Presence {
    fn default() -> Self {
        Self { share: WHOLE / 2 }
    }
}

impl Presence {
    /// What came out for a key.
    pub(super) fn note(&mut self, is_there: bool) {
        let one = if is_there { WHOLE / SHARE_OF } else { 0 };
        self.share = self.share - self.share / SHARE_OF + one;
    }

    /// Whether the next one is so likely to be there that the filters need not be asked. To be told by a read
    /// that it is not costs a command little that makes the read; otherwise it waits for the pool.
    fn is_likely(&self, reads_itself: impl FnOnce() -> bool) -> bool {
        let enough = match self.share >= WHOLE / 2 && reads_itself() {
            true => WHOLE / 2,
            false => WHOLE - WHOLE / 16,
        };
        self.share >= enough
    }
}

impl Keyspace {
    /// Whether a key without an entry may be in the tier. False is certain.
    pub(in crate::keyspace) fn may_be_cold(&self, index: usize, hash: KeyHash, key: &[u8]) -> bool {
        let unknown = self.unless_known_absent(index, hash, key);
        unknown.is_some_and(|tier_key| self.filters_allow(tier_key))
    }

    /// As [`Keyspace::may_be_cold`], but true as well if the key is probably there and the command `reads_itself`.
    pub(in crate::keyspace) fn may_be_there(
        &self,
        index: usize,
        (hash, key): (KeyHash, &[u8]),
        reads_itself: bool,
    ) -> bool {
        let tiering = self.tiering.as_deref().filter(|_| reads_itself);
        if tiering.is_some_and(|tiering| tiering.presence.is_likely(|| true)) {
            return self.unless_known_absent(index, hash, key).is_some();
        }
        self.may_be_cold(index, hash, key)
    }

    /// As [`Keyspace::may_be_cold`] for a command that will read this key alone: true as well if the key is
    /// so likely to be there that to read it costs less than to ask. `reads_itself`: without the pool.
    pub(super) fn may_be_read(
        &mut self,
        index: usize,
        (hash, key): (KeyHash, &[u8]),
        reads_itself: impl FnOnce() -> bool,
    ) -> bool {
        let Some(tier_key) = self.unless_known_absent(index, hash, key) else {
            return false;
        };
        let tiering = self.tiering.as_deref();
        if tiering.is_some_and(|tiering| tiering.presence.is_likely(reads_itself)) {
            return true;
        }
        let may_be = self.filters_allow(tier_key);
        // What is there is counted when it has been read.
        if let Some(tiering) = self.tiering.as_mut().filter(|_| !may_be) {
            tiering.presence.note(false);
        }
        may_be
    }

    fn filters_allow(&self, tier_key: TierKey) -> bool {
        let Some(tiering) = &self.tiering else {
            return false;
        };
        let may_be = tiering.cold.may_contain(&tier_key);
        if !may_be {
            tiering.denied.note(tier_key);
        }
        may_be
    }

    /// The tier's name of a key without an entry, unless the tier need not be asked about it.
    fn unless_known_absent(&self, index: usize, hash: KeyHash, key: &[u8]) -> Option<TierKey> {
        let tiering = self.tiering.as_ref()?;
        let database = &self.databases[index];
        if database.keys <= database.table.len() as u64
            || tiering.denied.has(database.generation, hash, key)
        {
            return None;
        }
        let tier_key = database.tier_key(hash, key);
        (!self.is_known_absent(index, &tier_key)).then_some(tier_key)
    }

    /// Whether the tier need not be asked about a key without an entry.
    pub(super) fn is_known_absent(&self, index: usize, tier_key: &TierKey) -> bool {
        let Some(tiering) = &self.tiering else {
            return true;
        };
        let database = &self.databases[index];
        database.keys <= database.table.len() as u64
            || tiering.pending.contains_key(tier_key)
            || tiering.absent.contains(tier_key)
    }
}

#[cfg(test)]
mod tests {
    use super::Presence;

    #[test]
    fn what_came_out_for_the_last_keys_is_what_counts() {
        let mut presence = Presence::default();
        assert!(presence.is_likely(|| true) && !presence.is_likely(|| false));
        for round in 0..3 {
            assert!(presence.is_likely(|| true), "round {round}");
            for _ in 0..64 {
                presence.note(false);
            }
            assert!(!presence.is_likely(|| true), "round {round}");
            for _ in 0..64 {
                presence.note(true);
            }
        }
        for turn in 0..1000 {
            presence.note(turn % 10 != 0);
        }
        assert!(presence.is_likely(|| true), "nine of ten are there");
        assert!(
            !presence.is_likely(|| false),
            "one of ten would wait for the pool"
        );
        for turn in 0..1000 {
            presence.note(turn % 10 == 0);
        }
        assert!(!presence.is_likely(|| true), "one of ten is");
    }
}
