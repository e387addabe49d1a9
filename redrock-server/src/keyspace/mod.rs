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
pub mod evict;
pub mod expire;
pub mod field_expiry;
pub mod hot;
pub mod latches;
mod listing;
pub mod load;
pub mod locks;
#[cfg(test)]
mod model_tests;
pub mod moves;
pub mod position;
pub mod reclaim;
pub mod scan;
pub mod snapshot;
pub mod tiering;
mod warm;
pub mod watch;

use field_expiry::FieldExpiry;
use hot::HotTable;
use hot::found::Found;
use position::Positioner;
use std::sync::Arc;

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
    /// Exact number of hashes with fields that expire.
    pub timed: u64,
    field_expiry: Arc<FieldExpiry>,
}

impl Database {
    fn new(generation: u32, positioner: Positioner, field_expiry: &Arc<FieldExpiry>) -> Self {
        Self {
            generation,
            table: HotTable::new(positioner),
            keys: 0,
            expires: 0,
            timed: 0,
            field_expiry: field_expiry.clone(),
        }
    }
}

/// What the shard locks protect.
#[derive(Debug)]
pub struct Keyspace {
    positioner: Positioner,
    /// The live databases, and behind them the staged ones of a load; see [`load`].
    databases: Vec<Database>,
    /// Number of live databases.
    live: usize,
    next_generation: u32,
    /// Segments that walks are at.
    listings: listing::Listings,
    /// Number of the newest snapshot cut; entries are stamped with it.
    epoch: u32,
    /// Values on disk; `None` with the feature off.
    pub tiering: Option<Box<tiering::Tiering>>,
    /// Number of the newest cut, as the persister knows it; 0 before the first.
    pub newest_cut: u64,
    /// The snapshot that is being taken.
    pub snapshot: Option<Box<snapshot::ActiveSnapshot>>,
    /// How accesses are recorded (LRU clock or LFU counter).
    pub access: access::AccessPolicy,
    /// Keys that clients WATCH.
    pub watched: watch::WatchTable,
    /// Keys that clients may hold in caches of their own.
    pub tracking: crate::tracking::TrackingTable,
    /// Keys that nobody may change for a while.
    pub latches: latches::Latches,
    /// Counters that INFO shows.
    pub stats: KeyspaceStats,
    /// What was removed and is to be freed once the lock is released.
    pub garbage: reclaim::Garbage,
    /// Clients that wait for keys.
    pub blocked: crate::command::blocked::BlockedTable,
    /// Databases and keys that became ready for blocked clients in the running command.
    pub ready: Vec<(usize, Vec<u8>)>,
    /// CLIENT PAUSE: until then what expires is only hidden, unix ms.
    pub expiry_paused_until_ms: i64,
    /// Expired keys are deleted (a master after loading) or only hidden (a replica, a load).
    pub expire_mode: ExpireMode,
    /// What our role has become of them; [`Keyspace::follow_role`] makes it so.
    role_expiry: ExpireMode,
    /// Whether fields of hashes may expire, and how many hashes have some that do.
    pub field_expiry: Arc<FieldExpiry>,
    /// Keys that clients of a writable replica gave an expiry: no master deletes them.
    pub replica_expires: hashbrown::HashSet<(usize, Vec<u8>)>,
    /// `lazyfree-lazy-expire`: expired keys leave the log as UNLINK. They are freed alike.
    pub lazy_expire: bool,
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

/// How much of a key is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// All there is to know: its value, or that it does not exist.
    Resident,
    /// That it exists, its type and expiry; the value is in the tier.
    Stub,
    /// Nothing; the tier must be asked.
    Unknown,
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
    /// `expired_subkeys`
    pub expired_fields: u64,
    /// `evicted_keys`
    pub evicted: u64,
}

impl Keyspace {
    /// `databases` empty databases.
    pub fn new(databases: usize, positioner: Positioner) -> Self {
        let field_expiry = Arc::default();
        let databases: Vec<_> = (0..databases)
            .map(|i| Database::new(i as u32, positioner, &field_expiry))
            .collect();
        Self {
            positioner,
            next_generation: databases.len() as u32,
            live: databases.len(),
            databases,
            listings: listing::Listings::default(),
            epoch: 1,
            tiering: None,
            newest_cut: 0,
            snapshot: None,
            access: access::AccessPolicy::default(),
            watched: watch::WatchTable::default(),
            tracking: crate::tracking::TrackingTable::default(),
            latches: latches::Latches::default(),
            stats: KeyspaceStats::default(),
            garbage: reclaim::Garbage::default(),
            blocked: crate::command::blocked::BlockedTable::default(),
            ready: Vec::new(),
            expiry_paused_until_ms: 0,
            expire_mode: ExpireMode::Delete,
            role_expiry: ExpireMode::Delete,
            field_expiry,
            replica_expires: hashbrown::HashSet::new(),
            lazy_expire: false,
        }
    }

    /// Number of databases.
    pub fn database_count(&self) -> usize {
        self.live
    }

    /// A database by number.
    pub fn database(&self, index: usize) -> Option<&Database> {
        self.databases.get(..self.live)?.get(index)
    }

