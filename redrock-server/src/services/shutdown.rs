//! SHUTDOWN and signals: the last save, then the end; or the server stays.

use super::Services;
use super::persistence::before_shutdown;
use crate::config::ShutdownMode;
use crate::server::Server;
use crate::state::ShutdownRequest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What clients get that wait for a shutdown which does not come.
const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
/// Between attempts of a shutdown that a signal asked for.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Waits for a wish to shut down, by a command or by a signal (`asked`), and cancels `stop` once
/// all that must happen before has happened.
pub async fn run(server: Arc<Server>, asked: CancellationToken, stop: CancellationToken) {
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
            () = asked.cancelled() => {
                by_signal(&server).await;
                stop.cancel();
                return;
            }
            () = stop.cancelled() => return,
        };
        let Some(wish) = wish else { return };
        tracing::info!("User requested shutdown...");
        let taken_back = async { wishes.wait_for(Option::is_none).await.is_ok() };
        let result = tokio::select! {
            result = before_shutdown(&server, wish) => result,
            _ = taken_back => {
                // Who asked for that has answered the others.
                tracing::info!("Shutdown manually aborted.");
                continue;
            }
        };
        match result {
            Ok(()) => {
                stop.cancel();
                return;
            }
            Err(why) => {
                tracing::warn!(why, "Error trying to save the DB, can't exit.");
                stay(&server);
            }
        }
    }
}

/// Goes on serving; who waits for the end is told.
fn stay(server: &Server) {
    server.state.shutdown.abort();
    let waiting = std::mem::take(&mut *server.state.shutdown.waiting.lock());
    let mut keyspace = server.keyspace.lock();
    for client in waiting {
        server.unblock_client(client, &mut keyspace, Some(FAILED));
    }
}

/// A signal can't be answered: as long as saving fails it is tried again, as the server must not
/// lose what nobody else has. Without a persister, or past `shutdown-timeout`, there is nothing
/// to wait for if the log has everything.
async fn by_signal(server: &Arc<Server>) {
    let config = server.config();
    let ShutdownMode {
        save,
        nosave,
        now,
        force,
    } = config.on_sigterm;
    let wish = ShutdownRequest {
        save,
        nosave,
        now,
        force,
    };
    let began = Instant::now();
    let patience = Duration::from_secs(config.shutdown_timeout_s);
    let mut told = false;
    while let Err(why) = before_shutdown(server, wish).await {
        if !has_persister(server) {
            tracing::warn!(why, "no persister: going without a last save");
            return;
        }
        if began.elapsed() >= patience && config.append_only.enabled {
            tracing::warn!(
                why,
                "going without a last save: the append only file has all data"
            );
            return;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                why,
                "SIGTERM received but errors trying to shut down the server, trying again"
            );
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether a persister was started, or has answered.
fn has_persister(server: &Server) -> bool {
    let services: Option<&Arc<Services>> = server.services.get();
    services.is_some_and(|services| {
        let started = services.companions.members().iter();
        started
            .filter(|member| member.name == "persist")
            .any(|member| member.process.is_some())
            || server
                .state
                .companions
                .lock()
                .iter()
                .any(|companion| companion.name == "persist" && companion.last_seen_s.is_some())
    })
}
