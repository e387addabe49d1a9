//! What REPLICAOF, WAIT and WAITAOF do outside the locks.

use super::follow::{self, StreamEnd};
use super::replicas::{reached, reached_disk, told, within};
use crate::command::CommandError;
use crate::command::admin::config;
use crate::log::state::LogKind;
use crate::server::Server;
use crate::services::Services;
use crate::state::LinkState;
use redrock_proto::RpcError;
use redrock_proto::model::ReplicaAck;
use redrock_proto::v1::{FollowRequest, UnfollowRequest};
use std::sync::Arc;
use std::time::Duration;

/// Asks all replicas for an acknowledgement.
pub const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Whom REPLICAOF names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `NO ONE`
    NoOne,
    /// A host and its port.
    Master(String, u16),
}

/// REPLICAOF: the status line. The role changes whether or not the agent is there: it asks for
/// the role when it starts.
pub async fn replicate(
    services: &Arc<Services>,
    target: Target,
    who: &str,
) -> Result<String, String> {
    let Some(server) = services.server() else {
        return Err("ERR the server is shutting down".to_owned());
    };
    let present = server.state.replication.lock().master.clone();
    match &target {
        Target::NoOne if present.is_none() => return Ok("OK".to_owned()),
        Target::NoOne => {
            unfollow(&server, services).await?;
            tracing::info!("MASTER MODE enabled (user request from '{who}')");
        }
        Target::Master(host, port) => {
            let same = present.filter(|link| link.host == *host && link.port == *port);
            if let Some(link) = same {
                if link.state == LinkState::Connect {
                    // The agent may not have heard of it. Following whom it follows changes nothing.
                    ask_for_present(&server, services).await;
                }
                let text = "OK Already connected to specified master";
                return Ok(text.to_owned());
            }
            follow_master(&server, services, host, *port).await;
            tracing::info!("REPLICAOF {host}:{port} enabled (user request from '{who}')");
        }
    }
    note_in_settings(&server, target).await;
    server.refresh_gates();
    Ok("OK".to_owned())
}

async fn follow_master(server: &Server, services: &Services, host: &str, port: u16) {
    let position = {
        let mut keyspace = server.keyspace_when_idle().await;
        follow::demote(server, &mut keyspace, host, port)
    };
    ask_to_follow(server, services, (host, port), position, false).await;
}

/// CLIENT KILL of the link to our master: the agent connects anew and goes on from what is
/// applied.
pub async fn connect_again(services: &Services) {
    let request = UnfollowRequest {
        run: services.run.to_wire(),
    };
    // Without an agent there is no link; when it is back it makes a new one.
    let _absent = services.replica().unfollow(request).await;
    if let Some(server) = services.server() {
        ask_for_present(&server, services).await;
    }
}

/// Asks the agent to follow the present master, if there is one.
async fn ask_for_present(server: &Server, services: &Services) {
    let (link, position) = {
        let _keyspace = server.keyspace_when_idle().await;
        let link = server.state.replication.lock().master.clone();
        let known_as = link.as_ref().and_then(|link| link.ask_as);
        let replid = known_as.unwrap_or_else(|| server.log.state().replid);
        (link, (replid, server.log.appended_offset()))
    };
    if let Some(link) = link {
        let master = (link.host.as_str(), link.port);
        ask_to_follow(server, services, master, Some(position), false).await;
    }
}

/// `position` is where our stream stands; without one nothing of ours may be continued. With
/// `failover` the other one shall become a master first.
pub(super) async fn ask_to_follow(
    server: &Server,
    services: &Services,
    (host, port): (&str, u16),
    position: Option<StreamEnd>,
    failover: bool,
) {
    let (replid, offset) = match position {
        Some((replid, offset)) => (String::from_utf8_lossy(&replid).into_owned(), offset),
        None => (String::new(), 0),
    };
    let config = server.config();
    let replication = &config.replication;
    let request = FollowRequest {
        run: services.run.to_wire(),
        host: host.to_owned(),
        port: port.into(),
        user: replication.master_user.clone().unwrap_or_default(),
        password: replication
            .master_password
            .clone()
            .unwrap_or_default()
            .into(),
        tls: config.tls.replication,
        replid,
        offset,
        listening_port: config.announced_port().into(),
        announced_ip: replication.announce_ip.clone().unwrap_or_default(),
        failover,
    };
    if let Err(status) = services.replica().follow(request).await {
        let error = RpcError::from(status);
        tracing::warn!(%error, "the replication agent will follow the master when it is back");
    }
}

