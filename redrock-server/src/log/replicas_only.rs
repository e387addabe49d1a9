//! The log while the append-only file is off and replicas are attached.
//!
//! Invariants:
//! - nobody waits for its disk: no policy of `appendfsync` applies, and a switch between two of
//!   its segments syncs nothing;
//! - it refuses no write: when it can't be written it is given up, replicas synchronize again.

use super::cut_point::CutPoint;
use super::rotation::SwitchTarget;
use super::state::LogKind;
use super::{EffectLog, Writer};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

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
        drop(stream);
        drop(pending);
        if let Some(observer) = self.observer.get() {
            observer.given_up();
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
    /// offered. `None` without one. Called with all shards held; [`EffectLog::finish_switch`]
    /// must be called without them.
    pub fn cut_to_replicas_only(&self) -> Option<CutPoint> {
        let offered = {
            let stream = self.stream.lock();
            let (sequence, _, kind) = stream.offered.as_ref()?;
            (*kind == LogKind::Replication).then_some(*sequence)
        };
        self.cut_point(Some(offered?), None).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::FlushPoint;
    use super::super::health::Health;
    use super::super::rotation::Offered;
    use super::super::sync::FsyncPolicy;
    use super::*;
    use crate::command::effect::Effect;
    use redrock_log::testing::PowerLossFs;
    use std::path::Path;
    use std::sync::Arc;

    fn path(number: u64) -> PathBuf {
        format!("/d/appendonly.aof.{number}.incr.aof").into()
    }

    fn switched_to(log: &EffectLog, sequence: u64, kind: LogKind) {
        let target = SwitchTarget {
            sequence,
            path: path(sequence),
            kind,
            replid: None,
        };
        let cut = log.cut(Some(target));
        log.wait_switched(cut.switched.unwrap()).unwrap();
    }

    fn set(log: &EffectLog, key: &str) {
        let mut effect = Effect::default();
        effect.replace(0, &[b"SET", key.as_bytes(), b"v"]);
        log.append_effect(&mut effect);
    }

    fn written(fs: &PowerLossFs, number: u64) -> String {
        let bytes = fs.content(Path::new(&path(number))).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    fn log(fs: &PowerLossFs, kind: LogKind) -> EffectLog {
        let log = EffectLog::new(Arc::new(fs.clone()));
        log.set_policy(FsyncPolicy::Always);
        switched_to(&log, 1, kind);
        log
    }

    #[test]
    fn no_reply_waits_for_the_disk_and_no_switch_syncs_what_was_written() {
        let fs = PowerLossFs::new("/d");
        let log = log(&fs, LogKind::Replication);
        set(&log, "a");
        assert_eq!(log.flush(), FlushPoint::Written);
        assert_eq!(log.policy(), FsyncPolicy::No);
        assert!(
            log.cut_to_next(1, path(1)).is_none(),
            "it is the present one"
        );
        let next = log.cut_to_next(2, path(2)).unwrap();
        set(&log, "b");
        log.wait_switched(next).unwrap();
        assert_eq!(log.flush(), FlushPoint::Written);
        assert!(written(&fs, 1).contains("$1\r\na") && !written(&fs, 1).contains("$1\r\nb"));
        assert!(written(&fs, 2).contains("$1\r\nb"));
        assert_eq!(
            log.durable_offset(),
            0,
            "nothing of it is known to be durable"
        );
        // With the append-only file the policy counts again.
        switched_to(&log, 3, LogKind::AppendOnly);
        set(&log, "c");
        let appended = log.appended_offset();
        assert!(matches!(log.flush(), FlushPoint::Durable { durable, .. } if durable < appended));
        assert!(log.sync_now());
        assert_eq!(log.durable_offset(), appended);
    }

    #[test]
    fn when_it_cannot_be_written_it_ends_and_refuses_nothing() {
        let fs = PowerLossFs::new("/d");
        let log = log(&fs, LogKind::Replication);
        set(&log, "a");
        log.flush();
        fs.fail_after(0, libc::ENOSPC);
        set(&log, "b");
        assert_eq!(log.flush(), FlushPoint::Written);
        assert!(!log.refuses_writes());
        assert_eq!(log.state().kind, LogKind::None);
        let end = log.appended_offset();
        assert_eq!(log.written_offset(), end);
        set(&log, "unlogged");
        assert_eq!(
            (log.appended_offset(), log.flush()),
            (end, FlushPoint::Written)
        );
        switched_to(&log, 2, LogKind::Replication);
        set(&log, "c");
        log.flush();
        assert_eq!(log.state().segment.unwrap().start_offset, end);
        assert!(written(&fs, 2).contains("$1\r\nc"));
    }

    #[test]
    fn a_failure_does_not_end_the_append_only_file_that_is_being_turned_on() {
        let fs = PowerLossFs::new("/d");
        let log = log(&fs, LogKind::Replication);
        set(&log, "a");
        let target = SwitchTarget {
            sequence: 2,
            path: path(2),
            kind: LogKind::AppendOnly,
            replid: None,
        };
        let cut = log.cut(Some(target));
        set(&log, "b");
        fs.fail_after(0, libc::EIO);
        log.wait_switched(cut.switched.unwrap()).unwrap();
        log.flush();
        assert_eq!(log.state().kind, LogKind::AppendOnly);
        assert!(written(&fs, 2).contains("$1\r\nb"));
        assert_eq!(log.written_offset(), log.appended_offset());
    }

    #[test]
    fn the_append_only_file_is_durable_before_replicas_get_another_file() {
        let fs = PowerLossFs::new("/d");
        let log = log(&fs, LogKind::AppendOnly);
        assert!(log.cut_to_replicas_only().is_none(), "nothing was offered");
        let offered = log.offer(7, path(7), LogKind::Replication);
        assert_eq!(offered, Offered::Accepted);
        assert!(log.take_offer().is_none(), "a rewrite does not take it");
        set(&log, "a");
        let end = log.appended_offset();
        let point = log.cut_to_replicas_only().unwrap();
        assert_eq!((point.segment_seq, point.offset), (7, end));
        log.finish_switch().unwrap();
        assert_eq!(log.durable_offset(), end);
        assert_eq!(log.health(), Health::Good);
        let state = log.state();
        assert_eq!(state.kind, LogKind::Replication);
        let segment = state.segment.unwrap();
        assert_eq!((segment.sequence, segment.start_offset), (7, end));
    }

    #[test]
    fn a_log_whose_end_can_not_be_written_is_off_as_a_whole() {
        for kind in [LogKind::AppendOnly, LogKind::Replication] {
            let fs = PowerLossFs::new("/d");
            let log = log(&fs, kind);
            set(&log, "a");
            log.flush();
            assert!(!log.has_unwritten());
            fs.fail_after(0, libc::EIO);
            set(&log, "b");
            log.disable();
            assert!(!log.is_on() && !log.has_unwritten() && !log.refuses_writes());
            assert_eq!(log.state().kind, LogKind::None);
        }
    }
}
