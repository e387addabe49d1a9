//! Clients that wait for keys (`BLPOP` and its relatives).
//!
//! A blocked client's session moves into this table and comes back with the reply. When a key
//! becomes ready, the waiting commands run again in the order in which they came, under the same
//! lock hold as the command that made it ready, as Redis 7.2 does
//! (`handleClientsBlockedOnKeys`); each is logged for itself, after that command.

mod queue;

use super::args::Args;
use super::effect::Effect;
use super::{CommandError, Context, Reply, dispatch, latched, registry};
use crate::acl;
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::net::client::{BlockRequest, Client, ClientShared, OwnedCommand};
use crate::server::Server;
use crate::tracking::mode;
use hashbrown::HashMap;
use queue::{Place, Queue, Ticket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{oneshot, watch};

/// Clients of whose commands a change of a key takes into account what else they need in memory: it
/// serves the first ones. What others need is loaded when it comes to that.
const SERVED_AT_ONCE: usize = 16;

/// One blocked client.
#[derive(Debug)]
struct Waiting {
    /// Absent only while its command runs again.
    client: Option<Box<Client>>,
    command: OwnedCommand,
    request: BlockRequest,
    db: usize,
    ticket: Ticket,
}

/// A client that was served in the present lock hold. It goes back to its connection when what
/// it was served is in the log (I5).
#[derive(Debug)]
pub struct Served {
    /// The client.
    pub client: Box<Client>,
    /// What it waited for.
    pub reply: Vec<u8>,
    /// So many of the invalidations that collected come before.
    pub after: usize,
}

/// See the module. Bounded by `maxclients`.
#[derive(Debug, Default)]
pub struct BlockedTable {
    /// Those to give back at the end of the lock hold.
    pub served: Vec<Served>,
    queues: HashMap<(usize, Vec<u8>), Queue>,
    clients: HashMap<u64, Waiting>,
    last_ticket: Ticket,
    /// Clients with a deadline.
    with_deadline: usize,
    /// Queues in which somebody wants to know when the key goes.
    or_gone: usize,
    /// Counts changes to another master, for those who wait elsewhere (WAIT).
    demotions: watch::Sender<u64>,
    /// Ends the waits of those, by client: with an error, or as if their time were up.
    elsewhere: HashMap<u64, oneshot::Sender<Option<String>>>,
}

impl BlockedTable {
    /// Number of blocked clients (`blocked_clients`), those in WAIT too.
    pub fn len(&self) -> usize {
        self.clients.len() + self.demotions.receiver_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys that someone waits for (`total_blocking_keys`).
    pub fn key_count(&self) -> usize {
        self.queues.len()
    }

    /// Number of keys that someone waits for who also wants to know when they go
    /// (`total_blocking_keys_on_nokey`).
    pub fn gone_count(&self) -> usize {
        self.or_gone
    }

    /// Number of clients that wait with a deadline (`clients_in_timeout_table`).
    pub fn timeout_count(&self) -> usize {
        self.with_deadline
    }

    /// Whether anyone waits for a key.
    pub fn waits_for(&self, db: usize, key: &[u8]) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(&(db, key.to_vec()))
    }

    /// All keys that clients wait for, with their databases.
    pub fn keys(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.queues.keys().map(|(db, key)| (*db, key.as_slice()))
    }

    /// Calls `visit` with the commands of the first clients that wait for a key.
    pub fn first_commands_for(&self, db: usize, key: &[u8], mut visit: impl FnMut(&OwnedCommand)) {
        if self.queues.is_empty() {
            return;
        }
        let queue = self.queues.get(&(db, key.to_vec())).into_iter();
        for id in queue.flat_map(Queue::clients).take(SERVED_AT_ONCE) {
            if let Some(waiting) = self.clients.get(&id) {
                visit(&waiting.command);
            }
        }
    }

    /// A client begins to wait for no key: what ends that.
    pub fn begin_elsewhere(&mut self, client: u64) -> Endings {
        // Those of waits that are over go when they outnumber the others.
        if self.elsewhere.len() > 64 + 2 * self.demotions.receiver_count() {
            self.elsewhere.retain(|_, ending| !ending.is_closed());
        }
        let (ending, unblocked) = oneshot::channel();
        self.elsewhere.insert(client, ending);
        Endings {
            demotions: self.demotions.subscribe(),
            unblocked,
        }
    }

    /// Ends a client's wait for no key; false if it does not wait so.
    pub fn end_elsewhere(&mut self, client: u64, error: Option<&str>) -> bool {
        let ending = self.elsewhere.remove(&client);
        ending.is_some_and(|ending| ending.send(error.map(str::to_owned)).is_ok())
    }

    /// Parks a client.
    pub fn park(&mut self, client: Box<Client>, command: OwnedCommand, request: BlockRequest) {
        let (id, db) = (client.id(), client.db);
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let place = Place {
            client: id,
            wants: request.wants,
            or_gone: request.or_gone,
        };
        for key in &request.keys {
            let queue = self.queues.entry((db, key.clone())).or_default();
            self.or_gone -= usize::from(queue.has_or_gone());
            queue.insert(ticket, place);
            self.or_gone += usize::from(queue.has_or_gone());
        }
        self.with_deadline += usize::from(request.deadline_ms.is_some());
        self.clients.insert(
            id,
            Waiting {
                client: Some(client),
                command,
                request,
                db,
                ticket,
            },
        );
    }

    /// Takes a client out (served, timeout, unblock, kill); `None` if it is not there any more.
    pub fn remove(&mut self, id: u64) -> Option<(Option<Box<Client>>, BlockRequest)> {
        let waiting = self.clients.remove(&id)?;
        self.with_deadline -= usize::from(waiting.request.deadline_ms.is_some());
        for key in &waiting.request.keys {
            let slot = (waiting.db, key.clone());
            if let Some(queue) = self.queues.get_mut(&slot) {
                self.or_gone -= usize::from(queue.has_or_gone());
                queue.remove(waiting.ticket);
                self.or_gone += usize::from(queue.has_or_gone());
                if queue.is_empty() {
                    self.queues.remove(&slot);
                }
            }
        }
        Some((waiting.client, waiting.request))
    }
}

/// To clients whose wait ends with the server's role.
const DEMOTED: CommandError = CommandError::fixed(
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
);

/// What ends a wait for no key before its time.
#[derive(Debug)]
pub struct Endings {
    /// Changes when this server becomes a replica, or another master's.
    demotions: watch::Receiver<u64>,
    /// CLIENT UNBLOCK.
    unblocked: oneshot::Receiver<Option<String>>,
}

/// A wait for `reply`. CLIENT UNBLOCK ends it with an error, or with what `timed_out` gives; the
/// server's becoming a replica with an error and the connection.
pub async fn unless_ended(
    server: Arc<Server>,
    client: Arc<ClientShared>,
    mut endings: Endings,
    resp3: bool,
    reply: impl Future<Output = Vec<u8>>,
    timed_out: impl FnOnce() -> Vec<u8>,
) -> Vec<u8> {
    let error = tokio::select! {
        biased;
        Ok(()) = endings.demotions.changed() => {
            client.closing.store(true, Ordering::Relaxed);
            DEMOTED
        }
        Ok(ending) = &mut endings.unblocked => match ending {
            Some(text) => CommandError::text(text),
            None => return timed_out(),
        },
        reply = reply => return reply,
    };
    let mut out = Vec::new();
    server.stats.error(&error);
    Reply::new(&mut out, resp3).error(&error.resp());
    out
}

impl Server {
    /// Counts and logs what one command changed, or one transaction: the end of the stream if
    /// there was something. Called with the shards held.
    pub(super) fn settle(&self, effect: &mut Effect) -> Option<u64> {
        if effect.dirty > 0 {
            self.state
                .changes
                .fetch_add(effect.dirty, Ordering::Relaxed);
        }
        let appends = effect.count() > 0;
        self.log.append_effect(effect);
        appends.then(|| self.log.appended_offset())
    }

    /// Ends all waits with an error and closes their connections: what they wait for is another
    /// master's to give (`disconnectAllBlockedClients`).
    pub fn disconnect_blocked(&self, keyspace: &mut Keyspace) {
        let blocked = &mut keyspace.blocked;
        blocked.demotions.send_modify(|count| *count += 1);
        let ids: Vec<u64> = blocked.clients.keys().copied().collect();
        for id in ids {
            if let Some((Some(mut client), _)) = blocked.remove(id) {
                client.close_after_reply = true;
                let mut out = Vec::new();
                self.stats.error(&DEMOTED);
                Reply::new(&mut out, client.resp3).error(&DEMOTED.resp());
                self.return_client(client, out);
            }
        }
    }
}

impl Keyspace {
    /// Serves clients after keys were changed by no client's command: expiry, eviction. The
    /// caller lets them go ([`Keyspace::tell_clients`]).
    pub fn serve_blocked(&mut self, server: &Server, effect: &mut Effect) {
        if self.ready.is_empty() {
            return;
        }
        serve(server, &server.config(), effect, self);
    }
}

/// Serves the clients that wait for the keys in `keyspace.ready`. What came before is complete and
/// leaves first: as in Redis each served command is a unit of its own in the log, and sees the
/// time anew.
pub(super) fn serve(
    server: &Server,
    config: &Arc<Config>,
    effect: &mut Effect,
    keyspace: &mut Keyspace,
) {
    server.settle(effect);
    // Keys are served in the order in which they became ready. Serving may push to other keys
    // (BLMOVE), which become ready for the next round.
    while !keyspace.ready.is_empty() {
        for (db, key) in std::mem::take(&mut keyspace.ready) {
            serve_key(server, config, effect, keyspace, (db, key));
        }
    }
}

/// Serves those who wait for a key now, first come first, as long as there is something for them.
fn serve_key(
    server: &Server,
    config: &Arc<Config>,
    effect: &mut Effect,
    keyspace: &mut Keyspace,
    slot: (usize, Vec<u8>),
) {
    let queue = keyspace.blocked.queues.get(&slot);
    let Some(last) = queue.and_then(Queue::last) else {
        return;
    };
    let now_ms = crate::clock::unix_ms();
    let mut from = 0;
    loop {
        let (db, key) = (slot.0, &slot.1);
        let mut view = Db::new(keyspace, server, effect, db, now_ms);
        // A look deletes nothing: what has expired goes when somebody asks for it.
        let found = match view.has_expired(key) {
            true => Ok(None),
            false => view.presence(key),
        };
        let found = found.map(|found| found.map(|found| found.object_type));
        let queue = keyspace.blocked.queues.get(&slot);
        let next = queue.and_then(|queue| queue.next_concerned(from..=last, found.ok()));
        let Some((ticket, id)) = next else {
            return;
        };
        from = ticket + 1;
        if !hand_back(server, keyspace, id) {
            serve_one(server, config, effect, keyspace, id, now_ms);
        }
    }
}

/// A client whose command would change a key that is being sent elsewhere: its connection waits
/// for that and runs the command again. False if it would not.
fn hand_back(server: &Server, keyspace: &mut Keyspace, id: u64) -> bool {
    let Some(waiting) = keyspace.blocked.clients.get_mut(&id) else {
        return false;
    };
    let argv = waiting.command.argv();
    if !latched::may_change_unresolved(&keyspace.latches, &Args::new(&argv)) {
        return false;
    }
    if let Some(mut client) = waiting.client.take() {
        client.rerun = Some(std::mem::take(&mut waiting.command));
        client.reprocessing = true;
        keyspace.blocked.remove(id);
        server.return_client(client, Vec::new());
    }
    true
}

fn serve_one(
    server: &Server,
    config: &Arc<Config>,
    effect: &mut Effect,
    keyspace: &mut Keyspace,
    id: u64,
    now_ms: i64,
) {
    let waiting = keyspace.blocked.clients.get_mut(&id);
    let take = |waiting: &mut Waiting| {
        let client = waiting.client.take()?;
        Some((client, std::mem::take(&mut waiting.command)))
    };
    let Some((mut client, command)) = waiting.and_then(take) else {
        return;
    };
    let argv = command.argv();
    let args = Args::new(&argv);
    let (mut out, mut rerun) = (Vec::new(), false);
    let first_push = keyspace.tracking.begin_served(client.id());
    client.reprocessing = true;
    let result = registry::resolve(&args).and_then(|spec| {
        // The rules may have changed while it waited.
        acl::check::enforce(server, config, &client, spec, &args)
            .inspect_err(|_| server.stats.refused(spec))?;
        let db = Db::new(keyspace, server, effect, client.db, now_ms);
        let reply = Reply::new(&mut out, client.resp3);
        let mut ctx = Context {
            server,
            config,
            db,
            client: &mut client,
            reply,
        };
        dispatch::call(&mut ctx, spec, &args)
    });
    if let Some(end) = server.settle(effect) {
        client.changed_offset = end;
    }
    match result {
        Err(CommandError::Cold(..) | CommandError::Busy) => {
            // It needs a value from disk (BLMOVE onto a cold key), or to change one that is being
            // saved: its connection waits for that and runs the command again.
            out.clear();
            client.rerun = Some(command.clone());
            rerun = true;
        }
        Err(error) => {
            out.clear();
            server.stats.error(&error);
            Reply::new(&mut out, client.resp3).error(&error.resp());
        }
        Ok(()) => {}
    }
    client.reprocessing = rerun;
    if client.block.take().is_some() {
        // Nothing for it after all: it keeps its deadline and its place in the queues.
        if let Some(waiting) = keyspace.blocked.clients.get_mut(&id) {
            waiting.client = Some(client);
            waiting.command = command;
        }
        return;
    }
    give_reply(keyspace, client, out, first_push);
}

/// A client's wait is over: it leaves with its reply at the end of the lock hold.
fn give_reply(keyspace: &mut Keyspace, client: Box<Client>, reply: Vec<u8>, first_push: usize) {
    keyspace.blocked.remove(client.id());
    let modes = &client.shared.tracking;
    modes.fetch_and(!mode::CACHING, Ordering::Relaxed);
    let after = keyspace.tracking.end_served(client.id(), first_push);
    keyspace.blocked.served.push(Served {
        client,
        reply,
        after,
    });
}
