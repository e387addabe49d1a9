//! Looking after a tier that is in trouble: free space, trying again, and going without
//! compaction.

use super::listener::Background;
use super::options::{EXPIRE_INDEX, EXPIRES, VALUES};
use super::{ColdError, ColdStore, io, storage};
use rocksdb::{FlushOptions, WriteBatch};
use std::io::Write as _;

/// Written and removed by a probe, beside the database.
const PROBE_FILE: &str = "probe";
const PROBE_BYTES: usize = 4096;
/// Below all keys of the expiry index: deleting it changes nothing.
const PROBE_KEY: &[u8] = b"";

/// The file system that the tier is on, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What we may still take.
    pub free: u64,
    /// Its size.
    pub total: u64,
}

impl ColdStore {
    /// What RocksDB tells of flushes and compactions.
    pub fn background(&self) -> &Background {
        &self.background
    }

    /// Room on the tier's disk; `None` if the folder is gone.
    pub fn space(&self) -> Option<Space> {
        let stat = rustix::fs::statvfs(&self.path).ok()?;
        Some(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    /// Whether the tier takes writes: a small file is written and synced where the database is,
    /// then a flush that failed is asked for again (its end is told by [`Background`]), then
    /// something is written that changes nothing.
    pub fn probe(&self) -> Result<(), ColdError> {
        self.probe_file()?;
        if self.background.flush_trouble().is_some() {
            let families = [VALUES, EXPIRES, EXPIRE_INDEX].map(|name| self.family(name));
            let families = families.into_iter().collect::<Result<Vec<_>, _>>()?;
            let mut options = FlushOptions::default();
            options.set_wait(false);
            self.db
                .flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options)
                .map_err(storage("flush the tier"))?;
        }
        let mut batch = WriteBatch::default();
        batch.delete_cf(&self.family(EXPIRE_INDEX)?, PROBE_KEY);
        self.write(batch)?;
        self.background.forget_stop();
        Ok(())
    }

    fn probe_file(&self) -> Result<(), ColdError> {
        let path = self.path.join(super::DATABASE_DIR).join(PROBE_FILE);
        let attempt = || {
            let mut file = std::fs::File::create(&path)?;
            file.write_all(&[0; PROBE_BYTES])?;
            file.sync_all()
        };
        let written = attempt().map_err(io("write", &path));
        // It may not be there.
        let _ = std::fs::remove_file(&path);
        written
    }

    /// Turns compaction in the background on or off. Without it, a damaged file is not tried again
    /// and again, and writes do not wait for a compaction that never ends.
    pub fn set_compaction(&self, on: bool) -> Result<(), ColdError> {
        let value = if on { "false" } else { "true" };
        for name in [VALUES, EXPIRES, EXPIRE_INDEX] {
            self.db
                .set_options_cf(&self.family(name)?, &[("disable_auto_compactions", value)])
                .map_err(storage("set the tier's options"))?;
        }
        Ok(())
    }

    /// Rewrites all files without what is obsolete. Takes its time; reads and writes go on. A
    /// file that can't be read fails it; if all can be, a damage that was known is over.
    pub fn compact(&self) -> Result<(), ColdError> {
        let was_damaged = self.background.damage().is_some();
        self.background.forget_damage();
        for name in [VALUES, EXPIRES, EXPIRE_INDEX] {
            let family = self.family(name)?;
            self.db
                .compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
        }
        match self.background.damage() {
            Some(text) => Err(ColdError::Compaction(text)),
            None if was_damaged => self.set_compaction(true),
            None => Ok(()),
        }
    }
}
