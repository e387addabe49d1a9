//! Building a folder aside and giving it its name when it is whole; linking and copying files.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use redrock_log::failpoint;
use redrock_log::fs::{Fs, FsFile, OpenMode, RealFs, remove_tree};
use redrock_proto::RpcError;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::data_dir::parent;
use crate::error::{Result, io_error};

/// Prefix of folders under construction and of those being removed.
pub const TEMPORARY: &str = "temp-";
const COPY_BYTES: usize = 1 << 20;

/// A folder under construction: `temp-<name>` beside the one that it will be. It is locked, so
/// that what another process builds is told from what a dead one left; dropped without
/// [`Staging::commit`] it is removed.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    temporary: PathBuf,
    /// Holds the lock.
    _locked: File,
    committed: bool,
}

impl Staging {
    /// Begins; the target must not exist, or be an empty folder. What a process that died left
    /// under the temporary name is removed.
    pub fn begin(target: &Path) -> Result<Staging> {
        refuse_occupied(target)?;
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| RpcError::invalid(format!("{} names no folder", target.display())))?;
        let temporary = parent(target).join(format!("{TEMPORARY}{name}"));
        let failed = |error: io::Error| io_error("create", &temporary, &error);
        RealFs.create_dir(&temporary).map_err(failed)?;
        let locked = lock(&temporary).map_err(failed)?.ok_or_else(|| {
            RpcError::busy(format!("another process builds {}", temporary.display()))
        })?;
        empty(&temporary).map_err(failed)?;
        Ok(Staging {
            target: target.to_owned(),
            temporary,
            _locked: locked,
            committed: false,
        })
    }

    /// Where files are to be put.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Makes names and directories durable and gives the folder its name. Files must be synced.
    /// `check` runs just before the rename, and its error abandons it. `point` names the
    /// failpoints around the steps.
    pub fn commit(mut self, point: &str, check: &dyn Fn() -> io::Result<()>) -> Result<()> {
        let finished = || -> io::Result<()> {
            sync_folders(&self.temporary)?;
            failpoint::hit(&format!("{point}-before-rename"))?;
            check()?;
            RealFs.rename(&self.temporary, &self.target)
        };
        finished().map_err(|error| io_error("finish", &self.target, &error))?;
        self.committed = true;
        RealFs
            .sync_dir(parent(&self.target))
            .and_then(|()| failpoint::hit(&format!("{point}-after-rename")))
            .map_err(|error| io_error("sync the folder of", &self.target, &error))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = remove_tree(&self.temporary)
        {
            tracing::warn!(path = %self.temporary.display(), %error, "could not remove");
        }
    }
}

fn refuse_occupied(target: &Path) -> Result<()> {
    match std::fs::read_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("look into", target, &error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(RpcError::invalid(format!(
                "{} exists and is not empty",
                target.display()
            ))
            .with_hint("name a new folder")),
        },
    }
}

/// Locks a folder that nobody else has locked; `None` if somebody has, or it is another one now.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::open(folder)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let same = std::fs::metadata(folder).is_ok_and(|named| {
        file.metadata()
            .is_ok_and(|held| (held.dev(), held.ino()) == (named.dev(), named.ino()))
    });
    Ok(same.then_some(file))
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => remove_tree(&entry.path())?,
            false => RealFs.unlink(&entry.path())?,
        }
    }
    Ok(())
}

