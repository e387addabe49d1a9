//! The file that a snapshot is written into.
//!
//! Invariants: what is written goes to the disk every few megabytes, so that neither the page cache nor
//! the final sync grows with the data set, and pages once there leave the page cache; nothing
//! counts before [`FileSink::sync`] returned.
//!
//! As in Redis (`rio.c`) one piece is on its way to the disk while the next is made: to wait for each took as long
//! again as making it. An error of a piece is met by the wait for it, and in any case by the final sync.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd as _, BorrowedFd};
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
    /// Up to here all is on the disk, and no longer in the page cache.
    synced: u64,
    /// Up to here all is there or on its way.
    started: u64,
    incremental: bool,
}

/// Begins to write a range of the file to the disk.
const START: u32 = libc::SYNC_FILE_RANGE_WRITE;
/// Writes it and waits until all of it is there, the file's own size and places apart.
const FINISH: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE
    | libc::SYNC_FILE_RANGE_WRITE
    | libc::SYNC_FILE_RANGE_WAIT_AFTER;

fn sync_range(fd: BorrowedFd<'_>, from: u64, to: u64, flags: u32) -> io::Result<()> {
    let number = |bytes: u64| i64::try_from(bytes).map_err(io::Error::other);
    let (at, length) = (number(from)?, number(to - from)?);
    // SAFETY: the descriptor is open while it is borrowed; no memory is involved.
    match unsafe { libc::sync_file_range(fd.as_raw_fd(), at, length, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::EPERM)
    )
}

impl FileSink {
    /// Creates the file, or empties one that was left behind.
    pub(super) fn create(dir: &DataDir, path: &Path, incremental: bool) -> Result<FileSink> {
        Ok(FileSink {
            file: dir.open(path, OpenMode::CreateTruncate)?,
            path: path.to_owned(),
            position: 0,
            synced: 0,
            started: 0,
            incremental,
        })
    }

    /// Makes everything durable, the length included.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| io_error("sync", &self.path, &error))?;
        self.drop_pages(self.position);
        Ok(())
    }

    /// Sends what was written last on its way, and waits for what was before it.
    fn write_back(&mut self) -> io::Result<()> {
        let begun = match self.file.as_fd() {
            Some(fd) => sync_range(fd, self.started, self.position, START).map(|()| Some(fd)),
            None => Ok(None),
        };
        let fd = match begun {
            Ok(Some(fd)) => fd,
            Err(error) if !is_unsupported(&error) => return Err(error),
            // Not every system has that call.
            _ => {
                self.file.sync_data()?;
                self.drop_pages(self.position);
                return Ok(());
            }
        };
        let before = std::mem::replace(&mut self.started, self.position);
        if before > self.synced {
            sync_range(fd, self.synced, before, FINISH)?;
            self.drop_pages(before);
        }
        Ok(())
    }

    fn drop_pages(&mut self, to: u64) {
        if let Some(fd) = self.file.as_fd() {
            // Only advice: the pages stay if the kernel doesn't take it.
            let _ = fadvise(
                fd,
                self.synced,
                NonZeroU64::new(to - self.synced),
                Advice::DontNeed,
            );
        }
        self.synced = to;
        self.started = self.started.max(to);
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.position)?;
        self.position += count as u64;
        if self.incremental && self.position - self.started >= SYNC_EVERY_BYTES {
            self.write_back()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
