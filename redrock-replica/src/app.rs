//! Starts, runs and drains the agent.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redrock_daemon::logging::{self, LogHandle};
use redrock_daemon::metrics::{Registry as Metrics, http};
use redrock_daemon::parent_watch::ServerWatch;
use redrock_daemon::role_lock::{PATIENCE, Role, RoleLock, is_held};
use redrock_daemon::tasks::Tasks;
use redrock_daemon::{huge_pages, signals, uds};
use redrock_log::epoch::{Epoch, EpochGuard, read_epoch};
use redrock_log::fs::RealFs;
use redrock_proto::client::{HANDOFF_SOCKET, REPLICA_SOCKET};
use redrock_proto::model::{HexId, RunRef};
use redrock_proto::v1::replica_server::ReplicaServer;
use tokio_util::sync::CancellationToken;

use crate::config::Arguments;
use crate::context::{Context, Feeds};
use crate::failover::Failover;
use crate::follow::{Follower, keep_in_step, link, spool};
use crate::master::{self, Master};
use crate::service::ReplicaService;
use crate::watchers;

/// A companion outlives a SIGTERM by so long if its server lives on.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
const EPOCH_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until the server has gone or a signal asks to stop.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let log = logging::init(&arguments.companion.log_config('A'))?;
    huge_pages::keep_away();
    let result = run_logged(&arguments, log).await;
    if let Err(error) = &result {
        tracing::warn!(error = %format!("{error:#}"), "the replica agent ends");
    }
    result
}

async fn run_logged(arguments: &Arguments, log: LogHandle) -> anyhow::Result<()> {
    let companion = &arguments.companion;
    let data_dir = companion.data_dir()?;
    let wanted = companion.run().map(RunRef::named).transpose()?;
    let _lock = RoleLock::acquire_within(&data_dir, Role::Replica, PATIENCE).await?;
    let signal = CancellationToken::new();
    signals::install(signal.clone(), Some(log.clone())).context("install signal handlers")?;
    let watch = match companion.server_pid {
        Some(pid) => ServerWatch::parent(pid).context("watch the server")?,
        None => ServerWatch::lock_file(&data_dir),
    };
    let is_child = companion.server_pid.is_some();
    let former = None;
    let mut host = Host {
        arguments,
        data_dir,
        log,
        watch,
        signal,
        former,
    };
    loop {
        let waiting = host.next_run(wanted);
        let epoch = tokio::select! {
            epoch = waiting => epoch?,
            gone = host.watch.gone(), if is_child => return gone.context("watch the server"),
            () = host.signal.cancelled() => return Ok(()),
        };
        let result = host.session(epoch).await;
        host.former = Some(epoch);
        let is_over = is_child || wanted.is_some() || host.signal.is_cancelled();
        // Without a parent the next run of the server is waited for; an error
        // that has another cause than the end of this run is the daemon's.
        if is_over || (result.is_err() && host.names(epoch)) {
            return result;
        }
        tracing::info!(epoch = epoch.number, "this run of the server is over");
    }
}

/// What outlives the runs of a server.
struct Host<'a> {
    arguments: &'a Arguments,
    data_dir: PathBuf,
    log: LogHandle,
    watch: ServerWatch,
    signal: CancellationToken,
    /// The run that we last worked for: it is over.
    former: Option<Epoch>,
}

impl Host<'_> {
    /// The run in the epoch file, once its server is alive.
    async fn next_run(&self, wanted: Option<RunRef>) -> anyhow::Result<Epoch> {
        loop {
            let is_up = self.arguments.companion.server_pid.is_some()
                || is_held(&self.data_dir, Role::Server).unwrap_or(false);
            let epoch = match is_up {
                true => read_epoch(&RealFs, &self.data_dir)?,
                false => None,
            };
            if let Some(epoch) = epoch.filter(|epoch| Some(*epoch) != self.former) {
                match wanted {
                    Some(wanted) if wanted.epoch < epoch.number => bail!(
                        "started for epoch {}, the data directory is at {}",
                        wanted.epoch,
                        epoch.number
                    ),
                    Some(wanted) if wanted != run_of(epoch)? => {}
                    _ => return Ok(epoch),
                }
            }
            tokio::time::sleep(EPOCH_POLL_INTERVAL).await;
        }
    }

    fn names(&self, epoch: Epoch) -> bool {
        read_epoch(&RealFs, &self.data_dir).is_ok_and(|found| found == Some(epoch))
    }

    /// Works for one run of the server.
    async fn session(&self, epoch: Epoch) -> anyhow::Result<()> {
        let run = run_of(epoch)?;
        let guard = EpochGuard::new(Arc::new(RealFs), &self.data_dir, epoch);
        spool::clean(&self.data_dir, &guard)?;
        let tasks = Tasks::new();
        let socket_dir = self.arguments.companion.socket_dir(&self.data_dir);
        let (context, feeds) = Context::new(&self.data_dir, &socket_dir, run, guard, tasks.clone());
        let metrics_port = self.arguments.metrics_port;
        start(&context, feeds, &socket_dir, metrics_port, self.log.clone()).await?;
        tracing::info!(epoch = run.epoch, dir = %self.data_dir.display(), "replica agent ready");
        tokio::select! {
            gone = self.watch.gone_or_stopped(&self.signal, STOP_PATIENCE) => {
                gone.context("watch the server")?;
                tasks.stop();
            }
            () = self.superseded(epoch) => tasks.stop(),
            _ = tasks.stopped() => {}
        }
        if let Err(error) = tasks.drain(DRAIN_TIME_MAX).await {
            tracing::debug!(%error, "some tasks were cut at the end");
        }
        tasks.stopped().await
    }

    /// Returns when the epoch file names another run: a server that came back
    /// within two looks at its lock.
    async fn superseded(&self, epoch: Epoch) {
        loop {
            tokio::time::sleep(EPOCH_POLL_INTERVAL).await;
            let found = read_epoch(&RealFs, &self.data_dir);
            if found.is_ok_and(|found| found.is_some_and(|found| found != epoch)) {
                return;
            }
        }
    }
}

