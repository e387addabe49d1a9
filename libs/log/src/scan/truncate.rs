//! Cutting a segment's tail, a copy of it kept.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{Fs, FsFile, OpenMode, directory_of};
use crate::sidecar::{SidecarError, rewrite_up_to};

const COPY_BYTES: usize = 256 * 1024;
/// Names tried for the copy when several cuts fall into one second.
const COPY_NAMES_MAX: u32 = 100;

/// Why a tail could not be cut; the segment is as long as before.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// An operation on the segment or the copy failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The sidecar could not be rewritten.
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> TruncateError {
    move |source| TruncateError::Io { action, source }
}

/// Cuts `segment` at `position`. First the tail is copied to `<name>.cut-<unix time>` and
/// synced, then the sidecar's claims beyond the cut are taken back durably, then the
/// segment is cut and synced. Returns the copy's path, or `None` if nothing lay behind
/// `position`. A crash at any step leaves a segment for which the same decision is made.
pub fn truncate_tail(
    fs: &dyn Fs,
    segment: &Path,
    position: u64,
    unix_seconds: u64,
) -> Result<Option<PathBuf>, TruncateError> {
    let file = fs
        .open(segment, OpenMode::ReadWrite)
        .map_err(failed("open the segment"))?;
    let len = file.len().map_err(failed("size the segment"))?;
    if len <= position {
        return Ok(None);
    }
    let copy = copy_tail(fs, file.as_ref(), segment, position, unix_seconds)
        .map_err(failed("keep a copy of the tail"))?;
    fs.sync_dir(directory_of(segment))
        .map_err(failed("sync the directory"))?;
    rewrite_up_to(fs, segment, position)?;
    file.set_len(position).map_err(failed("cut the segment"))?;
    file.sync_all().map_err(failed("sync the segment"))?;
    Ok(Some(copy))
}

fn copy_tail(
    fs: &dyn Fs,
    file: &dyn FsFile,
    segment: &Path,
    position: u64,
    unix_seconds: u64,
) -> io::Result<PathBuf> {
    let (path, copy) = create_copy(fs, segment, unix_seconds)?;
    let copied = (|| {
        let mut buffer = vec![0u8; COPY_BYTES];
        let mut done = 0u64;
        loop {
            let count = file.read_full_at(&mut buffer, position + done)?;
            if count == 0 {
                return copy.sync_all();
            }
            copy.write_all_at(buffer.get(..count).unwrap_or(&[]), done)?;
            done += count as u64;
        }
    })();
    match copied {
        Ok(()) => Ok(path),
        Err(error) => {
            // A half copy would look like the whole tail.
            let _ = fs.unlink(&path);
            Err(error)
        }
    }
}

fn create_copy(
    fs: &dyn Fs,
    segment: &Path,
    unix_seconds: u64,
) -> io::Result<(PathBuf, std::sync::Arc<dyn FsFile>)> {
    for attempt in 0..COPY_NAMES_MAX {
        let mut name = OsString::from(segment);
        name.push(format!(".cut-{unix_seconds}"));
        if attempt > 0 {
            name.push(format!("-{attempt}"));
        }
        let path = PathBuf::from(name);
        match fs.open(&path, OpenMode::CreateNew) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
