//! Keys that stand still while their values are on the way to another server (MIGRATE).
//!
//! Reads go on; what may change such a key waits ([`crate::command::latched`]). Names count, in
//! whatever database: a command may reach another one than the selected one (MOVE, COPY). Expiry
//! and eviction take no notice: a key that they end is gone here and there is nothing to delete.

use hashbrown::HashSet;
use tokio::sync::watch;

/// See the module. Bounded by the arguments of the commands that run.
#[derive(Debug, Default)]
pub struct Latches {
    names: HashSet<Vec<u8>>,
    /// Counts releases.
    releases: watch::Sender<u64>,
}

impl Latches {
    /// Whether nothing is latched.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether a key of this name is latched.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.names.contains(key)
    }

    /// Latches keys. None of them is latched yet: a command that could ask for one has waited.
    pub fn take<'k>(&mut self, keys: impl IntoIterator<Item = &'k [u8]>) {
        self.names.extend(keys.into_iter().map(<[u8]>::to_vec));
    }

    /// Releases keys and wakes who waits for any.
    pub fn release<'k>(&mut self, keys: impl IntoIterator<Item = &'k [u8]>) {
        for key in keys {
            self.names.remove(key);
        }
        if self.names.is_empty() {
            self.names.shrink_to_fit();
        }
        self.releases.send_modify(|count| *count += 1);
    }

    /// Changes with the next release.
    pub fn released(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_before_a_release_learns_of_it() {
        let mut latches = Latches::default();
        latches.take([&b"a"[..], b"b"]);
        assert!(latches.holds(b"a") && latches.holds(b"b") && !latches.holds(b"c"));
        let released = latches.released();
        assert!(!released.has_changed().unwrap());
        latches.release([&b"a"[..]]);
        assert!(released.has_changed().unwrap());
        assert!(!latches.holds(b"a") && !latches.is_empty());
        latches.release([&b"b"[..]]);
        assert!(latches.is_empty());
    }
}
