//! A server as the persister sees it: Snapshot, Log and Admin over a Unix socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use redrock_log::fs::Fs;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_proto::model::record::{encode_header, encode_record};
use redrock_proto::model::{HexId, LogKind, LogState, Role, RunRef, Segment, SharedPath};
use redrock_proto::v1::admin_server::{Admin, AdminServer};
use redrock_proto::v1::log_server::{Log, LogServer};
use redrock_proto::v1::snapshot_server::{Snapshot, SnapshotServer};
use redrock_proto::{RpcError, v1};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::dataset::{Record, generation};

/// What goes wrong with a take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An error status instead of a cut.
    Refuse,
    /// Neither cut nor answer.
    Silent,
    /// `Failed` behind the first record.
    FailAfterCut,
    /// Nothing comes behind the cut.
    HangAfterCut,
    /// One key more is announced than comes.
    WrongCount,
    /// Reports answer NOT_FOUND.
    LoseLease,
}

/// What the fake serves and what it has seen.
#[derive(Debug)]
pub struct State {
    pub hot: Vec<Record>,
    pub cold: Vec<Record>,
    pub checkpoint: Option<PathBuf>,
    pub fault: Fault,
    pub log: LogState,
    offered: Option<(u64, String)>,
    writer: Option<SegmentWriter>,
    /// Commands acknowledged as durable, in order.
    pub acknowledged: Vec<String>,
    pub released: Vec<bool>,
    pub reports: u64,
    pub listed: Vec<v1::SegmentsListedRequest>,
    pub takes: u64,
}

/// The fake. Clones are the same.
#[derive(Debug, Clone)]
pub struct FakeServer {
    pub state: Arc<Mutex<State>>,
    pub run: RunRef,
    fs: Arc<dyn Fs>,
    data_dir: PathBuf,
    log_states: watch::Sender<LogState>,
    pub settings: watch::Sender<Vec<(String, String)>>,
}

pub fn run_ref(epoch: u64) -> RunRef {
    RunRef {
        run_id: HexId::from_bytes([0xab; 20]),
        epoch,
    }
}

pub const REPLID: [u8; 20] = [0x5a; 20];

/// A command as it stands in the log.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

impl FakeServer {
    pub fn new(fs: Arc<dyn Fs>, data_dir: &Path, run: RunRef) -> FakeServer {
        let log = LogState {
            written_offset: 1000,
            durable_offset: 1000,
            kind: LogKind::None,
            segment: None,
            replid: HexId::from_bytes(REPLID),
            replid2: None,
            stream_db: Some(0),
            role: Role::Master,
            changes_since_save: 0,
            write_error: None,
        };
        FakeServer {
            state: Arc::new(Mutex::new(State {
                hot: Vec::new(),
                cold: Vec::new(),
                checkpoint: None,
                fault: Fault::None,
                log: log.clone(),
                offered: None,
                writer: None,
                acknowledged: Vec::new(),
                released: Vec::new(),
                reports: 0,
                listed: Vec::new(),
                takes: 0,
            })),
            run,
            fs,
            data_dir: data_dir.to_owned(),
            log_states: watch::Sender::new(log),
            settings: watch::Sender::new(Vec::new()),
        }
    }

