//! Telling: who hears that a key has changed.

use super::Db;
use crate::notify::Class;

impl Db<'_> {
    /// See [`crate::command::Context::changed`].
    pub fn changed(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.signal(key);
        self.effect.dirty += 1;
        self.notifier.notify(class, event, key, self.index);
    }

    /// Wakes WATCHers and invalidates client-side caches of a key that the running command has
    /// changed.
    pub fn signal(&mut self, key: &[u8]) {
        self.signal_as(key, true);
    }

    /// As [`Db::signal`], for what no command did: expiry and eviction.
    pub fn signal_gone(&mut self, key: &[u8]) {
        self.signal_as(key, false);
    }

    fn signal_as(&mut self, key: &[u8], by_caller: bool) {
        if !self.keyspace.watched.is_empty() {
            let exists = self.database().table.find(self.hash(key), key).is_some();
            self.keyspace.watched.changed(self.index, key, exists);
        }
        if !self.keyspace.tracking.is_idle() {
            self.keyspace.tracking.changed(key, by_caller);
        }
    }

    /// Publishes a keyspace event.
    pub fn notify(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.notifier.notify(class, event, key, self.index);
    }

    /// As [`Db::signal_ready`], for what happens often: nothing if nobody waits for the key.
    pub fn signal_if_awaited(&mut self, key: &[u8]) {
        if self.keyspace.blocked.waits_for(self.index, key) {
            self.signal_ready(key);
        }
    }

    /// Tells blocked clients that a key may have what they wait for; they are served when the
    /// command (or the whole EXEC) is done.
    pub fn signal_ready(&mut self, key: &[u8]) {
        let index = self.index;
        if !self
            .keyspace
            .ready
            .iter()
            .any(|(db, k)| *db == index && k == key)
        {
            self.keyspace.ready.push((index, key.to_vec()));
        }
    }
}