fn run_of(epoch: Epoch) -> anyhow::Result<RunRef> {
    let run_id = std::str::from_utf8(&epoch.run_id)
        .ok()
        .and_then(HexId::parse);
    Ok(RunRef {
        run_id: run_id.context("the epoch file's run id is malformed")?,
        epoch: epoch.number,
    })
}

async fn start(
    context: &Arc<Context>,
    feeds: Feeds,
    socket_dir: &Path,
    metrics_port: u16,
    log: LogHandle,
) -> anyhow::Result<()> {
    let tasks = &context.tasks;
    let follower = Arc::new(Follower::new(Arc::clone(context)));
    let master = Arc::new(Master::new(Arc::clone(context), Arc::clone(&follower)));
    let failover = Arc::new(Failover::new(
        Arc::clone(context),
        Arc::clone(&follower),
        Arc::clone(&master.registry),
    ));
    let service = ReplicaService {
        context: Arc::clone(context),
        follower: Arc::clone(&follower),
        master: Arc::clone(&master),
        failover: Arc::clone(&failover),
    };
    let (health, routes) = uds::base_routes(&[redrock_proto::FILE_DESCRIPTOR_SET])?;
    health.set_serving::<ReplicaServer<ReplicaService>>().await;
    let routes = routes.add_service(ReplicaServer::new(service));
    let listener = uds::PrivateListener::bind(&socket_dir.join(REPLICA_SOCKET))?;
    let handoffs = uds::PrivateListener::bind(&socket_dir.join(HANDOFF_SOCKET))?;
    if metrics_port != 0 {
        serve_metrics(tasks, metrics_port, &master, &follower).await?;
    }
    tasks.spawn_critical("grpc", uds::serve(listener, routes, tasks.token()));
    tasks.spawn_critical("handoffs", master::accept(Arc::clone(&master), handoffs));

    let background = |name: &'static str, work: futures::future::BoxFuture<'static, ()>| {
        let stop = tasks.token();
        tasks.spawn_critical(name, async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        });
    };
    background(
        "watch log",
        Box::pin(watchers::watch_log(Arc::clone(context), feeds.log)),
    );
    background(
        "watch settings",
        Box::pin(watchers::watch_settings(
            Arc::clone(context),
            feeds.settings,
            log,
        )),
    );
    background(
        "acknowledgements",
        Box::pin(master::report_acks(Arc::clone(&master))),
    );
    background("disk bound", Box::pin(master::bound_disk(master)));
    background(
        "link reports",
        Box::pin(link::report(Arc::clone(context), follower.link())),
    );
    background(
        "follow as the server does",
        Box::pin(keep_in_step(follower, move || failover.is_running())),
    );
    Ok(())
}

async fn serve_metrics(
    tasks: &Tasks,
    port: u16,
    master: &Arc<Master>,
    follower: &Arc<Follower>,
) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let (master, follower) = (Arc::clone(master), Arc::clone(follower));
    metrics.collect_with(move |page| {
        let registry = &master.registry;
        page.gauge(
            "redrock_replica_attached",
            "Replicas attached.",
            registry.len(),
        );
        for (name, help, counter) in [
            (
                "redrock_replica_sync_full_total",
                "Full resynchronizations served.",
                &registry.sync_full,
            ),
            (
                "redrock_replica_sync_partial_total",
                "Partial resynchronizations served.",
                &registry.sync_partial_ok,
            ),
            (
                "redrock_replica_sync_partial_refused_total",
                "Partial resynchronizations that had to become full.",
                &registry.sync_partial_err,
            ),
            (
                "redrock_replica_sync_resumed_total",
                "Full resynchronizations that went on where a link had broken.",
                &registry.sync_resumed,
            ),
        ] {
            page.counter(name, help, counter.load(Ordering::Relaxed));
        }
        let link = follower.link().borrow().clone();
        page.gauge(
            "redrock_replica_received_offset",
            "End of what our master sent.",
            link.state.received_offset,
        );
        page.gauge(
            "redrock_replica_spool_bytes",
            "Received and not yet applied.",
            link.spool_bytes,
        );
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = http::bind(address).await.context("listen for metrics")?;
    let endpoint = http::Endpoint {
        registry: metrics,
        healthy: Arc::new(|| Ok(String::new())),
        ready: Arc::new(|| Ok(String::new())),
    };
    tasks.spawn("metrics", http::serve(listener, endpoint, tasks.token()));
    Ok(())
}
