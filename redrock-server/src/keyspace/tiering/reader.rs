//! The pool of threads that read the tier: cold values for waiting commands, and scans.
//!
//! Requests wait in one queue; a free thread takes all that wait, up to a batch, and reads them
//! with one multi-get. The queue needs no bound of its own: it holds at most one request per
//! cold key that some client waits for.
//!
//! How many threads work follows from how long a read takes. While the page cache has what is
//! asked for, waking a thread costs as much as a read: one is woken at a time, and takes all that has
//! come meanwhile. A disk is waited for by several, the more the later it answers ([`depth`]), each with its
//! share of what waits; there are a few threads always, and more while they are needed. While all is in
//! the page cache most commands read themselves ([`super::direct`]). Large values are read one by one, when there is
//! room for them ([`super::transit`]), and by no more threads than memory has room for what they read.

pub mod depth;

use self::depth::{Depth, THREADS_MIN};
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::locks::give_way;
use crate::keyspace::tiering::direct::{Direct, Watch};
use crate::keyspace::tiering::loader::{Finished, ReadValue};
use crate::keyspace::tiering::one_read::{Begun, OneRead};
use crate::keyspace::tiering::transit::{LARGE_BYTES, Transit, reads_at_once};
use crate::server::Server;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Keys read with one multi-get at most.
const BATCH_MAX: usize = 32;
/// A read that takes longer than this, on the average of a batch, waited for the disk.
const CACHED_READ_MAX: Duration = Duration::from_micros(50);
/// Values put into memory in one lock hold at most.
const FINISHED_AT_ONCE: usize = 8;
/// A thread beyond those that there always are ends when it has had nothing to do for so long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Requests that wait before another thread is woken though reads are fast.
const WAITING_MAX: usize = BATCH_MAX / 2;

/// Something that reads the tier at length; see [`Readers::run`].
type Job = Box<dyn FnOnce(&Server, &ColdStore) + Send>;

/// A key to be read.
enum Request {
    /// For memory; who waits for it is in the keyspace.
    Memory(TierKey),
    /// For one command, which gets it.
    Command(Begun, oneshot::Sender<OneRead>),
}

impl Request {
    fn key(&self) -> &TierKey {
        match self {
            Self::Memory(key) => key,
            Self::Command(begun, _) => begun.key(),
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Readers {
    queue: Mutex<VecDeque<Request>>,
    /// At most one a client that waits for it. Changed with the queue locked.
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    /// Threads that are reading; changed with the queue locked.
    working: AtomicUsize,
    /// Threads there are, and those that have nothing to do; changed with the queue locked.
    threads: AtomicUsize,
    idle: AtomicUsize,
    /// How many may read at a time.
    depth: Depth,
    /// The last batch waited for the disk.
    slow: AtomicBool,
    stopped: AtomicBool,
    /// Large values that were read and not yet taken.
    transit: Arc<Transit>,
    /// Whether commands may do without them.
    pub direct: Direct,
}

impl Readers {
    /// Asks for keys to be read, together where that is of use.
    pub fn request(&self, keys: Vec<TierKey>) {
        if !keys.is_empty() {
            self.push(keys.into_iter().map(Request::Memory));
        }
    }

    /// Asks for a key to be read for one command, to which it goes.
    pub(super) fn request_for(&self, begun: Begun, hand: oneshot::Sender<OneRead>) {
        self.push(std::iter::once(Request::Command(begun, hand)));
    }

    fn push(&self, requests: impl Iterator<Item = Request>) {
        let mut queue = self.queue.lock();
        let before = queue.len();
        queue.extend(requests);
        let wanted = self.is_thread_wanted(before, queue.len());
        drop(queue);
        if wanted {
            self.arrived.notify_one();
        }
    }

    /// Whether more requests, those behind the first `before` of now `waiting`, are to wake a thread.
    fn is_thread_wanted(&self, before: usize, waiting: usize) -> bool {
        // A thread that is at work looks again before it sleeps; one that was woken takes all.
        let first = before == 0 && self.working.load(Ordering::Relaxed) == 0;
        let many = waiting / WAITING_MAX > before / WAITING_MAX;
        first || many || (self.slow.load(Ordering::Relaxed) && self.may_work(0))
    }

    /// Whether one more thread may read; no record has more than `largest_bytes`.
    fn may_work(&self, largest_bytes: usize) -> bool {
        let room = reads_at_once(largest_bytes).max(THREADS_MIN);
        self.working.load(Ordering::Relaxed) < self.depth.threads().min(room)
    }

    /// Whether there should be one more thread, for `waiting` requests: it counts from now on.
    fn grow(&self, waiting: usize) -> bool {
        let threads = self.threads.load(Ordering::Relaxed);
        let wanted = waiting > 0
            && self.slow.load(Ordering::Relaxed)
            && self.idle.load(Ordering::Relaxed) == 0
            && threads < self.depth.threads();
        if wanted {
            self.threads.store(threads + 1, Ordering::Relaxed);
        }
        wanted
    }

    /// How many of the waiting requests a thread takes.
    fn share(&self, waiting: usize) -> usize {
        let sharers = match self.slow.load(Ordering::Relaxed) {
            true => self.depth.threads(),
            false => 1,
        };
        waiting.div_ceil(sharers).min(BATCH_MAX)
    }

    /// Notes how long a batch of reads took.
    fn note(&self, keys: usize, took: Duration, waited: bool) {
        let cached_max = CACHED_READ_MAX * u32::try_from(keys).unwrap_or(u32::MAX);
        // A thread that only lost its processor for a while was not waiting for a disk.
        self.slow
            .store(waited && took > cached_max, Ordering::Relaxed);
        self.direct.note_pool(keys, waited.then_some(took));
    }

    /// Notes what the device took for small values: with large ones it is how wide it is that counts.
    fn note_latency(&self, keys: usize, took: Duration, waited: bool) {
        if waited && keys > 0 {
            self.depth.note(took / u32::try_from(keys).unwrap_or(1));
        }
    }

    /// Runs something on a reader thread and waits for what it returns; `None` when the server
    /// stops meanwhile. Values that clients wait for go first.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Server, &ColdStore) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |server, store| {
            // A client that is gone needs no answer.
            let _ = sender.send(work(server, store));
        });
        // Under the lock: a thread that has just found nothing does not miss it.
        let queue = self.queue.lock();
        self.jobs.lock().push_back(job);
        drop(queue);
        self.arrived.notify_one();
        result.await.ok()
    }

