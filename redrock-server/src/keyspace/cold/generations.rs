//! Deleting the content of databases as a whole.

use super::key::{PREFIX_BYTES, position_prefix};
use super::options::{EXPIRES, VALUES};
use super::{ColdError, ColdStore, storage};
use rocksdb::{ReadOptions, WriteBatch};
use std::ops::RangeInclusive;

/// Where the keys of some generations begin, and where they end.
fn generation_range(generations: RangeInclusive<u32>) -> (Vec<u8>, Vec<u8>) {
    let to = match generations.end().checked_add(1) {
        Some(next) => position_prefix(next, 0).to_vec(),
        None => vec![0xff; PREFIX_BYTES + 1],
    };
    (position_prefix(*generations.start(), 0).to_vec(), to)
}

impl ColdStore {
    /// Deletes a whole generation.
    pub fn drop_generation(&self, generation: u32) -> Result<(), ColdError> {
        self.drop_generations(generation..=generation)
    }

    /// Deletes all generations but these.
    pub(super) fn drop_generations_but(&self, mut kept: Vec<u32>) -> Result<(), ColdError> {
        kept.sort_unstable();
        let mut next = Some(0);
        for generation in kept {
            if let Some(from) = next.filter(|from| *from < generation) {
                self.drop_if_any(from..=generation - 1)?;
            }
            next = generation.checked_add(1);
        }
        next.map_or(Ok(()), |from| self.drop_if_any(from..=u32::MAX))
    }

    /// Deletes what is there of them: a deletion of nothing would cost every read a look at it.
    fn drop_if_any(&self, generations: RangeInclusive<u32>) -> Result<(), ColdError> {
        let range = generation_range(generations.clone());
        if self.has_any(VALUES, &range)? || self.has_any(EXPIRES, &range)? {
            self.drop_generations(generations)?;
        }
        Ok(())
    }

    /// Whether a family has any key of these generations.
    fn has_any(&self, name: &'static str, range: &(Vec<u8>, Vec<u8>)) -> Result<bool, ColdError> {
        let (from, to) = range;
        let family = self.family(name)?;
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(to.clone());
        let mut keys = self.db.raw_iterator_cf_opt(&family, read);
        keys.seek(from);
        keys.status().map_err(storage("scan the tier"))?;
        Ok(keys.valid())
    }

    fn drop_generations(&self, generations: RangeInclusive<u32>) -> Result<(), ColdError> {
        self.drop_files_of(generations.clone())?;
        let (from, to) = generation_range(generations);
        for name in [VALUES, EXPIRES] {
            let family = self.family(name)?;
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(&family, &from[..], &to[..]);
            self.write(batch)?;
        }
        Ok(())
    }

    /// Gives back the room of files with nothing but a generation that nobody reads any more.
    pub fn drop_files(&self, generation: u32) -> Result<(), ColdError> {
        self.drop_files_of(generation..=generation)
    }

    fn drop_files_of(&self, generations: RangeInclusive<u32>) -> Result<(), ColdError> {
        let (from, to) = generation_range(generations);
        for name in [VALUES, EXPIRES] {
            let family = self.family(name)?;
            self.db
                .delete_file_in_range_cf(&family, &from[..], &to[..])
                .map_err(storage("drop files of a flushed database"))?;
        }
        Ok(())
    }
}
