//! A blocking client of both protocols; it keeps the type byte of everything, so that the kind of
//! a null or of an aggregate is compared too.

use anyhow::{Context as _, bail};
use redrock_integration_tests::resp::encode;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A command's words.
pub(crate) type Words = Vec<Vec<u8>>;

/// How long a reply may take.
const REPLY_WAIT: Duration = redrock_integration_tests::scale::PATIENCE;

/// A reply with the type byte that it came with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reply {
    /// One line: status, error, integer, double, null, boolean, big number.
    Line(u8, Vec<u8>),
    /// A bulk or verbatim string.
    Bulk(u8, Vec<u8>),
    /// RESP2's null of a bulk string or an array.
    Null(u8),
    /// An array, set, push or map; a map has its keys and values in turn.
    Many(u8, Vec<Reply>),
}

impl Reply {
    /// The bytes of a string, line or number.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Line(_, bytes) | Self::Bulk(_, bytes) => bytes,
            _ => b"",
        }
    }

    /// The elements of an aggregate.
    pub(crate) fn elements(&self) -> &[Reply] {
        match self {
            Self::Many(_, elements) => elements,
            _ => &[],
        }
    }

    /// Whether it is an error.
    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Self::Line(b'-', _))
    }

    /// The integer of an integer reply.
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Line(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// Shows at most this many bytes of a string.
const SHOWN_BYTES_MAX: usize = 80;

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(kind, text) | Self::Bulk(kind, text) => {
                let shown = &text[..text.len().min(SHOWN_BYTES_MAX)];
                write!(f, "{}{}", *kind as char, shown.escape_ascii())?;
                if shown.len() < text.len() {
                    write!(f, "... ({} bytes)", text.len())?;
                }
                Ok(())
            }
            Self::Null(kind) => write!(f, "{}-1", *kind as char),
            Self::Many(kind, elements) => {
                write!(f, "{}", *kind as char)?;
                f.debug_list().entries(elements).finish()
            }
        }
    }
}

/// Words as one would type them, shortened.
pub(crate) fn show(words: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for word in words.iter().take(24) {
        let shown = &word[..word.len().min(SHOWN_BYTES_MAX)];
        text.push_str(&format!("\"{}\" ", shown.escape_ascii()));
    }
    if words.len() > 24 {
        text.push_str(&format!("... ({} words)", words.len()));
    }
    text
}

/// A connection to a server of this host.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_WAIT))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn send(&mut self, words: &[impl AsRef<[u8]>]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        encode(&mut bytes, words);
        Ok(self.stream.get_mut().write_all(&bytes)?)
    }

    pub(crate) fn run(&mut self, words: &[impl AsRef<[u8]>]) -> anyhow::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Runs a command and a PING after it, and returns all that arrives until the ping's answer:
    /// what had been pushed before, and the command's replies, however many these are.
    pub(crate) fn run_until_ping(&mut self, words: &[Vec<u8>]) -> anyhow::Result<Vec<Reply>> {
        const MARK: &[u8] = b"end-of-replies";
        if !words.is_empty() {
            self.send(words)?;
        }
        self.send(&[b"PING", MARK])?;
        let mut all = Vec::new();
        loop {
            let reply = self.receive()?;
            if reply.bytes() == MARK || reply.elements().last().is_some_and(|e| e.bytes() == MARK) {
                return Ok(all);
            }
            all.push(reply);
        }
    }

    pub(crate) fn receive(&mut self) -> anyhow::Result<Reply> {
        let mut line = Vec::new();
        self.stream
            .read_until(b'\n', &mut line)
            .context("read a reply")?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            bail!("the connection was closed");
        };
        let (&kind, rest) = line.split_first().context("an empty reply")?;
        let length = || -> anyhow::Result<i64> { Ok(std::str::from_utf8(rest)?.parse()?) };
        Ok(match kind {
            b'+' | b'-' | b':' | b',' | b'_' | b'#' | b'(' => Reply::Line(kind, rest.to_vec()),
            b'$' | b'=' | b'*' | b'~' | b'>' if length()? < 0 => Reply::Null(kind),
            b'$' | b'=' => {
                let mut bytes = vec![0; usize::try_from(length()?)? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(kind, bytes)
            }
            b'*' | b'~' | b'>' | b'%' => {
                let count = length()? * if kind == b'%' { 2 } else { 1 };
                let elements = (0..count)
                    .map(|_| self.receive())
                    .collect::<Result<_, _>>()?;
                Reply::Many(kind, elements)
            }
            other => bail!("unknown reply type {:?}", other as char),
        })
    }
}
