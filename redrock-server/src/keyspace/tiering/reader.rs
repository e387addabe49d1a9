//! The pool of threads that read cold values.
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

/// See the module.
#[derive(Debug, Default)]
pub struct Readers {
    queue: Mutex<VecDeque<TierKey>>,
    arrived: Condvar,
    stopped: AtomicBool,
}

impl Readers {
    /// Asks for a key to be read.
    pub fn request(&self, key: TierKey) {
        self.queue.lock().push_back(key);
        self.arrived.notify_one();
    }

    /// Ends the threads.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.arrived.notify_all();
    }

    fn take(&self) -> Option<Vec<TierKey>> {
        let mut queue = self.queue.lock();
        while queue.is_empty() {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            self.arrived.wait_for(&mut queue, Duration::from_millis(500));
        }
        let count = queue.len().min(BATCH_MAX);
        Some(queue.drain(..count).collect())
    }
}

/// Starts one reader thread.
pub fn spawn(
    server: Arc<Server>,
    store: Arc<ColdStore>,
    index: usize,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(format!("tier-reader-{index}")).spawn(move || {
        while let Some(keys) = server.readers.take() {
            read_batch(&server, &store, &keys);
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
