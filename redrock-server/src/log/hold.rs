//! `no-appendfsync-on-rewrite`: nothing is synced while a companion writes a large file.
//!
//! As Redis does while it has a child: under `everysec` and `always` alike, so that replies go as soon
//! as the log is in the page cache, and a power loss takes what the kernel had not written. Who sets
//! the option to `yes` chooses that (I5 holds as under `appendfsync no`; the death of processes still
//! takes nothing). A switch of segments syncs the old one in any case: no replay may cross a gap. What
//! was not synced is asked for at once when the hold ends, and from then on replies wait again.

use super::EffectLog;
use std::sync::atomic::Ordering;

impl EffectLog {
    /// Begins or ends a hold; what is so already stays so.
    pub fn hold_sync(&self, held: bool) {
        if self.sync_held.swap(held, Ordering::AcqRel) == held {
            return;
        }
        tracing::debug!(held, "syncs of the append only file are held back");
        // How old what is not durable may be counts anew, for writers that wait too.
        self.covered_ms.store(self.elapsed_ms(), Ordering::Release);
        self.synced.notify_all();
        self.request_sync();
        self.advanced();
    }

    /// Whether nothing is synced for its age or for a reply.
    pub fn is_sync_held(&self) -> bool {
        self.sync_held.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::effect::Effect;
    use crate::log::state::LogKind;
    use crate::log::sync::FsyncPolicy;
    use crate::log::{EffectLog, FlushPoint, OpenSegment};
    use redrock_log::testing::PowerLossFs;
    use redrock_log::writer::{SegmentStart, SegmentWriter};
    use std::path::Path;
    use std::sync::Arc;

    fn open(policy: FsyncPolicy) -> EffectLog {
        let fs = PowerLossFs::new("/d");
        let start = SegmentStart {
            start_offset: 0,
            database: 0,
            replid: [b'a'; 40],
            run_id: [b'b'; 40],
            epoch: 1,
        };
        let path = Path::new("/d/appendonly.aof.1.incr.aof");
        let log = EffectLog::new(Arc::new(fs.clone()));
        log.open(OpenSegment {
            segment: SegmentWriter::begin(&fs, path, &start, 1).unwrap(),
            sequence: 1,
            kind: LogKind::AppendOnly,
            replid: [b'a'; 40],
            database: 0,
        });
        log.set_policy(policy);
        log
    }

    fn set(log: &EffectLog) -> u64 {
        let mut effect = Effect::default();
        effect.replace(0, &[b"SET", b"key", b"value"]);
        log.append_effect(&mut effect);
        log.appended_offset()
    }

    /// Whether a reply to what was appended last may leave.
    fn reply_leaves(log: &EffectLog) -> bool {
        match log.flush() {
            FlushPoint::Written => true,
            FlushPoint::Durable { appended, durable } => durable >= appended,
        }
    }

    #[test]
    fn under_always_replies_go_without_a_sync_while_it_is_held_and_wait_again_behind_it() {
        let log = open(FsyncPolicy::Always);
        let before = set(&log);
        assert!(!reply_leaves(&log), "without a hold replies wait");
        log.sync_if_due(true, false);
        assert!(reply_leaves(&log) && log.durable_offset() == before);

        log.hold_sync(true);
        let during = set(&log);
        assert!(reply_leaves(&log), "a reply waits in spite of the hold");
        log.sync_if_due(true, true);
        assert_eq!(log.durable_offset(), before, "synced in spite of the hold");

        log.hold_sync(false);
        // No write comes to ask for it.
        assert!(log.signal.lock().wanted, "nobody is asked to sync");
        log.sync_if_due(true, false);
        assert_eq!(log.durable_offset(), during);
        let after = set(&log);
        assert!(!reply_leaves(&log), "replies wait again");
        log.sync_if_due(true, false);
        assert!(reply_leaves(&log) && log.durable_offset() == after);
    }

    #[test]
    fn each_second_s_sync_is_left_out_while_it_is_held_and_no_writer_waits_for_it() {
        let log = open(FsyncPolicy::EverySecond);
        log.hold_sync(true);
        let end = set(&log);
        assert_eq!(log.policy(), FsyncPolicy::No);
        assert!(reply_leaves(&log));
        log.sync_if_due(false, true);
        assert_eq!(log.durable_offset(), 0, "synced in spite of the hold");
        log.hold_sync(false);
        assert!(reply_leaves(&log) && log.delayed_syncs() == 0);
        log.sync_if_due(false, true);
        assert_eq!(log.durable_offset(), end);
    }
}
