//! The work for one run of the server: its link, its files, its jobs.
//!
//! A session begins when the epoch file names a run whose server is alive, and ends when either
//! is no longer so. Nothing of it outlives it: jobs are cancelled, pins are gone (their holders
//! work for the same run).
//!
//! Files are touched only after the server itself has answered for this run: until then it may
//! still be recovering, and what looks like litter may be what it is about to use.

mod tick;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redrock_daemon::tasks::Tasks;
use redrock_log::epoch::{Epoch, EpochGuard};
use redrock_log::fs::Fs;
use redrock_proto::client::ServerClient;
use redrock_proto::model::{LogKind, LogState, Purpose, RunRef, SharedPath};
use redrock_proto::{RpcError, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::aof::keeper::Keeper;
use crate::aof::rewrite::{Kind, Rewrite, blocking, kind_for};
use crate::aof::schedule::Failures;
use crate::aof::segments::{contiguous, known_segments, listed_request};
use crate::data_dir::DataDir;
use crate::error::Result;
use crate::jobs::{Activity, Job, Jobs, Queueing};
use crate::link;
use crate::pins::Pins;
use crate::progress::{ActionProgress, millis, unix_ms};
use crate::replicas::folder::Folder;
use crate::settings::Settings;
use crate::snapshot::{self, FileOptions, Plan, Source, Taken};

/// How long a request waits for the server's first words.
pub(crate) const SERVER_WAIT: Duration = Duration::from_secs(5);

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    pub fs: Arc<dyn Fs>,
    pub data_dir: PathBuf,
    pub server: ServerClient,
    pub run: RunRef,
    pub tasks: Tasks,
    pub stop: CancellationToken,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    pub run: RunRef,
    pub source: Source,
    pub jobs: Jobs,
    pub pins: Arc<Mutex<Pins>>,
    /// What replicas need while the append-only file is off.
    pub replicas: Arc<Folder>,
    pub stop: CancellationToken,
    pub log: watch::Receiver<Option<LogState>>,
    pub settings: watch::Receiver<Option<Settings>>,
    /// Absent until the server's settings are known and the leftovers are cleaned up.
    keeper: watch::Sender<Option<Arc<Keeper>>>,
    /// Set once the temporary files of dead processes are removed. Until then no job may write
    /// one of its own: their names are the same.
    cleaned: watch::Sender<Option<()>>,
    /// Length of the log right after the last rewrite, or at the start.
    aof_base_bytes: AtomicU64,
    began_unix_ms: u64,
    pub(crate) began: Instant,
    /// When the newest backup was made, unix milliseconds; absent until it was looked for.
    backed_up: Mutex<Option<u64>>,
}

impl Session {
    /// Begins the session; its tasks end with `config.stop`.
    pub fn begin(config: SessionConfig) -> Arc<Session> {
        let mut run_id = [0; 40];
        run_id.copy_from_slice(config.run.run_id.as_str().as_bytes());
        let epoch = Epoch {
            run_id,
            number: config.run.epoch,
        };
        let guard = EpochGuard::new(Arc::clone(&config.fs), &config.data_dir, epoch);
        let (log_sender, log) = watch::channel(None);
        let (settings_sender, settings) = watch::channel(None);
        let dir = DataDir::new(config.fs, &config.data_dir, guard);
        let session = Arc::new(Session {
            run: config.run,
            replicas: Arc::new(Folder::new(dir.clone())),
            source: Source {
                server: config.server.clone(),
                run: config.run,
                dir,
            },
            jobs: Jobs::new(config.tasks.clone(), config.stop.clone()),
            pins: Arc::default(),
            stop: config.stop.clone(),
            log,
            settings,
            keeper: watch::Sender::new(None),
            cleaned: watch::Sender::new(None),
            aof_base_bytes: AtomicU64::new(0),
            began_unix_ms: unix_ms(),
            began: Instant::now(),
            backed_up: Mutex::default(),
        });
        let stop = config.stop.clone();
        let (server, run) = (config.server, config.run);
        let following = link::follow_log(server.clone(), run, log_sender);
        config
            .tasks
            .spawn("watch log", until(stop.clone(), following));
        let following = link::follow_settings(server, run, settings_sender);
        config
            .tasks
            .spawn("watch settings", until(stop.clone(), following));
        let rotating = crate::replicas::tend::rotate(Arc::clone(&session));
        config.tasks.spawn("rotate", until(stop.clone(), rotating));
        let ticking = tick::run(Arc::clone(&session));
        config.tasks.spawn("tick", until(stop, ticking));
        session
    }

