//! A server as the persister sees it: Snapshot, Log and Admin over a Unix socket.

mod admin;
mod log;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redrock_log::fs::Fs;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use redrock_proto::model::{HexId, LogKind, LogState, Role, RunRef, Segment, SharedPath};
use redrock_proto::v1;
use redrock_proto::v1::admin_server::AdminServer;
use redrock_proto::v1::log_server::LogServer;
use redrock_proto::v1::snapshot_server::SnapshotServer;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::dataset::Record;

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

    /// Whoever asks is told that no log is kept, as one that heard it last a while ago believes.
    pub fn deny_log(&self) {
        let mut told = self.state.lock().log.clone();
        (told.kind, told.segment) = (LogKind::None, None);
        self.log_states.send_replace(told);
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
