//! FAILOVER: the server's side. It holds writes back; the agent waits for a replica that has
//! everything, makes us its replica ([`demote`]) and makes it the master.
//!
//! Nothing that was acknowledged is lost: from the pause on nothing is appended (expiry and
//! eviction rest, no PING is sent), and the role changes only if the stream still ends where the
//! replica is.

use super::commands::{self, Target};
use super::follow::{self, StreamEnd};
use crate::server::Server;
use crate::services::Services;
use crate::state::{PauseBy, PauseMode};
use redrock_proto::{ErrorCode, RpcError, v1};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Streaming;

/// `master_failover_state`
const NONE: &str = "no-failover";
const WAITING: &str = "waiting-for-sync";
const DEMOTED: &str = "failover-in-progress";

/// Progress that a caller has not taken.
const STEPS_MAX: usize = 8;
/// How long an aborted failover may take to end.
const ABORT_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Whom to fail over to, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Address and port as INFO shows them; `None`: whoever has caught up first.
    pub to: Option<(String, u16)>,
    /// When to give up; 0: never.
    pub timeout_ms: u64,
    /// Then take the target although it lags.
    pub force: bool,
}

/// The steps of a failover, the outcome last.
pub type Steps = mpsc::Receiver<Result<v1::Progress, RpcError>>;

impl Server {
    /// Whether a failover is under way.
    pub fn is_failing_over(&self) -> bool {
        self.state.replication.lock().failover != NONE
    }
}

/// A failover that has begun: writes are held back until it is dropped.
#[derive(Debug)]
pub struct Running {
    server: Arc<Server>,
    number: u64,
}

impl Running {
    /// Begins one, with the keyspace held; `None` if one is under way.
    pub fn begin(server: &Arc<Server>) -> Option<Self> {
        let mut replication = server.state.replication.lock();
        if replication.failover != NONE {
            return None;
        }
        replication.failover = WAITING;
        replication.failovers += 1;
        replication.may_demote = true;
        let number = replication.failovers;
        drop(replication);
        let pause = &server.state.pause;
        pause.start(PauseBy::Failover, i64::MAX, PauseMode::Write);
        Some(Self {
            server: server.clone(),
            number,
        })
    }

    fn is_demoted(&self) -> bool {
        self.server.state.replication.lock().failover == DEMOTED
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut replication = self.server.state.replication.lock();
        replication.failover = NONE;
        replication.may_demote = false;
        drop(replication);
        self.server.state.pause.lift(PauseBy::Failover);
    }
}

/// What has not made us a replica by now does so no more: the call of an agent that no longer waits for
/// the answer may still wait for the keyspace.
pub fn refuse_demotion(server: &Server) {
    server.state.replication.lock().may_demote = false;
}

/// Whether the failover of that number is under way.
pub fn is_present(server: &Server, number: u64) -> bool {
    let replication = server.state.replication.lock();
    replication.failover != NONE && replication.failovers == number
}

/// That a failover is not, to those who act for it.
pub fn over() -> RpcError {
    RpcError::invalid("that failover is over")
}

/// For the agent: makes us a replica, if the stream ends at `expected` (BUSY), and the failover of
/// that number still waits for that (INVALID).
pub fn demote(
    server: &Server,
    number: u64,
    (host, port): (&str, u16),
    expected: Option<u64>,
) -> Result<Option<StreamEnd>, RpcError> {
    let mut keyspace = server.keyspace.lock();
    let offset = server.log.appended_offset();
    if expected.is_some_and(|expected| expected != offset) {
        return Err(RpcError::busy(format!("the stream is at {offset}")));
    }
    {
        // In one hold with the look: else the failover might end in between.
        let mut replication = server.state.replication.lock();
        if replication.failovers != number {
            return Err(over());
        }
        if !std::mem::take(&mut replication.may_demote) {
            return Err(RpcError::invalid("no failover waits for it any more"));
        }
        replication.failover = DEMOTED;
    }
    Ok(follow::demote(server, &mut keyspace, host, port))
}

/// Asks the agent to begin. The error means that nothing has changed.
pub async fn start(
    services: &Arc<Services>,
    running: Running,
    wanted: Wanted,
) -> Result<Steps, RpcError> {
    let (host, port) = wanted.to.clone().unwrap_or_default();
    let request = v1::FailoverRequest {
        run: services.run.to_wire(),
        host: host.clone(),
        port: port.into(),
        timeout_ms: wanted.timeout_ms,
        force: wanted.force,
        number: running.number,
    };
    match wanted.to {
        Some(_) => tracing::info!("FAILOVER requested to {host}:{port}."),
        None => tracing::info!("FAILOVER requested to any replica."),
    }
    let stream = services.replica().failover(request).await?.into_inner();
    let (sender, steps) = mpsc::channel(STEPS_MAX);
    let services = services.clone();
    services.handle.clone().spawn(async move {
        let result = follow(stream, &sender).await;
        let last = finish(&services, running, result).await;
        // The caller may have left: the outcome shows in the role.
        let _unheard = sender.send(last).await;
    });
    Ok(steps)
}

