//! The server's side of the contract, as far as the agent sees it: a log of
//! real segments, a loader that keeps what it is told to load, settings.

mod admin;
mod load;
mod log;
mod persist;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redrock_log::epoch::begin_run;
use redrock_log::fs::RealFs;
use redrock_log::history::{LogOrigin, ReplicationState};
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_proto::client::{PERSIST_SOCKET, SERVER_SOCKET};
use redrock_proto::model::{HexId, RunRef, SharedPath};
use redrock_proto::{RpcError, v1};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Response, Status};

/// Long enough for a link to count as one that was up.
pub const LOAD_FAILS_AFTER: Duration = Duration::from_millis(1200);

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
    /// How the next loads of a snapshot fail, a second after they began.
    pub failing_loads: Mutex<VecDeque<RpcError>>,
    pub settings: watch::Sender<Vec<(String, String)>>,
    /// As a replica it keeps a log, so that it can have replicas.
    pub keeps_log: AtomicBool,
    /// It is never said whether the server has become a replica.
    pub demotion_hangs: AtomicBool,
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
            failing_loads: Mutex::default(),
            settings: watch::channel(vec![]).0,
            keeps_log: AtomicBool::new(false),
            demotion_hangs: AtomicBool::new(false),
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

    /// The stream goes on under another id in the segment at hand: file first, then the word.
    pub fn change_id(&self, replid: &str) {
        let mut state = ReplicationState::load(&RealFs, &self.dir).unwrap().unwrap();
        let offset = self.log.borrow().written_offset;
        state.change_id(replid.as_bytes().try_into().unwrap(), offset);
        state.store(&RealFs, &self.dir, &|| Ok(())).unwrap();
        self.log.send_modify(|log| {
            log.replid2 = std::mem::replace(&mut log.replid, replid.to_owned());
            log.replid2_end_offset = offset + 1;
        });
    }

    /// Another log began with the segment at hand; what lies before it is none of its history.
    pub fn begin_log(&self) {
        let mut state = ReplicationState::load(&RealFs, &self.dir).unwrap().unwrap();
        let log = self.log.borrow();
        state.origin = LogOrigin {
            sequence: log.segment_seq,
            offset: log.segment_start_offset,
        };
        state.store(&RealFs, &self.dir, &|| Ok(())).unwrap();
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
