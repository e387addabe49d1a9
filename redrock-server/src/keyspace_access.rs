//! Taking the keyspace without holding a thread up that has others to serve.

use crate::keyspace::Keyspace;
use crate::keyspace::locks::KeyspaceGuard;
use crate::server::Server;
use std::time::Duration;

/// How long the keyspace is waited for before it is looked whether a script is busy.
const LOCK_STEP: Duration = Duration::from_millis(2);
/// How long a command may hold the keyspace before who can come again does.
const SOON: Duration = Duration::from_millis(50);

impl Server {
    /// Does something with the keyspace: at the end of a script if one is busy.
    pub fn now_or_later(&self, work: impl FnOnce(&mut Keyspace) + Send + 'static) {
        let mut work: crate::script::Later = Box::new(work);
        loop {
            match self.scripting.later(work) {
                Ok(()) => return,
                Err(back) => work = back,
            }
            // A script that is not busy yet may be soon.
            if let Some(mut keyspace) = self.keyspace.try_lock_for(LOCK_STEP) {
                work(&mut keyspace);
                return;
            }
        }
    }

    /// The keyspace, taken without holding the calling thread up while a script is busy.
    pub async fn keyspace_when_idle(&self) -> KeyspaceGuard<'_> {
        loop {
            self.scripting.wait_idle().await;
            if let Some(keyspace) = self.keyspace.try_lock_for(LOCK_STEP) {
                return keyspace;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The keyspace, or `None` while a script is busy.
    pub fn keyspace_unless_busy(&self) -> Option<KeyspaceGuard<'_>> {
        loop {
            if self.scripting.is_busy() {
                return None;
            }
            if let Some(keyspace) = self.keyspace.try_lock_awake(LOCK_STEP) {
                return Some(keyspace);
            }
        }
    }

    /// The keyspace, or `None` while any command holds it for long: for threads that have others
    /// to serve and come again.
    pub fn keyspace_soon(&self) -> Option<KeyspaceGuard<'_>> {
        let since = std::time::Instant::now();
        while since.elapsed() < SOON {
            if self.scripting.is_busy() {
                return None;
            }
            if let Some(keyspace) = self.keyspace.try_lock_for(LOCK_STEP) {
                return Some(keyspace);
            }
        }
        None
    }
}
