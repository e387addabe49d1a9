//! The one ordered queue of tier operations and the thread that applies it (DESIGN 6).
//!
//! Operations are enqueued under the shard locks, so their order is the order of the changes.
//! Until an operation is applied, a put keeps its value and a delete a tombstone in memory
//! ([`super::Tiering::pending`]), so readers never see the tier out of date. The queue is bounded
//! by what the governor may spill ([`TierQueue::has_room`]); deletes are always taken, and when
//! they pile up, commands that write wait ([`TierQueue::is_behind`]).

mod trouble;

use super::health::Health;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdBatch, ColdError, ColdStore, DueIndex, Times};
use crate::priority;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use trouble::Trouble;

/// One operation.
pub enum TierOp {
    /// Write a record.
    Put {
        /// Its key.
        key: TierKey,
        /// RDB type byte and payload.
        record: Vec<u8>,
        /// The times beside it.
        times: Times,
        /// Order number, see [`super::Tiering::pending`].
        seq: u64,
    },
    /// Delete a record.
    Delete {
        /// Its key.
        key: TierKey,
        /// The times beside the record.
        times: Times,
        /// Order number.
        seq: u64,
    },
    /// Change the times beside a record without reading it.
    SetTimes {
        /// Its key.
        key: TierKey,
        /// What they were.
        old: Times,
        /// What they are now.
        new: Times,
        /// Order number.
        seq: u64,
    },
    /// Drop an entry of the expiry index that says what is no longer true.
    ForgetDue {
        /// The part of the index.
        part: DueIndex,
        /// The index entry's time.
        time: i64,
        /// Its key.
        key: TierKey,
    },
    /// Delete a whole generation.
    DropGeneration(u32),
    /// Run something at exactly this point of the order (a snapshot's checkpoint).
    Marker(MarkerRun),
}

/// What a marker runs: with the tier as it is at that point, or with why that can't be had.
pub type MarkerRun = Box<dyn FnOnce(Result<&ColdStore, String>) + Send>;

impl TierOp {
    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, record, .. } => 96 + key.as_bytes().len() + record.capacity(),
            Self::Delete { key, .. } | Self::SetTimes { key, .. } | Self::ForgetDue { key, .. } => {
                96 + key.as_bytes().len()
            }
            Self::DropGeneration(_) | Self::Marker(_) => 96,
        }
    }

    /// Whether it ends its batch.
    fn is_barrier(&self) -> bool {
        matches!(self, Self::DropGeneration(_) | Self::Marker(_))
    }
}

/// Operations applied at once at most.
const BATCH_OPS_MAX: usize = 1024;
/// Bytes applied at once at most.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long operations gather: one at a time costs a wake-up and a write each.
const GATHER: Duration = Duration::from_millis(1);
/// So many wait for no more, nor does an operation of so many bytes, nor what somebody waits for.
const GATHERED_MAX: usize = 128;
const GATHERED_BYTES_MAX: usize = 128 << 10;

/// See the module.
pub struct TierQueue {
    ops: Mutex<VecDeque<TierOp>>,
    arrived: Condvar,
    bytes: AtomicUsize,
    bytes_max: AtomicUsize,
    stopped: AtomicBool,
    /// What was written and the keyspace has not been told of.
    applied: Mutex<Applied>,
    some_applied: Condvar,
    /// Whether the tier can be written.
    pub health: Health,
}

