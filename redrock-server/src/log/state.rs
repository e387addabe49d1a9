//! Where the stream stands: for companions, INFO and ROLE.

use super::EffectLog;
use redrock_log::sidecar::HexId;
use redrock_log::writer::SegmentWriter;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Whom the log is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogKind {
    /// Nobody: nothing is written.
    #[default]
    None,
    /// The append-only file.
    AppendOnly,
    /// Replicas only, under `repl/`.
    Replication,
}

/// The segment that is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentState {
    /// Its number.
    pub sequence: u64,
    /// Its file.
    pub path: PathBuf,
    /// Stream offset of its first stream byte.
    pub start_offset: u64,
    /// Bytes of SELECT at its head that aren't part of the stream.
    pub prefix_bytes: u32,
}

/// One state of the log, as [`EffectLog::subscribe`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// End of what is in the page cache.
    pub written_offset: u64,
    /// End of what is on the disk; at most `written_offset`.
    pub durable_offset: u64,
    /// Whom the log is for.
    pub kind: LogKind,
    /// The present segment; `None` with kind `None`.
    pub segment: Option<SegmentState>,
    /// Current replication id.
    pub replid: HexId,
    /// Former id and the offset up to which its stream equals ours.
    pub former: Option<(HexId, u64)>,
    /// Why writes are refused.
    pub write_error: Option<String>,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            written_offset: 0,
            durable_offset: 0,
            kind: LogKind::None,
            segment: None,
            replid: [b'0'; 40],
            former: None,
            write_error: None,
        }
    }
}

/// Identity of the stream and the run that writes it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: LogKind,
    pub(super) segment: Option<SegmentState>,
    pub(super) replid: HexId,
    pub(super) former: Option<(HexId, u64)>,
    pub(super) run_id: HexId,
    pub(super) epoch: u64,
    /// An empty segment that the persister made for the next switch: number and path.
    pub(super) offered: Option<(u64, PathBuf, LogKind)>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            kind: LogKind::None,
            segment: None,
            replid: [b'0'; 40],
            former: None,
            run_id: [b'0'; 40],
            epoch: 0,
            offered: None,
        }
    }
}

impl Stream {
    pub(super) fn enter(&mut self, segment: &SegmentWriter, sequence: u64, kind: LogKind) {
        let layout = segment.layout();
        self.kind = kind;
        self.segment = Some(SegmentState {
            sequence,
            path: segment.path().to_owned(),
            start_offset: layout.start_offset,
            prefix_bytes: layout.prefix_bytes,
        });
    }
}

impl EffectLog {
    /// Sets the ids of this run, which new segments carry, and those of the stream. `former` is
    /// the previous replication id with the offset up to which its stream equals ours.
    pub fn set_identity(
        &self,
        run_id: HexId,
        epoch: u64,
        replid: HexId,
        former: Option<(HexId, u64)>,
    ) {
        let mut stream = self.stream.lock();
        stream.run_id = run_id;
        stream.epoch = epoch;
        stream.replid = replid;
        stream.former = former;
        drop(stream);
        self.publish();
    }

    /// The stream goes on under another id. `former` is the one before with the offset up to
    /// which its stream equals ours.
    pub fn set_replid(&self, replid: HexId, former: Option<(HexId, u64)>) {
        let mut stream = self.stream.lock();
        stream.replid = replid;
        stream.former = former;
        drop(stream);
        self.publish();
    }

    /// Whether the stream is kept, or will be from a cut on that was made.
    pub fn is_on(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Whether the stream is a master's that we follow: what local commands change is then
    /// applied and not appended. Called with the shards held.
    pub fn set_following(&self, following: bool) {
        self.following.store(following, Ordering::Relaxed);
    }

    /// Whether our own clients changed the data set while the stream was a master's, so that neither
    /// the log nor who followed us has all of it. Called with the shards held.
    pub fn has_own_changes(&self) -> bool {
        self.own_changes.load(Ordering::Relaxed)
    }

    /// Says whether it is so. Called with the shards held.
    pub fn set_own_changes(&self, has_some: bool) {
        self.own_changes.store(has_some, Ordering::Relaxed);
    }

    /// Sets the stream's offset while no segment is open (`master_repl_offset` of a server whose
    /// data came with one).
    pub fn set_offset(&self, offset: u64) {
        if !self.enabled.load(Ordering::Acquire) {
            for end in [&self.durable, &self.written, &self.appended] {
                end.store(offset, Ordering::Release);
            }
        }
    }

    /// The present state.
    pub fn state(&self) -> LogState {
        let stream = self.stream.lock();
        // In this order, so that what is read keeps `durable <= written`.
        let durable_offset = self.durable.load(Ordering::Acquire);
        LogState {
            written_offset: self.written.load(Ordering::Acquire),
            durable_offset,
            kind: stream.kind,
            segment: stream.segment.clone(),
            replid: stream.replid,
            former: stream.former,
            write_error: self.health.lock().text().map(str::to_owned),
        }
    }

    /// Follows the state; the newest wins.
    pub fn subscribe(&self) -> watch::Receiver<LogState> {
        let receiver = self.watch.subscribe();
        self.publish();
        receiver
    }

    pub(super) fn publish(&self) {
        // Nothing is made for nobody: this runs for every write.
        if self.watch.receiver_count() > 0 {
            // Looked at within the channel's lock: of two threads that publish at once the later
            // one sees all, and what it saw stays.
            self.watch.send_modify(|state| *state = self.state());
        }
    }
}
