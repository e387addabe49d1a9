//! One client connection: reads, runs what was read, and hands replies to the worker's flush.

mod read;
mod send;
mod skip;
mod wait;

use super::client::{Client, OwnedCommand};
use super::handover::HandedOver;
use super::large_requests::Place;
use super::parser::Parser;
use super::stream::{ReadHalf, WriteHalf};
use super::worker::Worker;
use crate::command::dispatch::{self, Deferred, Outcome, Wait};
use crate::command::reply::Reply;
use crate::keyspace::tiering::one_read::OneRead;
pub use send::Connection;
use skip::Skip;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Bytes read at once; also what a worker keeps for all its connections together.
const READ_BYTES: usize = 64 << 10;

/// Why a connection's task pauses between requests.
enum Pause {
    /// Everything that was read is done.
    Read,
    /// A command waits for a key.
    Blocked(Option<i64>),
    /// A command must wait outside the locks and then run again.
    Retry(Wait, OwnedCommand),
    /// As [`Pause::Retry`] for a large command that is still at the head of the buffer, with its
    /// length.
    RetryBuffered(Wait, usize),
    /// A command's reply is made by something that takes its time.
    Deferred(Deferred),
    /// A command's script is busy on this thread.
    Running,
    /// It has run for long enough at a time: others go first.
    Slice,
    /// The peer does not take its replies: no further request runs before it does.
    Congested,
    /// The connection goes to the replica agent ([`Client::hand_over`]).
    HandOver,
    /// The connection ends.
    Close,
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
    /// Bytes that the unfinished request needs at least; 0 if that is not known.
    needed: usize,
    /// Whether a large unfinished request may use memory.
    admitted: bool,
    /// Its place among those of all clients.
    place: Option<Place>,
    /// The rest of a request that was refused for its size.
    skip: Option<Skip>,
    /// What is run now is the rest of what had come at once.
    goes_on: bool,
}

impl Session {
    pub(super) fn new(
        worker: Rc<Worker>,
        client: Box<Client>,
        reader: ReadHalf,
        writer: WriteHalf,
    ) -> Self {
        let connection = Rc::new(Connection::new(client.shared.clone(), writer));
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
            needed: 0,
            admitted: false,
            place: None,
            skip: None,
            goes_on: false,
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
                self.goes_on = true;
                self.process_buffered(buffered)
            };
            let open = match pause {
                Pause::Close => false,
                Pause::Read => self.wait_and_read().await,
                Pause::Blocked(deadline) => self.wait_blocked(deadline).await,
                Pause::Retry(wait, command) => self.wait_and_rerun(wait, command).await,
                // Made a plain one of where the buffer is.
                Pause::RetryBuffered(..) => false,
                Pause::Deferred(deferred) => self.await_deferred(deferred).await,
                Pause::Running => self.wait_running().await,
                Pause::Slice => self.let_others_run().await,
                Pause::Congested => self.wait_writable().await,
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
        if self.killed() {
            // As in Redis it gets nothing more.
            self.connection.discard();
        }
        self.worker.schedule(&self.connection, 0);
        self.worker.flush();
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

    fn execute(&mut self, argv: &[&[u8]]) -> Outcome {
        self.execute_with(argv, None)
    }

    /// Runs a request again, for which a value may have been read.
    fn execute_with(&mut self, argv: &[&[u8]], read: Option<OneRead>) -> Outcome {
        let mut out = self.connection.out.borrow_mut();
        let before = out.len();
        let mut scratch = self.worker.scratch.borrow_mut();
        let server = &self.worker.server;
        let (scratch_of, slot) = (&mut *scratch, &mut self.client);
        let outcome = dispatch::execute_with(server, scratch_of, slot, argv, &mut out, read);
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
