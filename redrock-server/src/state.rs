//! The state of the server's services, as INFO, ROLE, LASTSAVE and WAIT show it.
//!
//! Each part of the server writes what it owns and nobody else does; commands only read. Figures
//! that change often are atomics, groups that must agree with each other are small structs behind
//! a mutex that is never held across anything slow.

mod save_progress;

pub use save_progress::SaveProgress;

use crate::net::client::ClientShared;
use parking_lot::Mutex;
use redrock_log::sidecar::HexId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// See the module.
#[derive(Debug)]
pub struct ServiceState {
    /// Snapshots.
    pub snapshot: Mutex<SnapshotState>,
    /// `rdb_changes_since_last_save` counts from this value of the keyspace's change counter.
    pub changes_at_save: AtomicU64,
    /// Changes since the start (`server.dirty`, never set back).
    pub changes: AtomicU64,
    /// `changes` at the cut of the newest save: what counts as saved once that one has succeeded.
    pub changes_at_cut: AtomicU64,
    /// The append-only log.
    pub append_only: Mutex<AppendOnlyState>,
    /// Replication.
    pub replication: Mutex<ReplicationState>,
    /// Number of the one feed of our master's stream that may be applied. It changes with every
    /// change of the role or of the data set, and with every new feed, all under the keyspace.
    pub feed: AtomicU64,
    /// Companion daemons.
    pub companions: Mutex<Vec<Companion>>,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// SHUTDOWN.
    pub shutdown: Shutdown,
    /// DEBUG PAUSE-CRON: periodic jobs rest.
    pub cron_paused: AtomicBool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: RESTORE and loads don't look at checksums.
    pub skip_checksums: AtomicBool,
}

impl Default for ServiceState {
    fn default() -> Self {
        Self {
            snapshot: Mutex::default(),
            changes_at_save: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            changes_at_cut: AtomicU64::new(0),
            append_only: Mutex::default(),
            replication: Mutex::default(),
            feed: AtomicU64::new(0),
            companions: Mutex::default(),
            pause: Pause::default(),
            shutdown: Shutdown::default(),
            cron_paused: AtomicBool::new(false),
            skip_checksums: AtomicBool::new(false),
        }
    }
}

/// Snapshots (`rdb_*`).
#[derive(Debug, Clone, Copy)]
pub struct SnapshotState {
    /// When the save under way started, unix seconds.
    pub running_since_s: Option<i64>,
    /// How far the save or rewrite under way is.
    pub progress: SaveProgress,
    /// The last good save, unix seconds; the server's start before the first.
    pub last_save_s: i64,
    /// Whether the last save succeeded.
    pub last_ok: bool,
    /// How long it took, seconds.
    pub last_duration_s: Option<i64>,
    /// When the last save ended, well or not, unix ms; 0: none.
    pub last_ended_ms: u64,
    /// Good saves.
    pub saves: u64,
}

impl Default for SnapshotState {
    fn default() -> Self {
        Self {
            running_since_s: None,
            progress: SaveProgress::default(),
            last_save_s: crate::clock::unix_ms() / 1000,
            last_ok: true,
            last_duration_s: None,
            last_ended_ms: 0,
            saves: 0,
        }
    }
}

/// The append-only log (`aof_*`).
#[derive(Debug, Clone, Copy)]
pub struct AppendOnlyState {
    /// Whether it is on.
    pub enabled: bool,
    /// When the rewrite under way started, unix seconds.
    pub rewrite_since_s: Option<i64>,
    /// A rewrite waits for a save to end.
    pub rewrite_scheduled: bool,
    /// How long the last rewrite took, seconds.
    pub last_rewrite_s: Option<i64>,
    /// Whether it succeeded.
    pub last_rewrite_ok: bool,
    /// When the last rewrite ended, well or not, unix ms; 0: none.
    pub last_ended_ms: u64,
    /// Good rewrites.
    pub rewrites: u64,
    /// Failures since the last good one.
    pub consecutive_failures: u64,
    /// Whether the last write and sync succeeded.
    pub last_write_ok: bool,
    /// Bytes of all files.
    pub current_bytes: u64,
    /// Bytes when the last rewrite ended.
    pub base_bytes: u64,
}

