//! `Snapshot`: cuts for the persister.

mod begin;
mod frames;
mod keep;

use super::Shared;
use crate::config::{Memory, budget::Budget};
use crate::keyspace::locks::KeyspaceGuard;
use crate::keyspace::snapshot::CutDatabase;
use crate::keyspace::snapshot::ring::{Item, Ring};
use crate::keyspace::tiering::Tiering;
use crate::keyspace::tiering::fifo::TierOp;
use crate::log::CutPoint;
use crate::log::state::LogKind;
use crate::replication::identity;
use crate::script::kept;
use crate::start::directory::random_id;
use begin::{flush_before, spawn_walker};
use bytes::Bytes;
use frames::{FrameResult, Sender};
use keep::LastCut;
use parking_lot::Mutex;
use redrock_log::history::SnapshotIdentity;
use redrock_proto::error::RpcError;
use redrock_proto::model::{Begin, Database, Frame, Purpose, TakeRequest};
use redrock_proto::v1::{self, snapshot_server};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

/// How long a checkpoint stays without a report.
const LEASE: Duration = Duration::from_secs(60);
/// How long a take may make no progress.
const STALL: Duration = Duration::from_secs(60);
/// The same while a client's write waits for it.
const STALL_OF_WRITERS: Duration = Duration::from_secs(10);
/// How often that is looked at.
const STALL_LOOK: Duration = Duration::from_millis(500);
/// How often the persister is told that a long command is waited for.
const WAITING_PERIOD: Duration = Duration::from_secs(5);
/// Frames that wait in the transport.
const FRAMES_IN_FLIGHT: usize = 2;

/// A checkpoint that the persister reads.
#[derive(Debug)]
struct Lease {
    snapshot_id: u64,
    path: PathBuf,
    until: Instant,
}

/// The service; see the proto for the order of frames. Clones share all but the handle.
#[derive(Clone)]
pub struct SnapshotService {
    shared: Shared,
    next_id: Arc<AtomicU64>,
    running: Arc<Mutex<Option<(u64, Arc<Ring>)>>>,
    leases: Arc<Mutex<Vec<Lease>>>,
    last_cut: Arc<Mutex<Option<LastCut>>>,
}

impl SnapshotService {
    /// The service of one server.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            next_id: Arc::new(AtomicU64::new(1)),
            running: Arc::default(),
            leases: Arc::default(),
            last_cut: Arc::default(),
        }
    }

    /// Removes checkpoints whose lease has run out. Called once a second.
    pub fn expire_leases(&self) {
        let now = Instant::now();
        let gone: Vec<Lease> = {
            let mut leases = self.leases.lock();
            leases.extract_if(.., |lease| lease.until < now).collect()
        };
        for lease in gone {
            tracing::warn!(snapshot_id = lease.snapshot_id, "checkpoint lease ran out");
            remove_checkpoint(&lease.path);
        }
    }

    /// The cut: all under one lock hold.
    fn begin(
        &self,
        (id, request): (u64, &TakeRequest),
        ring: &Arc<Ring>,
        mut keyspace: KeyspaceGuard<'_>,
    ) -> Result<(Begin, bool), RpcError> {
        let server = &self.shared.server;
        let used_memory_bytes = server.memory.measured().0;
        if keyspace.snapshot.is_some() {
            return Err(RpcError::busy("a snapshot is being taken"));
        }
        let began = Instant::now();
        let is_renamed = identity::is_count_lost(server);
        let from_nothing = server.log.state().kind == LogKind::None;
        // A master's changes were not counted up to here; a replica's offset is its master's.
        let anew = (from_nothing && !server.is_replica()).then(random_id);
        let point = server.log.cut_point(request.rotate_to_segment, anew)?;
        let Some(databases) = keyspace.cut(ring.clone()) else {
            return Err(RpcError::busy("a snapshot is being taken"));
        };
        keyspace.newest_cut = id;
        let for_replicas = matches!(request.purpose, Purpose::FullSync | Purpose::Rewrite);
        if for_replicas && !server.is_replica() {
            // As in Redis: peers that begin here and read no RDB file's fields learn the database.
            server.log.force_select();
        }
        self.note_cut(LastCut {
            id,
            purpose: request.purpose,
            replid: point.replid,
            offset: point.offset,
            rotated: point.rotated,
            secret: keyspace.positioner().secret(),
            databases: databases.clone(),
            sent: Vec::new(),
        });
        if let Some(tiering) = &keyspace.tiering {
            self.queue_checkpoint(id, tiering, ring.clone());
        }
        let functions = server.scripting.libraries.read().sources();
        let scripts = server.scripting.cache.kept();
        let field = |source: Arc<[u8]>| (kept::FIELD.to_owned(), Bytes::from_owner(source));
        let aux = scripts.into_iter().map(field).collect();
        let expects_checkpoint = keyspace.tiering.is_some();
        let telling = match point.rotated {
            true => self.note_switch(&point, from_nothing),
            false => Telling::Nothing,
        };
        drop(keyspace);
        if is_renamed {
            server.report_log();
        }
        server.stats.cut_made(began.elapsed());
        if let Err(why) = self.finish_switch(telling) {
            ring.push(Item::Failed(why));
        }
        let frame = begin_frame(id, &point, &databases, used_memory_bytes);
        let begin = Begin {
            functions,
            aux,
            ..frame
        };
        Ok((begin, expects_checkpoint))
    }

    /// Queues the making of the checkpoint behind all that the tier is to hold at the cut.
    fn queue_checkpoint(&self, id: u64, tiering: &Tiering, ring: Arc<Ring>) {
        let path = tiering.cold.checkpoint_path(id);
        let leases = self.leases.clone();
        tiering.queue.push(TierOp::Marker(Box::new(move |store| {
            if ring.is_closed() {
                return;
            }
            let made = store.and_then(|store| {
                let made = store.checkpoint(&path);
                made.map_err(|error| error.to_string())
            });
            match made {
                Ok(()) => {
                    let until = Instant::now() + LEASE;
                    leases.lock().push(Lease {
                        snapshot_id: id,
                        path: path.clone(),
                        until,
                    });
                    ring.push(Item::Checkpoint(path));
                }
                Err(why) => ring.push(Item::Failed(why)),
            }
        })));
    }

    /// Waits for the keyspace, cuts, and gives the frames until the take is over.
    async fn serve(
        &self,
        (id, request): (u64, TakeRequest),
        ring: &Arc<Ring>,
        frames: mpsc::Sender<FrameResult>,
    ) {
        let server = &self.shared.server;
        let started = Instant::now();
        if !flush_before(server, &frames).await {
            return;
        }
        let begun = loop {
            {
                let keyspace = tokio::select! {
                    keyspace = tokio::time::timeout(WAITING_PERIOD, server.keyspace_when_idle()) => keyspace,
                    // What was asked for is wanted no longer.
                    () = frames.closed() => return,
                };
                if let Ok(keyspace) = keyspace {
                    break self.begin((id, &request), ring, keyspace);
                }
            }
            if frames.send(Ok(Frame::Waiting.into())).await.is_err() {
                return;
            }
        };
        let begun = begun.and_then(|begun| {
            // SAVE holds clients anyway.
            let hurries =
                request.purpose == Purpose::Save || server.config().snapshot.rate_bytes == Some(0);
            spawn_walker(server.clone(), ring.clone(), !hurries)?;
            Ok(begun)
        });
        let (begin, expects_checkpoint) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                let _gone = frames.send(Ok(Frame::Failed(error).into())).await;
                return;
            }
        };
        if frames.send(Ok(Frame::Begin(begin).into())).await.is_err() {
            return;
        }
        let sender = Sender {
            ring: ring.clone(),
            frames,
            server: server.clone(),
            data_dir: self.shared.data_dir.clone(),
            started,
            expects_checkpoint,
            last_cut: self.last_cut.clone(),
        };
        sender.run().await;
    }
}

