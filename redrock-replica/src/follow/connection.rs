//! The socket to a master and the handshake on it, as Redis 7 shakes hands:
//! PING, AUTH, REPLCONF, PSYNC. Every wait is bounded by the timeout.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::Target;
use super::reply::{
    PsyncReply, SnapshotHead, check_auth, check_ping, parse_psync, parse_snapshot_head, refusal,
};
use super::stream::{self, Stream};
use crate::config::Settings;
use crate::context::Position;
use crate::snapshot_id::{self, Held};
use crate::socket;

/// Read at once.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// Longest line of the handshake.
const LINE_BYTES_MAX: usize = 4096;
/// As in Redis, whatever `repl-timeout` says.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connected master. What was read and not taken stays in `buffer`.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// Bytes `at..` were read and not yet taken.
    buffer: Vec<u8>,
    at: usize,
    timeout: Duration,
}

/// Connects from `source`, where one is given: an address of this machine, of the peer's family.
/// As in Redis, one that can't be used is told and passed over.
async fn connect(address: SocketAddr, source: &str) -> io::Result<TcpStream> {
    if source.is_empty() {
        return TcpStream::connect(address).await;
    }
    let from_source = async {
        let source = tokio::net::lookup_host((source, 0))
            .await?
            .find(|source| source.is_ipv4() == address.is_ipv4())
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = match address.is_ipv4() {
            true => TcpSocket::new_v4()?,
            false => TcpSocket::new_v6()?,
        };
        socket.bind(source)?;
        socket.connect(address).await
    };
    match from_source.await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            tracing::warn!(source, %error, "bind-source-addr can't be used");
            TcpStream::connect(address).await
        }
        result => result,
    }
}

impl Connection {
    /// Connects, trying each address of the host. Files for TLS are read anew each time.
    pub(super) async fn open(
        target: &Target,
        settings: &Settings,
        data_dir: &Path,
    ) -> anyhow::Result<Connection> {
        let tls = match target.tls {
            true => Some(stream::connector(settings.tls.clone().within(data_dir)).await?),
            false => None,
        };
        let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
        let addresses: Vec<SocketAddr> = tokio::time::timeout(RESOLVE_TIMEOUT, lookup)
            .await
            .context("resolve the master's name: no answer")?
            .context("resolve the master's name")?
            .collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let connecting = async {
                let stream = connect(address, &settings.bind_source_addr).await?;
                socket::prepare(&stream, settings);
                stream::open(stream, tls.as_ref()).await
            };
            match tokio::time::timeout(settings.repl_timeout, connecting).await {
                Ok(Ok(stream)) => {
                    return Ok(Connection {
                        stream,
                        buffer: Vec::with_capacity(READ_BYTES),
                        at: 0,
                        timeout: settings.repl_timeout,
                    });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            }
        }
        Err(last).context("connect")
    }

    /// All before PSYNC. `held` is what we have of a snapshot that a link broke in.
    pub(super) async fn shake_hands(
        &mut self,
        target: &Target,
        held: Option<Held>,
    ) -> anyhow::Result<()> {
        self.send(&[b"PING"]).await?;
        check_ping(&self.line("PING").await?)?;
        if !target.password.is_empty() {
            match target.user.is_empty() {
                true => self.send(&[b"AUTH", &target.password]).await?,
                false => {
                    let user = target.user.as_bytes();
                    self.send(&[b"AUTH", user, &target.password]).await?;
                }
            }
            check_auth(&self.line("AUTH").await?)?;
        }
        self.introduce(target, held).await
    }

    /// PSYNC and its answer.
    pub(super) async fn psync(
        &mut self,
        ask: Option<Position>,
        failover: bool,
    ) -> anyhow::Result<PsyncReply> {
        let (replid, next) = match ask {
            Some(position) => (
                position.replid.to_string(),
                position.offset.saturating_add(1).to_string(),
            ),
            None => ("?".to_owned(), "-1".to_owned()),
        };
        let mut psync: Vec<&[u8]> = vec![b"PSYNC", replid.as_bytes(), next.as_bytes()];
        if failover {
            psync.push(b"FAILOVER");
        }
        self.send(&psync).await?;
        loop {
            if let Some(reply) = parse_psync(&self.line("PSYNC").await?)? {
                return Ok(reply);
            }
        }
    }

