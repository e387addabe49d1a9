//! How invalidations leave: as pushes, or as messages of a channel to whom a RESP2 client
//! redirects them.

use super::broadcast::{Changes, Overlap};
use super::{Stale, TrackingTable, mode};
use crate::command::Reply;
use crate::keyspace::Keyspace;
use crate::net::client::ClientShared;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The channel of redirected messages in RESP2.
const CHANNEL: &[u8] = b"__redis__:invalidate";

fn speaks_resp3(client: &ClientShared) -> bool {
    client.resp.load(Ordering::Relaxed) == 3
}

fn array(keys: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, true);
    reply.array(keys.len());
    keys.for_each(|key| reply.bulk(key.as_ref()));
    out
}

/// The message for a client around `what`, RESP already; `None` if it can't be told.
fn message(recipient: &ClientShared, redirected: bool, what: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(what.len() + 64);
    let resp3 = speaks_resp3(recipient);
    let listens = || {
        let counts = recipient.subscriptions.iter();
        redirected && counts.map(|n| n.load(Ordering::Relaxed)).any(|n| n > 0)
    };
    let mut reply = Reply::new(&mut out, resp3);
    if resp3 {
        reply.push(2);
        reply.bulk(b"invalidate");
    } else if listens() {
        reply.push(3);
        reply.bulk(b"message");
        reply.bulk(CHANNEL);
    } else {
        return None;
    }
    out.extend_from_slice(what);
    Some(out)
}

impl TrackingTable {
    /// The first of the `wanted` prefixes that overlaps with another one; see [`Overlap`].
    pub fn overlap(&self, client: u64, wanted: &[&[u8]]) -> Option<Overlap> {
        self.broadcasts.overlap(client, wanted)
    }
}

impl Server {
    /// Tells a tracked client, or whom it redirects to, that `what` is stale.
    fn invalidate(&self, client: &ClientShared, what: &[u8]) {
        let redirect = client.redirect.load(Ordering::Relaxed);
        if redirect == 0 {
            if let Some(message) = message(client, false, what) {
                self.push(client, &message);
            }
            return;
        }
        let recipient = self.clients.read().get(&redirect).cloned();
        if let Some(recipient) = recipient {
            if let Some(message) = message(&recipient, true, what) {
                self.push(&recipient, &message);
            }
            return;
        }
        client.tracking.fetch_or(mode::BROKEN, Ordering::Relaxed);
        if speaks_resp3(client) {
            let mut out = Vec::new();
            let mut reply = Reply::new(&mut out, true);
            reply.push(2);
            reply.bulk(b"tracking-redir-broken");
            reply.int(redirect as i64);
            self.push(client, &out);
        }
    }

    fn tell(&self, client: &ClientShared, what: &Stale) {
        match what {
            Stale::Key(key) => self.invalidate(client, &array([key].into_iter())),
            Stale::All if speaks_resp3(client) => self.invalidate(client, b"_\r\n"),
            Stale::All => self.invalidate(client, b"$-1\r\n"),
        }
    }

    /// Sends what has changed to the clients in broadcast mode. Called without any shard.
    pub fn send_broadcasts(&self) {
        if !self.has_broadcasts.load(Ordering::Relaxed) {
            return;
        }
        let batches = {
            // While a script is busy there is nothing to tell of; it may be this thread's.
            let Some(mut keyspace) = self.keyspace_unless_busy() else {
                return;
            };
            self.has_broadcasts.store(false, Ordering::Relaxed);
            keyspace.tracking.broadcasts.take()
        };
        for (changes, clients) in batches {
            self.broadcast(&changes, &clients);
        }
    }

    fn broadcast(&self, changes: &Changes, clients: &[Arc<ClientShared>]) {
        let mut all = None;
        for client in clients {
            if client.tracking.load(Ordering::Relaxed) & mode::NO_LOOP == 0 {
                let all = all.get_or_insert_with(|| array(changes.keys()));
                self.invalidate(client, all);
                continue;
            }
            let others = changes.iter().filter(|(_, changer)| **changer != client.id);
            let others: Vec<_> = others.map(|(key, _)| key).collect();
            if !others.is_empty() {
                self.invalidate(client, &array(others.into_iter()));
            }
        }
    }
}

impl Keyspace {
    /// Sends what collected for clients in this lock hold, in order: messages, invalidations, and
    /// served clients with their replies. Called once the effects that these tell of are in the log;
    /// some comparisons while there is nothing.
    pub fn tell_clients(&mut self, server: &Server) {
        crate::pubsub::release(server);
        if self.tracking.broadcasts.has_news() {
            server.has_broadcasts.store(true, Ordering::Relaxed);
        }
        if self.tracking.pending.is_empty() && self.blocked.served.is_empty() {
            return;
        }
        let mut told = 0;
        let mut pending = std::mem::take(&mut self.tracking.pending).into_iter();
        for served in std::mem::take(&mut self.blocked.served) {
            let before = served.after.saturating_sub(told);
            told += before;
            let stale = pending.by_ref().take(before);
            stale.for_each(|(client, what)| server.tell(&client, &what));
            server.return_client(served.client, served.reply);
        }
        pending.for_each(|(client, what)| server.tell(&client, &what));
    }

    /// Keeps the table of tracked keys within `tracking-table-max-keys`.
    pub fn limit_tracking(&mut self, server: &Server, keys_max: usize) {
        if !self.tracking.is_idle() {
            self.tracking.limit(keys_max);
            self.tell_clients(server);
        }
    }
}
