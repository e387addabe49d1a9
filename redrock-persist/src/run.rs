//! Wiring: logging, the role's lock, sessions one after the other, the socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use redrock_daemon::companion_args::CompanionArgs;
use redrock_daemon::logging::{self, LogHandle};
use redrock_daemon::parent_watch::ServerWatch;
use redrock_daemon::role_lock::{PATIENCE, Role, RoleLock, is_held};
use redrock_daemon::tasks::Tasks;
use redrock_daemon::{huge_pages, signals, uds};
use redrock_log::epoch::read_epoch;
use redrock_log::failpoint;
use redrock_log::fs::{Fs, RealFs};
use redrock_proto::client::{PERSIST_SOCKET, ServerClient, Timeouts};
use redrock_proto::model::{HexId, RunRef};
use tokio_util::sync::CancellationToken;

use crate::args::DaemonArgs;
use crate::service::{Current, PersistService};
use crate::session::{Session, SessionConfig};

/// How often the epoch file and the server's lock are looked at.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// A SIGTERM that comes to all processes at once leaves the server this long for a last save.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// Our threads: RPC needs one, the other keeps it answering while files are looked at.
const WORKER_THREADS: usize = 2;
const BLOCKING_THREADS_MAX: usize = 8;

/// Runs the daemon to its end.
pub fn daemon(args: DaemonArgs) -> anyhow::Result<()> {
    let log = logging::init(&args.companion.log_config('P'))?;
    arm_failpoints(&args)?;
    huge_pages::keep_away();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(serve(args.companion, log));
    // A thread that hangs in the kernel must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Arms what the environment names, if that is allowed.
pub fn arm_failpoints(args: &DaemonArgs) -> anyhow::Result<()> {
    if args.allow_failpoints {
        failpoint::arm("persist")?;
    }
    Ok(())
}

async fn serve(args: CompanionArgs, log: LogHandle) -> anyhow::Result<()> {
    let data_dir = args.data_dir()?;
    let socket_dir = args.socket_dir(&data_dir);
    let _lock = RoleLock::acquire_within(&data_dir, Role::Persist, PATIENCE).await?;
    let tasks = Tasks::new();
    let asked = CancellationToken::new();
    signals::install(asked.clone(), Some(log.clone()))?;
    let current = Current::default();
    let listener = uds::PrivateListener::bind(&socket_dir.join(PERSIST_SOCKET))?;
    let (health, routes) = uds::base_routes(&[redrock_proto::FILE_DESCRIPTOR_SET])?;
    let service = PersistService::new(current.clone()).into_server();
    let routes = routes.add_service(service);
    let serving = uds::serve(listener, routes, tasks.token());
    tasks.spawn_critical("serve", serving);
    tracing::info!(dir = %data_dir.display(), pid = std::process::id(), "redrock-persist is up");

    let sessions = Sessions {
        data_dir: data_dir.clone(),
        socket_dir,
        wanted: args.run().map(RunRef::named).transpose()?,
        tasks: tasks.clone(),
        current,
        health,
        log,
    };
    match args.server_pid {
        Some(pid) => {
            let watch = ServerWatch::parent(pid).context("watch the server")?;
            tasks.spawn("sessions", sessions.run());
            let (tasks, asked) = (tasks.clone(), asked.clone());
            tasks.clone().spawn_critical("parent watch", async move {
                let gone = watch.gone_or_stopped(&asked, STOP_PATIENCE);
                tokio::select! {
                    gone = gone => gone.context("watch the server")?,
                    () = tasks.token().cancelled_owned() => {}
                }
                tracing::info!("the server has gone: stopping");
                tasks.stop();
                Ok(())
            });
        }
        None => {
            tasks.spawn("sessions", sessions.run());
            let (tasks, asked) = (tasks.clone(), asked.clone());
            let watch = ServerWatch::lock_file(&data_dir);
            tasks.clone().spawn("stop", async move {
                asked.cancelled().await;
                // A server that is still there may want a last save.
                let gone = watch.gone_or_stopped(&asked, STOP_PATIENCE);
                if let Err(error) = gone.await {
                    tracing::debug!(%error, "could not see whether the server has gone");
                }
                tasks.stop();
            });
        }
    }
    let result = tasks.stopped().await;
    if let Err(error) = tasks.drain(DRAIN_WAIT).await {
        tracing::warn!(%error, "some tasks did not end");
    }
    tracing::info!("redrock-persist is down");
    result
}

/// One session after the other.
struct Sessions {
    data_dir: PathBuf,
    socket_dir: PathBuf,
    /// The only run to work for.
    wanted: Option<RunRef>,
    tasks: Tasks,
    current: Current,
    health: tonic_health::server::HealthReporter,
    log: LogHandle,
}

impl Sessions {
    async fn run(self) {
        let stop = self.tasks.token();
        tokio::select! {
            () = self.forever() => {}
            () = stop.cancelled() => {}
        }
        self.current.set(None);
    }

    async fn forever(&self) {
        loop {
            let Some(run) = self.next_run().await else {
                return;
            };
            self.session(run).await;
        }
    }

    /// Waits for a server that is alive; `None` if the one we were started for is over.
    async fn next_run(&self) -> Option<RunRef> {
        let mut reported = false;
        loop {
            match living_run(&self.data_dir) {
                Ok(Some(run)) => match self.wanted {
                    Some(wanted) if wanted.epoch < run.epoch => {
                        let text = format!(
                            "started for epoch {}, the data directory is at {}",
                            wanted.epoch, run.epoch
                        );
                        self.tasks.fail(text);
                        return None;
                    }
                    Some(wanted) if wanted != run => {}
                    _ => return Some(run),
                },
                Ok(None) => {}
                Err(error) if !reported => {
                    tracing::warn!(error = %format!("{error:#}"), "can't tell which server runs");
                    reported = true;
                }
                Err(_) => {}
            }
            if !reported {
                tracing::info!(dir = %self.data_dir.display(), "waiting for the server");
                reported = true;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    async fn session(&self, run: RunRef) {
        let stop = self.tasks.token().child_token();
        let server = ServerClient::in_dir(
            &self.socket_dir,
            Timeouts {
                // Unary calls have bounds of their own; a cut may take longer than others.
                request: Duration::from_secs(60),
                ..Timeouts::default()
            },
        );
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let session = Session::begin(SessionConfig {
            fs,
            data_dir: self.data_dir.clone(),
            server,
            run,
            tasks: self.tasks.clone(),
            stop: stop.clone(),
        });
        let span = tracing::info_span!("session", epoch = run.epoch);
        span.in_scope(|| tracing::info!(run = %run.run_id, epoch = run.epoch, "working for a run of the server"));
        self.current.set(Some(Arc::clone(&session)));
        self.health
            .set_service_status("redrock.v1.Persist", tonic_health::ServingStatus::Serving)
            .await;
        self.over(run, &session).await;
        self.health
            .set_service_status(
                "redrock.v1.Persist",
                tonic_health::ServingStatus::NotServing,
            )
            .await;
        self.current.set(None);
        stop.cancel();
        // Its jobs must be over before another session touches the same files.
        for job in session.jobs.abort(None) {
            let _ = tokio::time::timeout(DRAIN_WAIT, job.finished()).await;
        }
    }

    /// Returns when the run is over; takes the server's log level over meanwhile.
    async fn over(&self, run: RunRef, session: &Session) {
        let mut level = None;
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            let wanted = session.settings.borrow().as_ref().and_then(|s| s.log_level);
            if wanted != level
                && let Some(wanted) = wanted
            {
                if let Err(error) = self.log.set_level(wanted) {
                    tracing::warn!(%error, "could not change the log level");
                }
                level = Some(wanted);
            }
            match living_run(&self.data_dir) {
                Ok(Some(found)) if found == run => {}
                Ok(_) => {
                    tracing::info!(epoch = run.epoch, "this run of the server is over");
                    return;
                }
                // The next look may succeed; the guard protects the files meanwhile.
                Err(error) => tracing::debug!(%error, "can't tell whether the server runs"),
            }
        }
    }
}

/// The run that the epoch file names, if its server is alive.
fn living_run(data_dir: &Path) -> anyhow::Result<Option<RunRef>> {
    if !is_held(data_dir, Role::Server).context("look at the server's lock")? {
        return Ok(None);
    }
    let Some(epoch) = read_epoch(&RealFs, data_dir)? else {
        return Ok(None);
    };
    let run_id = std::str::from_utf8(&epoch.run_id)
        .ok()
        .and_then(HexId::parse)
        .context("the epoch file names no run id")?;
    Ok(Some(RunRef {
        run_id,
        epoch: epoch.number,
    }))
}
