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
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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

/// Threads that wait for the keyspace awake.
static AWAKE: AtomicU32 = AtomicU32::new(0);
/// How long a thread that serves clients waits awake. About what it takes to put a thread to sleep and
/// to wake it up again, on virtual machines; steps of other threads are mostly shorter.
const AWAKE_MAX: Duration = Duration::from_micros(60);
/// Tries between two looks at the clock.
const TRIES_A_LOOK: u32 = 64;
/// For who waits awake to take what was released.
const GIVE_WAY_TRIES: u32 = 2000;

/// Releases the keyspace to who waits for it, where plain dropping would let a thread that takes it
/// again at once get ahead of them. For threads that take it in many short steps.
pub fn give_way(guard: KeyspaceGuard<'_>) {
    if AWAKE.load(Ordering::Relaxed) == 0 {
        return MutexGuard::unlock_fair(guard);
    }
    let mutex = MutexGuard::mutex(&guard);
    drop(guard);
    for _ in 0..GIVE_WAY_TRIES {
        if mutex.is_locked() || AWAKE.load(Ordering::Relaxed) == 0 {
            return;
        }
        spin_loop();
    }
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

    /// As [`Self::try_lock_for`] for threads that serve clients: at first they wait without sleeping.
    pub fn try_lock_awake(&self, timeout: Duration) -> Option<KeyspaceGuard<'_>> {
        if is_paused_here() {
            return None;
        }
        if let Some(guard) = self.0.try_lock() {
            return Some(guard);
        }
        AWAKE.fetch_add(1, Ordering::Relaxed);
        let guard = self.spin();
        AWAKE.fetch_sub(1, Ordering::Relaxed);
        guard.or_else(|| self.0.try_lock_for(timeout))
    }

    fn spin(&self) -> Option<KeyspaceGuard<'_>> {
        let since = Instant::now();
        while since.elapsed() < AWAKE_MAX {
            for _ in 0..TRIES_A_LOOK {
                if !self.0.is_locked()
                    && let Some(guard) = self.0.try_lock()
                {
                    return Some(guard);
                }
                spin_loop();
            }
        }
        None
    }

    /// Waits for at most `timeout`. Never on a thread whose own script has the lock.
    pub fn try_lock_for(&self, timeout: Duration) -> Option<KeyspaceGuard<'_>> {
        if is_paused_here() {
            return None;
        }
        self.0.try_lock().or_else(|| self.0.try_lock_for(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::position::Positioner;
    use std::sync::atomic::AtomicBool;

    /// Sets it in the end, whatever happens before.
    struct Ended<'a>(&'a AtomicBool);

    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn who_waits_awake_comes_between_the_steps_of_another_thread() {
        let lock = KeyspaceLock::new(Keyspace::new(1, Positioner::new((1, 2))));
        let (begun, served) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !served.load(Ordering::Acquire) {
                    let guard = lock.lock();
                    begun.store(true, Ordering::Release);
                    give_way(guard);
                }
            });
            let _ended = Ended(&served);
            while !begun.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            for _ in 0..1000 {
                let guard = lock.try_lock_awake(Duration::from_secs(60));
                assert!(guard.is_some());
            }
        });
        let _held = lock.lock();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock.try_lock_awake(Duration::from_millis(1)).is_none());
            assert!(waiting.join().unwrap(), "it waits no longer than it may");
        });
    }
}