impl Default for AppendOnlyState {
    fn default() -> Self {
        Self {
            enabled: false,
            rewrite_since_s: None,
            rewrite_scheduled: false,
            last_rewrite_s: None,
            last_rewrite_ok: true,
            last_ended_ms: 0,
            rewrites: 0,
            consecutive_failures: 0,
            last_write_ok: true,
            current_bytes: 0,
            base_bytes: 0,
        }
    }
}

/// How the link to our master stands; the words are ROLE's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// About to connect.
    #[default]
    Connect,
    /// Connecting.
    Connecting,
    /// Talking before the transfer.
    Handshake,
    /// Receiving a full synchronization.
    Sync,
    /// Following the stream.
    Connected,
}

impl LinkState {
    /// ROLE's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Connecting => "connecting",
            Self::Handshake => "handshake",
            Self::Sync => "sync",
            Self::Connected => "connected",
        }
    }
}

/// Our master, if we are a replica.
#[derive(Debug, Clone, Default)]
pub struct MasterLink {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The link.
    pub state: LinkState,
    /// Something came last, unix seconds.
    pub last_io_s: Option<i64>,
    /// The link went down, unix seconds.
    pub down_since_s: Option<i64>,
    /// Bytes of the transfer under way: total (0: unknown) and received.
    pub transfer_bytes: (u64, u64),
    /// Stream offset that was received.
    pub read_offset: u64,
    /// Stream offset that was applied; `None` before the first transfer.
    pub applied_offset: Option<u64>,
    /// The id to ask the master with, if that is not the stream's: a former one.
    pub ask_as: Option<HexId>,
    /// The data set is none that the stream has: only a snapshot leads on.
    pub needs_snapshot: bool,
    /// Why it is not up, or was not at the last attempt; empty if nothing failed.
    pub last_error: String,
    /// The link as CLIENT LIST shows it, while it is up.
    pub client: Option<Arc<ClientShared>>,
}

/// One of our replicas.
#[derive(Debug, Clone, Default)]
pub struct AttachedReplica {
    /// Its address, as announced.
    pub ip: String,
    /// Its port, as announced.
    pub port: u16,
    /// `wait_bgsave`, `send_bulk` or `online`
    pub state: &'static str,
    /// What it acknowledged.
    pub offset: u64,
    /// When it did, unix seconds.
    pub acknowledged_s: i64,
}

/// Replication (`role`, `master_*`, `repl_*`).
#[derive(Debug, Clone)]
pub struct ReplicationState {
    /// Our master; `None`: we are one.
    pub master: Option<MasterLink>,
    /// Our replicas.
    pub replicas: Vec<AttachedReplica>,
    /// When one of them was seen last, unix ms; `None`: never.
    pub replica_seen_ms: Option<i64>,
    /// Replication id, 40 hex digits.
    pub replid: String,
    /// The id before, or 40 zeros.
    pub replid2: String,
    /// Up to where `replid2` is valid, −1: nowhere.
    pub second_offset: i64,
    /// FAILOVER's state.
    pub failover: &'static str,
    /// Failovers so far; the newest one's number.
    pub failovers: u64,
    /// The newest one waits for being made a replica: whoever comes with that later, or for an
    /// earlier one, comes too late.
    pub may_demote: bool,
    /// It is a replica that takes writes of its own clients.
    pub takes_own_writes: bool,
    /// Whether there is a backlog.
    pub backlog_active: bool,
    /// Its size limit, bytes.
    pub backlog_bytes_max: u64,
    /// Stream offset that it begins at.
    pub backlog_oldest: u64,
    /// `sync_full`, `sync_partial_ok`, `sync_partial_err`, and our `sync_full_resumed`
    pub syncs: [u64; 4],
    /// `total_net_repl_input_bytes` and `total_net_repl_output_bytes`
    pub net_bytes: [u64; 2],
}

impl ReplicationState {
    /// Whether somebody follows the stream, or may come back and go on in it: a replica was seen
    /// within `backlog_ttl_s` seconds (0: at any time).
    pub fn is_followed(&self, now_ms: i64, backlog_ttl_s: u64) -> bool {
        let patience_ms = match backlog_ttl_s {
            0 => i64::MAX,
            seconds => i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX),
        };
        let is_recent = |seen_ms: i64| now_ms.saturating_sub(seen_ms) < patience_ms;
        !self.replicas.is_empty() || self.replica_seen_ms.is_some_and(is_recent)
    }
}

