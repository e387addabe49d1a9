//! A TLS connection of one thread: a socket and its session, read and written as plaintext.

use super::session::TlsSession;
use crate::net::client::ClientShared;
use crate::net::stream::{Read, read_once};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

/// Ciphertext read at once. With what may be held of a record before it, its plaintext fits in the
/// buffer of a worker.
const READ_BYTES: usize = 48 << 10;

thread_local! {
    /// What was read last; nobody's between two calls.
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// See the module. When it is dropped the peer is told, unless it was taken apart.
pub(in crate::net) struct TlsStream {
    socket: Rc<TcpStream>,
    /// Absent once it was taken.
    session: RefCell<Option<TlsSession>>,
    shared: Arc<ClientShared>,
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl TlsStream {
    /// Must be called within the runtime that is to drive it.
    pub(in crate::net) fn new(
        stream: std::net::TcpStream,
        session: TlsSession,
        shared: Arc<ClientShared>,
    ) -> io::Result<Self> {
        let stream = Self {
            socket: Rc::new(TcpStream::from_std(stream)?),
            session: RefCell::new(Some(session)),
            shared,
        };
        stream.with(|session, _| {
            stream.note(session);
            Ok(())
        })?;
        Ok(stream)
    }

    /// The socket, and the session that goes on.
    pub(in crate::net) fn into_parts(self) -> io::Result<(std::net::TcpStream, TlsSession)> {
        let session = self.session.take().ok_or_else(gone)?;
        let socket = self.socket.clone();
        drop(self);
        let socket = Rc::try_unwrap(socket).map_err(|_| gone())?;
        Ok((socket.into_std()?, session))
    }

    pub(in crate::net) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(in crate::net) fn shared(&self) -> &Arc<ClientShared> {
        &self.shared
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut TlsSession, &TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        match &mut *self.session.borrow_mut() {
            Some(session) => work(session, &self.socket),
            None => Err(gone()),
        }
    }

    /// Memory of the client.
    fn note(&self, session: &TlsSession) {
        let bytes = session.held_bytes() as u64;
        self.shared.transport_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Reads plaintext; nothing at the end of the stream.
    pub(in crate::net) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.with(|session, _| session.take_out(out))?.is_some() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            let read = CIPHERTEXT.with_borrow_mut(|ciphertext| {
                let space = ciphertext.len().min(out.remaining());
                let space = ciphertext.get_mut(..space).unwrap_or_default();
                let try_io = |read: &mut Read<'_>| self.socket.try_io(Interest::READABLE, read);
                let count = read_once(&self.socket, space, try_io)?;
                let input = space.get(..count).unwrap_or_default();
                self.take_in(input, out)
            });
            match read {
                Ok(()) if out.filled().is_empty() => {}
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn take_in(&self, input: &[u8], out: &mut ReadBuf<'_>) -> io::Result<()> {
        self.with(|session, socket| {
            session.take_in(input, out, socket)?;
            // What TLS itself answers. What the socket does not take goes before the next words.
            match session.flush(socket) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => self.note(session),
            }
            Ok(())
        })
    }

    /// As a socket's: writes what it takes now. After `WouldBlock` the same bytes must come first.
    pub(in crate::net) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|session, socket| {
            let sent = session.send(bytes, socket);
            self.note(session);
            sent
        })
    }

    /// Waits until the socket takes more.
    pub(in crate::net) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Reads plaintext; 0 at the end of the stream.
    pub(super) async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut out = ReadBuf::new(bytes);
        poll_fn(|cx| self.poll_read(cx, &mut out)).await?;
        Ok(out.filled().len())
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if let Some(session) = self.session.get_mut() {
            session.close(&self.socket);
        }
    }
}
