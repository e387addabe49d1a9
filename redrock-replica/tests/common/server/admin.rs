//! Replication and settings; the rest of Admin is not the agent's.

use redrock_proto::v1;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response};

use super::{BoxStream, Reply, Service, unused};

#[tonic::async_trait]
impl v1::admin_server::Admin for Service {
    async fn replication(
        &self,
        _: Request<v1::AdminReplicationRequest>,
    ) -> Reply<v1::AdminReplication> {
        let loaded = self.0.loaded.borrow().clone();
        let master = self.0.master.lock().unwrap().clone();
        let mut log = self.0.log.borrow().clone();
        if master.is_some() {
            log.role = v1::Role::Replica.into();
            log.replid = loaded.replid;
            log.written_offset = loaded.applied;
        }
        let (master_host, master_port) = master.unwrap_or_default();
        Ok(Response::new(v1::AdminReplication {
            log: Some(log),
            master_host,
            master_port,
            applied_offset: loaded.applied,
            ..v1::AdminReplication::default()
        }))
    }
    type WatchConfigStream = BoxStream<v1::ConfigUpdate>;
    async fn watch_config(
        &self,
        _: Request<v1::WatchConfigRequest>,
    ) -> Reply<Self::WatchConfigStream> {
        let updates = WatchStream::new(self.0.settings.subscribe()).map(|settings| {
            let setting = |(name, value)| v1::Setting { name, value };
            Ok(v1::ConfigUpdate {
                complete: true,
                settings: settings.into_iter().map(setting).collect(),
            })
        });
        Ok(Response::new(Box::pin(updates)))
    }
    async fn status(&self, _: Request<v1::AdminStatusRequest>) -> Reply<v1::AdminStatus> {
        unused()
    }
    async fn memory(&self, _: Request<v1::AdminMemoryRequest>) -> Reply<v1::AdminMemory> {
        unused()
    }
    async fn tier(&self, _: Request<v1::AdminTierRequest>) -> Reply<v1::AdminTier> {
        unused()
    }
    type SnapshotStream = BoxStream<v1::Progress>;
    async fn snapshot(&self, _: Request<v1::AdminSnapshotRequest>) -> Reply<Self::SnapshotStream> {
        unused()
    }
    type RewriteStream = BoxStream<v1::Progress>;
    async fn rewrite(&self, _: Request<v1::AdminRewriteRequest>) -> Reply<Self::RewriteStream> {
        unused()
    }
    async fn backups(&self, _: Request<v1::AdminBackupsRequest>) -> Reply<v1::AdminBackups> {
        unused()
    }
    type FailoverStream = BoxStream<v1::Progress>;
    async fn failover(&self, _: Request<v1::AdminFailoverRequest>) -> Reply<Self::FailoverStream> {
        unused()
    }
    async fn config_get(&self, _: Request<v1::ConfigGetRequest>) -> Reply<v1::ConfigGetReply> {
        unused()
    }
    async fn config_set(&self, _: Request<v1::ConfigSetRequest>) -> Reply<v1::Empty> {
        unused()
    }
    async fn log_level(&self, _: Request<v1::LogLevelRequest>) -> Reply<v1::Empty> {
        unused()
    }
    type DrainStream = BoxStream<v1::Progress>;
    async fn drain(&self, _: Request<v1::DrainRequest>) -> Reply<Self::DrainStream> {
        unused()
    }
    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Reply<v1::Empty> {
        unused()
    }
}
