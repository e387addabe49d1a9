//! `Load`: our master's data comes in through files that the agent writes.

use super::Shared;
use crate::log::state::{LogKind, LogState};
use crate::replication::apply::Applier;
use crate::replication::commands::{self, Target};
use crate::replication::follow::{self, LoadWatch};
use crate::replication::{failover, link_client};
use crate::server::Server;
use crate::start::rdb::NotNow;
use crate::state;
use parking_lot::Mutex;
use redrock_proto::error::RpcError;
use redrock_proto::model::{ApplyBegin, LinkState, LinkStatus, LoadRdb, SpoolState};
use redrock_proto::v1::{self, apply_request, load_server};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// Spool states that wait for the thread that applies.
const SPOOL_STATES_MAX: usize = 64;
/// Bytes of a spool file read at once.
const READ_BYTES: usize = 256 << 10;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// See the proto.
pub struct LoadService {
    shared: Shared,
    loading: Arc<Mutex<bool>>,
}

impl LoadService {
    /// The service of one server.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            loading: Arc::default(),
        }
    }
}

type Reply<T> = Result<T, Status>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Reply<T>> + Send>>;

/// Makes the flag false again however the load ends.
struct Running(Arc<Mutex<bool>>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.lock() = false;
    }
}

#[tonic::async_trait]
impl load_server::Load for LoadService {
    type LoadRdbStream = BoxStream<v1::Progress>;
    type ApplyStreamStream = BoxStream<v1::Applied>;

    async fn load_rdb(
        &self,
        request: Request<v1::LoadRdbRequest>,
    ) -> Reply<Response<Self::LoadRdbStream>> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run.clone())?;
        let asked = LoadRdb::try_from(wire)?;
        {
            let mut loading = self.loading.lock();
            if *loading {
                return Err(RpcError::busy("a snapshot is being loaded").into());
            }
            *loading = true;
        }
        let running = Running(self.loading.clone());
        let (sender, stream) = mpsc::channel(4);
        let shared = self.shared.clone();
        let work = move || load(&shared, &asked, &sender, running);
        std::thread::Builder::new()
            .name("replica-load".into())
            .spawn(work)
            .map_err(|error| RpcError::internal(format!("start the load: {error}")))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn apply_stream(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Reply<Response<Self::ApplyStreamStream>> {
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .and_then(|message| message.request);
        let Some(apply_request::Request::Begin(begin)) = first else {
            return Err(RpcError::invalid("the first message must be `begin`").into());
        };
        self.shared.run.check(begin.run.clone())?;
        let begin = ApplyBegin::try_from(begin)?;
        let server = self.shared.server.clone();
        self.shared.loaded()?;
        let adopting = server.clone();
        let start_offset = begin.start_offset;
        let (feed, database) = blocking(move || follow::adopt(&adopting, &begin)).await??;
        let (spools, arriving) = mpsc::channel(SPOOL_STATES_MAX);
        let (applied, answers) = watch::channel(Ok(state_of(&server, start_offset)));
        let applied = Arc::new(applied);
        tokio::spawn(tell_durable(
            server.log.subscribe(),
            Arc::downgrade(&applied),
        ));
        let data_dir = self.shared.data_dir.clone();
        let work = move || {
            let applier = Applier::new(&server, start_offset, database, feed);
            let mut follower = Follower {
                server: &server,
                applier,
                file: None,
                data_dir,
            };
            let mut arriving: mpsc::Receiver<SpoolState> = arriving;
            while let Some(spool) = arriving.blocking_recv() {
                if let Err(error) = follower.follow(&spool, &applied) {
                    let _former = applied.send_replace(Err(error));
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("replica-apply".into())
            .spawn(work)
            .map_err(|error| RpcError::internal(format!("start applying: {error}")))?;
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                let Some(apply_request::Request::Spool(wire)) = message.request else {
                    break;
                };
                let Ok(spool) = SpoolState::try_from(wire) else {
                    break;
                };
                if spools.send(spool).await.is_err() {
                    break;
                }
            }
        });
        let answers = WatchStream::new(answers).map(|state| state.map_err(Status::from));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Reply<Response<v1::PromoteReply>> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run)?;
        let server = &self.shared.server;
        if let Some(offset) = wire.wait_offset {
            let deadline = Instant::now() + Duration::from_millis(wire.timeout_ms.min(600_000));
            while server.log.appended_offset() < offset {
                if Instant::now() >= deadline {
                    return Err(RpcError::timeout("the offset was not reached").into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let number = wire.failover;
        if number.is_none_or(|number| failover::is_present(server, number)) {
            // What is asked to make us a replica, and has not done so, is what the caller takes
            // back.
            failover::refuse_demotion(server);
        }
        let promoting = server.clone();
        let promoted = blocking(move || {
            let is_present = |number| failover::is_present(&promoting, number);
            follow::promote_if(&promoting, || number.is_none_or(is_present))
        });
        let promoted = promoted.await?;
        let (replid, offset) = promoted
            .map_err(|error| RpcError::internal(format!("store the new id: {error}")))?
            .ok_or_else(failover::over)?;
        server.refresh_gates();
        commands::note_in_settings(server, Target::NoOne).await;
        Ok(Response::new(v1::PromoteReply {
            replid: String::from_utf8_lossy(&replid).into_owned(),
            offset,
        }))
    }

    async fn demote(
        &self,
        request: Request<v1::DemoteRequest>,
    ) -> Reply<Response<v1::DemoteReply>> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run)?;
        let port = u16::try_from(wire.master_port)
            .ok()
            .filter(|port| *port > 0);
        let Some(port) = port else {
            return Err(RpcError::invalid("master_port must be 1 to 65535").into());
        };
        let server = &self.shared.server;
        let demoting = server.clone();
        let demoted = blocking(move || {
            let master = (wire.master_host.as_str(), port);
            failover::demote(&demoting, wire.failover, master, wire.expected_offset)
        });
        let position = demoted.await??;
        let (replid, offset) = position.map_or((String::new(), 0), |(replid, offset)| {
            (String::from_utf8_lossy(&replid).into_owned(), offset)
        });
        Ok(Response::new(v1::DemoteReply { replid, offset }))
    }

    async fn link_state(
        &self,
        request: Request<v1::LinkStateRequest>,
    ) -> Reply<Response<v1::Empty>> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run.clone())?;
        let link = LinkState::try_from(wire)?;
        let server = &self.shared.server;
        let mut replication = server.state.replication.lock();
        let mut broken = false;
        if let Some(master) = &mut replication.master {
            master.state = match link.status {
                LinkStatus::Connect | LinkStatus::None => state::LinkState::Connect,
                LinkStatus::Connecting => state::LinkState::Connecting,
                LinkStatus::Sync => state::LinkState::Sync,
                LinkStatus::Connected => state::LinkState::Connected,
            };
            let seconds = |ms: u64| (ms > 0).then_some((ms / 1000) as i64);
            master.last_io_s = seconds(link.last_io_unix_ms);
            master.down_since_s = seconds(link.down_since_unix_ms);
            master.transfer_bytes = (link.sync_bytes_total, link.sync_bytes_read);
            master.read_offset = link.received_offset;
            master.last_error = link.last_error.unwrap_or_default();
            broken = link_client::follow_link(server, master);
        }
        drop(replication);
        server.refresh_gates();
        if broken {
            // Not awaited: the agent is waiting for our answer.
            let services = self.shared.services()?.clone();
            services
                .handle
                .clone()
                .spawn(async move { commands::connect_again(&services).await });
        }
        Ok(Response::new(v1::Empty {}))
    }
}

