//! Snapshots without fork: the cut, the walk over dirty entries, pre-images (DESIGN 6).

use super::hot::entry::Entry;

/// The keyspace's side of a running snapshot.
#[derive(Debug, Default)]
pub struct ActiveSnapshot {}

impl ActiveSnapshot {
    /// Whether a command may still leave old values behind.
    pub fn has_room(&self) -> bool {
        true
    }

    /// A dirty entry of the cut is about to change: its value of the cut leaves first.
    pub fn pre_image(&mut self, _db: usize, _entry: &Entry) {}
}
