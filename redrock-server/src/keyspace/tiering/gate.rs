//! The governor's side that commands see: whether there is room, and a place to wait for it.

use super::fifo::TierQueue;
use super::health::Health;
use super::pace::Pace;
use super::policy::{self, Plan, Sample};
use super::relief::Relief;
use super::turns::{Turn, Turns};
use crate::config::Memory;
use crate::memory;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// That no value was left counts for so long: those that come leave at once.
const EXHAUSTED: Duration = Duration::from_secs(5);

/// The governor's side that commands see.
#[derive(Debug, Default)]
pub struct MemoryGate {
    /// The bound, bytes; 0: none.
    pub(super) maxmemory_bytes: AtomicU64,
    /// `maxrockmem` and `maxpsmem`; 0: not set.
    hot_bytes_max: AtomicU64,
    process_bytes_max: AtomicU64,
    /// What is allocated for anything but values.
    pub(super) other_bytes: AtomicU64,
    /// A load may pass the bound.
    pub(super) is_load_free: AtomicBool,
    held: AtomicBool,
    /// Somebody will soon be refused.
    pub(super) pressed: AtomicBool,
    charged: AtomicU64,
    /// What is left before writers must wait, as of the last measurement.
    room_bytes: AtomicU64,
    /// Who waits for room.
    turns: Turns,
    pub(super) wanted: std::sync::OnceLock<std::thread::Thread>,
    /// The last measurement, for INFO and MEMORY.
    allocated: AtomicU64,
    resident: AtomicU64,
    companions: AtomicU64,
    stub_bytes: AtomicU64,
    /// What [`super::relief`] knows.
    pub(super) relief: Relief,
    /// The most that a command asked for in vain since the last measurement.
    wanted_bytes: AtomicU64,
    /// Until when it counts that no value was left.
    exhausted_until: Mutex<Option<Instant>>,
    /// How far making room has come, in no unit: more than before if the tier has taken something, values
    /// have left, or a snapshot that they wait for has moved on.
    pub(super) progress: AtomicU64,
    /// Slows down what grows memory faster than the tier takes it.
    pub pace: Pace,
    tier: std::sync::OnceLock<Arc<TierQueue>>,
}

impl MemoryGate {
    /// Values leave memory through this queue.
    pub fn set_tier(&self, queue: Arc<TierQueue>) {
        // Set once, at the start.
        let _ = self.tier.set(queue);
    }

    /// Whether values are tiered.
    pub fn has_tier(&self) -> bool {
        self.tier.get().is_some()
    }

    /// Whether the tier takes them; `None` without a tier.
    pub fn tier_health(&self) -> Option<&Health> {
        self.tier.get().map(|queue| &queue.health)
    }

    /// Whether the tier is so far behind that whoever writes must wait.
    pub fn tier_is_behind(&self) -> bool {
        self.tier.get().is_some_and(|queue| queue.is_behind())
    }

    /// Sets the bound and the limits inside it.
    pub fn set_limits(&self, memory: &Memory) {
        let limits = [
            (&self.hot_bytes_max, memory.hot_bytes_max),
            (&self.process_bytes_max, memory.process_bytes_max),
        ];
        for (limit, bytes) in limits {
            limit.store(bytes, Ordering::Relaxed);
        }
        let before = self
            .maxmemory_bytes
            .swap(memory.bytes_max, Ordering::Relaxed);
        if before != memory.bytes_max {
            // Until the first measurement half of it may be filled.
            self.room_bytes
                .store(memory.bytes_max / 2, Ordering::Relaxed);
        }
        self.wake_governor();
    }

    /// Whether a load may take memory without limit: with `maxmemory-only-for-rocksdb no`, while the
    /// machine has some.
    pub fn is_load_free(&self) -> bool {
        self.is_load_free.load(Ordering::Relaxed)
    }

    /// As after a look at a machine that has memory.
    #[cfg(test)]
    pub fn free_loads(&self) {
        self.is_load_free.store(true, Ordering::Relaxed);
    }

    /// Counts what a command may allocate until the next measurement. False: it must wait.
    pub fn admit(&self, bytes: u64) -> bool {
        if self.maxmemory_bytes.load(Ordering::Relaxed) == 0 {
            return true;
        }
        if self.held.load(Ordering::Relaxed) {
            return false;
        }
        let charged = self.charged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if charged > self.room_bytes.load(Ordering::Relaxed) {
            self.held.store(true, Ordering::Relaxed);
            self.wanted_bytes.fetch_max(bytes, Ordering::Relaxed);
            self.wake_governor();
            return false;
        }
        true
    }

    /// Counts what a command that has begun is about to allocate beyond its arguments: it is not
    /// refused, but those after it wait.
    pub fn charge(&self, bytes: u64) {
        self.admit(bytes);
    }

