//! The data directory of a run: held for us alone, with its epoch begun (I8).

use crate::config::Config;
use anyhow::Context as _;
use redrock_daemon::role_lock::{PATIENCE, Role, RoleLock};
use redrock_log::epoch::{self, Epoch};
use redrock_log::fs::{Fs, RealFs};
use redrock_log::manifest::Names;
use redrock_log::sidecar::HexId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module. Dropping it gives the directory back.
#[derive(Debug)]
pub struct DataDirectory {
    /// Its files.
    pub fs: Arc<dyn Fs>,
    /// Its path.
    pub path: PathBuf,
    /// This run.
    pub epoch: Epoch,
    _lock: RoleLock,
}

impl DataDirectory {
    /// Takes the directory for the run `run_id`; touches nothing if another server has it.
    pub async fn open(config: &Config, run_id: &str) -> anyhow::Result<Self> {
        let lock = RoleLock::acquire_within(&config.dir, Role::Server, PATIENCE).await?;
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let run_id = hex_id(run_id).context("run id")?;
        let epoch = epoch::begin_run(fs.as_ref(), &config.dir, run_id)?;
        Ok(Self {
            fs,
            path: config.dir.clone(),
            epoch,
            _lock: lock,
        })
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