impl std::fmt::Debug for TierQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TierQueue")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl TierQueue {
    /// An empty queue for about `bytes_max` bytes of puts.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            ops: Mutex::default(),
            arrived: Condvar::new(),
            bytes: AtomicUsize::new(0),
            bytes_max: AtomicUsize::new(bytes_max),
            stopped: AtomicBool::new(false),
            applied: Mutex::default(),
            some_applied: Condvar::new(),
            health: Health::default(),
        }
    }

    /// Leaves word of what was written for whoever has the keyspace.
    pub fn note_applied(&self, applied: Applied) {
        self.applied.lock().extend(applied);
        self.some_applied.notify_all();
    }

    /// Whether there is word that nobody has taken.
    pub fn has_applied(&self) -> bool {
        !self.applied.lock().is_empty()
    }

    /// Takes the word, in the order of the queue.
    pub fn take_applied(&self) -> Applied {
        std::mem::take(&mut *self.applied.lock())
    }

    /// Takes the first `max` of the word.
    pub fn take_some_applied(&self, max: usize) -> Applied {
        let mut applied = self.applied.lock();
        let count = applied.len().min(max);
        applied.drain(..count).collect()
    }

    /// Waits until there is some, at most `timeout`.
    pub fn wait_applied(&self, timeout: Duration) {
        let mut applied = self.applied.lock();
        if applied.is_empty() {
            self.some_applied.wait_for(&mut applied, timeout);
        }
    }

    /// Adds an operation. Called with the shard locks held, so the applier, which gathers what comes
    /// within a moment, is woken for the first one only and when there is no more to wait for.
    pub fn push(&self, op: TierOp) {
        let bytes = op.bytes();
        let is_barrier = op.is_barrier();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut ops = self.ops.lock();
        ops.push_back(op);
        let count = ops.len();
        drop(ops);
        if count == 1 || count == GATHERED_MAX || is_barrier || bytes >= GATHERED_BYTES_MAX {
            self.arrived.notify_one();
        }
    }

    /// Changes for how many bytes of puts it is.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Whether more may be spilled.
    pub fn has_room(&self) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed) < bytes_max && !self.health.refuses_spills()
    }

    /// Whether even deletes have piled up so far that whoever writes must wait. Not for a tier that
    /// can't be written: deletes always work.
    pub fn is_behind(&self) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed) >= 2 * bytes_max && self.failure().is_none()
    }

    /// Bytes of what is queued.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the tier can't be written at the moment.
    pub fn failure(&self) -> Option<String> {
        self.health.failure()
    }

    /// Ends the applier after what is queued.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.arrived.notify_all();
    }

    /// Whether anything is queued.
    pub fn is_empty(&self) -> bool {
        self.ops.lock().is_empty()
    }

    /// Takes the next batch; `None` when stopped and empty.
    fn take(&self) -> Option<Vec<TierOp>> {
        let mut ops = self.ops.lock();
        while ops.is_empty() {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            self.arrived.wait_for(&mut ops, Duration::from_millis(500));
        }
        let gathers = |ops: &VecDeque<TierOp>| {
            let is_urgent = |op: &TierOp| op.is_barrier() || op.bytes() >= GATHERED_BYTES_MAX;
            ops.len() < GATHERED_MAX && !ops.iter().any(is_urgent)
        };
        if gathers(&ops) && !self.stopped.load(Ordering::Acquire) {
            self.arrived.wait_for(&mut ops, GATHER);
        }
        Some(Self::next_batch(&mut ops))
    }

    fn next_batch(ops: &mut VecDeque<TierOp>) -> Vec<TierOp> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < BATCH_OPS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(op) = ops.pop_front() else { break };
            bytes += op.bytes();
            let barrier = op.is_barrier();
            taken.push(op);
            if barrier {
                break;
            }
        }
        taken
    }
}

impl super::Tiering {
    /// A database's content is gone: its records are deleted behind what is queued for them.
    pub(in crate::keyspace) fn drop_generation(&mut self, generation: u32) {
        self.pending.retain(|key, _| key.generation() != generation);
        self.absent.retain(|key| key.generation() != generation);
        for (key, load) in &mut self.loads {
            if key.generation() == generation {
                load.mark_stale();
            }
        }
        self.queue.push(TierOp::DropGeneration(generation));
    }
}

/// What the applier tells the keyspace after a batch: the operations that are now in the tier.
pub type Applied = Vec<(TierKey, u64)>;

/// Between two tries of a batch that RocksDB holds up.
const STALL_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));
/// Between two tries of a batch that failed.
const FAILURE_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Applies the queue until it is stopped. `done` is called after each batch, without any lock of
/// the queue. A failing tier is retried with a growing pause: nothing is dropped.
pub fn run_applier(queue: &TierQueue, store: &ColdStore, mut done: impl FnMut(Applied)) {
    while let Some(mut ops) = queue.take() {
        let bytes: usize = ops.iter().map(TierOp::bytes).sum();
        let Some(applied) = write_until_taken(queue, store, &mut ops) else {
            return;
        };
        for op in ops {
            if let TierOp::Marker(run) = op {
                run(Ok(store));
            }
        }
        queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        done(applied);
    }
}