    /// Ends the threads.
    pub fn stop(&self) {
        let queue = self.queue.lock();
        self.stopped.store(true, Ordering::Release);
        drop(queue);
        self.arrived.notify_all();
    }

    /// The next work for a thread that has ended its last, if it had any.
    fn take(&self, worked: bool, store: &ColdStore) -> Option<Work> {
        let mut queue = self.queue.lock();
        if worked {
            self.working.fetch_sub(1, Ordering::Relaxed);
        }
        loop {
            if !queue.is_empty() && self.may_work(store.largest_bytes()) {
                let count = self.share(queue.len());
                let requests = queue.drain(..count).collect();
                self.working.fetch_add(1, Ordering::Relaxed);
                if !queue.is_empty() {
                    self.arrived.notify_one();
                }
                let grow = self.grow(queue.len());
                return Some(Work::Requests { requests, grow });
            }
            if let Some(job) = self.jobs.lock().pop_front() {
                return Some(Work::Job(job));
            }
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            let is_spare = self.threads.load(Ordering::Relaxed) > THREADS_MIN;
            self.idle.fetch_add(1, Ordering::Relaxed);
            let ends = match is_spare {
                true => self.arrived.wait_for(&mut queue, IDLE_MAX).timed_out(),
                false => {
                    self.arrived.wait(&mut queue);
                    false
                }
            };
            self.idle.fetch_sub(1, Ordering::Relaxed);
            // Several may have found themselves to be spare.
            if ends && self.threads.load(Ordering::Relaxed) > THREADS_MIN {
                self.threads.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
        }
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers")
            .field("queue", &self.queue.lock().len())
            .finish_non_exhaustive()
    }
}

enum Work {
    Requests {
        requests: Vec<Request>,
        /// One more thread is to be started for what still waits; it has been counted.
        grow: bool,
    },
    Job(Job),
}

/// Starts the threads that there always are.
pub fn start(server: &Arc<Server>, store: &Arc<ColdStore>) -> std::io::Result<()> {
    server.readers.threads.store(THREADS_MIN, Ordering::Relaxed);
    for _ in 0..THREADS_MIN {
        spawn(server.clone(), store.clone())?;
    }
    Ok(())
}

/// Starts a thread, which has been counted.
fn spawn(server: Arc<Server>, store: Arc<ColdStore>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("tier-reader".into());
    thread.spawn(move || work(&server, &store)).map(drop)
}

fn work(server: &Arc<Server>, store: &Arc<ColdStore>) {
    let readers = &server.readers;
    let mut worked = false;
    while let Some(work) = readers.take(worked, store) {
        worked = matches!(work, Work::Requests { .. });
        match work {
            Work::Requests { requests, grow } => {
                if grow && let Err(error) = spawn(server.clone(), store.clone()) {
                    // Those that there are go on; the next batch asks again.
                    tracing::debug!(%error, "no further thread to read the tier");
                    let queue = readers.queue.lock();
                    readers.threads.fetch_sub(1, Ordering::Relaxed);
                    drop(queue);
                }
                read_batch(server, store, requests);
            }
            Work::Job(job) => job(server, store),
        }
    }
}

fn read_batch(server: &Server, store: &ColdStore, requests: Vec<Request>) {
    if store.has_large_records() {
        let read = requests.into_iter();
        return read.for_each(|request| read_large(server, store, request));
    }
    let watch = Watch::begin();
    let keys = requests.iter().map(Request::key);
    let values = store.read_many(keys, ReadValue::decode);
    let (took, waited) = (watch.elapsed(), watch.has_waited());
    server.readers.note(requests.len(), took, waited);
    server.readers.note_latency(requests.len(), took, waited);
    let mut for_memory = Vec::new();
    for (request, value) in requests.into_iter().zip(values) {
        match request {
            Request::Memory(key) => for_memory.push((key, value)),
            Request::Command(begun, hand) => {
                hand_over(server, begun.done(value, None), hand);
            }
        }
    }
    let mut for_memory = for_memory.into_iter().peekable();
    while for_memory.peek().is_some() {
        let mut keyspace = server.keyspace.lock();
        let some = for_memory.by_ref().take(FINISHED_AT_ONCE);
        let finished = some.map(|(key, value)| keyspace.finish_read(&key, value));
        let finished: Vec<_> = finished.collect();
        give_way(keyspace);
        finished.into_iter().for_each(Finished::wake);
    }
}

/// Reads a value that may be large, when there is room for it.
fn read_large(server: &Server, store: &ColdStore, request: Request) {
    let readers = &server.readers;
    let is_over = || readers.stopped.load(Ordering::Acquire);
    readers.transit.await_room(&server.memory, is_over);
    let (watch, mut bytes) = (Watch::begin(), 0);
    let value = store.get_as(request.key(), |record, expire| {
        bytes = record.len();
        ReadValue::decode(record, expire)
    });
    let (took, waited) = (watch.elapsed(), watch.has_waited());
    readers.note(1, took, waited);
    if bytes < LARGE_BYTES {
        readers.note_latency(1, took, waited);
    }
    let in_transit = readers.transit.note(&server.memory, bytes);
    match request {
        Request::Memory(key) => {
            let mut keyspace = server.keyspace.lock();
            let finished = keyspace.finish_read(&key, value);
            give_way(keyspace);
            finished.wake();
        }
        Request::Command(begun, hand) => hand_over(server, begun.done(value, in_transit), hand),
    }
}

fn hand_over(server: &Server, read: OneRead, hand: oneshot::Sender<OneRead>) {
    // Its command may be gone.
    if let Err(read) = hand.send(read) {
        let finished = read.give_up(&mut server.keyspace.lock());
        finished.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_by_all_threads_and_the_page_cache_by_one() {
        let readers = Readers::default();
        assert!(readers.is_thread_wanted(0, 1));
        assert!(!readers.is_thread_wanted(1, 2));
        assert_eq!((readers.share(6), readers.share(100)), (6, BATCH_MAX));
        readers.working.store(1, Ordering::Relaxed);
        assert!(!readers.is_thread_wanted(0, 1));
        assert!(readers.is_thread_wanted(WAITING_MAX - 1, WAITING_MAX));
        assert!(readers.is_thread_wanted(3, WAITING_MAX + 3));
        let (long, short) = (Duration::from_micros(300), Duration::from_micros(20));
        readers.note(2, long, false);
        assert!(!readers.is_thread_wanted(0, 1));
        readers.note(2, long, true);
        assert!(readers.is_thread_wanted(0, 1) && readers.is_thread_wanted(4, 5));
        assert_eq!((readers.share(6), readers.share(100)), (2, 25));
        readers.note(2, short, true);
        assert!(!readers.is_thread_wanted(0, 1));
    }

    #[test]
    fn threads_come_for_a_slow_device_and_not_beyond_what_it_needs() {
        let readers = Readers::default();
        readers.threads.store(THREADS_MIN, Ordering::Relaxed);
        let wait = |latency| {
            (0..2000).for_each(|_| readers.note_latency(1, latency, true));
            readers.note(1, latency, true);
        };
        wait(Duration::from_micros(70));
        assert!(!readers.grow(100));
        wait(Duration::from_micros(210));
        assert!(!readers.grow(0));
        readers.idle.store(1, Ordering::Relaxed);
        assert!(!readers.grow(100));
        readers.idle.store(0, Ordering::Relaxed);
        let grown = (0..100).filter(|_| readers.grow(100)).count();
        assert_eq!(THREADS_MIN + grown, readers.depth.threads());
        assert!((8..=11).contains(&(THREADS_MIN + grown)));
        readers
            .working
            .store(readers.depth.threads(), Ordering::Relaxed);
        assert!(!readers.may_work(0));
        // Large values: no more threads than there always are.
        readers.working.store(THREADS_MIN - 1, Ordering::Relaxed);
        assert!(readers.may_work(1 << 30));
        readers.working.store(THREADS_MIN, Ordering::Relaxed);
        assert!(!readers.may_work(1 << 30) && readers.may_work(LARGE_BYTES));
    }
}
