//! One client connection: reads, runs what was read, and hands replies to the worker's flush.

use super::client::{Client, ClientShared, OwnedCommand};
use super::handover::HandedOver;
use super::parser::{Parser, RequestLimits, Step};
use super::stream::{ReadHalf, WriteHalf};
use super::worker::Worker;
use crate::clock;
use crate::command::CommandError;
use crate::command::dispatch::{self, Deferred, Outcome, Wait};
use crate::command::reply::Reply;
use crate::log::FlushPoint;
use crate::server::Server;
use crate::state::PauseMode;
use crate::waits::WaitBudget;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::sync::Notify;

/// Bytes read at once; also what a worker keeps for all its connections together.
const READ_BYTES: usize = 64 << 10;

/// What a paused client may send ahead before its socket is no longer read.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The sending side of a connection, shared between its task and the worker's flush.
pub struct Connection {
    /// Reached from other threads.
    pub shared: Arc<ClientShared>,
    /// Wakes the connection's task: an outbox message, a served block, a kill.
    pub wake: Notify,
    /// Whether the worker's flush has it on its list.
    pub scheduled: Cell<bool>,
    out: RefCell<Vec<u8>>,
    /// Under `appendfsync always`: which part of `out` may go at which durable offset.
    marks: RefCell<VecDeque<(u64, usize)>>,
    /// Absent once the connection was handed to the replica agent.
    writer: RefCell<Option<WriteHalf>>,
    /// The peer does not take more: the task waits until it does.
    congested: Cell<bool>,
    broken: Cell<bool>,
    idle: Idle,
}

/// How long nothing came or went, as the worker's sweep sees it each second: a connection only
/// marks that it was active, which needs no clock.
#[derive(Debug, Default)]
struct Idle {
    active: Cell<bool>,
    since_ms: Cell<i64>,
    /// Idle for longer than `timeout`: close, if nothing exempts the client.
    over: Cell<bool>,
}

impl Connection {
    /// Moves messages from other threads behind what waits to be sent.
    pub fn take_outbox(&self) {
        let mut outbox = self.shared.outbox.lock();
        if !outbox.is_empty() {
            self.out.borrow_mut().append(&mut outbox);
        }
    }