/// Passes the steps on; the last one is the outcome.
async fn follow(
    mut stream: Streaming<v1::Progress>,
    steps: &mpsc::Sender<Result<v1::Progress, RpcError>>,
) -> Result<v1::Progress, RpcError> {
    loop {
        match stream.message().await? {
            Some(step) if step.phase == i32::from(v1::Phase::Done) => return Ok(step),
            // A caller that reads slowly misses steps only.
            Some(step) => drop(steps.try_send(Ok(step))),
            None => return Err(RpcError::unavailable("the replication agent went away")),
        }
    }
}

async fn finish(
    services: &Arc<Services>,
    running: Running,
    result: Result<v1::Progress, RpcError>,
) -> Result<v1::Progress, RpcError> {
    let server = running.server.clone();
    refuse_demotion(&server);
    let link = {
        // One that has been let through comes to its end first.
        let _keyspace = server.keyspace_when_idle().await;
        server.state.replication.lock().master.clone()
    };
    match (&result, link) {
        (Ok(_), Some(link)) => {
            tracing::info!("Failover to {}:{} done.", link.host, link.port);
            let target = Target::Master(link.host, link.port);
            commands::note_in_settings(&server, target).await;
        }
        (Err(error), Some(link)) if running.is_demoted() => {
            // The agent died between: whether the other one has become a master is not known. It
            // is asked again, and only ever one of us writes.
            tracing::warn!(%error, "FAILOVER goes on without its agent");
            let position = {
                let _keyspace = server.keyspace_when_idle().await;
                (server.log.state().replid, server.log.appended_offset())
            };
            let master = (link.host.as_str(), link.port);
            commands::ask_to_follow(&server, services, master, Some(position), true).await;
            let target = Target::Master(link.host.clone(), link.port);
            commands::note_in_settings(&server, target).await;
        }
        (Err(error), _) => tracing::info!("FAILOVER aborted: {}", error.message),
        (Ok(_), None) => {}
    }
    drop(running);
    server.refresh_gates();
    result
}

/// Ends the failover under way; false if there is none. It is over when this returns.
pub async fn abort(services: &Services, server: &Server) -> Result<bool, RpcError> {
    if !server.is_failing_over() {
        return Ok(false);
    }
    let request = v1::AbortFailoverRequest {
        run: services.run.to_wire(),
    };
    services.replica().abort_failover(request).await?;
    let ended = async {
        while server.is_failing_over() {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(ABORT_WAIT, ended).await {
        Ok(()) => Ok(true),
        Err(_) => Err(RpcError::new(
            ErrorCode::Timeout,
            "the failover does not end",
        )),
    }
}

/// Why a failover can't begin, in Redis's words and order.
pub fn refusal(server: &Server, services: &Services, wanted: &Wanted) -> Option<&'static str> {
    if server.is_failing_over() {
        return Some("ERR FAILOVER already in progress.");
    }
    if server.is_replica() {
        return Some("ERR FAILOVER is not valid when server is a replica.");
    }
    let replicas = services.replicas.list();
    if replicas.is_empty() {
        return Some("ERR FAILOVER requires connected replicas.");
    }
    if wanted.force && (wanted.timeout_ms == 0 || wanted.to.is_none()) {
        return Some(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        );
    }
    let (host, port) = wanted.to.as_ref()?;
    let named = replicas.iter().find(|replica| {
        let address = match replica.announced_ip.as_str() {
            "" => replica
                .address
                .rsplit_once(':')
                .map_or("", |(host, _)| host),
            announced => announced,
        };
        let address = address.trim_matches(['[', ']']);
        replica.listening_port == *port && address.eq_ignore_ascii_case(host)
    });
    match named {
        None => Some("ERR FAILOVER target HOST and PORT is not a replica."),
        Some(replica) if replica.state != redrock_proto::model::ReplicaState::Online => {
            Some("ERR FAILOVER target replica is not online.")
        }
        Some(_) => None,
    }
}

/// Begins a failover that an operator asked for, without a command.
pub async fn start_for_operator(
    services: &Arc<Services>,
    server: &Arc<Server>,
    wanted: Wanted,
) -> Result<Steps, RpcError> {
    let running = {
        let _keyspace = server.keyspace_when_idle().await;
        if let Some(text) = refusal(server, services, &wanted) {
            let text = text.trim_start_matches("ERR ");
            return Err(RpcError::invalid(text));
        }
        Running::begin(server)
    };
    let running = running.ok_or_else(|| RpcError::busy("a failover is under way"))?;
    start(services, running, wanted).await
}
