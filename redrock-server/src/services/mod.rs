//! What the server shares with its companions: their clients, their state, its gRPC socket.
//!
//! Invariants:
//! - nothing here is asked with a shard held: commands hand out a future that the connection
//!   awaits ([`crate::command::dispatch::Deferred`]);
//! - every wait on a companion is bounded, and a companion that is absent changes nothing.

mod after_flush;
pub mod again;
pub mod gates;
pub mod persistence;
pub mod reload;
pub mod shutdown;
pub mod start;
pub mod tick;

use crate::command::error::CommandError;
use crate::companions::Companions;
use crate::config::Config;
use crate::replication::replicas::ReplicaTable;
use crate::server::Server;
use redrock_daemon::tasks::Tasks;
use redrock_proto::client::{Timeouts, persist_client, replica_client};
use redrock_proto::model::RunRef;
use redrock_proto::v1::persist_client::PersistClient;
use redrock_proto::v1::replica_client::ReplicaClient;
use redrock_proto::v1::{PersistStatus, ReplicaStatus, SegmentsListedRequest};
use redrock_proto::{ErrorCode, RpcError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;

/// How long a companion may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A running action whose progress is silent for so long counts as hung; it tells each second.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The newest answers of the companions; `None` while one does not answer.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// The persister's status.
    pub persist: Option<PersistStatus>,
    /// The replica agent's status.
    pub replica: Option<ReplicaStatus>,
    /// Why the persister does not answer.
    pub persist_error: String,
    /// Why the agent does not answer.
    pub replica_error: String,
}

/// See the module.
#[derive(Debug)]
pub struct Services {
    server: Weak<Server>,
    /// This run, which peers must name.
    pub run: RunRef,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// The directory of the daemons' sockets, absolute.
    pub socket_dir: PathBuf,
    /// The runtime of the services: the main thread's.
    pub handle: Handle,
    /// The companions' processes.
    pub companions: Companions,
    tasks: Tasks,
    /// What the replicas acknowledged.
    pub replicas: ReplicaTable,
    /// The newest answers of the companions.
    pub heard: parking_lot::Mutex<Heard>,
    /// Asks for the companions' state at once instead of at the next second.
    pub look_now: Notify,
    /// The segments that exist, as the persister said last.
    pub segments: parking_lot::Mutex<Option<SegmentsListedRequest>>,
    /// SAVE holds all clients back while this is true.
    held: watch::Sender<bool>,
    /// A rewrite waits for a save to end.
    pub rewrite_scheduled: AtomicBool,
    /// The append-only log is being brought back.
    reviving: AtomicBool,
    /// Why it is not back yet; empty if nothing is known.
    log_trouble: parking_lot::Mutex<String>,
    /// CONFIG SET has turned it off, or does so.
    log_turned_off: AtomicBool,
    /// A save that a command asked for is under way.
    saving: AtomicBool,
    flushes: after_flush::Flushes,
    /// A rewrite that a command asked for is under way.
    rewriting: AtomicBool,
    /// The log is being switched on: it does not hold the data yet.
    enabling: AtomicBool,
    /// Held by whoever switches the log on, or off behind the persister's answer.
    switching: tokio::sync::Mutex<()>,
    persist: PersistClient<Channel>,
    replica: ReplicaClient<Channel>,
}

