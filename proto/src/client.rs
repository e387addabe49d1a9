//! Connecting to a daemon over its Unix socket, with every wait bounded.
//!
//! A channel connects when it is first used and again after a failure, so a
//! restarted companion is found without further help. Keep-alive pings make a
//! hung peer fail its calls. The request timeout covers unary calls and the
//! start of a stream; [`next_within`] bounds the wait between its messages.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::error::RpcError;
use crate::v1;

/// File name of the server's socket in the socket directory.
pub const SERVER_SOCKET: &str = "server.sock";
/// File name of the persister's socket.
pub const PERSIST_SOCKET: &str = "persist.sock";
/// File name of the replica agent's socket.
pub const REPLICA_SOCKET: &str = "replica.sock";
/// File name of the agent's socket for the connections of peers (not gRPC).
pub const HANDOFF_SOCKET: &str = "handoff.sock";

/// Largest message accepted, in bytes; see `common.proto`.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bounds of all waits on a peer.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For connecting and the HTTP/2 handshake.
    pub connect: Duration,
    /// For a unary call, or for a stream to begin.
    pub request: Duration,
    /// A peer that answers no ping for so long is taken for hung.
    pub keep_alive: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(1),
            request: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
        }
    }
}

/// A channel to the daemon listening at `path`. Nothing is connected yet, so
/// this succeeds whether or not the daemon is there; a call without it fails
/// with UNAVAILABLE. Must be called within a tokio runtime.
pub fn channel(path: impl Into<PathBuf>, timeouts: Timeouts) -> Channel {
    let path: PathBuf = path.into();
    endpoint(timeouts).connect_with_connector_lazy(service_fn(move |_: Uri| {
        let path = path.clone();
        let wait = timeouts.connect;
        async move { open(&path, wait).await.map(TokioIo::new) }
    }))
}

/// As [`channel`], but connected: fails with UNAVAILABLE or TIMEOUT, naming
/// the socket, if nobody answers.
pub async fn connect(path: impl AsRef<Path>, timeouts: Timeouts) -> Result<Channel, RpcError> {
    let path = path.as_ref();
    // The probe gives the operating system's own error, which tonic hides.
    match open(path, timeouts.connect).await {
        Ok(_) => Ok(channel(path, timeouts)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(RpcError::timeout(format!(
            "connect to {}: {error}",
            path.display()
        ))),
        Err(error) => Err(unreachable_error(path, &error)),
    }
}

/// The next message of a stream, `Ok(None)` at its end, or TIMEOUT if nothing
/// comes within `wait`. After an error the stream is of no more use.
pub async fn next_within<T>(
    stream: &mut Streaming<T>,
    wait: Duration,
) -> Result<Option<T>, RpcError> {
    match tokio::time::timeout(wait, stream.message()).await {
        Ok(message) => message.map_err(RpcError::from),
        Err(_) => Err(RpcError::timeout(format!(
            "the peer was silent for {wait:?}"
        ))),
    }
}

/// Clients of everything that redrock-server serves. Clones share a connection.
#[derive(Debug, Clone)]
pub struct ServerClient {
    channel: Channel,
}

impl ServerClient {
    /// Of `server.sock` in the socket directory.
    pub fn in_dir(socket_dir: &Path, timeouts: Timeouts) -> ServerClient {
        ServerClient {
            channel: channel(socket_dir.join(SERVER_SOCKET), timeouts),
        }
    }

    pub fn from_channel(channel: Channel) -> ServerClient {
        ServerClient { channel }
    }

    pub fn snapshot(&self) -> v1::snapshot_client::SnapshotClient<Channel> {
        v1::snapshot_client::SnapshotClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn log(&self) -> v1::log_client::LogClient<Channel> {
        v1::log_client::LogClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn load(&self) -> v1::load_client::LoadClient<Channel> {
        v1::load_client::LoadClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn admin(&self) -> v1::admin_client::AdminClient<Channel> {
        v1::admin_client::AdminClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// Client of redrock-persist, at `persist.sock` in the socket directory.
pub fn persist_client(
    socket_dir: &Path,
    timeouts: Timeouts,
) -> v1::persist_client::PersistClient<Channel> {
    v1::persist_client::PersistClient::new(channel(socket_dir.join(PERSIST_SOCKET), timeouts))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Client of redrock-replica, at `replica.sock` in the socket directory.
pub fn replica_client(
    socket_dir: &Path,
    timeouts: Timeouts,
) -> v1::replica_client::ReplicaClient<Channel> {
    v1::replica_client::ReplicaClient::new(channel(socket_dir.join(REPLICA_SOCKET), timeouts))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn endpoint(timeouts: Timeouts) -> Endpoint {
    // The address is never resolved: the connector opens the socket's path.
    Endpoint::from_static("http://redrock.local")
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.request)
        .http2_keep_alive_interval(timeouts.keep_alive)
        .keep_alive_timeout(timeouts.keep_alive)
        .keep_alive_while_idle(true)
}

async fn open(path: &Path, wait: Duration) -> io::Result<UnixStream> {
    match tokio::time::timeout(wait, UnixStream::connect(path)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer in {wait:?}"),
        )),
    }
}

fn unreachable_error(path: &Path, error: &io::Error) -> RpcError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the daemon running, and is this its socket directory?"
        }
        io::ErrorKind::PermissionDenied => "use the daemon's own user, or root",
        _ => "",
    };
    RpcError::unavailable(format!("connect to {}: {error}", path.display())).with_hint(hint)
}
