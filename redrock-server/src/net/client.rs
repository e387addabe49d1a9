//! A client's session state, as commands see and change it.

use crate::keyspace::watch::DirtyFlag;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::command::reply::Reply;

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
    /// A blocked client on its way back to its connection.
    pub returned: Mutex<Option<Box<Client>>>,
    /// Set by CLIENT KILL and by limits: the owner closes the connection when it sees it.
    pub kill: AtomicBool,
    /// Bytes waiting in the owner's output buffer, for `CLIENT LIST` and limits.
    pub out_bytes: AtomicU64,
}

/// A queued or suspended command's own copy of its arguments.
#[derive(Debug, Clone, Default)]
pub struct OwnedCommand {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl OwnedCommand {
    /// Copies an argument vector.
    pub fn new(argv: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(argv.iter().map(|a| a.len()).sum());
        let ends = argv
            .iter()
            .map(|arg| {
                bytes.extend_from_slice(arg);
                bytes.len()
            })
            .collect();
        Self { bytes, ends }
    }

    /// The arguments.
    pub fn argv(&self) -> Vec<&[u8]> {
        let mut start = 0;
        self.ends
            .iter()
            .map(|&end| {
                let arg = self.bytes.get(start..end).unwrap_or_default();
                start = end;
                arg
            })
            .collect()
    }

    /// Bytes held.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8
    }
}

/// The state of a client in MULTI.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Queued commands.
    pub commands: Vec<OwnedCommand>,
    /// A command failed to queue: EXEC answers `-EXECABORT`.
    pub failed: bool,
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
    /// Name of the authenticated user.
    pub user: String,
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
    /// Blocking commands must not block: inside EXEC and scripts.
    pub deny_blocking: bool,
    /// Set by a blocking command that found nothing.
    pub block: Option<BlockRequest>,
    /// Set by a command whose reply is made outside the locks.
    pub deferred: Option<crate::command::dispatch::Deferred>,
    /// A command to run again when the client is back from the table of blocked clients.
    pub rerun: Option<OwnedCommand>,
    /// Close the connection once the replies are sent (QUIT, protocol errors).
    pub close_after_reply: bool,
}

impl Client {
    /// A fresh session.
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
            user: "default".into(),
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
            deny_blocking: false,
            block: None,
            rerun: None,
            deferred: None,
            close_after_reply: false,
        }
    }

    /// The client's id.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Number of subscriptions, as SUBSCRIBE counts them.
    pub fn subscription_count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }
}
