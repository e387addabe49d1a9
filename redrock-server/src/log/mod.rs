//! The effect log (I5): one ordered byte stream of all effects, written to segments.
//!
//! Effects are appended to a buffer while the shards are held ([`EffectLog::append_effect`]).
//! [`EffectLog::flush`] writes the buffer to the page cache in one `write`; a worker calls it
//! before it sends any reply, so nothing that reveals an effect leaves before its bytes are
//! written. One thread syncs ([`sync`]). [`rotation`] switches segments, [`health`] says why
//! writes are refused, [`state`] tells companions where the stream stands.
//!
//! Invariants:
//! - `durable <= written <= appended`, all three stream offsets (`master_repl_offset` is
//!   `appended`);
//! - locks are taken in the order writer, pending; nobody does IO with `pending` held, and
//!   nobody takes `writer` with a shard held;
//! - bytes taken out of `pending` and not yet written stay in the writer's batch: a failed
//!   write loses nothing, and the replies that depend on them wait.

mod append;
pub mod batch;
pub mod cut_point;
pub mod health;
mod hold;
mod open;
pub mod replicas_only;
pub mod rotation;
pub mod state;
pub mod sync;

pub use cut_point::CutPoint;
pub use open::OpenSegment;

#[cfg(test)]
mod tests;

use batch::Batch;
use health::Health;
use parking_lot::{Condvar, Mutex};
use redrock_log::ballast::Ballast;
use redrock_log::fs::{Fs, RealFs};
use redrock_log::writer::{SegmentSyncer, SegmentWriter, WriteError};
use rotation::Switch;
use state::{LogState, Stream};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;
use sync::{FsyncPolicy, SyncSignal};
use tokio::sync::{oneshot, watch};

/// Bytes past which a worker writes the log in the middle of a wake-up.
pub const INLINE_FLUSH_BYTES: u64 = 64 << 10;
/// Buffers that grew larger than this are given back.
const BUFFER_BYTES_KEPT: usize = 256 << 10;

/// Effects that nobody has taken for writing yet.
#[derive(Debug, Default)]
struct Pending {
    batch: Batch,
    /// Database that the stream has selected; 0 before the first SELECT.
    db: usize,
    /// Whether the next effect may rely on that; if not it selects its own. Set apart from `db`: a
    /// replica may have to go on from here, or a segment to begin, before that effect comes.
    is_selected: bool,
    /// The stream goes on in another segment within `batch`.
    switch: Option<Switch>,
}

impl Pending {
    /// The stream has selected `db`.
    fn select(&mut self, db: usize) {
        self.db = db;
        self.is_selected = true;
    }
}

/// The writing side; whoever holds it writes.
#[derive(Debug, Default)]
struct Writer {
    segment: Option<SegmentWriter>,
    /// Taken from `pending`, not accepted by the segment yet.
    batch: Batch,
    /// A switch within `batch`.
    switch: Option<Switch>,
    ballast: Option<Ballast>,
}

/// What the log tells the rest of the server.
pub trait LogObserver: Send + Sync {
    /// Held replies may go: the log became durable further, or writable again.
    fn advanced(&self);
    /// What clients wait for was synced, which took so many milliseconds (`appendfsync always`).
    fn synced(&self, _took_ms: u64) {}
    /// The log for replicas could not be written and has ended: what comes is not counted.
    fn given_up(&self) {}
    /// The server must not go on.
    fn fatal(&self, reason: &str);
}

/// See the module.
pub struct EffectLog {
    fs: Arc<dyn Fs>,
    pending: Mutex<Pending>,
    writer: Mutex<Writer>,
    /// The present segment's, for the sync thread; replaced with the segment.
    syncer: Mutex<Option<SegmentSyncer>>,
    /// Stream offset behind the last appended byte.
    appended: AtomicU64,
    /// Stream offset behind the last byte in the page cache.
    written: AtomicU64,
    /// Stream offset behind the last byte on the disk.
    durable: AtomicU64,
    /// Whether anybody needs the stream: the append-only file or replicas.
    enabled: AtomicBool,
    /// Whether there is, or is about to be, a segment to write to.
    open: AtomicBool,
    /// Whether the segment is for replicas only; see [`replicas_only`].
    for_replicas: AtomicBool,
    /// The stream is our master's: only its bytes are appended.
    following: AtomicBool,
    /// The data have changes that are in no stream; see [`EffectLog::has_own_changes`].
    own_changes: AtomicBool,
    policy: AtomicU8,
    /// Nothing is synced for its age or for a reply; see [`hold`].
    sync_held: AtomicBool,
    failing: AtomicBool,
    health: Mutex<Health>,
    stream: Mutex<Stream>,
    watch: watch::Sender<LogState>,
    observer: OnceLock<Arc<dyn LogObserver>>,
    /// The outcome of the switch that the last cut asked for.
    switching: Mutex<Option<oneshot::Receiver<Result<(), String>>>>,
    signal: Mutex<SyncSignal>,
    signalled: Condvar,
    synced: Condvar,
    /// What was written before this time (see [`EffectLog::elapsed_ms`]) is durable.
    covered_ms: AtomicU64,
    /// `aof_delayed_fsync`
    delayed_syncs: AtomicU64,
    started: Instant,
}

