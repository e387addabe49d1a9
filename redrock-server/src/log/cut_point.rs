//! A snapshot's cut, as the log sees it.

use super::EffectLog;
use super::replicas_only::Switched;
use super::rotation::SwitchTarget;
use super::state::LogKind;
use redrock_proto::error::RpcError;
use redrock_proto::model::HexId;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot::error::TryRecvError;

/// Where the log stands at a cut.
#[derive(Debug, Clone, Copy)]
pub struct CutPoint {
    /// Stream offset: all effects before it are in the snapshot, none after it.
    pub offset: u64,
    /// The history that the offset belongs to.
    pub replid: HexId,
    /// Database selected there.
    pub stream_db: Option<u32>,
    /// Whether the log switched segments here.
    pub rotated: bool,
    /// Segment that the bytes after the cut go to; 0: no log is kept.
    pub segment_seq: u64,
    /// Whom the log is for after the cut.
    pub kind: LogKind,
}

impl EffectLog {
    /// Notes where the log stands, switching to the offered segment of that number if asked.
    /// Called with all shard locks held, between commands. After a switch
    /// [`EffectLog::finish_switch`] must be called without them. With `anew` the stream begins
    /// anew with the segment, under that id.
    pub fn cut_point(
        &self,
        rotate: Option<u64>,
        anew: Option<[u8; 40]>,
    ) -> Result<CutPoint, RpcError> {
        let target = match rotate {
            None => None,
            Some(wanted) => match self.take_offer_of(wanted) {
                None => return Err(RpcError::not_found("no such segment was offered")),
                Some(target) => Some(SwitchTarget {
                    replid: anew,
                    ..target
                }),
            },
        };
        let rotated = target.is_some();
        let state = self.state();
        let kept = state.segment.map_or(0, |segment| segment.sequence);
        let segment_seq = target.as_ref().map_or(kept, |target| target.sequence);
        let kind = target.as_ref().map_or(state.kind, |target| target.kind);
        let mut cut = self.cut(target);
        if let Some(Ok(Err(why))) = cut.switched.as_mut().map(Switched::try_recv) {
            // Nothing is switched here: an earlier switch is not done yet.
            return Err(RpcError::busy(why));
        }
        *self.switching.lock() = cut.switched;
        Ok(CutPoint {
            offset: cut.offset,
            replid: HexId::from_digits(cut.replid).unwrap_or(HexId::from_bytes([0; 20])),
            stream_db: u32::try_from(cut.database).ok(),
            rotated,
            segment_seq,
            kind,
        })
    }

    /// Does the switch that the last [`EffectLog::cut_point`] asked for, if any. An error means
    /// that the old segment goes on.
    pub fn finish_switch(&self) -> Result<(), String> {
        let outcome = self.switching.lock().take();
        outcome.map_or(Ok(()), |outcome| self.wait_switched(outcome))
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
                        return self.give_up_switch(outcome);
                    }
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(TryRecvError::Closed) => {
                    return Err("the switch of log files was dropped".into());
                }
            }
        }
    }

    /// Takes back a switch that can't be done now: whoever hears that the old segment goes on may
    /// remove the new one. It may have been done just before.
    fn give_up_switch(&self, mut outcome: Switched) -> Result<(), String> {
        let mut writer = self.writer.lock();
        let mut pending = self.pending.lock();
        outcome.close();
        if let Ok(result) = outcome.try_recv() {
            return result;
        }
        let waiting = writer.switch.take_if(|switch| switch.is_given_up());
        let waiting = waiting.or_else(|| pending.switch.take_if(|switch| switch.is_given_up()));
        if waiting.is_some() && writer.segment.is_none() {
            // The log was to be turned on.
            self.enabled.store(false, Ordering::Release);
            self.open.store(false, Ordering::Release);
            self.for_replicas.store(false, Ordering::Release);
        }
        Err("the log can't be written".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::effect::Effect;
    use crate::log::health::Health;
    use crate::log::sync::FsyncPolicy;
    use redrock_log::testing::PowerLossFs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    fn path(number: u64) -> PathBuf {
        format!("/d/appendonly.aof.{number}.incr.aof").into()
    }

    fn set(log: &EffectLog, key: &str) {
        let mut effect = Effect::default();
        effect.replace(0, &[b"SET", key.as_bytes(), b"v"]);
        log.append_effect(&mut effect);
    }

    fn cut_to(log: &EffectLog, number: u64) -> Result<CutPoint, RpcError> {
        log.offer(number, path(number), LogKind::AppendOnly);
        log.cut_point(Some(number), None)
    }

    #[test]
    fn a_switch_that_failed_does_not_happen_later() {
        let fs = PowerLossFs::new("/d");
        let log = EffectLog::new(Arc::new(fs.clone()));
        log.set_policy(FsyncPolicy::Always);
        cut_to(&log, 1).unwrap();
        log.finish_switch().unwrap();
        set(&log, "a");
        log.flush();
        fs.fail_after(0, libc::EIO);
        set(&log, "b");
        log.flush();
        assert!(log.refuses_writes());
        // Its cut is behind bytes that can't be written.
        assert!(cut_to(&log, 2).unwrap().rotated);
        let another = cut_to(&log, 3).unwrap_err();
        assert!(another.message.contains("another switch"), "{another}");
        log.finish_switch().unwrap_err();
        // The disk is well again.
        log.probe();
        assert_eq!(log.health(), Health::Good);
        set(&log, "c");
        log.flush();
        assert_eq!(log.state().segment.unwrap().sequence, 1);
        assert_eq!(fs.content(Path::new(&path(2))), None);
        let written = fs.content(Path::new(&path(1))).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.contains("b") && written.ends_with("$1\r\nc\r\n$1\r\nv\r\n"));
        // And the next one does.
        cut_to(&log, 4).unwrap();
        log.finish_switch().unwrap();
        assert_eq!(log.state().segment.unwrap().sequence, 4);
    }
}
