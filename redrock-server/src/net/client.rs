//! A client's session state, as commands see and change it.

use crate::keyspace::watch::DirtyFlag;
use hashbrown::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use super::client_shared::{ClientShared, Identity, state_flag};
use crate::acl::Account;
use crate::command::reply::Reply;
use crate::command::table::{Spec, flag};
use crate::value::ObjectType;

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
