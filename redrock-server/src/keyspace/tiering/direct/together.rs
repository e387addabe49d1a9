//! Reads for several clients of one thread, made together.
//!
//! What came in one wake-up of a thread waits for its cold values at the same time. A multi-get of a dozen keys
//! takes 10 to 20 % less of the processor than a get each, and RocksDB's code and the commands' do not
//! push each other out of the processor's caches. So where wake-ups had several reads of late, a command that
//! waits for one key leaves its read to the end of what the thread has to do now, which reads them all. One
//! that has others behind it in its pipeline, which wait for it, reads alone.

use crate::keyspace::cold::ColdStore;
use crate::keyspace::tiering::direct::Watch;
use crate::keyspace::tiering::loader::ReadValue;
use crate::keyspace::tiering::one_read::{Begun, OneRead, PoolRead};
use crate::server::Server;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Keys read at once at most: more are read in turns, since other clients of the thread wait meanwhile.
const BATCH_MAX: usize = 16;
/// Reads in a wake-up, on the average, from which it pays; times [`MEAN_SCALE`].
const READS_MIN: u32 = 3 * MEAN_SCALE;
const MEAN_SCALE: u32 = 16;
/// The average is that of about so many wake-ups.
const MEAN_OF: u32 = 16;

/// A read that is to be made, and whose.
type Waiting = (Begun, oneshot::Sender<OneRead>);

/// The reads of one thread.
#[derive(Debug, Default)]
pub struct Together {
    /// From where, once there were any.
    store: OnceCell<Arc<ColdStore>>,
    waiting: RefCell<VecDeque<Waiting>>,
    arrived: Notify,
    /// Reads since the thread woke up that may be made together.
    reads: Cell<u32>,
    /// How many a wake-up has, times [`MEAN_SCALE`].
    mean: Cell<u32>,
}

impl Together {
    /// Counts a read that may be made together with others; whether it is to be.
    pub fn pays(&self) -> bool {
        self.reads.set(self.reads.get() + 1);
        self.mean.get() >= READS_MIN
    }

    /// The thread has done what it had to do.
    pub fn end_wake_up(&self) {
        let reads = self.reads.replace(0);
        if reads > 0 {
            let mean = self.mean.get();
            let now = reads.saturating_mul(MEAN_SCALE);
            self.mean
                .set((mean * (MEAN_OF - 1)).saturating_add(now) / MEAN_OF);
        }
    }

    /// Leaves a read to the end of the wake-up.
    pub fn join(&self, begun: Begun, server: Arc<Server>, store: Arc<ColdStore>) -> PoolRead {
        self.store.get_or_init(|| store);
        let (read, hand) = PoolRead::new(server);
        self.waiting.borrow_mut().push_back((begun, hand));
        self.arrived.notify_one();
        read
    }

    fn next_batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(BATCH_MAX);
        waiting.drain(..count).collect()
    }

    /// Makes the reads, for as long as the thread serves.
    pub async fn serve(self: Rc<Self>, server: Arc<Server>) {
        loop {
            self.arrived.notified().await;
            let Some(store) = self.store.get() else {
                continue;
            };
            loop {
                let some = self.next_batch();
                if some.is_empty() {
                    break;
                }
                read(&server, store, some);
                // What was read goes to its clients before more is: a batch is all that is in memory.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn read(server: &Server, store: &ColdStore, some: Vec<Waiting>) {
    let mut bytes_max = 0;
    let watch = Watch::begin();
    let keys = some.iter().map(|(begun, _)| begun.key());
    let values = store.read_many(keys, |record, expire| {
        bytes_max = bytes_max.max(record.len());
        ReadValue::decode(record, expire)
    });
    let waited = watch.waited();
    server
        .readers
        .direct
        .note_own(some.len(), waited, bytes_max);
    for ((begun, hand), value) in some.into_iter().zip(values) {
        // Its command may be gone.
        if let Err(read) = hand.send(begun.done(value, None)) {
            read.give_up_later(server);
        }
    }
}
