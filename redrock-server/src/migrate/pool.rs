//! Connections to targets, kept for a while after use: moving many keys is many commands.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Idle connections at most.
const IDLE_MAX: usize = 64;
/// How long one is kept.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection that nobody else uses.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: BufReader<OwnedReadHalf>,
    pub(super) writer: OwnedWriteHalf,
    /// The database that is selected there; `None`: not known.
    pub(super) database: Option<i64>,
}

/// Whom a connection leads to: host, port, and as whom (what one user opened is no other's).
pub(super) type Peer = (String, u16, Option<(Option<Vec<u8>>, Vec<u8>)>);

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

/// Connects, trying each address of the host.
pub(super) async fn connect(addresses: &[SocketAddr]) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Connection {
        reader: BufReader::new(reader),
        writer,
        database: None,
    })
}
