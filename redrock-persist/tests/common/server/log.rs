//! The log's state and the offers of segments.

use std::pin::Pin;

use futures::Stream;
use redrock_proto::v1;
use redrock_proto::v1::log_server::Log;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::FakeServer;

type LogStates = Pin<Box<dyn Stream<Item = Result<v1::LogState, Status>> + Send>>;

#[tonic::async_trait]
impl Log for FakeServer {
    type WatchStream = LogStates;

    async fn watch(
        &self,
        request: Request<v1::WatchLogRequest>,
    ) -> Result<Response<LogStates>, Status> {
        self.run.check(request.into_inner().run)?;
        let mut states = self.log_states.subscribe();
        states.mark_changed();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while states.changed().await.is_ok() {
                let state = v1::LogState::from(states.borrow_and_update().clone());
                if sender.send(Ok(state)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn offer_segment(
        &self,
        request: Request<v1::OfferSegmentRequest>,
    ) -> Result<Response<v1::OfferSegmentReply>, Status> {
        let request = request.into_inner();
        self.run.check(request.run)?;
        let mut state = self.state.lock();
        let current = state.log.segment.as_ref().map_or(0, |segment| segment.seq);
        let result = if request.seq == current {
            v1::OfferResult::InUse
        } else if request.seq < current {
            v1::OfferResult::Refused
        } else {
            state.offered = Some((request.seq, request.path));
            v1::OfferResult::Accepted
        };
        Ok(Response::new(v1::OfferSegmentReply {
            result: result.into(),
            seq_min: current + 1,
        }))
    }

    async fn replica_acks(
        &self,
        _: Request<tonic::Streaming<v1::ReplicaAcksRequest>>,
    ) -> Result<Response<v1::Empty>, Status> {
        Err(Status::unimplemented("replica acks"))
    }

    async fn segments_listed(
        &self,
        request: Request<v1::SegmentsListedRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.state.lock().listed.push(request.into_inner());
        Ok(Response::new(v1::Empty {}))
    }
}
