//! The server's side of the contract, as far as the agent sees it: a log of
//! real segments, a loader that keeps what it is told to load, settings.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use redrock_log::epoch::begin_run;
use redrock_log::fs::RealFs;
use redrock_log::history::ReplicationState;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_proto::client::{PERSIST_SOCKET, SERVER_SOCKET};
use redrock_proto::model::{HexId, RunRef, SharedPath};
use redrock_proto::v1;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

type Reply<T> = Result<Response<T>, Status>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the loader was given.
#[derive(Debug, Default, Clone)]
pub struct Loaded {
    /// Copies of the snapshots, newest last.
    pub snapshots: Vec<PathBuf>,
    /// Stream bytes behind the last snapshot.
    pub stream: Vec<u8>,
    pub replid: String,
    pub applied: u64,
    /// ApplyBegin messages so far.
    pub begins: u32,
}

/// Shared by all services.
pub struct Fake {
    pub dir: PathBuf,
    pub socket_dir: PathBuf,
    pub run: RunRef,
    pub log: watch::Sender<v1::LogState>,
    pub acks: watch::Sender<Vec<v1::ReplicaAck>>,
    pub link: watch::Sender<v1::LinkStateRequest>,
    pub loaded: watch::Sender<Loaded>,
    /// While true nothing is applied.
    pub stalled: watch::Sender<bool>,
    pub settings: watch::Sender<Vec<(String, String)>>,
    /// As a replica it keeps a log, so that it can have replicas.
    pub keeps_log: AtomicBool,
    pub base: Mutex<Option<v1::Base>>,
    pub pinned: Mutex<Vec<String>>,
    pub master: Mutex<Option<(String, u32)>>,
    writer: Mutex<Option<SegmentWriter>>,
    segments: Mutex<u64>,
}

pub fn id(letter: char) -> String {
    letter.to_string().repeat(40)
}

