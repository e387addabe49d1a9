//! Large values between the tier and the commands that they were read for: no more of them than
//! memory has room for, however many clients wait (I7).
//!
//! Small values need no count: a client waits for one at a time, and has buffers of that size anyway.
//! Once the tier has been given a large record, the pool reads one key after the other instead of many
//! together, and before each it waits: without an end until enough of what was read has been taken, and for a
//! moment where memory is so full that writers wait. What it has read counts towards that.

use crate::keyspace::tiering::gate::MemoryGate;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A record of more bytes is large.
pub const LARGE_BYTES: usize = 32 << 10;
/// Bytes of large values that wait for their commands, beyond which no more are read.
const TRANSIT_BYTES_MAX: usize = 2 << 20;
/// Bytes that may be read at a time, beyond what the threads read that there always are: how large a value is
/// shows when it has been read.
const READ_BYTES_MAX: usize = 2 * TRANSIT_BYTES_MAX;
/// How long a read waits for room in memory: commands end that hold what could leave.
const ROOM_WAIT_MAX: Duration = Duration::from_millis(250);
/// Between two looks whether there is room, or the server stops.
const LOOK: Duration = Duration::from_millis(2);

/// How many reads of records of up to so many bytes memory has room for at a time.
pub fn reads_at_once(largest_bytes: usize) -> usize {
    READ_BYTES_MAX / largest_bytes.max(1)
}

/// The account of what was read.
#[derive(Debug, Default)]
pub struct Transit {
    bytes: Mutex<usize>,
    less: Condvar,
}

/// A large value that waits for its command.
#[derive(Debug)]
pub struct InTransit {
    transit: Arc<Transit>,
    bytes: usize,
}

impl Transit {
    /// Before a large value may be read: waits for room. `is_over` ends the wait.
    pub fn await_room(&self, memory: &MemoryGate, is_over: impl Fn() -> bool) {
        let mut bytes = self.bytes.lock();
        while *bytes >= TRANSIT_BYTES_MAX && !is_over() {
            self.less.wait_for(&mut bytes, LOOK);
        }
        let until = Instant::now() + ROOM_WAIT_MAX;
        while memory.is_held() && Instant::now() < until && !is_over() {
            self.less.wait_for(&mut bytes, LOOK);
        }
    }

    /// A value of so many bytes was read; nothing for a small one.
    pub fn note(self: &Arc<Self>, memory: &MemoryGate, bytes: usize) -> Option<InTransit> {
        if bytes < LARGE_BYTES {
            return None;
        }
        memory.charge(bytes as u64);
        *self.bytes.lock() += bytes;
        Some(InTransit {
            transit: self.clone(),
            bytes,
        })
    }
}

impl Drop for InTransit {
    fn drop(&mut self) {
        *self.transit.bytes.lock() -= self.bytes;
        self.transit.less.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn as_many_are_read_at_a_time_as_the_largest_leaves_room_for() {
        assert!(reads_at_once(0) > 64 && reads_at_once(LARGE_BYTES) > 64);
        assert_eq!((reads_at_once(1 << 20), reads_at_once(usize::MAX)), (4, 0));
    }

    #[test]
    fn large_values_are_read_when_those_before_them_have_been_taken() {
        let (transit, memory) = (Arc::new(Transit::default()), MemoryGate::default());
        assert!(transit.note(&memory, LARGE_BYTES - 1).is_none());
        let half = || transit.note(&memory, TRANSIT_BYTES_MAX / 2);
        let (first, _second) = (half().expect("large"), half().expect("large"));
        let has_room = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                transit.await_room(&memory, || false);
                has_room.store(true, Ordering::SeqCst);
            });
            assert!(!has_room.load(Ordering::SeqCst));
            drop(first);
        });
        assert!(has_room.load(Ordering::SeqCst));
        // A server that stops does not wait.
        let _third = half();
        transit.await_room(&memory, || true);
    }
}
