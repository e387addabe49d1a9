//! The queue's work in steps, for tests that choose when each happens.

use super::{Applied, TierOp, TierQueue, write_until_taken};
use crate::keyspace::cold::ColdStore;
use std::sync::atomic::Ordering;

impl TierQueue {
    /// The next batch, or its first `count_max` operations.
    fn take_some(&self, count_max: usize) -> Vec<TierOp> {
        let mut ops = Self::next_batch(&mut self.ops.lock());
        let rest = ops.split_off(count_max.min(ops.len()));
        self.put_back(rest);
        ops
    }

    fn put_back(&self, ops: Vec<TierOp>) {
        let mut queued = self.ops.lock();
        for op in ops.into_iter().rev() {
            queued.push_front(op);
        }
    }

    /// Applies one batch of what is queued, or its first `count_max` operations.
    pub(crate) fn apply_some(&self, store: &ColdStore, count_max: usize) -> Applied {
        let mut ops = self.take_some(count_max);
        if ops.is_empty() {
            return Applied::new();
        }
        let applied = write_until_taken(self, store, &mut ops).expect("nobody stops the queue");
        let bytes: usize = ops.iter().map(TierOp::bytes).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        for op in ops {
            if let TierOp::Marker(run) = op {
                run(Ok(store));
            }
        }
        applied
    }

    /// Applies one batch of what is queued, if there is anything.
    pub(crate) fn apply_one_batch(&self, store: &ColdStore) -> Applied {
        self.apply_some(store, usize::MAX)
    }

    /// As a batch that fails at its end: the tier has some of it, and all of it is tried again.
    /// Whether there was any.
    pub(crate) fn apply_in_vain(&self, store: &ColdStore, count_max: usize) -> bool {
        let mut ops = self.take_some(count_max);
        write_until_taken(self, store, &mut ops).expect("nobody stops the queue");
        let any = !ops.is_empty();
        self.put_back(ops);
        any
    }

    /// Visits what is queued, in its order.
    pub(crate) fn for_each(&self, visit: impl FnMut(&TierOp)) {
        self.ops.lock().iter().for_each(visit);
    }
}
