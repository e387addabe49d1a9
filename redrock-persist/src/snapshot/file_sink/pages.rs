//! What was written into the page cache goes to the disk, and leaves the cache.
//!
//! As in Redis (`rio.c`) one piece is on its way to the disk while the next is made: to wait for each took as long
//! again as making it.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use redrock_log::fs::FsFile;
use rustix::fs::{Advice, fadvise};

/// Redis's `REDIS_AUTOSYNC_BYTES`.
const SYNC_EVERY_BYTES: u64 = 4 << 20;

/// Begins to write a range of the file to the disk.
const START: u32 = libc::SYNC_FILE_RANGE_WRITE;
/// Writes it and waits until all of it is there, the file's own size and places apart.
const FINISH: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE
    | libc::SYNC_FILE_RANGE_WRITE
    | libc::SYNC_FILE_RANGE_WAIT_AFTER;

/// Where the pages of a file are that is written from its beginning to its end.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Up to here all is on the disk, and no longer in the page cache.
    synced: u64,
    /// Up to here all is there or on its way.
    started: u64,
}

impl Pages {
    /// The file has been written up to `position`.
    pub(super) fn written(&mut self, file: &dyn FsFile, position: u64) -> io::Result<()> {
        if position - self.started < SYNC_EVERY_BYTES {
            return Ok(());
        }
        self.write_back(file, position)
    }

    /// Sends what was written last on its way, and waits for what was before it.
    fn write_back(&mut self, file: &dyn FsFile, position: u64) -> io::Result<()> {
        let begun = match file.as_fd() {
            Some(fd) => sync_range(fd, self.started, position, START).map(|()| Some(fd)),
            None => Ok(None),
        };
        let fd = match begun {
            Ok(Some(fd)) => fd,
            Err(error) if !is_unsupported(&error) => return Err(error),
            // Not every system has that call.
            _ => {
                file.sync_data()?;
                self.on_disk(file, position);
                self.started = position;
                return Ok(());
            }
        };
        let before = std::mem::replace(&mut self.started, position);
        if before > self.synced {
            sync_range(fd, self.synced, before, FINISH)?;
            self.on_disk(file, before);
        }
        Ok(())
    }

    fn on_disk(&mut self, file: &dyn FsFile, to: u64) {
        drop_from_cache(file, self.synced, to);
        self.synced = to;
    }
}

/// Has pages that are on the disk leave the page cache.
pub(super) fn drop_from_cache(file: &dyn FsFile, from: u64, to: u64) {
    if let (Some(fd), Some(length)) = (file.as_fd(), NonZeroU64::new(to.saturating_sub(from))) {
        // Only advice: the pages stay if the kernel doesn't take it.
        let _ = fadvise(fd, from, Some(length), Advice::DontNeed);
    }
}

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