    /// REPLCONF; as Redis, a master that refuses one of them is no obstacle,
    /// unless it wants credentials first.
    async fn introduce(&mut self, target: &Target, held: Option<Held>) -> anyhow::Result<()> {
        let port = target.listening_port.to_string();
        self.send(&[b"REPLCONF", b"listening-port", port.as_bytes()])
            .await?;
        let mut replies = 2;
        if !target.announced_ip.is_empty() {
            let ip = target.announced_ip.as_bytes();
            self.send(&[b"REPLCONF", b"ip-address", ip]).await?;
            replies += 1;
        }
        // Redis passes over capabilities that it does not know.
        let ours = snapshot_id::capability(held);
        let capabilities: [&[u8]; 7] = [
            b"REPLCONF",
            b"capa",
            b"eof",
            b"capa",
            b"psync2",
            b"capa",
            ours.as_bytes(),
        ];
        self.send(&capabilities).await?;
        for _ in 0..replies {
            let line = self.line("REPLCONF").await?;
            if line.starts_with("-NOAUTH") || line.starts_with("-NOPERM") {
                return Err(refusal("REPLCONF", &line).into());
            }
            if line.starts_with('-') {
                tracing::info!(%line, "the master does not understand a REPLCONF");
            }
        }
        Ok(())
    }

    /// The line before the snapshot. Newlines that the master sends while it
    /// makes one are reported to `alive`.
    pub(super) async fn snapshot_head(
        &mut self,
        mut alive: impl FnMut(),
    ) -> anyhow::Result<SnapshotHead> {
        loop {
            let line = self.line("the snapshot").await?;
            alive();
            if let Some(head) = parse_snapshot_head(&line)? {
                return Ok(head);
            }
        }
    }

    /// Sends a command.
    pub(super) async fn send(&mut self, args: &[&[u8]]) -> anyhow::Result<()> {
        let bytes = encode_command(args);
        let writing = async {
            self.stream.write_all(&bytes).await?;
            // What is encrypted may wait.
            self.stream.flush().await
        };
        tokio::time::timeout(self.timeout, writing)
            .await
            .context("write to the master: timeout")?
            .context("write to the master")
    }

    /// What was read and not taken.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Takes the buffer for a task that writes it out; the bytes of
    /// [`unread`](Connection::unread) begin at the returned position. Give it
    /// back with [`put_buffer`](Connection::put_buffer).
    pub(super) fn take_buffer(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.buffer),
            std::mem::take(&mut self.at),
        )
    }

    /// `buffer[at..]` counts as unread.
    pub(super) fn put_buffer(&mut self, buffer: Vec<u8>, at: usize) {
        self.buffer = buffer;
        self.at = at;
        if self.at >= self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// Reads more behind what is unread; an error at the end of the stream.
    /// Cancel-safe. Without a timeout of its own.
    pub(super) async fn fill(&mut self) -> anyhow::Result<()> {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        if self.buffer.len() >= READ_BYTES {
            return Ok(());
        }
        if self.buffer.capacity() < READ_BYTES {
            self.buffer.reserve_exact(READ_BYTES - self.buffer.len());
        }
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => bail!("the master closed the connection"),
            Ok(_) => Ok(()),
            Err(error) => Err(error).context("read from the master"),
        }
    }

    /// As `fill`, within the timeout.
    pub(super) async fn fill_in_time(&mut self) -> anyhow::Result<()> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.fill())
            .await
            .context("read from the master: timeout")?
    }

    async fn line(&mut self, step: &'static str) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.unread().iter().position(|byte| *byte == b'\n') {
                let line = self.unread().get(..end).unwrap_or_default();
                let line = String::from_utf8_lossy(line).trim_end().to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            if self.unread().len() > LINE_BYTES_MAX {
                bail!("the master's answer to {step} is too long");
            }
            self.fill_in_time()
                .await
                .with_context(|| format!("wait for the answer to {step}"))?;
        }
    }
}

/// A command as an array of bulk strings.
pub(super) fn encode_command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
