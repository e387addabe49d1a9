//! A small blocking RESP2 client.

use anyhow::{Context as _, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// How long a reply may take.
const REPLY_WAIT: Duration = crate::scale::PATIENCE;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// Null of either kind.
    Nil,
    /// A simple string.
    Status(String),
    /// An error line without the dash.
    Error(String),
    /// An integer.
    Int(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// An array.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a bulk or simple string or an integer; empty for anything else.
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Int(n) => n.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        }
    }

    /// The elements of an array; empty for anything else.
    pub fn elements(self) -> Vec<Reply> {
        match self {
            Self::Array(elements) => elements,
            _ => Vec::new(),
        }
    }

    /// The integer, also from a bulk string.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            other => other.text().parse().ok(),
        }
    }
}

/// Appends a command in RESP.
pub fn encode(out: &mut Vec<u8>, command: &[impl AsRef<[u8]>]) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for word in command {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What a connection's bytes go over.
#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Transport {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<Transport>,
}

impl Client {
    /// Connects to a port of this host.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_WAIT))?;
        Ok(Self {
            stream: BufReader::new(Transport::Plain(stream)),
        })
    }

    /// Connects with TLS and shakes hands; who is refused may learn it with the first reply only.
    pub fn connect_tls(port: u16, config: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(REPLY_WAIT))?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = StreamOwned::new(ClientConnection::new(config, name)?, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream: BufReader::new(Transport::Tls(Box::new(stream))),
        })
    }

    /// Whether the server has said goodbye as TLS does it, after all that it had to say.
    pub fn is_closed_well(&mut self) -> anyhow::Result<bool> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(true),
            Ok(_) => bail!("it says more"),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets how long each reply may take; half a minute unless told.
    pub fn set_reply_wait(&mut self, wait: Duration) -> anyhow::Result<()> {
        Ok(self
            .stream
            .get_ref()
            .socket()
            .set_read_timeout(Some(wait))?)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        Ok(stream.flush()?)
    }

    /// Sends a command without waiting.
    pub fn send(&mut self, command: &[impl AsRef<[u8]>]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, command);
        self.send_raw(&bytes)
    }

    /// Runs a command; its reply may be an error.
    pub fn run(&mut self, command: &[impl AsRef<[u8]>]) -> anyhow::Result<Reply> {
        self.send(command)?;
        self.receive()
    }

    /// Runs a command given as words separated by blanks; an error reply is an error.
    pub fn ok(&mut self, line: &str) -> anyhow::Result<Reply> {
        let words: Vec<&str> = line.split(' ').collect();
        match self.run(&words)? {
            Reply::Error(text) => bail!("{line}: {text}"),
            reply => Ok(reply),
        }
    }

    /// Reads so many bytes that are no reply.
    pub fn bytes(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a line.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            bail!("the connection was closed");
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads one reply.
    pub fn receive(&mut self) -> anyhow::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("an empty reply")?;
        Ok(match kind {
            "+" => Reply::Status(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Int(rest.parse()?),
            "$" => match rest.parse::<i64>()? {
                -1 => Reply::Nil,
                length => {
                    let mut bytes = vec![0; usize::try_from(length)? + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(bytes.len() - 2);
                    Reply::Bulk(bytes)
                }
            },
            "*" => match rest.parse::<i64>()? {
                -1 => Reply::Nil,
                count => Reply::Array(
                    (0..count)
                        .map(|_| self.receive())
                        .collect::<Result<_, _>>()?,
                ),
            },
            other => bail!("unknown reply type {other}"),
        })
    }
}
