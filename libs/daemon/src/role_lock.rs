//! One process per role and data directory.
//!
//! Each role holds a write lock on a file of its own in the data directory for
//! as long as it lives; the kernel drops it however the process ends. The lock
//! belongs to the open file (`F_OFD_SETLK`), so no other descriptor closed by
//! chance releases it, and it can be probed without being taken: companions
//! see so whether their server lives, from another container too. The file is
//! removed only by a start that made it and failed; whoever takes the lock
//! checks that the file still has its name.

use redrock_log::fs::open_regular;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// How long a starting daemon waits for one before it that is about to end: a killed process
/// holds its lock until the kernel has taken its memory apart, a companion until it has seen
/// that its server is gone.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How often the lock is tried meanwhile.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// How often a lock file may vanish before we give up.
const ATTEMPTS_MAX: usize = 10;

/// Who may hold a lock on a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Server,
    Persist,
    Replica,
}

impl Role {
    /// The last part of the daemon's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Persist => "persist",
            Role::Replica => "replica",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Role::Server => "redrock-server.lock",
            Role::Persist => "redrock-persist.lock",
            Role::Replica => "redrock-replica.lock",
        }
    }

    /// Where the role's lock file lies.
    pub fn lock_path(self, data_dir: &Path) -> PathBuf {
        data_dir.join(self.file_name())
    }
}

/// Why the lock isn't held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "data directory {} is in use by another redrock-{}{}; stop it, or choose another directory",
        path.display(),
        role.name(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        role: Role,
        path: PathBuf,
        pid: Option<u32>,
    },
    #[error("lock {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// A held lock; dropping it releases.
#[derive(Debug)]
pub struct RoleLock {
    file: File,
    path: PathBuf,
    created: bool,
}

impl RoleLock {
    /// As [`RoleLock::acquire`], but gives a holder up to `patience` to end. Cancel-safe.
    pub async fn acquire_within(
        data_dir: &Path,
        role: Role,
        patience: Duration,
    ) -> Result<RoleLock, LockError> {
        let lock = Self::acquire_unsigned_within(data_dir, role, patience).await?;
        lock.sign()?;
        Ok(lock)
    }

