//! A worker: one thread, one current-thread runtime, the connections that it owns.
//!
//! Replies collect in the connections' output buffers while commands run. Before the thread
//! sleeps (the runtime's park hook), and inline when much has collected, [`Worker::flush`] first
//! makes the log durable as far as the policy asks, then sends: one log write and one socket
//! write per connection for everything that one wake-up did (I5).

use super::connection::Connection;
use crate::command::dispatch::Scratch;
use crate::keyspace::tiering::direct::{company, together::Together};
use crate::server::Server;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How other threads reach a worker.
#[derive(Debug, Default)]
pub struct WorkerMailbox {
    /// Clients with something in their outbox. At most one entry a client and wake-up.
    clients: Mutex<Vec<u64>>,
    /// A durable point was reached: held replies may go.
    durable: AtomicBool,
    notify: Notify,
}

impl WorkerMailbox {
    /// Asks the worker to look at a client.
    pub fn poke(&self, client: u64) {
        self.clients.lock().push(client);
        self.notify.notify_one();
    }

    /// Tells the worker that the log became durable further.
    pub fn durable_advanced(&self) {
        self.durable.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// A worker's thread-local state.
pub struct Worker {
    /// The server.
    pub server: Arc<Server>,
    /// Index among the workers.
    pub index: usize,
    /// Cold values that several of its clients wait for.
    pub together: Rc<Together>,
    /// Reused between commands.
    pub scratch: RefCell<Scratch>,
    /// Connections by client id.
    pub connections: RefCell<HashMap<u64, Rc<Connection>>>,
    pending: RefCell<Vec<Rc<Connection>>>,
    pending_bytes: Cell<usize>,
    /// Among what is pending are replies of clients who wait for each of theirs.
    prompt: Cell<bool>,
    /// Pipelines that may yet run as if there were such clients.
    considerate: Cell<u32>,
    /// When the thread woke up, and how many commands it had run by then.
    woke: Cell<Option<(Instant, u64)>>,
}

/// How often idle clients are looked for.
const IDLE_SWEEP: Duration = Duration::from_secs(1);

/// Reply bytes past which a worker flushes without waiting for the end of its wake-up.
const INLINE_FLUSH_BYTES: usize = 64 << 10;

/// Pipelines that are considerate of a client who sends one request at a time, after each of those.
const CONSIDERATE: u32 = 64;

/// Beyond this no limit of a client's output keeps replies back.
const INLINE_LIMIT_BYTES_MAX: usize = 1 << 20;

impl Worker {
    /// A worker without connections.
    pub fn new(server: Arc<Server>, index: usize) -> Rc<Self> {
        let together = Rc::new(Together::default());
        Rc::new(Self {
            server,
            index,
            scratch: RefCell::new(Scratch::of_worker(together.clone())),
            together,
            connections: RefCell::default(),
            pending: RefCell::default(),
            pending_bytes: Cell::new(0),
            prompt: Cell::new(false),
            considerate: Cell::new(0),
            woke: Cell::new(None),
        })
    }

    /// The thread has something to do.
    pub fn woken(&self) {
        let commands = self.server.stats.own_commands();
        self.woke.set(Some((Instant::now(), commands)));
    }

    /// The thread is about to sleep: sends what waits.
    pub fn before_sleep(&self) {
        self.flush();
        self.together.end_wake_up();
        if let Some((woke, commands)) = self.woke.take() {
            let stats = &self.server.stats;
            let more = stats.own_commands().saturating_sub(commands);
            stats.cycle(woke.elapsed().as_micros() as u64, more);
        }
    }

    /// A client has sent so many bytes.
    pub fn note_input(&self, client: u64, bytes: usize) {
        self.server.stats.input(bytes);
        company::note_input(client);
    }

    /// A connection has `bytes` more to send.
    pub fn schedule(&self, connection: &Rc<Connection>, bytes: usize) {
        if !connection.scheduled.replace(true) {
            self.pending.borrow_mut().push(connection.clone());
        }
        self.pending_bytes.set(self.pending_bytes.get() + bytes);
    }

    /// What was scheduled just now is all that its client waits for: it does not wait behind many
    /// requests of another one.
    pub fn expedite(&self) {
        self.prompt.set(true);
        self.considerate.set(CONSIDERATE);
    }

    /// Before the first of several requests that a client has sent at once, and of what is left of them
    /// after a pause.
    pub fn begin_pipeline(&self) {
        let left = self.considerate.get();
        self.considerate.set(left.saturating_sub(1));
        self.flush_prompt();
    }

    /// Whether clients who send one request at a time were here lately: pipelines let them in often.
    pub fn is_considerate(&self) -> bool {
        self.considerate.get() > 0
    }

    /// Sends what [`Self::expedite`] was told of.
    pub fn flush_prompt(&self) {
        if self.prompt.get() {
            self.flush();
        }
    }

    /// Whether it has more than one connection.
    pub fn has_others(&self) -> bool {
        self.connections.borrow().len() > 1
    }

    /// Whether another connection than this one has something to send.
    pub fn has_pending_of_others(&self, connection: &Rc<Connection>) -> bool {
        let pending = self.pending.borrow();
        pending.iter().any(|other| !Rc::ptr_eq(other, connection))
    }

    /// Whether enough has collected to flush in the middle of a wake-up.
    pub fn should_flush(&self) -> bool {
        self.has_much_pending()
            || self.server.log.unwritten_bytes() >= crate::log::INLINE_FLUSH_BYTES
    }

    /// Whether replies are to go before the end of the wake-up: not as long as they may yet be too
    /// many for the limit of a client's output, which then gets none.
    fn has_much_pending(&self) -> bool {
        let pending = self.pending_bytes.get();
        if pending < INLINE_FLUSH_BYTES {
            return false;
        }
        let hard = self.server.config().network.normal_limit.hard_bytes;
        pending >= INLINE_LIMIT_BYTES_MAX || pending as u64 >= hard
    }

    /// Writes the log, then sends what waits. See the module.
    pub fn flush(&self) {
        self.server.send_broadcasts();
        self.server.limit_exceeding();
        if self.pending.borrow().is_empty() && !self.server.log.has_unwritten() {
            return;
        }
        self.pending_bytes.set(0);
        self.prompt.set(false);
        // What is taken here was sent before the log is written; what comes later waits, because
        // it may tell of effects that this write does not include (I5).
        for connection in &*self.pending.borrow() {
            connection.take_outbox();
        }
        let written = self.server.log.has_unwritten().then(Instant::now);
        let began = self.server.latency.begin();
        let point = self.server.log.flush();
        self.server.latency.end("aof-write", began);
        if let Some(start) = written {
            let took_us = start.elapsed().as_micros() as u64;
            self.server.stats.log_written(took_us);
        }
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        let mut held = Vec::new();
        for connection in pending {
            if connection.send(&self.server, point) {
                connection.scheduled.set(false);
            } else {
                held.push(connection);
            }
        }
        if !held.is_empty() {
            self.pending.borrow_mut().append(&mut held);
        }
        self.server.limit_exceeding();
    }

    /// Closes clients that are idle for longer than `timeout`, or that leave more unread than a
    /// soft limit allows, until the worker stops.
    pub async fn close_idle(self: Rc<Self>) {
        let mut tick = tokio::time::interval(IDLE_SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let config = self.server.config();
            let timeout_s = config.network.idle_timeout_s;
            let now_ms = crate::clock::unix_ms();
            for connection in self.connections.borrow().values() {
                connection.sweep_output(&self.server, &config);
                if timeout_s > 0 {
                    connection.sweep_idle(now_ms, (timeout_s * 1000) as i64);
                }
            }
        }
    }

    /// Serves the mailbox until the worker stops.
    pub async fn serve_mailbox(self: Rc<Self>, mailbox: Arc<WorkerMailbox>) {
        loop {
            mailbox.notify.notified().await;
            let clients = std::mem::take(&mut *mailbox.clients.lock());
            for id in clients {
                let connection = self.connections.borrow().get(&id).cloned();
                if let Some(connection) = connection {
                    // Cleared before the messages are taken: what comes after pokes again.
                    connection.shared.poked.store(false, Ordering::Release);
                    connection.take_outbox();
                    self.schedule(&connection, 0);
                    connection.wake.notify_one();
                }
            }
            mailbox.durable.store(false, Ordering::Release);
            self.flush();
        }
    }
}
