//! A client's session state, as commands see and change it.

use crate::keyspace::watch::DirtyFlag;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};

use crate::acl::Account;
use crate::command::reply::Reply;
use crate::command::table::{Spec, flag};
use crate::value::ObjectType;

/// Input from so many bytes on is memory of its client.
const OWN_BYTES_MIN: usize = 16 << 10;
/// An empty outbox keeps at most so much.
const KEPT_BYTES_MAX: usize = 1 << 10;

/// The part of a client that other threads may reach: pushes, kills, unblocking.
#[derive(Debug, Default)]
pub struct ClientShared {
    /// The client's id (`CLIENT ID`).
    pub id: u64,
    /// Index of the worker that owns the connection.
    pub worker: usize,
    /// Messages for the client from elsewhere (publish/subscribe, invalidations, the reply of a
    /// blocked command), complete RESP elements in order. Bounded by
    /// `client-output-buffer-limit`: what exceeds it closes the client.
    pub outbox: Mutex<Vec<u8>>,
    /// Messages that are not in the outbox yet because the log has not yet what they tell of.
    pub held: Mutex<Vec<u8>>,
    /// A blocked client on its way back to its connection.
    pub returned: Mutex<Option<Box<Client>>>,
    /// Its worker has been asked to look at it and has not yet: one request is enough.
    pub poked: AtomicBool,
    /// Since when more waits than the soft limit of its class allows, unix ms; 0: it does not.
    pub over_soft_limit_ms: AtomicI64,
    /// Set by CLIENT KILL and by limits: the owner closes the connection when it sees it.
    pub kill: AtomicBool,
    /// Bytes waiting in the owner's output buffer, for `CLIENT LIST` and limits.
    pub out_bytes: AtomicU64,
    /// What the owner's output buffer takes in memory.
    pub out_held_bytes: AtomicU64,
    /// Peer address, `ip:port` or a socket path with `:0`.
    pub addr: String,
    /// Local address.
    pub laddr: String,
    /// The socket's file descriptor.
    pub fd: i32,
    /// When the client connected, unix ms.
    pub created_ms: i64,
    /// When it last said something, unix ms.
    pub last_seen_ms: AtomicI64,
    /// Its last command: [`crate::command::table::Spec::index`] plus 1, or 0.
    pub last_command: AtomicU16,
    /// Bits of [`state_flag`], written by the owner.
    pub flags: AtomicU32,
    /// It waits in the table of blocked clients.
    pub blocked: AtomicBool,
    /// How it is tracked: bits of [`crate::tracking::mode`].
    pub tracking: AtomicU32,
    /// Whom its invalidations go to; 0: to itself.
    pub redirect: AtomicU64,
    /// It said MONITOR.
    pub monitor: AtomicBool,
    /// Selected database.
    pub db: AtomicU32,
    /// Protocol version.
    pub resp: AtomicU8,
    /// Subscribed channels, patterns, shard channels.
    pub subscriptions: [AtomicU32; 3],
    /// The reply that is being made elsewhere is the last one: close once it is sent.
    pub closing: AtomicBool,
    /// Commands queued in MULTI plus 1, or 0 outside.
    pub queued: AtomicU32,
    /// Bytes of the commands queued in MULTI.
    pub queued_bytes: AtomicU64,
    /// Bytes received and not executed.
    pub query_bytes: AtomicU64,
    /// Those of them that were not even parsed (`qbuf`).
    pub unparsed_bytes: AtomicU64,
    /// What its connection has charged to the clients' account; see [`super::memory`].
    pub charged_bytes: AtomicU64,
    /// Bytes of the running or last command's arguments.
    pub argument_bytes: AtomicU64,
    /// Bytes that the unfinished request will need; 0 if that is not known.
    pub needed_bytes: AtomicU64,
    /// [`Self::memory_bytes`] as `maxmemory-clients` last saw it.
    pub noted_bytes: AtomicU64,
    /// Stream offset behind a change that was made while its reply was made outside the locks.
    pub late_offset: AtomicU64,
    /// Watched keys.
    pub watched: AtomicU32,
    /// Prefixes that it is told of in broadcast mode.
    pub prefixes: AtomicU32,
    /// What is known about who it is.
    pub identity: Mutex<Identity>,
}

