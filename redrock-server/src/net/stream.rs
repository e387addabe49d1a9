//! Client sockets of each kind, TCP, Unix or TLS, as one type.
//!
//! Both halves share the socket and none shuts it down when dropped: a connection that was handed
//! to the replica agent lives on there after our halves are gone.

use super::tls::stream::TlsStream;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A shared socket.
#[derive(Clone)]
enum Shared {
    Tcp(Arc<TcpStream>),
    Unix(Arc<UnixStream>),
    Tls(Rc<TlsStream>),
}

/// The reading half. One task reads.
pub struct ReadHalf(Shared);

/// The writing half.
#[derive(Clone)]
pub struct WriteHalf(Shared);

/// The halves of a TCP socket.
pub fn tcp(stream: TcpStream) -> (ReadHalf, WriteHalf) {
    halves(Shared::Tcp(Arc::new(stream)))
}

/// The halves of a Unix socket.
pub fn unix(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    halves(Shared::Unix(Arc::new(stream)))
}

/// The halves of a TLS connection.
pub(super) fn tls(stream: TlsStream) -> (ReadHalf, WriteHalf) {
    halves(Shared::Tls(Rc::new(stream)))
}

fn halves(socket: Shared) -> (ReadHalf, WriteHalf) {
    (ReadHalf(socket.clone()), WriteHalf(socket))
}

impl ReadHalf {
    /// The TLS connection that it is of, once the other half is gone.
    pub(super) fn into_tls(self) -> Option<TlsStream> {
        match self.0 {
            Shared::Tls(stream) => Rc::try_unwrap(stream).ok(),
            _ => None,
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let result = match &self.0 {
                Shared::Tcp(socket) => {
                    ready!(socket.poll_read_ready(cx))?;
                    socket.try_read(buf.initialize_unfilled())
                }
                Shared::Unix(socket) => {
                    ready!(socket.poll_read_ready(cx))?;
                    socket.try_read(buf.initialize_unfilled())
                }
                Shared::Tls(stream) => return stream.poll_read(cx, buf),
            };
            match result {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl WriteHalf {
    /// Writes what the socket takes now. After `WouldBlock` the same bytes must come first.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Shared::Tcp(socket) => socket.try_write(bytes),
            Shared::Unix(socket) => socket.try_write(bytes),
            Shared::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Waits until the socket takes more.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.0 {
            Shared::Tcp(socket) => socket.writable().await,
            Shared::Unix(socket) => socket.writable().await,
            Shared::Tls(stream) => stream.writable().await,
        }
    }

    /// Whether bytes are encrypted on their way, so that the socket alone is of no use.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.0, Shared::Tls(_))
    }
}

impl AsFd for WriteHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Shared::Tcp(socket) => socket.as_fd(),
            Shared::Unix(socket) => socket.as_fd(),
            Shared::Tls(stream) => stream.socket().as_fd(),
        }
    }
}