    /// Sends what may go at this point of the log. False if something stays that only a later
    /// durable point frees.
    pub fn send(&self, server: &Server, point: FlushPoint) -> bool {
        let mut out = self.out.borrow_mut();
        let sendable = match point {
            FlushPoint::Written => {
                self.marks.borrow_mut().clear();
                out.len()
            }
            FlushPoint::Durable { appended, durable } => {
                let mut marks = self.marks.borrow_mut();
                if marks.back().is_none_or(|&(_, end)| end < out.len()) {
                    marks.push_back((appended, out.len()));
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
        };
        let mut sent = 0;
        let writer = self.writer.borrow();
        while sent < sendable && !self.broken.get() {
            let Some(writer) = &*writer else { break };
            match writer.try_write(&out[sent..sendable]) {
                Ok(n) => {
                    sent += n;
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
        if self.broken.get() {
            out.clear();
            self.marks.borrow_mut().clear();
            self.wake.notify_one();
            return true;
        }
        out.drain(..sent);
        for (_, end) in self.marks.borrow_mut().iter_mut() {
            *end -= sent;
        }
        if sent < sendable {
            // Congested: the freed part is no longer held by the log, only by the peer.
            self.marks.borrow_mut().push_front((0, sendable - sent));
        } else if out.is_empty() && out.capacity() > READ_BYTES {
            *out = Vec::new();
        }
        self.shared
            .out_bytes
            .store(out.len() as u64, Ordering::Relaxed);
        self.marks.borrow().iter().all(|&(offset, _)| offset == 0)
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
    pub(super) fn writer(&self) -> Option<WriteHalf> {
        self.writer.borrow().clone()
    }

    /// Lets the socket go: nothing is sent any more.
    pub(super) fn close_writer(&self) {
        self.writer.borrow_mut().take();
        self.broken.set(true);
    }

    /// Waits until the socket takes more.
    async fn writable(&self) -> std::io::Result<()> {
        match self.writer() {
            Some(writer) => writer.writable().await,
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.out.borrow().len()
    }
}

/// Why a connection's task pauses between requests.
enum Pause {
    /// Everything that was read is done.
    Read,
    /// A command waits for a key.
    Blocked(Option<i64>),
    /// A command must wait outside the locks and then run again.
    Retry(Wait, OwnedCommand),
    /// A command's reply is made by something that takes its time.
    Deferred(Deferred),
    /// The connection goes to the replica agent ([`Client::hand_over`]).
    HandOver,
    /// The connection ends.
    Close,
}

/// What ends a wait for input.
enum Event {
    /// Input came and was run as far as it goes.
    Processed(Pause),
    /// The peer is gone.
    Closed,
    /// Another thread or the flush wants attention.
    Woken,
}

/// A connection's task state.
pub(super) struct Session {
    pub(super) worker: Rc<Worker>,
    pub(super) connection: Rc<Connection>,
    pub(super) reader: Option<ReadHalf>,
    /// Absent while the client is parked in the table of blocked clients.
    pub(super) client: Option<Box<Client>>,
    parser: Parser,
    /// Bytes read and not consumed: an unfinished request, or what follows a paused one.
    pub(super) buffered: Vec<u8>,
}

impl Session {
    pub(super) fn new(
        worker: Rc<Worker>,
        client: Box<Client>,
        reader: ReadHalf,
        writer: WriteHalf,
    ) -> Self {
        let connection = Rc::new(Connection {
            shared: client.shared.clone(),
            wake: Notify::new(),
            scheduled: Cell::new(false),
            out: RefCell::default(),
            marks: RefCell::default(),
            writer: RefCell::new(Some(writer)),
            congested: Cell::new(false),
            broken: Cell::new(false),
            idle: Idle {
                active: Cell::new(true),
                ..Idle::default()
            },
        });
        worker
            .connections
            .borrow_mut()
            .insert(client.id(), connection.clone());
        Self {
            worker,
            connection,
            reader: Some(reader),
            client: Some(client),
            parser: Parser::default(),
            buffered: Vec::new(),
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(mut self) {
        loop {
            let request = self
                .client
                .as_mut()
                .and_then(|client| client.hand_over.take());
            if let Some(request) = request {
                match self.hand_over(request).await {
                    HandedOver::Gone => return,
                    HandedOver::Kept => continue,
                    HandedOver::Lost => break,
                }
            }
            let pause = if self.buffered.is_empty() {
                Pause::Read
            } else {
                let buffered = std::mem::take(&mut self.buffered);
                self.process_buffered(buffered)
            };
            let open = match pause {
                Pause::Close => false,
                Pause::Read => self.wait_and_read().await,
                Pause::Blocked(deadline) => self.wait_blocked(deadline).await,
                Pause::Retry(wait, command) => self.wait_and_rerun(wait, command).await,
                Pause::Deferred(deferred) => self.await_deferred(deferred).await,
                Pause::HandOver => true,
            };
            if !open {
                break;
            }
        }
        self.finish().await;
    }

    /// Sends what is left and leaves all tables.
    async fn finish(mut self) {
        self.worker.schedule(&self.connection, 0);
        self.worker.flush();
        // Who was killed gets what its socket takes at once and no more.
        while self.connection.unsent() > 0 && !self.killed() {
            if self.connection.writable().await.is_err() {
                break;
            }
            self.worker.schedule(&self.connection, 0);
            self.worker.flush();
            tokio::task::yield_now().await;
        }
        self.worker
            .connections
            .borrow_mut()
            .remove(&self.connection.shared.id);
        // Taken back from the table of blocked clients by a connection that ends.
        let returned = self.connection.shared.returned.lock().take();
        let client = self.client.take().or(returned);
        self.worker
            .server
            .forget_client(&self.connection.shared, client);
    }

    pub(super) fn killed(&self) -> bool {
        self.connection.broken.get() || self.connection.shared.kill.load(Ordering::Relaxed)
    }

    /// Waits for input (or a wake-up), reads it, runs it. False when the connection ended.
    async fn wait_and_read(&mut self) -> bool {
        if self.killed() {
            return false;
        }
        if self.connection.congested.get() {
            return self.wait_writable().await;
        }
        self.connection.idle.active.set(true);
        self.connection.idle.over.set(false);
        let event = self.next_event().await;
        match event {
            Event::Woken if self.connection.idle.over.get() && self.may_time_out() => {
                tracing::debug!(client = self.connection.shared.id, "Closing idle client");
                false
            }
            Event::Closed => false,
            Event::Woken => !self.killed(),
            Event::Processed(Pause::Read) => true,
            Event::Processed(Pause::Close) => false,
            Event::Processed(Pause::Blocked(deadline)) => self.wait_blocked(deadline).await,
            Event::Processed(Pause::Retry(wait, command)) => {
                self.wait_and_rerun(wait, command).await
            }
            Event::Processed(Pause::Deferred(deferred)) => self.await_deferred(deferred).await,
            Event::Processed(Pause::HandOver) => true,
        }
    }

    /// Whether `timeout` holds for the client: subscribers wait for as long as they like.
    fn may_time_out(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.subscription_count() + client.shard_channels.len() == 0)
    }

    /// The next input, processed, or a wake-up. The registration for wake-ups ends with this
    /// call: one that lived on would swallow those meant for a blocked command.
    async fn next_event(&mut self) -> Event {
        let connection = self.connection.clone();
        let woken = connection.wake.notified();
        let mut woken = std::pin::pin!(woken);
        poll_fn(|cx| {
            let polled = READ_BUFFER.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                let Some(reader) = &mut self.reader else {
                    return Some(Event::Closed);
                };
                match Pin::new(reader).poll_read(cx, &mut buf) {
                    Poll::Ready(Ok(())) if buf.filled().is_empty() => Some(Event::Closed),
                    Poll::Ready(Ok(())) => {
                        let filled = buf.filled();
                        self.worker.server.stats.input(filled.len());
                        let pause = if self.buffered.is_empty() {
                            self.process(filled)
                        } else {
                            let mut all = std::mem::take(&mut self.buffered);
                            all.extend_from_slice(filled);
                            self.process_buffered(all)
                        };
                        Some(Event::Processed(pause))
                    }
                    Poll::Ready(Err(_)) => Some(Event::Closed),
                    Poll::Pending => None,
                }
            });
            match polled {
                Some(event) => Poll::Ready(event),
                None => match woken.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Event::Woken),
                    Poll::Pending => Poll::Pending,
                },
            }
        })
        .await
    }

    async fn wait_writable(&mut self) -> bool {
        let connection = self.connection.clone();
        tokio::select! {
            writable = connection.writable() => if writable.is_err() {
                return false;
            },
            () = connection.wake.notified() => return !self.killed(),
        }
        self.connection.congested.set(false);
        self.worker.schedule(&self.connection, 0);
        self.worker.flush();
        !self.killed()
    }

    /// Runs all complete requests in `data`, which is nobody's to keep; the rest is copied.
    fn process(&mut self, data: &[u8]) -> Pause {
        let (pause, consumed) = self.steps(data);
        self.buffered
            .extend_from_slice(data.get(consumed..).unwrap_or_default());
        self.connection
            .shared
            .query_bytes
            .store(self.buffered.len() as u64, Ordering::Relaxed);
        pause
    }

    /// As [`Session::process`] for what was buffered: what is left stays where it is, so that a
    /// large request arriving in many pieces is not copied at each.
    fn process_buffered(&mut self, mut data: Vec<u8>) -> Pause {
        let (pause, consumed) = self.steps(&data);
        data.drain(..consumed);
        self.connection
            .shared
            .query_bytes
            .store(data.len() as u64, Ordering::Relaxed);
        if data.is_empty() {
            data = Vec::new();
        }
        self.buffered = data;
        pause
    }

    /// Runs requests until one pauses; how many bytes are done with.
    fn steps(&mut self, data: &[u8]) -> (Pause, usize) {
        let mut rest = data;
        loop {
            if let Some(pause) = self.step(&mut rest) {
                return (pause, data.len() - rest.len());
            }
        }
    }

    /// One request. `None`: go on with the next.
    fn step(&mut self, rest: &mut &[u8]) -> Option<Pause> {
        let Some(client) = &self.client else {
            return Some(Pause::Blocked(None));
        };
        let mut scratch = self.worker.scratch.borrow_mut();
        let limits = RequestLimits {
            bulk_bytes_max: scratch.config(&self.worker.server).proto_bulk_bytes_max,
            authenticated: client.authenticated,
        };
        let consumed = match self.parser.next(rest, limits) {
            Step::Incomplete { .. } => return Some(Pause::Read),
            Step::Empty { consumed } => {
                self.parser.reset();
                *rest = &rest[consumed..];
                return None;
            }
            Step::Error(text) => {
                let mut out = self.connection.out.borrow_mut();
                Reply::new(&mut out, client.resp3).error(format!("ERR {text}").as_bytes());
                drop(out);
                self.worker.schedule(&self.connection, 0);
                return Some(Pause::Close);
            }
            Step::Command { consumed } => consumed,
        };
        let mut argv: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
        self.parser.arguments(rest, &mut argv);
        if self.killed() {
            return Some(Pause::Close);
        }
        let shared = &self.connection.shared;
        shared
            .query_bytes
            .store(rest.len() as u64, Ordering::Relaxed);
        let argument_bytes: usize = argv.iter().map(|arg| arg.len()).sum();
        shared
            .argument_bytes
            .store(argument_bytes as u64, Ordering::Relaxed);
        let mut out = self.connection.out.borrow_mut();
        let before = out.len();
        let server = &self.worker.server;
        let outcome = dispatch::execute(server, &mut scratch, &mut self.client, &argv, &mut out);
        let written = out.len() - before;
        drop(out);
        drop(scratch);
        let pause = match outcome {
            Outcome::Done => {
                let client = self.client.as_ref()?;
                match (client.close_after_reply, client.hand_over.is_some()) {
                    (true, _) => Some(Pause::Close),
                    (_, true) => Some(Pause::HandOver),
                    _ => None,
                }
            }
            Outcome::Parked { deadline_ms } => Some(Pause::Blocked(deadline_ms)),
            Outcome::Retry(wait) => Some(Pause::Retry(wait, OwnedCommand::new(&argv))),
            Outcome::Deferred(deferred) => Some(Pause::Deferred(deferred)),
        };
        drop(argv);
        self.parser.reset();
        *rest = &rest[consumed..];
        if written > 0 {
            self.worker.schedule(&self.connection, written);
        }
        if self.worker.should_flush() {
            self.worker.flush();
        }
        pause
    }

    /// Waits until the blocked client comes back: served, timed out, unblocked or killed.
    async fn wait_blocked(&mut self, deadline_ms: Option<i64>) -> bool {
        loop {
            let returned = self.connection.shared.returned.lock().take();
            if let Some(mut client) = returned {
                let open = !client.close_after_reply;
                let rerun = client.rerun.take();
                self.client = Some(client);
                if let Some(command) = rerun {
                    return Box::pin(self.wait_and_rerun(Wait::Nothing, command)).await;
                }
                return open && !self.killed();
            }
            if self.killed() {
                self.unpark(None);
                return false;
            }
            let timeout = deadline_ms.map(|at| at.saturating_sub(clock::unix_ms()).max(0) as u64);
            let connection = self.connection.clone();
            tokio::select! {
                () = connection.wake.notified() => {}
                () = sleep_ms(timeout) => self.unpark(Some(Unblock::Timeout)),
                open = self.read_ahead() => if !open {
                    self.unpark(None);
                    return false;
                },
            }
        }
    }

    /// Takes the client back from the table of blocked clients, if it is still there, and writes
    /// the reply for `why`.
    fn unpark(&mut self, why: Option<Unblock>) {
        let id = self.connection.shared.id;
        let removed = self.worker.server.keyspace.lock().blocked.remove(id);
        if let Some((Some(client), request)) = removed {
            if why == Some(Unblock::Timeout) {
                let mut out = self.connection.out.borrow_mut();
                (request.on_timeout)(&mut Reply::new(&mut out, client.resp3));
                drop(out);
                self.worker.schedule(&self.connection, 0);
            }
            self.connection
                .shared
                .blocked
                .store(false, Ordering::Relaxed);
            *self.connection.shared.returned.lock() = Some(client);
        }
    }

    /// Reads while a command is paused, to notice that the peer is gone. False when it is. What
    /// arrives is kept, up to a bound past which the socket is left alone.
    async fn read_ahead(&mut self) -> bool {
        if self.buffered.len() >= READ_AHEAD_BYTES_MAX {
            return std::future::pending().await;
        }
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let mut chunk = [0u8; 4096];
        match tokio::io::AsyncReadExt::read(reader, &mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.buffered.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }

    /// Waits for what the command needs, then runs it again. What was loaded stays pinned until
    /// the command has run, also when it finds that it needs more.
    async fn wait_and_rerun(&mut self, mut wait: Wait, command: OwnedCommand) -> bool {
        let argv = command.argv();
        let mut waits = WaitBudget::default();
        let mut pins = Vec::new();
        loop {
            if matches!(wait, Wait::Unpaused) && !self.wait_unpaused().await {
                return false;
            }
            let waited = self.worker.server.clone().wait_for(wait, &mut waits).await;
            let outcome = match waited {
                Ok(more) => {
                    pins.extend((!more.is_empty()).then_some(more));
                    self.execute(&argv)
                }
                Err(error) => {
                    self.give_up(&argv, error);
                    Outcome::Done
                }
            };
            match outcome {
                Outcome::Done => {
                    return self.client.as_ref().is_some_and(|c| !c.close_after_reply);
                }
                Outcome::Parked { deadline_ms } => {
                    drop(pins);
                    return Box::pin(self.wait_blocked(deadline_ms)).await;
                }
                Outcome::Deferred(deferred) => {
                    drop(pins);
                    return self.await_deferred(deferred).await;
                }
                Outcome::Retry(again) => wait = again,
            }
        }
    }

    /// Waits for the end of CLIENT PAUSE. False if the connection ended first.
    async fn wait_unpaused(&mut self) -> bool {
        let server = self.worker.server.clone();
        let pause = &server.state.pause;
        let shared = self.connection.shared.clone();
        pause.waiting.fetch_add(1, Ordering::Relaxed);
        shared.blocked.store(true, Ordering::Relaxed);
        let open = loop {
            // Registered before the check, so that an end in between is not missed.
            let mut lifted = std::pin::pin!(pause.lifted.notified());
            lifted.as_mut().enable();
            let now_ms = clock::unix_ms();
            if pause.mode(now_ms) == PauseMode::None {
                break true;
            }
            let left_ms = pause.end_ms().saturating_sub(now_ms).max(1) as u64;
            let connection = self.connection.clone();
            tokio::select! {
                () = lifted => {}
                () = sleep_ms(Some(left_ms)) => {}
                () = connection.wake.notified() => if self.killed() {
                    break false;
                },
                open = self.read_ahead() => if !open {
                    break false;
                },
            }
        };
        pause.waiting.fetch_sub(1, Ordering::Relaxed);
        shared.blocked.store(false, Ordering::Relaxed);
        open
    }

    /// Answers a command that can't have what it waited for.
    fn give_up(&mut self, argv: &[&[u8]], error: CommandError) {
        let Some(client) = self.client.as_deref_mut() else {
            return;
        };
        let error = dispatch::gave_up(&self.worker.server, client, argv, error);
        self.reply_with(|reply| reply.error(&error.resp()));
    }

    /// Waits for a reply that something else makes. The wait ends early when the peer leaves or
    /// the client is killed; what the reply was to tell of may go on.
    async fn await_deferred(&mut self, mut deferred: Deferred) -> bool {
        let connection = self.connection.clone();
        let reply = loop {
            tokio::select! {
                reply = &mut deferred.0 => break reply,
                () = connection.wake.notified() => if self.killed() {
                    return false;
                },
                open = self.read_ahead() => if !open {
                    return false;
                },
            }
        };
        let mut out = self.connection.out.borrow_mut();
        out.extend_from_slice(&reply);
        drop(out);
        self.worker.schedule(&self.connection, reply.len());
        !self.killed() && self.client.as_ref().is_some_and(|c| !c.close_after_reply)
    }

    fn execute(&mut self, argv: &[&[u8]]) -> Outcome {
        let mut out = self.connection.out.borrow_mut();
        let before = out.len();
        let mut scratch = self.worker.scratch.borrow_mut();
        let server = &self.worker.server;
        let outcome = dispatch::execute(server, &mut scratch, &mut self.client, argv, &mut out);
        let written = out.len() - before;
        drop(out);
        drop(scratch);
        if written > 0 {
            self.worker.schedule(&self.connection, written);
        }
        outcome
    }

    pub(super) fn reply_with(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        let resp3 = self.client.as_ref().is_some_and(|client| client.resp3);
        let mut out = self.connection.out.borrow_mut();
        write(&mut Reply::new(&mut out, resp3));
        drop(out);
        self.worker.schedule(&self.connection, 0);
    }
}

/// Why a blocked client comes back unserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unblock {
    Timeout,
}

async fn sleep_ms(timeout: Option<u64>) {
    match timeout {
        Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
