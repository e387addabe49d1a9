//! Reading: waits for input, cuts it into requests and runs them.

use super::super::client::OwnedCommand;
use super::super::large_requests::Place;
use super::super::parser::{RequestLimits, Step};
use super::skip::{Skip, Skipped};
use super::{Pause, READ_BYTES, Session};
use crate::command::CommandError;
use crate::command::dispatch::{self, Outcome};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead as _, ReadBuf};

/// How long one connection's requests may run while other connections wait.
const SLICE: Duration = Duration::from_micros(40);
/// Requests between two looks at the clock.
const REQUESTS_A_LOOK: u32 = 4;
/// The former where others send one request at a time: about as long as it takes to look for those.
const SHORT_SLICE: Duration = Duration::from_micros(15);

/// What a connection with many requests at once has had of its thread's time.
#[derive(Default)]
struct Slice {
    requests: u32,
    begun: Option<Instant>,
}

impl Slice {
    /// Whether nothing has been counted yet.
    fn is_new(&self) -> bool {
        self.requests == 0
    }

    /// Counts a request; whether it is others' turn. `short`: they send one request at a time.
    fn is_over(&mut self, short: bool) -> bool {
        self.requests += 1;
        if self.requests == 1 {
            self.begun = Some(Instant::now());
        }
        let (each, limit) = match short {
            true => (1, SHORT_SLICE),
            false => (REQUESTS_A_LOOK, SLICE),
        };
        let looks = self.requests.is_multiple_of(each);
        looks && self.begun.is_some_and(|begun| begun.elapsed() >= limit)
    }
}

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A request of at least so many bytes is not copied, and waits for memory before it is read. No
/// more than that is read at once, so that such a request is always in a buffer of its own.
const LARGE_BYTES_MIN: usize = 2 * READ_BYTES;
/// How long a large request may wait for memory.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Makes room for `more` bytes of a request that needs `needed` in all: all of them once a
/// quarter is there, so that a large one is not moved often, nor much larger than it must be.
fn make_room(buffer: &mut Vec<u8>, more: usize, needed: usize) {
    let length = buffer.len() + more;
    if length <= buffer.capacity() {
        return;
    }
    let wanted = if length >= needed / 4 {
        needed
    } else {
        2 * length
    };
    buffer.reserve_exact(wanted.max(length) - buffer.len());
}

/// What ends a wait for input.
enum Event {
    /// Input came and was run as far as it goes.
    Processed(Pause),
    /// The peer is gone.
    Closed,
    /// Another thread or the flush wants attention.
    Woken,
    /// The peer takes more.
    Writable,
}

