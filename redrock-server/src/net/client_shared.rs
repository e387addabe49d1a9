//! The part of a client that other threads may reach.

use super::client::Client;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
};
use tokio_util::sync::CancellationToken;

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
    /// What TLS takes for its connection: session, buffers, what is encrypted and not sent.
    pub transport_bytes: AtomicU64,
    /// Over TLS: ends what is done for it outside its worker when it is killed, the handshake at its
    /// beginning and passing on what a replica is sent.
    pub tls: Option<CancellationToken>,
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
        let buffered = self.waiting_bytes() as usize
            + more
            + input
            + load(&self.queued_bytes)
            + load(&self.transport_bytes);
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
