//! Accepts connections, refuses those that may not come in, and spreads the rest over workers.
//!
//! One task owns all listening sockets, so that CONFIG SET of `port` and `bind` can replace them
//! at one point. Each accepted connection holds a [`Ticket`] while it lives: their number never
//! exceeds `maxclients`.

use super::bind;
use super::listener::{Accepted, Socket};
use crate::config::{Config, Hooks};
use crate::server::Server;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long CONFIG SET waits for new listening sockets.
const REBIND_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &str = "-ERR max number of clients reached\r\n";

const DRAINING: &str = "-ERR the server takes no new clients, it is being drained\r\n";

const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to Redis you may \
adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG \
SET protected-mode no' from the loopback interface by connecting to Redis from the same host the \
server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. \
Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the \
protected mode by editing the Redis configuration file, and setting the protected mode option to \
'no', and then restarting the server. 3) If you started the server manually just for testing, \
restart it with the '--protected-mode no' option. 4) Set up an authentication password for the \
default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

/// The right of one connection to be there; given back when dropped.
#[derive(Debug)]
pub struct Ticket(Arc<AtomicUsize>);

impl Ticket {
    /// A ticket, unless `max` are out.
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |n: usize| (n < max).then_some(n + 1);
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Self(count.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks the acceptor for other sockets: from the old configuration to the new one.
struct Rebind {
    old: Box<Config>,
    new: Box<Config>,
    done: blocking::SyncSender<Result<(), bind::BindError>>,
}

/// See the module.
pub struct Acceptor {
    server: Arc<Server>,
    workers: Vec<mpsc::Sender<Accepted>>,
    next_worker: usize,
    tcp: Vec<TcpListener>,
    unix: Option<UnixListener>,
    requests: mpsc::Receiver<Rebind>,
    tickets: Arc<AtomicUsize>,
    rejecting: bool,
}

impl Acceptor {
    /// Opens all sockets of the configuration in force, and makes CONFIG SET of `port` and `bind`
    /// replace them. Must be called within a tokio runtime.
    pub fn open(
        server: Arc<Server>,
        workers: Vec<mpsc::Sender<Accepted>>,
    ) -> Result<Self, bind::BindError> {
        let config = server.config();
        let network = &config.network;
        let tcp = bind::tcp(&config, Vec::new())?;
        let unix = match &network.unix_socket {
            Some(path) => Some(bind::unix(path, network.unix_socket_mode, network.backlog)?),
            None => None,
        };
        let (sender, requests) = mpsc::channel(1);
        add_hook(&mut server.config_hooks.write(), sender);
        let tickets = Arc::default();
        Ok(Self {
            server,
            workers,
            next_worker: 0,
            tcp,
            unix,
            requests,
            tickets,
            rejecting: false,
        })
    }

    /// Whether any socket is open.
    pub fn is_listening(&self) -> bool {
        !self.tcp.is_empty() || self.unix.is_some()
    }

    /// Accepts until told to stop; then no socket is open any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(request) = self.requests.recv() => self.rebind(request),
                accepted = accept(&self.tcp, self.unix.as_ref()) => match accepted {
                    Ok(socket) => self.admit(socket),
                    Err(error) => {
                        tracing::warn!(%error, "Accepting client connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // Before the workers end, and with them the clients: who is disconnected and comes again
        // must not get in.
        self.tcp.clear();
        if let Some(path) = self.server.config().network.unix_socket.as_ref()
            && self.unix.take().is_some()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "Unix socket not removed");
        }
    }

    fn rebind(&mut self, request: Rebind) {
        let kept = std::mem::take(&mut self.tcp);
        let result = match bind::tcp(&request.new, kept) {
            Ok(listeners) => {
                self.tcp = listeners;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "Failed to listen");
                match bind::tcp(&request.old, Vec::new()) {
                    Ok(listeners) => self.tcp = listeners,
                    Err(error) => tracing::error!(%error, "No longer listening on TCP"),
                }
                Err(error)
            }
        };
        // The asker may have given up.
        let _ = request.done.try_send(result);
    }

    fn admit(&mut self, socket: Socket) {
        if self.server.draining.load(Ordering::Acquire) {
            return self.reject(socket, DRAINING);
        }
        let config = self.server.config();
        let Some(ticket) = Ticket::take(&self.tickets, config.network.clients_max) else {
            return self.reject(socket, TOO_MANY);
        };
        let protected = config.network.protected_mode && self.server.acl.default_is_open();
        if protected && !socket.is_local() {
            return self.reject(socket, PROTECTED);
        }
        if let Socket::Tcp(stream) = &socket
            && let Err(error) = set_keepalive(stream, config.network.keepalive_s)
        {
            tracing::debug!(%error, "keepalive not set");
        }
        let mut accepted = Accepted { socket, ticket };
        for _ in 0..self.workers.len() {
            let Some(worker) = self.workers.get(self.next_worker) else {
                break;
            };
            self.next_worker = (self.next_worker + 1) % self.workers.len();
            match worker.try_send(accepted) {
                Ok(()) => {
                    self.rejecting = false;
                    return;
                }
                Err(error) => accepted = error.into_inner(),
            }
        }
        // Every worker has a full queue of sockets that it has not even looked at.
        self.reject(accepted.socket, TOO_MANY);
    }

    fn reject(&mut self, socket: Socket, text: &str) {
        self.server.stats.rejected.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.rejecting, true) {
            tracing::debug!(reason = text.trim_end(), "Rejecting connections");
        }
        // Best effort: the peer may be gone, or not read.
        let _ = match socket {
            Socket::Tcp(mut stream) => stream.write(text.as_bytes()),
            Socket::Unix(mut stream) => stream.write(text.as_bytes()),
        };
    }
}