impl Session {
    /// Waits for input (or a wake-up), reads it, runs it. False when the connection ended.
    pub(super) async fn wait_and_read(&mut self) -> bool {
        if self.killed() {
            return false;
        }
        if self.is_congested() {
            return self.wait_writable().await;
        }
        if !self.admit_request().await {
            return false;
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
            Event::Writable => self.go_on_writing(),
            Event::Processed(Pause::Read) => true,
            Event::Processed(Pause::Slice) => self.let_others_run().await,
            Event::Processed(Pause::Congested) => self.wait_writable().await,
            Event::Processed(Pause::Close) => false,
            Event::Processed(Pause::Blocked(deadline)) => self.wait_blocked(deadline).await,
            Event::Processed(Pause::Retry(wait, command)) => {
                self.wait_and_rerun(wait, command).await
            }
            Event::Processed(Pause::RetryBuffered(..)) => false,
            Event::Processed(Pause::Deferred(deferred)) => self.await_deferred(deferred).await,
            Event::Processed(Pause::Running) => self.wait_running().await,
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
        let mut woken = pin!(woken);
        let congested = connection.congested.get();
        let mut writable = pin!(connection.writable());
        poll_fn(|cx| {
            let polled = READ_BUFFER.with_borrow_mut(|scratch| {
                let mut polled = None;
                loop {
                    let mut buf = ReadBuf::new(scratch);
                    let Some(reader) = &mut self.reader else {
                        return Some(Event::Closed);
                    };
                    match Pin::new(reader).poll_read(cx, &mut buf) {
                        Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                        Poll::Ready(_) => return Some(Event::Closed),
                        Poll::Pending => return polled,
                    }
                    let filled = buf.filled();
                    let pause = self.take_in(filled);
                    // The rest of a large request that may come is taken at once, as far as it
                    // is there.
                    let more = self.admitted && matches!(pause, Pause::Read);
                    let whole = filled.len() == READ_BYTES;
                    polled = Some(Event::Processed(pause));
                    if !(more && whole && self.buffered.len() < self.needed) {
                        return polled;
                    }
                }
            });
            match polled {
                Some(event) => Poll::Ready(event),
                None => match woken.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Event::Woken),
                    Poll::Pending if !congested => Poll::Pending,
                    Poll::Pending => writable.as_mut().poll(cx).map(|ready| match ready {
                        Ok(()) => Event::Writable,
                        Err(_) => Event::Closed,
                    }),
                },
            }
        })
        .await
    }

    /// Runs what was read.
    fn take_in(&mut self, filled: &[u8]) -> Pause {
        self.worker
            .note_input(self.connection.shared.id, filled.len());
        self.goes_on = false;
        if self.buffered.is_empty() {
            return self.process(filled);
        }
        let mut all = std::mem::take(&mut self.buffered);
        make_room(&mut all, filled.len(), self.needed);
        all.extend_from_slice(filled);
        self.process_buffered(all)
    }

    /// Whether the peer leaves more unread than its share: then nothing more is read.
    fn is_congested(&self) -> bool {
        let share = || self.worker.server.client_memory.share_bytes();
        self.connection.congested.get() && self.connection.unsent() > share()
    }

    /// A large request on its way waits for its turn, and for memory as a write does. False if there
    /// is none, or the client was killed.
    async fn admit_request(&mut self) -> bool {
        if self.admitted {
            return true;
        }
        // The one before has run.
        self.place = None;
        let more = self.needed.saturating_sub(self.buffered.capacity());
        if more < LARGE_BYTES_MIN {
            return true;
        }
        self.place = self.take_place().await;
        if self.place.is_none() {
            return false;
        }
        let memory = &self.worker.server.memory;
        self.admitted =
            memory.admit(more as u64) || memory.wait_for_room(MEMORY_WAIT_MAX, memory.turn()).await;
        if !self.admitted {
            const TEXT: &str = "OOM command not allowed when used memory > 'maxmemory'.";
            self.reply_with(|reply| reply.error(TEXT.as_bytes()));
        }
        self.admitted
    }

    /// Waits for the turn of a large request. `None`: the client was killed.
    async fn take_place(&self) -> Option<Place> {
        let server = &self.worker.server;
        let requests = &server.client_memory.large_requests;
        let mut place = pin!(requests.place(self.needed, || server.memory.is_held()));
        loop {
            tokio::select! {
                place = &mut place => return Some(place),
                () = self.connection.wake.notified() => if self.killed() {
                    return None;
                },
            }
        }
    }

    /// The peer takes more: sends what waits.
    pub(super) fn go_on_writing(&mut self) -> bool {
        self.connection.congested.set(false);
        self.worker.schedule(&self.connection, 0);
        self.worker.flush();
        !self.killed()
    }

    /// Serves who has something to do by now, then goes on with what was read.
    pub(super) async fn let_others_run(&mut self) -> bool {
        tokio::task::yield_now().await;
        // Their replies don't wait for the end of this one's requests.
        if self.worker.is_considerate() {
            self.worker.flush_prompt();
        } else if self.worker.has_pending_of_others(&self.connection) {
            self.worker.flush();
        }
        !self.killed()
    }

    pub(super) async fn wait_writable(&mut self) -> bool {
        let connection = self.connection.clone();
        tokio::select! {
            writable = connection.writable() => if writable.is_err() {
                return false;
            },
            () = connection.wake.notified() => return !self.killed(),
        }
        self.go_on_writing()
    }

    /// Runs all complete requests in `data`, which is nobody's to keep; the rest is copied.
    fn process(&mut self, data: &[u8]) -> Pause {
        let (pause, consumed) = self.steps(data);
        let rest = data.get(consumed..).unwrap_or_default();
        if !rest.is_empty() {
            make_room(&mut self.buffered, rest.len(), self.needed);
            self.buffered.extend_from_slice(rest);
        }
        self.note_buffered(pause)
    }

    /// What is buffered has changed: is that still allowed?
    fn note_buffered(&mut self, pause: Pause) -> Pause {
        let shared = &self.connection.shared;
        let length = self.buffered.len();
        shared.query_bytes.store(length as u64, Ordering::Relaxed);
        let unparsed = length.saturating_sub(self.parser.understood_bytes());
        shared
            .unparsed_bytes
            .store(unparsed as u64, Ordering::Relaxed);
        let needed = if length > 0 { self.needed } else { 0 };
        shared.needed_bytes.store(needed as u64, Ordering::Relaxed);
        let server = &self.worker.server;
        let held = self.buffered.capacity() + self.parser.memory_bytes();
        self.connection.note_input(server, held);
        server.note_client(shared);
        server.limit_exceeding();
        if length <= LARGE_BYTES_MIN || length <= server.config().network.query_buffer_bytes_max {
            return pause;
        }
        tracing::warn!(
            id = shared.id,
            addr = shared.addr,
            query_bytes = length,
            "Closing client that reached max query buffer length"
        );
        let closed = &server.client_memory.query_closed;
        closed.fetch_add(1, Ordering::Relaxed);
        Pause::Close
    }

    /// As [`Session::process`] for what was buffered: what is left stays where it is, so that a
    /// large request arriving in many pieces is not copied at each.
    pub(super) fn process_buffered(&mut self, mut data: Vec<u8>) -> Pause {
        let (mut pause, consumed) = self.steps(&data);
        data.drain(..consumed);
        if let Pause::RetryBuffered(wait, length) = pause {
            let rest = data.split_off(length.min(data.len()));
            let ranges = self.parser.ranges().unwrap_or_default().to_vec();
            self.parser.reset();
            pause = Pause::Retry(wait, OwnedCommand::in_buffer(data, ranges));
            data = rest;
        } else if data.is_empty() || data.len() < data.capacity() / 4 {
            data = data.as_slice().to_vec();
        }
        self.buffered = data;
        self.note_buffered(pause)
    }

    /// Runs requests until one pauses; how many bytes are done with.
    fn steps(&mut self, data: &[u8]) -> (Pause, usize) {
        let mut rest = data;
        let mut slice = Slice::default();
        loop {
            if let Some(skip) = &mut self.skip {
                match skip.pass(rest) {
                    Skipped::More => return (Pause::Read, data.len()),
                    Skipped::Malformed => return (Pause::Close, data.len()),
                    Skipped::End(length) => rest = rest.get(length..).unwrap_or_default(),
                }
                self.skip = None;
                self.refuse_request();
            }
            if self.is_congested() && !rest.is_empty() {
                return (Pause::Congested, data.len() - rest.len());
            }
            if let Some(pause) = self.step(&mut rest, slice.is_new()) {
                return (pause, data.len() - rest.len());
            }
            if !rest.is_empty()
                && slice.is_over(self.worker.is_considerate())
                && self.worker.has_others()
            {
                return (Pause::Slice, data.len() - rest.len());
            }
        }
    }

    /// Finds the next request; its length. Without one: what to do instead of running it.
    fn request(&mut self, rest: &mut &[u8]) -> Result<usize, Option<Pause>> {
        let Some(client) = &self.client else {
            return Err(Some(Pause::Blocked(None)));
        };
        let server = &self.worker.server;
        let bulk_bytes_max = self
            .worker
            .scratch
            .borrow_mut()
            .config(server)
            .proto_bulk_bytes_max;
        let limits = RequestLimits {
            bulk_bytes_max,
            request_bytes_max: server.client_memory.request_bytes_max(),
            authenticated: client.authenticated,
        };
        match self.parser.next(rest, limits) {
            Step::Command { consumed } => return Ok(consumed),
            Step::Incomplete { needed } => {
                self.needed = needed;
                return Err(Some(Pause::Read));
            }
            Step::TooLarge {
                consumed,
                body_bytes,
                arguments,
            } => {
                self.skip = Some(Skip::new(body_bytes, arguments));
                *rest = rest.get(consumed..).unwrap_or_default();
            }
            Step::Empty { consumed } => *rest = rest.get(consumed..).unwrap_or_default(),
            Step::Error(text) => {
                self.reply_with(|reply| reply.error(&[b"ERR ", &text[..]].concat()));
                return Err(Some(Pause::Close));
            }
        }
        self.parser.reset();
        Err(None)
    }

    /// One request, `first` of those that have come at once. `None`: go on with the next.
    fn step(&mut self, rest: &mut &[u8], first: bool) -> Option<Pause> {
        let consumed = match self.request(rest) {
            Ok(consumed) => consumed,
            Err(instead) => return instead,
        };
        let is_last = consumed == rest.len();
        if first && !is_last {
            self.worker.begin_pipeline();
        }
        (self.needed, self.admitted) = (0, false);
        let mut argv: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
        self.parser.arguments(rest, &mut argv);
        let shared = &self.connection.shared;
        for bytes in [&shared.query_bytes, &shared.unparsed_bytes] {
            bytes.store(rest.len() as u64, Ordering::Relaxed);
        }
        shared.needed_bytes.store(0, Ordering::Relaxed);
        let argument_bytes: usize = argv.iter().map(|arg| arg.len()).sum();
        self.worker.server.note_arguments(shared, argument_bytes);
        if self.killed() {
            return Some(Pause::Close);
        }
        let mut out = self.connection.out.borrow_mut();
        let mut scratch = self.worker.scratch.borrow_mut();
        scratch.is_alone = first && is_last && !self.goes_on;
        let before = out.len();
        let server = &self.worker.server;
        let outcome = dispatch::execute(server, &mut scratch, &mut self.client, &argv, &mut out);
        let written = out.len() - before;
        drop(out);
        drop(scratch);
        let pause = match outcome {
            Outcome::Done => {
                shared.argument_bytes.store(0, Ordering::Relaxed);
                let client = self.client.as_ref()?;
                match (client.close_after_reply, client.hand_over.is_some()) {
                    (true, _) => Some(Pause::Close),
                    (_, true) => Some(Pause::HandOver),
                    _ => None,
                }
            }
            Outcome::Parked { deadline_ms } => Some(Pause::Blocked(deadline_ms)),
            // A large command is in a buffer of its own: it stays there.
            Outcome::Retry(wait)
                if argument_bytes >= LARGE_BYTES_MIN && self.parser.ranges().is_some() =>
            {
                return Some(Pause::RetryBuffered(wait, consumed));
            }
            Outcome::Retry(wait) => Some(Pause::Retry(wait, OwnedCommand::new(&argv))),
            Outcome::Deferred(deferred) => Some(Pause::Deferred(deferred)),
            Outcome::Running => Some(Pause::Running),
        };
        drop(argv);
        self.parser.reset();
        *rest = &rest[consumed..];
        if written > 0 {
            self.worker.schedule(&self.connection, written);
            if first && is_last && !self.goes_on {
                self.worker.expedite();
            }
        }
        if self.worker.should_flush() {
            self.worker.flush();
        }
        pause
    }

    /// Answers a request that was passed over.
    fn refuse_request(&mut self) {
        let server = self.worker.server.clone();
        let error = CommandError::text(server.client_memory.refusal("the request"));
        server.stats.error(&error);
        if let Some(transaction) = self.client.as_mut().and_then(|c| c.transaction.as_mut()) {
            transaction.failed = true;
        }
        self.reply_with(|reply| reply.error(&error.resp()));
    }
}

#[cfg(test)]
mod tests {
    use super::make_room;

    #[test]
    fn a_buffer_grows_to_what_a_request_needs_and_not_beyond() {
        let (mut buffer, needed, mut moves) = (Vec::new(), 10 << 20, 0);
        while buffer.len() < needed {
            let before = buffer.capacity();
            make_room(&mut buffer, 64 << 10, needed);
            moves += usize::from(buffer.capacity() != before);
            buffer.extend_from_slice(&[0; 64 << 10]);
        }
        assert_eq!(buffer.capacity(), needed);
        assert!(moves < 10, "{moves}");
    }
}