    /// Serves at `server.sock` in the directory until the token is cancelled.
    pub fn serve(&self, socket_dir: &Path, stop: CancellationToken) {
        std::fs::create_dir_all(socket_dir).unwrap();
        let path = socket_dir.join("server.sock");
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let router = tonic::transport::Server::builder()
            .add_service(SnapshotServer::new(self.clone()))
            .add_service(LogServer::new(self.clone()))
            .add_service(AdminServer::new(self.clone()));
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            router
                .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
                .await
        });
    }

    pub fn set(&self, pairs: &[(&str, &str)]) {
        self.settings.send_modify(|settings| {
            for (name, value) in pairs {
                settings.push(((*name).to_owned(), (*value).to_owned()));
            }
        });
    }

    /// Starts appending to a segment, as after a start with the log on.
    pub fn begin_log(&self, seq: u64, path: &Path) -> bool {
        self.set(&[("appendonly", "yes")]);
        let mut state = self.state.lock();
        let begun = self.switch(&mut state, seq, path);
        self.log_states.send_replace(state.log.clone());
        begun
    }

    /// The log is off again.
    pub fn end_log(&self) {
        self.set(&[("appendonly", "no")]);
        let mut state = self.state.lock();
        state.writer = None;
        state.log.kind = LogKind::None;
        state.log.segment = None;
        self.log_states.send_replace(state.log.clone());
    }

    fn switch(&self, state: &mut State, seq: u64, path: &Path) -> bool {
        let mut id = [0; 40];
        id.copy_from_slice(state.log.replid.as_str().as_bytes());
        let mut run_id = [0; 40];
        run_id.copy_from_slice(self.run.run_id.as_str().as_bytes());
        let start = SegmentStart {
            start_offset: state.log.written_offset,
            database: 0,
            replid: id,
            run_id,
            epoch: self.run.epoch,
        };
        let Ok(writer) = SegmentWriter::begin(self.fs.as_ref(), path, &start, 1) else {
            return false;
        };
        if writer.syncer().sync(1).is_err() {
            return false;
        }
        state.log.kind = LogKind::AppendOnly;
        state.log.segment = Some(Segment {
            seq,
            path: SharedPath::new(&self.data_dir, path),
            start_offset: state.log.written_offset,
            prefix_bytes: writer.layout().prefix_bytes,
        });
        state.writer = Some(writer);
        true
    }

    /// Appends a SET, syncs, and counts it as acknowledged if all that worked.
    pub fn append_set(&self, key: &str) -> bool {
        let mut state = self.state.lock();
        let done = self.append(&mut state, key);
        self.log_states.send_replace(state.log.clone());
        done
    }

    fn append(&self, state: &mut State, key: &str) -> bool {
        let bytes = command(&["SET", key, "logged"]);
        let Some(writer) = state.writer.as_mut() else {
            return false;
        };
        if writer.write(&bytes, 2).is_err() || writer.syncer().sync(2).is_err() {
            return false;
        }
        state.log.written_offset += bytes.len() as u64;
        state.log.durable_offset = state.log.written_offset;
        state.acknowledged.push(key.to_owned());
        state.hot.push(Record::string(0, key, b"logged"));
        true
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.log_states.send_replace(state.log.clone());
    }

    fn begin_frame(&self, state: &State, rotated: bool) -> v1::Begin {
        let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for record in state.hot.iter().chain(&state.cold) {
            let count = counts.entry(record.database).or_default();
            count.0 += 1;
            count.1 += u64::from(record.expires.is_some());
        }
        let extra = u64::from(state.fault == Fault::WrongCount);
        v1::Begin {
            snapshot_id: state.takes,
            cut_unix_ms: 5,
            log_offset: state.log.written_offset,
            replid: state.log.replid.to_string(),
            stream_db: 0,
            rotated,
            segment_seq: state.log.segment.as_ref().map_or(0, |segment| segment.seq),
            databases: counts
                .into_iter()
                .map(|(index, (keys, expires))| v1::Database {
                    index,
                    generation: generation(index),
                    keys: keys + extra,
                    expires,
                })
                .collect(),
            functions: Vec::new(),
            aux: Vec::new(),
            used_memory_bytes: 77,
        }
    }

    fn frames(&self, state: &State, rotated: bool) -> Vec<v1::Frame> {
        use v1::frame::Frame;
        let begin = self.begin_frame(state, rotated);
        let databases = begin.databases.clone();
        let mut frames = vec![Frame::Begin(begin)];
        if let Some(path) = &state.checkpoint {
            frames.push(Frame::CheckpointReady(v1::CheckpointReady {
                path: path.to_string_lossy().into_owned(),
                files: 1,
                bytes: 1,
                lease_ms: 800,
            }));
        }
        let mut sent: BTreeMap<u32, u64> = BTreeMap::new();
        for record in &state.hot {
            *sent.entry(record.database).or_default() += 1;
            push_record(&mut frames, record);
        }
        frames.push(Frame::DirtyEnd(v1::DirtyEnd {
            records: state.hot.len() as u64,
            records_by_database: databases
                .iter()
                .map(|database| sent.get(&database.index).copied().unwrap_or(0))
                .collect(),
        }));
        frames.push(Frame::End(v1::End::default()));
        frames
            .into_iter()
            .map(|frame| v1::Frame { frame: Some(frame) })
            .collect()
    }
}