impl ClientShared {
    /// Memory of the client, bytes: its structures and what is buffered. A request counts with what
    /// it will need once that is known, as it does in Redis, which takes it at once.
    pub fn memory_bytes(&self) -> usize {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) as usize;
        // Arguments are parts of what was received; what is small is in the worker's buffer.
        let input = load(&self.query_bytes)
            .max(load(&self.needed_bytes))
            .max(load(&self.argument_bytes));
        let input = if input < OWN_BYTES_MIN { 0 } else { input };
        // While a buffer grows it may take twice what it holds.
        let held = Some(load(&self.out_held_bytes)).filter(|&bytes| bytes >= OWN_BYTES_MIN);
        let more = held.unwrap_or(0).saturating_sub(load(&self.out_bytes));
        let buffered = self.waiting_bytes() as usize + more + input + load(&self.queued_bytes);
        size_of::<Self>() + size_of::<Client>() + buffered + self.registered_bytes()
    }

    /// Moves what others have sent behind `out`. What a burst took is given back.
    pub fn take_outbox(&self, out: &mut Vec<u8>) {
        let mut outbox = self.outbox.lock();
        if outbox.is_empty() {
            return;
        }
        if outbox.capacity() <= KEPT_BYTES_MAX {
            out.append(&mut outbox);
        } else if out.is_empty() {
            *out = std::mem::take(&mut outbox);
        } else {
            out.append(&mut std::mem::take(&mut outbox));
        }
    }

    /// Bytes that wait to be sent.
    pub fn waiting_bytes(&self) -> u64 {
        self.out_bytes.load(Ordering::Relaxed) + self.outbox.lock().len() as u64
    }

    /// What it has registered for, roughly and without the names, as Redis counts it.
    fn registered_bytes(&self) -> usize {
        const EACH_BYTES: usize = 72;
        let [channels, patterns, shard_channels] = &self.subscriptions;
        let counts = [
            channels,
            patterns,
            shard_channels,
            &self.watched,
            &self.prefixes,
        ];
        let count = |n: &AtomicU32| n.load(Ordering::Relaxed) as usize;
        counts.map(count).iter().sum::<usize>() * EACH_BYTES
    }
}

/// Flags of a client that CLIENT LIST shows and only its owner changes.
pub mod state_flag {
    /// A watched key changed.
    pub const DIRTY: u32 = 1 << 0;
    /// It is closed once its replies are sent.
    pub const CLOSING: u32 = 1 << 1;
    /// `CLIENT NO-EVICT`
    pub const NO_EVICT: u32 = 1 << 2;
    /// `CLIENT NO-TOUCH`
    pub const NO_TOUCH: u32 = 1 << 3;
    /// Connected through a Unix socket.
    pub const UNIX: u32 = 1 << 4;
    /// A replica, handed over to the agent.
    pub const REPLICA: u32 = 1 << 5;
    /// The link to our master.
    pub const MASTER: u32 = 1 << 6;
}

/// A client's names, copied from its session when connection commands change them.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Name of CLIENT SETNAME.
    pub name: Vec<u8>,
    /// `lib-name` and `lib-ver` of CLIENT SETINFO.
    pub lib: (Vec<u8>, Vec<u8>),
    /// The authenticated user.
    pub user: Vec<u8>,
}

/// A queued or suspended command's own copy of its arguments.
#[derive(Debug, Clone, Default)]
pub struct OwnedCommand {
    bytes: Vec<u8>,
    arguments: Vec<Range<usize>>,
}

impl OwnedCommand {
    /// Copies an argument vector.
    pub fn new(argv: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(argv.iter().map(|a| a.len()).sum());
        let arguments = argv
            .iter()
            .map(|arg| {
                let start = bytes.len();
                bytes.extend_from_slice(arg);
                start..bytes.len()
            })
            .collect();
        Self { bytes, arguments }
    }

    /// A command in the buffer that it was read into: a large one is not copied.
    pub fn in_buffer(bytes: Vec<u8>, arguments: Vec<Range<usize>>) -> Self {
        Self { bytes, arguments }
    }

    /// The arguments.
    pub fn argv(&self) -> Vec<&[u8]> {
        self.arguments
            .iter()
            .map(|range| self.bytes.get(range.clone()).unwrap_or_default())
            .collect()
    }

    /// Bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.arguments.capacity() * size_of::<Range<usize>>()
    }
}

/// The state of a client in MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Queued commands.
    pub commands: Vec<OwnedCommand>,
    /// Their records, in the same order.
    pub specs: Vec<&'static Spec>,
    /// All their flags.
    pub flags: u32,
    /// Bytes that they hold; bounded by `client-query-buffer-limit`.
    pub bytes: usize,
    /// A command failed to queue: EXEC answers `-EXECABORT`.
    pub failed: bool,
}