impl Fake {
    /// Serves in the background of the test's runtime.
    pub fn start(dir: &Path) -> Arc<Fake> {
        let epoch = begin_run(&RealFs, dir, [b'e'; 40]).unwrap();
        let socket_dir = dir.join("run");
        std::fs::create_dir_all(&socket_dir).unwrap();
        std::fs::create_dir_all(dir.join("appendonlydir")).unwrap();
        let state = v1::LogState {
            kind: v1::LogKind::None.into(),
            replid: id('a'),
            stream_db: -1,
            role: v1::Role::Master.into(),
            ..v1::LogState::default()
        };
        let fake = Arc::new(Fake {
            dir: dir.to_owned(),
            socket_dir,
            run: RunRef {
                run_id: HexId::parse(&"e".repeat(40)).unwrap(),
                epoch: epoch.number,
            },
            log: watch::channel(state).0,
            acks: watch::channel(vec![]).0,
            link: watch::channel(v1::LinkStateRequest::default()).0,
            loaded: watch::channel(Loaded::default()).0,
            stalled: watch::channel(false).0,
            settings: watch::channel(vec![]).0,
            keeps_log: AtomicBool::new(false),
            base: Mutex::new(None),
            pinned: Mutex::new(vec![]),
            master: Mutex::new(None),
            writer: Mutex::new(None),
            segments: Mutex::new(0),
        });
        let server = UnixListener::bind(fake.socket_dir.join(SERVER_SOCKET)).unwrap();
        let service = Service(Arc::clone(&fake));
        tokio::spawn(
            Server::builder()
                .add_service(v1::log_server::LogServer::new(service.clone()))
                .add_service(v1::load_server::LoadServer::new(service.clone()))
                .add_service(v1::admin_server::AdminServer::new(service.clone()))
                .serve_with_incoming(UnixListenerStream::new(server)),
        );
        let persist = UnixListener::bind(fake.socket_dir.join(PERSIST_SOCKET)).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(v1::persist_server::PersistServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(persist)),
        );
        fake
    }

    /// Appends to the log, as the server does: file first, then the word.
    pub fn append(&self, bytes: &[u8]) {
        let mut writer = self.writer.lock().unwrap();
        let offset = writer.as_mut().unwrap().write(bytes, 1).unwrap();
        self.log.send_modify(|log| log.written_offset = offset);
    }

    /// Begins a segment under `replid` at `start` or where the last one ends.
    pub fn begin_segment(&self, replid: &str, start: Option<u64>) {
        let mut segments = self.segments.lock().unwrap();
        *segments += 1;
        let name = format!("appendonlydir/appendonly.aof.{segments}.incr.aof");
        let path = self.dir.join(&name);
        let start_offset = start.unwrap_or_else(|| self.log.borrow().written_offset);
        let begin = SegmentStart {
            start_offset,
            database: 0,
            replid: replid.as_bytes().try_into().unwrap(),
            run_id: [b'e'; 40],
            epoch: self.run.epoch,
        };
        let writer = SegmentWriter::begin(&RealFs, &path, &begin, 1).unwrap();
        let prefix_bytes = writer.layout().prefix_bytes;
        *self.writer.lock().unwrap() = Some(writer);
        let former = self.log.borrow().replid.clone();
        if former != replid || start.is_some() {
            let mut state = ReplicationState::new(former.as_bytes().try_into().unwrap(), 0, 0);
            state.change_id(replid.as_bytes().try_into().unwrap(), start_offset);
            state.store(&RealFs, &self.dir, &|| Ok(())).unwrap();
        }
        self.log.send_modify(|log| {
            log.kind = v1::LogKind::AppendOnly.into();
            log.segment_seq = *segments;
            log.segment_path = name;
            log.segment_start_offset = start_offset;
            log.segment_prefix_bytes = prefix_bytes;
            log.written_offset = start_offset;
            log.replid = replid.to_owned();
        });
    }

    /// What a replica's log state says.
    fn show_replica(&self) {
        let loaded = self.loaded.borrow().clone();
        self.log.send_modify(|log| {
            log.role = v1::Role::Replica.into();
            log.kind = v1::LogKind::None.into();
            log.replid = loaded.replid;
            log.written_offset = loaded.applied;
        });
    }

    /// What the persister will offer.
    pub fn set_base(&self, path: &Path, offset: u64) {
        *self.base.lock().unwrap() = Some(v1::Base {
            path: SharedPath::new(&self.dir, path).to_wire(),
            bytes: std::fs::metadata(path).unwrap().len(),
            rdb_version: 10,
            replid: self.log.borrow().replid.clone(),
            offset,
            stream_db: 0,
            segments: vec![],
            holder: String::new(),
        });
    }
}

#[derive(Clone)]
struct Service(Arc<Fake>);

impl Service {
    fn check(&self, run: Option<v1::RunRef>) -> Result<(), Status> {
        Ok(self.0.run.check(run)?)
    }
}

fn unused<T>() -> Reply<T> {
    Err(Status::unimplemented("not part of this test"))
}

#[tonic::async_trait]
impl v1::log_server::Log for Service {
    type WatchStream = BoxStream<v1::LogState>;
    async fn watch(&self, request: Request<v1::WatchLogRequest>) -> Reply<Self::WatchStream> {
        self.check(request.into_inner().run)?;
        let states = WatchStream::new(self.0.log.subscribe());
        Ok(Response::new(Box::pin(states.map(Ok))))
    }
    async fn offer_segment(
        &self,
        _: Request<v1::OfferSegmentRequest>,
    ) -> Reply<v1::OfferSegmentReply> {
        unused()
    }
    async fn replica_acks(
        &self,
        request: Request<Streaming<v1::ReplicaAcksRequest>>,
    ) -> Reply<v1::Empty> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap();
        self.check(first.run)?;
        while let Ok(Some(message)) = messages.message().await {
            self.0.acks.send_replace(message.replicas);
        }
        self.0.acks.send_replace(vec![]);
        Ok(Response::new(v1::Empty {}))
    }
    async fn segments_listed(&self, _: Request<v1::SegmentsListedRequest>) -> Reply<v1::Empty> {
        unused()
    }
}

