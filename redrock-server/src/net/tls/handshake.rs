//! Letting somebody in: the handshake, on the thread of TLS.
//!
//! As many at a time as `maxclients` allows, each within [`TIME_MAX`] and [`BYTES_MAX`]. CLIENT LIST
//! shows who comes, CLIENT KILL and the limits of memory end it. A handshake that fails is told in the log
//! once; who connects and leaves without a word, as probes do, only to who asks for details.

use super::session::TlsSession;
use crate::clock;
use crate::net::acceptor::{self, Ticket};
use crate::net::client::{ClientShared, Identity};
use crate::net::listener::{Accepted, Socket};
use crate::server::Server;
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// For a handshake, from the accepted connection on.
const TIME_MAX: Duration = Duration::from_secs(10);
/// What a peer may send before it is done. A chain of certificates is a few KiB.
const BYTES_MAX: usize = 128 << 10;
/// Read at once.
const READ_BYTES: usize = 4 << 10;

/// A connection that is to be let in.
pub(in crate::net) struct Entering {
    pub(in crate::net) stream: std::net::TcpStream,
    pub(in crate::net) ticket: Ticket,
    pub(in crate::net) context: Arc<ServerConfig>,
    /// Its worker to be, and where that takes sockets from. Held weakly: workers end when nobody
    /// can send to them any more.
    pub(in crate::net) worker: usize,
    pub(in crate::net) queue: mpsc::WeakSender<Accepted>,
}

/// One that was let in.
pub struct Entered {
    pub(in crate::net) stream: std::net::TcpStream,
    pub(in crate::net) session: TlsSession,
    /// Under which it is in the list of clients already.
    pub(in crate::net) shared: Arc<ClientShared>,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the peer left before it said anything")]
    Silent,
    #[error("the handshake took longer than {} s", TIME_MAX.as_secs())]
    Late,
    #[error("the handshake is longer than {BYTES_MAX} bytes")]
    Long,
    #[error("the peer left in the middle of the handshake")]
    Left,
    #[error("killed during the handshake")]
    Killed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// Shakes hands and gives the connection to its worker.
pub(super) async fn enter(server: &Arc<Server>, entering: Entering) {
    let Entering {
        stream,
        ticket,
        context,
        worker,
        queue,
    } = entering;
    let Ok(shared) = register(server, &stream, worker) else {
        // Its address is gone with its peer.
        return;
    };
    let shaken = async {
        let killed = shared.tls.clone().unwrap_or_default();
        tokio::select! {
            biased;
            () = killed.cancelled() => Err(Failure::Killed),
            shaken = tokio::time::timeout(TIME_MAX, shake(server, stream, context, &shared)) => {
                shaken.unwrap_or(Err(Failure::Late))
            }
        }
    };
    let refused = match shaken.await {
        Ok(entered) => hand_on(server, entered, ticket, &queue),
        Err(failure) => {
            tell(&failure, &shared);
            true
        }
    };
    if refused {
        server.forget_client(&shared, None);
    }
}

/// Enters it in the list of clients.
fn register(
    server: &Server,
    stream: &std::net::TcpStream,
    worker: usize,
) -> io::Result<Arc<ClientShared>> {
    let now_ms = clock::unix_ms();
    let user = server.acl.default_account().name().to_vec();
    let shared = Arc::new(ClientShared {
        id: server.next_client_id(),
        worker,
        addr: stream.peer_addr()?.to_string(),
        laddr: stream.local_addr()?.to_string(),
        fd: stream.as_raw_fd(),
        created_ms: now_ms,
        last_seen_ms: now_ms.into(),
        resp: 2.into(),
        identity: Mutex::new(Identity {
            user,
            ..Identity::default()
        }),
        tls: Some(CancellationToken::new()),
        ..ClientShared::default()
    });
    server.clients.write().insert(shared.id, shared.clone());
    Ok(shared)
}

async fn shake(
    server: &Server,
    stream: std::net::TcpStream,
    context: Arc<ServerConfig>,
    shared: &Arc<ClientShared>,
) -> Result<Entered, Failure> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let socket = TcpStream::from_std(stream)?;
    let mut session = TlsSession::new(context)?;
    let mut received = 0;
    let mut chunk = [0; READ_BYTES];
    // Words that come with the end of the handshake stay in the session.
    let mut nothing = ReadBuf::new(&mut []);
    while session.is_handshaking() {
        note(server, shared, &session, received);
        match session.flush(&socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.writable().await?;
                continue;
            }
            result => result?,
        }
        socket.readable().await?;
        let count = match socket.try_read(&mut chunk) {
            Ok(0) if received == 0 => return Err(Failure::Silent),
            Ok(0) => return Err(Failure::Left),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            result => result?,
        };
        received += count;
        if received > BYTES_MAX {
            return Err(Failure::Long);
        }
        let input = chunk.get(..count).unwrap_or_default();
        session.take_in(input, &mut nothing, &socket)?;
        // Others shake hands meanwhile.
        tokio::task::yield_now().await;
    }
    match session.flush(&socket) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
        _ => {}
    }
    // It may have been killed while signatures were made.
    if shared.kill.load(Ordering::Relaxed) {
        return Err(Failure::Killed);
    }
    Ok(Entered {
        stream: socket.into_std()?,
        session,
        shared: shared.clone(),
    })
}

/// Memory of the client: rustls keeps what is no whole message yet.
fn note(server: &Server, shared: &ClientShared, session: &TlsSession, received: usize) {
    let bytes = session.held_bytes() + received;
    shared
        .transport_bytes
        .store(bytes as u64, Ordering::Relaxed);
    server.charge_client(shared, bytes);
    server.note_client(shared);
    server.limit_exceeding();
}

/// Gives it to its worker; whether it was refused instead.
fn hand_on(
    server: &Server,
    entered: Entered,
    ticket: Ticket,
    queue: &mpsc::WeakSender<Accepted>,
) -> bool {
    let is_local = acceptor::is_local(&entered.stream);
    if acceptor::is_protected_from(server, is_local) {
        refuse(server, entered);
        return true;
    }
    let accepted = Accepted {
        socket: Socket::Tls(Box::new(entered)),
        ticket,
    };
    // Without a queue the server stops.
    let Some(queue) = queue.upgrade() else {
        return true;
    };
    let is_full = queue.try_send(accepted).is_err();
    if is_full {
        server.stats.rejected.fetch_add(1, Ordering::Relaxed);
    }
    is_full
}

/// Protected mode's text, as far as the socket takes it at once.
fn refuse(server: &Server, entered: Entered) {
    server.stats.rejected.fetch_add(1, Ordering::Relaxed);
    let Entered {
        stream,
        mut session,
        ..
    } = entered;
    if let Ok(socket) = TcpStream::from_std(stream) {
        let _unheard = session.send(acceptor::PROTECTED.as_bytes(), &socket);
        session.close(&socket);
    }
}

fn tell(failure: &Failure, shared: &ClientShared) {
    let (addr, laddr) = (&shared.addr, &shared.laddr);
    match failure {
        Failure::Silent | Failure::Killed => {
            tracing::debug!(addr, laddr, "Not accepted: {failure}");
        }
        _ => tracing::warn!(
            "Error accepting a client connection: {failure} (addr={addr} laddr={laddr})"
        ),
    }
}