    /// Replaces a database's content by an empty generation; the number of keys that are gone.
    /// The old content is freed after the lock is released, in the `background` or by the thread
    /// that held the lock. WATCHers of keys that were there are told.
    pub fn flush(&mut self, index: usize, background: bool) -> u64 {
        if index >= self.live {
            return 0;
        }
        let mut watched = std::mem::take(&mut self.watched);
        watched.changed_database(index, |key| (self.held(index, key), watch::Held::Nothing));
        self.watched = watched;
        let awaited = self.blocked.keys().filter(|(db, _)| *db == index);
        let gone = awaited.filter(|(_, key)| self.may_exist(index, key));
        let gone: Vec<_> = gone.map(|(db, key)| (db, key.to_vec())).collect();
        self.ready.extend(gone);
        let fresh = Database::new(self.next_generation, self.positioner, &self.field_expiry);
        self.next_generation += 1;
        let old = std::mem::replace(&mut self.databases[index], fresh);
        let keys = old.keys;
        if let Some(old) = self.discard(old) {
            self.garbage.add_database(old, background);
        }
        keys
    }

    /// A database's content is no longer anybody's: its tier records go, and what is in memory
    /// goes too unless a snapshot still needs it.
    pub(super) fn discard(&mut self, old: Database) -> Option<Database> {
        old.forget_timed();
        if let Some(tiering) = &mut self.tiering {
            tiering.drop_generation(old.generation);
        }
        match &mut self.snapshot {
            Some(snapshot) => snapshot.retire(old),
            None => Some(old),
        }
    }

    /// Exchanges two databases' contents. Clients stay where they are: WATCHers of keys that are
    /// on either side are told, and blocked clients look at what is there now.
    pub fn swap(&mut self, a: usize, b: usize) {
        if a == b || a >= self.live || b >= self.live {
            return;
        }
        let mut watched = std::mem::take(&mut self.watched);
        for (index, other) in [(a, b), (b, a)] {
            watched.changed_database(index, |key| (self.held(index, key), self.held(other, key)));
        }
        self.watched = watched;
        self.databases.swap(a, b);
        let waited: Vec<(usize, Vec<u8>)> = self
            .blocked
            .keys()
            .filter(|(db, _)| *db == a || *db == b)
            .map(|(db, key)| (db, key.to_vec()))
            .collect();
        for (db, key) in waited {
            if self.may_exist(a, &key) || self.may_exist(b, &key) {
                self.ready.push((db, key));
            }
        }
    }

    /// What a database holds under a name, as WATCH sees it.
    fn held(&self, index: usize, key: &[u8]) -> watch::Held {
        if !self.may_exist(index, key) {
            return watch::Held::Nothing;
        }
        let hash = self.positioner.hash(key);
        let found = self
            .databases
            .get(index)
            .and_then(|database| database.table.find(hash, key));
        let expired = self.expire_mode != ExpireMode::Ignore
            && expire::has_passed(
                found.and_then(|found| found.expire()),
                crate::clock::unix_ms(),
            );
        match expired {
            true => watch::Held::Expired,
            false => watch::Held::Value,
        }
    }

    /// What becomes of expired keys by our role from now on. While a log is read back they stay
    /// all the same, until [`Keyspace::follow_role`].
    pub fn set_role_expiry(&mut self, mode: ExpireMode) {
        self.role_expiry = mode;
        if self.expire_mode != ExpireMode::Ignore {
            self.expire_mode = mode;
        }
    }

    /// Expired keys are treated as our role has it.
    pub fn follow_role(&mut self) {
        self.expire_mode = self.role_expiry;
    }

    /// Takes over what the configuration says of memory.
    pub fn configure(&mut self, memory: &crate::config::Memory) {
        self.access.configure(memory);
        self.lazy_expire = memory.lazy_expire;
    }

    /// How much of a key is in memory. What has expired needs nothing from disk. Who `reads_itself` is told of a
    /// key of which nothing is in memory, and which is probably there, that it may be.
    pub fn residency(
        &self,
        index: usize,
        key: &[u8],
        now_ms: i64,
        reads_itself: bool,
    ) -> Residency {
        let hash = self.positioner.hash(key);
        let Some(database) = self.databases.get(index) else {
            return Residency::Resident;
        };
        match database.table.find(hash, key) {
            Some(Found::Value(_)) => Residency::Resident,
            Some(Found::Stub(stub)) => {
                let expired = self.expire_mode != ExpireMode::Ignore
                    && expire::has_passed(stub.expire, now_ms);
                if expired {
                    Residency::Resident
                } else {
                    Residency::Stub
                }
            }
            None if self.may_be_there(index, (hash, key), reads_itself) => Residency::Unknown,
            None => Residency::Resident,
        }
    }

    /// Whether a key is in a database, as far as memory tells: errs towards true for keys that
    /// only the tier knows.
    fn may_exist(&self, index: usize, key: &[u8]) -> bool {
        let hash = self.positioner.hash(key);
        self.databases.get(index).is_some_and(|database| {
            database.table.find(hash, key).is_some() || self.may_be_cold(index, hash, key)
        })
    }
}
