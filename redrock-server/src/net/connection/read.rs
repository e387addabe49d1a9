//! Reading: waits for input, cuts it into requests and runs them.

use super::super::client::OwnedCommand;
use super::super::parser::{RequestLimits, Step};
use super::{Pause, READ_BYTES, Session};
use crate::command::dispatch::{self, Outcome};
use crate::command::reply::Reply;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::io::{AsyncRead as _, ReadBuf};

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
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

impl Session {
    /// Waits for input (or a wake-up), reads it, runs it. False when the connection ended.
    pub(super) async fn wait_and_read(&mut self) -> bool {
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
    pub(super) fn process_buffered(&mut self, mut data: Vec<u8>) -> Pause {
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
}
