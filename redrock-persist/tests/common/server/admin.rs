//! Settings; the rest of Admin is not the persister's.

use std::pin::Pin;

use futures::Stream;
use redrock_proto::v1;
use redrock_proto::v1::admin_server::Admin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::FakeServer;

type Updates = Pin<Box<dyn Stream<Item = Result<v1::ConfigUpdate, Status>> + Send>>;
type NoProgress = Pin<Box<dyn Stream<Item = Result<v1::Progress, Status>> + Send>>;

macro_rules! unimplemented_calls {
    ($($name:ident($request:ty) -> $reply:ty;)*) => {
        #[tonic::async_trait]
        impl Admin for FakeServer {
            type SnapshotStream = NoProgress;
            type RewriteStream = NoProgress;
            type FailoverStream = NoProgress;
            type DrainStream = NoProgress;
            type WatchConfigStream = Updates;

            async fn watch_config(
                &self,
                request: Request<v1::WatchConfigRequest>,
            ) -> Result<Response<Updates>, Status> {
                self.run.check(request.into_inner().run)?;
                Ok(Response::new(self.updates()))
            }
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

unimplemented_calls! {
    status(v1::AdminStatusRequest) -> v1::AdminStatus;
    memory(v1::AdminMemoryRequest) -> v1::AdminMemory;
    tier(v1::AdminTierRequest) -> v1::AdminTier;
    snapshot(v1::AdminSnapshotRequest) -> NoProgress;
    rewrite(v1::AdminRewriteRequest) -> NoProgress;
    backups(v1::AdminBackupsRequest) -> v1::AdminBackups;
    replication(v1::AdminReplicationRequest) -> v1::AdminReplication;
    failover(v1::AdminFailoverRequest) -> NoProgress;
    config_get(v1::ConfigGetRequest) -> v1::ConfigGetReply;
    config_set(v1::ConfigSetRequest) -> v1::Empty;
    log_level(v1::LogLevelRequest) -> v1::Empty;
    drain(v1::DrainRequest) -> NoProgress;
    shutdown(v1::ShutdownRequest) -> v1::Empty;
}

impl FakeServer {
    fn updates(&self) -> Updates {
        let mut settings = self.settings.subscribe();
        settings.mark_changed();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while settings.changed().await.is_ok() {
                let update = v1::ConfigUpdate {
                    complete: true,
                    settings: settings
                        .borrow_and_update()
                        .iter()
                        .map(|(name, value)| v1::Setting {
                            name: name.clone(),
                            value: value.clone(),
                        })
                        .collect(),
                };
                if sender.send(Ok(update)).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}
