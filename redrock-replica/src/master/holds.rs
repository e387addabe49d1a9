//! Bases that are kept for replicas whose link broke in the middle of a full sync.
//!
//! Bounds: each is kept for [`HOLD_TIME`] after the last link of its replicas broke, at most
//! [`HOLDS_MAX`] at a time, and not longer than an attached replica may lag behind. The persister
//! keeps to the time by itself if this process dies. Nobody comes back sooner or later: the base may
//! then still be there, being the present one.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redrock_proto::RpcError;
use redrock_proto::model::Base;

use super::base::{pin_request, unpin};
use super::sync_state::lag_bytes_max;
use crate::context::Context;
use crate::snapshot_id::SnapshotId;

const HOLD_TIME: Duration = Duration::from_secs(300);
const HOLDS_MAX: usize = 2;

#[derive(Debug, Clone)]
struct Hold {
    id: SnapshotId,
    /// Length of the log behind it when it began.
    lag_at_start: u64,
    ends: Instant,
}

impl Hold {
    fn holder(&self) -> String {
        format!("resume-{}", self.id)
    }
}

/// What is kept, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Hold>>);

impl Holds {
    /// Keeps a base and the log since.
    pub(super) async fn hold(&self, context: &Context, base: Base, id: SnapshotId) {
        let written = context.log.borrow().as_ref().map(|log| log.written_offset);
        let hold = Hold {
            id,
            lag_at_start: written.unwrap_or(0).saturating_sub(id.offset),
            ends: Instant::now() + HOLD_TIME,
        };
        let holder = hold.holder();
        let one_too_many = self.add(hold);
        let request = pin_request(context, &holder, Some(&base), base.offset, HOLD_TIME);
        match context.persist.clone().pin(request).await {
            Ok(reply) if reply.get_ref().missing.is_empty() => {
                tracing::info!(snapshot = %id, "kept for a replica that may come back for the rest");
            }
            Ok(_) => tracing::debug!(snapshot = %id, "it was removed already"),
            Err(status) => {
                let error = RpcError::from(status);
                tracing::debug!(%error, snapshot = %id, "it could not be kept");
            }
        }
        if let Some(hold) = one_too_many {
            unpin(context, &hold.holder()).await;
        }
    }

    /// Lets go of those that have run out of their time or hold too much of the log.
    pub(super) async fn bound(&self, context: &Context, written_offset: u64, backlog_bytes: u64) {
        for hold in self.take_over(Instant::now(), written_offset, backlog_bytes) {
            tracing::info!(snapshot = %hold.id, "no longer kept for the rest of a full sync");
            unpin(context, &hold.holder()).await;
        }
    }

    /// The oldest if there are too many.
    fn add(&self, hold: Hold) -> Option<Hold> {
        let mut holds = self.0.lock();
        let before = holds.iter().position(|known| known.id == hold.id);
        let hold = match before.map(|at| holds.remove(at)) {
            Some(known) => Hold {
                lag_at_start: known.lag_at_start,
                ..hold
            },
            None => hold,
        };
        holds.push(hold);
        (holds.len() > HOLDS_MAX).then(|| holds.remove(0))
    }

    fn take_over(&self, now: Instant, written_offset: u64, backlog_bytes: u64) -> Vec<Hold> {
        let mut over = vec![];
        self.0.lock().retain(|hold| {
            let lag = written_offset.saturating_sub(hold.id.offset);
            let is_kept = now < hold.ends && lag <= lag_bytes_max(hold.lag_at_start, backlog_bytes);
            if !is_kept {
                over.push(hold.clone());
            }
            is_kept
        });
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(offset: u64, ends: Instant) -> Hold {
        Hold {
            id: SnapshotId {
                offset,
                bytes: 100,
                crc64: 1,
            },
            lag_at_start: 5,
            ends,
        }
    }

    #[test]
    fn few_are_held_and_for_a_bounded_time_and_length_of_the_log() {
        let now = Instant::now();
        let later = now + HOLD_TIME;
        let holds = Holds::default();
        let offsets =
            |over: Vec<Hold>| -> Vec<u64> { over.iter().map(|hold| hold.id.offset).collect() };
        assert!(holds.add(hold(1, now)).is_none());
        assert!(holds.add(hold(2, later)).is_none());
        // The same one again: for longer, as the newest.
        assert!(holds.add(hold(1, later)).is_none());
        assert_eq!(
            holds.add(hold(30, later)).map(|hold| hold.id.offset),
            Some(2)
        );
        assert!(offsets(holds.take_over(now, 25, 10)).is_empty());
        // 1 + 5 + twice the backlog.
        assert_eq!(offsets(holds.take_over(now, 27, 10)), [1]);
        assert_eq!(offsets(holds.take_over(later, 27, 10)), [30]);
        assert!(holds.0.lock().is_empty());
    }
}