/// Writes a batch, however long it takes; `None` if the queue is stopped before it could be.
fn write_until_taken(
    queue: &TierQueue,
    store: &ColdStore,
    ops: &mut Vec<TierOp>,
) -> Option<Applied> {
    let (mut stall, mut failure) = (STALL_PAUSES.0, FAILURE_PAUSES.0);
    let mut trouble = Trouble::default();
    loop {
        // While memtables can't be flushed none are filled: they are all that can be held.
        let written = match store.background().flush_trouble() {
            Some(trouble) => Err((trouble, false)),
            None => write_batch(store, ops).map_err(|error| (error.to_string(), error.is_stall())),
        };
        let pause = match written {
            Ok(applied) => {
                queue.health.write_succeeded();
                return Some(applied);
            }
            Err((_, true)) => {
                let now = stall;
                stall = (stall * 2).min(STALL_PAUSES.1);
                now
            }
            Err((error, false)) => {
                trouble.meet(queue, store, ops, &error);
                queue.health.write_failed(error);
                let now = failure;
                failure = (failure * 2).min(FAILURE_PAUSES.1);
                now
            }
        };
        if queue.stopped.load(Ordering::Acquire) {
            return None;
        }
        std::thread::sleep(pause);
    }
}

fn write_batch(store: &ColdStore, ops: &[TierOp]) -> Result<Applied, ColdError> {
    let mut batch = store.batch();
    let mut applied = Vec::with_capacity(ops.len());
    for op in ops {
        add(store, &mut batch, &mut applied, op)?;
    }
    if !batch.is_empty() {
        store.apply(batch)?;
    }
    // A generation's end is a barrier, alone at the end of its batch.
    if let Some(TierOp::DropGeneration(generation)) = ops.last() {
        store.drop_generation(*generation)?;
    }
    Ok(applied)
}

fn add(
    store: &ColdStore,
    batch: &mut ColdBatch,
    applied: &mut Applied,
    op: &TierOp,
) -> Result<(), ColdError> {
    match op {
        TierOp::Put {
            key,
            record,
            times,
            seq,
        } => {
            store.put(batch, key, record, *times)?;
            applied.push((key.clone(), *seq));
        }
        TierOp::Delete { key, times, seq } => {
            store.delete(batch, key, *times)?;
            applied.push((key.clone(), *seq));
        }
        TierOp::SetTimes { key, old, new, seq } => {
            store.set_times(batch, key, *old, *new)?;
            applied.push((key.clone(), *seq));
        }
        TierOp::ForgetDue { part, time, key } => store.forget_due(batch, *part, *time, key)?,
        TierOp::DropGeneration(_) | TierOp::Marker(_) => {}
    }
    Ok(())
}

/// Starts the applier thread.
pub fn spawn_applier(
    queue: Arc<TierQueue>,
    store: Arc<ColdStore>,
    done: impl FnMut(Applied) + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("tier-applier".into())
        .spawn(move || {
            priority::patient();
            priority::lower(priority::SPILL);
            run_applier(&queue, &store, done);
        })
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::position::Positioner;

    #[test]
    fn deletes_are_always_taken_and_put_the_queue_behind() {
        let queue = TierQueue::new(1000);
        let positioner = Positioner::new((1, 2));
        let mut pushed = 0;
        while !queue.is_behind() {
            let name = format!("key:{pushed}");
            let key = TierKey::new(0, positioner.hash(name.as_bytes()), name.as_bytes());
            let times = Times::default();
            pushed += 1;
            queue.push(TierOp::Delete {
                key,
                times,
                seq: pushed,
            });
            assert!(pushed < 100, "the queue has no end");
        }
        assert!(pushed > 10 && !queue.has_room());
        let taken: usize = queue.take().unwrap().iter().map(TierOp::bytes).sum();
        assert_eq!(taken, queue.bytes());
        queue.bytes.fetch_sub(taken, Ordering::Relaxed);
        assert!(!queue.is_behind() && queue.has_room());
    }
}
