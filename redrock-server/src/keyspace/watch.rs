//! WATCH: which clients' transactions a change of a key makes fail.

use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a watched key was changed (`CLIENT_DIRTY_CAS`).
pub type DirtyFlag = Arc<AtomicBool>;

/// See the module. Bounded by the clients' own watch lists.
#[derive(Debug, Default)]
pub struct WatchTable {
    keys: HashMap<(usize, Vec<u8>), Vec<(u64, DirtyFlag)>>,
}

impl WatchTable {
    /// Registers a client for a key; false if it watches the key already.
    pub fn watch(&mut self, db: usize, key: &[u8], client: u64, flag: &DirtyFlag) -> bool {
        let watchers = self.keys.entry((db, key.to_vec())).or_default();
        if watchers.iter().any(|(id, _)| *id == client) {
            return false;
        }
        watchers.push((client, flag.clone()));
        true
    }

    /// Ends one registration.
    pub fn unwatch(&mut self, db: usize, key: &[u8], client: u64) {
        let slot = (db, key.to_vec());
        if let Some(watchers) = self.keys.get_mut(&slot) {
            watchers.retain(|(id, _)| *id != client);
            if watchers.is_empty() {
                self.keys.remove(&slot);
            }
        }
    }

    /// A key changed.
    pub fn changed(&self, db: usize, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(watchers) = self.keys.get(&(db, key.to_vec())) {
            for (_, flag) in watchers {
                flag.store(true, Ordering::Relaxed);
            }
        }
    }

    /// A whole database changes content. `touched(key)` tells whether a key is affected.
    pub fn changed_database(&self, db: usize, mut touched: impl FnMut(&[u8]) -> bool) {
        for ((watched_db, key), watchers) in &self.keys {
            if *watched_db == db && touched(key) {
                for (_, flag) in watchers {
                    flag.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}
