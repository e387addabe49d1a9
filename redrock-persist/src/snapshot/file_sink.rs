//! The file that a snapshot is written into.
//!
//! Invariants: what is written is synced every few megabytes, so that neither the page cache nor
//! the final sync grows with the data set, and pages once synced leave the page cache; nothing
//! counts before [`FileSink::sync`] returned.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redrock_log::fs::{FsFile, OpenMode};
use rustix::fs::{Advice, fadvise};

use crate::data_dir::DataDir;
use crate::error::{Result, io_error};

/// Redis's `REDIS_AUTOSYNC_BYTES`.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// Appends to a file of its own.
#[derive(Debug)]
pub(super) struct FileSink {
    file: Arc<dyn FsFile>,
    path: PathBuf,
    position: u64,
    synced: u64,
    incremental: bool,
}

impl FileSink {
    /// Creates the file, or empties one that was left behind.
    pub(super) fn create(dir: &DataDir, path: &Path, incremental: bool) -> Result<FileSink> {
        Ok(FileSink {
            file: dir.open(path, OpenMode::CreateTruncate)?,
            path: path.to_owned(),
            position: 0,
            synced: 0,
            incremental,
        })
    }

    /// Makes everything durable, the length included.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| io_error("sync", &self.path, &error))?;
        self.drop_pages();
        Ok(())
    }

    fn drop_pages(&mut self) {
        if let Some(fd) = self.file.as_fd() {
            let length = std::num::NonZeroU64::new(self.position - self.synced);
            // Only advice: the pages stay if the kernel doesn't take it.
            let _ = fadvise(fd, self.synced, length, Advice::DontNeed);
        }
        self.synced = self.position;
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.position)?;
        self.position += count as u64;
        if self.incremental && self.position - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync_data()?;
            self.drop_pages();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