/// Runs work that waits for the disk or a lock off the runtime's thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RpcError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| RpcError::internal(format!("a worker died: {error}")))
}

fn state_of(server: &Server, applied_offset: u64) -> v1::Applied {
    v1::Applied {
        applied_offset,
        durable_offset: durable_of(&server.log.state()),
    }
}

/// Up to where the append-only log holds the stream for good. A log for replicas alone, which a
/// restart may not find, is no such promise.
fn durable_of(log: &LogState) -> u64 {
    match log.kind {
        LogKind::AppendOnly => log.durable_offset.min(log.written_offset),
        _ => 0,
    }
}

/// What is applied becomes durable later: the agent, and through it the master, hears of that too.
async fn tell_durable(
    mut log: watch::Receiver<LogState>,
    applied: Weak<watch::Sender<Result<v1::Applied, RpcError>>>,
) {
    while log.changed().await.is_ok() {
        let durable = durable_of(&log.borrow_and_update());
        let Some(applied) = applied.upgrade() else {
            return;
        };
        applied.send_if_modified(|state| match state {
            Ok(state) if state.durable_offset < durable => {
                state.durable_offset = durable;
                true
            }
            _ => false,
        });
    }
}

fn progress(done: u64, total: u64, started: Instant) -> v1::Progress {
    let progress = v1::Progress {
        phase: v1::Phase::Loading.into(),
        bytes_done: done,
        bytes_total: total,
        elapsed_ms: started.elapsed().as_millis() as u64,
        ..v1::Progress::default()
    };
    progress.with_pace(started.elapsed())
}

