//! The data directory of a run: held for us alone, with its epoch begun (I8).

use crate::config::Config;
use anyhow::{Context as _, bail};
use redrock_daemon::role_lock::{self, PATIENCE, Role, RoleLock};
use redrock_log::epoch::{self, Epoch};
use redrock_log::fs::{Fs, RealFs};
use redrock_log::history::ReplicationState;
use redrock_log::manifest::Names;
use redrock_log::sidecar::HexId;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module. Dropping it gives the directory back.
#[derive(Debug)]
pub struct DataDirectory {
    /// Its files.
    pub fs: Arc<dyn Fs>,
    /// Its path.
    pub path: PathBuf,
    /// This run.
    pub epoch: Epoch,
    begun: AtomicBool,
    lock: RoleLock,
}

/// What a start would fail for, as far as looking tells. Touches nothing.
///
/// A server that is about to end is waited for: its port is free by then, too.
pub async fn inspect(config: &Config) -> anyhow::Result<()> {
    let dir = &*config.dir;
    role_lock::wait_until_free(dir, Role::Server, PATIENCE).await?;
    access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = std::io::Error::from(error);
        anyhow::anyhow!(
            "the data directory {} can't be used: {error}. Make it writable for this user, or \
             choose another with --dir",
            dir.display()
        )
    })?;
    let space = rustix::fs::statvfs(dir).with_context(|| format!("look at {}", dir.display()))?;
    if space.f_bavail == 0 {
        bail!(
            "No space left on device: the file system of the data directory {} is full. Make room \
             and start again",
            dir.display()
        );
    }
    epoch::read_epoch(&RealFs, dir)?;
    ReplicationState::load(&RealFs, dir)?;
    Ok(())
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        if !*self.begun.get_mut() {
            self.lock.withdraw();
        }
    }
}

impl DataDirectory {
    /// Takes the directory for the run `run_id`; touches nothing if another server has it.
    ///
    /// The epoch is begun at once only if a companion is there, which may be an orphan that must
    /// be stopped before a file is read, or one that somebody else starts and that goes by the
    /// epoch. Otherwise a load that fails leaves everything as it was: see
    /// [`DataDirectory::begin`].
    pub async fn open(config: &Config, run_id: &str) -> anyhow::Result<Self> {
        let lock = RoleLock::acquire_unsigned_within(&config.dir, Role::Server, PATIENCE).await?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let run_id = hex_id(run_id).context("run id")?;
        let data = Self {
            epoch: epoch::next_epoch(fs.as_ref(), &config.dir, run_id)?,
            fs,
            path: config.dir.to_path_buf(),
            begun: AtomicBool::new(false),
            lock,
        };
        let companion = |role| {
            role_lock::is_held(&data.path, role)
                .with_context(|| format!("lock in {}", data.path.display()))
        };
        if !config.companions.spawn || companion(Role::Persist)? || companion(Role::Replica)? {
            data.begin()?;
        }
        Ok(data)
    }

    /// Makes the directory work for this run, if it does not yet. Before the first change to it,
    /// and before companions are started.
    pub fn begin(&self) -> anyhow::Result<()> {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.lock.sign()?;
            epoch::write_epoch(self.fs.as_ref(), &self.path, self.epoch)?;
        }
        Ok(())
    }

    /// The append-only directory.
    pub fn log_directory(&self, config: &Config) -> PathBuf {
        self.path.join(&config.append_only.dir_name)
    }

    /// Whether a path exists and is a file.
    pub fn is_file(&self, path: &Path) -> bool {
        self.fs
            .metadata(path)
            .is_ok_and(|metadata| !metadata.is_dir)
    }
}

/// The names of the log's files.
pub fn names(config: &Config) -> Names {
    Names::new(config.append_only.file_name.clone())
}

fn hex_id(text: &str) -> Option<HexId> {
    text.as_bytes().try_into().ok()
}

/// A new random id of 40 hexadecimal digits.
pub fn random_id() -> HexId {
    std::array::from_fn(|_| b"0123456789abcdef"[rand::random_range(0..16)])
}
