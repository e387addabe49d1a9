//! Keeps the server from dropping a checkpoint that is still being copied.

use std::time::Duration;

use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Source;
use crate::progress::ActionProgress;

/// What each renewal asks for; the server drops the checkpoint of a dead persister after it.
const LEASE_MS: u64 = 30_000;
/// For the server's answer to a renewal.
const REPORT_WAIT: Duration = Duration::from_secs(5);
const RENEW_MIN: Duration = Duration::from_millis(200);
const RENEW_MAX: Duration = Duration::from_secs(1);

/// Renews until it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    lost: watch::Receiver<Option<RpcError>>,
    granted: std::sync::Arc<(Notify, std::sync::atomic::AtomicU64)>,
    _stop: DropGuard,
}

impl Keeper {
    /// Idle until [`Keeper::start`].
    pub(super) fn new(source: &Source, snapshot_id: u64, progress: &ActionProgress) -> Keeper {
        let (sender, lost) = watch::channel(None);
        let stop = CancellationToken::new();
        let granted = std::sync::Arc::new((Notify::new(), std::sync::atomic::AtomicU64::new(0)));
        let work = {
            let (source, progress) = (source.clone(), progress.clone());
            let granted = std::sync::Arc::clone(&granted);
            async move {
                granted.0.notified().await;
                let lease_ms = granted.1.load(std::sync::atomic::Ordering::Relaxed);
                let error = renew(&source, snapshot_id, &progress, lease_ms).await;
                sender.send_replace(Some(error));
            }
        };
        let token = stop.clone();
        // Not a task of its own right: it ends with the take that holds the guard.
        let _detached = tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = work => {}
            }
        });
        Keeper {
            lost,
            granted,
            _stop: stop.drop_guard(),
        }
    }

    /// The checkpoint is there, for so long.
    pub(super) fn start(&self, lease_ms: u64) {
        self.granted
            .1
            .store(lease_ms, std::sync::atomic::Ordering::Relaxed);
        self.granted.0.notify_one();
    }

    /// Returns when the lease can't be held any longer. Cancel-safe.
    pub(super) async fn lost(&self) -> RpcError {
        let mut lost = self.lost.clone();
        let error = match lost.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        };
        match error {
            Some(error) => error,
            // The keeper is gone only if the take is.
            None => std::future::pending().await,
        }
    }
}

/// Renews until the server says that the checkpoint is gone or was silent for a whole lease.
async fn renew(
    source: &Source,
    snapshot_id: u64,
    progress: &ActionProgress,
    granted_ms: u64,
) -> RpcError {
    let mut client = source.server.snapshot();
    let mut lease = Duration::from_millis(granted_ms.max(1));
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::time::sleep((lease / 4).clamp(RENEW_MIN, RENEW_MAX)).await;
        let (records_copied, bytes_copied) = progress.cold();
        let request = v1::ReportRequest {
            run: source.run.to_wire(),
            snapshot_id,
            records_copied,
            bytes_copied,
            lease_ms: LEASE_MS,
        };
        let answer = tokio::time::timeout(REPORT_WAIT, client.report(request)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(RpcError::from),
            Err(_) => Err(RpcError::timeout("the server is silent")),
        };
        match answer {
            Ok(_) => {
                lease = Duration::from_millis(LEASE_MS);
                renewed = tokio::time::Instant::now();
            }
            Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::StaleEpoch) => {
                return error;
            }
            Err(error) if renewed.elapsed() > lease => {
                return RpcError::timeout(format!(
                    "the lease of the checkpoint ran out: {}",
                    error.message
                ));
            }
            Err(error) => tracing::debug!(%error, "could not renew the lease of a checkpoint"),
        }
    }
}