/// A new replication id: 40 random hex digits.
fn new_replication_id() -> String {
    let digit = |_| char::from(b"0123456789abcdef"[rand::random_range(0..16usize)]);
    (0..40).map(digit).collect()
}

impl Default for ReplicationState {
    fn default() -> Self {
        Self {
            master: None,
            replicas: Vec::new(),
            replica_seen_ms: None,
            replid: new_replication_id(),
            replid2: "0".repeat(40),
            second_offset: -1,
            failover: "no-failover",
            failovers: 0,
            may_demote: false,
            takes_own_writes: false,
            backlog_active: false,
            backlog_bytes_max: 1 << 20,
            backlog_oldest: 0,
            syncs: [0; 4],
            net_bytes: [0; 2],
        }
    }
}

/// A companion daemon.
#[derive(Debug, Clone, Default)]
pub struct Companion {
    /// `persist` or `replica`
    pub name: &'static str,
    /// `up`, `starting`, `down`
    pub state: &'static str,
    /// Its process, if we started it.
    pub pid: Option<u32>,
    /// Times it was started.
    pub starts: u64,
    /// When it was last heard of, unix seconds.
    pub last_seen_s: Option<i64>,
    /// Its physical memory, bytes.
    pub resident_bytes: u64,
}

/// What CLIENT PAUSE holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseMode {
    /// Nothing.
    None = 0,
    /// Commands that may write or replicate.
    Write = 1,
    /// All commands.
    All = 2,
}

/// Who pauses. Each ends its own pause only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseBy {
    /// CLIENT PAUSE.
    Client = 0,
    /// SHUTDOWN, which waits for replicas.
    Shutdown = 1,
    /// FAILOVER.
    Failover = 2,
}

/// The pause of one of [`PauseBy`].
#[derive(Debug, Default)]
struct OnePause {
    mode: AtomicU8,
    end_ms: AtomicI64,
}

impl OnePause {
    fn mode(&self, now_ms: i64) -> PauseMode {
        let mode = match self.mode.load(Ordering::Acquire) {
            0 => return PauseMode::None,
            1 => PauseMode::Write,
            _ => PauseMode::All,
        };
        if now_ms < self.end_ms.load(Ordering::Relaxed) {
            return mode;
        }
        PauseMode::None
    }
}

/// Clients that are held back. The hot path reads one atomic while nothing is paused.
#[derive(Debug, Default)]
pub struct Pause {
    /// One bit for each of [`PauseBy`] that has started and not ended its pause.
    started: AtomicU8,
    pauses: [OnePause; 3],
    /// Clients that wait for the end; they count as blocked.
    pub waiting: AtomicUsize,
    /// Wakes them when the pause is lifted early.
    pub lifted: Notify,
}

impl Pause {
    fn of(&self, by: PauseBy) -> &OnePause {
        let [client, shutdown, failover] = &self.pauses;
        match by {
            PauseBy::Client => client,
            PauseBy::Shutdown => shutdown,
            PauseBy::Failover => failover,
        }
    }

    /// Starts or prolongs a pause until `end_ms` (unix ms); it never becomes weaker or shorter.
    pub fn start(&self, by: PauseBy, end_ms: i64, mode: PauseMode) {
        let pause = self.of(by);
        let mode = if pause.mode(crate::clock::unix_ms()) > mode {
            PauseMode::All
        } else {
            mode
        };
        pause.end_ms.fetch_max(end_ms, Ordering::Relaxed);
        pause.mode.store(mode as u8, Ordering::Release);
        self.started.fetch_or(1 << by as u8, Ordering::Release);
    }

    /// Ends it.
    pub fn lift(&self, by: PauseBy) {
        self.started.fetch_and(!(1 << by as u8), Ordering::Release);
        let pause = self.of(by);
        pause.mode.store(PauseMode::None as u8, Ordering::Release);
        pause.end_ms.store(0, Ordering::Relaxed);
        self.lifted.notify_waiters();
    }

    /// Whether a pause was started and not lifted; it may be over.
    pub fn is_set(&self) -> bool {
        self.started.load(Ordering::Relaxed) != 0
    }

    /// What is paused at a time.
    pub fn mode(&self, now_ms: i64) -> PauseMode {
        let modes = self.pauses.iter().map(|pause| pause.mode(now_ms));
        modes.max().unwrap_or(PauseMode::None)
    }

