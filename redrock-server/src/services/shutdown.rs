//! SHUTDOWN and signals: the last save, then the end; or the server stays.

use super::persistence::before_shutdown;
use crate::config::ShutdownMode;
use crate::log::health::Health;
use crate::log::state::LogKind;
use crate::server::Server;
use crate::state::ShutdownRequest;
use redrock_daemon::signals::StopSignal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between looks while periodic work is stopped.
const PAUSE_LOOK: Duration = Duration::from_millis(10);
/// What clients get that wait for a shutdown which does not come.
const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// A signal asks for a shutdown as `shutdown-on-sigterm` or `shutdown-on-sigint` say. True if
/// one that a signal asked for is under way already.
pub fn asked_by(server: &Server, signal: StopSignal) -> bool {
    let config = server.config();
    let ShutdownMode {
        save,
        nosave,
        now,
        force,
    } = match signal {
        StopSignal::Terminate => config.on_sigterm,
        StopSignal::Interrupt => config.on_sigint,
    };
    server.state.shutdown.request_by_signal(ShutdownRequest {
        save,
        nosave,
        now,
        force,
    })
}

/// Waits for a wish to shut down, by a command or by a signal, and cancels `stop` once all that
/// must happen before has happened. As in Redis a save that fails makes the server stay, whoever
/// asked.
pub async fn run(server: Arc<Server>, stop: CancellationToken) {
    let mut wishes = server.state.shutdown.subscribe();
    loop {
        let wished = async {
            wishes
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|wish| *wish)
        };
        let wish = tokio::select! {
            wish = wished => wish,
            () = stop.cancelled() => return,
        };
        let Some(wish) = wish else { return };
        // Redis sees signals in its periodic work, which tests can stop (DEBUG PAUSE-CRON).
        while server.state.cron_paused.load(Ordering::Relaxed)
            && server.state.shutdown.is_signalled()
            && server.state.shutdown.is_requested()
            && !stop.is_cancelled()
        {
            tokio::time::sleep(PAUSE_LOOK).await;
        }
        // Who aborted it has said so.
        if !server.state.shutdown.is_requested() {
            continue;
        }
        tracing::info!("User requested shutdown...");
        let taken_back = async { wishes.wait_for(Option::is_none).await.is_ok() };
        let result = tokio::select! {
            result = before_shutdown(&server, wish) => result,
            // Who asked for that has answered the others.
            _ = taken_back => continue,
        };
        match result {
            Ok(()) => {
                stop.cancel();
                return;
            }
            Err(why) if may_go_unsaved(&server, wish) => {
                tracing::warn!(
                    why,
                    "going without a last save: the append only file has all data"
                );
                stop.cancel();
                return;
            }
            Err(why) => {
                tracing::warn!("{why}");
                tracing::warn!(
                    "Errors trying to shut down the server. Check the logs for more information."
                );
                stay(&server).await;
            }
        }
    }
}

/// A signal can't be answered, and who sent it kills after a while: a save that nobody asked for
/// by name is not worth that where the log has everything.
fn may_go_unsaved(server: &Server, wish: ShutdownRequest) -> bool {
    server.state.shutdown.is_signalled()
        && !wish.save
        && server.config().append_only.enabled
        && server.log.state().kind == LogKind::AppendOnly
        && server.log.health() == Health::Good
}

/// Goes on serving; who waits for the end is told.
async fn stay(server: &Server) {
    server.state.shutdown.abort();
    let waiting = std::mem::take(&mut *server.state.shutdown.waiting.lock());
    let mut keyspace = server.keyspace_when_idle().await;
    for client in waiting {
        server.unblock_client(client, &mut keyspace, Some(FAILED));
    }
}
