//! Accepts connections, refuses those that may not come in, and spreads the rest over workers.
//!
//! One task owns all listening sockets, so that CONFIG SET of `port` and `bind` can replace them
//! at one point. Each accepted connection holds a [`Ticket`] while it lives: their number never
//! exceeds `maxclients`.

use super::bind;
use super::listener::{Accepted, Socket};
use super::tls::{Entering, Job};
use crate::config::{Config, Hooks};
use crate::server::Server;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::task::{Context, Poll};
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

/// What who comes from elsewhere reads in protected mode.
pub(super) const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is \
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
    tls: Vec<TcpListener>,
    unix: Option<UnixListener>,
    requests: mpsc::Receiver<Rebind>,
    tickets: Arc<AtomicUsize>,
    rejecting: bool,
}

impl Acceptor {
    /// Opens all sockets of the configuration in force, and makes CONFIG SET of `port`, `tls-port` and
    /// `bind` replace them. Must be called within a tokio runtime.
    pub fn open(
        server: Arc<Server>,
        workers: Vec<mpsc::Sender<Accepted>>,
    ) -> Result<Self, bind::BindError> {
        let config = server.config();
        let network = &config.network;
        let (tcp, tls) = open_both(&config, (Vec::new(), Vec::new()))?;
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
            tls,
            unix,
            requests,
            tickets,
            rejecting: false,
        })
    }

    /// Whether any socket is open.
    pub fn is_listening(&self) -> bool {
        !self.tcp.is_empty() || !self.tls.is_empty() || self.unix.is_some()
    }

    /// Accepts until told to stop; then no socket is open any more.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(request) = self.requests.recv() => self.rebind(request),
                arrived = accept(&self.tcp, &self.tls, self.unix.as_ref()) => match arrived {
                    Ok(Arrived::Plain(socket)) => self.admit(socket),
                    Ok(Arrived::Tls(stream)) => self.admit_over_tls(stream),
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
        self.tls.clear();
        if let Some(path) = self.server.config().network.unix_socket.as_ref()
            && self.unix.take().is_some()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "Unix socket not removed");
        }
    }

    fn rebind(&mut self, request: Rebind) {
        let kept = (std::mem::take(&mut self.tcp), std::mem::take(&mut self.tls));
        let result = match open_both(&request.new, kept) {
            Ok(listeners) => {
                (self.tcp, self.tls) = listeners;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "Failed to listen");
                match open_both(&request.old, (Vec::new(), Vec::new())) {
                    Ok(listeners) => (self.tcp, self.tls) = listeners,
                    Err(error) => tracing::error!(%error, "No longer listening on TCP"),
                }
                Err(error)
            }
        };
        // The asker may have given up.
        let _ = request.done.try_send(result);
    }

    /// The right of one more connection to be there; `Err`: why it may not.
    fn ticket(&mut self) -> Result<Ticket, &'static str> {
        if self.server.draining.load(Ordering::Acquire) {
            return Err(DRAINING);
        }
        let clients_max = self.server.config().network.clients_max;
        Ticket::take(&self.tickets, clients_max).ok_or(TOO_MANY)
    }

    fn admit(&mut self, socket: Socket) {
        let ticket = match self.ticket() {
            Ok(ticket) => ticket,
            Err(text) => return self.reject(socket, text),
        };
        if is_protected_from(&self.server, socket.is_local()) {
            return self.reject(socket, PROTECTED);
        }
        if let Socket::Tcp(stream) = &socket {
            self.prepare(stream);
        }
        let mut accepted = Accepted { socket, ticket };
        for _ in 0..self.workers.len() {
            let Some((_, worker)) = self.next_worker() else {
                break;
            };
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

    /// The handshake comes first. As in Redis who is refused before is told nothing: it would not
    /// understand it.
    fn admit_over_tls(&mut self, stream: std::net::TcpStream) {
        let ticket = match self.ticket() {
            Ok(ticket) => ticket,
            Err(text) => return self.count_rejected(text),
        };
        let (context, jobs) = (self.server.tls.context(), self.server.tls.jobs());
        let (Some(context), Some(jobs)) = (context, jobs) else {
            return self.count_rejected("there is no context for TLS");
        };
        self.prepare(&stream);
        let Some((worker, queue)) = self.next_worker() else {
            return;
        };
        let entering = Entering {
            stream,
            ticket,
            context,
            worker,
            queue: queue.downgrade(),
        };
        match jobs.try_send(Job::Enter(entering)) {
            Ok(()) => self.rejecting = false,
            Err(_) => self.count_rejected("too many handshakes wait"),
        }
    }

    /// Whose turn it is to get a connection.
    fn next_worker(&mut self) -> Option<(usize, mpsc::Sender<Accepted>)> {
        let index = self.next_worker;
        let worker = self.workers.get(index)?.clone();
        self.next_worker = (index + 1) % self.workers.len();
        Some((index, worker))
    }

    fn prepare(&self, stream: &std::net::TcpStream) {
        let keepalive_s = self.server.config().network.keepalive_s;
        if let Err(error) = set_keepalive(stream, keepalive_s) {
            tracing::debug!(%error, "keepalive not set");
        }
    }

    fn count_rejected(&mut self, reason: &str) {
        self.server.stats.rejected.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.rejecting, true) {
            tracing::debug!(reason = reason.trim_end(), "Rejecting connections");
        }
    }

    fn reject(&mut self, socket: Socket, text: &str) {
        self.count_rejected(text);
        // Best effort: the peer may be gone, or not read.
        let _ = match socket {
            Socket::Tcp(mut stream) => stream.write(text.as_bytes()),
            Socket::Unix(mut stream) => stream.write(text.as_bytes()),
            // Its handshake's thread refuses it.
            Socket::Tls(_) => Ok(0),
        };
    }
}

