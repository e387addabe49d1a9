//! The times beside a record: when its key expires, and when the first field of a hash does.
//!
//! They are a small record of their own under the record's key, written blind, and an entry each
//! in the expiry index, where what is due first comes first. Key and fields have a part of the
//! index each.

use super::key::{TierKey, expire_index_key, field_index_key};
use super::options::{EXPIRE_INDEX, EXPIRES};
use super::{ColdBatch, ColdError, ColdStore, storage};
use rocksdb::{Direction, IteratorMode, ReadOptions};
use std::sync::atomic::Ordering;

/// See the module; unix ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// When the key expires.
    pub key: Option<i64>,
    /// When the first of its fields expires.
    pub fields: Option<i64>,
}

/// Before the fields' time where the key has none.
const NO_KEY_TIME: u8 = 0;

impl Times {
    /// 8 bytes: the key's time; 16: that and the fields'; 9: a zero and the fields'. All numbers
    /// big-endian. Empty without any.
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        match (self.key, self.fields) {
            (Some(ms), _) => out.extend_from_slice(&ms.to_be_bytes()),
            (None, Some(_)) => out.push(NO_KEY_TIME),
            (None, None) => {}
        }
        if let Some(ms) = self.fields {
            out.extend_from_slice(&ms.to_be_bytes());
        }
        out
    }

    /// The reverse of [`Times::encode`].
    pub fn decode(bytes: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
        match bytes {
            [NO_KEY_TIME, fields @ ..] if bytes.len() == 9 => Self {
                key: None,
                fields: number(fields),
            },
            _ => {
                let (key, fields) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
                Self {
                    key: number(key),
                    fields: number(fields),
                }
            }
        }
    }
}

/// A part of the expiry index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueIndex {
    /// When keys expire.
    Keys,
    /// When the first field of a hash expires.
    Fields,
}

impl DueIndex {
    fn key(self, time: i64, tier_key: &[u8]) -> Vec<u8> {
        match self {
            Self::Keys => expire_index_key(time, tier_key),
            Self::Fields => field_index_key(time, tier_key),
        }
    }
}

impl ColdStore {
    /// The times beside a record, which is not read.
    pub fn times_of(&self, key: &TierKey) -> Result<Times, ColdError> {
        if !self.timed.load(Ordering::Acquire) {
            return Ok(Times::default());
        }
        let found = self
            .db
            .get_pinned_cf(&self.family(EXPIRES)?, key.as_bytes());
        let found = found.map_err(storage("read the tier"))?;
        Ok(found.map_or(Times::default(), |bytes| Times::decode(&bytes)))
    }

    /// Adds a change of times to a batch.
    pub fn set_times(
        &self,
        batch: &mut ColdBatch,
        key: &TierKey,
        old: Times,
        new: Times,
    ) -> Result<(), ColdError> {
        if old == new {
            return Ok(());
        }
        let (expires, index) = (self.family(EXPIRES)?, self.family(EXPIRE_INDEX)?);
        for (part, old, new) in [
            (DueIndex::Keys, old.key, new.key),
            (DueIndex::Fields, old.fields, new.fields),
        ] {
            if old == new {
                continue;
            }
            if let Some(ms) = old {
                batch.batch.delete_cf(&index, part.key(ms, key.as_bytes()));
            }
            if let Some(ms) = new {
                batch
                    .batch
                    .put_cf(&index, part.key(ms, key.as_bytes()), b"");
            }
        }
        if new == Times::default() {
            batch.batch.delete_cf(&expires, key.as_bytes());
        } else {
            self.timed.store(true, Ordering::Release);
            batch.batch.put_cf(&expires, key.as_bytes(), new.encode());
        }
        Ok(())
    }

    /// Tier keys of records with something due before `now_ms`, at most `max`, with the times
    /// that the index has for them.
    pub fn due(
        &self,
        part: DueIndex,
        now_ms: i64,
        max: usize,
    ) -> Result<Vec<(i64, TierKey)>, ColdError> {
        let index = self.family(EXPIRE_INDEX)?;
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(part.key(now_ms, b""));
        let start = part.key(0, b"");
        let mode = IteratorMode::From(&start, Direction::Forward);
        let time_at = start.len() - 8;
        let mut out = Vec::new();
        for item in self.db.iterator_cf_opt(&index, read, mode).take(max) {
            let (key, _) = item.map_err(storage("read the expiry index"))?;
            let found = key.get(time_at..).and_then(|key| key.split_at_checked(8));
            if let Some((time, rest)) = found
                && let Ok(time) = time.try_into()
            {
                out.push((u64::from_be_bytes(time) as i64, TierKey::from_bytes(rest)));
            }
        }
        Ok(out)
    }

    /// Drops an entry of the expiry index that no longer says the truth.
    pub fn forget_due(
        &self,
        batch: &mut ColdBatch,
        part: DueIndex,
        time: i64,
        key: &TierKey,
    ) -> Result<(), ColdError> {
        let index = self.family(EXPIRE_INDEX)?;
        batch
            .batch
            .delete_cf(&index, part.key(time, key.as_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_keys_and_fields_read_back() {
        for key in [
            None,
            Some(0),
            Some(-5),
            Some(1_700_000_000_000),
            Some(i64::MAX),
        ] {
            for fields in [None, Some(1), Some(1_700_000_000_001)] {
                let times = Times { key, fields };
                assert_eq!(Times::decode(&times.encode()), times);
            }
        }
    }
}