async fn unfollow(server: &Arc<Server>, services: &Services) -> Result<(), String> {
    let request = UnfollowRequest {
        run: services.run.to_wire(),
    };
    if let Err(status) = services.replica().unfollow(request).await {
        let error = RpcError::from(status);
        tracing::warn!(%error, "the replication agent has not been told to stop following");
    }
    let promoting = server.clone();
    let promoted = tokio::task::spawn_blocking(move || follow::promote(&promoting)).await;
    match promoted {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(%error, "still a replica: the new replication id can't be stored");
            Err(format!("ERR still a replica: {error}"))
        }
        Err(error) => Err(format!("ERR still a replica: {error}")),
    }
}

/// CONFIG GET and REWRITE show the role. On a thread that may wait for another change.
pub(crate) async fn note_in_settings(server: &Arc<Server>, target: Target) {
    let server = server.clone();
    let work = tokio::task::spawn_blocking(move || match target {
        Target::NoOne => config::record(&server, "replicaof", &[b"no", b"one"]),
        Target::Master(host, port) => {
            let port = port.to_string();
            config::record(&server, "replicaof", &[host.as_bytes(), port.as_bytes()])
        }
    });
    if !matches!(work.await, Ok(Ok(()))) {
        tracing::warn!("`replicaof` keeps its old value in the configuration");
    }
}

/// The log that is kept.
fn kept(services: &Services) -> LogKind {
    let server = services.server();
    server.map_or(LogKind::None, |server| server.log.state().kind)
}

/// Replicas that have acknowledged `offset`.
pub fn acknowledged(services: &Services, offset: u64) -> usize {
    told(kept(services), reached(&services.replicas.list(), offset))
}

/// Until `wanted` replicas have acknowledged `offset`, or for `timeout`; how many have.
pub async fn wait(
    services: &Services,
    offset: u64,
    wanted: usize,
    timeout: Option<Duration>,
) -> usize {
    ask_for_acknowledgements(services);
    let count = |list: &[ReplicaAck]| told(kept(services), reached(list, offset));
    services.replicas.wait(wanted, timeout, count).await
}

/// Whether `offset` is on our own disk, and on how many replicas' disks.
pub fn on_disk(server: &Server, services: &Services, offset: u64) -> (bool, usize) {
    let kind = server.log.state().kind;
    let local = kind == LogKind::AppendOnly && server.log.durable_offset() >= offset;
    let remote = reached_disk(&services.replicas.list(), offset);
    (local, told(kind, remote))
}

/// To those who wait for a log that is turned off.
pub const NO_LOG: CommandError = CommandError::fixed(
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
);

/// Until `wanted` (here, replicas) have `offset` on disk, or for `timeout`; who has. An error if
/// it is wanted here and there is no log, or no longer.
pub async fn wait_on_disk(
    server: &Server,
    services: &Services,
    offset: u64,
    wanted: (bool, usize),
    timeout: Option<Duration>,
) -> Result<(bool, usize), CommandError> {
    let mut replicas = services.replicas.subscribe();
    let mut log = server.log.subscribe();
    if wanted.1 > 0 {
        ask_for_acknowledgements(services);
    }
    let done = async {
        loop {
            let (local, remote) = on_disk(server, services, offset);
            if local >= wanted.0 && remote >= wanted.1 {
                return Ok(());
            }
            if wanted.0 && log.borrow_and_update().kind != LogKind::AppendOnly {
                return Err(NO_LOG);
            }
            tokio::select! {
                changed = replicas.changed() => if changed.is_err() { return Ok(()) },
                changed = log.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    };
    within(timeout, done).await.unwrap_or(Ok(()))?;
    Ok(on_disk(server, services, offset))
}

fn ask_for_acknowledgements(services: &Services) {
    // While a failover waits for a replica to have everything, nothing is added.
    if let Some(server) = services.server()
        && !services.replicas.list().is_empty()
        && !server.is_failing_over()
    {
        server.append_to_stream(GETACK);
    }
}