    /// The server's settings; waits for them a bounded time.
    pub async fn settings(&self) -> Result<Settings> {
        present(&self.settings, "settings").await
    }

    /// The state of the server's log; waits for it a bounded time.
    pub async fn log(&self) -> Result<LogState> {
        present(&self.log, "log").await
    }

    /// The manifest's keeper; waits for it a bounded time.
    pub async fn keeper(&self) -> Result<Arc<Keeper>> {
        present(&self.keeper.subscribe(), "append only files").await
    }

    /// Returns once files may be written for this run; waits a bounded time.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.source.dir.check_epoch()?;
        present(&self.cleaned.subscribe(), "files").await
    }

    /// The keeper, if it is there.
    pub fn keeper_now(&self) -> Option<Arc<Keeper>> {
        self.keeper.borrow().clone()
    }

    /// Length of the log right after the last rewrite, or at the start.
    pub fn aof_base_bytes(&self) -> u64 {
        self.aof_base_bytes.load(Ordering::Relaxed)
    }

    /// Remembers when the newest backup was made.
    pub(crate) fn note_backup(&self, made_unix_ms: u64) {
        *self.backed_up.lock() = Some(made_unix_ms);
    }

    /// When the newest backup was made, if that is known.
    pub(crate) fn noted_backup(&self) -> Option<u64> {
        *self.backed_up.lock()
    }

    /// Failures of rewrites, for the pauses between automatic ones.
    pub fn rewrite_failures(&self) -> Failures {
        let history = self.jobs.history(Activity::Rewrite);
        Failures {
            count: history.failures,
            last_unix_ms: history.last.map_or(0, |last| last.ended_unix_ms),
        }
    }

    /// Starts a save into `dbfilename`, or shares one.
    pub fn save(self: &Arc<Self>, foreground: bool, queueing: Queueing) -> Result<Job> {
        self.save_newer(foreground, queueing, None)
    }

    /// As [`Session::save`]; shares also one whose cut has a number above `newer_than`.
    pub fn save_newer(
        self: &Arc<Self>,
        foreground: bool,
        queueing: Queueing,
        newer_than: Option<u64>,
    ) -> Result<Job> {
        let session = Arc::clone(self);
        let purpose = if foreground {
            Purpose::Save
        } else {
            Purpose::BackgroundSave
        };
        let work =
            |progress, cancel| async move { session.do_save(purpose, &progress, &cancel).await };
        self.jobs
            .start_newer(Activity::Save, queueing, newer_than, work)
    }

    async fn do_save(
        &self,
        purpose: Purpose,
        progress: &ActionProgress,
        cancel: &CancellationToken,
    ) -> Result<v1::Outcome> {
        self.ready().await?;
        let settings = self.settings().await?;
        let root = self.source.dir.root();
        // Redis's names: a save in the foreground is the server's own.
        let own = std::process::id();
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid().unsigned_abs());
        let writer = match purpose {
            Purpose::Save => parent.unwrap_or(own),
            _ => own,
        };
        let temporary = root.join(format!("temp-{writer}.rdb"));
        let target = root.join(&settings.dbfilename);
        let plan = Plan {
            purpose,
            rotate_to_segment: None,
            temporary: temporary.clone(),
            file: file_options(&settings, false),
            incremental_fsync: settings.save_incremental_fsync,
            rate: settings.snapshot_rate,
            key_delay: settings.key_delay,
        };
        let taken = snapshot::take(&self.source, plan, progress, cancel)
            .await
            .map_err(|failed| failed.error)?;
        let (dir, to) = (self.source.dir.clone(), target.clone());
        let cancel = cancel.clone();
        let placed = blocking(move || {
            if cancel.is_cancelled() {
                // FLUSHALL has emptied what it holds.
                dir.unlink_litter(&temporary);
                return Err(RpcError::cancelled("the save was aborted"));
            }
            dir.rename(&temporary, &to, "save")
        })
        .await;
        let file = placed.is_ok().then_some(target.as_path());
        taken.release(&self.source, file).await;
        placed?;
        Ok(outcome(root, &target, &taken, progress))
    }

    /// Starts a rewrite of the append-only log, or shares one. `enable` turns the log on.
    pub fn rewrite(self: &Arc<Self>, enable: bool) -> Result<Job> {
        let session = Arc::clone(self);
        self.jobs.start(
            Activity::Rewrite,
            Queueing::Wait,
            move |progress, cancel| async move {
                session.do_rewrite(enable, &progress, &cancel).await
            },
        )
    }

    async fn do_rewrite(
        self: &Arc<Self>,
        enable: bool,
        progress: &ActionProgress,
        cancel: &CancellationToken,
    ) -> Result<v1::Outcome> {
        self.ready().await?;
        let settings = self.settings().await?;
        // What was heard last may be from before the log was turned on or off.
        let log = link::log_now(&self.source.server, self.run).await?;
        let keeper = self.keeper().await?;
        keeper.reload_if_absent()?;
        let kind = kind_for(&log, enable);
        let rewrite = Rewrite {
            kind,
            source: &self.source,
            keeper: Arc::clone(&keeper),
            current_segment: current_segment(&log),
            file: file_options(&settings, true),
            incremental_fsync: settings.rewrite_incremental_fsync,
            rate: settings.snapshot_rate,
            key_delay: settings.key_delay,
            pins: Arc::clone(&self.pins),
            keep_history: settings.keep_history,
            progress,
            cancel,
        };
        let rewritten = rewrite.run().await?;
        self.aof_base_bytes
            .store(keeper.total_bytes(), Ordering::Relaxed);
        if kind != Kind::BaseOnly {
            self.tell_segments(&keeper).await;
            self.source.dir.pass("rewrite-step-9")?;
        }
        let root = self.source.dir.root();
        Ok(outcome(root, &rewritten.base, &rewritten.taken, progress))
    }

    /// Tells the server which segments exist. It is told again at the next change, so a
    /// failure is only logged.
    pub async fn tell_segments(&self, keeper: &Arc<Keeper>) {
        let log = self.log.borrow().clone();
        let kind = log.as_ref().map_or(LogKind::None, |log| log.kind);
        if kind != LogKind::AppendOnly {
            return;
        }
        let owned = Arc::clone(keeper);
        let segments = blocking(move || {
            owned.note_start_offsets()?;
            Ok(contiguous(known_segments(&owned, log.as_ref())))
        })
        .await;
        let request = match segments {
            Ok(segments) => listed_request(self.run, kind.to_wire(), &segments),
            Err(error) => {
                tracing::warn!(%error, "could not list the log's files for the server");
                return;
            }
        };
        let mut client = self.source.server.log();
        match tokio::time::timeout(SERVER_WAIT, client.segments_listed(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "could not tell the server which log files exist");
            }
            Err(_) => tracing::debug!("the server took no notice of the log files that exist"),
        }
    }
}

