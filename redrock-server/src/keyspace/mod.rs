//! The keyspace: the only door to hot table, tier, expiry and snapshots.
//!
//! Everything in here is protected by the shard locks ([`locks`]); with one shard that is one
//! lock. [`db::Db`] is what commands see.
//!
//! Invariants (I6): a **dirty** entry's key is not in the tier as the queue will leave it; a
//! **clean** entry (or its stub) has the same value there; a key without an entry is whatever
//! the tier says. A change of a clean entry therefore always queues a tier delete first.

pub mod access;
pub mod cold;
pub mod db;
pub mod hot;
pub mod locks;
#[cfg(test)]
mod model_tests;
pub mod position;
pub mod snapshot;
pub mod tiering;
pub mod watch;

use hot::HotTable;
use position::Positioner;

/// One logical database: the generation that its number maps to, and what is in memory of it.
#[derive(Debug)]
pub struct Database {
    /// Names this content in the tier; a flush starts a new one.
    pub generation: u32,
    /// Entries in memory.
    pub table: HotTable,
    /// Exact number of keys, in memory or not.
    pub keys: u64,
    /// Exact number of keys with an expiry.
    pub expires: u64,
}

impl Database {
    fn new(generation: u32, positioner: Positioner) -> Self {
        Self { generation, table: HotTable::new(positioner), keys: 0, expires: 0 }
    }
}

/// What the shard locks protect.
#[derive(Debug)]
pub struct Keyspace {
    positioner: Positioner,
    databases: Vec<Database>,
    next_generation: u32,
    /// Number of the newest snapshot cut; entries are stamped with it.
    epoch: u32,
    /// Values on disk; `None` with the feature off.
    pub tiering: Option<Box<tiering::Tiering>>,
    /// The snapshot that is being taken.
    pub snapshot: Option<Box<snapshot::ActiveSnapshot>>,
    /// How accesses are recorded (LRU clock or LFU counter).
    pub access: access::AccessPolicy,
    /// Keys that clients WATCH.
    pub watched: watch::WatchTable,
    /// Counters that INFO shows.
    pub stats: KeyspaceStats,
    /// Clients that wait for keys.
    pub blocked: crate::command::blocked::BlockedTable,
    /// Databases and keys that became ready for blocked clients in the running command.
    pub ready: Vec<(usize, Vec<u8>)>,
    /// Expired keys are deleted (a master after loading) or only hidden (a replica, a load).
    pub expire_mode: ExpireMode,
}

/// What happens to a key past its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpireMode {
    /// It is deleted and the deletion propagated.
    Delete,
    /// It is treated as absent, and goes only by the master's or the log's DEL.
    Hide,
    /// Expiry is off: a replica applies its master's commands to what is there.
    Ignore,
}

/// Counters for INFO.
#[derive(Debug, Default, Clone)]
pub struct KeyspaceStats {
    /// `keyspace_hits`
    pub hits: u64,
    /// `keyspace_misses`
    pub misses: u64,
    /// `expired_keys`
    pub expired: u64,
    /// `evicted_keys`
    pub evicted: u64,
}

impl Keyspace {
    /// `databases` empty databases.
    pub fn new(databases: usize, positioner: Positioner) -> Self {
        let databases: Vec<_> =
            (0..databases).map(|i| Database::new(i as u32, positioner)).collect();
        Self {
            positioner,
            next_generation: databases.len() as u32,
            databases,
            epoch: 1,
            tiering: None,
            snapshot: None,
            access: access::AccessPolicy::default(),
            watched: watch::WatchTable::default(),
            stats: KeyspaceStats::default(),
            blocked: crate::command::blocked::BlockedTable::default(),
            ready: Vec::new(),
            expire_mode: ExpireMode::Delete,
        }
    }

    /// Number of databases.
    pub fn database_count(&self) -> usize {
        self.databases.len()
    }

    /// A database by number.
    pub fn database(&self, index: usize) -> Option<&Database> {
        self.databases.get(index)
    }

    /// Replaces a database's content by an empty generation; returns the old content, which the
    /// caller frees without the lock.
    pub fn flush(&mut self, index: usize) -> Option<Database> {
        let fresh = Database::new(self.next_generation, self.positioner);
        let slot = self.databases.get_mut(index)?;
        self.next_generation += 1;
        let old = std::mem::replace(slot, fresh);
        self.discard(old)
    }

    /// A database's content is no longer anybody's: its tier records go, and what is in memory
    /// goes too unless a snapshot still needs it.
    pub(super) fn discard(&mut self, old: Database) -> Option<Database> {
        if let Some(tiering) = &self.tiering {
            tiering.queue.push(tiering::fifo::TierOp::DropGeneration(old.generation));
        }
        match &mut self.snapshot {
            Some(snapshot) => snapshot.retire(old),
            None => Some(old),
        }
    }

    /// Exchanges two databases' contents.
    pub fn swap(&mut self, a: usize, b: usize) {
        if a < self.databases.len() && b < self.databases.len() {
            self.databases.swap(a, b);
        }
    }
}
