//! Accepting connections and giving them to workers.

use super::client::{Client, ClientShared};
use super::connection::Session;
use super::stream::{ReadHalf, WriteHalf};
use super::worker::{Worker, WorkerMailbox};
use crate::clock;
use crate::server::Server;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// An accepted socket on its way to a worker.
pub enum Accepted {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixStream),
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
    let worker = Worker::new(server, index);
    PARKED.with(|slot| *slot.borrow_mut() = Some(worker.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| {
            PARKED.with(|slot| {
                if let Ok(worker) = slot.try_borrow()
                    && let Some(worker) = &*worker
                {
                    worker.flush();
                }
            });
        })
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        tokio::task::spawn_local(worker.clone().serve_mailbox(mailbox));
        while let Some(socket) = sockets.recv().await {
            if let Err(error) = start_session(&worker, socket) {
                tracing::debug!(%error, "accepted socket failed");
            }
        }
    });
    PARKED.with(|slot| *slot.borrow_mut() = None);
    Ok(())
}

thread_local! {
    static PARKED: std::cell::RefCell<Option<Rc<Worker>>> = const { std::cell::RefCell::new(None) };
}

fn start_session(worker: &Rc<Worker>, socket: Accepted) -> std::io::Result<()> {
    let (reader, writer, addr, laddr) = match socket {
        Accepted::Tcp(stream) => {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let (addr, laddr) = (stream.peer_addr()?.to_string(), stream.local_addr()?.to_string());
            let (r, w) = stream.into_split();
            (ReadHalf::Tcp(r), WriteHalf::Tcp(w), addr, laddr)
        }
        Accepted::Unix(stream) => {
            stream.set_nonblocking(true)?;
            let stream = tokio::net::UnixStream::from_std(stream)?;
            let path = stream.local_addr()?;
            let path = path.as_pathname().map(|p| p.display().to_string()).unwrap_or_default();
            let (r, w) = stream.into_split();
            (ReadHalf::Unix(r), WriteHalf::Unix(w), format!("{path}:0"), format!("{path}:0"))
        }
    };
    let shared = Arc::new(ClientShared {
        id: worker.server.next_client_id(),
        worker: worker.index,
        ..ClientShared::default()
    });
    let mut client = Box::new(Client::new(shared, addr, laddr, clock::unix_ms()));
    client.authenticated = !worker.server.password_needed();
    worker.server.admit_client(&client);
    let session = Session::new(worker.clone(), client, reader, writer);
    tokio::task::spawn_local(session.run());
    Ok(())
}