/// How RDB files are to be written.
pub(crate) fn file_options(settings: &Settings, aof_base: bool) -> FileOptions {
    FileOptions {
        version: settings.rdb_version,
        compress: settings.rdb_compression,
        checksum: settings.rdb_checksum,
        aof_base,
    }
}

/// Number of the segment that the server appends to, if it keeps an append-only log.
pub fn current_segment(log: &LogState) -> Option<i64> {
    if log.kind != LogKind::AppendOnly {
        return None;
    }
    let segment = log.segment.as_ref()?;
    i64::try_from(segment.seq).ok()
}

pub(crate) fn outcome(
    root: &Path,
    path: &Path,
    taken: &Taken,
    progress: &ActionProgress,
) -> v1::Outcome {
    let (begin, summary) = (&taken.begin, &taken.summary);
    v1::Outcome {
        path: SharedPath::new(root, path).to_wire(),
        bytes: summary.written.bytes,
        keys: summary.written.entries,
        cut_unix_ms: begin.cut_unix_ms,
        replid: begin.replid.to_string(),
        offset: begin.log_offset,
        records_copied: summary.copied,
        records_transcoded: summary.transcoded,
        elapsed_ms: millis(progress.elapsed()),
    }
}

/// The value of a channel that has none at first.
async fn present<T: Clone>(receiver: &watch::Receiver<Option<T>>, what: &str) -> Result<T> {
    let mut receiver = receiver.clone();
    let waited = tokio::time::timeout(SERVER_WAIT, receiver.wait_for(Option::is_some)).await;
    let value = match &waited {
        Ok(Ok(value)) => (**value).clone(),
        _ => None,
    };
    value.ok_or_else(|| {
        RpcError::unavailable(format!("the server has not told about its {what} yet"))
            .with_hint("is the server up and done with loading?")
    })
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