impl Transaction {
    /// Queues a command with its flags, as its script makes them.
    pub fn push(&mut self, spec: &'static Spec, flags: u32, argv: &[&[u8]]) {
        let command = OwnedCommand::new(argv);
        self.flags |= flags | spec.flags & flag::SCRIPT;
        self.bytes += command.memory_bytes();
        self.commands.push(command);
        self.specs.push(spec);
    }
}

/// A command waits for one of some keys.
#[derive(Debug)]
pub struct BlockRequest {
    /// The keys, in the order in which they are tried.
    pub keys: Vec<Vec<u8>>,
    /// When to give up, unix ms; `None`: never.
    pub deadline_ms: Option<i64>,
    /// Writes the reply of a timeout.
    pub on_timeout: fn(&mut Reply<'_>),
    /// The type of value that serves it.
    pub wants: ObjectType,
    /// It also ends when what is there goes or becomes something else (XREADGROUP).
    pub or_gone: bool,
    /// What runs again instead of the client's own words.
    pub again: Option<OwnedCommand>,
}

/// `CLIENT REPLY`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None is sent.
    Off,
    /// The next command's reply is skipped.
    SkipNext,
    /// The running command's reply is skipped.
    Skip,
}

/// What a replica said with REPLCONF before it asked for the stream.
#[derive(Debug, Default, Clone)]
pub struct Peer {
    /// `listening-port`; 0: not told.
    pub listening_port: u16,
    /// `ip-address`; empty: not told.
    pub announced_ip: String,
    /// `version`; empty: not told.
    pub version: String,
    /// `capa`, each once.
    pub capabilities: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// Reached from other threads too.
    pub shared: Arc<ClientShared>,
    /// Selected database.
    pub db: usize,
    /// Whether HELLO 3 was said.
    pub resp3: bool,
    /// Name of CLIENT SETNAME.
    pub name: Vec<u8>,
    /// `lib-name` and `lib-ver` of CLIENT SETINFO.
    pub lib: (Vec<u8>, Vec<u8>),
    /// Peer address, `ip:port` or a socket path with `:0`.
    pub addr: String,
    /// Local address.
    pub laddr: String,
    /// When the client connected, unix ms.
    pub created_ms: i64,
    /// The authenticated user.
    pub account: Arc<Account>,
    /// Whether the client has authenticated where that is needed.
    pub authenticated: bool,
    /// Queued commands between MULTI and EXEC.
    pub transaction: Option<Transaction>,
    /// Watched keys.
    pub watched: Vec<(usize, Vec<u8>)>,
    /// Set when one of them changed.
    pub watch_dirty: DirtyFlag,
    /// Subscribed channels.
    pub channels: HashSet<Vec<u8>>,
    /// Subscribed patterns.
    pub patterns: HashSet<Vec<u8>>,
    /// Subscribed shard channels.
    pub shard_channels: HashSet<Vec<u8>>,
    /// `CLIENT REPLY`
    pub reply_mode: ReplyMode,
    /// `CLIENT NO-TOUCH`
    pub no_touch: bool,
    /// `CLIENT NO-EVICT`
    pub no_evict: bool,
    /// Its commands were accepted before, by our master or by us: they are in the log's words.
    pub obeyed: bool,
    /// Blocking commands must not block: inside EXEC and scripts.
    pub deny_blocking: bool,
    /// The command that comes now has waited its turn, see [`crate::command::dispatch::Wait::Pace`].
    pub was_slowed: bool,
    /// Its script runs: what it does now is the script's.
    pub in_script: bool,
    /// How often its script was run again so far.
    pub script_restarts: u32,
    /// Memory was short when its command began.
    pub out_of_memory: bool,
    /// What its script waits for, when it must run again.
    pub wait: Option<crate::command::dispatch::Wait>,
    /// Set by a blocking command that found nothing.
    pub block: Option<BlockRequest>,
    /// Set by a command whose reply is made outside the locks.
    pub deferred: Option<crate::command::dispatch::Deferred>,
    /// What REPLCONF told of a replica.
    pub peer: Option<Box<Peer>>,
    /// Set by PSYNC and SYNC: the connection goes to the replica agent.
    pub hand_over: Option<redrock_daemon::handoff::PeerRequest>,
    /// Stream offset behind the last change that a command of the client made under the lock.
    pub changed_offset: u64,
    /// A command to run again when the client is back from the table of blocked clients.
    pub rerun: Option<OwnedCommand>,
    /// Its command runs again after it was blocked, and has been shown to MONITOR before.
    pub reprocessing: bool,
    /// Close the connection once the replies are sent (QUIT, protocol errors).
    pub close_after_reply: bool,
}

