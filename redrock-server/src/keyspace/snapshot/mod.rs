//! Snapshots without fork: the cut, the walk over dirty entries, pre-images (DESIGN 6).
//!
//! A cut is one lock hold: the epoch goes up, counts and log offset are noted, a marker is
//! queued for the tier. From then on the data set of the cut is the disjoint union of
//!
//! - what the tier's checkpoint at the marker holds, and
//! - entries that were **dirty** at the cut: each leaves once, either by the walker or as the
//!   pre-image of the first change, and is stamped with the new epoch.
//!
//! Entries that were clean at the cut, or came later, are stamped without leaving.

pub mod large;
pub mod ring;
pub mod spool;
pub mod walk;

use super::access::{AccessPolicy, Recorded};
use super::hot::entry::Entry;
use super::{Database, Keyspace};
use crate::value::{Object, ValueRef, codec};
use large::LargeValue;
use redrock_proto::model::record::{Access, RecordHeader};
use ring::{Item, Ring};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Values above this many bytes in memory are not encoded under the lock.
pub const LARGE_VALUE_BYTES: usize = 256 << 10;

/// A database at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutDatabase {
    /// Its number.
    pub index: usize,
    /// Its generation.
    pub generation: u32,
    /// Keys, in memory and cold.
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
    /// Hashes with fields that expire.
    pub timed: u64,
}

/// The keyspace's side of a running snapshot.
#[derive(Debug)]
pub struct ActiveSnapshot {
    ring: Arc<Ring>,
    databases: Vec<CutDatabase>,
    /// Records sent so far, by database of the cut.
    sent: Vec<u64>,
    /// Contents of the cut that were flushed since, kept until they have been walked.
    retired: Vec<Database>,
    payload: Vec<u8>,
}

impl ActiveSnapshot {
    /// Whether a command may still leave old values behind.
    pub fn has_room(&self) -> bool {
        self.ring.has_room() || self.ring.is_closed()
    }

    /// Whether the walk may go on.
    fn has_room_for_walk(&self) -> bool {
        self.ring.has_room_for_walk() || self.ring.is_closed()
    }

    /// A client's write waits for room.
    pub fn note_waiting_writer(&self) {
        self.ring.note_waiting_writer();
    }

    /// A dirty entry of the cut is about to change: its value of the cut leaves first.
    pub(super) fn pre_image(&mut self, generation: u32, entry: &Entry, access: &AccessPolicy) {
        let bytes = self.emit(generation, entry, access);
        self.ring.pre_images.fetch_add(1, Ordering::Relaxed);
        self.ring
            .pre_image_bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sends an entry; its bytes. Entries of databases that the cut does not have are newer.
    fn emit(&mut self, generation: u32, entry: &Entry, access: &AccessPolicy) -> usize {
        let Some(at) = self
            .databases
            .iter()
            .position(|d| d.generation == generation)
        else {
            return 0;
        };
        let Some(value) = entry.value() else { return 0 };
        if let Some(sent) = self.sent.get_mut(at) {
            *sent += 1;
        }
        let db = self.databases[at].index as u32;
        let access = saved_access(access, entry.access());
        if let Some(object) = entry.share()
            && object.memory_bytes() > LARGE_VALUE_BYTES
        {
            let bytes = object.memory_bytes();
            self.ring.push(Item::Value(LargeValue {
                db,
                key: entry.key().to_vec(),
                expire: entry.expire(),
                access,
                object,
            }));
            return bytes;
        }
        self.emit_small(db, entry, value, access)
    }

    fn emit_small(&mut self, db: u32, entry: &Entry, value: ValueRef<'_>, access: Access) -> usize {
        self.payload.clear();
        codec::encode(value, &mut self.payload);
        let (type_byte, payload) = self.payload.split_first().unwrap_or((&0, &[]));
        let header = RecordHeader {
            database: db,
            expires_unix_ms: entry.expire(),
            access,
            object_type: *type_byte,
            key: entry.key(),
        };
        self.ring.push_record(&header, payload);
        payload.len()
    }

    /// A large value is about to be changed by a command that can't wait; see
    /// [`Ring::spool_value`].
    pub(super) fn spool_value(&self, object: &Arc<Object>) {
        self.ring.spool_value(object);
    }

    /// Keeps a flushed database's content while the cut needs it; gives it back otherwise.
    pub(super) fn retire(&mut self, database: Database) -> Option<Database> {
        if self
            .databases
            .iter()
            .any(|d| d.generation == database.generation)
        {
            self.retired.push(database);
            return None;
        }
        Some(database)
    }
}

/// What an RDB file keeps of an access (Redis: `rdbSaveKeyValuePair`).
fn saved_access(policy: &AccessPolicy, access: u32) -> Access {
    match policy.recorded {
        Recorded::Nothing => Access::Unknown,
        Recorded::Idle => Access::IdleSeconds(policy.idle_seconds(access).into()),
        Recorded::Frequency => Access::Frequency(policy.decayed(access).min(255) as u8),
    }
}

impl Keyspace {
    /// Whether somebody has taken from a snapshot that runs within the last `period`.
    pub fn snapshot_moves(&self, period: Duration) -> bool {
        let idle = self.snapshot.as_ref().map(|snapshot| snapshot.ring.idle());
        idle.is_some_and(|idle| idle < period)
    }

    /// Makes a cut; see the module. The caller holds all locks and notes the log's offset under
    /// the same hold. `None` when a snapshot is running.
    pub fn cut(&mut self, ring: Arc<Ring>) -> Option<Vec<CutDatabase>> {
        if self.snapshot.is_some() {
            return None;
        }
        // Stamps are compared for equality with the current epoch only; a stamp that came round
        // after four billion cuts is met by the walk of each cut in between.
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let databases: Vec<CutDatabase> = self
            .databases
            .iter()
            .take(self.live)
            .enumerate()
            .filter(|(_, database)| database.keys > 0)
            .map(|(index, database)| CutDatabase {
                index,
                generation: database.generation,
                keys: database.keys,
                expires: database.expires,
                timed: database.timed,
            })
            .collect();
        self.snapshot = Some(Box::new(ActiveSnapshot {
            ring,
            sent: vec![0; databases.len()],
            databases: databases.clone(),
            retired: Vec::new(),
            payload: Vec::new(),
        }));
        Some(databases)
    }

    /// As [`Keyspace::end_snapshot`], if it is the snapshot that fills this ring.
    pub fn end_snapshot_of(&mut self, ring: &Arc<Ring>) -> Option<Box<ActiveSnapshot>> {
        let same = self
            .snapshot
            .as_ref()
            .is_some_and(|s| Arc::ptr_eq(&s.ring, ring));
        if same { self.snapshot.take() } else { None }
    }

    /// Ends the snapshot's hold on the keyspace. What is returned is freed without the lock.
    pub fn end_snapshot(&mut self) -> Option<Box<ActiveSnapshot>> {
        self.snapshot.take()
    }
}
