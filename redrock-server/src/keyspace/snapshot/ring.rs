//! The bounded buffer between the cut and the persister.
//!
//! The walker and writers' pre-images fill it under the shard locks; the gRPC stream empties it.
//! The walker waits for space and leaves half of it to writers, who would else wait for the persister
//! all the time that the walk takes; a writer is asked before it runs ([`Ring::has_room`]). What one
//! command adds beyond the limit goes to a file ([`super::spool`]), and there is room again when that
//! has been read. A consumer that takes nothing for too long makes the
//! snapshot fail, never the writers.

use super::large::LargeValue;
use super::spool::{Content, Spool, Spooled};
use crate::value::Object;
use parking_lot::{Condvar, Mutex};
use redrock_proto::model::record::{RecordHeader, encode_record};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
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
    /// A part of the file for what found no room: records, or a large value.
    Spooled(Spooled),
    /// The cold part stands still in this folder.
    Checkpoint(PathBuf),
    /// All dirty records were sent; their numbers by database of the cut.
    DirtyEnd(Vec<u64>),
    /// The snapshot failed.
    Failed(String),
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    open: Vec<u8>,
    open_count: u32,
    spool: Option<Spool>,
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    state: Mutex<State>,
    bytes: AtomicUsize,
    bytes_max: usize,
    frame_bytes: usize,
    /// Where the file for what finds no room is made; without it memory grows.
    spool_folder: Option<PathBuf>,
    /// Something waits in the file.
    spooling: AtomicBool,
    /// A client's write has waited since something was taken.
    writer_waits: AtomicBool,
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
            spool_folder: None,
            spooling: AtomicBool::new(false),
            writer_waits: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            filled: Notify::new(),
            emptied: Condvar::new(),
            taken_at: Mutex::new(Instant::now()),
            pre_images: AtomicUsize::new(0),
            pre_image_bytes: AtomicUsize::new(0),
        }
    }

    /// What finds no room goes to a file in this folder.
    pub fn with_spool(mut self, folder: PathBuf) -> Self {
        self.spool_folder = Some(folder);
        self
    }

    /// Adds one record. Called with the shard locks held.
    pub fn push_record(&self, header: &RecordHeader<'_>, payload: &[u8]) {
        if self.is_closed() {
            return;
        }
        let mut state = self.state.lock();
        let before = state.open.len();
        encode_record(&mut state.open, header, payload);
        state.open_count += 1;
        let added = state.open.len() - before;
        let bytes = self.bytes.fetch_add(added, Ordering::Relaxed) + added;
        if state.open.len() >= self.frame_bytes || bytes > self.bytes_max {
            state.close_frame();
            self.spill_last(&mut state);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Adds anything else, behind all records so far.
    pub fn push(&self, item: Item) {
        let mut state = self.state.lock();
        state.close_frame();
        if let Item::Value(value) = &item {
            self.bytes
                .fetch_add(value.memory_bytes(), Ordering::Relaxed);
        }
        state.items.push_back(item);
        self.spill_last(&mut state);
        drop(state);
        self.filled.notify_one();
    }

    /// A large value that waits here is about to be changed by a command that can't wait: its
    /// old state goes to the file, so that nobody needs a copy in memory.
    pub fn spool_value(&self, object: &Arc<Object>) {
        let mut state = self.state.lock();
        let same = |item: &Item| matches!(item, Item::Value(v) if Arc::ptr_eq(&v.object, object));
        let at = state.items.iter().position(same);
        if let Some(item) = at.and_then(|at| state.items.remove(at)) {
            self.spill(&mut state, item);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Sends the newest item to the file if there is no room for it.
    fn spill_last(&self, state: &mut State) {
        if self.bytes.load(Ordering::Relaxed) <= self.bytes_max {
            return;
        }
        match state.items.pop_back() {
            Some(item @ (Item::Records(..) | Item::Value(_))) => self.spill(state, item),
            other => state.items.extend(other),
        }
    }

    fn spill(&self, state: &mut State, item: Item) {
        let Some(folder) = &self.spool_folder else {
            state.items.push_back(item);
            return;
        };
        let bytes = item.memory_bytes();
        if let Err(error) = state.spool(folder).and_then(|spool| write(spool, &item)) {
            // The writer goes on; what it changed is the snapshot's loss.
            state.items.clear();
            state.spool = None;
            let reason = format!("the file for old values: {error}");
            state.items.push_back(Item::Failed(reason));
            self.close();
        } else {
            self.spooling.store(true, Ordering::Release);
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a command may still leave old values behind.
    pub fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max
            && !self.spooling.load(Ordering::Acquire)
    }

    /// Whether the walker may go on: half of the ring is for writers.
    pub fn has_room_for_walk(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < self.bytes_max / 2
            && !self.spooling.load(Ordering::Acquire)
    }

    /// The consumer has taken something, or a piece of it.
    pub fn note_progress(&self) {
        *self.taken_at.lock() = Instant::now();
        self.writer_waits.store(false, Ordering::Relaxed);
    }

    /// A client's write found no room and will ask again.
    pub fn note_waiting_writer(&self) {
        self.writer_waits.store(true, Ordering::Relaxed);
    }

    /// Whether the consumer has taken nothing for `stall`, or for `writer_stall` while a client
    /// wants to write.
    pub fn is_stalled(&self, stall: Duration, writer_stall: Duration) -> bool {
        let idle = self.idle();
        idle > stall || (idle > writer_stall && self.writer_waits.load(Ordering::Relaxed))
    }

    /// Waits for space, as the walker does; false when the ring was closed or nothing was taken
    /// for `stall`.
    pub fn wait_for_room(&self, stall: Duration) -> bool {
        let mut state = self.state.lock();
        loop {
            if self.closed.load(Ordering::Acquire) {
                return false;
            }
            if self.has_room_for_walk() {
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
        // The end of the dirty part comes after all of it.
        let last = matches!(state.items.front(), None | Some(Item::DirtyEnd(_)));
        let spooled = match &mut state.spool {
            Some(spool) if last => spool.pop(),
            _ => None,
        };
        let item = match spooled {
            Some(piece) => {
                if state.spool.as_ref().is_none_or(Spool::is_empty) {
                    // Its room on disk is free once the piece has been read.
                    state.spool = None;
                    self.spooling.store(false, Ordering::Release);
                }
                Item::Spooled(piece)
            }
            None => {
                if state.items.is_empty() {
                    state.close_frame();
                }
                let item = state.items.pop_front()?;
                self.bytes.fetch_sub(item.memory_bytes(), Ordering::Relaxed);
                item
            }
        };
        drop(state);
        self.note_progress();
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

impl Item {
    /// What it holds of the ring's room.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Records(packed, _) => packed.len(),
            Self::Value(value) => value.memory_bytes(),
            _ => 0,
        }
    }
}

fn write(spool: &mut Spool, item: &Item) -> std::io::Result<()> {
    match item {
        Item::Records(packed, count) => spool.push([packed, &[]], Content::Records(*count)),
        Item::Value(value) => {
            let encoded = value.encode();
            let content = Content::Value(encoded.header);
            spool.push([&encoded.head, encoded.tail], content)
        }
        _ => Ok(()),
    }
}

impl State {
    fn spool(&mut self, folder: &Path) -> std::io::Result<&mut Spool> {
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => Spool::create(folder)?,
        };
        Ok(self.spool.insert(spool))
    }

    fn close_frame(&mut self) {
        if self.open_count > 0 {
            let packed = std::mem::take(&mut self.open);
            self.items.push_back(Item::Records(packed, self.open_count));
            self.open_count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redrock_proto::model::record::{Access, Records, decode_header};

    fn push(ring: &Ring, key: &str, payload: &[u8]) {
        let header = RecordHeader {
            database: 0,
            expires_unix_ms: None,
            access: Access::Unknown,
            object_type: 0,
            key: key.as_bytes(),
        };
        ring.push_record(&header, payload);
    }

    fn large(key: &str, object: &Arc<Object>) -> Item {
        Item::Value(LargeValue {
            db: 0,
            key: key.into(),
            expire: None,
            access: Access::Unknown,
            object: object.clone(),
        })
    }

    /// Keys and lengths of all that comes out before the end of the dirty part.
    fn drain(ring: &Ring) -> Vec<(String, usize)> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let mut out = Vec::new();
        let mut records = |packed: &[u8]| {
            for record in Records::new(packed) {
                let record = record.expect("our own record");
                out.push((text(record.header.key), record.payload.len()));
            }
        };
        let mut values = Vec::new();
        loop {
            match ring.try_take() {
                Some(Item::Records(packed, _)) => records(&packed),
                Some(Item::Value(value)) => {
                    values.push((text(&value.key), value.encode().tail.len()));
                }
                Some(Item::Spooled(piece)) => {
                    let bytes = piece.read(0, piece.bytes as usize).expect("the file");
                    match &piece.content {
                        Content::Records(_) => records(&bytes),
                        Content::Value(header) => {
                            let (header, length) = decode_header(header).expect("a header");
                            assert_eq!(length, piece.bytes);
                            let text_bytes = bytes.iter().filter(|b| **b == b'x').count();
                            values.push((text(header.key), text_bytes));
                        }
                    }
                }
                Some(Item::DirtyEnd(_)) => break,
                other => panic!("{other:?}"),
            }
        }
        out.extend(values);
        out.sort();
        out
    }

    #[test]
    fn what_finds_no_room_goes_to_the_file_and_comes_out_once_before_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Ring::new(10_000, 1000).with_spool(folder.path().to_owned());
        let expected: Vec<_> = (0..500).map(|n| (format!("key:{n:04}"), n)).collect();
        for (key, length) in &expected {
            push(&ring, key, &vec![b'p'; *length]);
        }
        assert!(ring.bytes.load(Ordering::Relaxed) <= 11_000);
        assert!(!ring.has_room(), "writers wait until the file is read");
        let left = std::fs::read_dir(folder.path())
            .expect("the folder")
            .count();
        assert_eq!(left, 0, "the file has no name");
        ring.push(Item::DirtyEnd(vec![500]));
        assert_eq!(drain(&ring), expected);
        assert!(ring.has_room());
        assert_eq!(ring.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_walk_leaves_half_of_the_room_to_writers() {
        let ring = Ring::new(10_000, 1000);
        let mut walked = 0;
        while ring.has_room_for_walk() {
            push(&ring, &format!("key:{walked}"), &[b'p'; 500]);
            walked += 1;
        }
        assert!((9..12).contains(&walked), "{walked}");
        assert!(ring.has_room());
        assert!(!ring.wait_for_room(Duration::ZERO), "the walk waits");
        while let Some(Item::Records(..)) = ring.try_take() {}
        assert!(ring.wait_for_room(Duration::ZERO));
    }

    #[test]
    fn a_large_value_that_must_change_now_is_no_longer_shared() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Ring::new(800_000, 1000).with_spool(folder.path().to_owned());
        let changed = Arc::new(Object::Raw(vec![b'x'; 300_000]));
        let kept = Arc::new(Object::Raw(vec![b'x'; 300_001]));
        ring.push(large("changed", &changed));
        ring.push(large("kept", &kept));
        ring.spool_value(&changed);
        assert_eq!(
            (Arc::strong_count(&changed), Arc::strong_count(&kept)),
            (1, 2)
        );
        // Those that are beyond the ring's size are not kept alive either.
        let others = [300_002, 300_003].map(|n| Arc::new(Object::Raw(vec![b'x'; n])));
        ring.push(large("third", &others[0]));
        ring.push(large("fourth", &others[1]));
        assert_eq!(Arc::strong_count(&others[1]), 1);
        ring.push(Item::DirtyEnd(vec![4]));
        let expected = [
            ("changed", 300_000),
            ("fourth", 300_003),
            ("kept", 300_001),
            ("third", 300_002),
        ];
        assert_eq!(drain(&ring), expected.map(|(key, n)| (key.to_owned(), n)));
    }

    #[test]
    fn a_file_that_can_not_be_written_fails_the_snapshot_and_holds_nobody_up() {
        let ring = Ring::new(1000, 100).with_spool("/nonexistent/folder".into());
        (0..100).for_each(|n| push(&ring, &format!("key:{n}"), &[b'p'; 100]));
        assert!(ring.is_closed());
        assert!(matches!(ring.try_take(), Some(Item::Failed(_))));
        assert!(ring.try_take().is_none());
    }
}