    /// Whether anything is paused: then the data set stands still, expiry and eviction included.
    pub fn is_on(&self) -> bool {
        self.is_set() && self.mode(crate::clock::unix_ms()) != PauseMode::None
    }

    /// When the pause of one of them ends, unix ms; 0: it has none.
    pub fn end_of(&self, by: PauseBy) -> i64 {
        self.of(by).end_ms.load(Ordering::Relaxed)
    }

    /// When the last of the pauses ends, unix ms.
    pub fn end_ms(&self) -> i64 {
        let ends = self.pauses.iter().map(|p| p.end_ms.load(Ordering::Relaxed));
        ends.max().unwrap_or(0)
    }
}

/// How SHUTDOWN was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownRequest {
    /// `SAVE`: even without save points.
    pub save: bool,
    /// `NOSAVE`
    pub nosave: bool,
    /// `NOW`: don't wait for replicas.
    pub now: bool,
    /// `FORCE`: go even if the save fails.
    pub force: bool,
}

/// SHUTDOWN: commands ask, the application awaits.
#[derive(Debug)]
pub struct Shutdown {
    request: watch::Sender<Option<ShutdownRequest>>,
    signalled: AtomicBool,
    /// Clients that wait for the end.
    pub waiting: Mutex<Vec<u64>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            request: watch::Sender::new(None),
            signalled: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }
}

impl Shutdown {
    /// Asks for a shutdown.
    pub fn request(&self, kind: ShutdownRequest) {
        self.request.send_replace(Some(kind));
    }

    /// As [`Shutdown::request`] for a signal, unless a shutdown is under way. True if a signal
    /// had asked before.
    pub fn request_by_signal(&self, kind: ShutdownRequest) -> bool {
        let again = self.signalled.swap(true, Ordering::AcqRel);
        self.request.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert(kind);
            first
        });
        again
    }

    /// Whether a signal asked for the shutdown under way.
    pub fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::Acquire)
    }

    /// Takes the wish back; false if there was none.
    pub fn abort(&self) -> bool {
        self.signalled.store(false, Ordering::Release);
        self.request.send_replace(None).is_some()
    }

    /// The wish in force, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<Option<ShutdownRequest>> {
        self.request.subscribe()
    }

    /// Whether a shutdown is under way.
    pub fn is_requested(&self) -> bool {
        self.request.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_followed_while_a_replica_is_there_or_may_come_back() {
        let mut replication = ReplicationState::default();
        assert!(!replication.is_followed(9_000, 10) && !replication.is_followed(9_000, 0));
        replication.replica_seen_ms = Some(9_000);
        assert!(replication.is_followed(18_999, 10) && !replication.is_followed(19_000, 10));
        assert!(replication.is_followed(i64::MAX, 0), "0 is forever");
        replication.replicas.push(AttachedReplica::default());
        assert!(replication.is_followed(i64::MAX, 10));
    }

    #[test]
    fn a_pause_never_becomes_weaker_or_shorter_and_ends_by_itself() {
        let pause = Pause::default();
        let now = crate::clock::unix_ms();
        let by = PauseBy::Client;
        pause.start(by, now + 60_000, PauseMode::All);
        pause.start(by, now + 1_000, PauseMode::Write);
        assert_eq!(pause.mode(now + 30_000), PauseMode::All);
        assert_eq!(pause.mode(now + 60_000), PauseMode::None);
        pause.lift(by);
        pause.start(by, now + 60_000, PauseMode::Write);
        assert_eq!(pause.mode(now), PauseMode::Write);
        pause.lift(by);
        assert_eq!(pause.mode(now), PauseMode::None);
    }

    #[test]
    fn who_ends_a_pause_leaves_those_of_others() {
        let pause = Pause::default();
        let now = crate::clock::unix_ms();
        pause.start(PauseBy::Failover, i64::MAX, PauseMode::Write);
        pause.start(PauseBy::Client, now + 60_000, PauseMode::All);
        assert_eq!(pause.mode(now), PauseMode::All);
        pause.lift(PauseBy::Client);
        assert_eq!(pause.mode(now), PauseMode::Write);
        assert!(pause.is_set() && pause.is_on());
        pause.lift(PauseBy::Failover);
        assert!(!pause.is_set() && !pause.is_on());
    }
}
