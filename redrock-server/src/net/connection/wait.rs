//! Pausing: a command that waits for a key, for the disk, or for a reply made elsewhere.

use super::super::client::OwnedCommand;
use super::Session;
use crate::clock;
use crate::command::CommandError;
use crate::command::dispatch::{self, Deferred, Outcome, Wait, scripts};
use crate::command::reply::Reply;
use crate::state::PauseMode;
use crate::waits::WaitBudget;
use std::sync::atomic::Ordering;

/// What a paused client may send ahead before its socket is no longer read.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// Why a blocked client comes back unserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unblock {
    Timeout,
}

/// What follows a busy script.
enum Next {
    /// It must wait and run again.
    Rerun(Wait, OwnedCommand),
    /// Its reply is made elsewhere.
    Deferred(Deferred),
    /// Its client waits for a key.
    Blocked(Option<i64>),
    /// Whether the connection stays open.
    Open(bool),
}

/// How long a reply may take that a peer waits for after the end of its requests, ms. It can't be
/// told from one that has left.
const REPLY_AFTER_END_MS: u64 = 10_000;

impl Session {
    /// Waits until the blocked client comes back: served, timed out, unblocked or killed.
    pub(super) async fn wait_blocked(&mut self, deadline_ms: Option<i64>) -> bool {
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
                self.unpark(None).await;
                return false;
            }
            let timeout = deadline_ms.map(|at| at.saturating_sub(clock::unix_ms()).max(0) as u64);
            let connection = self.connection.clone();
            tokio::select! {
                () = connection.wake.notified() => {}
                () = sleep_ms(timeout) => self.unpark(Some(Unblock::Timeout)).await,
                () = self.writable() => { self.go_on_writing(); }
                open = self.read_ahead() => if !open {
                    self.unpark(None).await;
                    return false;
                },
            }
        }
    }

    /// Takes the client back from the table of blocked clients, if it is still there, and writes
    /// the reply for `why`.
    async fn unpark(&mut self, why: Option<Unblock>) {
        let id = self.connection.shared.id;
        let server = self.worker.server.clone();
        let removed = server.keyspace_when_idle().await.blocked.remove(id);
        if let Some((Some(client), request)) = removed {
            if why == Some(Unblock::Timeout) {
                let mut out = self.connection.out.borrow_mut();
                (request.on_timeout)(&mut Reply::new(&mut out, client.resp3));
                drop(out);
                self.worker.schedule(&self.connection, 0);
                let server = &self.worker.server;
                server.count_unserved(&self.connection.shared, false);
            }
            self.connection
                .shared
                .blocked
                .store(false, Ordering::Relaxed);
            *self.connection.shared.returned.lock() = Some(client);
        }
    }

    /// Waits until the peer takes more of what it did not take; for ever if it took all. A socket
    /// that is broken shows when it is read.
    fn writable(&self) -> impl Future<Output = ()> + 'static {
        let connection = self.connection.clone();
        async move {
            if !connection.congested.get() || connection.writable().await.is_err() {
                std::future::pending().await
            }
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
    pub(super) async fn wait_and_rerun(&mut self, wait: Wait, command: OwnedCommand) -> bool {
        let held = self.connection.input_bytes.get() + command.memory_bytes();
        self.connection.note_input(&self.worker.server, held);
        let open = self.rerun(wait, &command).await;
        // Its arguments count no longer.
        drop(command);
        let held = self.buffered.capacity() + self.parser.memory_bytes();
        self.connection.note_less_input(&self.worker.server, held);
        open
    }

    async fn rerun(&mut self, mut wait: Wait, command: &OwnedCommand) -> bool {
        let argv = command.argv();
        let mut waits = WaitBudget::default();
        let mut pins = Vec::new();
        loop {
            if matches!(wait, Wait::Unpaused) && !self.wait_unpaused().await {
                return false;
            }
            let outcome = match wait {
                Wait::Read(read) => match waits.wait_for_read(read).await {
                    Ok(read) => self.execute_with(&argv, Some(read)),
                    Err(error) => self.give_up(&argv, error),
                },
                wait => match self.worker.server.clone().wait_for(wait, &mut waits).await {
                    Ok(more) => {
                        pins.extend((!more.is_empty()).then_some(more));
                        self.execute(&argv)
                    }
                    Err(error) => self.give_up(&argv, error),
                },
            };
            match outcome {
                Outcome::Done => {
                    if self.buffered.is_empty() {
                        self.worker.expedite();
                    }
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
                Outcome::Running => {
                    // What it needs it has; other keys may leave.
                    drop(std::mem::take(&mut pins));
                    match self.run_to_end().await {
                        Next::Rerun(again, _) => wait = again,
                        Next::Deferred(deferred) => return self.await_deferred(deferred).await,
                        Next::Blocked(deadline_ms) => {
                            return Box::pin(self.wait_blocked(deadline_ms)).await;
                        }
                        Next::Open(open) => return open,
                    }
                }
                Outcome::Retry(again) => wait = again,
            }
        }
    }

    /// Waits for the end of this connection's busy script. False if the connection is to end.
    pub(super) async fn wait_running(&mut self) -> bool {
        match self.run_to_end().await {
            Next::Rerun(wait, command) => Box::pin(self.wait_and_rerun(wait, command)).await,
            Next::Deferred(deferred) => self.await_deferred(deferred).await,
            Next::Blocked(deadline_ms) => self.wait_blocked(deadline_ms).await,
            Next::Open(open) => open,
        }
    }

    /// Goes on with the busy script between other work of this thread, to its end. As in Redis its
    /// client's socket is left alone meanwhile.
    async fn run_to_end(&mut self) -> Next {
        let ended = loop {
            // What others were told meanwhile goes out: the thread does not sleep.
            self.worker.flush();
            tokio::task::yield_now().await;
            if let Some(ended) = scripts::resume() {
                break ended;
            }
        };
        let parked = ended.client.is_none();
        if !parked {
            self.client = ended.client;
        }
        let written = ended.reply.len();
        self.connection
            .out
            .borrow_mut()
            .extend_from_slice(&ended.reply);
        self.worker.schedule(&self.connection, written);
        match ended.outcome {
            Outcome::Retry(wait) => Next::Rerun(wait, ended.command),
            Outcome::Deferred(deferred) => Next::Deferred(deferred),
            Outcome::Parked { deadline_ms } => Next::Blocked(deadline_ms),
            Outcome::Done | Outcome::Running => {
                let open = self.client.as_ref().is_some_and(|c| !c.close_after_reply);
                Next::Open(open && !self.killed())
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
                () = self.writable() => { self.go_on_writing(); }
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
    fn give_up(&mut self, argv: &[&[u8]], error: CommandError) -> Outcome {
        if let Some(client) = self.client.as_deref_mut() {
            let error = dispatch::gave_up(&self.worker.server, client, argv, error);
            self.reply_with(|reply| reply.error(&error.resp()));
        }
        Outcome::Done
    }

    /// Waits for a reply that something else makes. The wait ends early when the peer leaves or
    /// the client is killed; what the reply was to tell of may go on.
    pub(super) async fn await_deferred(&mut self, mut deferred: Deferred) -> bool {
        let connection = self.connection.clone();
        let mut left_ms = None;
        let reply = loop {
            tokio::select! {
                reply = &mut deferred.0 => break reply,
                () = self.writable() => { self.go_on_writing(); }
                () = connection.wake.notified() => if self.killed() {
                    return false;
                },
                () = sleep_ms(left_ms) => return false,
                // Who only says that no more will come still wants the reply.
                open = self.read_ahead(), if left_ms.is_none() => if !open {
                    left_ms = Some(REPLY_AFTER_END_MS);
                },
            }
        };
        let mut out = self.connection.out.borrow_mut();
        out.extend_from_slice(&reply);
        drop(out);
        self.worker.schedule(&self.connection, reply.len());
        let closing = connection.shared.closing.load(Ordering::Relaxed);
        !closing && !self.killed() && self.client.as_ref().is_some_and(|c| !c.close_after_reply)
    }
}

async fn sleep_ms(timeout: Option<u64>) {
    match timeout {
        Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
