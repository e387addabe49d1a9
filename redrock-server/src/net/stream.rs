//! Client sockets of each kind, TCP, Unix or TLS, as one type.
//!
//! Both halves share the socket and none shuts it down when dropped: a connection that was handed
//! to the replica agent lives on there after our halves are gone.

use super::tls::stream::TlsStream;
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, Interest, ReadBuf};
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
            let read = match &self.0 {
                Shared::Tcp(socket) => {
                    ready!(socket.poll_read_ready(cx))?;
                    let try_io = |read: &mut Read<'_>| socket.try_io(Interest::READABLE, read);
                    read_once(socket, buf.initialize_unfilled(), try_io)
                }
                Shared::Unix(socket) => {
                    ready!(socket.poll_read_ready(cx))?;
                    let try_io = |read: &mut Read<'_>| socket.try_io(Interest::READABLE, read);
                    read_once(socket, buf.initialize_unfilled(), try_io)
                }
                Shared::Tls(stream) => return stream.poll_read(cx, buf),
            };
            match read {
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

/// What a socket's `try_io` is given: one read.
pub(super) type Read<'a> = dyn FnMut() -> io::Result<()> + 'a;

/// Reads what there is into `room`, by the `try_io` of the socket; how many bytes. A socket that had less than
/// there was room for is empty: its `try_io` is told so, and it is not asked again, in vain, before the system tells
/// of more (as tokio's own halves do it).
pub(super) fn read_once(
    socket: impl AsFd,
    room: &mut [u8],
    try_io: impl FnOnce(&mut Read<'_>) -> io::Result<()>,
) -> io::Result<usize> {
    let mut taken = None;
    let ended = try_io(&mut || {
        let (count, _) = retry_on_intr(|| recv(&socket, &mut *room, RecvFlags::empty()))?;
        taken = Some(count);
        match count > 0 && count < room.len() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    });
    match taken {
        Some(count) => Ok(count),
        None => ended.map(|()| 0),
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
