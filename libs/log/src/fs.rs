//! The file operations that everything under the data directory goes through.
//!
//! One small trait, so that the code whose correctness rests on the order of syncs and
//! renames can be run against a simulated power loss ([`crate::testing::PowerLossFs`]).
//! Files are addressed by position (`read_at`, `write_at`): no shared cursor exists, hence
//! one thread may sync a file while another writes to it.
//!
//! Invariants: `sync_data` covers the length of the file as well as its bytes; a created,
//! renamed, linked or removed name is durable only after `sync_dir` of its directory.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failpoint::{self, Object, Operation, around, counted_write};

/// How [`Fs::open`] treats a file that does or does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file must exist.
    Read,
    /// Reading and writing; the file must exist.
    ReadWrite,
    /// Reading and writing; created empty if absent, kept as it is if present.
    CreateKeep,
    /// Reading and writing; created if absent, emptied if present.
    CreateTruncate,
    /// Reading and writing; fails with `AlreadyExists` if present.
    CreateNew,
}

/// What [`Fs::metadata`] tells about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes (0 for directories).
    pub len: u64,
    /// Whether the name is a directory.
    pub is_dir: bool,
    /// When the content changed last, unix milliseconds rounded up; `None` if nobody knows.
    pub modified_unix_ms: Option<u64>,
}

/// An open file. All methods may be called from several threads.
pub trait FsFile: Send + Sync + Debug {
    /// Reads at `position`; returns the number of bytes read, 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes at `position`; may be short. Writing past the end leaves zeros between.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;
    /// fdatasync: bytes and length are durable when it returns.
    fn sync_data(&self) -> io::Result<()>;
    /// fsync: as `sync_data`, with all metadata.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves blocks for the first `len` bytes, so that the space is taken from the disk.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// The descriptor, where there is one (for `sendfile` and descriptor passing).
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads until `buffer` is full or the file ends; returns the number of bytes read.
    fn read_full_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes` or fails; on failure a part may have been written.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, position + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The file system below the data directory.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file; a created file has mode 0644.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>>;
    /// Creates one directory; an existing directory is no error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from` atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if `link` exists.
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()>;
    /// fsync of a directory: its names are durable when it returns.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted, directories included.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Length and kind of a name; `NotFound` if there is none.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Whether the name exists; errors other than `NotFound` are returned.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(File);

impl RealFile {
    /// Does what changes the file: tests may end the process there.
    fn changing<T>(
        &self,
        operation: Operation,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        around(operation, Object::File(&self.0), act)
    }
}

impl FsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, position)
    }
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        counted_write(&self.0, bytes, |bytes| {
            FileExt::write_at(&self.0, bytes, position)
        })
    }
    fn sync_data(&self) -> io::Result<()> {
        self.changing(Operation::SyncData, || self.0.sync_data())
    }
    fn sync_all(&self) -> io::Result<()> {
        self.changing(Operation::Sync, || self.0.sync_all())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing(Operation::Resize, || self.0.set_len(len))
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let allocated = self.changing(Operation::Resize, || {
            Ok(fallocate(&self.0, FallocateFlags::empty(), 0, len)?)
        });
        match allocated {
            // File systems without preallocation still give the space to written zeros.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                let zeros = vec![0u8; 1 << 20];
                let mut done = 0;
                while done < len {
                    let step = (len - done).min(zeros.len() as u64);
                    let part = zeros.get(..step as usize).unwrap_or(&zeros);
                    self.write_all_at(part, done)?;
                    done += step;
                }
                Ok(())
            }
            other => other,
        }
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Opens a file, and nothing that only has a file's name: a FIFO would keep its reader waiting for
/// ever. Directories are left to fail by what is done with them.
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "is no regular file but a FIFO, a socket or a device: move it away",
    ))
}

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o644);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateKeep => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateTruncate => {
                options.write(true).create(true).truncate(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let mut open = || open_regular(&mut options, path);
        let file = match mode {
            OpenMode::Read | OpenMode::ReadWrite => open(),
            _ => around(Operation::Create, Object::Path(path), &mut open),
        }?;
        Ok(Arc::new(RealFile(file)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let made = around(Operation::CreateFolder, Object::Path(path), || {
            std::fs::create_dir(path)
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        around(Operation::Rename, Object::Path(to), || {
            std::fs::rename(from, to)
        })
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        around(Operation::Unlink, Object::Path(path), || {
            std::fs::remove_file(path)
        })
    }
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        around(Operation::Link, Object::Path(link), || {
            std::fs::hard_link(original, link)
        })
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let folder = File::open(path)?;
        around(Operation::SyncFolder, Object::Path(path), || {
            folder.sync_all()
        })
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let metadata = std::fs::metadata(path)?;
        Ok(Metadata {
            len: metadata.len(),
            is_dir: metadata.is_dir(),
            modified_unix_ms: metadata.modified().ok().and_then(unix_ms_rounded_up),
        })
    }
}

fn unix_ms_rounded_up(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).ok()
}

/// Removes a folder with all that is in it. Links are removed, not followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    if failpoint::is_counting() {
        // The system's own way can't be stopped between two names.
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => remove_tree(&entry.path())?,
                false => RealFs.unlink(&entry.path())?,
            }
        }
    }
    around(Operation::Unlink, Object::Path(path), || {
        std::fs::remove_dir_all(path)
    })
}