/// What the file of the stream's history must be told at a cut.
#[derive(Clone, Copy)]
enum Telling {
    Nothing,
    /// Another log begins.
    Beginning,
    /// The base will have changes of a replica's own clients.
    OwnChanges,
}

impl SnapshotService {
    /// Tells the history where the log goes on.
    fn note_switch(&self, point: &CutPoint, from_nothing: bool) -> Telling {
        let server = &self.shared.server;
        if from_nothing && !server.is_replica() {
            let replid = point.replid.digits();
            server.history.replace(replid, point.offset);
        }
        let begins = server.history.switched(point, from_nothing);
        let has_own = server.is_replica() && server.log.has_own_changes();
        match begins {
            _ if has_own && server.history.note_own_changes() && !begins => Telling::OwnChanges,
            true => Telling::Beginning,
            false => Telling::Nothing,
        }
    }

    fn finish_switch(&self, telling: Telling) -> Result<(), String> {
        let server = &self.shared.server;
        let stored = match telling {
            Telling::Nothing => Ok(()),
            Telling::Beginning | Telling::OwnChanges => server.history.store(),
        };
        let Err(error) = stored else {
            return server.log.finish_switch();
        };
        match telling {
            // There is no base yet that has them.
            Telling::OwnChanges => server.log.finish_switch()?,
            // Nobody has been promised anything by a log that only begins.
            Telling::Nothing | Telling::Beginning => server.log.disable(),
        }
        Err(format!("store the replication state: {error}"))
    }
}

fn begin_frame(id: u64, point: &CutPoint, databases: &[CutDatabase], used: u64) -> Begin {
    Begin {
        snapshot_id: id,
        cut_unix_ms: crate::clock::unix_ms().max(0) as u64,
        log_offset: point.offset,
        replid: point.replid,
        stream_db: point.stream_db,
        rotated: point.rotated,
        segment_seq: point.segment_seq,
        append_only: point.kind == LogKind::AppendOnly,
        databases: databases
            .iter()
            .map(|d| Database {
                index: d.index as u32,
                generation: d.generation,
                keys: d.keys,
                expires: d.expires,
            })
            .collect(),
        functions: Vec::new(),
        aux: Vec::new(),
        used_memory_bytes: used,
    }
}

