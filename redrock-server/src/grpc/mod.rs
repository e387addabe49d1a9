//! The server's gRPC services, one file each. Wire types stop here.

pub mod admin;
pub mod load;
pub mod log;
pub mod snapshot;

use crate::server::Server;
use crate::services::Services;
use anyhow::Context as _;
use redrock_daemon::logging::LogHandle;
use redrock_daemon::tasks::Tasks;
use redrock_daemon::uds::{self, PrivateListener};
use redrock_proto::RpcError;
use redrock_proto::client::{MESSAGE_BYTES_MAX, SERVER_SOCKET};
use redrock_proto::model::RunRef;
use redrock_proto::v1::admin_server::AdminServer;
use redrock_proto::v1::load_server::LoadServer;
use redrock_proto::v1::log_server::LogServer;
use redrock_proto::v1::snapshot_server::SnapshotServer;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// What every service needs.
#[derive(Clone)]
pub struct Shared {
    /// The server.
    pub server: Arc<Server>,
    /// This run, which requests must name.
    pub run: RunRef,
    /// The data directory, which paths in messages are relative to.
    pub data_dir: std::path::PathBuf,
    /// Ends the streams.
    pub stop: CancellationToken,
}

impl Shared {
    /// Of a server whose services exist.
    pub fn new(server: &Arc<Server>, services: &Services, stop: CancellationToken) -> Self {
        Self {
            server: server.clone(),
            run: services.run,
            data_dir: services.data_dir.clone(),
            stop,
        }
    }

    /// Refuses what needs the data as long as they are being loaded.
    pub fn loaded(&self) -> Result<(), RpcError> {
        if self.server.loading.is_active() {
            return Err(RpcError::unavailable("the data is being loaded"));
        }
        Ok(())
    }

    /// The companions' side.
    pub fn services(&self) -> Result<&Arc<Services>, RpcError> {
        let absent = || RpcError::unavailable("the server's services have not started");
        self.server.services.get().ok_or_else(absent)
    }
}

/// Serves everything on `server.sock` as tasks of their own, until these are told to stop. An
/// error means that the socket can't be had.
pub async fn serve(server: &Arc<Server>, tasks: &Tasks, log: LogHandle) -> anyhow::Result<()> {
    let services = server.services.get().context("start the services first")?;
    let listener = PrivateListener::bind(&services.socket_dir.join(SERVER_SOCKET))?;
    let shared = Shared::new(server, services, tasks.token());
    let snapshot = Arc::new(snapshot::SnapshotService::new(shared.clone()));
    let log_service = log::LogService::new(shared.clone());
    let load = load::LoadService::new(shared.clone());
    let admin = admin::AdminService::new(shared, log);
    let (health, routes) = uds::base_routes(&[redrock_proto::FILE_DESCRIPTOR_SET])?;
    let routes = routes
        .add_service(
            SnapshotServer::from_arc(snapshot.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(LogServer::new(log_service).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(LoadServer::new(load).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(AdminServer::new(admin).max_decoding_message_size(MESSAGE_BYTES_MAX));
    health
        .set_serving::<SnapshotServer<snapshot::SnapshotService>>()
        .await;
    health.set_serving::<LogServer<log::LogService>>().await;
    health.set_serving::<LoadServer<load::LoadService>>().await;
    health
        .set_serving::<AdminServer<admin::AdminService>>()
        .await;
    let stop = tasks.token();
    tasks.spawn(
        "tier health",
        tell_tier(server.clone(), health, stop.clone()),
    );
    tasks.spawn("checkpoint leases", expire_leases(snapshot, stop.clone()));
    tasks.spawn_critical("server socket", uds::serve(listener, routes, stop));
    Ok(())
}

/// The name under which `grpc.health.v1` tells of the tier.
pub const TIER_HEALTH: &str = "redrock.tier";

/// Serving while the tier takes values; unknown without a tier.
async fn tell_tier(server: Arc<Server>, reporter: HealthReporter, stop: CancellationToken) {
    let mut told = None;
    loop {
        let status = server.memory.tier_health().map(|health| {
            if health.refuses_spills() {
                ServingStatus::NotServing
            } else {
                ServingStatus::Serving
            }
        });
        if let Some(status) = status
            && told != Some(status)
        {
            reporter.set_service_status(TIER_HEALTH, status).await;
            told = Some(status);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn expire_leases(snapshot: Arc<snapshot::SnapshotService>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => snapshot.expire_leases(),
            () = stop.cancelled() => return,
        }
    }
}
