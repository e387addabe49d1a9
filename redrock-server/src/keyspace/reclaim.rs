//! Freeing what was removed: never under the lock, and what is large in the background.
//!
//! Whatever removes a large value puts it into [`Garbage`] while it holds the lock. Whoever
//! releases the lock hands that to [`Reclaimer::dispose`], which frees small things at once and
//! queues large ones for one thread. The queue is bounded: when it is full the caller frees.

use super::Database;
use super::hot::entry::Entry;
use crate::value::ValueRef;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements (or 4 KiB pieces of a string) up to which a value is freed where it is removed; as
/// Redis's `LAZYFREE_THRESHOLD`.
const WEIGHT_INLINE_MAX: usize = 64;
/// Weight above which freeing is left to the thread.
const WEIGHT_DISPOSE_MAX: usize = 1024;
/// Pieces that may wait for the thread.
const QUEUE_MAX: usize = 1024;

/// Removed things that are to be freed once the lock is released.
#[derive(Debug, Default)]
pub struct Garbage {
    entries: Vec<Entry>,
    databases: Vec<(Database, bool)>,
    weight: usize,
}

/// How much work it is to free an entry.
fn weight(entry: &Entry) -> usize {
    match entry.value() {
        None | Some(ValueRef::Int(_)) => 0,
        Some(ValueRef::Str(bytes)) => bytes.len() >> 12,
        Some(ValueRef::List(list)) => list.len(),
        Some(ValueRef::Set(set)) => set.len(),
        Some(ValueRef::ZSet(zset)) => zset.len(),
        Some(ValueRef::Hash(hash)) => hash.len(),
        Some(ValueRef::Stream(stream)) => stream.free_effort(),
    }
}

impl Garbage {
    /// Takes a removed entry; a small one is freed here and now.
    pub fn add(&mut self, entry: Entry) {
        let weight = weight(&entry);
        if weight > WEIGHT_INLINE_MAX {
            self.weight += weight;
            self.entries.push(entry);
        }
    }

    /// Takes a flushed database's content.
    pub fn add_database(&mut self, database: Database, background: bool) {
        self.databases.push((database, background));
    }

    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.databases.is_empty()
    }

    /// Takes all out.
    pub fn take(&mut self) -> Self {
        if self.is_empty() {
            Self::default()
        } else {
            std::mem::take(self)
        }
    }
}

#[derive(Debug)]
enum Piece {
    Entries(Vec<Entry>),
    Database(Database),
}

impl Piece {
    fn objects(&self) -> u64 {
        match self {
            Self::Entries(entries) => entries.len() as u64,
            Self::Database(database) => database.table.len() as u64,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    started: bool,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    pending_objects: AtomicU64,
    freed_objects: AtomicU64,
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        loop {
            match queue.pieces.pop_front() {
                Some(piece) => {
                    drop(queue);
                    let objects = piece.objects();
                    drop(piece);
                    self.pending_objects.fetch_sub(objects, Ordering::Relaxed);
                    self.freed_objects.fetch_add(objects, Ordering::Relaxed);
                    queue = self.queue.lock();
                }
                None if queue.stopped => return,
                None => self.arrived.wait(&mut queue),
            }
        }
    }
}

/// See the module. Its thread starts with the first large value and ends, after what is queued,
/// when this is dropped.
#[derive(Debug, Default)]
pub struct Reclaimer {
    shared: Arc<Shared>,
}

impl Reclaimer {
    /// Frees what a lock hold removed. Call without the lock.
    pub fn dispose(&self, garbage: Garbage) {
        for (database, background) in garbage.databases {
            if background {
                self.queue(Piece::Database(database));
            }
        }
        let piece = Piece::Entries(garbage.entries);
        if garbage.weight > WEIGHT_DISPOSE_MAX {
            self.queue(piece);
        } else {
            // Freed here, but by nobody who holds the lock.
            let freed = &self.shared.freed_objects;
            freed.fetch_add(piece.objects(), Ordering::Relaxed);
        }
    }

    /// `lazyfree_pending_objects`
    pub fn pending_objects(&self) -> u64 {
        self.shared.pending_objects.load(Ordering::Relaxed)
    }

    /// `lazyfreed_objects`
    pub fn freed_objects(&self) -> u64 {
        self.shared.freed_objects.load(Ordering::Relaxed)
    }

    /// Sets `lazyfreed_objects` to zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        self.shared.freed_objects.store(0, Ordering::Relaxed);
    }

    fn queue(&self, piece: Piece) {
        let mut queue = self.shared.queue.lock();
        if !queue.started {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("reclaim".into());
            queue.started = thread.spawn(move || shared.run()).is_ok();
        }
        if queue.started && queue.pieces.len() < QUEUE_MAX {
            self.shared
                .pending_objects
                .fetch_add(piece.objects(), Ordering::Relaxed);
            queue.pieces.push_back(piece);
            self.shared.arrived.notify_one();
            return;
        }
        drop(queue);
        drop(piece);
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.shared.queue.lock().stopped = true;
        self.shared.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::hot::entry::NewValue;
    use crate::value::{
        Limits, Object,
        list::{End, List},
    };

    fn entry(elements: usize) -> Entry {
        let mut list = List::new();
        for n in 0..elements {
            list.push(End::Tail, &[n.to_string().as_bytes()], &Limits::default());
        }
        Entry::new(b"k", NewValue::Heap(Arc::new(Object::List(list))), None)
    }

    #[test]
    fn only_what_is_large_leaves_the_lock_and_only_what_is_very_large_its_thread() {
        let mut garbage = Garbage::default();
        garbage.add(entry(WEIGHT_INLINE_MAX));
        assert!(garbage.is_empty());
        garbage.add(entry(WEIGHT_INLINE_MAX + 1));
        assert!(!garbage.is_empty());
        let reclaimer = Reclaimer::default();
        reclaimer.dispose(garbage.take());
        assert!(garbage.is_empty() && reclaimer.pending_objects() == 0);
        assert_eq!(reclaimer.freed_objects(), 1);
        let big = entry(WEIGHT_DISPOSE_MAX + 1);
        let object = big.share();
        garbage.add(big);
        reclaimer.dispose(garbage.take());
        while reclaimer.freed_objects() == 1 {
            std::thread::yield_now();
        }
        assert_eq!(object.map(|object| Arc::strong_count(&object)), Some(1));
        assert_eq!(reclaimer.pending_objects(), 0);
    }
}