/// Runs the load on this thread and reports until it is over.
fn load(
    shared: &Shared,
    asked: &LoadRdb,
    sender: &mpsc::Sender<Reply<v1::Progress>>,
    running: Running,
) {
    let watch = Arc::new(LoadWatch::default());
    let started = Instant::now();
    let path = asked.path.resolve(&shared.data_dir);
    let total = asked.bytes;
    let result = std::thread::scope(|scope| {
        let worker = {
            let watch = watch.clone();
            scope.spawn(move || follow::load_snapshot(&shared.server, &path, asked, &watch))
        };
        while !worker.is_finished() {
            std::thread::sleep(PROGRESS_INTERVAL.min(Duration::from_millis(20)));
            let done = watch.read_bytes.load(Ordering::Relaxed);
            if sender.is_closed() {
                watch.cancelled.store(true, Ordering::Relaxed);
            } else if started.elapsed() > PROGRESS_INTERVAL {
                // A reader that is behind needs only the newest.
                let _ = sender.try_send(Ok(progress(done, total, started)));
            }
        }
        worker.join()
    });
    drop(running);
    let last = match result {
        Ok(Ok(keys)) => {
            tracing::info!(keys, "master's snapshot loaded");
            let elapsed_ms = started.elapsed().as_millis() as u64;
            Ok(v1::Progress {
                phase: v1::Phase::Done.into(),
                keys_done: keys,
                outcome: Some(v1::Outcome {
                    keys,
                    bytes: total,
                    replid: asked.source.replid.to_string(),
                    offset: asked.source.offset,
                    elapsed_ms,
                    ..v1::Outcome::default()
                }),
                ..progress(total, total, started)
            })
        }
        Ok(Err(error)) => {
            tracing::error!(
                error = format!("{error:#}"),
                "load of the master's snapshot failed"
            );
            Err(failure(&error).into())
        }
        Err(_) => Err(RpcError::internal("the load ended unexpectedly").into()),
    };
    // The caller may be gone: then nobody is left to tell.
    let _ = sender.blocking_send(last);
}

/// Whether what came is to blame, or ourselves at the moment: the agent keeps it then.
fn failure(error: &anyhow::Error) -> RpcError {
    if let Some(refusal) = error.downcast_ref::<RpcError>() {
        return refusal.clone();
    }
    let text = format!("{error:#}");
    match NotNow::is_cause_of(error) {
        true => RpcError::unavailable(text),
        false => RpcError::corrupt(text),
    }
}

/// Reads spool files in order and feeds the applier.
struct Follower<'s> {
    server: &'s Server,
    applier: Applier<'s>,
    /// The open spool file: its path, and the stream offset of its first byte.
    file: Option<(PathBuf, u64, std::fs::File)>,
    data_dir: PathBuf,
}

impl Follower<'_> {
    /// As [`Follower::advance`]; a stream whose place another one has taken ends.
    fn follow(
        &mut self,
        spool: &SpoolState,
        applied: &watch::Sender<Result<v1::Applied, RpcError>>,
    ) -> Result<(), RpcError> {
        let advanced = match self.applier.is_superseded() {
            true => Ok(()),
            false => self.advance(spool, applied),
        };
        if self.applier.is_superseded() {
            return Err(RpcError::cancelled("the stream is no longer followed"));
        }
        advanced.map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "master's stream stopped");
            failure(&error)
        })
    }

    /// Applies up to what can be read now.
    fn advance(
        &mut self,
        spool: &SpoolState,
        applied: &watch::Sender<Result<v1::Applied, RpcError>>,
    ) -> anyhow::Result<()> {
        let path = spool.path.resolve(&self.data_dir);
        if self.file.as_ref().is_some_and(|(open, ..)| *open != path) {
            // A new file: the one before is complete up to where this one starts.
            self.read_to(spool.start_offset, applied)?;
            self.file = None;
        }
        if self.file.is_none() {
            let file = std::fs::File::open(&path)?;
            self.file = Some((path, spool.start_offset, file));
        }
        self.read_to(spool.readable_end_offset, applied)
    }

    fn read_to(
        &mut self,
        end: u64,
        applied: &watch::Sender<Result<v1::Applied, RpcError>>,
    ) -> anyhow::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let at = self.applier.received_offset();
            let Some((_, start, file)) = &mut self.file else {
                return Ok(());
            };
            if at >= end {
                return Ok(());
            }
            let position = at
                .checked_sub(*start)
                .ok_or_else(|| anyhow::anyhow!("the spool starts at {start}, {at} is needed"))?;
            file.seek(SeekFrom::Start(position))?;
            let want = usize::try_from(end - at)
                .unwrap_or(READ_BYTES)
                .min(READ_BYTES);
            let chunk = buffer.get_mut(..want).unwrap_or_default();
            file.read_exact(chunk)?;
            self.applier.feed(chunk)?;
            self.server.log.flush();
            let offset = self.applier.applied_offset();
            if let Some(master) = &mut self.server.state.replication.lock().master {
                master.applied_offset = Some(offset);
            }
            let _former = applied.send_replace(Ok(state_of(self.server, offset)));
        }
    }
}
