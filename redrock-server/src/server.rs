//! What all parts of the running server share.

use crate::acl::Acl;
use crate::command::error::{CommandError, CommandResult};
use crate::command::reply::Reply;
use crate::command::table::{Spec, flag};
use crate::config::watchers::Watchers;
use crate::config::{Config, Hooks, OptionSet};
use crate::keyspace::Keyspace;
use crate::keyspace::locks::KeyspaceLock;
use crate::keyspace::tiering::gate::MemoryGate;
use crate::latency::LatencyMonitor;
use crate::log::EffectLog;
use crate::monitor::Monitors;
use crate::net::client::{Client, ClientShared, ReplyMode};
use crate::net::memory::{ClientMemory, is_beyond, output_limit};
use crate::net::worker::WorkerMailbox;
use crate::notify::{Class, Notifier};
use crate::services::Services;
use crate::slowlog::SlowLog;
use crate::start::fate::Fate;
use crate::start::progress::LoadingState;
use crate::state::ServiceState;
use crate::stats::Stats;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What a client may leave unread of messages that are no replies; Redis's hard limit for
/// replicas, to which MONITOR clients belong.
const PUSH_BYTES_MAX: u64 = 256 << 20;

const LOADING_TEXT: &str = "LOADING Redis is loading the dataset in memory";

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// 40 hex digits, new at every start.
    pub run_id: String,
    /// When the server started, unix ms.
    pub started_ms: i64,
    /// Users and what they may do.
    pub acl: Acl,
    /// Statistics.
    pub stats: Stats,
    /// What the other services say of themselves.
    pub state: ServiceState,
    /// Slow commands.
    pub slow_log: SlowLog,
    /// Latency spikes.
    pub latency: LatencyMonitor,
    /// Clients in MONITOR.
    pub monitors: Monitors,
    /// The data.
    pub keyspace: KeyspaceLock,
    /// The effect log.
    pub log: EffectLog,
    /// The ids of its stream.
    pub history: crate::replication::history::StreamHistory,
    /// Threads that read cold values.
    pub readers: crate::keyspace::tiering::reader::Readers,
    /// The load under way, if any.
    pub loading: LoadingState,
    /// How the server ends.
    pub fate: Fate,
    /// Lua scripts.
    pub scripting: crate::script::Scripting,
    /// Memory: the bound and what is used of it.
    pub memory: MemoryGate,
    /// Subscribers of channels and patterns.
    pub pubsub: crate::pubsub::PubSub,
    /// Tracked clients are to be told of changes; see [`Server::send_broadcasts`].
    pub has_broadcasts: AtomicBool,
    /// Classes of keyspace events that are published (`notify-keyspace-events`).
    events: AtomicU32,
    /// Frees what commands removed.
    pub reclaimer: crate::keyspace::reclaim::Reclaimer,
    /// Active expiry: its switch and its counters.
    pub expiry: crate::keyspace::expire::ActiveExpiry,
    /// `maxmemory` where values are not tiered.
    pub eviction: crate::keyspace::evict::Eviction,
    /// Keys on their way to other servers.
    pub migrations: crate::migrate::Migrations,
    /// What clients' buffers take.
    pub client_memory: ClientMemory,
    /// TLS: its context and its thread.
    pub tls: crate::net::tls::Tls,
    /// Connected clients.
    pub clients: RwLock<HashMap<u64, Arc<ClientShared>>>,
    me: OnceLock<std::sync::Weak<Self>>,
    /// What is shared with the companions; set once, before clients are served.
    pub services: OnceLock<Arc<Services>>,
    /// What the services' state refuses; see [`crate::services::gates`].
    pub gates: AtomicU32,
    /// All clients are held back (SAVE).
    pub held: AtomicBool,
    /// Held by whoever fills the staged databases.
    pub staging: Mutex<()>,
    /// No new clients are taken.
    pub draining: AtomicBool,
    stopping: AtomicBool,
    /// What happens when options change.
    pub config_hooks: RwLock<Hooks>,
    /// Held while the configuration changes.
    pub config_change: Mutex<()>,
    config: RwLock<Arc<Config>>,
    config_version: AtomicU64,
    /// Who hears of which changes.
    pub config_watchers: Watchers,
    client_ids: AtomicU64,
    mailboxes: Vec<Arc<WorkerMailbox>>,
}

