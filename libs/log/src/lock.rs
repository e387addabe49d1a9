//! Role locks: one process per role works in a data directory (invariant I8).
//!
//! `redrock-<role>.lock` is held with `flock` for the life of the process; the kernel
//! releases it at death, whatever the cause, so a left-over file means nothing. Its text
//! names the holder for the error message. The file is never unlinked: a second process
//! could otherwise lock a name-less file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

const LOCK_ATTEMPTS: u32 = 4;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Who may hold a lock on the data directory; one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `redrock-server`.
    Server,
    /// `redrock-persist`.
    Persister,
    /// `redrock-replica`.
    Replica,
}

impl Role {
    /// The lock file's name.
    pub fn lock_name(self) -> &'static str {
        match self {
            Self::Server => "redrock-server.lock",
            Self::Persister => "redrock-persist.lock",
            Self::Replica => "redrock-replica.lock",
        }
    }
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("data directory {directory} is in use by {holder}")]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// The holder as its lock file names it, "pid N (run R)".
        holder: String,
    },
    /// The lock file can't be opened or locked.
    #[error("can't lock data directory {directory}: {source}")]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the role's lock without waiting. Nothing else in the directory is touched.
    pub fn acquire(directory: &Path, role: Role, run_id: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            directory: directory.to_owned(),
            source,
        };
        let path = directory.join(role.lock_name());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match lock_exclusive(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::InUse {
                    directory: directory.to_owned(),
                    holder: describe_holder(&file),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let mut lock = Self { file, path };
        lock.name_holder(run_id).map_err(failed)?;
        Ok(lock)
    }

    fn name_holder(&mut self, run_id: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        let text = format!("pid {}\nrun {run_id}\n", std::process::id());
        self.file.write_all(text.as_bytes())
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the locked file still is the one that the name leads to (nobody removed
    /// the file from under us).
    pub fn is_in_place(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let held = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok(named.ino() == held.ino() && named.dev() == held.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A glance by [`is_held`] holds a shared lock for an instant: a few short retries tell it
/// from a real holder.
fn lock_exclusive(file: &File) -> rustix::io::Result<()> {
    for _ in 1..LOCK_ATTEMPTS {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_RETRY_PAUSE),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn describe_holder(file: &File) -> String {
    let mut bytes = [0u8; 256];
    let count = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or(&[])).into_owned();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    match (field("pid "), field("run ")) {
        (Some(pid), Some(run)) => format!("pid {pid} (run {run})"),
        (Some(pid), None) => format!("pid {pid}"),
        _ => "another process".to_owned(),
    }
}

/// Whether some process holds the role's lock now; never takes or creates anything.
pub fn is_held(directory: &Path, role: Role) -> io::Result<bool> {
    let path = directory.join(role.lock_name());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // A readable lock file is all that a shared lock needs; it is dropped at once.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_first_one_s_pid_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(dir.path(), Role::Server, "abc").unwrap();
        assert!(is_held(dir.path(), Role::Server).unwrap());
        let error = DirectoryLock::acquire(dir.path(), Role::Server, "def").unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "data directory {} is in use by pid {pid} (run abc)",
                dir.path().display()
            )
        );
        DirectoryLock::acquire(dir.path(), Role::Persister, "abc").unwrap();
        drop(first);
        assert!(!is_held(dir.path(), Role::Server).unwrap());
        let again = DirectoryLock::acquire(dir.path(), Role::Server, "def").unwrap();
        assert!(again.is_in_place().unwrap());
        std::fs::remove_file(again.path()).unwrap();
        assert!(!again.is_in_place().unwrap());
    }

    #[test]
    fn a_missing_directory_is_an_error_and_nothing_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = DirectoryLock::acquire(&missing, Role::Server, "abc").unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
        assert!(!missing.exists());
    }
}
