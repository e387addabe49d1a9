//! The bounded buffer between the cut and the persister.
//!
//! The walker and writers' pre-images fill it under the shard locks; the gRPC stream empties it.
//! The walker waits for space; a writer is asked before it runs ([`Ring::has_room`]), so what it
//! adds may pass the limit by one command. A consumer that takes nothing for too long makes the
//! snapshot fail, never the writers.

use crate::value::Object;
use parking_lot::{Condvar, Mutex};
use redrock_proto::model::record::{RecordHeader, encode_record};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What the stream sends.
#[derive(Debug)]
pub enum Item {
    /// Packed records and their number.
    Records(Vec<u8>, u32),
    /// A large value, shared with the keyspace and encoded by the consumer.
    Value(LargeValue),
    /// The cold part stands still in this folder.
    Checkpoint(PathBuf),
    /// All dirty records were sent; their numbers by database of the cut.
    DirtyEnd(Vec<u64>),
    /// The snapshot failed.
    Failed(String),
}

/// A value too large to be copied under the lock.
#[derive(Debug)]
pub struct LargeValue {
    /// Database at the cut.
    pub db: u32,
    /// The key.
    pub key: Vec<u8>,
    /// Expiry, unix ms.
    pub expire: Option<i64>,
    /// The value; the keyspace's own reference is not edited while this one lives.
    pub object: Arc<Object>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    open: Vec<u8>,
    open_count: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    state: Mutex<State>,
    bytes: AtomicUsize,
    bytes_max: usize,
    frame_bytes: usize,
    closed: AtomicBool,
    filled: Notify,
    emptied: Condvar,
    taken_at: Mutex<Instant>,
    /// Pre-images and their bytes, for the last frame and INFO.
    pub pre_images: AtomicUsize,
    /// Bytes of them.
    pub pre_image_bytes: AtomicUsize,
}

impl Ring {
    /// An empty ring for about `bytes_max` bytes, giving frames of about `frame_bytes`.
    pub fn new(bytes_max: usize, frame_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            bytes: AtomicUsize::new(0),
            bytes_max,
            frame_bytes,
            closed: AtomicBool::new(false),
            filled: Notify::new(),
            emptied: Condvar::new(),
            taken_at: Mutex::new(Instant::now()),
            pre_images: AtomicUsize::new(0),
            pre_image_bytes: AtomicUsize::new(0),
        }
    }

    /// Adds one record. Called with the shard locks held.
    pub fn push_record(&self, header: &RecordHeader<'_>, payload: &[u8]) {
        let mut state = self.state.lock();
        let before = state.open.len();
        encode_record(&mut state.open, header, payload);
        state.open_count += 1;
        let added = state.open.len() - before;
        if state.open.len() >= self.frame_bytes {
            state.close_frame();
        }
        self.bytes.fetch_add(added, Ordering::Relaxed);
        drop(state);
        self.filled.notify_one();
    }

    /// Adds anything else, behind all records so far.
    pub fn push(&self, item: Item) {
        let mut state = self.state.lock();
        state.close_frame();
        state.items.push_back(item);
        drop(state);
        self.filled.notify_one();
    }

    /// Whether a command may still leave old values behind.
    pub fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max
    }

    /// Waits for space, as the walker does; false when the ring was closed or nothing was taken
    /// for `stall`.
    pub fn wait_for_room(&self, stall: Duration) -> bool {
        let mut state = self.state.lock();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return false;
            }
            if self.has_room() {
                return true;
            }
            if self.taken_at.lock().elapsed() > stall {
                return false;
            }
            self.emptied
                .wait_for(&mut state, Duration::from_millis(100));
        }
    }

    /// How long ago something was taken.
    pub fn idle(&self) -> Duration {
        self.taken_at.lock().elapsed()
    }

    /// The next item, in order.
    pub async fn take(&self) -> Item {
        loop {
            let filled = self.filled.notified();
            if let Some(item) = self.try_take() {
                return item;
            }
            filled.await;
        }
    }

    /// The next item, if there is one.
    #[cfg(test)]
    pub(crate) fn try_take_for_test(&self) -> Option<Item> {
        self.try_take()
    }

    fn try_take(&self) -> Option<Item> {
        let mut state = self.state.lock();
        if state.items.is_empty() {
            state.close_frame();
        }
        let item = state.items.pop_front()?;
        if let Item::Records(packed, _) = &item {
            self.bytes.fetch_sub(packed.len(), Ordering::Relaxed);
        }
        drop(state);
        *self.taken_at.lock() = Instant::now();
        self.emptied.notify_all();
        Some(item)
    }

    /// Nobody reads any more: all who wait go on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.emptied.notify_all();
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl State {
    fn close_frame(&mut self) {
        if self.open_count > 0 {
            let packed = std::mem::take(&mut self.open);
            self.items.push_back(Item::Records(packed, self.open_count));
            self.open_count = 0;
        }
    }
}
