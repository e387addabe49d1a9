//! The `Replica` service: what the server asks of the agent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redrock_proto::model::HexId;
use redrock_proto::v1::replica_server::Replica;
use redrock_proto::{RpcError, v1};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::context::{Context, Position};
use crate::failover::Failover;
use crate::follow::{FirstAsk, Follower, Target};
use crate::master::Master;

const HOST_BYTES_MAX: usize = 255;
const KICKS_MAX: usize = 1024;

/// Answers the server's calls.
#[derive(Debug)]
pub(crate) struct ReplicaService {
    pub(crate) context: Arc<Context>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) master: Arc<Master>,
    pub(crate) failover: Arc<Failover>,
}

type ProgressStream = Pin<Box<dyn Stream<Item = Result<v1::Progress, Status>> + Send>>;

#[tonic::async_trait]
impl Replica for ReplicaService {
    async fn status(
        &self,
        request: Request<v1::ReplicaStatusRequest>,
    ) -> Result<Response<v1::ReplicaStatus>, Status> {
        self.context.run.check(request.into_inner().run)?;
        let link = self.follower.link().borrow().clone();
        let registry = &self.master.registry;
        Ok(Response::new(v1::ReplicaStatus {
            link: link.state.status.to_wire().into(),
            master_host: link.host,
            master_port: link.port.into(),
            received_offset: link.state.received_offset,
            spool_bytes: link.spool_bytes,
            spool_bytes_max: self.context.settings().spool_bytes(&self.context.data_dir),
            replicas: u32::try_from(registry.len()).unwrap_or(u32::MAX),
            sync_full: registry.sync_full.load(Ordering::Relaxed),
            sync_partial_ok: registry.sync_partial_ok.load(Ordering::Relaxed),
            sync_partial_err: registry.sync_partial_err.load(Ordering::Relaxed),
            sync_resumed: registry.sync_resumed.load(Ordering::Relaxed),
            last_error: link.state.last_error.unwrap_or_default(),
            failover: self.failover.is_running(),
        }))
    }

    async fn follow(
        &self,
        request: Request<v1::FollowRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let request = request.into_inner();
        self.context.run.check(request.run.clone())?;
        let failover = request.failover;
        let (target, first) = check_follow(request)?;
        self.follower.follow(target, first, failover).await;
        Ok(Response::new(v1::Empty {}))
    }

    async fn unfollow(
        &self,
        request: Request<v1::UnfollowRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        self.context.run.check(request.into_inner().run)?;
        self.follower.unfollow().await;
        Ok(Response::new(v1::Empty {}))
    }

    async fn list(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasReply>, Status> {
        self.context.run.check(request.into_inner().run)?;
        let replicas = self.master.registry.acks();
        Ok(Response::new(v1::ListReplicasReply {
            replicas: replicas.into_iter().map(v1::ReplicaAck::from).collect(),
        }))
    }

    async fn kick(
        &self,
        request: Request<v1::KickRequest>,
    ) -> Result<Response<v1::KickReply>, Status> {
        let request = request.into_inner();
        self.context.run.check(request.run)?;
        if request.client_ids.len() > KICKS_MAX {
            return Err(RpcError::invalid("client_ids must be at most 1024").into());
        }
        let kicked = self.master.registry.kick(&request.client_ids);
        Ok(Response::new(v1::KickReply { kicked }))
    }

    type FailoverStream = ProgressStream;

    async fn failover(
        &self,
        request: Request<v1::FailoverRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let request = request.into_inner();
        self.context.run.check(request.run.clone())?;
        let steps = Arc::clone(&self.failover).start(request)?;
        Ok(Response::new(Box::pin(steps)))
    }

    async fn abort_failover(
        &self,
        request: Request<v1::AbortFailoverRequest>,
    ) -> Result<Response<v1::AbortFailoverReply>, Status> {
        self.context.run.check(request.into_inner().run)?;
        Ok(Response::new(v1::AbortFailoverReply {
            aborted: self.failover.abort(),
        }))
    }
}

fn check_follow(request: v1::FollowRequest) -> Result<(Target, FirstAsk), RpcError> {
    let host_is_fine = (1..=HOST_BYTES_MAX).contains(&request.host.len())
        && !request.host.contains(|c: char| c.is_control());
    if !host_is_fine {
        return Err(RpcError::invalid("host must have 1 to 255 bytes"));
    }
    let port = |port: u32, name: &str| {
        u16::try_from(port).map_err(|_| RpcError::invalid(format!("{name} must be at most 65535")))
    };
    let target = Target {
        port: port(request.port, "port")?,
        listening_port: port(request.listening_port, "listening_port")?,
        host: request.host,
        user: request.user,
        password: request.password.to_vec(),
        announced_ip: request.announced_ip,
        tls: request.tls,
    };
    if target.port == 0 {
        return Err(RpcError::invalid("port must be 1 to 65535"));
    }
    let first = match request.replid.as_str() {
        "" => FirstAsk::FullSync,
        replid => FirstAsk::From(Position {
            replid: HexId::parse(replid)
                .ok_or_else(|| RpcError::invalid("replid must be 40 lower-case hex digits"))?,
            offset: request.offset,
        }),
    };
    Ok((target, first))
}

#[cfg(test)]
mod tests {
    use redrock_proto::ErrorCode;

    use super::*;

    fn request() -> v1::FollowRequest {
        v1::FollowRequest {
            host: "localhost".into(),
            port: 6379,
            listening_port: 7000,
            ..v1::FollowRequest::default()
        }
    }

    #[test]
    fn what_to_follow_is_checked() {
        let (target, first) = check_follow(request()).unwrap();
        assert_eq!((target.port, target.listening_port), (6379, 7000));
        assert!(matches!(first, FirstAsk::FullSync));
        let known = v1::FollowRequest {
            replid: "a".repeat(40),
            offset: 7,
            ..request()
        };
        let (_, first) = check_follow(known).unwrap();
        assert!(matches!(first, FirstAsk::From(position) if position.offset == 7));
        let broken: [fn(&mut v1::FollowRequest); 5] = [
            |request| request.host.clear(),
            |request| request.host = "a\nb".into(),
            |request| request.port = 0,
            |request| request.port = 65536,
            |request| request.replid = "x".into(),
        ];
        for breakage in broken {
            let mut request = request();
            breakage(&mut request);
            assert_eq!(check_follow(request).unwrap_err().code, ErrorCode::Invalid);
        }
    }
}