/// Whether an error says that the disk, or the quota, is full.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC) | Some(libc::EDQUOT)
    )
}

/// The directory part of a path ("." if there is none).
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads a whole file of at most `len_max` bytes; a longer one is an `InvalidData` error.
///
/// Meant for small files (manifest, epoch, history): the bound keeps a foreign file from
/// taking the memory.
pub fn read_small(fs: &dyn Fs, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > len_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("file is {len} bytes long, at most {len_max} are expected"),
        ));
    }
    let mut bytes = vec![0u8; len as usize];
    let count = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Replaces `path` by `bytes` so that after a power loss it is either the old or the new
/// content, and the new one once this returns: temporary file in the same directory
/// (`temp-<name>`), write, fsync, rename, fsync of the directory.
pub fn write_durably(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_durably_checked(fs, path, bytes, &|| Ok(()))
}

/// As [`write_durably`]; `check` runs just before the rename, and its error abandons the
/// write with the old file in place (companions check the epoch there, invariant I8).
pub fn write_durably_checked(
    fs: &dyn Fs,
    path: &Path,
    bytes: &[u8],
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    let directory = directory_of(path);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = OsString::from("temp-");
    temporary_name.push(name);
    let temporary = directory.join(temporary_name);
    let written = (|| {
        let file = fs.open(&temporary, OpenMode::CreateTruncate)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        check()?;
        fs.rename(&temporary, path)
    })();
    if let Err(error) = written {
        // Best effort: a left-over temporary file is overwritten by the next attempt.
        let _ = fs.unlink(&temporary);
        return Err(error);
    }
    fs.sync_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_durably_replaces_the_content_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_durably(&RealFs, &path, b"one").unwrap();
        write_durably(&RealFs, &path, b"two!").unwrap();
        assert_eq!(read_small(&RealFs, &path, 100).unwrap(), b"two!");
        assert_eq!(
            RealFs.list(dir.path()).unwrap(),
            vec![OsString::from("state")]
        );
    }

    #[test]
    fn a_failed_check_keeps_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_durably(&RealFs, &path, b"one").unwrap();
        let refused = write_durably_checked(&RealFs, &path, b"two", &|| {
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert!(refused.is_err());
        assert_eq!(read_small(&RealFs, &path, 100).unwrap(), b"one");
        assert_eq!(RealFs.list(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn read_small_refuses_a_file_beyond_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_durably(&RealFs, &path, b"12345").unwrap();
        assert!(read_small(&RealFs, &path, 4).is_err());
    }
}
