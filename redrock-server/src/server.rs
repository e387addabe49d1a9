//! What all parts of the running server share.

use crate::command::error::{CommandError, CommandResult};
use crate::command::table::{Spec, flag};
use crate::config::{Config, Hooks};
use crate::keyspace::Keyspace;
use crate::keyspace::tiering::governor::MemoryGate;
use crate::log::EffectLog;
use crate::net::client::{Client, ClientShared};
use crate::net::worker::WorkerMailbox;
use crate::notify::{Class, Notifier};
use crate::start::progress::LoadingState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters that INFO shows; see Redis's INFO for their meaning.
#[derive(Debug, Default)]
pub struct Stats {
    /// `total_connections_received`
    pub connections: AtomicU64,
    /// `total_commands_processed`
    pub commands: AtomicU64,
    /// `rejected_connections`
    pub rejected: AtomicU64,
    /// `total_net_input_bytes`
    pub input_bytes: AtomicU64,
    /// `total_net_output_bytes`
    pub output_bytes: AtomicU64,
    /// `total_error_replies`
    pub errors: AtomicU64,
}

impl Stats {
    /// Counts an error reply.
    pub fn error(&self, _error: &CommandError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets all to zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        let Self { connections, commands, rejected, input_bytes, output_bytes, errors } = self;
        for counter in [connections, commands, rejected, input_bytes, output_bytes, errors] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Counts received bytes.
    pub fn input(&self, bytes: usize) {
        self.input_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

const LOADING_TEXT: &str = "LOADING Redis is loading the dataset in memory";

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// 40 hex digits, new at every start.
    pub run_id: String,
    /// When the server started, unix ms.
    pub started_ms: i64,
    /// Statistics.
    pub stats: Stats,
    /// The data.
    pub keyspace: Mutex<Keyspace>,
    /// The effect log.
    pub log: EffectLog,
    /// Threads that read cold values.
    pub readers: crate::keyspace::tiering::reader::Readers,
    /// The load under way, if any.
    pub loading: LoadingState,
    /// Memory: the bound and what is used of it.
    pub memory: MemoryGate,
    /// Connected clients.
    pub clients: RwLock<HashMap<u64, Arc<ClientShared>>>,
    stopping: AtomicBool,
    /// What happens when options change.
    pub config_hooks: RwLock<Hooks>,
    /// Held while the configuration changes.
    pub config_change: Mutex<()>,
    config: RwLock<Arc<Config>>,
    config_version: AtomicU64,
    client_ids: AtomicU64,
    mailboxes: Vec<Arc<WorkerMailbox>>,
}

impl Server {
    /// A server that serves nothing yet.
    pub fn new(config: Config, keyspace: Keyspace, run_id: String, workers: usize) -> Self {
        Self {
            run_id,
            started_ms: crate::clock::unix_ms(),
            stats: Stats::default(),
            keyspace: Mutex::new(keyspace),
            log: EffectLog::default(),
            readers: crate::keyspace::tiering::reader::Readers::default(),
            loading: LoadingState::default(),
            memory: MemoryGate::default(),
            stopping: AtomicBool::new(false),
            clients: RwLock::default(),
            config_hooks: RwLock::default(),
            config_change: Mutex::default(),
            config: RwLock::new(Arc::new(config)),
            config_version: AtomicU64::new(1),
            client_ids: AtomicU64::new(0),
            mailboxes: (0..workers).map(|_| Arc::default()).collect(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().clone()
    }

    /// Changes with every change of the configuration.
    pub fn config_version(&self) -> u64 {
        self.config_version.load(Ordering::Acquire)
    }

    /// Replaces the configuration.
    pub fn set_config(&self, config: Config) {
        *self.config.write() = Arc::new(config);
        self.config_version.fetch_add(1, Ordering::Release);
    }

    /// Whether the server is on its way down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Makes all threads end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Resident memory of the companions that we started, bytes.
    pub fn companion_bytes(&self) -> u64 {
        0
    }

    /// How to reach worker `index`.
    pub fn mailbox(&self, index: usize) -> Option<&Arc<WorkerMailbox>> {
        self.mailboxes.get(index)
    }

    /// A new client id.
    pub fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether clients must authenticate before they do anything.
    pub fn password_needed(&self) -> bool {
        self.config.read().security.password.is_some()
    }

    /// Registers a new client.
    pub fn admit_client(&self, client: &Client) {
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        self.clients.write().insert(client.id(), client.shared.clone());
    }

    /// Removes a client that is gone from every table.
    pub fn forget_client(&self, shared: &Arc<ClientShared>, client: Option<Box<Client>>) {
        self.clients.write().remove(&shared.id);
        if let Some(client) = client {
            let mut keyspace = self.keyspace.lock();
            for (db, key) in &client.watched {
                keyspace.watched.unwatch(*db, key, shared.id);
            }
        }
    }

    /// Ends all subscriptions of a client without a reply (RESET).
    pub fn drop_subscriptions(&self, client: &mut Client) {
        client.channels.clear();
        client.patterns.clear();
        client.shard_channels.clear();
    }

    /// Gives a blocked client back to its connection together with the reply it waited for.
    pub fn return_client(&self, client: Box<Client>, reply: Vec<u8>) {
        let shared = client.shared.clone();
        shared.outbox.lock().extend_from_slice(&reply);
        *shared.returned.lock() = Some(client);
        self.poke(&shared);
    }

    /// Makes a client's worker look at it.
    pub fn poke(&self, shared: &ClientShared) {
        if let Some(mailbox) = self.mailboxes.get(shared.worker) {
            mailbox.poke(shared.id);
        }
    }

    /// What the server's state refuses: loading, disk errors, memory, roles.
    pub fn gate(&self, spec: &'static Spec) -> CommandResult {
        if self.loading.is_active() && !spec.has(flag::LOADING) {
            return Err(CommandError::fixed(LOADING_TEXT));
        }
        // As in Redis PING tells of a disk that can't be written too.
        if self.log.refuses_writes()
            && (spec.has(flag::WRITE) || spec.name == "ping")
            && let Some(text) = self.log.refusal_text()
        {
            return Err(CommandError::text(text));
        }
        Ok(())
    }
}

impl Notifier for Server {
    fn notify(&self, _class: Class, _event: &'static str, _key: &[u8], _db: usize) {}
    fn invalidate(&self, _key: &[u8]) {}
}