/// Whether the peer is on this machine.
pub(super) fn is_local(stream: &std::net::TcpStream) -> bool {
    stream
        .peer_addr()
        .is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
}

/// Whether protected mode keeps such a client out.
pub(super) fn is_protected_from(server: &Server, is_local: bool) -> bool {
    !is_local && server.config().network.protected_mode && server.acl.default_is_open()
}

/// The listeners of `port` and of `tls-port`.
type Listeners = (Vec<TcpListener>, Vec<TcpListener>);

/// Opens what the configuration names, out of what is open as far as it fits. Both are closed
/// where they don't before anything is opened: the ports may change places.
fn open_both(config: &Config, kept: Listeners) -> Result<Listeners, bind::BindError> {
    let plain = bind::Port::plain(config);
    let tls = bind::Port::tls(config);
    let kept = (bind::keep(&plain, kept.0), bind::keep(&tls, kept.1));
    Ok((bind::open(&plain, kept.0)?, bind::open(&tls, kept.1)?))
}

/// A connection that has just come.
enum Arrived {
    Plain(Socket),
    Tls(std::net::TcpStream),
}

fn add_hook(hooks: &mut Hooks, requests: mpsc::Sender<Rebind>) {
    hooks.add(
        &["port", "tls-port", "bind", "tcp-backlog"],
        move |old, new| {
            let refused = if (old.port, old.tls.port) == (new.port, new.tls.port) {
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
        },
    );
}

/// The next connection on any of the sockets.
async fn accept(
    tcp: &[TcpListener],
    tls: &[TcpListener],
    unix: Option<&UnixListener>,
) -> io::Result<Arrived> {
    poll_fn(|cx| {
        if let Some(accepted) = poll_tcp(tcp, cx) {
            return Poll::Ready(accepted.map(|stream| Arrived::Plain(Socket::Tcp(stream))));
        }
        if let Some(accepted) = poll_tcp(tls, cx) {
            return Poll::Ready(accepted.map(Arrived::Tls));
        }
        let Some(listener) = unix else {
            return Poll::Pending;
        };
        listener.poll_accept(cx).map(|accepted| {
            let stream = accepted.and_then(|(stream, _)| stream.into_std());
            stream.map(|stream| Arrived::Plain(Socket::Unix(stream)))
        })
    })
    .await
}

fn poll_tcp(
    listeners: &[TcpListener],
    cx: &mut Context<'_>,
) -> Option<io::Result<std::net::TcpStream>> {
    let mut listeners = listeners.iter();
    listeners.find_map(|listener| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Some(accepted.and_then(|(stream, _)| stream.into_std())),
        Poll::Pending => None,
    })
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
