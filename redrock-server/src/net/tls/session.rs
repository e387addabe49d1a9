//! One side of a TLS connection, without its socket's runtime: bytes in and out of rustls.
//!
//! Invariants:
//! - ciphertext that waits for the socket is bounded: nothing more is encrypted while some waits;
//! - what was encrypted counts as sent only when the socket has all of it. Until then its length is a
//!   *debt*: the next call must offer the same bytes again, is told that they are sent, and nothing is
//!   encrypted twice. So whoever waits for a socket to take more waits for a TLS connection the same way.

use rustls::{ServerConfig, ServerConnection};
use std::io::{self, IoSlice, Read as _, Write};
use std::sync::Arc;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// Plaintext that is encrypted at once; rustls' own bound for what it keeps.
const PIECE_BYTES: usize = 64 << 10;
/// What a session takes beside its figures: keys, the peer's certificates, and the buffer that
/// rustls reads into.
const HELD_BYTES: usize = 8 << 10;

/// See the module.
pub(in crate::net) struct TlsSession {
    connection: ServerConnection,
    /// Bytes that are encrypted, and not yet told as sent.
    debt: usize,
    /// Plaintext that came and was not read.
    unread: usize,
}

/// Writes to a socket without waiting.
struct Now<'s>(&'s TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsSession {
    pub(super) fn new(context: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: ServerConnection::new(context)?,
            debt: 0,
            unread: 0,
        })
    }

    /// What it takes in memory.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<ServerConnection>() + HELD_BYTES + self.debt + self.unread
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes ciphertext in, and plaintext out into `out` as far as it fits. After an error the
    /// peer is told of it as far as the socket takes that now, and the session is of no more use.
    pub(super) fn take_in(
        &mut self,
        mut input: &[u8],
        out: &mut ReadBuf<'_>,
        socket: &TcpStream,
    ) -> io::Result<()> {
        if input.is_empty() {
            // The end of the stream.
            self.connection.read_tls(&mut input)?;
        }
        while !input.is_empty() {
            if self.connection.read_tls(&mut input)? == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    let _unheard = self.connection.write_tls(&mut Now(socket));
                    return Err(invalid(error));
                }
            };
            self.unread = state.plaintext_bytes_to_read();
            if self.unread > 0 {
                self.take_out(out)?;
            }
        }
        Ok(())
    }

    /// Takes plaintext out into `out`. `None`: there is none, and `Some(0)` is the end.
    pub(super) fn take_out(&mut self, out: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        let mut taken = 0;
        while out.remaining() > 0 {
            match self.connection.reader().read(out.initialize_unfilled()) {
                Ok(0) => return Ok(Some(taken)),
                Ok(count) => {
                    out.advance(count);
                    taken += count;
                    self.unread = self.unread.saturating_sub(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // As for a socket: who leaves without a word has left.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Some(taken));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((taken > 0).then_some(taken))
    }

    /// Sends what is encrypted. `WouldBlock`: some is left.
    pub(super) fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Now(socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Encrypts and sends the head of `bytes`; how much of it. See the module.
    pub(super) fn send(&mut self, bytes: &[u8], socket: &TcpStream) -> io::Result<usize> {
        self.flush(socket)?;
        if self.debt > 0 {
            return Ok(std::mem::take(&mut self.debt).min(bytes.len()));
        }
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        let count = self.connection.writer().write(piece)?;
        if let Err(error) = self.flush(socket) {
            if error.kind() == io::ErrorKind::WouldBlock {
                self.debt = count;
            }
            return Err(error);
        }
        Ok(count)
    }

    /// Tells the peer that nothing more comes, if the socket takes that now.
    pub(super) fn close(&mut self, socket: &TcpStream) {
        self.connection.send_close_notify();
        let _unheard = self.flush(socket);
    }
}
