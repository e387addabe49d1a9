//! What does not wait in order behind a batch that can't be written: who waits for a marker is told,
//! and files of flushed databases give back the room that the batch may need.

use super::{TierOp, TierQueue};
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::listener::is_no_space;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a marker waits for a batch that fails.
const MARKER_PATIENCE: Duration = Duration::from_secs(2);

/// How one batch has failed so far.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
    /// Generations whose files are gone already.
    dropped: Vec<u32>,
}

impl Trouble {
    /// The batch `ops` has failed, once more.
    pub(super) fn meet(
        &mut self,
        queue: &TierQueue,
        store: &ColdStore,
        ops: &mut Vec<TierOp>,
        error: &str,
    ) {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= MARKER_PATIENCE {
            fail_markers(queue, ops, error);
        }
        if is_no_space(error) {
            self.drop_ahead(queue, store, ops);
        }
    }

    /// Frees the files of flushed databases before it is their turn: nobody reads those, but the
    /// checkpoints of markers before them.
    fn drop_ahead(&mut self, queue: &TierQueue, store: &ColdStore, ops: &[TierOp]) {
        let generations: Vec<u32> = {
            let queued = queue.ops.lock();
            ops.iter()
                .chain(queued.iter())
                .take_while(|op| !matches!(op, TierOp::Marker(_)))
                .filter_map(|op| match op {
                    TierOp::DropGeneration(generation) => Some(*generation),
                    _ => None,
                })
                .collect()
        };
        for generation in generations {
            if self.dropped.contains(&generation) {
                continue;
            }
            match store.drop_files(generation) {
                Ok(()) => self.dropped.push(generation),
                Err(error) => {
                    tracing::debug!(%error, "files of a flushed database are not dropped yet");
                    return;
                }
            }
        }
    }
}

/// Takes the markers out of the batch and of what is queued, and tells those who wait for them.
fn fail_markers(queue: &TierQueue, ops: &mut Vec<TierOp>, error: &str) {
    // The bytes of the batch are accounted for when it is written.
    let mut markers: Vec<TierOp> = ops.extract_if(.., |op| is_marker(op)).collect();
    let mut queued = queue.ops.lock();
    if queued.iter().any(is_marker) {
        let (failed, kept): (VecDeque<_>, VecDeque<_>) = queued.drain(..).partition(is_marker);
        *queued = kept;
        let bytes: usize = failed.iter().map(TierOp::bytes).sum();
        queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        markers.extend(failed);
    }
    drop(queued);
    for marker in markers {
        if let TierOp::Marker(run) = marker {
            run(Err(format!("the tier can't be written: {error}")));
        }
    }
}

fn is_marker(op: &TierOp) -> bool {
    matches!(op, TierOp::Marker(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::cold::Times;
    use crate::keyspace::cold::key::TierKey;
    use crate::keyspace::cold::listener::NO_SPACE;
    use crate::keyspace::cold::options::ColdBudget;
    use crate::keyspace::position::Positioner;
    use parking_lot::Mutex;
    use std::sync::Arc;

    fn store() -> (tempfile::TempDir, ColdStore) {
        let folder = tempfile::tempdir().expect("folder");
        let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
        (folder, store)
    }

    fn key(generation: u32) -> TierKey {
        TierKey::new(generation, Positioner::new((1, 2)).hash(b"k"), b"k")
    }

    /// A marker that leaves what it was told.
    fn marker(told: &Arc<Mutex<Vec<String>>>) -> TierOp {
        let told = told.clone();
        TierOp::Marker(Box::new(move |store| {
            told.lock().push(store.err().unwrap_or_default());
        }))
    }

    fn delete() -> TierOp {
        TierOp::Delete {
            key: key(0),
            times: Times::default(),
            seq: 1,
        }
    }

    #[test]
    fn markers_of_a_tier_that_can_not_be_written_are_told_and_the_rest_keeps_its_order() {
        let (_folder, store) = store();
        let (queue, told) = (TierQueue::new(1000), Arc::default());
        queue.push(delete());
        queue.push(marker(&told));
        queue.push(TierOp::DropGeneration(7));
        let mut ops = vec![delete(), marker(&told)];
        let mut trouble = Trouble::default();
        trouble.meet(&queue, &store, &mut ops, "no disk");
        assert_eq!((ops.len(), told.lock().len()), (2, 0), "it may not last");
        trouble.since = Instant::now().checked_sub(MARKER_PATIENCE);
        trouble.meet(&queue, &store, &mut ops, "no disk");
        assert!(matches!(ops[..], [TierOp::Delete { .. }]));
        assert_eq!(*told.lock(), ["the tier can't be written: no disk"; 2]);
        let left = queue.take().expect("there is more");
        assert!(matches!(
            left[..],
            [TierOp::Delete { .. }, TierOp::DropGeneration(7)]
        ));
        let bytes: usize = left.iter().map(TierOp::bytes).sum();
        assert_eq!(queue.bytes(), bytes);
    }

    #[test]
    fn a_full_disk_gets_the_room_of_flushed_databases_that_no_checkpoint_needs() {
        let (_folder, store) = store();
        for generation in 1..=3 {
            let mut batch = store.batch();
            let put = store.put(&mut batch, &key(generation), b"value", Times::default());
            put.and_then(|()| store.apply(batch)).expect("a write");
            // A file of its own.
            store.compact().expect("compact");
        }
        let has = |generation| store.get(&key(generation)).expect("read").is_some();
        let (queue, told) = (TierQueue::new(1000), Arc::default());
        queue.push(TierOp::DropGeneration(2));
        queue.push(marker(&told));
        queue.push(TierOp::DropGeneration(3));
        let mut ops = vec![delete(), TierOp::DropGeneration(1)];
        let mut trouble = Trouble::default();
        trouble.meet(&queue, &store, &mut ops, "no disk");
        assert!(has(1) && has(2) && has(3), "there is room");
        trouble.meet(&queue, &store, &mut ops, NO_SPACE);
        assert_eq!((has(1), has(2), has(3)), (false, false, true));
        assert_eq!((ops.len(), queue.ops.lock().len()), (2, 3));
    }
}
