//! Keeping what the server tells us current: its log's state, its settings.
//!
//! Both are streams that are opened again with a pause when they break; what
//! was last heard stays valid meanwhile.

use std::sync::Arc;
use std::time::Duration;

use redrock_daemon::logging::LogHandle;
use redrock_proto::model::LogState;
use redrock_proto::{RpcError, v1};
use tokio::sync::watch;

use crate::config::Settings;
use crate::context::Context;

/// Between two looks at a log that grows: what replicas lag behind, and what WAIT waits for.
const INTERVAL_MS: u32 = 1;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Follows `Log.Watch` until the daemon stops.
pub(crate) async fn watch_log(context: Arc<Context>, log: watch::Sender<Option<LogState>>) {
    loop {
        if let Err(error) = watch_log_once(&context, &log).await {
            tracing::debug!(%error, "watching the log was interrupted");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn watch_log_once(
    context: &Context,
    log: &watch::Sender<Option<LogState>>,
) -> Result<(), RpcError> {
    let request = v1::WatchLogRequest {
        run: context.run.to_wire(),
        interval_ms: INTERVAL_MS,
    };
    let answer = context.server.log().watch(request).await;
    let mut states = context.checked(answer)?.into_inner();
    while let Some(state) = context.checked(states.message().await)? {
        log.send_replace(Some(LogState::try_from(state)?));
    }
    Ok(())
}

/// Follows `Admin.WatchConfig` until the daemon stops.
pub(crate) async fn watch_settings(
    context: Arc<Context>,
    settings: watch::Sender<Settings>,
    log: LogHandle,
) {
    loop {
        if let Err(error) = watch_settings_once(&context, &settings, &log).await {
            tracing::debug!(%error, "watching the settings was interrupted");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn watch_settings_once(
    context: &Context,
    settings: &watch::Sender<Settings>,
    log: &LogHandle,
) -> Result<(), RpcError> {
    let request = v1::WatchConfigRequest {
        run: context.run.to_wire(),
        names: Settings::names().map(str::to_owned).collect(),
    };
    let answer = context.server.admin().watch_config(request).await;
    let mut updates = context.checked(answer)?.into_inner();
    while let Some(update) = context.checked(updates.message().await)? {
        let mut now = match update.complete {
            true => Settings::default(),
            false => settings.borrow().clone(),
        };
        for setting in &update.settings {
            now.apply(&setting.name, &setting.value);
        }
        if let Some(level) = now.log_level
            && let Err(error) = log.set_level(level)
        {
            tracing::warn!(%error, "the log level could not be changed");
        }
        settings.send_if_modified(|before| {
            // The first word counts even if it only says the defaults.
            let is_news = update.complete || *before != now;
            *before = now;
            is_news
        });
    }
    Ok(())
}
