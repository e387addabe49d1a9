//! The workers' end of accepted connections: sessions are made here.

use super::acceptor::{Ticket, is_local};
use super::client::{Client, ClientShared};
use super::connection::Session;
use super::stream::{self, ReadHalf, WriteHalf};
use super::tls::Entered;
use super::tls::stream::TlsStream;
use super::worker::{Worker, WorkerMailbox};
use crate::clock;
use crate::server::Server;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// An accepted socket on its way to a worker.
pub struct Accepted {
    /// The socket.
    pub socket: Socket,
    /// Its right to be there, held as long as the connection.
    pub ticket: Ticket,
}

/// A connected socket.
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// TCP with TLS, whose handshake is done.
    Tls(Box<Entered>),
}

impl Socket {
    /// Whether the peer is on this machine: loopback or a Unix socket.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(stream) => is_local(stream),
            Self::Tls(entered) => is_local(&entered.stream),
            Self::Unix(_) => true,
        }
    }
}

/// Accepted sockets that may wait for one worker.
pub const ACCEPT_QUEUE_MAX: usize = 1024;

/// Runs a worker on the calling thread until its queue of sockets closes.
pub fn run_worker(
    server: Arc<Server>,
    index: usize,
    mailbox: Arc<WorkerMailbox>,
    mut sockets: mpsc::Receiver<Accepted>,
) -> std::io::Result<()> {
    crate::priority::prompt();
    crate::stats::own_shard(index);
    let worker = Worker::new(server, index);
    PARKED.with(|slot| *slot.borrow_mut() = Some(worker.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| with_parked(Worker::before_sleep))
        .on_thread_unpark(|| with_parked(Worker::woken))
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        tokio::task::spawn_local(worker.clone().serve_mailbox(mailbox));
        tokio::task::spawn_local(worker.clone().close_idle());
        let together = worker.together.clone();
        tokio::task::spawn_local(together.serve(worker.server.clone()));
        while let Some(socket) = sockets.recv().await {
            if let Err(error) = start_session(&worker, socket) {
                tracing::debug!(%error, "accepted socket failed");
            }
        }
        // The server stops: what was replied goes out before the sessions end with the thread.
        worker.flush();
    });
    // Ends, because the server does: see the script's hook.
    crate::script::fiber::end_paused();
    PARKED.with(|slot| *slot.borrow_mut() = None);
    Ok(())
}

thread_local! {
    static PARKED: std::cell::RefCell<Option<Rc<Worker>>> = const { std::cell::RefCell::new(None) };
}

fn with_parked(action: fn(&Worker)) {
    PARKED.with(|slot| {
        if let Ok(worker) = slot.try_borrow()
            && let Some(worker) = &*worker
        {
            action(worker);
        }
    });
}

/// What a session is made of.
struct Parts {
    reader: ReadHalf,
    writer: WriteHalf,
    shared: Arc<ClientShared>,
}

fn start_session(worker: &Rc<Worker>, accepted: Accepted) -> std::io::Result<()> {
    let Accepted { socket, ticket } = accepted;
    let Parts {
        reader,
        writer,
        shared,
    } = parts(worker, socket)?;
    let (addr, laddr) = (shared.addr.clone(), shared.laddr.clone());
    let mut client = Box::new(Client::new(shared.clone(), addr, laddr, shared.created_ms));
    client.account = worker.server.acl.default_account();
    client.authenticated = !worker.server.acl.password_needed();
    client.publish();
    client.publish_identity();
    worker.server.admit_client(&client);
    let session = Session::new(worker.clone(), client, reader, writer);
    // Somebody may have wanted this thread to look at it before it was here.
    shared.poked.store(false, Ordering::Release);
    tokio::task::spawn_local(async move {
        session.run().await;
        drop(ticket);
    });
    Ok(())
}

fn parts(worker: &Worker, socket: Socket) -> std::io::Result<Parts> {
    let shared = |fd: i32, addr: String, laddr: String| {
        let now_ms = clock::unix_ms();
        Arc::new(ClientShared {
            id: worker.server.next_client_id(),
            worker: worker.index,
            addr,
            laddr,
            fd,
            created_ms: now_ms,
            last_seen_ms: now_ms.into(),
            ..ClientShared::default()
        })
    };
    match socket {
        Socket::Tcp(stream) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (addr, laddr) = (stream.peer_addr()?, stream.local_addr()?);
            let shared = shared(stream.as_raw_fd(), addr.to_string(), laddr.to_string());
            let (reader, writer) = stream::tcp(stream);
            Ok(Parts {
                reader,
                writer,
                shared,
            })
        }
        Socket::Unix(stream) => {
            stream.set_nonblocking(true)?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            let path = stream.local_addr()?;
            let path = path
                .as_pathname()
                .map(|p| format!("{}:0", p.display()))
                .unwrap_or_else(|| ":0".to_owned());
            let shared = shared(stream.as_raw_fd(), path.clone(), path);
            let (reader, writer) = stream::unix(stream);
            Ok(Parts {
                reader,
                writer,
                shared,
            })
        }
        Socket::Tls(entered) => {
            let Entered {
                stream,
                session,
                shared,
            } = *entered;
            let stream = TlsStream::new(stream, session, shared.clone());
            let stream = stream.inspect_err(|_| worker.server.forget_client(&shared, None))?;
            let (reader, writer) = stream::tls(stream);
            Ok(Parts {
                reader,
                writer,
                shared,
            })
        }
    }
}
