//! Publish/subscribe: who listens to what, and the delivery of messages.
//!
//! A message is held back until the log has what it tells of (I5), and dropped if the command or
//! transaction that sent it is to be run again: at the end of the lock hold it goes
//! into each subscriber's outbox and its worker is poked; it leaves with that worker's next flush. What
//! a subscriber does not read is bounded by `client-output-buffer-limit pubsub`: beyond it the client is
//! closed.

use crate::config::OutputLimit;
use crate::net::client::{Client, ClientShared};
use crate::net::memory::is_beyond;
use crate::notify::Class;
use crate::server::Server;
use crate::value::glob;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A channel by name.
    Channel,
    /// All channels that match a pattern.
    Pattern,
    /// A shard channel by name.
    Shard,
}

impl Kind {
    /// A client's own subscriptions of this kind.
    pub fn of(self, client: &mut Client) -> &mut HashSet<Vec<u8>> {
        match self {
            Self::Channel => &mut client.channels,
            Self::Pattern => &mut client.patterns,
            Self::Shard => &mut client.shard_channels,
        }
    }
}

type Table = HashMap<Vec<u8>, Vec<Arc<ClientShared>>>;

#[derive(Debug, Default)]
struct Tables {
    channels: Table,
    patterns: Table,
    shard: Table,
}

impl Tables {
    fn of(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Table {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shard,
        }
    }
}

/// See the module. Bounded by the clients' own subscriptions.
#[derive(Debug, Default)]
pub struct PubSub {
    tables: RwLock<Tables>,
    /// Names in the tables of channels and patterns.
    listened: AtomicUsize,
    /// Clients for whom messages are held back, each once.
    holding: Mutex<Vec<Arc<ClientShared>>>,
    is_holding: AtomicBool,
    /// Bytes that are held back for all.
    held_bytes: AtomicUsize,
}

impl PubSub {
    /// Subscribes; false if the client is subscribed already.
    pub fn subscribe(&self, kind: Kind, name: &[u8], client: &mut Client) -> bool {
        if !kind.of(client).insert(name.to_vec()) {
            return false;
        }
        let mut tables = self.tables.write();
        let subscribers = tables.of_mut(kind).entry(name.to_vec()).or_default();
        subscribers.push(client.shared.clone());
        self.count(&tables);
        true
    }

    /// Unsubscribes; false if the client was not subscribed. No message is delivered afterwards.
    pub fn unsubscribe(&self, kind: Kind, name: &[u8], client: &mut Client) -> bool {
        if !kind.of(client).remove(name) {
            return false;
        }
        self.remove(kind, name, client.shared.id);
        true
    }

    /// Ends all subscriptions of a client.
    pub fn forget(&self, client: &mut Client) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in std::mem::take(kind.of(client)) {
                self.remove(kind, &name, client.shared.id);
            }
        }
    }

    fn remove(&self, kind: Kind, name: &[u8], id: u64) {
        let mut tables = self.tables.write();
        let table = tables.of_mut(kind);
        if let Some(subscribers) = table.get_mut(name) {
            subscribers.retain(|subscriber| subscriber.id != id);
            if subscribers.is_empty() {
                table.remove(name);
            }
        }
        self.count(&tables);
    }

    fn count(&self, tables: &Tables) {
        self.listened.store(
            tables.channels.len() + tables.patterns.len(),
            Ordering::Relaxed,
        );
    }

    /// Whether anybody listens to a channel or pattern.
    pub fn has_listeners(&self) -> bool {
        self.listened.load(Ordering::Relaxed) > 0
    }

    /// Number of channels, patterns or shard channels that somebody listens to.
    pub fn len(&self, kind: Kind) -> usize {
        self.tables.read().of(kind).len()
    }

    /// The clients for which `is_wanted` holds with one of their subscriptions, each once.
    pub fn listeners(
        &self,
        is_wanted: impl Fn(Kind, &[u8], &ClientShared) -> bool,
    ) -> Vec<Arc<ClientShared>> {
        let tables = self.tables.read();
        let mut found: HashMap<u64, Arc<ClientShared>> = HashMap::new();
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for (name, clients) in tables.of(kind) {
                for client in clients {
                    if is_wanted(kind, name, client) {
                        found.insert(client.id, client.clone());
                    }
                }
            }
        }
        found.into_values().collect()
    }

    /// Number of subscribers of one name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> usize {
        self.tables.read().of(kind).get(name).map_or(0, Vec::len)
    }

    /// The names that match a pattern.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let tables = self.tables.read();
        let names = tables.of(kind).keys();
        let wanted = |name: &&Vec<u8>| pattern.is_none_or(|p| glob::matches(p, name, false));
        names.filter(wanted).cloned().collect()
    }
}

/// A message in both protocols, each made when first needed.
struct Message<'m> {
    parts: &'m [&'m [u8]],
    encoded: [Option<Vec<u8>>; 2],
}

