//! Reading the tier in order, at one instant.

use super::key::{position_prefix, split};
use super::options::{EXPIRES, VALUES};
use super::{ColdError, ColdStore, Database, Times, storage};
use crate::keyspace::position::POSITION_END;
use rocksdb::{DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode};

/// The tier as it was at one instant.
pub struct ColdSnapshot<'a> {
    store: &'a ColdStore,
    snapshot: SnapshotWithThreadMode<'a, Database>,
}

/// A record met by a scan.
#[derive(Debug)]
pub struct ScannedRecord<'a> {
    /// Position of its key.
    pub position: u64,
    /// Its key.
    pub key: &'a [u8],
    /// RDB type byte and payload.
    pub record: &'a [u8],
    /// Expiry, unix ms.
    pub expire: Option<i64>,
}

impl ColdStore {
    /// Fixes the instant.
    pub fn snapshot(&self) -> ColdSnapshot<'_> {
        ColdSnapshot {
            store: self,
            snapshot: self.db.snapshot(),
        }
    }
}

impl ColdSnapshot<'_> {
    /// Calls `visit` with the records of a generation from position `from` up to `to`, in order,
    /// until it returns false.
    pub fn scan(
        &self,
        generation: u32,
        from: u64,
        to: u64,
        mut visit: impl FnMut(ScannedRecord<'_>) -> bool,
    ) -> Result<(), ColdError> {
        let mut values = self.iterator(VALUES, generation, to)?;
        let mut expires = self.iterator(EXPIRES, generation, to)?;
        let start = position_prefix(generation, from);
        values.seek(start);
        expires.seek(start);
        while let (Some(name), Some(record)) = (values.key(), values.value()) {
            // Both families are in the same order: the second follows the first.
            while expires.key().is_some_and(|other| other < name) {
                expires.next();
            }
            let expire = match (expires.key(), expires.value()) {
                (Some(other), Some(bytes)) if other == name => Times::decode(bytes).key,
                _ => None,
            };
            if let Some((_, position, key)) = split(name)
                && !visit(ScannedRecord {
                    position,
                    key,
                    record,
                    expire,
                })
            {
                return Ok(());
            }
            values.next();
        }
        values.status().map_err(storage("scan the tier"))?;
        expires.status().map_err(storage("scan the tier"))
    }

    fn iterator(
        &self,
        family: &'static str,
        generation: u32,
        to: u64,
    ) -> Result<DBRawIteratorWithThreadMode<'_, Database>, ColdError> {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        if to < POSITION_END {
            read.set_iterate_upper_bound(position_prefix(generation, to).to_vec());
        } else if let Some(next) = generation.checked_add(1) {
            read.set_iterate_upper_bound(position_prefix(next, 0).to_vec());
        }
        Ok(self
            .snapshot
            .raw_iterator_cf_opt(&self.store.family(family)?, read))
    }
}