    /// As [`RoleLock::acquire_unsigned`], but gives a holder up to `patience` to end. Cancel-safe.
    pub async fn acquire_unsigned_within(
        data_dir: &Path,
        role: Role,
        patience: Duration,
    ) -> Result<RoleLock, LockError> {
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            match RoleLock::acquire_unsigned(data_dir, role) {
                Err(LockError::Held { pid, .. }) if Instant::now() < deadline => {
                    if !told {
                        tracing::info!(pid, "waiting for another redrock-{} to end", role.name());
                        told = true;
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    /// Takes the lock and writes who holds it, or says who has it; never waits.
    pub fn acquire(data_dir: &Path, role: Role) -> Result<RoleLock, LockError> {
        let lock = Self::acquire_unsigned(data_dir, role)?;
        lock.sign()?;
        Ok(lock)
    }

    /// As [`RoleLock::acquire`], but a file that was there stays as it is until
    /// [`RoleLock::sign`].
    pub fn acquire_unsigned(data_dir: &Path, role: Role) -> Result<RoleLock, LockError> {
        let path = role.lock_path(data_dir);
        let io_error = |error| LockError::Io {
            path: path.clone(),
            error,
        };
        for _ in 0..ATTEMPTS_MAX {
            let (file, created) = open_or_create(&path).map_err(io_error)?;
            if let Err(error) = control(&file, libc::F_OFD_SETLK, &mut whole_file_lock()) {
                return match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EACCES) => Err(held(data_dir, role)),
                    _ => Err(io_error(error)),
                };
            }
            // Somebody may have withdrawn the file between the two steps.
            if is_at(&file, &path) {
                return Ok(RoleLock {
                    file,
                    path,
                    created,
                });
            }
        }
        Err(held(data_dir, role))
    }

    /// Before a lock is dropped that was not signed: a file that was made for it goes again.
    pub fn withdraw(&self) {
        if self.created {
            // An empty file left behind does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Writes this process's id into the file, for people.
    pub fn sign(&self) -> Result<(), LockError> {
        let mut file = &self.file;
        let written = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| LockError::Io {
            path: self.path.clone(),
            error,
        })
    }
}

/// The lock file, and whether it is new. The content is only for people, so nothing is cut before
/// the lock.
fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match open_regular(&mut options, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map(|file| (file, false)),
    }
    let file = options.create(true).truncate(false).open(path)?;
    Ok((file, true))
}

/// Whether the open file is the one with this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The error for a lock that another process has. It names that process if the file does and it
/// lives: a holder that did not sign yet left the id of one that is gone.
pub fn held(data_dir: &Path, role: Role) -> LockError {
    let pid = std::fs::read_to_string(role.lock_path(data_dir)).ok();
    let pid = pid.and_then(|pid| pid.trim().parse().ok());
    LockError::Held {
        role,
        path: data_dir.to_owned(),
        pid: pid.filter(|pid: &u32| Path::new("/proc").join(pid.to_string()).exists()),
    }
}

/// Gives whoever holds the role's lock up to `patience` to end; fails if it stays. Takes nothing.
pub async fn wait_until_free(
    data_dir: &Path,
    role: Role,
    patience: Duration,
) -> Result<(), LockError> {
    let deadline = Instant::now() + patience;
    while is_held(data_dir, role).map_err(|error| LockError::Io {
        path: role.lock_path(data_dir),
        error,
    })? {
        if Instant::now() >= deadline {
            return Err(held(data_dir, role));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    Ok(())
}

/// True if some process holds the role's lock. Takes nothing. A missing file
/// means that nobody does.
pub fn is_held(data_dir: &Path, role: Role) -> io::Result<bool> {
    let file = match open_regular(OpenOptions::new().read(true), &role.lock_path(data_dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut lock = whole_file_lock();
    control(&file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

fn whole_file_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and both commands read and
    // write one `flock`, which `lock` is.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        let error = RoleLock::acquire(dir.path(), Role::Server).unwrap_err();
        let own = std::process::id();
        assert!(
            matches!(error, LockError::Held { pid: Some(pid), .. } if pid == own),
            "{error}"
        );
        drop(lock);
        RoleLock::acquire(dir.path(), Role::Server).unwrap();
    }

    #[tokio::test]
    async fn a_holder_that_ends_soon_is_waited_for_and_one_that_stays_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let lock = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        let wait = |patience| RoleLock::acquire_within(dir.path(), Role::Server, patience);
        let error = wait(Duration::from_millis(30)).await.unwrap_err();
        assert!(matches!(error, LockError::Held { .. }), "{error}");
        let ends = async {
            tokio::task::yield_now().await;
            drop(lock);
        };
        let (taken, ()) = tokio::join!(wait(Duration::from_secs(60)), ends);
        taken.unwrap();
    }

    #[test]
    fn a_withdrawn_lock_leaves_no_file_and_an_old_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = Role::Server.lock_path(dir.path());
        let lock = RoleLock::acquire_unsigned(dir.path(), Role::Server).unwrap();
        lock.withdraw();
        assert!(!path.exists());
        // The name is free again while the former holder still has the nameless file.
        let next = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        drop((lock, next));
        let lock = RoleLock::acquire_unsigned(dir.path(), Role::Server).unwrap();
        lock.withdraw();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
    }

    #[test]
    fn roles_do_not_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let _server = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        RoleLock::acquire(dir.path(), Role::Persist).unwrap();
    }

    #[test]
    fn probing_sees_the_holder_and_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path(), Role::Server).unwrap());
        let lock = RoleLock::acquire(dir.path(), Role::Server).unwrap();
        assert!(is_held(dir.path(), Role::Server).unwrap());
        assert!(is_held(dir.path(), Role::Server).unwrap());
        drop(lock);
        assert!(!is_held(dir.path(), Role::Server).unwrap());
    }
}
