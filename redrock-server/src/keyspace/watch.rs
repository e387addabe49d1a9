//! WATCH: which clients' transactions a change of a key makes fail.
//!
//! A key that had expired when WATCH was said is as good as absent: that it is deleted later is no
//! change, and that it is expired at EXEC does not fail the transaction.

use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a watched key was changed (`CLIENT_DIRTY_CAS`).
pub type DirtyFlag = Arc<AtomicBool>;

#[derive(Debug)]
struct Watcher {
    client: u64,
    flag: DirtyFlag,
    /// The key had expired when it was first watched and has not been deleted since.
    expired: bool,
}

/// What a database holds under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// No such key.
    Nothing,
    /// A key whose time has passed.
    Expired,
    /// A value.
    Value,
}

/// See the module. Bounded by the clients' own watch lists.
#[derive(Debug, Default)]
pub struct WatchTable {
    keys: HashMap<(usize, Vec<u8>), Vec<Watcher>>,
}

impl WatchTable {
    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Registers a client for a key, which has `expired` or not; false if it watches the key
    /// already.
    pub fn watch(
        &mut self,
        db: usize,
        key: &[u8],
        client: u64,
        flag: &DirtyFlag,
        expired: bool,
    ) -> bool {
        let watchers = self.keys.entry((db, key.to_vec())).or_default();
        if watchers.iter().any(|watcher| watcher.client == client) {
            return false;
        }
        watchers.push(Watcher {
            client,
            flag: flag.clone(),
            expired,
        });
        true
    }

    /// Whether the key had expired when the client began to watch it.
    pub fn had_expired(&self, db: usize, key: &[u8], client: u64) -> bool {
        let watchers = self.keys.get(&(db, key.to_vec()));
        watchers
            .into_iter()
            .flatten()
            .any(|w| w.client == client && w.expired)
    }

    /// Ends one registration.
    pub fn unwatch(&mut self, db: usize, key: &[u8], client: u64) {
        let slot = (db, key.to_vec());
        if let Some(watchers) = self.keys.get_mut(&slot) {
            watchers.retain(|watcher| watcher.client != client);
            if watchers.is_empty() {
                self.keys.remove(&slot);
            }
        }
    }

    /// A key changed, and is there now or not.
    pub fn changed(&mut self, db: usize, key: &[u8], exists: bool) {
        let Some(watchers) = self.keys.get_mut(&(db, key.to_vec())) else {
            return;
        };
        for watcher in watchers {
            if std::mem::take(&mut watcher.expired) && !exists {
                continue;
            }
            watcher.flag.store(true, Ordering::Relaxed);
        }
    }

    /// A whole database changes content. `held(key)` tells what it holds under a name before
    /// and after that (Redis: `touchAllWatchedKeysInDb`).
    pub fn changed_database(&mut self, db: usize, mut held: impl FnMut(&[u8]) -> (Held, Held)) {
        for ((_, key), watchers) in self.keys.iter_mut().filter(|((at, _), _)| *at == db) {
            let (before, after) = held(key);
            if before == Held::Nothing && after == Held::Nothing {
                continue;
            }
            for watcher in watchers {
                match (watcher.expired, after) {
                    // What had expired is deleted, or is as expired as before.
                    (true, Held::Nothing) => watcher.expired = false,
                    (true, Held::Expired) => {}
                    (false, Held::Expired) if before == Held::Nothing => watcher.expired = true,
                    _ => watcher.flag.store(true, Ordering::Relaxed),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deletion_of_what_had_expired_is_no_change_but_what_comes_after_is() {
        let mut table = WatchTable::default();
        let (early, late) = (DirtyFlag::default(), DirtyFlag::default());
        assert!(table.watch(0, b"k", 1, &early, true));
        assert!(!table.watch(0, b"k", 1, &early, false), "watched already");
        table.watch(0, b"k", 2, &late, false);
        assert!(table.had_expired(0, b"k", 1) && !table.had_expired(0, b"k", 2));
        table.changed(0, b"k", false);
        assert!(!early.load(Ordering::Relaxed) && late.load(Ordering::Relaxed));
        table.changed(0, b"k", true);
        assert!(early.load(Ordering::Relaxed));
        table.unwatch(0, b"k", 1);
        table.unwatch(0, b"k", 2);
        assert!(table.is_empty());
    }

    #[test]
    fn a_swapped_database_changes_what_is_seen_and_not_what_had_expired() {
        use Held::{Expired, Nothing, Value};
        for (had_expired, before, after, dirty) in [
            (false, Nothing, Nothing, false),
            (false, Nothing, Expired, false),
            (false, Nothing, Value, true),
            (false, Value, Nothing, true),
            (false, Value, Expired, true),
            (true, Expired, Nothing, false),
            (true, Expired, Expired, false),
            (true, Expired, Value, true),
        ] {
            let mut table = WatchTable::default();
            let flag = DirtyFlag::default();
            table.watch(0, b"k", 1, &flag, had_expired);
            table.changed_database(0, |_| (before, after));
            let seen = flag.load(Ordering::Relaxed);
            assert_eq!(seen, dirty, "{had_expired} {before:?} {after:?}");
        }
    }
}
