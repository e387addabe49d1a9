//! The log while the append-only file is off and replicas are attached.
//!
//! Invariants:
//! - nobody waits for its disk: no policy of `appendfsync` applies, and a switch between two of
//!   its segments syncs nothing;
//! - it refuses no write: when it can't be written it is given up, replicas synchronize again.

use super::rotation::SwitchTarget;
use super::state::LogKind;
use super::{EffectLog, Writer};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// The outcome of a switch; see [`EffectLog::wait_switched`].
pub type Switched = oneshot::Receiver<Result<(), String>>;

impl EffectLog {
    /// Whether what is written now is for replicas only.
    pub fn is_for_replicas(&self) -> bool {
        self.for_replicas.load(Ordering::Acquire)
    }

    /// Stops writing for replicas: what is at hand counts as written, nobody gets it. A switch
    /// on its way to another kind of log goes on.
    pub(super) fn give_up(&self, writer: &mut Writer, why: &str) {
        tracing::warn!(
            why,
            "the log for replicas can't be written and ends; they will synchronize again"
        );
        *self.syncer.lock() = None;
        writer.segment = None;
        let pending = self.pending.lock();
        let mut stream = self.stream.lock();
        stream.kind = LogKind::None;
        stream.segment = None;
        self.for_replicas.store(false, Ordering::Release);
        if writer.switch.is_none() && pending.switch.is_none() {
            self.enabled.store(false, Ordering::Release);
            self.open.store(false, Ordering::Release);
            stream.offered = None;
        }
    }

    /// Switches between commands to a further segment for replicas. `None` if that is not what
    /// is written, or the number is not above the present one. Called with all shards held.
    pub fn cut_to_next(&self, sequence: u64, path: PathBuf) -> Option<Switched> {
        {
            let stream = self.stream.lock();
            let present = stream.segment.as_ref().map_or(0, |s| s.sequence);
            if stream.kind != LogKind::Replication || sequence <= present {
                return None;
            }
        }
        self.cut(Some(SwitchTarget {
            sequence,
            path,
            kind: LogKind::Replication,
            replid: None,
        }))
        .switched
    }

    /// Switches between commands from the append-only file to the segment for replicas that was
    /// offered. `None` without one. Called with all shards held.
    pub fn cut_to_replicas_only(&self) -> Option<Switched> {
        let offered = {
            let mut stream = self.stream.lock();
            let is_wanted = |kind: &LogKind| *kind == LogKind::Replication;
            stream.offered.take_if(|(.., kind)| is_wanted(kind))
        };
        let (sequence, path, kind) = offered?;
        self.cut(Some(SwitchTarget {
            sequence,
            path,
            kind,
            replid: None,
        }))
        .switched
    }

    /// Does a switch, or waits until whoever is at it has done it. An error means that the old
    /// segment goes on. Called without any shard.
    pub fn wait_switched(&self, mut outcome: Switched) -> Result<(), String> {
        self.flush_switch();
        loop {
            match outcome.try_recv() {
                Ok(result) => return result,
                Err(TryRecvError::Empty) => {
                    if self.refuses_writes() {
                        return Err("the log can't be written".into());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(TryRecvError::Closed) => {
                    return Err("the switch of log files was dropped".into());
                }
            }
        }
    }
}
