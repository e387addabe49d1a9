//! Switching segments: at a cut, when the log is turned on. A change of the id needs no switch.
//!
//! The place of the switch is fixed under the shard locks, between commands: bytes appended
//! before it belong to the old segment, later ones to the new. The work itself (syncs) is done
//! by whoever flushes next, without any shard: the old segment's last byte is durable before the
//! new one gets its first stream byte, so a replay never crosses a gap.

use super::health::Health;
use super::state::LogKind;
use super::{EffectLog, Writer};
use redrock_log::sidecar::HexId;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A segment to switch to; the file is empty or absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchTarget {
    /// Its number.
    pub sequence: u64,
    /// Its path.
    pub path: PathBuf,
    /// Whom the log is for from there on.
    pub kind: LogKind,
    /// The stream begins anew there under this id: what was before is no part of it.
    pub replid: Option<HexId>,
}

/// A switch on its way; see [`EffectLog::cut`].
#[derive(Debug)]
pub(super) struct Switch {
    /// Bytes before it in the buffer that holds it.
    pub(super) at: usize,
    target: SwitchTarget,
    start: SegmentStart,
    done: oneshot::Sender<Result<(), String>>,
}

/// A point between commands.
#[derive(Debug)]
pub struct Cut {
    /// Stream offset.
    pub offset: u64,
    /// Database that the stream has selected there.
    pub database: usize,
    /// Replication id of the stream there.
    pub replid: HexId,
    /// With a switch: resolves when the new segment is in use, or with why it is not (the old
    /// one then goes on). Someone must flush for that.
    pub switched: Option<oneshot::Receiver<Result<(), String>>>,
}

/// What became of an offered segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Held for the next cut.
    Accepted,
    /// The server already writes to it.
    InUse,
    /// Not wanted; the lowest number that would be taken.
    Refused(u64),
}

impl Switch {
    /// Nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.done.is_closed()
    }

    /// Tells who waits for it that it does not happen.
    pub(super) fn refuse(self, why: &str) {
        // Nobody may wait any more.
        let _ = self.done.send(Err(why.to_owned()));
    }
}

impl EffectLog {
    /// Keeps an empty segment for the next cut; a second offer replaces the first.
    pub fn offer(&self, sequence: u64, path: PathBuf, kind: LogKind) -> Offered {
        let mut stream = self.stream.lock();
        let present = stream
            .segment
            .as_ref()
            .map_or(0, |segment| segment.sequence);
        if present == sequence && stream.segment.as_ref().is_some_and(|s| s.path == path) {
            return Offered::InUse;
        }
        // Another kind is wanted when the append-only file is being turned on, or off with
        // replicas attached: its files are numbered apart.
        let other = kind != stream.kind;
        if kind == LogKind::None || (!other && sequence <= present) {
            return Offered::Refused(present + 1);
        }
        stream.offered = Some((sequence, path, kind));
        Offered::Accepted
    }

    /// Takes the offered segment of this number, of whatever kind, as a target for
    /// [`EffectLog::cut`].
    pub(super) fn take_offer_of(&self, wanted: u64) -> Option<SwitchTarget> {
        let mut stream = self.stream.lock();
        let (sequence, path, kind) = stream.offered.take_if(|(number, ..)| *number == wanted)?;
        Some(SwitchTarget {
            sequence,
            path,
            kind,
            replid: None,
        })
    }

    /// Takes the offered segment as a target for [`EffectLog::cut`] that goes on with the log as
    /// it is.
    pub fn take_offer(&self) -> Option<SwitchTarget> {
        let mut stream = self.stream.lock();
        let present = stream.kind;
        let (sequence, path, kind) = stream.offered.take_if(|(.., kind)| *kind == present)?;
        Some(SwitchTarget {
            sequence,
            path,
            kind,
            replid: None,
        })
    }

    /// Notes a point between commands, and with a target switches there. Called with all shards
    /// held; does no IO. While another switch is under way no second one is begun: `switched` is
    /// then an error at once.
    pub fn cut(&self, target: Option<SwitchTarget>) -> Cut {
        let mut pending = self.pending.lock();
        let offset = self.appended.load(Ordering::Acquire);
        let database = pending.db;
        let mut stream = self.stream.lock();
        let mut replid = stream.replid;
        let switched = target.map(|target| {
            let (done, receiver) = oneshot::channel();
            if pending.switch.is_some() {
                let _ = done.send(Err("another switch of log files is under way".into()));
                return receiver;
            }
            if let Some(new) = target.replid {
                stream.former = None;
                stream.replid = new;
                replid = new;
            }
            let start = SegmentStart {
                start_offset: offset,
                database: u32::try_from(database).unwrap_or(0),
                replid: stream.replid,
                run_id: stream.run_id,
                epoch: stream.epoch,
            };
            if target.replid.is_some() {
                // Nobody goes on from before, and the segment's own prefix selects.
                pending.is_selected = true;
            }
            if stream.kind == LogKind::None && target.kind == LogKind::Replication {
                self.for_replicas.store(true, Ordering::Release);
            }
            let at = pending.batch.end();
            pending.switch = Some(Switch {
                at,
                target,
                start,
                done,
            });
            self.open.store(true, Ordering::Release);
            self.enabled.store(true, Ordering::Release);
            receiver
        });
        Cut {
            offset,
            database,
            replid,
            switched,
        }
    }

