//! Room for one manifest on a full disk.
//!
//! What makes room on a disk that a log has filled is a manifest: a rewrite's, behind which
//! the old files go. So a file beside it holds blocks for one. Where a manifest can't be written for want of
//! space it is written into that file, which then takes its place. Blocks that are given back to
//! the disk, as those of a [ballast](crate::ballast), would be anybody's.

use std::io;
use std::path::Path;

use crate::fs::{Fs, OpenMode};

/// Its name in the append-only directory.
pub const RESERVE_NAME: &str = "redrock.reserve";
/// Its length: some hundred files' lines.
pub const RESERVE_BYTES: u64 = 64 << 10;

/// Makes the reserve, durably, if it is not whole; true if something had to be done. Without an
/// append-only directory there is nothing to do. An error leaves less of it, or none.
pub fn keep_reserve(fs: &dyn Fs, directory: &Path) -> io::Result<bool> {
    if !fs.exists(directory)? {
        return Ok(false);
    }
    let path = directory.join(RESERVE_NAME);
    match fs.metadata(&path) {
        Ok(metadata) if metadata.len >= RESERVE_BYTES => return Ok(false),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = fs.open(&path, OpenMode::CreateKeep)?;
    if let Err(error) = file.allocate(RESERVE_BYTES) {
        file.set_len(0)?;
        return Err(error);
    }
    file.sync_all()?;
    fs.sync_dir(directory)?;
    Ok(true)
}

/// Makes `bytes` the content of `path` in the reserve's blocks. An error leaves what was there.
pub(super) fn write_into_reserve(
    fs: &dyn Fs,
    directory: &Path,
    path: &Path,
    bytes: &[u8],
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    let reserve = directory.join(RESERVE_NAME);
    let file = fs.open(&reserve, OpenMode::ReadWrite)?;
    let length = bytes.len() as u64;
    if file.len()? < length {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    file.write_all_at(bytes, 0)?;
    file.set_len(length)?;
    file.sync_all()?;
    check()?;
    fs.rename(&reserve, path)?;
    fs.sync_dir(directory)
}
