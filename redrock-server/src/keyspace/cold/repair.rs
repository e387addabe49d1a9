//! Looking after a tier that is in trouble: free space, trying again, and going without
//! compaction (ADR 13).
//!
//! Nothing here waits for RocksDB without an end: a flush that fails is noted by
//! [`Background`] and hidden from RocksDB, whose own waits would go on until one succeeds.

use super::listener::{Background, is_no_space};
use super::options::{EXPIRE_INDEX, EXPIRES, LEVEL_ZERO_STOP, VALUES};
use super::{ColdError, ColdStore, io, storage};
use rocksdb::{ErrorKind, FlushOptions, WriteBatch};
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const FAMILIES: [&str; 3] = [VALUES, EXPIRES, EXPIRE_INDEX];
/// Written and removed by a probe, beside the database.
const PROBE_FILE: &str = "probe";
const PROBE_BYTES: u64 = 4096;
/// Below all keys of the expiry index: deleting it changes nothing.
const PROBE_KEY: &[u8] = b"";
/// How long a checkpoint or a purge waits for memtables to be written.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at them, where no flush ends.
const FLUSH_LOOK: Duration = Duration::from_millis(50);
/// So many ends of flushes, one a column family: two whole ones.
const FLUSH_ENDS: u64 = 2 * FAMILIES.len() as u64;
/// What RocksDB says when options are in force but not in its file of them.
const NOT_IN_FILE: &str = "Unable to persist options";

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

    /// Tries again what failed: first whether a file can be written and synced where the database is,
    /// then a flush (its end is told by [`Background`]), then something that changes nothing.
    pub fn probe(&self) -> Result<(), ColdError> {
        let trouble = self.background.flush_trouble();
        // A flush into a disk without room for it would take what little there is, again and again.
        let wanted = match &trouble {
            Some(text) if is_no_space(text) => self.sum("rocksdb.cur-size-all-mem-tables")?,
            _ => 0,
        };
        self.probe_file(wanted)?;
        if trouble.is_some() {
            self.begin_manifest_anew()?;
            if !self.has_unflushed()? {
                // It was a compaction that could not write the manifest: a flush needs something to do.
                self.write_nothing()?;
            }
            self.request_flush()?;
        }
        if self.background.stop_trouble().is_some() {
            self.write_nothing()?;
            self.background.forget_stop();
        }
        Ok(())
    }

    fn write_nothing(&self) -> Result<(), ColdError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(&self.family(EXPIRE_INDEX)?, PROBE_KEY);
        self.write(batch)
    }

    /// Whether there is room for `wanted` bytes, and a little can be written.
    fn probe_file(&self, wanted: u64) -> Result<(), ColdError> {
        let path = self.path.join(super::DATABASE_DIR).join(PROBE_FILE);
        let attempt = || {
            let mut file = File::create(&path)?;
            allocate(&file, wanted.max(PROBE_BYTES))?;
            file.write_all(&[0; PROBE_BYTES as usize])?;
            file.sync_all()
        };
        let written = attempt().map_err(io("write", &path));
        // It may not be there.
        let _ = std::fs::remove_file(&path);
        written
    }

    /// After a failed write of the manifest RocksDB fails all flushes before they come to it, until
    /// something else has changed a version. A change of options does, though it writes no manifest;
    /// the flush that follows begins a new one.
    fn begin_manifest_anew(&self) -> Result<(), ColdError> {
        let off = !self.compacts.load(Ordering::Relaxed);
        self.set_option(VALUES, "disable_auto_compactions", &off.to_string())
    }

    /// Sets an option of a column family. That it can't be written down changes nothing: the tier is
    /// never opened again.
    pub(super) fn set_option(
        &self,
        family: &'static str,
        name: &str,
        value: &str,
    ) -> Result<(), ColdError> {
        match self
            .db
            .set_options_cf(&self.family(family)?, &[(name, value)])
        {
            Err(error) if !error.as_ref().contains(NOT_IN_FILE) => {
                Err(storage("set the tier's options")(error))
            }
            _ => Ok(()),
        }
    }

    /// Asks for all memtables to be written, and does not wait for that. False where RocksDB wants
    /// compaction to come first.
    fn request_flush(&self) -> Result<bool, ColdError> {
        let compacts = self.compacts.load(Ordering::Relaxed);
        // Here it would wait even though it is told not to.
        if compacts && self.level_zero_files()? + 1 >= LEVEL_ZERO_STOP {
            return Ok(false);
        }
        let families = FAMILIES.map(|name| self.family(name));
        let families = families.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(false);
        let families: Vec<_> = families.iter().collect();
        match self.db.flush_cfs_opt(&families, &options) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TryAgain => Ok(false),
            Err(error) => Err(storage("flush the tier")(error)),
        }
    }

    /// Of the column family that has most.
    fn level_zero_files(&self) -> Result<u64, ColdError> {
        let mut most = 0;
        for name in FAMILIES {
            let figure = self
                .db
                .property_value_cf(&self.family(name)?, "rocksdb.num-files-at-level0")
                .map_err(storage("ask the tier"))?;
            let files = figure.and_then(|text| text.parse().ok());
            most = most.max(files.unwrap_or(0));
        }
        Ok(most)
    }

    fn has_unflushed(&self) -> Result<bool, ColdError> {
        Ok(self.sum("rocksdb.num-immutable-mem-table")? > 0)
    }

    /// A figure of RocksDB's over all column families.
    pub(super) fn sum(&self, property: &str) -> Result<u64, ColdError> {
        let mut sum = 0;
        for name in FAMILIES {
            let figure = self
                .db
                .property_int_value_cf(&self.family(name)?, property)
                .map_err(storage("ask the tier"))?;
            sum += figure.unwrap_or(0);
        }
        Ok(sum)
    }

    /// Writes all that is in memtables to files. An error where that fails or takes too long. For who
    /// alone writes: it waits until no memtable is left.
    ///
    /// Ends of flushes tell nothing here. One that was asked for earlier, and only begins later, writes what was
    /// there when it was asked for.
    pub(super) fn flush(&self) -> Result<(), ColdError> {
        self.flush_until(|| false)
    }

    /// As [`Self::flush`] beside others who write: about all that is there now.
    pub fn flush_roughly(&self) -> Result<(), ColdError> {
        let ends = self.background.flush_ends();
        self.flush_until(|| self.background.flush_ends() >= ends + FLUSH_ENDS)
    }

    fn flush_until(&self, is_over: impl Fn() -> bool) -> Result<(), ColdError> {
        let begun = Instant::now();
        let mut is_requested = false;
        loop {
            if let Some(trouble) = self.background.flush_trouble() {
                return Err(ColdError::Flush(trouble));
            }
            if !is_requested {
                is_requested = self.request_flush()?;
            }
            if is_requested && (is_over() || !self.has_unflushed()?) {
                // It may have been noted between the two looks.
                return match self.background.flush_trouble() {
                    Some(trouble) => Err(ColdError::Flush(trouble)),
                    None => Ok(()),
                };
            }
            if begun.elapsed() >= FLUSH_WAIT_MAX {
                return Err(ColdError::Flush("it takes too long".into()));
            }
            self.background.wait_flush(FLUSH_LOOK);
        }
    }

    /// Turns compaction in the background on or off. Without it, a damaged file is not tried again
    /// and again, and writes do not wait for a compaction that never ends.
    pub fn set_compaction(&self, on: bool) -> Result<(), ColdError> {
        self.compacts.store(on, Ordering::Relaxed);
        for name in FAMILIES {
            self.set_option(name, "disable_auto_compactions", &(!on).to_string())?;
        }
        Ok(())
    }

    /// Whether a compaction is due or runs. Not to be asked while it is off.
    pub fn needs_compaction(&self) -> bool {
        let any = |property| self.sum(property).unwrap_or(1) > 0;
        any("rocksdb.compaction-pending") || any("rocksdb.num-running-compactions")
    }

    /// Rewrites all files without what is obsolete. Takes its time; reads and writes go on. A
    /// file that can't be read fails it, and so does a full disk; if all went well, damage that was known
    /// is over.
    pub fn compact(&self) -> Result<(), ColdError> {
        self.flush_roughly()?;
        self.background.forget_damage();
        self.background.forget_no_room();
        for name in FAMILIES {
            let family = self.family(name)?;
            self.db
                .compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
        }
        let background = &self.background;
        let failed = background
            .damage()
            .or_else(|| background.no_room().map(|room| room.text))
            .or_else(|| background.flush_trouble());
        failed.map_or(Ok(()), |text| Err(ColdError::Compaction(text)))
    }
}

/// Takes room for a file that is empty yet. Not every file system can.
fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    let mode = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, mode, 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        allocated => Ok(allocated?),
    }
}
