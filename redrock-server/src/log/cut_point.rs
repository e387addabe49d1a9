//! A snapshot's cut, as the log sees it.

use super::EffectLog;
use super::replicas_only::Switched;
use super::rotation::SwitchTarget;
use super::state::LogKind;
use redrock_proto::error::RpcError;
use redrock_proto::model::HexId;
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
        let cut = self.cut(target);
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
                        return Err("the log can't be written".into());
                    }
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(TryRecvError::Closed) => {
                    return Err("the switch of log files was dropped".into());
                }
            }
        }
    }
}
