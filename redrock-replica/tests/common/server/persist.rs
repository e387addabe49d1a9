//! A base on demand, and pins.

use redrock_proto::v1;
use tonic::{Request, Response, Status};

use super::{BoxStream, Reply, Service, unused};

#[tonic::async_trait]
impl v1::persist_server::Persist for Service {
    type GetBaseStream = BoxStream<v1::GetBaseReply>;
    async fn get_base(&self, request: Request<v1::GetBaseRequest>) -> Reply<Self::GetBaseStream> {
        let request = request.into_inner();
        self.check(request.run)?;
        let Some(base) = self.0.base.lock().unwrap().clone() else {
            return Err(Status::failed_precondition("no base"));
        };
        let mut pinned = self.0.pinned.lock().unwrap();
        pinned.retain(|pin| *pin != request.holder);
        pinned.push(request.holder.clone());
        drop(pinned);
        let base = v1::Base {
            holder: request.holder,
            ..base
        };
        // As if it had to be made: progress first, and long enough for the
        // newlines that keep a waiting replica.
        let steps = futures::stream::unfold(0, move |step| {
            let base = base.clone();
            async move {
                let reply = match step {
                    0 => v1::get_base_reply::Reply::Progress(v1::Progress::default()),
                    1 => {
                        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
                        v1::get_base_reply::Reply::Base(base)
                    }
                    _ => return None,
                };
                Some((Ok(v1::GetBaseReply { reply: Some(reply) }), step + 1))
            }
        });
        Ok(Response::new(Box::pin(steps)))
    }
    async fn pin(&self, request: Request<v1::PinRequest>) -> Reply<v1::PinReply> {
        let request = request.into_inner();
        self.check(request.run)?;
        let mut pinned = self.0.pinned.lock().unwrap();
        pinned.retain(|pin| *pin != request.holder);
        pinned.push(request.holder);
        Ok(Response::new(v1::PinReply::default()))
    }
    async fn unpin(&self, request: Request<v1::UnpinRequest>) -> Reply<v1::Empty> {
        let holder = request.into_inner().holder;
        self.0.pinned.lock().unwrap().retain(|pin| *pin != holder);
        Ok(Response::new(v1::Empty {}))
    }
    type SaveStream = BoxStream<v1::Progress>;
    async fn save(&self, _: Request<v1::SaveRequest>) -> Reply<Self::SaveStream> {
        unused()
    }
    type RewriteStream = BoxStream<v1::Progress>;
    async fn rewrite(&self, _: Request<v1::RewriteRequest>) -> Reply<Self::RewriteStream> {
        unused()
    }
    async fn abort(&self, _: Request<v1::AbortRequest>) -> Reply<v1::AbortReply> {
        unused()
    }
    async fn status(&self, _: Request<v1::PersistStatusRequest>) -> Reply<v1::PersistStatus> {
        unused()
    }
    type EnableAppendOnlyStream = BoxStream<v1::Progress>;
    async fn enable_append_only(
        &self,
        _: Request<v1::EnableAppendOnlyRequest>,
    ) -> Reply<Self::EnableAppendOnlyStream> {
        unused()
    }
    async fn disable_append_only(
        &self,
        _: Request<v1::DisableAppendOnlyRequest>,
    ) -> Reply<v1::Empty> {
        unused()
    }
    type VerifyStream = BoxStream<v1::Progress>;
    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Reply<Self::VerifyStream> {
        unused()
    }
    async fn list(&self, _: Request<v1::ListFilesRequest>) -> Reply<v1::ListFilesReply> {
        unused()
    }
    type BackupStream = BoxStream<v1::Progress>;
    async fn backup(&self, _: Request<v1::BackupRequest>) -> Reply<Self::BackupStream> {
        unused()
    }
}
