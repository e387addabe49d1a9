//! FAILOVER: handing the master's role to a replica that has all we have.
//!
//! The server holds writes back. We wait until a replica has acknowledged our
//! offset, make the server a replica of it, and say `PSYNC ... FAILOVER` to it.
//! If it refuses the role, or can't be reached, the server is made a master
//! again. Once it has been asked it may have taken the role, even if its answer
//! got lost: then only a refusal or an operator's abort leads back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redrock_proto::model::{HexId, LinkStatus, LogState, ReplicaAck, ReplicaState, Role};
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::context::{Context, Position};
use crate::follow::{FirstAsk, Follower, Target};
use crate::master::registry::Registry;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// For the target to be reached.
const PROMOTION_TIME_MAX: Duration = Duration::from_secs(10);

/// At most one failover.
#[derive(Debug)]
pub(crate) struct Failover {
    context: Arc<Context>,
    follower: Arc<Follower>,
    registry: Arc<Registry>,
    running: Mutex<Option<CancellationToken>>,
}

type Steps = mpsc::Sender<Result<v1::Progress, Status>>;

impl Failover {
    pub(crate) fn new(
        context: Arc<Context>,
        follower: Arc<Follower>,
        registry: Arc<Registry>,
    ) -> Failover {
        Failover {
            context,
            follower,
            registry,
            running: Mutex::new(None),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Ends the failover: the server stays, or becomes again, the master.
    pub(crate) fn abort(&self) -> bool {
        match &*self.running.lock() {
            Some(token) => {
                let is_first = !token.is_cancelled();
                token.cancel();
                is_first
            }
            None => false,
        }
    }

    /// Begins a failover whose steps the stream tells.
    pub(crate) fn start(
        self: Arc<Failover>,
        request: v1::FailoverRequest,
    ) -> Result<impl Stream<Item = Result<v1::Progress, Status>> + Send + 'static, RpcError> {
        let has_target = !request.host.is_empty() && request.port != 0;
        if request.force && (!has_target || request.timeout_ms == 0) {
            return Err(RpcError::invalid("force needs a target and a timeout"));
        }
        if request.timeout_ms > 3_600_000 {
            return Err(RpcError::invalid("timeout_ms must be at most 3600000"));
        }
        let token = self.context.tasks.token().child_token();
        {
            let mut running = self.running.lock();
            if running.is_some() {
                return Err(RpcError::busy("a failover is running already"));
            }
            *running = Some(token.clone());
        }
        let (sender, steps) = mpsc::channel(8);
        let failover = Arc::clone(&self);
        self.context.tasks.spawn("failover", async move {
            let result = failover.run(&request, &token, &sender).await;
            *failover.running.lock() = None;
            let last = result.map_err(Status::from);
            // The caller may have left; the outcome shows in its role.
            let _unheard = sender.send(last).await;
        });
        Ok(ReceiverStream::new(steps))
    }

    async fn run(
        &self,
        request: &v1::FailoverRequest,
        token: &CancellationToken,
        steps: &Steps,
    ) -> Result<v1::Progress, RpcError> {
        let began = Instant::now();
        let (target, position) = loop {
            let (replica, offset) = self.wait_for_replica(request, token, steps, began).await?;
            if let Some(chosen) = self.demote(request.number, &replica, offset).await? {
                break chosen;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        self.follower
            .follow(target, FirstAsk::From(position), true)
            .await;
        if let Err(why) = self.promotion(token).await {
            return Err(self.take_back(request.number, why).await);
        }
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(v1::Progress {
            phase: v1::Phase::Done.into(),
            elapsed_ms,
            outcome: Some(v1::Outcome {
                replid: position.replid.to_string(),
                offset: position.offset,
                elapsed_ms,
                ..v1::Outcome::default()
            }),
            ..v1::Progress::default()
        })
    }

    /// Makes the server the replica's replica, if its stream still ends at `offset` (`None`:
    /// wherever it ends). `None` if it does not.
    async fn demote(
        &self,
        failover: u64,
        replica: &ReplicaAck,
        offset: Option<u64>,
    ) -> Result<Option<(Target, Position)>, RpcError> {
        let (host, port) =
            address_of(replica).ok_or_else(|| RpcError::invalid("the replica tells no address"))?;
        let demote = v1::DemoteRequest {
            run: self.context.run.to_wire(),
            master_host: host.clone(),
            master_port: port.into(),
            expected_offset: offset,
            failover,
        };
        let demoted = self.context.server.load().demote(demote).await;
        let reply = match self.context.checked(demoted) {
            Ok(reply) => reply.into_inner(),
            Err(error) if error.code == ErrorCode::Busy => return Ok(None),
            Err(error) if error.code == ErrorCode::Invalid => return Err(error),
            // It may have happened, or happen yet.
            Err(error) => return Err(self.take_back(failover, &error.to_string()).await),
        };
        tracing::info!(host, port, "failover to a replica begins");
        let replid = HexId::parse(&reply.replid)
            .ok_or_else(|| RpcError::internal("the server can't say where its stream ends"))?;
        let settings = self.context.settings();
        let target = Target {
            host,
            port,
            user: settings.masteruser.clone(),
            password: settings.masterauth.clone(),
            listening_port: settings.listening_port(),
            announced_ip: settings.replica_announce_ip,
            tls: settings.tls_replication,
        };
        let position = Position {
            replid,
            offset: reply.offset,
        };
        Ok(Some((target, position)))
    }

    /// Until the target has taken the role; the error is why it does not. Once it has been asked
    /// there is no way back but a refusal or an abort: it may be a master already.
    async fn promotion(&self, token: &CancellationToken) -> Result<(), &'static str> {
        let mut link = self.follower.link();
        let decided = link.wait_for(|link| link.is_refused || has_taken(link.state.status));
        let decided = async { decided.await.is_ok_and(|link| !link.is_refused) };
        let unreachable = async {
            tokio::time::sleep(PROMOTION_TIME_MAX).await;
            if self.follower.link().borrow().is_asked {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            has_taken = decided => match has_taken {
                true => Ok(()),
                false => Err("Failover target rejected psync request"),
            },
            () = token.cancelled() => Err("Failover manually aborted"),
            () = unreachable => Err("the replica can't be reached"),
        }
    }

    /// A replica that has all, and up to where; with `force` the target when time is up, wherever
    /// it is.
    async fn wait_for_replica(
        &self,
        request: &v1::FailoverRequest,
        token: &CancellationToken,
        steps: &Steps,
        began: Instant,
    ) -> Result<(ReplicaAck, Option<u64>), RpcError> {
        let mut told = began;
        loop {
            let log = self.log()?;
            if log.role != Role::Master {
                return Err(RpcError::invalid("only a master can fail over"));
            }
            let meant: Vec<ReplicaAck> = self
                .registry
                .acks()
                .into_iter()
                .filter(|replica| is_meant(replica, request))
                .collect();
            if meant.is_empty() {
                return Err(RpcError::not_found("no such replica is attached"));
            }
            if let Some(replica) = meant.iter().find(|r| has_all(r, log.written_offset)) {
                return Ok((replica.clone(), Some(replica.acked_offset)));
            }
            let is_over = request.timeout_ms > 0
                && began.elapsed() >= Duration::from_millis(request.timeout_ms);
            if is_over {
                return match (request.force, meant.into_iter().next()) {
                    (true, Some(replica)) => {
                        let (host, port) = (&request.host, request.port);
                        tracing::info!(
                            "FAILOVER to {host}:{port} time out exceeded, failing over."
                        );
                        Ok((replica, None))
                    }
                    _ => Err(RpcError::timeout("Replica never caught up before timeout")),
                };
            }
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                let step = v1::Progress {
                    phase: v1::Phase::Waiting.into(),
                    elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                    note: "waiting for a replica to catch up".to_owned(),
                    ..v1::Progress::default()
                };
                // A caller that left, or reads slowly, misses steps only.
                let _missed = steps.try_send(Ok(step));
            }
            tokio::select! {
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = token.cancelled() => return Err(RpcError::cancelled("Failover manually aborted")),
            }
        }
    }

    /// The target did not take the role: the server is a master again.
    async fn take_back(&self, failover: u64, why: &str) -> RpcError {
        self.follower.unfollow().await;
        let request = v1::PromoteRequest {
            run: self.context.run.to_wire(),
            wait_offset: None,
            timeout_ms: 0,
            failover: Some(failover),
        };
        let promoted = self.context.server.load().promote(request).await;
        match self.context.checked(promoted) {
            Ok(_) => RpcError::cancelled(format!("{why}; still the master")),
            Err(error) => {
                RpcError::internal(format!("{why}, and promoting ourselves failed: {error}"))
            }
        }
    }

    fn log(&self) -> Result<LogState, RpcError> {
        let log = self.context.log.borrow().clone();
        log.ok_or_else(|| RpcError::unavailable("the log's state is unknown"))
    }
}

/// A master that has taken over answers with a stream, or at worst with a snapshot.
fn has_taken(status: LinkStatus) -> bool {
    matches!(status, LinkStatus::Connected | LinkStatus::Sync)
}

fn has_all(replica: &ReplicaAck, written_offset: u64) -> bool {
    replica.state == ReplicaState::Online && replica.acked_offset >= written_offset
}

fn is_meant(replica: &ReplicaAck, request: &v1::FailoverRequest) -> bool {
    if request.host.is_empty() || request.port == 0 {
        return true;
    }
    address_of(replica).is_some_and(|(host, port)| {
        u32::from(port) == request.port && host.eq_ignore_ascii_case(&request.host)
    })
}

/// Where a replica listens, as INFO shows it.
fn address_of(replica: &ReplicaAck) -> Option<(String, u16)> {
    let host = match replica.announced_ip.as_str() {
        "" => replica.address.rsplit_once(':')?.0.trim_matches(['[', ']']),
        announced => announced,
    };
    (replica.listening_port != 0).then(|| (host.to_owned(), replica.listening_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(state: ReplicaState, acked_offset: u64) -> ReplicaAck {
        ReplicaAck {
            client_id: 1,
            state,
            acked_offset,
            fsynced_offset: 0,
            sent_offset: acked_offset,
            acked_unix_ms: 1,
            address: "[::1]:4000".into(),
            listening_port: 7001,
            announced_ip: String::new(),
        }
    }

    #[test]
    fn only_an_online_replica_with_all_bytes_takes_over() {
        assert!(has_all(&replica(ReplicaState::Online, 10), 10));
        assert!(!has_all(&replica(ReplicaState::Online, 9), 10));
        assert!(!has_all(&replica(ReplicaState::SendBase, 10), 10));
    }

    #[test]
    fn a_target_is_named_as_info_shows_it() {
        let mut named = v1::FailoverRequest {
            host: "::1".into(),
            port: 7001,
            ..v1::FailoverRequest::default()
        };
        let mut replica = replica(ReplicaState::Online, 1);
        assert!(is_meant(&replica, &named));
        assert!(is_meant(&replica, &v1::FailoverRequest::default()));
        replica.announced_ip = "redis-2".into();
        assert!(!is_meant(&replica, &named));
        named.host = "REDIS-2".into();
        assert!(is_meant(&replica, &named));
    }
}
