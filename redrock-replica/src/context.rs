//! What all parts of the agent share: which run it works for, whom it calls,
//! what the server's log and settings look like now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redrock_daemon::tasks::Tasks;
use redrock_log::epoch::EpochGuard;
use redrock_proto::client::{ServerClient, Timeouts, persist_client};
use redrock_proto::model::{HexId, LogState, Role, RunRef};
use redrock_proto::v1::persist_client::PersistClient;
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::config::Settings;

/// A place in a replication stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) replid: HexId,
    /// Bytes of the stream held.
    pub(crate) offset: u64,
}

/// Whom the server follows, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct ServerState {
    pub(crate) role: Role,
    /// Empty for a master.
    pub(crate) master_host: String,
    pub(crate) master_port: u32,
    pub(crate) position: Position,
}

/// Shared by all tasks.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) data_dir: PathBuf,
    pub(crate) run: RunRef,
    pub(crate) guard: EpochGuard,
    pub(crate) server: ServerClient,
    /// For calls that last as long as the agent: no timeout on the whole.
    pub(crate) server_for_streams: ServerClient,
    pub(crate) persist: PersistClient<Channel>,
    pub(crate) settings: watch::Receiver<Settings>,
    /// Newest state of the server's log; `None` until the first came.
    pub(crate) log: watch::Receiver<Option<LogState>>,
    pub(crate) tasks: Tasks,
}

/// Sending halves of what the context shows.
#[derive(Debug)]
pub(crate) struct Feeds {
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) log: watch::Sender<Option<LogState>>,
}

/// tokio's timer takes it; the request never ends before the daemon.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Context {
    pub(crate) fn new(
        data_dir: &Path,
        socket_dir: &Path,
        run: RunRef,
        guard: EpochGuard,
        tasks: Tasks,
    ) -> (Arc<Context>, Feeds) {
        let (settings, settings_seen) = watch::channel(Settings::default());
        let (log, log_seen) = watch::channel(None);
        let timeouts = Timeouts::default();
        let without_limit = Timeouts {
            request: FOREVER,
            ..timeouts
        };
        let context = Context {
            data_dir: data_dir.to_owned(),
            run,
            guard,
            server: ServerClient::in_dir(socket_dir, timeouts),
            server_for_streams: ServerClient::in_dir(socket_dir, without_limit),
            persist: persist_client(socket_dir, timeouts),
            settings: settings_seen,
            log: log_seen,
            tasks,
        };
        (Arc::new(context), Feeds { settings, log })
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// Asks the server where it stands.
    pub(crate) async fn server_state(&self) -> Result<ServerState, RpcError> {
        let request = v1::AdminReplicationRequest {
            run: self.run.to_wire(),
        };
        let reply = self.server.admin().replication(request).await;
        let reply = self.checked(reply)?.into_inner();
        let log = LogState::try_from(
            reply
                .log
                .ok_or_else(|| RpcError::invalid("the server's log state is missing"))?,
        )?;
        let replid = match reply.ask_replid.as_str() {
            "" => log.replid,
            former => HexId::parse(former)
                .ok_or_else(|| RpcError::invalid("the id to ask with is malformed"))?,
        };
        let offset = match log.role {
            Role::Master => log.written_offset,
            Role::Replica => reply.applied_offset,
        };
        Ok(ServerState {
            role: log.role,
            master_host: reply.master_host,
            master_port: reply.master_port,
            position: Position { replid, offset },
        })
    }

    /// Turns a status into our error. A server of another run ends the agent:
    /// nothing that it could do here is right any more.
    pub(crate) fn checked<T>(&self, result: Result<T, tonic::Status>) -> Result<T, RpcError> {
        result.map_err(|status| {
            let error = RpcError::from(status);
            if error.code == ErrorCode::StaleEpoch {
                self.tasks.fail(format!("superseded: {error}"));
            }
            error
        })
    }
}

/// Now, in Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}
