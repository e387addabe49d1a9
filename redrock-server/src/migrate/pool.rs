//! Connections to targets, kept for a while after use: moving many keys is many commands.

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Idle connections at most.
const IDLE_MAX: usize = 64;
/// How long one is kept.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connected socket, without TLS or with it (`tls-cluster`, as in Redis).
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that nobody else uses.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: BufReader<ReadHalf<Stream>>,
    pub(super) writer: WriteHalf<Stream>,
    /// The database that is selected there; `None`: not known.
    pub(super) database: Option<i64>,
}

/// Whom a connection leads to: host, port, as whom (what one user opened is no other's), and whether
/// with TLS.
pub(super) type Peer = (String, u16, Option<(Option<Vec<u8>>, Vec<u8>)>, bool);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Peer, Vec<(Instant, Connection)>>>,
}

impl Pool {
    /// Number of idle connections (`migrate_cached_sockets`).
    pub(crate) fn count(&self) -> usize {
        let mut idle = self.idle.lock();
        forget_old(&mut idle);
        idle.values().map(Vec::len).sum()
    }

    /// Takes an idle connection to `peer`.
    pub(super) fn take(&self, peer: &Peer) -> Option<Connection> {
        let mut idle = self.idle.lock();
        forget_old(&mut idle);
        let list = idle.get_mut(peer)?;
        let (_, connection) = list.pop()?;
        if list.is_empty() {
            idle.remove(peer);
        }
        Some(connection)
    }

    /// Keeps a connection on which nothing is owed, if there is room.
    pub(super) fn put(&self, peer: Peer, connection: Connection) {
        let mut idle = self.idle.lock();
        forget_old(&mut idle);
        if idle.values().map(Vec::len).sum::<usize>() < IDLE_MAX {
            let list = idle.entry(peer).or_default();
            list.push((Instant::now(), connection));
        }
    }

    /// Closes what has been idle for too long. Called now and then.
    pub(crate) fn sweep(&self) {
        forget_old(&mut self.idle.lock());
    }
}

fn forget_old(idle: &mut HashMap<Peer, Vec<(Instant, Connection)>>) {
    idle.retain(|_, list| {
        list.retain(|(since, _)| since.elapsed() <= IDLE_TIME_MAX);
        !list.is_empty()
    });
}

/// Connects, trying each address of the host, and shakes hands if there is a context for TLS.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<Connection> {
    let socket = TcpStream::connect(addresses).await?;
    socket.set_nodelay(true)?;
    let stream = match tls {
        None => Either::Left(socket),
        Some(tls) => {
            // As on links of replicas nobody looks at the name.
            let name = ServerName::from(Ipv4Addr::UNSPECIFIED);
            let shaken = TlsConnector::from(tls).connect(name, socket).await?;
            Either::Right(Box::new(shaken))
        }
    };
    let (reader, writer) = tokio::io::split(stream);
    Ok(Connection {
        reader: BufReader::new(reader),
        writer,
        database: None,
    })
}
