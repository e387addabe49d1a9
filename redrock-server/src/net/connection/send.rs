//! The sending side of a connection: replies, held back until the log allows them (I5).

use super::super::client::ClientShared;
use super::super::stream::WriteHalf;
use crate::config::Config;
use crate::log::FlushPoint;
use crate::server::Server;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// An empty buffer keeps at most so much: what a burst took is free for others.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// The sending side of a connection, shared between its task and the worker's flush.
pub struct Connection {
    /// Reached from other threads.
    pub shared: Arc<ClientShared>,
    /// Wakes the connection's task: an outbox message, a served block, a kill.
    pub wake: Notify,
    /// Whether the worker's flush has it on its list.
    pub scheduled: Cell<bool>,
    pub(super) out: RefCell<Vec<u8>>,
    /// Bytes at the head of `out` that were sent: they go when they are the larger part of it, so
    /// that a long reply is not moved at each write.
    head: Cell<usize>,
    /// Under `appendfsync always`: which part of `out` may go at which durable offset.
    marks: RefCell<VecDeque<(u64, usize)>>,
    /// Absent once the connection was handed to the replica agent.
    writer: RefCell<Option<WriteHalf>>,
    /// The peer does not take more: the task waits until it does.
    pub(super) congested: Cell<bool>,
    pub(super) broken: Cell<bool>,
    /// Something was sent since the last sweep.
    sent: Cell<bool>,
    /// What the task's buffers hold of requests.
    pub(super) input_bytes: Cell<usize>,
    pub(super) idle: Idle,
}

/// How long nothing came or went, as the worker's sweep sees it each second: a connection only
/// marks that it was active, which needs no clock.
#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) active: Cell<bool>,
    since_ms: Cell<i64>,
    /// Idle for longer than `timeout`: close, if nothing exempts the client.
    pub(super) over: Cell<bool>,
}

impl Connection {
    pub(super) fn new(shared: Arc<ClientShared>, writer: WriteHalf) -> Self {
        Self {
            shared,
            wake: Notify::new(),
            scheduled: Cell::new(false),
            out: RefCell::default(),
            head: Cell::new(0),
            marks: RefCell::default(),
            writer: RefCell::new(Some(writer)),
            congested: Cell::new(false),
            broken: Cell::new(false),
            sent: Cell::new(false),
            input_bytes: Cell::new(0),
            idle: Idle {
                active: Cell::new(true),
                ..Idle::default()
            },
        }
    }

    /// Forgets what waits to be sent.
    pub(super) fn discard(&self) {
        *self.out.borrow_mut() = Vec::new();
        self.shared.outbox.lock().clear();
        self.head.set(0);
        self.marks.borrow_mut().clear();
    }

    /// Moves messages from other threads behind what waits to be sent.
    pub fn take_outbox(&self) {
        self.shared.take_outbox(&mut self.out.borrow_mut());
    }

    /// Sends what may go at this point of the log. False if something stays that only a later
    /// durable point frees.
    pub fn send(&self, server: &Server, point: FlushPoint) -> bool {
        let mut out = self.out.borrow_mut();
        let end = self.sendable_end(point, out.len());
        let mut at = self.head.get();
        let writer = self.writer.borrow();
        while at < end && !self.broken.get() {
            let Some(writer) = &*writer else { break };
            match writer.try_write(out.get(at..end).unwrap_or_default()) {
                Ok(n) => {
                    at += n;
                    server.stats.output(n);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.congested.set(true);
                    self.wake.notify_one();
                    break;
                }
                Err(_) => self.broken.set(true),
            }
        }
        let mut marks = self.marks.borrow_mut();
        if self.broken.get() {
            *out = Vec::new();
            self.head.set(0);
            marks.clear();
            self.wake.notify_one();
            return true;
        }
        if at < end {
            // Congested: the freed part is no longer held by the log, only by the peer.
            marks.push_front((0, end));
        }
        if at == out.len() {
            out.clear();
            self.head.set(0);
            if out.capacity() > KEPT_BYTES_MAX {
                *out = Vec::new();
            }
        } else if at > out.len() / 2 {
            out.drain(..at);
            self.head.set(0);
            for (_, end) in marks.iter_mut() {
                *end -= at;
            }
        } else {
            self.head.set(at);
        }
        let unsent = (out.len() - self.head.get()) as u64;
        self.shared.out_bytes.store(unsent, Ordering::Relaxed);
        let held = out.capacity() as u64;
        self.shared.out_held_bytes.store(held, Ordering::Relaxed);
        self.sent.set(true);
        server.note_client(&self.shared);
        if at < end {
            server.limit_output(&server.config(), &self.shared, unsent);
        }
        self.charge(server, out.capacity());
        marks.iter().all(|&(offset, _)| offset == 0)
    }