impl Client {
    /// Whether the commands come from a log or from our master, not from a connection: those have
    /// ids from 1 on.
    pub fn is_replay(&self) -> bool {
        self.shared.id == 0
    }

    /// A fresh session that nothing restricts.
    pub fn new(shared: Arc<ClientShared>, addr: String, laddr: String, now_ms: i64) -> Self {
        Self {
            shared,
            db: 0,
            resp3: false,
            name: Vec::new(),
            lib: (Vec::new(), Vec::new()),
            addr,
            laddr,
            created_ms: now_ms,
            account: Account::internal(),
            authenticated: false,
            transaction: None,
            watched: Vec::new(),
            watch_dirty: DirtyFlag::default(),
            channels: HashSet::new(),
            patterns: HashSet::new(),
            shard_channels: HashSet::new(),
            reply_mode: ReplyMode::On,
            no_touch: false,
            no_evict: false,
            obeyed: false,
            deny_blocking: false,
            was_slowed: false,
            in_script: false,
            script_restarts: 0,
            out_of_memory: false,
            wait: None,
            block: None,
            rerun: None,
            reprocessing: false,
            deferred: None,
            peer: None,
            hand_over: None,
            changed_offset: 0,
            close_after_reply: false,
        }
    }

    /// Whether the peer is on this machine: loopback or a Unix socket.
    pub fn is_local(&self) -> bool {
        match self.addr.parse::<std::net::SocketAddr>() {
            Ok(addr) => addr.ip().to_canonical().is_loopback(),
            Err(_) => true,
        }
    }

    /// Stream offset behind the client's last change.
    pub fn last_offset(&self) -> u64 {
        let late = self.shared.late_offset.load(Ordering::Acquire);
        self.changed_offset.max(late)
    }

    /// The client's id.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Moves what others have sent to the client behind its replies so far. One load while there
    /// is nothing.
    pub fn take_pushes(&self, out: &mut Vec<u8>) {
        if self.shared.poked.load(Ordering::Relaxed) {
            self.shared.take_outbox(out);
        }
    }

    /// Copies what CLIENT LIST shows to where other threads see it. Cheap: plain stores.
    pub fn publish(&self) {
        let shared = &*self.shared;
        let mut flags = 0;
        for (on, flag) in [
            (self.watch_dirty.load(Ordering::Relaxed), state_flag::DIRTY),
            (self.close_after_reply, state_flag::CLOSING),
            (self.no_evict, state_flag::NO_EVICT),
            (self.no_touch, state_flag::NO_TOUCH),
            (self.is_unix(), state_flag::UNIX),
        ] {
            flags |= if on { flag } else { 0 };
        }
        shared.flags.store(flags, Ordering::Relaxed);
        shared.db.store(self.db as u32, Ordering::Relaxed);
        shared
            .resp
            .store(if self.resp3 { 3 } else { 2 }, Ordering::Relaxed);
        let counts = [
            self.channels.len(),
            self.patterns.len(),
            self.shard_channels.len(),
        ];
        for (slot, count) in shared.subscriptions.iter().zip(counts) {
            slot.store(count as u32, Ordering::Relaxed);
        }
        let watched = self.watched.len() as u32;
        shared.watched.store(watched, Ordering::Relaxed);
        let queued = self
            .transaction
            .as_ref()
            .map_or(0, |t| t.commands.len() as u32 + 1);
        let before = shared.queued.swap(queued, Ordering::Relaxed);
        if before != queued {
            let bytes = self.transaction.as_ref().map_or(0, |queued| queued.bytes);
            shared.queued_bytes.store(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Copies the names to where other threads see them.
    pub fn publish_identity(&self) {
        *self.shared.identity.lock() = Identity {
            name: self.name.clone(),
            lib: self.lib.clone(),
            user: self.account.name().to_vec(),
        };
    }

    /// Whether it came through a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.shared.addr.ends_with(":0")
    }

    /// Number of subscriptions, as SUBSCRIBE counts them.
    pub fn subscription_count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}
