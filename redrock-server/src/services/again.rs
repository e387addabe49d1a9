//! The append-only log, on again after a full sync (DESIGN 8).
//!
//! The data set that a master sent has no log yet: the persister makes a base of it, and from the
//! cut on the master's stream is appended byte for byte. Until that is done a restart finds the
//! log of the data set before. Without a persister it is tried again, with pauses that grow; the
//! link to the master never waits for it. A server that becomes a master meanwhile takes no writes
//! until it is there ([`Server::lacks_log`]).

use super::Services;
use crate::log::state::LogKind;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Begins to bring the log back if it is wanted and off. At most one such work runs; it ends when
/// the log is on, no longer wanted, or the server goes.
pub fn keep_log(server: &Server) {
    let Some(services) = server.services.get() else {
        return;
    };
    if is_due(server) && !services.reviving.swap(true, Ordering::AcqRel) {
        server.refresh_gates();
        let services = services.clone();
        services.handle.clone().spawn(revive(services));
    }
}

fn is_due(server: &Server) -> bool {
    server.config().append_only.enabled
        && server.log.state().kind != LogKind::AppendOnly
        && !server.fate.is_stopping()
}

impl Services {
    /// `appendonly no` at run time.
    pub async fn disable_append_only(&self) -> Result<(), String> {
        // The option says so only when this is done.
        self.log_turned_off.store(true, Ordering::Release);
        let result = self.turn_log_off().await;
        self.log_turned_off.store(result.is_ok(), Ordering::Release);
        result
    }
}

/// Makes the flag false again however the work ends.
struct Reviving(Arc<Services>);

impl Drop for Reviving {
    fn drop(&mut self) {
        self.0.rewrite_scheduled.store(false, Ordering::Release);
        self.0.reviving.store(false, Ordering::Release);
        self.0.look_now.notify_one();
        // Turned off again while this was ending?
        if let Some(server) = self.0.server().filter(|server| is_due(server)) {
            keep_log(&server);
        }
    }
}

async fn revive(services: Arc<Services>) {
    let reviving = Reviving(services);
    let services = &reviving.0;
    let mut pause = PAUSE_FIRST;
    let mut told = false;
    loop {
        let Some(server) = services.server() else {
            return;
        };
        if !is_due(&server) {
            if told {
                tracing::info!("the append only log is on again, or no longer wanted");
            }
            return;
        }
        // INFO says `aof_rewrite_scheduled` until it is done.
        services.rewrite_scheduled.store(true, Ordering::Release);
        // After a success another full sync may have turned it off again: the loop looks.
        let error = services.enable_append_only().await.err();
        *services.log_trouble.lock() = super::one_line(error.as_deref().unwrap_or_default());
        server.refresh_gates();
        if let Some(error) = &error {
            if !told {
                tracing::warn!(
                    error,
                    "the append only log is off since the full sync and could not be begun; \
                     trying again. A restart now finds the data from before the sync"
                );
            }
            told = true;
            let mut shown = server.state.append_only.lock();
            shown.last_rewrite_ok = false;
        }
        drop(server);
        if error.is_none() {
            pause = PAUSE_FIRST;
        }
        tokio::time::sleep(pause).await;
        if error.is_some() {
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}