    /// Up to where `out`, of `length` bytes, may be sent at this point of the log.
    fn sendable_end(&self, point: FlushPoint, length: usize) -> usize {
        let mut marks = self.marks.borrow_mut();
        let FlushPoint::Durable { appended, durable } = point else {
            marks.clear();
            return length;
        };
        if marks.back().is_none_or(|&(_, end)| end < length) {
            marks.push_back((appended, length));
        }
        let mut free = 0;
        while let Some(&(offset, end)) = marks.front() {
            if offset > durable {
                break;
            }
            free = end;
            marks.pop_front();
        }
        free
    }

    /// Charges what the buffers hold, `out_bytes` of them for what goes out.
    fn charge(&self, server: &Server, out_bytes: usize) {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) as usize;
        let elsewhere = load(&self.shared.queued_bytes) + load(&self.shared.transport_bytes);
        let bytes = out_bytes + self.input_bytes.get() + elsewhere;
        server.charge_client(&self.shared, bytes);
    }

    /// The task's buffers hold so much of requests now.
    pub(super) fn note_input(&self, server: &Server, bytes: usize) {
        self.input_bytes.set(bytes);
        self.charge(server, self.out.borrow().capacity());
    }

    /// The same when a command has run. Its reply counts when it has been tried to send it: until
    /// then no more is charged than before.
    pub(super) fn note_less_input(&self, server: &Server, bytes: usize) {
        self.input_bytes.set(bytes);
        let charged = self.shared.charged_bytes.load(Ordering::Relaxed) as usize;
        let held = bytes + self.out.borrow().capacity();
        server.charge_client(&self.shared, held.min(charged));
    }

    /// Looks once a second at what waits for longer than a soft limit allows, and gives the buffer
    /// of a connection back that sent nothing meanwhile.
    pub fn sweep_output(&self, server: &Server, config: &Config) {
        let waiting = self.unsent() as u64;
        if waiting > 0 {
            server.limit_output(config, &self.shared, waiting);
        } else if !self.sent.replace(false) && self.out.borrow().capacity() > 0 {
            *self.out.borrow_mut() = Vec::new();
            self.shared.out_held_bytes.store(0, Ordering::Relaxed);
            self.charge(server, 0);
        }
    }

    /// Tells a connection that was idle for too long. See [`Idle`].
    pub fn sweep_idle(&self, now_ms: i64, timeout_ms: i64) {
        if self.idle.active.replace(false) {
            self.idle.since_ms.set(now_ms);
        } else if now_ms - self.idle.since_ms.get() >= timeout_ms {
            self.idle.over.set(true);
            self.wake.notify_one();
        }
    }

    /// The writing half; `None` once it was handed over.
    pub(in crate::net) fn writer(&self) -> Option<WriteHalf> {
        self.writer.borrow().clone()
    }

    /// Lets the socket go: nothing is sent any more, and no buffer is kept.
    pub(in crate::net) fn close_writer(&self, server: &Server) {
        self.writer.borrow_mut().take();
        self.broken.set(true);
        self.discard();
        self.note_input(server, 0);
    }

    /// Waits until the socket takes more.
    pub(super) async fn writable(&self) -> std::io::Result<()> {
        match self.writer() {
            Some(writer) => writer.writable().await,
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    pub(in crate::net) fn unsent(&self) -> usize {
        self.out.borrow().len() - self.head.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::new_server;
    use crate::net::stream;

    fn connection() -> Connection {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixStream::from_std(ours).unwrap();
        Connection::new(Arc::default(), stream::unix(socket).1)
    }

    #[tokio::test]
    async fn who_hands_its_socket_over_keeps_no_buffers() {
        let server = new_server();
        let connection = connection();
        connection.out.borrow_mut().reserve(100_000);
        connection.note_input(&server, 200_000);
        assert!(server.client_memory.used_bytes() >= 300_000);
        connection.close_writer(&server);
        assert_eq!(server.client_memory.used_bytes(), 0);
        connection.sweep_output(&server, &server.config());
        assert_eq!(server.client_memory.used_bytes(), 0);
    }

    #[tokio::test]
    async fn who_is_forgotten_is_charged_nothing() {
        let server = new_server();
        let connection = connection();
        connection.note_input(&server, 200_000);
        server.forget_client(&connection.shared, None);
        assert_eq!(server.client_memory.used_bytes(), 0);
    }
}