    /// The largest string that may be built, bytes: it must be in memory whole beside the buffers
    /// that carry it to and from disk (DESIGN 4: what alone exceeds a budget is refused).
    pub fn string_bytes_max(&self) -> u64 {
        match self.maxmemory_bytes.load(Ordering::Relaxed) {
            0 => u64::MAX,
            bound => bound / 8,
        }
    }

    /// What is left before writers must wait, as far as is known.
    pub fn room_bytes(&self) -> u64 {
        let charged = self.charged.load(Ordering::Relaxed);
        let room = self.room_bytes.load(Ordering::Relaxed);
        room.saturating_sub(charged)
    }

    fn wake_governor(&self) {
        if let Some(thread) = self.wanted.get() {
            thread.unpark();
        }
    }

    /// A place behind all who wait for room by now.
    pub fn turn(&self) -> Turn {
        self.turns.take()
    }

    /// Waits until commands that need memory may run; false after `timeout`. A command that waits again
    /// has the turn that it had.
    pub async fn wait_for_room(&self, timeout: Duration, turn: Turn) -> bool {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let mut waiting = self.turns.wait(turn);
            if !self.held.load(Ordering::Relaxed) {
                return true;
            }
            self.wake_governor();
            let woken = tokio::time::timeout_at(deadline, waiting.woken()).await;
            if woken.is_err() {
                return !self.held.load(Ordering::Relaxed);
            }
        }
    }

    /// Somebody who waits for room will soon be refused: where keys may be evicted they are, be it that
    /// the tier still takes a little.
    pub fn press(&self) {
        self.pressed.store(true, Ordering::Relaxed);
        self.wake_governor();
    }

    /// How far making room has come, as of the last measurement: whether it is more than before counts.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.maxmemory_bytes.load(Ordering::Relaxed) > 0
    }

    /// Whether commands that need memory wait.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn note_companions(&self, bytes: u64) {
        self.companions.store(bytes, Ordering::Relaxed);
    }

    /// Measures, with the companions' share as of the governor's last look.
    pub(super) fn sample(&self, stub_bytes: u64) -> Sample {
        // Charges are cleared before measuring: what arrives in between counts twice, never not.
        self.charged.store(0, Ordering::Relaxed);
        let (allocated, own) = memory::measure();
        let active = memory::stats::active() as u64;
        Sample {
            maxmemory_bytes: self.maxmemory_bytes.load(Ordering::Relaxed),
            process_bytes_max: self.process_bytes_max.load(Ordering::Relaxed),
            own_resident_bytes: own,
            hot_bytes_max: self.hot_bytes_max.load(Ordering::Relaxed),
            other_bytes: self.other_bytes.load(Ordering::Relaxed),
            allocated_bytes: allocated,
            resident_bytes: own + self.companions.load(Ordering::Relaxed),
            gap_bytes: active.saturating_sub(allocated),
            purgeable_bytes: (memory::stats::resident() as u64).saturating_sub(active),
            stub_bytes,
            charged_bytes: self.charged.load(Ordering::Relaxed),
            wanted_bytes: self.wanted_bytes.swap(0, Ordering::Relaxed),
            is_exhausted: self.is_exhausted(),
        }
    }

    /// All values were looked at and none is left that could leave.
    pub(super) fn note_exhausted(&self) {
        *self.exhausted_until.lock() = Some(Instant::now() + EXHAUSTED);
    }

    fn is_exhausted(&self) -> bool {
        let until = *self.exhausted_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn publish(&self, sample: &Sample, plan: &Plan) {
        let room = policy::hold_bytes(sample).saturating_sub(sample.allocated_bytes);
        self.room_bytes.store(room, Ordering::Relaxed);
        self.allocated
            .store(sample.allocated_bytes, Ordering::Relaxed);
        self.resident
            .store(sample.resident_bytes, Ordering::Relaxed);
        self.stub_bytes.store(sample.stub_bytes, Ordering::Relaxed);
        self.pace.set_overrun(plan.overrun_permille);
        self.held.store(plan.hold_writers, Ordering::Relaxed);
        if !plan.hold_writers {
            self.turns.wake_all();
        }
    }

    /// Last measurement: allocated, resident of all processes, companions, stubs; bytes.
    pub fn measured(&self) -> (u64, u64, u64, u64) {
        (
            self.allocated.load(Ordering::Relaxed),
            self.resident.load(Ordering::Relaxed),
            self.companions.load(Ordering::Relaxed),
            self.stub_bytes.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_companions_memory_counts() {
        let gate = MemoryGate::default();
        let alone = gate.sample(0);
        assert_eq!(alone.resident_bytes, alone.own_resident_bytes);
        gate.companions.store(1 << 40, Ordering::Relaxed);
        assert!(gate.sample(0).resident_bytes > 1 << 40);
    }
}