#[tonic::async_trait]
impl v1::load_server::Load for Service {
    type LoadRdbStream = BoxStream<v1::Progress>;
    async fn load_rdb(&self, request: Request<v1::LoadRdbRequest>) -> Reply<Self::LoadRdbStream> {
        let request = request.into_inner();
        self.check(request.run)?;
        let source = request.source.unwrap();
        let from = self.0.dir.join(&request.path);
        assert_eq!(std::fs::metadata(&from).unwrap().len(), request.bytes);
        let mut stalled = self.0.stalled.subscribe();
        let fake = Arc::clone(&self.0);
        let done = async move {
            stalled.wait_for(|stalled| !stalled).await.unwrap();
            let number = fake.loaded.borrow().snapshots.len();
            let copy = fake.dir.join(format!("copy-{number}.rdb"));
            std::fs::copy(&from, &copy).unwrap();
            fake.loaded.send_modify(|loaded| {
                loaded.snapshots.push(copy);
                loaded.stream.clear();
                loaded.replid = source.replid.clone();
                loaded.applied = source.offset;
            });
            fake.show_replica();
            if fake.keeps_log.load(Ordering::Relaxed) {
                let copy = fake.loaded.borrow().snapshots.last().unwrap().clone();
                fake.begin_segment(&source.replid, Some(source.offset));
                fake.set_base(&copy, source.offset);
            }
            Ok(v1::Progress {
                phase: v1::Phase::Done.into(),
                outcome: Some(v1::Outcome::default()),
                ..v1::Progress::default()
            })
        };
        Ok(Response::new(Box::pin(futures::stream::once(done))))
    }
    type ApplyStreamStream = BoxStream<v1::Applied>;
    async fn apply_stream(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Reply<Self::ApplyStreamStream> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap();
        let Some(v1::apply_request::Request::Begin(begin)) = first.request else {
            return Err(Status::invalid_argument("no begin"));
        };
        self.check(begin.run)?;
        if begin.start_offset != self.0.loaded.borrow().applied {
            return Err(Status::invalid_argument("not where we are"));
        }
        self.0.loaded.send_modify(|loaded| {
            loaded.replid = begin.replid;
            loaded.begins += 1;
        });
        let (sender, answers) = tokio::sync::mpsc::channel(1);
        let fake = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut stalled = fake.stalled.subscribe();
            while let Ok(Some(message)) = messages.message().await {
                let Some(v1::apply_request::Request::Spool(spool)) = message.request else {
                    panic!("begin twice");
                };
                stalled.wait_for(|stalled| !stalled).await.unwrap();
                let applied = fake.loaded.borrow().applied;
                assert!(applied >= spool.start_offset, "a gap in the spool");
                let mut bytes = vec![0; (spool.readable_end_offset - applied) as usize];
                let file = std::fs::File::open(fake.dir.join(&spool.path)).unwrap();
                file.read_exact_at(&mut bytes, applied - spool.start_offset)
                    .unwrap();
                fake.loaded.send_modify(|loaded| {
                    loaded.stream.extend_from_slice(&bytes);
                    loaded.applied = spool.readable_end_offset;
                });
                match fake.keeps_log.load(Ordering::Relaxed) {
                    true => fake.append(&bytes),
                    false => fake.show_replica(),
                }
                let answer = v1::Applied {
                    applied_offset: spool.readable_end_offset,
                    durable_offset: 0,
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        Ok(Response::new(Box::pin(answers)))
    }
    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Reply<v1::PromoteReply> {
        self.check(request.into_inner().run)?;
        *self.0.master.lock().unwrap() = None;
        let offset = self.0.loaded.borrow().applied;
        self.0.begin_segment(&id('d'), Some(offset));
        self.0
            .log
            .send_modify(|log| log.role = v1::Role::Master.into());
        Ok(Response::new(v1::PromoteReply {
            replid: id('d'),
            offset,
        }))
    }
    async fn demote(&self, request: Request<v1::DemoteRequest>) -> Reply<v1::Empty> {
        let request = request.into_inner();
        self.check(request.run)?;
        *self.0.master.lock().unwrap() = Some((request.master_host, request.master_port));
        let log = self.0.log.borrow().clone();
        self.0.loaded.send_modify(|loaded| {
            loaded.replid = log.replid;
            loaded.applied = log.written_offset;
        });
        self.0
            .log
            .send_modify(|log| log.role = v1::Role::Replica.into());
        Ok(Response::new(v1::Empty {}))
    }
    async fn link_state(&self, request: Request<v1::LinkStateRequest>) -> Reply<v1::Empty> {
        let request = request.into_inner();
        self.check(request.run.clone())?;
        self.0.link.send_replace(request);
        Ok(Response::new(v1::Empty {}))
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for Service {
    async fn replication(
        &self,
        _: Request<v1::AdminReplicationRequest>,
    ) -> Reply<v1::AdminReplication> {
        let loaded = self.0.loaded.borrow().clone();
        let master = self.0.master.lock().unwrap().clone();
        let mut log = self.0.log.borrow().clone();
        if master.is_some() {
            log.role = v1::Role::Replica.into();
            log.replid = loaded.replid;
            log.written_offset = loaded.applied;
        }
        let (master_host, master_port) = master.unwrap_or_default();
        Ok(Response::new(v1::AdminReplication {
            log: Some(log),
            master_host,
            master_port,
            applied_offset: loaded.applied,
            ..v1::AdminReplication::default()
        }))
    }
    type WatchConfigStream = BoxStream<v1::ConfigUpdate>;
    async fn watch_config(
        &self,
        _: Request<v1::WatchConfigRequest>,
    ) -> Reply<Self::WatchConfigStream> {
        let updates = WatchStream::new(self.0.settings.subscribe()).map(|settings| {
            let setting = |(name, value)| v1::Setting { name, value };
            Ok(v1::ConfigUpdate {
                complete: true,
                settings: settings.into_iter().map(setting).collect(),
            })
        });
        Ok(Response::new(Box::pin(updates)))
    }
    async fn status(&self, _: Request<v1::AdminStatusRequest>) -> Reply<v1::AdminStatus> {
        unused()
    }
    async fn memory(&self, _: Request<v1::AdminMemoryRequest>) -> Reply<v1::AdminMemory> {
        unused()
    }
    async fn tier(&self, _: Request<v1::AdminTierRequest>) -> Reply<v1::AdminTier> {
        unused()
    }
    type SnapshotStream = BoxStream<v1::Progress>;
    async fn snapshot(&self, _: Request<v1::AdminSnapshotRequest>) -> Reply<Self::SnapshotStream> {
        unused()
    }
    type RewriteStream = BoxStream<v1::Progress>;
    async fn rewrite(&self, _: Request<v1::AdminRewriteRequest>) -> Reply<Self::RewriteStream> {
        unused()
    }
    async fn backups(&self, _: Request<v1::AdminBackupsRequest>) -> Reply<v1::AdminBackups> {
        unused()
    }
    type FailoverStream = BoxStream<v1::Progress>;
    async fn failover(&self, _: Request<v1::AdminFailoverRequest>) -> Reply<Self::FailoverStream> {
        unused()
    }
    async fn config_get(&self, _: Request<v1::ConfigGetRequest>) -> Reply<v1::ConfigGetReply> {
        unused()
    }
    async fn config_set(&self, _: Request<v1::ConfigSetRequest>) -> Reply<v1::Empty> {
        unused()
    }
    async fn log_level(&self, _: Request<v1::LogLevelRequest>) -> Reply<v1::Empty> {
        unused()
    }
    type DrainStream = BoxStream<v1::Progress>;
    async fn drain(&self, _: Request<v1::DrainRequest>) -> Reply<Self::DrainStream> {
        unused()
    }
    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Reply<v1::Empty> {
        unused()
    }
}

#[tonic::async_trait]
impl v1::persist_server::Persist for Service {
    type GetBaseStream = BoxStream<v1::GetBaseReply>;
    async fn get_base(&self, request: Request<v1::GetBaseRequest>) -> Reply<Self::GetBaseStream> {
        let request = request.into_inner();
        self.check(request.run)?;
        let Some(base) = self.0.base.lock().unwrap().clone() else {
            return Err(Status::failed_precondition("no base"));
        };
        let mut pinned = self.0.pinned.lock().unwrap();
        pinned.retain(|pin| *pin != request.holder);
        pinned.push(request.holder.clone());
        drop(pinned);
        let base = v1::Base {
            holder: request.holder,
            ..base
        };
        // As if it had to be made: progress first, and long enough for the
        // newlines that keep a waiting replica.
        let steps = futures::stream::unfold(0, move |step| {
            let base = base.clone();
            async move {
                let reply = match step {
                    0 => v1::get_base_reply::Reply::Progress(v1::Progress::default()),
                    1 => {
                        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
                        v1::get_base_reply::Reply::Base(base)
                    }
                    _ => return None,
                };
                Some((Ok(v1::GetBaseReply { reply: Some(reply) }), step + 1))
            }
        });
        Ok(Response::new(Box::pin(steps)))
    }
    async fn pin(&self, request: Request<v1::PinRequest>) -> Reply<v1::PinReply> {
        let request = request.into_inner();
        self.check(request.run)?;
        let mut pinned = self.0.pinned.lock().unwrap();
        pinned.retain(|pin| *pin != request.holder);
        pinned.push(request.holder);
        Ok(Response::new(v1::PinReply::default()))
    }
    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Reply<v1::Empty> {
        let holder = request.into_inner().holder;
        self.0.pinned.lock().unwrap().retain(|pin| *pin != holder);
        Ok(Response::new(v1::Empty {}))
    }
    type SaveStream = BoxStream<v1::Progress>;
    async fn save(&self, _: Request<v1::SaveRequest>) -> Reply<Self::SaveStream> {
        unused()
    }
    type RewriteStream = BoxStream<v1::Progress>;
    async fn rewrite(&self, _: Request<v1::RewriteRequest>) -> Reply<Self::RewriteStream> {
        unused()
    }
    async fn abort(&self, _: Request<v1::AbortRequest>) -> Reply<v1::AbortReply> {
        unused()
    }
    async fn status(&self, _: Request<v1::PersistStatusRequest>) -> Reply<v1::PersistStatus> {
        unused()
    }
    type EnableAppendOnlyStream = BoxStream<v1::Progress>;
    async fn enable_append_only(
        &self,
        _: Request<v1::EnableAppendOnlyRequest>,
    ) -> Reply<Self::EnableAppendOnlyStream> {
        unused()
    }
    async fn disable_append_only(
        &self,
        _: Request<v1::DisableAppendOnlyRequest>,
    ) -> Reply<v1::Empty> {
        unused()
    }
    type VerifyStream = BoxStream<v1::Progress>;
    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Reply<Self::VerifyStream> {
        unused()
    }
    async fn list(&self, _: Request<v1::ListFilesRequest>) -> Reply<v1::ListFilesReply> {
        unused()
    }
    type BackupStream = BoxStream<v1::Progress>;
    async fn backup(&self, _: Request<v1::BackupRequest>) -> Reply<Self::BackupStream> {
        unused()
    }
}
