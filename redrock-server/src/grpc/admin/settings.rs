//! Settings: CONFIG GET and SET through the same code as the commands, and their changes.

use super::{Messages, Reply};
use crate::command::admin::config;
use crate::config::settings::find;
use crate::config::table::OPTIONS;
use crate::config::{Config, OptionSet, SetContext, rewrite};
use crate::grpc::Shared;
use crate::server::Server;
use redrock_daemon::logging::{Level, LogHandle};
use redrock_proto::RpcError;
use redrock_proto::v1::{self, DaemonKind, Setting};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Patterns in one request, and settings in one change.
const ITEMS_MAX: usize = 64;

/// Between two messages to who watches all settings: many changes at once are one message.
const ALL_PAUSE: Duration = Duration::from_millis(20);

pub(super) fn get(shared: &Shared, wire: &v1::ConfigGetRequest) -> Reply<v1::ConfigGetReply> {
    if wire.patterns.len() > ITEMS_MAX {
        return Err(RpcError::invalid("at most 64 patterns").into());
    }
    let patterns: Vec<&[u8]> = match wire.patterns.len() {
        0 => vec![b"*"],
        _ => wire
            .patterns
            .iter()
            .map(|pattern| pattern.as_bytes())
            .collect(),
    };
    let found = shared.server.config().settings.matching(&patterns);
    let mut settings: Vec<Setting> = found
        .into_iter()
        .map(|(name, value)| setting(&name, &value))
        .collect();
    settings.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Response::new(v1::ConfigGetReply { settings }))
}

fn setting(name: &[u8], value: &[u8]) -> Setting {
    Setting {
        name: String::from_utf8_lossy(name).to_ascii_lowercase(),
        value: String::from_utf8_lossy(value).into_owned(),
    }
}

pub(super) async fn set(shared: &Shared, wire: v1::ConfigSetRequest) -> Reply<v1::Empty> {
    if wire.settings.is_empty() || wire.settings.len() > ITEMS_MAX {
        return Err(RpcError::invalid("1 to 64 settings").into());
    }
    let server = shared.server.clone();
    // Hooks may wait for this very thread (a changed port) or for a companion.
    let work = tokio::task::spawn_blocking(move || {
        let pairs: Vec<(&[u8], &[u8])> = wire
            .settings
            .iter()
            .map(|s| (s.name.as_bytes(), s.value.as_bytes()))
            .collect();
        let context = SetContext {
            loading: server.loading.is_active(),
            local_client: true,
        };
        config::change(&server, &pairs, context)
            .map_err(|error| RpcError::invalid(String::from_utf8_lossy(&error.resp())))?;
        if wire.rewrite {
            rewrite_file(&server)?;
        }
        Ok::<(), RpcError>(())
    });
    match work.await {
        Ok(result) => Ok(result.map(|()| Response::new(v1::Empty {}))?),
        Err(error) => Err(RpcError::internal(error.to_string()).into()),
    }
}

fn rewrite_file(server: &Server) -> Result<(), RpcError> {
    let config = server.config();
    let Some(path) = &config.file else {
        return Err(
            RpcError::unsupported("the server runs without a configuration file")
                .with_hint("the settings are in force but will be gone after a restart"),
        );
    };
    rewrite::rewrite_file(path, &config.settings, &server.user_lines(&config), false)
        .map_err(|error| RpcError::internal(format!("rewrite {}: {error}", path.display())))
}

/// The settings of these names (all if there are none), then what changed of them, until the
/// caller leaves.
pub(super) fn watch(shared: &Shared, names: &[String]) -> Reply<Messages<v1::ConfigUpdate>> {
    let mut options = OptionSet::default();
    if names.len() > OPTIONS.len() {
        return Err(RpcError::invalid("more names than there are settings").into());
    }
    for name in names {
        let Some((index, _)) = find(name.as_bytes()) else {
            return Err(RpcError::invalid(format!("there is no setting '{name}'")).into());
        };
        options.insert(index);
    }
    let pause = match names.is_empty() {
        true => ALL_PAUSE,
        false => Duration::ZERO,
    };
    if names.is_empty() {
        options = OptionSet::all();
    }
    // One message waits at most: a slow reader gets the sum of what changed meanwhile.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(send_changes(shared.clone(), options, pause, sender));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

async fn send_changes(
    shared: Shared,
    options: OptionSet,
    pause: Duration,
    sender: mpsc::Sender<Result<v1::ConfigUpdate, Status>>,
) {
    let watcher = shared.server.config_watchers.watch(options);
    let mut sent = shared.server.config();
    let mut update = v1::ConfigUpdate {
        complete: true,
        settings: shown(&sent, &options),
    };
    loop {
        if sender.send(Ok(update)).await.is_err() {
            return;
        }
        update = loop {
            let next = async {
                tokio::time::sleep(pause).await;
                watcher.changed().await;
            };
            tokio::select! {
                () = next => {}
                () = sender.closed() => return,
                () = shared.stop.cancelled() => return,
            }
            let now = shared.server.config();
            let changed = sent.settings.differences(&now.settings);
            let settings = shown(&now, &changed.common(&options));
            sent = now;
            if !settings.is_empty() {
                break v1::ConfigUpdate {
                    complete: false,
                    settings,
                };
            }
        };
    }
}

fn shown(config: &Config, options: &OptionSet) -> Vec<Setting> {
    let show = |index: usize| {
        let name = OPTIONS.get(index)?.name.as_bytes();
        Some(setting(name, &config.settings.show(index)))
    };
    options.iter().filter_map(show).collect()
}

pub(super) async fn log_level(
    shared: &Shared,
    log: &LogHandle,
    wire: v1::LogLevelRequest,
) -> Reply<v1::Empty> {
    let level: Level = wire
        .level
        .parse()
        .map_err(|_| RpcError::invalid("level must be debug, verbose, notice or warning"))?;
    match DaemonKind::try_from(wire.daemon) {
        Ok(DaemonKind::Server) => {
            log.set_level(level)
                .map_err(|error| RpcError::internal(error.to_string()))?;
        }
        // The companions follow the server's setting.
        Ok(DaemonKind::Unspecified) => {
            let settings = vec![Setting {
                name: "loglevel".into(),
                value: wire.level,
            }];
            let request = v1::ConfigSetRequest {
                run: None,
                settings,
                rewrite: false,
            };
            return set(shared, request).await;
        }
        Ok(DaemonKind::Persist | DaemonKind::Replica) => {
            return Err(
                RpcError::unsupported("a companion follows the server's loglevel")
                    .with_hint("leave the daemon out to change all of them")
                    .into(),
            );
        }
        Err(_) => return Err(RpcError::invalid("daemon is unknown").into()),
    }
    Ok(Response::new(v1::Empty {}))
}
