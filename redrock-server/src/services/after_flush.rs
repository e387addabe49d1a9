//! What follows FLUSHALL, as Redis's: a save that is under way is stopped, since it would bring
//! back what was flushed, and where save points are set what is on disk becomes as empty as
//! memory.

use super::persistence::{Running, START_PAUSE};
use super::{SILENCE_MAX, Services};
use redrock_proto::v1::{self, Activity, SaveKind};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// FLUSHALLs so far, and the last one that a save covers.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    seen: AtomicU64,
    /// Held by whoever saves; the next one waits.
    covered: tokio::sync::Mutex<u64>,
}

impl Services {
    /// Whether a save is under way or was just asked for.
    pub fn may_be_saving(&self) -> bool {
        self.saving.load(Ordering::Acquire)
            || self
                .server()
                .is_some_and(|server| server.state.snapshot.lock().running_since_s.is_some())
    }

    /// Called once the data set is empty. Stops a save that runs; with `saves` another one is
    /// made and its end waited for. Clients go on meanwhile; without a persister nothing is stopped or saved.
    pub async fn after_flush(self: Arc<Self>, saves: bool) {
        let mine = self.flushes.seen.fetch_add(1, Ordering::AcqRel) + 1;
        let mut covered = self.flushes.covered.lock().await;
        if *covered >= mine {
            // Begun behind our flush for another one.
            return;
        }
        let covers = self.flushes.seen.load(Ordering::Acquire);
        match self.replace_save(saves).await {
            Ok(()) if saves => *covered = covers,
            Ok(()) => {}
            Err(error) => tracing::warn!(error, "the save after FLUSHALL failed"),
        }
    }

    async fn replace_save(self: &Arc<Self>, saves: bool) -> Result<(), String> {
        // One that was just started is waited for.
        self.activity().await?;
        let _running = Running::begin(self, |services| &services.saving);
        let deadline = Instant::now() + SILENCE_MAX;
        loop {
            let stopped = self.stop_saves().await;
            let result = match (stopped, saves) {
                (Ok(()), true) => self.try_save(SaveKind::Foreground).await,
                (stopped, _) => stopped,
            };
            let again = |error: &RpcError| {
                matches!(error.code, ErrorCode::Busy | ErrorCode::Timeout)
                    && Instant::now() < deadline
            };
            match result {
                // What was stopped is still being put away, or a save point was quicker.
                Err(error) if again(&error) => tokio::time::sleep(START_PAUSE).await,
                result => return result.map_err(|error| error.to_string()),
            }
        }
    }

    async fn stop_saves(&self) -> Result<(), RpcError> {
        let request = v1::AbortRequest {
            run: self.run.to_wire(),
            activity: Activity::Save.into(),
        };
        if self.persist().abort(request).await?.into_inner().aborted {
            tracing::info!("a save was under way at FLUSHALL and was stopped");
        }
        Ok(())
    }
}
