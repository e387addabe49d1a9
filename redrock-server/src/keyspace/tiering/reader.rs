//! The pool of threads that read the tier: cold values for waiting commands, and scans.
//!
//! Requests wait in one queue; a free thread takes all that wait, up to a batch, and reads them
//! with one multi-get. The queue needs no bound of its own: it holds at most one request per
//! cold key that some client waits for.

use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::key::TierKey;
use crate::server::Server;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Keys read with one multi-get at most.
const BATCH_MAX: usize = 32;

/// Something that reads the tier at length; see [`Readers::run`].
type Job = Box<dyn FnOnce(&Server, &ColdStore) + Send>;

/// See the module.
#[derive(Default)]
pub struct Readers {
    queue: Mutex<VecDeque<TierKey>>,
    /// At most one a client that waits for it.
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    stopped: AtomicBool,
}

impl Readers {
    /// Asks for a key to be read.
    pub fn request(&self, key: TierKey) {
        self.queue.lock().push_back(key);
        self.arrived.notify_one();
    }

    /// Runs something on a reader thread and waits for what it returns; `None` when the server
    /// stops meanwhile. Values that clients wait for go first.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Server, &ColdStore) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = tokio::sync::oneshot::channel();
        self.jobs.lock().push_back(Box::new(move |server, store| {
            // A client that is gone needs no answer.
            let _ = sender.send(work(server, store));
        }));
        self.arrived.notify_one();
        result.await.ok()
    }

    /// Ends the threads.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.arrived.notify_all();
    }

    fn take(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.is_empty() {
                let count = queue.len().min(BATCH_MAX);
                return Some(Work::Keys(queue.drain(..count).collect()));
            }
            if let Some(job) = self.jobs.lock().pop_front() {
                return Some(Work::Job(job));
            }
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            self.arrived
                .wait_for(&mut queue, Duration::from_millis(100));
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
    Keys(Vec<TierKey>),
    Job(Job),
}

/// Starts one reader thread.
pub fn spawn(
    server: Arc<Server>,
    store: Arc<ColdStore>,
    index: usize,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("tier-reader-{index}"))
        .spawn(move || {
            while let Some(work) = server.readers.take() {
                match work {
                    Work::Keys(keys) => read_batch(&server, &store, &keys),
                    Work::Job(job) => job(&server, &store),
                }
            }
        })
}

fn read_batch(server: &Server, store: &ColdStore, keys: &[TierKey]) {
    match store.get_many(keys) {
        Ok(values) => {
            let mut keyspace = server.keyspace.lock();
            for (key, value) in keys.iter().zip(values) {
                keyspace.finish_load(key, Ok(value));
            }
        }
        // One bad record must not fail the others: each is read alone.
        Err(_) => {
            for key in keys {
                let read = store.get(key);
                server.keyspace.lock().finish_load(key, read);
            }
        }
    }
}
