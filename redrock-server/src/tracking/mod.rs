//! Client-side caching (`CLIENT TRACKING`): which clients may hold which keys, and what they are
//! told when those change.
//!
//! The table belongs to the keyspace and is protected by its locks, so that a key is remembered
//! in the very hold in which it is read: no change slips in between. What clients are to be told
//! collects in the table and leaves ([`deliver`]) in the same hold, once the effects are in the
//! log (I5); messages of the broadcast mode leave before the worker sleeps, many keys in one.
//! A key is known by its name alone, whatever database it is in and whether its value is in
//! memory: moves between RAM and the tier are no changes.
//!
//! Bounds: `tracking-table-max-keys` (who held a key that is forgotten is told as if it had
//! changed), and for broadcasts the changes of one wake-up.

pub mod broadcast;
mod deliver;
#[cfg(test)]
mod tests;

use crate::net::client::ClientShared;
use broadcast::Broadcasts;
use hashbrown::HashMap;
use indexmap::IndexMap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a client is tracked: bits of [`ClientShared::tracking`], changed under the keyspace's
/// locks only.
pub mod mode {
    /// It is tracked at all.
    pub const ON: u32 = 1 << 0;
    /// It is told of all keys with its prefixes.
    pub const BROADCAST: u32 = 1 << 1;
    /// Only what is read after `CLIENT CACHING YES` counts.
    pub const OPT_IN: u32 = 1 << 2;
    /// What is read after `CLIENT CACHING NO` does not count.
    pub const OPT_OUT: u32 = 1 << 3;
    /// Its own changes are not told.
    pub const NO_LOOP: u32 = 1 << 4;
    /// `CLIENT CACHING` was said for the next command.
    pub const CACHING: u32 = 1 << 5;
    /// Who should get its messages is gone.
    pub const BROKEN: u32 = 1 << 6;
}

/// Keys that one pass over a full table forgets at least.
const EFFORT: usize = 100;

/// Clients that may hold a key, in ascending order.
type Holders = SmallVec<[u64; 2]>;

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
enum Stale {
    /// This key.
    Key(Arc<[u8]>),
    /// All keys.
    All,
}

/// See the module.
#[derive(Debug, Default)]
pub struct TrackingTable {
    clients: HashMap<u64, Arc<ClientShared>>,
    keys: IndexMap<Box<[u8]>, Holders>,
    /// Clients over all keys.
    items: usize,
    broadcasts: Broadcasts,
    /// The client whose command runs; 0: none.
    caller: u64,
    pending: Vec<(Arc<ClientShared>, Stale)>,
    /// Passes in a row after which the table was still too full.
    behind: usize,
}

/// What `INFO` shows of the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// `tracking_clients`
    pub clients: usize,
    /// `tracking_total_keys`
    pub keys: usize,
    /// `tracking_total_items`
    pub items: usize,
    /// `tracking_total_prefixes`
    pub prefixes: usize,
}

impl TrackingTable {
    /// Whether nobody is tracked: then there is nothing to do anywhere.
    pub fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    /// For INFO.
    pub fn totals(&self) -> Totals {
        Totals {
            clients: self.clients.len(),
            keys: self.keys.len(),
            items: self.items,
            prefixes: self.broadcasts.len(),
        }
    }

    /// Whose command runs from now on; 0: nobody's.
    pub fn set_caller(&mut self, client: u64) {
        self.caller = client;
    }