impl std::fmt::Debug for EffectLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EffectLog")
            .field("appended", &self.appended)
            .field("written", &self.written)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Default for EffectLog {
    fn default() -> Self {
        Self::new(Arc::new(RealFs))
    }
}

/// How far replies may go; see [`EffectLog::flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPoint {
    /// All that was appended is in the page cache (or nobody needs it): everything may go.
    Written,
    /// What depends on offsets up to `durable` may go: `appendfsync always`, or a log that
    /// can't be written at the moment.
    Durable {
        /// Offset up to which was appended when this was made.
        appended: u64,
        /// Offset up to which the log is as safe as the policy asks.
        durable: u64,
    },
}

impl EffectLog {
    /// A log that nobody needs, over a file system.
    pub fn new(fs: Arc<dyn Fs>) -> Self {
        Self {
            fs,
            pending: Mutex::default(),
            writer: Mutex::default(),
            syncer: Mutex::default(),
            appended: AtomicU64::new(0),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            enabled: AtomicBool::new(false),
            open: AtomicBool::new(false),
            for_replicas: AtomicBool::new(false),
            following: AtomicBool::new(false),
            own_changes: AtomicBool::new(false),
            policy: AtomicU8::new(FsyncPolicy::EverySecond as u8),
            sync_held: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            health: Mutex::default(),
            stream: Mutex::default(),
            watch: watch::Sender::default(),
            observer: OnceLock::new(),
            switching: Mutex::default(),
            signal: Mutex::default(),
            signalled: Condvar::new(),
            synced: Condvar::new(),
            covered_ms: AtomicU64::new(0),
            delayed_syncs: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Names who is told of progress and of fatal failures; the first one stays.
    pub fn observe(&self, observer: Arc<dyn LogObserver>) {
        let _ = self.observer.set(observer);
    }

    /// Gives the log a reserve of disk space that lets the work at hand finish. If there is no
    /// room for it the disk counts as full.
    pub fn set_ballast(&self, ballast: Ballast) {
        let filled = ballast.fill();
        self.writer.lock().ballast = Some(ballast);
        if let Err(error) = filled {
            tracing::warn!(%error, "no disk space could be reserved for the append only file");
            self.fails(Health::NoSpace);
        }
    }

    /// The stream has this database selected: a replica's, whose bytes may not be kept.
    pub fn select(&self, db: usize) {
        self.pending.lock().select(db);
    }

    /// Makes the next effect select its database in the stream.
    pub fn force_select(&self) {
        self.pending.lock().is_selected = false;
    }

    /// The database that the stream has selected; 0 before the first SELECT.
    pub fn stream_database(&self) -> usize {
        self.pending.lock().db
    }

    /// `master_repl_offset`
    pub fn appended_offset(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Offset up to which the log is in the page cache.
    pub fn written_offset(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Offset up to which the log is on the disk.
    pub fn durable_offset(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Bytes that were appended and are not written.
    pub fn unwritten_bytes(&self) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        self.appended
            .load(Ordering::Relaxed)
            .saturating_sub(written)
    }

    /// Whether something was appended and not written.
    pub fn has_unwritten(&self) -> bool {
        self.unwritten_bytes() > 0
    }

    /// Writes what was appended. Called without any shard: it may wait for the disk.
    pub fn flush(&self) -> FlushPoint {
        let appended = self.appended.load(Ordering::Acquire);
        if self.written.load(Ordering::Acquire) < appended {
            if !self.failing.load(Ordering::Acquire) {
                self.write_out(appended);
            }
            self.wait_for_stalled_sync();
        }
        if self.policy() == FsyncPolicy::Always && self.open.load(Ordering::Acquire) {
            let durable = self.durable.load(Ordering::Acquire);
            if durable < appended {
                self.request_sync();
            }
            return FlushPoint::Durable { appended, durable };
        }
        let written = self.written.load(Ordering::Acquire);
        if written < appended {
            return FlushPoint::Durable {
                appended,
                durable: written,
            };
        }
        FlushPoint::Written
    }

    /// Writes at least up to `target`, unless a write fails; true if all of that is written.
    fn write_out(&self, target: u64) -> bool {
        let mut writer = self.writer.lock();
        let progress = self.written.load(Ordering::Acquire);
        while self.written.load(Ordering::Acquire) < target || writer.switch.is_some() {
            if writer.batch.is_empty() && writer.switch.is_none() {
                let mut pending = self.pending.lock();
                if pending.batch.is_empty() && pending.switch.is_none() {
                    break;
                }
                std::mem::swap(&mut pending.batch, &mut writer.batch);
                writer.switch = pending.switch.take();
            }
            if !self.write_batch(&mut writer) {
                break;
            }
        }
        let written = self.written.load(Ordering::Acquire);
        drop(writer);
        if written != progress {
            self.publish();
        }
        written >= target
    }

    /// Writes the batch, or its part before a switch and the switch. False if that failed.
    fn write_batch(&self, writer: &mut Writer) -> bool {
        let part = writer
            .switch
            .as_ref()
            .map_or(writer.batch.end(), |switch| switch.at);
        if part > 0 {
            if !self.write_part(writer, part) {
                return false;
            }
            writer.batch.consume(part, BUFFER_BYTES_KEPT);
            if let Some(switch) = &mut writer.switch {
                switch.at = 0;
            }
        }
        match writer.switch.take() {
            Some(switch) => self.switch_segment(writer, switch),
            None => true,
        }
    }

    fn write_part(&self, writer: &mut Writer, part: usize) -> bool {
        let Writer {
            segment,
            batch,
            ballast,
            ..
        } = writer;
        let part = &batch.part(part);
        let bytes = part.bytes();
        let Some(segment) = segment else {
            // Nobody needs the stream any more.
            self.written.fetch_add(bytes, Ordering::Release);
            return true;
        };
        let now = crate::clock::unix_ms() as u64;
        // All or nothing: the file never ends within a transaction that others know of.
        let mut result = segment.write(part, now);
        if let Err(error) = &result
            && self.is_for_replicas()
        {
            let error = error.to_string();
            self.give_up(writer, &error);
            self.written.fetch_add(bytes, Ordering::Release);
            return true;
        }
        if let (Err(WriteError::NoSpace { .. }), Some(ballast)) = (&result, &*ballast)
            && ballast.held_bytes().is_ok_and(|held| held > 0)
            && ballast.release().is_ok()
        {
            self.fails(Health::NoSpace);
            result = segment.write(part, now);
        }
        if matches!(result, Err(WriteError::SyncFailed)) {
            result = segment.write_undurable(part, now);
        }
        match result {
            Ok(offset) => {
                self.written.store(offset, Ordering::Release);
                true
            }
            Err(WriteError::TailUnknown) => {
                self.fails(Health::Write("Input/output error".into()));
                self.fatal("the end of the append only file is unknown after a failed write");
                false
            }
            Err(WriteError::NoSpace { .. }) => {
                self.fails(Health::NoSpace);
                false
            }
            Err(WriteError::Io { source, .. }) => {
                self.fails(Health::Write(crate::config::os_error_text(&source)));
                false
            }
            Err(WriteError::SyncFailed) => false,
        }
    }

    fn fatal(&self, reason: &str) {
        tracing::error!(reason, "the log can't go on");
        if let Some(observer) = self.observer.get() {
            observer.fatal(reason);
        }
    }

    fn advanced(&self) {
        if let Some(observer) = self.observer.get() {
            observer.advanced();
        }
    }

    /// Milliseconds since the log was made: a clock that never goes back.
    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Ends the log: everything written and durable, the sidecar synced. For a clean shutdown,
    /// and for turning the log off; effects of later commands are not appended.
    pub fn close(&self) -> Result<(), String> {
        let appended = {
            let _pending = self.pending.lock();
            self.enabled.store(false, Ordering::Release);
            self.appended.load(Ordering::Acquire)
        };
        if !self.write_out(appended) {
            return Err(self
                .refusal_text()
                .unwrap_or_else(|| "the log is not written".into()));
        }
        let mut writer = self.writer.lock();
        let segment = writer.segment.take();
        *self.syncer.lock() = None;
        let finished = match segment {
            Some(segment) if !self.is_for_replicas() => {
                segment.finish(crate::clock::unix_ms() as u64)
            }
            Some(_) | None => Ok(0),
        };
        self.open.store(false, Ordering::Release);
        drop(writer);
        let offset = finished.map_err(|error| error.to_string())?;
        self.durable.fetch_max(offset, Ordering::AcqRel);
        self.advanced();
        Ok(())
    }
}