/// Large values in pieces, the others alone in a frame.
fn push_record(frames: &mut Vec<v1::frame::Frame>, record: &Record) {
    use v1::frame::Frame;
    let mut packed = Vec::new();
    if record.payload.len() <= 200_000 {
        encode_record(&mut packed, &record.header(), &record.payload);
        frames.push(Frame::Records(v1::Records {
            packed: packed.into(),
            count: 1,
        }));
        return;
    }
    encode_header(&mut packed, &record.header(), 0);
    let pieces: Vec<&[u8]> = record.payload.chunks(70_001).collect();
    for (index, piece) in pieces.iter().enumerate() {
        frames.push(Frame::ValueChunk(v1::ValueChunk {
            header: if index == 0 {
                packed.clone().into()
            } else {
                Vec::new().into()
            },
            payload_position: index as u64 * 70_001,
            payload: piece.to_vec().into(),
            last: index + 1 == pieces.len(),
        }));
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::Frame, Status>> + Send>>;

#[tonic::async_trait]
impl Snapshot for FakeServer {
    type TakeStream = Frames;

    async fn take(&self, request: Request<v1::TakeRequest>) -> Result<Response<Frames>, Status> {
        let request = request.into_inner();
        self.run.check(request.run)?;
        let fault = self.state.lock().fault;
        match fault {
            Fault::Refuse => return Err(RpcError::busy("another take runs").into()),
            Fault::Silent => std::future::pending::<()>().await,
            _ => {}
        }
        let mut frames = {
            let mut state = self.state.lock();
            state.takes += 1;
            let mut rotated = false;
            if let Some(seq) = request.rotate_to_segment {
                let offered = state.offered.take();
                let Some((_, path)) = offered.filter(|(offered, _)| *offered == seq) else {
                    return Err(RpcError::not_found("not offered").into());
                };
                if !self.switch(&mut state, seq, &self.data_dir.join(path)) {
                    return Err(Status::internal("the switch failed"));
                }
                rotated = true;
            }
            let frames = self.frames(&state, rotated);
            if rotated {
                // The stream goes on at once: what is acknowledged here must survive.
                let key = format!("after-cut-{}", state.takes);
                self.append(&mut state, &key);
            }
            self.log_states.send_replace(state.log.clone());
            frames
        };
        if fault == Fault::FailAfterCut {
            frames.truncate(2);
            let error = RpcError::internal("a cold value is damaged").to_detail();
            frames.push(v1::Frame {
                frame: Some(v1::frame::Frame::Failed(v1::Failed { error: Some(error) })),
            });
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            if fault == Fault::HangAfterCut {
                frames.truncate(1);
            }
            for frame in frames {
                if sender.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            if fault == Fault::HangAfterCut {
                sender.closed().await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn abort(&self, _: Request<v1::SnapshotRef>) -> Result<Response<v1::Empty>, Status> {
        Err(RpcError::not_found("over").into())
    }

    async fn report(&self, _: Request<v1::ReportRequest>) -> Result<Response<v1::Empty>, Status> {
        let mut state = self.state.lock();
        state.reports += 1;
        if state.fault == Fault::LoseLease {
            return Err(RpcError::not_found("the checkpoint is gone").into());
        }
        Ok(Response::new(v1::Empty {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let mut state = self.state.lock();
        state.released.push(request.into_inner().succeeded);
        Ok(Response::new(v1::Empty {}))
    }
}

type LogStates = Pin<Box<dyn Stream<Item = Result<v1::LogState, Status>> + Send>>;

#[tonic::async_trait]
impl Log for FakeServer {
    type WatchStream = LogStates;

    async fn watch(
        &self,
        request: Request<v1::WatchLogRequest>,
    ) -> Result<Response<LogStates>, Status> {
        self.run.check(request.into_inner().run)?;
        let mut states = self.log_states.subscribe();
        states.mark_changed();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while states.changed().await.is_ok() {
                let state = v1::LogState::from(states.borrow_and_update().clone());
                if sender.send(Ok(state)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn offer_segment(
        &self,
        request: Request<v1::OfferSegmentRequest>,
    ) -> Result<Response<v1::OfferSegmentReply>, Status> {
        let request = request.into_inner();
        self.run.check(request.run)?;
        let mut state = self.state.lock();
        let current = state.log.segment.as_ref().map_or(0, |segment| segment.seq);
        let result = if request.seq == current {
            v1::OfferResult::InUse
        } else if request.seq < current {
            v1::OfferResult::Refused
        } else {
            state.offered = Some((request.seq, request.path));
            v1::OfferResult::Accepted
        };
        Ok(Response::new(v1::OfferSegmentReply {
            result: result.into(),
            seq_min: current + 1,
        }))
    }

    async fn replica_acks(
        &self,
        _: Request<tonic::Streaming<v1::ReplicaAcksRequest>>,
    ) -> Result<Response<v1::Empty>, Status> {
        Err(Status::unimplemented("replica acks"))
    }

    async fn segments_listed(
        &self,
        request: Request<v1::SegmentsListedRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.state.lock().listed.push(request.into_inner());
        Ok(Response::new(v1::Empty {}))
    }
}

type Updates = Pin<Box<dyn Stream<Item = Result<v1::ConfigUpdate, Status>> + Send>>;
type NoProgress = Pin<Box<dyn Stream<Item = Result<v1::Progress, Status>> + Send>>;

macro_rules! unimplemented_calls {
    ($($name:ident($request:ty) -> $reply:ty;)*) => {
        #[tonic::async_trait]
        impl Admin for FakeServer {
            type SnapshotStream = NoProgress;
            type RewriteStream = NoProgress;
            type FailoverStream = NoProgress;
            type DrainStream = NoProgress;
            type WatchConfigStream = Updates;

            async fn watch_config(
                &self,
                request: Request<v1::WatchConfigRequest>,
            ) -> Result<Response<Updates>, Status> {
                self.run.check(request.into_inner().run)?;
                Ok(Response::new(self.updates()))
            }
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

unimplemented_calls! {
    status(v1::AdminStatusRequest) -> v1::AdminStatus;
    memory(v1::AdminMemoryRequest) -> v1::AdminMemory;
    tier(v1::AdminTierRequest) -> v1::AdminTier;
    snapshot(v1::AdminSnapshotRequest) -> NoProgress;
    rewrite(v1::AdminRewriteRequest) -> NoProgress;
    backups(v1::AdminBackupsRequest) -> v1::AdminBackups;
    replication(v1::AdminReplicationRequest) -> v1::AdminReplication;
    failover(v1::AdminFailoverRequest) -> NoProgress;
    config_get(v1::ConfigGetRequest) -> v1::ConfigGetReply;
    config_set(v1::ConfigSetRequest) -> v1::Empty;
    log_level(v1::LogLevelRequest) -> v1::Empty;
    drain(v1::DrainRequest) -> NoProgress;
    shutdown(v1::ShutdownRequest) -> v1::Empty;
}

impl FakeServer {
    fn updates(&self) -> Updates {
        let mut settings = self.settings.subscribe();
        settings.mark_changed();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while settings.changed().await.is_ok() {
                let update = v1::ConfigUpdate {
                    complete: true,
                    settings: settings
                        .borrow_and_update()
                        .iter()
                        .map(|(name, value)| v1::Setting {
                            name: name.clone(),
                            value: value.clone(),
                        })
                        .collect(),
                };
                if sender.send(Ok(update)).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

/// Waits until `ready` holds, at most ten seconds.
pub async fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if ready() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to this: {what}");
}
