//! What follows FLUSHALL, as Redis's: a save that is under way is stopped, since it would bring
//! back what was flushed, and where save points are set what is on disk becomes as empty as
//! memory.

use super::persistence::{Running, START_PAUSE};
use super::{SILENCE_MAX, Services};
use redrock_proto::v1::{self, Activity, SaveKind};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A FLUSHALL.
#[derive(Debug, Default, Clone, Copy)]
pub struct Flush {
    number: u64,
    /// Number of the newest cut before it: later ones have what it has left.
    cut: u64,
}

/// The newest FLUSHALL, and the last ones that something was done for.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    newest: parking_lot::Mutex<Flush>,
    /// Held by whoever stops or saves; the next one waits.
    done: tokio::sync::Mutex<Done>,
}

/// Numbers of FLUSHALLs: of the last one for which saves were stopped, and that a save covers.
#[derive(Debug, Default)]
struct Done {
    stopped: u64,
    saved: u64,
}

impl Done {
    /// Whether nothing is left to do for a flush, behind which a save is wanted or not.
    fn has(&self, flush: Flush, saves: bool) -> bool {
        let done = if saves { self.saved } else { self.stopped };
        done >= flush.number
    }

    fn note(&mut self, flush: Flush, saves: bool) {
        self.stopped = flush.number;
        if saves {
            self.saved = flush.number;
        }
    }
}

impl Services {
    /// Whether a save is under way or was just asked for.
    pub fn may_be_saving(&self) -> bool {
        self.saving.load(Ordering::Acquire)
            || self
                .server()
                .is_some_and(|server| server.state.snapshot.lock().running_since_s.is_some())
    }

    /// FLUSHALL has emptied the data set, behind the cut of that number. Called with the keyspace
    /// held.
    pub fn note_flush(&self, newest_cut: u64) -> Flush {
        let mut newest = self.flushes.newest.lock();
        newest.number += 1;
        newest.cut = newest_cut;
        *newest
    }

    /// Stops a save that runs from a cut before the flush; with `saves` another one is made and its
    /// end waited for. Clients go on meanwhile; without a persister nothing is stopped or saved.
    pub async fn after_flush(self: Arc<Self>, flush: Flush, saves: bool) {
        let mut done = self.flushes.done.lock().await;
        if done.has(flush, saves) {
            // Begun behind our flush for another one.
            return;
        }
        let newest = *self.flushes.newest.lock();
        match self.replace_save(newest, saves).await {
            Ok(()) => done.note(newest, saves),
            Err(error) => tracing::warn!(error, "the save after FLUSHALL failed"),
        }
    }

    async fn replace_save(self: &Arc<Self>, flush: Flush, saves: bool) -> Result<(), String> {
        // One that was just started is waited for.
        self.activity().await?;
        let _running = Running::begin(self, |services| &services.saving);
        let deadline = Instant::now() + SILENCE_MAX;
        loop {
            let stopped = self.stop_saves(flush).await;
            let result = match (stopped, saves) {
                (Ok(()), true) => {
                    let kind = SaveKind::Foreground;
                    self.try_save(kind, Some(flush.cut)).await
                }
                (stopped, _) => stopped,
            };
            let again = |error: &RpcError| {
                let codes = [ErrorCode::Busy, ErrorCode::Timeout, ErrorCode::Cancelled];
                codes.contains(&error.code) && Instant::now() < deadline
            };
            match result {
                // What was stopped is still being put away, or the one that was joined had its cut
                // before the flush.
                Err(error) if again(&error) => tokio::time::sleep(START_PAUSE).await,
                result => return result.map_err(|error| error.to_string()),
            }
        }
    }

    /// A save that was begun behind the flush has what it left, and goes on.
    async fn stop_saves(&self, flush: Flush) -> Result<(), RpcError> {
        let request = v1::AbortRequest {
            run: self.run.to_wire(),
            activity: Activity::Save.into(),
            up_to_snapshot: Some(flush.cut),
        };
        if self.persist().abort(request).await?.into_inner().aborted {
            tracing::info!("a save was under way at FLUSHALL and was stopped");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_not_stopped_again_and_is_no_save() {
        let (first, second) = (Flush { number: 1, cut: 0 }, Flush { number: 2, cut: 4 });
        let mut done = Done::default();
        done.note(first, false);
        assert!(done.has(first, false) && !done.has(first, true) && !done.has(second, false));
        done.note(second, true);
        assert!(done.has(first, true) && done.has(second, true) && done.has(second, false));
    }
}
