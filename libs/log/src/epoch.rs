//! The epoch file: which run of the server the data directory works for (invariant I8).
//!
//! `redrock.epoch` names the run id and a number that rises with every start. The server
//! writes it while it holds its lock, before it serves. A companion remembers the pair it
//! was started for and checks the file before every rename and unlink in the directory: an
//! orphan of a former run finds another pair and stops.
//!
//! The check and the rename behind it are two steps. What closes the gap is the lock: a
//! new run's companion can't work before the orphan's lock is gone, and the server itself
//! writes a manifest only when a log has none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checked_file::{self, Reader, StateFileError};
use crate::fs::Fs;
use crate::sidecar::HexId;

/// Name of the file in the data directory.
pub const EPOCH_FILE_NAME: &str = "redrock.epoch";

const MAGIC: [u8; 8] = *b"RREPOCH\0";
const VERSION: u32 = 1;

/// One run of the server over a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// The server's run id.
    pub run_id: HexId,
    /// Rises by one with every start; 1 for the first.
    pub number: u64,
}

/// Reads the epoch of a data directory; `None` if no server has run there.
pub fn read_epoch(fs: &dyn Fs, directory: &Path) -> Result<Option<Epoch>, StateFileError> {
    let path = directory.join(EPOCH_FILE_NAME);
    let Some(body) = checked_file::read(fs, &path, &MAGIC, VERSION)? else {
        return Ok(None);
    };
    let mut reader = Reader::new(&body);
    match (reader.array(), reader.u64(), reader.is_empty()) {
        (Some(run_id), Some(number), true) => Ok(Some(Epoch { run_id, number })),
        _ => Err(StateFileError::Damaged {
            path,
            reason: "body",
        }),
    }
}

/// Begins a run: writes the next epoch durably. The caller holds the server's lock.
pub fn begin_run(fs: &dyn Fs, directory: &Path, run_id: HexId) -> Result<Epoch, StateFileError> {
    let epoch = next_epoch(fs, directory, run_id)?;
    write_epoch(fs, directory, epoch)?;
    Ok(epoch)
}

/// The epoch that the next run will have. Nothing is written.
pub fn next_epoch(fs: &dyn Fs, directory: &Path, run_id: HexId) -> Result<Epoch, StateFileError> {
    let former = read_epoch(fs, directory)?.map_or(0, |epoch| epoch.number);
    Ok(Epoch {
        run_id,
        number: former.saturating_add(1),
    })
}

/// Makes an epoch the one that the directory works for, durably. The caller holds the server's
/// lock since before it asked for [`next_epoch`].
pub fn write_epoch(fs: &dyn Fs, directory: &Path, epoch: Epoch) -> Result<(), StateFileError> {
    let mut body = epoch.run_id.to_vec();
    body.extend_from_slice(&epoch.number.to_le_bytes());
    let bytes = checked_file::encode(&MAGIC, VERSION, &body);
    checked_file::write(fs, &directory.join(EPOCH_FILE_NAME), &bytes, &|| Ok(()))
}

/// Why a companion must not change the directory.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The directory works for another run.
    #[error("the data directory works for epoch {found} now, not for {mine}: stopping")]
    Superseded {
        /// The epoch of the guard.
        mine: u64,
        /// The epoch in the file; 0 if the file is gone.
        found: u64,
    },
    /// The file can't be read: nothing may be changed.
    #[error(transparent)]
    File(#[from] StateFileError),
}

/// What a companion asks before each rename and unlink.
#[derive(Debug, Clone)]
pub struct EpochGuard {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    epoch: Epoch,
}

impl EpochGuard {
    /// A guard for the run that the companion was started for.
    pub fn new(fs: Arc<dyn Fs>, directory: &Path, epoch: Epoch) -> Self {
        Self {
            fs,
            directory: directory.to_owned(),
            epoch,
        }
    }

    /// The run that the guard stands for.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Reads the file anew: `Ok` only if it names this run.
    pub fn check(&self) -> Result<(), EpochError> {
        let found = read_epoch(self.fs.as_ref(), &self.directory)?;
        if found == Some(self.epoch) {
            return Ok(());
        }
        Err(EpochError::Superseded {
            mine: self.epoch.number,
            found: found.map_or(0, |epoch| epoch.number),
        })
    }

    /// [`Self::check`] in the shape that the durable helpers take.
    pub fn check_io(&self) -> io::Result<()> {
        self.check()
            .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))
    }

    /// Removes a name after the check; a name that is gone already is no error.
    pub fn unlink(&self, path: &Path) -> io::Result<()> {
        self.check_io()?;
        match self.fs.unlink(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Renames after the check.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_io()?;
        self.fs.rename(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::write_durably;
    use crate::manifest::{self, Manifest, Names};
    use crate::testing::{CrashMode, PowerLossFs};

    #[test]
    fn each_run_has_a_higher_epoch_and_an_orphan_can_change_nothing() {
        let fs = PowerLossFs::new("/d");
        let dir = Path::new("/d");
        let names = Names::default();
        assert_eq!(read_epoch(&fs, dir).unwrap(), None);
        let first = begin_run(&fs, dir, [b'1'; 40]).unwrap();
        let orphan = EpochGuard::new(Arc::new(fs.clone()), dir, first);
        orphan.check().unwrap();
        let old = Manifest::default().with_incr(&names, 1, None).unwrap();
        manifest::store_checked(&fs, dir, &names, &old, &|| orphan.check_io()).unwrap();

        let second = begin_run(&fs, dir, [b'2'; 40]).unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        let newer = old.with_incr(&names, 2, None).unwrap();
        assert!(manifest::store_checked(&fs, dir, &names, &newer, &|| orphan.check_io()).is_err());
        assert_eq!(manifest::load(&fs, dir, &names).unwrap(), Some(old));
        let path = dir.join(names.manifest());
        assert!(orphan.unlink(&path).is_err());
        assert!(orphan.rename(&path, Path::new("/d/x")).is_err());
        assert!(fs.exists(&path).unwrap());
        let guard = EpochGuard::new(Arc::new(fs.clone()), dir, second);
        guard.unlink(&path).unwrap();
        guard.unlink(&path).unwrap();
    }

    #[test]
    fn the_epoch_never_goes_back_through_a_power_loss() {
        for seed in 0..50 {
            for point in 0..6 {
                let fs = PowerLossFs::new("/d");
                let dir = Path::new("/d");
                begin_run(&fs, dir, [b'1'; 40]).unwrap();
                fs.lose_power_after(point);
                let second = begin_run(&fs, dir, [b'2'; 40]);
                fs.crash(CrashMode::Scattered { seed });
                let found = read_epoch(&fs, dir).unwrap().unwrap().number;
                assert!(found == 2 || (found == 1 && second.is_err()));
            }
        }
    }

    #[test]
    fn a_damaged_epoch_file_stops_everyone() {
        let fs = PowerLossFs::new("/d");
        let dir = Path::new("/d");
        let epoch = begin_run(&fs, dir, [b'1'; 40]).unwrap();
        let guard = EpochGuard::new(Arc::new(fs.clone()), dir, epoch);
        write_durably(&fs, &dir.join(EPOCH_FILE_NAME), b"nonsense").unwrap();
        assert!(guard.check().is_err());
        assert!(begin_run(&fs, dir, [b'2'; 40]).is_err());
    }
}
