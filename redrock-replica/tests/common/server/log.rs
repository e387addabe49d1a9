//! The log, and what the agent says of replicas.

use redrock_proto::v1;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Streaming};

use super::{BoxStream, Reply, Service, unused};

#[tonic::async_trait]
impl v1::log_server::Log for Service {
    type WatchStream = BoxStream<v1::LogState>;
    async fn watch(&self, request: Request<v1::WatchLogRequest>) -> Reply<Self::WatchStream> {
        self.check(request.into_inner().run)?;
        let states = WatchStream::new(self.0.log.subscribe());
        Ok(Response::new(Box::pin(states.map(Ok))))
    }
    async fn offer_segment(
        &self,
        _: Request<v1::OfferSegmentRequest>,
    ) -> Reply<v1::OfferSegmentReply> {
        unused()
    }
    async fn replica_acks(
        &self,
        request: Request<Streaming<v1::ReplicaAcksRequest>>,
    ) -> Reply<v1::Empty> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap();
        self.check(first.run)?;
        while let Ok(Some(message)) = messages.message().await {
            self.0.acks.send_replace(message.replicas);
        }
        self.0.acks.send_replace(vec![]);
        Ok(Response::new(v1::Empty {}))
    }
    async fn segments_listed(&self, _: Request<v1::SegmentsListedRequest>) -> Reply<v1::Empty> {
        unused()
    }
}
