//! Shard locks: one API for any number of shards; one shard first.
//!
//! A script that runs for too long keeps the lock while its thread goes on serving connections (see
//! [`crate::script::fiber`]). Threads whose loop must not stand still take the lock with
//! [`KeyspaceLock::try_lock_for`] and look whether a script is busy. For all others
//! [`KeyspaceLock::lock`] waits; on the script's own thread it runs the script to its end first, since
//! nobody else can.

use super::Keyspace;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::time::Duration;

/// The keyspace, held.
pub type KeyspaceGuard<'a> = MutexGuard<'a, Keyspace>;

/// See the module.
#[derive(Debug)]
pub struct KeyspaceLock(Mutex<Keyspace>);

thread_local! {
    /// What ends the script that holds the lock and is paused on this thread.
    static PAUSED: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A script on this thread is paused with the lock held, or runs again (`None`).
pub fn set_paused(finish: Option<fn()>) {
    PAUSED.set(finish);
}

/// Whether a script on this thread is paused with the lock held.
pub fn is_paused_here() -> bool {
    PAUSED.get().is_some()
}

/// Releases the keyspace to who waits for it, where plain dropping would let a thread that takes it
/// again at once get ahead of them. For threads that take it in many short steps.
pub fn give_way(guard: KeyspaceGuard<'_>) {
    MutexGuard::unlock_fair(guard);
}

impl KeyspaceLock {
    /// Over a keyspace that nobody else sees.
    pub fn new(keyspace: Keyspace) -> Self {
        Self(Mutex::new(keyspace))
    }

    /// Waits for as long as it takes.
    pub fn lock(&self) -> KeyspaceGuard<'_> {
        if let Some(finish) = PAUSED.get() {
            finish();
        }
        self.0.lock()
    }

    /// Waits for at most `timeout`. Never on a thread whose own script has the lock.
    pub fn try_lock_for(&self, timeout: Duration) -> Option<KeyspaceGuard<'_>> {
        if is_paused_here() {
            return None;
        }
        self.0.try_lock().or_else(|| self.0.try_lock_for(timeout))
    }
}