/// Removes what dead processes left under construction in a folder. Gives their number.
pub fn remove_leftovers(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        if temporary && entry.file_type()?.is_dir() && lock(&entry.path())?.is_some() {
            remove_tree(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes a folder so that it is either there as a whole or not there under its name.
/// `check` runs before the rename.
pub fn remove_folder(folder: &Path, check: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = parent(folder).join(format!("{TEMPORARY}removed-{name}"));
    check()?;
    RealFs.rename(folder, &aside)?;
    RealFs.sync_dir(parent(folder))?;
    remove_tree(&aside)
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    RealFs.sync_dir(folder)
}

/// How a file came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    Linked,
    Copied,
}

/// Puts a file that never changes again to another place: a hard link, or where the file system
/// can't do that (another device, another owner, too many links) a synced copy.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<Placed> {
    match RealFs.hard_link(from, to) {
        Ok(()) => return Ok(Placed::Linked),
        Err(error) if can_be_copied(&error) => {}
        Err(error) => return Err(io_error("link", from, &error)),
    }
    copy(from, to, u64::MAX)?;
    Ok(Placed::Copied)
}

/// As [`link_or_copy`]; false if `to` exists.
pub fn link_or_copy_new(from: &Path, to: &Path) -> Result<bool> {
    match RealFs.exists(to) {
        Ok(false) => link_or_copy(from, to).map(|_| true),
        Ok(true) => Ok(false),
        Err(error) => Err(io_error("look for", to, &error)),
    }
}

fn can_be_copied(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EXDEV | libc::EPERM | libc::EMLINK | libc::EOPNOTSUPP)
    )
}

/// Copies the first `bytes` of a file, or all if it is shorter, and syncs the copy; gives its
/// length.
pub fn copy(from: &Path, to: &Path, bytes: u64) -> Result<u64> {
    let source = RealFs
        .open(from, OpenMode::Read)
        .map_err(|error| io_error("open", from, &error))?;
    let copied = || -> io::Result<u64> {
        let target = RealFs.open(to, OpenMode::CreateNew)?;
        let done = copy_bytes(source.as_ref(), target.as_ref(), bytes)?;
        target.sync_all()?;
        Ok(done)
    };
    copied().map_err(|error| io_error("copy to", to, &error))
}

fn copy_bytes(source: &dyn FsFile, target: &dyn FsFile, bytes: u64) -> io::Result<u64> {
    let mut buffer = vec![0_u8; COPY_BYTES];
    let mut done = 0;
    while done < bytes {
        let wanted = usize::try_from(bytes - done).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
        let window = buffer.get_mut(..wanted).unwrap_or(&mut []);
        let count = source.read_full_at(window, done)?;
        target.write_all_at(window.get(..count).unwrap_or(&[]), done)?;
        done += count as u64;
        if count < wanted {
            break;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("new");
        let staging = Staging::begin(&target).unwrap();
        std::fs::write(staging.path().join("file"), "x").unwrap();
        let second = Staging::begin(&target).unwrap_err();
        assert_eq!(second.code, redrock_proto::ErrorCode::Busy);
        drop(staging);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // A process that died has left its folder, unlocked.
        std::fs::create_dir_all(dir.path().join("temp-new/sub")).unwrap();
        let staging = Staging::begin(&target).unwrap();
        std::fs::write(staging.path().join("file"), "y").unwrap();
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(staging.commit("none", &refused).is_err());
        std::fs::create_dir(&target).unwrap();
        let staging = Staging::begin(&target).unwrap();
        std::fs::write(staging.path().join("file"), "z").unwrap();
        staging.commit("none", &|| Ok(())).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "z");
        assert!(Staging::begin(&target).is_err(), "it is occupied");
        remove_folder(&target, &|| Ok(())).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_nobody_builds_any_longer_is_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Staging::begin(&dir.path().join("alive")).unwrap();
        std::fs::create_dir(dir.path().join("temp-dead")).unwrap();
        std::fs::create_dir(dir.path().join("set")).unwrap();
        assert_eq!(remove_leftovers(dir.path()).unwrap(), 1);
        assert!(alive.path().exists() && dir.path().join("set").exists());
        assert_eq!(remove_leftovers(&dir.path().join("none")).unwrap(), 0);
    }

    #[test]
    fn copies_end_where_they_are_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&from, vec![7_u8; COPY_BYTES + 5]).unwrap();
        assert_eq!(copy(&from, &to, 3).unwrap(), 3);
        assert_eq!(std::fs::read(&to).unwrap(), [7; 3]);
        assert!(copy(&from, &to, 3).is_err(), "it is there");
        let whole = dir.path().join("c");
        assert_eq!(
            copy(&from, &whole, u64::MAX).unwrap() as usize,
            COPY_BYTES + 5
        );
        let linked = dir.path().join("d");
        assert_eq!(link_or_copy(&from, &linked).unwrap(), Placed::Linked);
    }
}