    /// Tracks a client from now on, or in another way: `modes` of [`mode`], messages go to
    /// client `redirect` (0: to itself). In broadcast mode `prefixes` are added to those it has;
    /// none at all means every key.
    pub fn enable(
        &mut self,
        client: &Arc<ClientShared>,
        redirect: u64,
        modes: u32,
        prefixes: &[&[u8]],
    ) {
        let kept = client.tracking.load(Ordering::Relaxed) & mode::CACHING;
        client
            .tracking
            .store(mode::ON | modes | kept, Ordering::Relaxed);
        client.redirect.store(redirect, Ordering::Relaxed);
        self.clients.insert(client.id, client.clone());
        if modes & mode::BROADCAST != 0 {
            let every: &[&[u8]] = &[b""];
            let prefixes = if prefixes.is_empty() { every } else { prefixes };
            for prefix in prefixes {
                if self.broadcasts.add(prefix, client) {
                    client.prefixes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Tracks a client no more. What the table has of it goes when the keys change, and all at
    /// once with the last client.
    pub fn disable(&mut self, client: &ClientShared) {
        if self.clients.remove(&client.id).is_none() {
            return;
        }
        self.broadcasts.remove(client.id);
        client.prefixes.store(0, Ordering::Relaxed);
        client.tracking.store(0, Ordering::Relaxed);
        if self.clients.is_empty() {
            self.forget_keys();
        }
    }

    fn forget_keys(&mut self) {
        self.keys = IndexMap::new();
        self.items = 0;
        self.behind = 0;
    }

    /// The prefixes of a client in broadcast mode, in order.
    pub fn prefixes(&self, client: u64) -> Vec<&[u8]> {
        self.broadcasts.of(client).collect()
    }

    /// A blocked client's command runs: where what it causes will begin.
    pub fn begin_served(&mut self, client: u64) -> usize {
        self.set_caller(client);
        self.pending.len()
    }

    /// It has run: what it is told of its own changes comes after its reply. The number of
    /// invalidations before that.
    pub fn end_served(&mut self, client: u64, first: usize) -> usize {
        let (own, others): (Vec<_>, Vec<_>) = self
            .pending
            .drain(first..)
            .partition(|(told, _)| told.id == client);
        self.pending.extend(others);
        let before = self.pending.len();
        self.pending.extend(own);
        before
    }

    /// The modes of the client whose command runs; 0 if it is not tracked.
    fn caller_modes(&self) -> u32 {
        self.clients
            .get(&self.caller)
            .map_or(0, |client| client.tracking.load(Ordering::Relaxed))
    }

    /// Whether the keys that the running client reads are to be remembered.
    pub fn remembers(&self) -> bool {
        if self.is_idle() {
            return false;
        }
        let modes = self.caller_modes();
        let said = modes & mode::CACHING != 0;
        match () {
            () if modes & mode::ON == 0 || modes & mode::BROADCAST != 0 => false,
            () if modes & mode::OPT_IN != 0 => said,
            () if modes & mode::OPT_OUT != 0 => !said,
            () => true,
        }
    }

    /// The running client has read a key.
    pub fn remember(&mut self, key: &[u8]) {
        let holders = match self.keys.get_mut(key) {
            Some(holders) => holders,
            None => self.keys.entry(key.into()).or_default(),
        };
        if let Err(at) = holders.binary_search(&self.caller) {
            holders.insert(at, self.caller);
            self.items += 1;
        }
    }

    /// A key has changed. `by_caller`: through the running command, not by expiry or eviction.
    pub fn changed(&mut self, key: &[u8], by_caller: bool) {
        let changer = if by_caller { self.caller } else { 0 };
        self.broadcasts.changed(key, changer);
        self.invalidate(key);
    }

    /// Tells those who may hold a key, and forgets it.
    fn invalidate(&mut self, key: &[u8]) {
        let Some(holders) = self.keys.swap_remove(key) else {
            return;
        };
        self.items -= holders.len();
        let mut shared: Option<Arc<[u8]>> = None;
        for id in holders {
            let Some(client) = self.clients.get(&id) else {
                continue;
            };
            let modes = client.tracking.load(Ordering::Relaxed);
            let is_own = modes & mode::NO_LOOP != 0 && id == self.caller;
            // What it read before it went over to broadcasts is none of its business.
            if modes & mode::BROADCAST == 0 && !is_own {
                let key = shared.get_or_insert_with(|| key.into()).clone();
                self.pending.push((client.clone(), Stale::Key(key)));
            }
        }
    }

    /// A database, or all of them, has been emptied: everybody is told to forget everything.
    pub fn flushed(&mut self) {
        if self.is_idle() {
            return;
        }
        let everybody = self.clients.values();
        self.pending
            .extend(everybody.map(|client| (client.clone(), Stale::All)));
        self.forget_keys();
    }

    /// Forgets random keys while there are more than `keys_max` (0: any number), as far as one
    /// pass goes; each pass in a row goes further.
    pub fn limit(&mut self, keys_max: usize) {
        if keys_max == 0 || self.keys.len() <= keys_max {
            self.behind = 0;
            return;
        }
        for _ in 0..EFFORT * (self.behind + 1) {
            let at = rand::random_range(0..self.keys.len());
            if let Some((key, _)) = self.keys.get_index(at) {
                let key = key.clone();
                self.invalidate(&key);
            }
            if self.keys.len() <= keys_max {
                self.behind = 0;
                return;
            }
        }
        self.behind += 1;
    }
}
