//! `Admin`: the one door for operators, and the source of settings for the companions.

mod actions;
mod settings;
mod status;

use super::Shared;
use redrock_daemon::logging::LogHandle;
use redrock_proto::v1::{self, admin_server};
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Reply<T> = Result<Response<T>, Status>;

/// The service.
pub struct AdminService {
    shared: Shared,
    log: LogHandle,
}

impl AdminService {
    /// The service of one server; `log` is where LogLevel goes.
    pub fn new(shared: Shared, log: LogHandle) -> Self {
        Self { shared, log }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    type SnapshotStream = Messages<v1::Progress>;
    type RewriteStream = Messages<v1::Progress>;
    type FailoverStream = Messages<v1::Progress>;
    type DrainStream = Messages<v1::Progress>;
    type WatchConfigStream = Messages<v1::ConfigUpdate>;

    async fn status(&self, request: Request<v1::AdminStatusRequest>) -> Reply<v1::AdminStatus> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        Ok(Response::new(status::status(&self.shared).await))
    }

    async fn memory(&self, request: Request<v1::AdminMemoryRequest>) -> Reply<v1::AdminMemory> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        let shared = self.shared.clone();
        // PSS takes about a millisecond a gigabyte.
        let memory = tokio::task::spawn_blocking(move || status::memory(&shared)).await;
        memory
            .map(Response::new)
            .map_err(|error| Status::internal(error.to_string()))
    }

    async fn tier(&self, request: Request<v1::AdminTierRequest>) -> Reply<v1::AdminTier> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        let shared = self.shared.clone();
        let tier = tokio::task::spawn_blocking(move || status::tier(&shared)).await;
        tier.map(Response::new)
            .map_err(|error| Status::internal(error.to_string()))
    }

    async fn snapshot(
        &self,
        request: Request<v1::AdminSnapshotRequest>,
    ) -> Reply<Self::SnapshotStream> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        actions::snapshot(&self.shared, wire).await
    }

    async fn rewrite(
        &self,
        request: Request<v1::AdminRewriteRequest>,
    ) -> Reply<Self::RewriteStream> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        actions::rewrite(&self.shared).await
    }

    async fn backups(&self, request: Request<v1::AdminBackupsRequest>) -> Reply<v1::AdminBackups> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        actions::backups(&self.shared).await
    }

    async fn replication(
        &self,
        request: Request<v1::AdminReplicationRequest>,
    ) -> Reply<v1::AdminReplication> {
        self.shared.run.check_if_set(request.into_inner().run)?;
        // Where the stream stands is known only then, and the agent goes by it.
        self.shared.loaded()?;
        Ok(Response::new(status::replication(&self.shared)))
    }

    async fn failover(
        &self,
        request: Request<v1::AdminFailoverRequest>,
    ) -> Reply<Self::FailoverStream> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        self.shared.loaded()?;
        actions::failover(&self.shared, wire).await
    }

    async fn config_get(
        &self,
        request: Request<v1::ConfigGetRequest>,
    ) -> Reply<v1::ConfigGetReply> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        settings::get(&self.shared, &wire)
    }

    async fn config_set(&self, request: Request<v1::ConfigSetRequest>) -> Reply<v1::Empty> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        settings::set(&self.shared, wire).await
    }

    async fn watch_config(
        &self,
        request: Request<v1::WatchConfigRequest>,
    ) -> Reply<Self::WatchConfigStream> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run)?;
        settings::watch(&self.shared, &wire.names)
    }

    async fn log_level(&self, request: Request<v1::LogLevelRequest>) -> Reply<v1::Empty> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        settings::log_level(&self.shared, &self.log, wire).await
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Reply<Self::DrainStream> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        actions::drain(&self.shared, wire.timeout_ms)
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Reply<v1::Empty> {
        let wire = request.into_inner();
        self.shared.run.check_if_set(wire.run.clone())?;
        actions::shutdown(&self.shared, &wire).await
    }
}
