//! One function a command: request, answer, output.

use redrock_proto::client::{ServerClient, Timeouts, connect};
use redrock_proto::v1;
use redrock_proto::v1::admin_client::AdminClient;
use redrock_proto::{ErrorCode, RpcError};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::arguments::{self, Arguments, Command, Config};
use crate::output::Output;
use crate::progress::follow;
use crate::{json, table};

type Admin = AdminClient<Channel>;

/// Carries out what was asked for.
pub(crate) async fn run(arguments: &Arguments, output: &Output) -> Result<(), RpcError> {
    let timeouts = Timeouts {
        request: arguments.timeout(),
        ..Timeouts::default()
    };
    let channel = connect(arguments.socket_path(), timeouts).await?;
    match &arguments.command {
        // Companions answer this too; they have no Admin service.
        Command::Health => health(channel, output).await,
        command => {
            let mut admin = ServerClient::from_channel(channel).admin();
            administer(command, &mut admin, output).await
        }
    }
}

async fn administer(command: &Command, admin: &mut Admin, output: &Output) -> Result<(), RpcError> {
    match command {
        Command::Health => Err(RpcError::internal("asked of the Admin service")),
        Command::Status => {
            let reply = admin
                .status(v1::AdminStatusRequest { run: None })
                .await?
                .into_inner();
            output.show(|| json::status(&reply), || table::status(&reply))
        }
        Command::Memory => {
            let reply = admin
                .memory(v1::AdminMemoryRequest { run: None })
                .await?
                .into_inner();
            output.show(|| json::memory(&reply), || table::memory(&reply))
        }
        Command::Tier => {
            let reply = admin
                .tier(v1::AdminTierRequest { run: None })
                .await?
                .into_inner();
            output.show(|| json::tier(&reply), || table::tier(&reply))
        }
        Command::Snapshot(options) => snapshot(admin, options, output).await,
        Command::Rewrite => {
            let request = v1::AdminRewriteRequest { run: None };
            follow(
                admin.rewrite(request).await?.into_inner(),
                output,
                "rewrite",
            )
            .await
        }
        Command::Backups => {
            let reply = admin
                .backups(v1::AdminBackupsRequest { run: None })
                .await?
                .into_inner();
            output.show(|| json::backups(&reply), || table::backups(&reply))
        }
        Command::Replication => {
            let request = v1::AdminReplicationRequest { run: None };
            let reply = admin.replication(request).await?.into_inner();
            output.show(|| json::replication(&reply), || table::replication(&reply))
        }
        Command::Failover(options) => failover(admin, options, output).await,
        Command::Config(config) => configure(admin, config, output).await,
        Command::LogLevel(options) => log_level(admin, options, output).await,
        Command::Drain(options) => {
            let timeout_ms = options.within.saturating_mul(1000);
            let request = v1::DrainRequest {
                run: None,
                timeout_ms,
            };
            follow(admin.drain(request).await?.into_inner(), output, "drain").await
        }
        Command::Shutdown(options) => shutdown(admin, options, output).await,
    }
}

/// Asks `grpc.health.v1`, which every daemon serves.
async fn health(channel: Channel, output: &Output) -> Result<(), RpcError> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let reply = HealthClient::new(channel).check(request).await?;
    match reply.into_inner().status() {
        ServingStatus::Serving => output.done("serving"),
        status => Err(RpcError::new(
            ErrorCode::Unavailable,
            format!("the daemon says {}", status.as_str_name()),
        )),
    }
}

async fn snapshot(
    admin: &mut Admin,
    options: &arguments::Snapshot,
    output: &Output,
) -> Result<(), RpcError> {
    let request = v1::AdminSnapshotRequest {
        run: None,
        backup: options.backup && options.name.is_none(),
        backup_name: options.name.clone().unwrap_or_default(),
    };
    let name = if options.backup { "backup" } else { "snapshot" };
    follow(admin.snapshot(request).await?.into_inner(), output, name).await
}

async fn failover(
    admin: &mut Admin,
    options: &arguments::Failover,
    output: &Output,
) -> Result<(), RpcError> {
    let (host, port) = options.to.clone().unwrap_or_default();
    let request = v1::AdminFailoverRequest {
        run: None,
        host,
        port: port.into(),
        timeout_ms: options.within.unwrap_or(0).saturating_mul(1000),
        force: options.force,
        abort: options.abort,
    };
    follow(
        admin.failover(request).await?.into_inner(),
        output,
        "failover",
    )
    .await
}

async fn configure(admin: &mut Admin, config: &Config, output: &Output) -> Result<(), RpcError> {
    match config {
        Config::Get { patterns } => {
            let request = v1::ConfigGetRequest {
                run: None,
                patterns: patterns.clone(),
            };
            let reply = admin.config_get(request).await?.into_inner();
            output.show(|| json::settings(&reply), || table::settings(&reply))
        }
        Config::Set { settings, rewrite } => {
            let to_wire = |(name, value): &(String, String)| v1::Setting {
                name: name.clone(),
                value: value.clone(),
            };
            let request = v1::ConfigSetRequest {
                run: None,
                settings: settings.iter().map(to_wire).collect(),
                rewrite: *rewrite,
            };
            admin.config_set(request).await?;
            output.done("changed")
        }
    }
}

async fn log_level(
    admin: &mut Admin,
    options: &arguments::LogLevel,
    output: &Output,
) -> Result<(), RpcError> {
    let daemon = options
        .daemon
        .map_or(v1::DaemonKind::Unspecified, |kind| kind.to_wire());
    let request = v1::LogLevelRequest {
        run: None,
        level: options.level.clone(),
        daemon: daemon.into(),
    };
    admin.log_level(request).await?;
    output.done(&format!("log level is {}", options.level))
}

async fn shutdown(
    admin: &mut Admin,
    options: &arguments::Shutdown,
    output: &Output,
) -> Result<(), RpcError> {
    let save = match (options.save, options.nosave) {
        (true, _) => v1::ShutdownSave::Save,
        (_, true) => v1::ShutdownSave::Nosave,
        _ => v1::ShutdownSave::Unspecified,
    };
    let request = v1::ShutdownRequest {
        run: None,
        save: save.into(),
        now: options.now,
        force: options.force,
    };
    admin.shutdown(request).await?;
    output.done("the server is stopping")
}