/// Bytes of old values that may wait for the persister.
fn snapshot_ring_bytes(memory: &Memory) -> usize {
    const UNBOUNDED_SERVER_BYTES: usize = 64 << 20;
    if memory.tiering {
        Budget::new(memory.bytes_max).snapshot_ring as usize
    } else {
        UNBOUNDED_SERVER_BYTES
    }
}

fn remove_checkpoint(path: &Path) {
    if let Err(error) = redrock_log::fs::remove_tree(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "remove checkpoint failed");
    }
}

#[tonic::async_trait]
impl snapshot_server::Snapshot for SnapshotService {
    type TakeStream = Pin<Box<dyn Stream<Item = FrameResult> + Send>>;

    async fn take(
        &self,
        request: Request<v1::TakeRequest>,
    ) -> Result<Response<Self::TakeStream>, Status> {
        let wire = request.into_inner();
        let asked = TakeRequest::try_from(&wire)?;
        self.shared.run.check(wire.run)?;
        self.shared.loaded()?;
        let server = self.shared.server.clone();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ring_bytes = snapshot_ring_bytes(&server.config().memory);
        let ring = Ring::new(ring_bytes, asked.frame_bytes_max);
        let ring = Arc::new(ring.with_spool(self.shared.data_dir.clone()));
        {
            let mut running = self.running.lock();
            if running.is_some() {
                return Err(RpcError::busy("a snapshot is being taken").into());
            }
            *running = Some((id, ring.clone()));
        }
        let (frames, stream) = mpsc::channel(FRAMES_IN_FLIGHT);
        let service = self.clone();
        // Apart from the call, which may be given up at any time.
        tokio::spawn(async move {
            service.serve((id, asked), &ring, frames).await;
            // However it ended, nobody takes from the ring any more.
            ring.close();
            let ended = server.keyspace_when_idle().await.end_snapshot_of(&ring);
            drop(ended);
            *service.running.lock() = None;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn abort(
        &self,
        request: Request<v1::SnapshotRef>,
    ) -> Result<Response<v1::Empty>, Status> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run)?;
        let ring = self
            .running
            .lock()
            .as_ref()
            .filter(|r| r.0 == wire.snapshot_id)
            .map(|r| r.1.clone());
        let Some(ring) = ring else {
            return Err(RpcError::not_found("that snapshot is over").into());
        };
        ring.push(Item::Failed("the snapshot was aborted".into()));
        self.release_checkpoint(wire.snapshot_id);
        Ok(Response::new(v1::Empty {}))
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run)?;
        let lease = Duration::from_millis(wire.lease_ms.clamp(1000, 600_000));
        let mut leases = self.leases.lock();
        let Some(held) = leases
            .iter_mut()
            .find(|l| l.snapshot_id == wire.snapshot_id)
        else {
            return Err(RpcError::not_found("the checkpoint's lease has run out").into());
        };
        held.until = Instant::now() + lease;
        Ok(Response::new(v1::Empty {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let mut wire = request.into_inner();
        self.shared.run.check(wire.run.take())?;
        let cut = self
            .last_cut
            .lock()
            .take_if(|cut| cut.id == wire.snapshot_id)
            .filter(|_| wire.succeeded);
        if cut.as_ref().is_some_and(|cut| cut.rotated) {
            // The log's base is in place: what a failed sync has lost of the segments before is in it.
            self.shared.server.log.base_landed();
        }
        self.keep_or_release(cut.as_ref(), &wire).await;
        if let Some(cut) = cut.filter(LastCut::is_for_dump) {
            let dump = SnapshotIdentity {
                file_bytes: wire.file_bytes,
                crc64: wire.file_crc64,
                replid: cut.replid.digits(),
                offset: cut.offset,
            };
            let shared = self.shared.clone();
            let noting = tokio::task::spawn_blocking(move || shared.server.history.note_dump(dump));
            if let Ok(Err(error)) = noting.await {
                // The dump is good without: the log for replicas is just not replayed over it.
                tracing::warn!(%error, "the dump could not be noted in the replication state");
            }
        }
        Ok(Response::new(v1::Empty {}))
    }
}

impl SnapshotService {
    /// What the file made of a cut will stand for once it is in place.
    fn note_cut(&self, cut: LastCut) {
        if cut.is_for_dump() {
            let state = &self.shared.server.state;
            let changes = state.changes.load(Ordering::Relaxed);
            state.changes_at_cut.store(changes, Ordering::Release);
        }
        *self.last_cut.lock() = Some(cut);
    }

    /// Its caller sees to the checkpoint from now on.
    fn take_lease(&self, snapshot_id: u64) -> Option<Lease> {
        let mut leases = self.leases.lock();
        let at = leases.iter().position(|l| l.snapshot_id == snapshot_id)?;
        Some(leases.swap_remove(at))
    }

    fn release_checkpoint(&self, snapshot_id: u64) {
        if let Some(lease) = self.take_lease(snapshot_id) {
            remove_checkpoint(&lease.path);
        }
    }
}

#[cfg(test)]
mod tests;