impl Server {
    /// A server that serves nothing yet.
    pub fn new(config: Config, keyspace: Keyspace, run_id: String, workers: usize) -> Self {
        let client_memory = ClientMemory::default();
        client_memory.configure(&config);
        let eviction = crate::keyspace::evict::Eviction::default();
        eviction.configure(&config);
        let latency = LatencyMonitor::default();
        latency.configure(config.observation.latency_ms_min);
        Self {
            run_id,
            started_ms: crate::clock::unix_ms(),
            acl: Acl::new(config.security.password.as_deref()),
            stats: Stats::new(workers),
            state: ServiceState::default(),
            slow_log: SlowLog::default(),
            latency,
            monitors: Monitors::default(),
            keyspace: KeyspaceLock::new(keyspace),
            log: EffectLog::default(),
            history: crate::replication::history::StreamHistory::default(),
            readers: crate::keyspace::tiering::reader::Readers::default(),
            loading: LoadingState::default(),
            fate: Fate::default(),
            scripting: Default::default(),
            memory: MemoryGate::default(),
            pubsub: Default::default(),
            has_broadcasts: AtomicBool::new(false),
            events: AtomicU32::new(config.observation.events),
            reclaimer: Default::default(),
            expiry: Default::default(),
            me: OnceLock::new(),
            services: OnceLock::new(),
            gates: AtomicU32::new(0),
            held: AtomicBool::new(false),
            staging: Mutex::default(),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            eviction,
            migrations: Default::default(),
            client_memory,
            tls: Default::default(),
            clients: RwLock::default(),
            config_hooks: RwLock::default(),
            config_change: Mutex::default(),
            config: RwLock::new(Arc::new(config)),
            config_version: AtomicU64::new(1),
            config_watchers: Watchers::default(),
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

    /// Replaces the configuration by one in which the options `changed` differ.
    pub fn set_config(&self, config: Config, changed: &OptionSet) {
        let former = self.config();
        let same_limits =
            config.memory.is_as_in(&former.memory) && config.network.is_as_in(&former.network);
        let same_gates = config.snapshot.is_as_in(&former.snapshot)
            && config.append_only.is_as_in(&former.append_only)
            && config.replication.is_as_in(&former.replication);
        let observation = &config.observation;
        self.events.store(observation.events, Ordering::Relaxed);
        self.latency.configure(observation.latency_ms_min);
        if !same_limits {
            self.client_memory.configure(&config);
            self.sweep_clients();
            self.eviction.configure(&config);
        }
        let password = &config.security.password;
        if *password != former.security.password {
            self.acl.set_default_password(password.as_deref());
        }
        *self.config.write() = Arc::new(config);
        self.config_version.fetch_add(1, Ordering::Release);
        self.config_watchers.tell(changed);
        if !same_gates {
            self.refresh_gates();
        }
        if !same_limits {
            self.sweep_clients();
        }
    }

    /// Makes [`Server::handle`] work; called once, right after the server was made.
    pub fn set_handle(self: &Arc<Self>) {
        let _ = self.me.set(Arc::downgrade(self));
    }

    /// A handle for work that outlives the command that starts it.
    pub fn handle(&self) -> Result<Arc<Self>, CommandError> {
        let handle = self.me.get().and_then(std::sync::Weak::upgrade);
        handle.ok_or(CommandError::fixed("ERR the server is shutting down"))
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
        self.services
            .get()
            .map_or(0, |services| services.companions.resident_bytes())
    }

    /// How to reach worker `index`.
    pub fn mailbox(&self, index: usize) -> Option<&Arc<WorkerMailbox>> {
        self.mailboxes.get(index)
    }

    /// How to reach all workers.
    pub fn mailboxes(&self) -> &[Arc<WorkerMailbox>] {
        &self.mailboxes
    }

    /// A new client id.
    pub fn next_client_id(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a new client.
    pub fn admit_client(&self, client: &Client) {
        self.stats.connections.fetch_add(1, Ordering::Relaxed);
        self.clients
            .write()
            .insert(client.id(), client.shared.clone());
    }

    /// Removes a client that is gone from every table, and what it was charged.
    pub fn forget_client(&self, shared: &Arc<ClientShared>, client: Option<Box<Client>>) {
        self.clients.write().remove(&shared.id);
        self.charge_client(shared, 0);
        if shared.monitor.load(Ordering::Relaxed) {
            self.monitors.remove(shared.id);
        }
        if shared.tracking.load(Ordering::Relaxed) != 0 {
            let shared = shared.clone();
            self.now_or_later(move |keyspace| keyspace.tracking.disable(&shared));
        }
        if let Some(mut client) = client {
            self.pubsub.forget(&mut client);
            self.unwatch(std::mem::take(&mut client.watched), shared.id);
        }
    }

    /// Ends watches of a client: at the end of a script if one is busy.
    pub fn unwatch(&self, watched: Vec<(usize, Vec<u8>)>, id: u64) {
        if watched.is_empty() {
            return;
        }
        self.now_or_later(move |keyspace| {
            for (db, key) in &watched {
                keyspace.watched.unwatch(*db, key, id);
            }
        });
    }

    /// Ends all subscriptions of a client without a reply (RESET).
    pub fn drop_subscriptions(&self, client: &mut Client) {
        self.pubsub.forget(client);
    }

    /// Gives a blocked client back to its connection together with the reply it waited for.
    pub fn return_client(&self, client: Box<Client>, reply: Vec<u8>) {
        let shared = client.shared.clone();
        shared.blocked.store(false, Ordering::Relaxed);
        client.publish();
        if client.reply_mode == ReplyMode::On {
            shared.outbox.lock().extend_from_slice(&reply);
        }
        *shared.returned.lock() = Some(client);
        self.poke(&shared);
    }

    /// Sends a client something that is no reply to its own command: complete RESP elements. A
    /// client that does not take them fast enough is closed.
    pub fn push(&self, shared: &ClientShared, resp: &[u8]) {
        if shared.kill.load(Ordering::Relaxed) {
            return;
        }
        let config = self.config();
        let mut outbox = shared.outbox.lock();
        let waiting = (outbox.len() + resp.len()) as u64 + shared.out_bytes.load(Ordering::Relaxed);
        let limit = output_limit(&config, shared);
        if waiting > PUSH_BYTES_MAX || is_beyond(limit, shared, waiting, crate::clock::unix_ms()) {
            *outbox = Vec::new();
            drop(outbox);
            self.close_for_output(shared, waiting);
            return;
        }
        outbox.extend_from_slice(resp);
        drop(outbox);
        self.note_client(shared);
        self.poke(shared);
    }

    /// Closes a client now: it runs no further command and leaves all tables at once. A blocked
    /// one is taken out of `keyspace`'s table, which the caller holds.
    pub fn kill_client(&self, shared: &Arc<ClientShared>, keyspace: &mut Keyspace) {
        shared.kill.store(true, Ordering::Relaxed);
        self.clients.write().remove(&shared.id);
        if let Some((Some(client), _)) = keyspace.blocked.remove(shared.id) {
            self.return_client(client, Vec::new());
        }
        self.poke(shared);
    }

    /// The users as CONFIG REWRITE writes them: not at all where they have a file of their own.
    pub fn user_lines(&self, config: &Config) -> Vec<Vec<u8>> {
        if config.security.acl_file.is_some() {
            return Vec::new();
        }
        let accounts = self.acl.all();
        accounts.iter().map(|account| account.line()).collect()
    }

    /// The clients that are logged in as one of these users.
    pub fn clients_of(&self, users: &[Vec<u8>]) -> Vec<Arc<ClientShared>> {
        let clients = self.clients.read();
        let theirs = clients
            .values()
            .filter(|client| users.contains(&client.identity.lock().user));
        theirs.cloned().collect()
    }

    /// Ends a blocked client's wait with the reply of a timeout, or with an error. False if the
    /// client does not wait.
    pub fn unblock_client(&self, id: u64, keyspace: &mut Keyspace, error: Option<&str>) -> bool {
        let Some((Some(client), request)) = keyspace.blocked.remove(id) else {
            return keyspace.blocked.end_elsewhere(id, error);
        };
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, client.resp3);
        match error {
            Some(text) => {
                reply.error(text.as_bytes());
                self.stats.error(&CommandError::text(text.to_owned()));
            }
            None => (request.on_timeout)(&mut reply),
        }
        self.count_unserved(&client.shared, error.is_some());
        self.return_client(client, out);
        true
    }

    /// Counts a blocked command that ended without having run (`updateStatsOnUnblock`).
    pub fn count_unserved(&self, client: &ClientShared, failed: bool) {
        let last = client.last_command.load(Ordering::Relaxed);
        let specs = crate::command::registry::numbered();
        if let Some(spec) = specs.iter().find(|spec| spec.index + 1 == last) {
            let track = self.config().observation.latency_tracking;
            self.stats.executed(spec, 0, failed, track);
        }
    }

    /// Periodic work, every 100 ms.
    pub fn tick(&self) {
        let start = std::time::Instant::now();
        self.stats.tick(crate::clock::unix_us());
        self.sweep_clients();
        let keys_max = self.config().memory.tracking_keys_max;
        // A long command must not hold up who accepts connections.
        if let Some(mut keyspace) = self.keyspace_soon() {
            keyspace.limit_tracking(self, keys_max);
        }
        self.migrations.pool.sweep();
        self.report_log();
        let took_us = (start.elapsed().as_micros() as u64).max(1);
        self.stats
            .periodic_usec
            .fetch_add(took_us, Ordering::Relaxed);
        self.stats.cycle(took_us, 0);
    }

    /// Makes a client's worker look at it, and the thread of TLS if it is killed.
    pub fn poke(&self, shared: &ClientShared) {
        if let Some(tls) = shared
            .tls
            .as_ref()
            .filter(|_| shared.kill.load(Ordering::Relaxed))
        {
            tls.cancel();
        }
        if let Some(mailbox) = self.mailboxes.get(shared.worker)
            && !shared.poked.swap(true, Ordering::AcqRel)
        {
            mailbox.poke(shared.id);
        }
    }

    /// What the server's state refuses: loading, disk errors, memory, roles.
    pub fn gate(&self, spec: &Spec) -> CommandResult {
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
        self.service_gate(spec)
    }
}

impl Notifier for Server {
    fn notify(&self, class: Class, event: &'static str, key: &[u8], db: usize) {
        let mask = self.events.load(Ordering::Relaxed);
        if mask & class.0 != 0 && self.pubsub.has_listeners() {
            crate::pubsub::publish_event(self, mask, event.as_bytes(), key, db);
        }
    }
    fn expiry_rests(&self) -> bool {
        self.state.pause.is_on()
    }
}
