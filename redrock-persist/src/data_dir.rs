//! The data directory as the persister may touch it.
//!
//! Invariant (I8): every rename and unlink below it goes through here and happens only after
//! the epoch file still names the run that this process works for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redrock_log::epoch::EpochGuard;
use redrock_log::failpoint;
use redrock_log::fs::{Fs, FsFile, OpenMode};
use redrock_log::manifest::{Manifest, Names, RESERVE_NAME, keep_reserve, store_checked};

use crate::error::{Result, io_error};

/// The directory, its file system and the guard. Clones are the same.
#[derive(Debug, Clone)]
pub struct DataDir {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    guard: EpochGuard,
}

impl DataDir {
    pub fn new(fs: Arc<dyn Fs>, root: &Path, guard: EpochGuard) -> DataDir {
        DataDir {
            fs,
            root: root.to_owned(),
            guard,
        }
    }

    pub fn fs(&self) -> &dyn Fs {
        self.fs.as_ref()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the directory still belongs to our run.
    pub fn check_epoch(&self) -> Result<()> {
        self.guard
            .check_io()
            .map_err(|error| io_error("check the epoch of", &self.root, &error))
    }

    /// Opens a file.
    pub fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>> {
        self.fs
            .open(path, mode)
            .map_err(|error| io_error("open", path, &error))
    }

    /// Makes a directory below the data directory, durably; fine if it is there.
    pub fn create_dir(&self, path: &Path) -> Result<()> {
        if self.exists(path)? {
            return Ok(());
        }
        self.fs
            .create_dir(path)
            .map_err(|error| io_error("create", path, &error))?;
        self.sync_dir(parent(path))
    }

    /// Makes an empty file, durably.
    pub fn create_empty(&self, path: &Path) -> Result<()> {
        let file = self.open(path, OpenMode::CreateNew)?;
        file.sync_all()
            .map_err(|error| io_error("sync", path, &error))?;
        self.sync_dir(parent(path))
    }

    /// Renames after the epoch check, and syncs the target's directory. `point` names the
    /// failpoints around the steps.
    pub fn rename(&self, from: &Path, to: &Path, point: &str) -> Result<()> {
        let renamed = || -> io::Result<()> {
            failpoint::hit(&format!("{point}-before-rename"))?;
            self.guard.check_io()?;
            self.fs.rename(from, to)?;
            failpoint::hit(&format!("{point}-after-rename"))
        };
        renamed().map_err(|error| io_error("rename to", to, &error))?;
        self.sync_dir(parent(to))?;
        self.pass(&format!("{point}-after-dir-sync"))
    }

    /// Removes a name after the epoch check; one that is gone is fine.
    pub fn unlink(&self, path: &Path) -> Result<()> {
        self.guard
            .unlink(path)
            .map_err(|error| io_error("remove", path, &error))
    }

    /// As [`DataDir::unlink`] for what is only litter: a failure is logged and forgotten.
    pub fn unlink_litter(&self, path: &Path) {
        if let Err(error) = self.unlink(path) {
            tracing::debug!(%error, "could not remove a temporary file");
        }
    }

    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        self.fs
            .sync_dir(path)
            .map_err(|error| io_error("sync", path, &error))
    }

    /// Makes `manifest` the valid one of `directory`.
    pub fn store_manifest(
        &self,
        directory: &Path,
        names: &Names,
        manifest: &Manifest,
    ) -> Result<()> {
        store_checked(self.fs(), directory, names, manifest, &|| {
            self.guard.check_io()
        })
        .map_err(|error| io_error("write", &directory.join(names.manifest()), &error))
    }

    /// Makes room for a manifest of `directory` on a disk that fills up.
    pub fn keep_reserve(&self, directory: &Path) -> Result<()> {
        match keep_reserve(self.fs(), directory) {
            Ok(_) => Ok(()),
            Err(error) => Err(io_error("reserve", &directory.join(RESERVE_NAME), &error)),
        }
    }

    pub fn exists(&self, path: &Path) -> Result<bool> {
        self.fs
            .exists(path)
            .map_err(|error| io_error("look for", path, &error))
    }

    /// Length of a file; 0 if it is gone.
    pub fn len_or_zero(&self, path: &Path) -> u64 {
        self.fs.metadata(path).map_or(0, |metadata| metadata.len)
    }

    /// Names in a directory that are UTF-8; none if it does not exist.
    pub fn names(&self, path: &Path) -> Result<Vec<String>> {
        match self.fs.list(path) {
            Ok(names) => Ok(names
                .into_iter()
                .filter_map(|name| name.into_string().ok())
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error("read", path, &error)),
        }
    }

    /// Passes a failpoint.
    pub fn pass(&self, point: &str) -> Result<()> {
        failpoint::hit(point).map_err(|error| io_error("pass", Path::new(point), &error))
    }
}

/// The directory that holds a path.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_log::epoch::begin_run;
    use redrock_log::testing::PowerLossFs;

    #[test]
    fn an_orphan_of_a_former_run_renames_and_removes_nothing() {
        let root = Path::new("/d");
        let fs: Arc<dyn Fs> = Arc::new(PowerLossFs::new(root));
        let first = begin_run(fs.as_ref(), root, [b'1'; 40]).unwrap();
        let orphan = DataDir::new(
            Arc::clone(&fs),
            root,
            EpochGuard::new(Arc::clone(&fs), root, first),
        );
        let (old, new) = (root.join("dump.rdb"), root.join("temp-1.rdb"));
        orphan.create_empty(&old).unwrap();
        let file = orphan.open(&new, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"orphan", 0).unwrap();
        begin_run(fs.as_ref(), root, [b'2'; 40]).unwrap();
        assert!(orphan.rename(&new, &old, "save").is_err());
        assert!(orphan.unlink(&old).is_err());
        assert_eq!(orphan.len_or_zero(&old), 0);
        assert!(orphan.exists(&old).unwrap() && orphan.exists(&new).unwrap());
    }
}
