//! A file that holds disk space in reserve.
//!
//! When the disk is full its blocks are released, so that work already begun (the command
//! whose effects must be logged, a manifest) can finish; writes are refused meanwhile.
//! Once there is room it is made again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{Fs, FsFile, OpenMode, directory_of};

/// The reserve.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    file: Arc<dyn FsFile>,
    wanted_bytes: u64,
}

impl Ballast {
    /// Opens or creates the ballast file, without reserving anything yet.
    pub fn open(fs: &dyn Fs, path: &Path, wanted_bytes: u64) -> io::Result<Self> {
        let file = fs.open(path, OpenMode::CreateKeep)?;
        fs.sync_dir(directory_of(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            wanted_bytes,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes held now.
    pub fn held_bytes(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// Whether the full reserve is held.
    pub fn is_whole(&self) -> io::Result<bool> {
        Ok(self.file.len()? >= self.wanted_bytes)
    }

    /// Reserves the space; on failure (no room) what was there before is kept or less,
    /// never a part that would eat the last free bytes.
    pub fn fill(&self) -> io::Result<()> {
        if self.is_whole()? {
            return Ok(());
        }
        if let Err(error) = self.file.allocate(self.wanted_bytes) {
            self.file.set_len(0)?;
            return Err(error);
        }
        self.file.sync_all()
    }

    /// Gives the space back at once. Done by cutting the file, not by unlinking it, so
    /// that it needs no directory write and no epoch check.
    pub fn release(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::testing::PowerLossFs;

    #[test]
    fn releasing_the_ballast_lets_a_write_finish_on_a_full_disk() {
        let fs = PowerLossFs::new("/d");
        fs.set_capacity_bytes(Some(1000));
        let ballast = Ballast::open(&fs, Path::new("/d/ballast"), 300).unwrap();
        ballast.fill().unwrap();
        assert!(ballast.is_whole().unwrap());
        let file = fs.open(Path::new("/d/f"), OpenMode::CreateKeep).unwrap();
        file.write_all_at(&[1; 700], 0).unwrap();
        assert!(file.write_all_at(&[1; 200], 700).is_err());
        ballast.release().unwrap();
        file.write_all_at(&[1; 200], 700).unwrap();
        assert!(ballast.fill().is_err(), "no room to make it again");
        assert_eq!(ballast.held_bytes().unwrap(), 0);
        file.set_len(100).unwrap();
        ballast.fill().unwrap();
    }

    #[test]
    fn the_real_file_takes_blocks() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::open(&RealFs, &dir.path().join("b"), 1 << 20).unwrap();
        ballast.fill().unwrap();
        let blocks = std::fs::metadata(ballast.path()).unwrap().blocks();
        assert!(blocks * 512 >= 1 << 20, "{blocks} blocks");
        ballast.release().unwrap();
        assert_eq!(std::fs::metadata(ballast.path()).unwrap().blocks(), 0);
    }
}