fn add_hook(hooks: &mut Hooks, requests: mpsc::Sender<Rebind>) {
    hooks.add(&["port", "bind", "tcp-backlog"], move |old, new| {
        let refused = if old.port == new.port {
            "Failed to bind to specified addresses."
        } else {
            "Unable to listen on this port. Check server logs."
        };
        let (done, answer) = blocking::sync_channel(1);
        let request = Rebind {
            old: Box::new(old.clone()),
            new: Box::new(new.clone()),
            done,
        };
        // The acceptor takes no lock that the caller may hold, so that it answers at once.
        requests.try_send(request).map_err(|_| refused.to_owned())?;
        match answer.recv_timeout(REBIND_WAIT) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(refused.to_owned()),
        }
    });
}

/// The next connection on any of the sockets.
async fn accept(tcp: &[TcpListener], unix: Option<&UnixListener>) -> io::Result<Socket> {
    poll_fn(|cx| {
        for listener in tcp {
            if let Poll::Ready(result) = listener.poll_accept(cx) {
                return Poll::Ready(
                    result.and_then(|(stream, _)| Ok(Socket::Tcp(stream.into_std()?))),
                );
            }
        }
        if let Some(listener) = unix
            && let Poll::Ready(result) = listener.poll_accept(cx)
        {
            return Poll::Ready(
                result.and_then(|(stream, _)| Ok(Socket::Unix(stream.into_std()?))),
            );
        }
        Poll::Pending
    })
    .await
}

/// `tcp-keepalive`: the first probe after `seconds`, then three at a third of it.
fn set_keepalive(stream: &std::net::TcpStream, seconds: u32) -> io::Result<()> {
    use rustix::net::sockopt;
    if seconds == 0 {
        return Ok(());
    }
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(seconds.into()))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs((seconds / 3).max(1).into()))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_tickets_are_out_than_allowed() {
        let count = Arc::default();
        let first = Ticket::take(&count, 2).unwrap();
        let second = Ticket::take(&count, 2).unwrap();
        assert!(Ticket::take(&count, 2).is_none());
        drop(first);
        let third = Ticket::take(&count, 2).unwrap();
        // A lower limit counts those that are already in.
        assert!(Ticket::take(&count, 1).is_none());
        drop((second, third));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
