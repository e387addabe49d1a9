//! Replicas over TLS: the agent has one end of a pair of sockets, and what passes between the
//! other end and the replica is encrypted and decrypted here.
//!
//! At most one buffer's worth in either direction is held, beside what the kernel holds. The end of
//! either side is passed on, and what was said before it arrives first; the agent's end is the end of
//! all, the replica's is told to the agent, which then ends its own side.

use super::session::TlsSession;
use super::stream::TlsStream;
use crate::net::client::ClientShared;
use crate::server::Server;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// What a replica says is short.
const FROM_REPLICA_BYTES: usize = 4 << 10;
/// What it is sent is as long as the data set.
const TO_REPLICA_BYTES: usize = 64 << 10;

/// A replica's connection and where it leads.
pub(in crate::net) struct Passing {
    pub(in crate::net) stream: std::net::TcpStream,
    pub(in crate::net) session: TlsSession,
    /// Our end of the pair.
    pub(in crate::net) agent: std::os::unix::net::UnixStream,
    /// Its kill ends it at once.
    pub(in crate::net) shared: Arc<ClientShared>,
    /// Dropped at the end.
    pub(in crate::net) ended: oneshot::Sender<()>,
}

/// Passes on until one side is gone.
pub(super) async fn pass(server: &Server, passing: Passing) {
    let id = passing.shared.id;
    if let Err(error) = pass_on(server, passing).await {
        tracing::debug!(client = id, %error, "a replica's connection over TLS ended");
    }
}

async fn pass_on(server: &Server, passing: Passing) -> io::Result<()> {
    let Passing {
        stream,
        session,
        agent,
        shared,
        ended,
    } = passing;
    let replica = TlsStream::new(stream, session, shared.clone())?;
    let buffers = FROM_REPLICA_BYTES + TO_REPLICA_BYTES;
    let held = shared.transport_bytes.load(Ordering::Relaxed) as usize + buffers;
    server.charge_client(&shared, held);
    agent.set_nonblocking(true)?;
    let (from_agent, to_agent) = UnixStream::from_std(agent)?.into_split();
    let killed = shared.tls.clone().unwrap_or_default();
    let result = tokio::select! {
        () = killed.cancelled() => Ok(()),
        result = to_replica(&replica, from_agent) => result,
        error = from_replica(&replica, to_agent) => Err(error),
    };
    server.charge_client(&shared, 0);
    drop(replica);
    drop(ended);
    result
}

/// Ends well when the agent has ended.
async fn to_replica(replica: &TlsStream, mut agent: OwnedReadHalf) -> io::Result<()> {
    let mut buffer = vec![0; TO_REPLICA_BYTES];
    loop {
        let count = agent.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        replica.write_all(bytes).await?;
    }
}

/// Ends only with an error of the replica's connection: its end is told to the agent, and what the
/// agent still sends is not cut, also when the agent takes nothing more.
async fn from_replica(replica: &TlsStream, mut agent: OwnedWriteHalf) -> io::Error {
    let mut buffer = vec![0; FROM_REPLICA_BYTES];
    loop {
        let count = match replica.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) => return error,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        let told = match count {
            0 => agent.shutdown().await,
            _ => agent.write_all(bytes).await,
        };
        if count == 0 || told.is_err() {
            return std::future::pending().await;
        }
    }
}
