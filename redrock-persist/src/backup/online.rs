//! Backups beside a running server: asked for, or due by `backup-schedule`.
//!
//! While files are placed, no rewrite runs and nothing is removed (the job holds the jobs' turn);
//! the checksums are taken after that, when the set shares nothing that could go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redrock_proto::model::{LogKind, Purpose, SharedPath};
use redrock_proto::{RpcError, v1};
use tokio_util::sync::CancellationToken;

use super::list;
use super::make::{Made, Making, checked_name, remove_surplus};
use crate::aof::rewrite::blocking;
use crate::data_dir::DataDir;
use crate::error::Result;
use crate::jobs::{Activity, Job, Queueing};
use crate::link;
use crate::progress::{ActionProgress, millis, unix_ms};
use crate::session::{Session, file_options};
use crate::settings::Settings;
use crate::snapshot::{self, Plan};

impl Settings {
    /// Where sets are kept.
    pub fn backup_folder(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.backup_dir)
    }
}

impl Session {
    /// Starts a backup, named by the time if `name` is empty. BUSY if one is made already.
    pub fn backup(self: &Arc<Self>, name: &str) -> Result<Job> {
        let name = match name {
            "" => None,
            name => Some(checked_name(name)?.to_owned()),
        };
        if self.jobs.of(Activity::Backup).is_some() {
            return Err(
                RpcError::busy("a backup is in progress").with_hint("try again when it has ended")
            );
        }
        let session = Arc::clone(self);
        let work = move |progress: ActionProgress, cancel| async move {
            session.do_backup(name, &progress, &cancel).await
        };
        self.jobs.start(Activity::Backup, Queueing::Wait, work)
    }

    async fn do_backup(
        &self,
        name: Option<String>,
        progress: &ActionProgress,
        cancel: &CancellationToken,
    ) -> Result<v1::Outcome> {
        self.ready().await?;
        let settings = self.settings().await?;
        let root = self.source.dir.root();
        let sets = settings.backup_folder(root);
        let folder = sets.clone();
        let making = blocking(move || Making::begin(&folder, name.as_deref())).await?;
        let placed = tokio::select! {
            _turn = self.jobs.turn() => self.place(making, &settings, progress, cancel).await?,
            () = cancel.cancelled() => return Err(RpcError::cancelled("the backup was aborted")),
        };
        progress.enter(v1::Phase::Finishing);
        let (dir, keep, stop) = (
            self.source.dir.clone(),
            settings.backup_keep,
            cancel.clone(),
        );
        let made = blocking(move || {
            let made = placed.finish(&|| epoch(&dir), &stop)?;
            match remove_surplus(&sets, keep, &|| epoch(&dir)) {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!(sets = ?removed, "removed the oldest backups"),
                Err(error) => tracing::warn!(%error, "could not remove the oldest backups"),
            }
            Ok(made)
        })
        .await?;
        self.note_backup(made.manifest.made_unix_ms);
        Ok(outcome(root, &made, progress))
    }

    /// Puts the data set in as it is now. The caller holds the jobs' turn.
    async fn place(
        &self,
        mut making: Making,
        settings: &Settings,
        progress: &ActionProgress,
        cancel: &CancellationToken,
    ) -> Result<Making> {
        let log = link::log_now(&self.source.server, self.run).await?;
        if log.kind == LogKind::AppendOnly {
            progress.enter(v1::Phase::Copying);
            let keeper = self.keeper().await?;
            return blocking(move || {
                making.place_log(keeper.directory(), keeper.names())?;
                Ok(making)
            })
            .await;
        }
        if settings.append_only {
            return Err(RpcError::busy("the append only log is being turned on")
                .with_hint("try again when that is done"));
        }
        let dump = self.source.dir.root().join(&settings.dbfilename);
        if log.changes_since_save == 0 && self.source.dir.exists(&dump)? {
            progress.enter(v1::Phase::Copying);
            return blocking(move || {
                making.place_dump(&dump)?;
                Ok(making)
            })
            .await;
        }
        let plan = Plan {
            purpose: Purpose::Backup,
            rotate_to_segment: None,
            temporary: making.dump_path(),
            file: file_options(settings, false),
            incremental_fsync: settings.save_incremental_fsync,
            rate: settings.snapshot_rate,
            key_delay: settings.key_delay,
        };
        let taken = snapshot::take(&self.source, plan, progress, cancel)
            .await
            .map_err(|failed| failed.error)?;
        taken.release(&self.source, Some(&making.dump_path())).await;
        blocking(move || {
            making.note_made_dump()?;
            Ok(making)
        })
        .await
    }

    /// Makes a backup if one is due. A schedule that is new, or was missed, is due at once.
    pub(crate) async fn consider_backup(self: &Arc<Self>, settings: &Settings) {
        let Some(schedule) = settings.backup_schedule else {
            return;
        };
        let history = self.jobs.history(Activity::Backup);
        let waits = crate::aof::schedule::Failures {
            count: history.failures,
            last_unix_ms: history.last.map_or(0, |last| last.ended_unix_ms),
        };
        let now = unix_ms();
        if self.jobs.of(Activity::Backup).is_some() || now < waits.retry_unix_ms() {
            return;
        }
        let Some(last) = self.last_backup(settings).await else {
            return;
        };
        if !schedule.is_due(last, now) {
            return;
        }
        tracing::info!("a backup is due");
        if let Err(error) = self.backup("") {
            tracing::debug!(%error, "the backup has to wait");
        }
    }

    /// When the newest set was made, unix milliseconds; 0 if there is none, `None` if nobody can
    /// tell.
    async fn last_backup(&self, settings: &Settings) -> Option<u64> {
        if let Some(noted) = self.noted_backup() {
            return Some(noted);
        }
        let sets = settings.backup_folder(self.source.dir.root());
        match blocking(move || list::newest(&sets)).await {
            Ok(newest) => {
                let made = newest.map_or(0, |set| set.made_unix_ms());
                self.note_backup(made);
                Some(made)
            }
            Err(error) => {
                tracing::debug!(%error, "can't tell when the last backup was made");
                None
            }
        }
    }
}

/// Whether the data directory is still ours (I8).
fn epoch(dir: &DataDir) -> io::Result<()> {
    dir.check_epoch().map_err(io::Error::other)
}

fn outcome(root: &Path, made: &Made, progress: &ActionProgress) -> v1::Outcome {
    let manifest = &made.manifest;
    v1::Outcome {
        path: SharedPath::new(root, &made.path).to_wire(),
        bytes: manifest.bytes(),
        cut_unix_ms: manifest.covered_unix_ms,
        offset: manifest
            .stream
            .as_ref()
            .map_or(0, |stream| stream.last_offset),
        elapsed_ms: millis(progress.elapsed()),
        ..v1::Outcome::default()
    }
}
