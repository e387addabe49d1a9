//! Client sockets of either kind, TCP or Unix, as one type.
//!
//! Both halves share the socket and none shuts it down when dropped: a connection that was handed
//! to the replica agent lives on there after our halves are gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A shared socket.
#[derive(Clone)]
enum Shared {
    Tcp(Arc<TcpStream>),
    Unix(Arc<UnixStream>),
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

fn halves(socket: Shared) -> (ReadHalf, WriteHalf) {
    (ReadHalf(socket.clone()), WriteHalf(socket))
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
    /// Writes what the socket takes now.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Shared::Tcp(socket) => socket.try_write(bytes),
            Shared::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// Waits until the socket takes more.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.0 {
            Shared::Tcp(socket) => socket.writable().await,
            Shared::Unix(socket) => socket.writable().await,
        }
    }
}

impl AsFd for WriteHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Shared::Tcp(socket) => socket.as_fd(),
            Shared::Unix(socket) => socket.as_fd(),
        }
    }
}