impl<'m> Message<'m> {
    fn new(parts: &'m [&'m [u8]]) -> Self {
        Self {
            parts,
            encoded: [None, None],
        }
    }

    fn resp(&mut self, resp3: bool) -> &[u8] {
        let parts = self.parts;
        self.encoded[usize::from(resp3)].get_or_insert_with(|| {
            let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 16).sum());
            let mut reply = crate::command::Reply::new(&mut out, resp3);
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            out
        })
    }
}

fn deliver(
    server: &Server,
    limit: &OutputLimit,
    subscribers: &[Arc<ClientShared>],
    parts: &[&[u8]],
) {
    let mut message = Message::new(parts);
    for subscriber in subscribers {
        let resp3 = subscriber.resp.load(Ordering::Relaxed) == 3;
        send(server, limit, subscriber, message.resp(resp3));
    }
}

/// Holds a message for a client back, or closes the client if it is beyond the limit.
fn send(server: &Server, limit: &OutputLimit, client: &Arc<ClientShared>, resp: &[u8]) {
    if client.kill.load(Ordering::Relaxed) {
        return;
    }
    let mut held = client.held.lock();
    let unsent = client.outbox.lock().len() + held.len() + resp.len();
    let waiting = unsent as u64 + client.out_bytes.load(Ordering::Relaxed);
    let pubsub = &server.pubsub;
    if is_beyond(limit, client, waiting, crate::clock::unix_ms())
        || pubsub.holds_too_much(server, unsent)
    {
        pubsub.held_bytes.fetch_sub(held.len(), Ordering::Relaxed);
        *held = Vec::new();
        *client.outbox.lock() = Vec::new();
        drop(held);
        server.close_for_output(client, waiting);
        return;
    }
    if held.is_empty() {
        pubsub.holding.lock().push(client.clone());
        pubsub.is_holding.store(true, Ordering::Relaxed);
    }
    pubsub.held_bytes.fetch_add(resp.len(), Ordering::Relaxed);
    held.extend_from_slice(resp);
}

impl PubSub {
    /// Whether what one script or transaction tells its listeners is more than all clients together may
    /// take, and a client for whom there are `unsent` bytes has a fair part in it: nothing can be sent
    /// before it ends.
    fn holds_too_much(&self, server: &Server, unsent: usize) -> bool {
        let memory = &server.client_memory;
        let Some(budget) = memory.budget_bytes() else {
            return false;
        };
        let held = self.held_bytes.load(Ordering::Relaxed) as u64;
        if held + memory.used_bytes() <= budget {
            return false;
        }
        let holders = self.holding.lock().len().max(1) as u64;
        unsent as u64 >= budget / holders / 2
    }
}

/// Lets go what is held back: the log has what it tells of. One load while there is nothing.
pub fn release(server: &Server) {
    take_held(server, |client, mut held| {
        client.outbox.lock().append(&mut held);
        server.note_client(client);
        server.poke(client);
    });
}

/// Drops what was sent since the last [`release`]: who sent it has changed nothing and runs again.
pub fn forget_held(server: &Server) {
    take_held(server, |_, _| {});
}

fn take_held(server: &Server, mut take: impl FnMut(&Arc<ClientShared>, Vec<u8>)) {
    let pubsub = &server.pubsub;
    if !pubsub.is_holding.load(Ordering::Relaxed) {
        return;
    }
    pubsub.is_holding.store(false, Ordering::Relaxed);
    for client in std::mem::take(&mut *pubsub.holding.lock()) {
        let held = std::mem::take(&mut *client.held.lock());
        pubsub.held_bytes.fetch_sub(held.len(), Ordering::Relaxed);
        take(&client, held);
    }
}

/// Sends a message to all who listen; their number.
pub fn publish(server: &Server, kind: Kind, channel: &[u8], payload: &[u8]) -> usize {
    let tables = server.pubsub.tables.read();
    let named = tables
        .of(kind)
        .get(channel)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let by_pattern = kind == Kind::Channel && !tables.patterns.is_empty();
    if named.is_empty() && !by_pattern {
        return 0;
    }
    let limit = server.config().network.pubsub_limit;
    let word: &[u8] = if kind == Kind::Shard {
        b"smessage"
    } else {
        b"message"
    };
    deliver(server, &limit, named, &[word, channel, payload]);
    let mut receivers = named.len();
    if by_pattern {
        for (pattern, subscribers) in &tables.patterns {
            if glob::matches(pattern, channel, false) {
                let parts: [&[u8]; 4] = [b"pmessage", pattern, channel, payload];
                deliver(server, &limit, subscribers, &parts);
                receivers += subscribers.len();
            }
        }
    }
    receivers
}

/// Publishes a keyspace event on the channels that `mask` asks for.
pub fn publish_event(server: &Server, mask: u32, event: &[u8], key: &[u8], db: usize) {
    let mut digits = itoa::Buffer::new();
    let db = digits.format(db).as_bytes();
    if mask & Class::KEYSPACE.0 != 0 {
        let channel = [b"__keyspace@", db, b"__:", key].concat();
        publish(server, Kind::Channel, &channel, event);
    }
    if mask & Class::KEYEVENT.0 != 0 {
        let channel = [b"__keyevent@", db, b"__:", event].concat();
        publish(server, Kind::Channel, &channel, key);
    }
}