impl Services {
    /// The services of a server. Nothing is connected yet. Must be called within the runtime
    /// that serves them.
    pub fn new(
        server: &Arc<Server>,
        run: RunRef,
        data_dir: &Path,
        socket_dir: &Path,
        tasks: Tasks,
    ) -> Self {
        let timeouts = Timeouts {
            request: ANSWER_WAIT,
            ..Timeouts::default()
        };
        Self {
            server: Arc::downgrade(server),
            run,
            data_dir: data_dir.to_owned(),
            socket_dir: socket_dir.to_owned(),
            handle: Handle::current(),
            companions: Companions::new(),
            tasks,
            replicas: ReplicaTable::default(),
            heard: parking_lot::Mutex::default(),
            look_now: Notify::new(),
            segments: parking_lot::Mutex::default(),
            held: watch::Sender::new(false),
            rewrite_scheduled: AtomicBool::new(false),
            reviving: AtomicBool::new(false),
            log_trouble: parking_lot::Mutex::default(),
            log_turned_off: AtomicBool::new(false),
            saving: AtomicBool::new(false),
            flushes: after_flush::Flushes::default(),
            rewriting: AtomicBool::new(false),
            enabling: AtomicBool::new(false),
            switching: tokio::sync::Mutex::default(),
            persist: persist_client(socket_dir, timeouts),
            replica: replica_client(socket_dir, timeouts),
        }
    }

    /// Starts the companions, if that is ours to do. The epoch file must name this run already,
    /// which is what they go by.
    pub fn start_companions(&self, config: &Config) {
        let _runtime = self.handle.enter();
        self.companions.start(config, &self.tasks);
    }

    /// The persister; a clone shares the connection.
    pub fn persist(&self) -> PersistClient<Channel> {
        self.persist.clone()
    }

    /// The replica agent; a clone shares the connection.
    pub fn replica(&self) -> ReplicaClient<Channel> {
        self.replica.clone()
    }

    /// Whether this companion is our child, to be started again when it dies.
    pub fn supervises(&self, name: &str) -> bool {
        let mut members = self.companions.members().iter();
        members.any(|member| member.name == name && member.process().is_some())
    }

    /// Whether we started this companion and nobody has heard of it so far.
    pub fn starts(&self, name: &str) -> bool {
        self.supervises(name)
            && self.server().is_some_and(|server| {
                let companions = server.state.companions.lock();
                let mut companions = companions.iter();
                !companions
                    .any(|companion| companion.name == name && companion.last_seen_s.is_some())
            })
    }

    /// The server, while it lives.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.server.upgrade()
    }

    /// Holds all clients back until the guard is dropped; `None` if they already are.
    pub fn hold_clients(self: &Arc<Self>) -> Option<Hold> {
        let first = self
            .held
            .send_if_modified(|held| !std::mem::replace(held, true));
        if first && let Some(server) = self.server() {
            server.held.store(true, Ordering::Release);
        }
        first.then(|| Hold(self.clone()))
    }

    /// Waits until clients are no longer held back.
    pub async fn wait_released(&self) {
        // An error means that the server goes down.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}

/// Holds all clients back while it lives.
#[derive(Debug)]
pub struct Hold(Arc<Services>);

impl Drop for Hold {
    fn drop(&mut self) {
        // In this order: who finds the flag set must find something to wait for.
        if let Some(server) = self.0.server() {
            server.held.store(false, Ordering::Release);
        }
        self.0.held.send_replace(false);
    }
}

impl Server {
    /// The services, or the error of a command that needs them.
    pub fn services(&self) -> Result<&Arc<Services>, CommandError> {
        const TEXT: &str = "ERR the server's services have not started";
        self.services.get().ok_or(CommandError::fixed(TEXT))
    }
}

/// The error line of a command that a companion refused or did not answer.
pub fn companion_error(name: &str, error: &RpcError) -> String {
    match error.code {
        ErrorCode::Unavailable | ErrorCode::Timeout => {
            format!("ERR {name} is not available: {}", one_line(&error.message))
        }
        _ => format!("ERR {name}: {}", one_line(&error.message)),
    }
}

/// Errors travel in one line of RESP.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_companion_in_one_line() {
        let absent = RpcError::unavailable("connect:\r\nno such file");
        assert_eq!(
            companion_error("persister", &absent),
            "ERR persister is not available: connect:  no such file"
        );
        let full = RpcError::new(ErrorCode::NoSpace, "no room");
        assert_eq!(
            companion_error("persister", &full),
            "ERR persister: no room"
        );
    }
}