    /// Does a switch that nothing was appended behind or before.
    pub fn flush_switch(&self) {
        let mut writer = self.writer.lock();
        if writer.batch.is_empty() && writer.switch.is_none() {
            let mut pending = self.pending.lock();
            if pending.switch.is_some() {
                std::mem::swap(&mut pending.batch, &mut writer.batch);
                writer.switch = pending.switch.take();
            }
        }
        if writer.switch.is_some() {
            self.write_batch(&mut writer);
        }
        drop(writer);
        self.publish();
    }

    /// Ends the old segment and begins the new one. On failure the old one goes on, if there is
    /// one. False if nothing can be written.
    pub(super) fn switch_segment(&self, writer: &mut Writer, switch: Switch) -> bool {
        let now = crate::clock::unix_ms() as u64;
        match self.begin_segment(writer, &switch, now) {
            Ok(segment) => {
                let mut syncer = self.syncer.lock();
                *syncer = Some(segment.syncer());
                let offset = segment.offset();
                self.written.fetch_max(offset, Ordering::AcqRel);
                let target = switch.target;
                let former = self.enter(&segment, &target, offset);
                let old = writer.segment.replace(segment);
                drop(syncer);
                if let Some(old) = old
                    && former == LogKind::AppendOnly
                    && let Err(error) = old.finish(now)
                {
                    tracing::warn!(%error, "the former log file was not finished");
                }
                let _ = switch.done.send(Ok(()));
                true
            }
            Err(why) => {
                tracing::error!(why, "could not switch to the next log file");
                let had_segment = writer.segment.is_some();
                let _ = switch.done.send(Err(why));
                if !had_segment {
                    // The log was to be turned on: nobody has been promised anything yet.
                    self.enabled.store(false, Ordering::Release);
                    self.open.store(false, Ordering::Release);
                    self.for_replicas.store(false, Ordering::Release);
                }
                true
            }
        }
    }

    /// Notes that the stream goes on in a segment; gives the kind of the former one.
    fn enter(&self, segment: &SegmentWriter, target: &SwitchTarget, offset: u64) -> LogKind {
        let mut stream = self.stream.lock();
        let former = stream.kind;
        stream.enter(segment, target.sequence, target.kind);
        drop(stream);
        let for_replicas = target.kind == LogKind::Replication;
        if former != target.kind {
            // What is older has no say in whether a sync stalls.
            self.covered_ms.store(self.elapsed_ms(), Ordering::Release);
        }
        self.for_replicas.store(for_replicas, Ordering::Release);
        if for_replicas {
            self.forget_failure();
        }
        if !for_replicas || former == LogKind::AppendOnly {
            self.durable.fetch_max(offset, Ordering::AcqRel);
        }
        former
    }

    fn begin_segment(
        &self,
        writer: &Writer,
        switch: &Switch,
        now: u64,
    ) -> Result<SegmentWriter, String> {
        if let Some(old) = &writer.segment
            && !self.is_for_replicas()
            && let Err(error) = old.syncer().sync(now)
        {
            // A fresh base covers what a failed fsync lost; only a first failure is news.
            if !matches!(self.health(), Health::Sync(_)) {
                self.sync_failed(error.to_string());
                return Err(error.to_string());
            }
        }
        SegmentWriter::begin(self.fs.as_ref(), &switch.target.path, &switch.start, now)
            .map_err(|error| error.to_string())
    }

    /// Stops writing (AOF turned off, last replica gone): what was appended is written and the
    /// segment finished. The stream's offset stays. Where that can't be written the log is left as it is:
    /// half a log, which takes nothing and refuses nothing, would lose what comes.
    pub fn disable(&self) {
        match self.close() {
            Ok(()) => self.leave_stream(),
            Err(error) => {
                tracing::warn!(
                    error,
                    "the end of the log that is turned off is not in its file"
                );
                self.abandon();
            }
        }
    }

    /// No segment holds the stream any more.
    pub(super) fn leave_stream(&self) {
        let mut stream = self.stream.lock();
        stream.kind = LogKind::None;
        stream.segment = None;
        stream.offered = None;
        drop(stream);
        self.for_replicas.store(false, Ordering::Release);
        self.forget_failure();
        self.publish();
    }
}
