//! The governor: keeps all our processes' memory below the bound (I7).
//!
//! Measures ten times a second (more often near the bound), asks [`super::policy`] what to do,
//! and lets [`super::admission`] and the hand of [`super::sweep`] work until it is done. Holds the lock
//! for one segment at a time; frees what leaves without it.

use super::fifo::TierQueue;
use super::health::Health;
use super::pace::Pace;
use super::policy::{self, Plan, Sample};
use super::relief::Relief;
use super::sweep::{Choice, Hand, Step};
use super::turns::{Turn, Turns};
use super::{admission, census};
use crate::config::{Memory, Policy};
use crate::keyspace::locks::give_way;
use crate::server::Server;
use crate::{memory, priority};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The governor's side that commands see.
#[derive(Debug, Default)]
pub struct MemoryGate {
    /// The bound, bytes; 0: none.
    maxmemory_bytes: AtomicU64,
    /// `maxrockmem` and `maxpsmem`; 0: not set.
    hot_bytes_max: AtomicU64,
    process_bytes_max: AtomicU64,
    /// What is allocated for anything but values.
    other_bytes: AtomicU64,
    /// A load may pass the bound.
    is_load_free: AtomicBool,
    held: AtomicBool,
    /// Somebody will soon be refused.
    pressed: AtomicBool,
    charged: AtomicU64,
    /// What is left before writers must wait, as of the last measurement.
    room_bytes: AtomicU64,
    /// Who waits for room.
    turns: Turns,
    wanted: std::sync::OnceLock<std::thread::Thread>,
    /// The last measurement, for INFO and MEMORY.
    allocated: AtomicU64,
    resident: AtomicU64,
    companions: AtomicU64,
    stub_bytes: AtomicU64,
    /// What [`super::relief`] knows.
    pub(super) relief: Relief,
    /// The most that a command asked for in vain since the last measurement.
    wanted_bytes: AtomicU64,
    /// How far making room has come, in no unit: more than before if the tier has taken something, values
    /// have left, or a snapshot that they wait for has moved on.
    progress: AtomicU64,
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
        }
    }

    pub(super) fn publish(&self, sample: &Sample, plan: &Plan) {
        let budget = policy::budget_bytes(sample);
        let room = (budget / 100 * 97).saturating_sub(sample.allocated_bytes);
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

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_NEAR_BOUND: Duration = Duration::from_millis(2);
/// Segments per measurement at most.
const STEPS_MAX: usize = 256;
/// Steps per measurement that meet what a full queue does not take.
const WITHOUT_ROOM_MAX: usize = 8;
/// Stubs that take too much pay this part of what is needed.
const STUBS_PAY_PART: usize = 4;
/// Keys evicted per measurement at most.
const EVICTIONS_MAX: u64 = 1 << 16;
/// What the machine must have left for a load that passes the bound: an eighth of the bound, at least.
const MACHINE_PART: u64 = 8;
const MACHINE_BYTES_MIN: u64 = 256 << 20;

struct Governor {
    server: Arc<Server>,
    hand: Hand,
    /// A hand of its own for stubs: values that it passes lose nothing.
    stubs_hand: Hand,
    /// Steps in succession that moved nothing.
    fruitless: usize,
    /// Values must leave and the tier has taken nothing since: when that began, and what the tier
    /// had taken until then.
    stall: Option<(Instant, u64)>,
    /// What the tier had taken at the last round.
    taken_bytes: u64,
    /// The bound that all parts are made for.
    sized_bytes: u64,
}

/// Starts the governor's thread.
pub fn spawn(server: Arc<Server>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("governor".into())
        .spawn(move || {
            priority::patient();
            priority::lower(priority::SPILL);
            let _ = server.memory.wanted.set(std::thread::current());
            let sized_bytes = server.memory.maxmemory_bytes.load(Ordering::Relaxed);
            let mut governor = Governor {
                server,
                sized_bytes,
                hand: Hand::default(),
                stubs_hand: Hand::default(),
                fruitless: 0,
                stall: None,
                taken_bytes: 0,
            };
            while !governor.server.is_stopping() {
                let pause = governor.round();
                std::thread::park_timeout(pause);
            }
        })
}

impl Governor {
    fn measure(&self) -> Sample {
        let gate = &self.server.memory;
        gate.note_companions(self.server.companion_bytes());
        let (stub_bytes, tier_bytes) = {
            let keyspace = self.server.keyspace.lock();
            (keyspace.stub_bytes(), keyspace.tier_memory_bytes())
        };
        let startup = &self.server.stats.memory_startup;
        let other_bytes = startup.load(Ordering::Relaxed) as u64 + tier_bytes;
        gate.other_bytes.store(other_bytes, Ordering::Relaxed);
        gate.sample(stub_bytes as u64)
    }

    /// Follows what CONFIG SET has changed.
    fn follow(&mut self, maxmemory_bytes: u64) {
        let config = self.server.config();
        let is_free = !config.memory.strict
            && memory::available_bytes()
                .is_some_and(|free| free > MACHINE_BYTES_MIN.max(maxmemory_bytes / MACHINE_PART));
        let gate = &self.server.memory;
        gate.is_load_free.store(is_free, Ordering::Relaxed);
        if maxmemory_bytes != self.sized_bytes {
            self.sized_bytes = maxmemory_bytes;
            super::start::resize(&self.server, maxmemory_bytes);
        }
    }

    /// One measurement and what follows from it; how long to pause.
    fn round(&mut self) -> Duration {
        let sample = self.measure();
        if sample.maxmemory_bytes == 0 {
            return PAUSE;
        }
        self.follow(sample.maxmemory_bytes);
        let plan = policy::plan(&sample);
        let gate = &self.server.memory;
        gate.publish(&sample, &plan);
        let (taken_bytes, snapshot_moves) = {
            let mut keyspace = self.server.keyspace.lock();
            keyspace.set_pressure(plan.release_bytes > 0, plan.drop_stubs);
            keyspace.set_lending(plan.lend);
            (keyspace.tier_put_bytes(), keyspace.snapshot_moves(PAUSE))
        };
        gate.pace.note_taken(taken_bytes);
        let before = std::mem::replace(&mut self.taken_bytes, taken_bytes);
        let taken = taken_bytes.saturating_sub(before);
        let moved = taken + u64::from(snapshot_moves);
        gate.progress.fetch_add(moved, Ordering::Relaxed);
        if plan.purge {
            memory::purge();
        }
        if plan.release_bytes > 0 {
            let released = self.release(&plan);
            let progress = &self.server.memory.progress;
            progress.fetch_add(released, Ordering::Relaxed);
            self.evict(&sample);
            return PAUSE_NEAR_BOUND;
        }
        self.stall = None;
        if plan.write_back {
            self.write_back();
        }
        PAUSE
    }

    /// Bytes that have left.
    fn release(&mut self, plan: &Plan) -> u64 {
        let step = Step {
            drop_values: true,
            drop_stubs: plan.drop_stubs,
            spill: true,
            choice: Choice::Coldest,
        };
        // A tier that takes nothing makes no room: then hotter values go that it has already.
        let stands_still = self
            .stall
            .is_some_and(|(since, _)| since.elapsed() >= policy::STALL_MIN);
        let (mut released, mut without_room) = (self.drop_stubs(plan), 0);
        for _ in 0..STEPS_MAX {
            let mut keyspace = self.server.keyspace.lock();
            // What is queued leaves without more ado: the record and the value.
            let coming = match stands_still {
                true => 0,
                false => 2 * keyspace.tier_queue_bytes(),
            };
            if released + coming >= plan.release_bytes {
                break;
            }
            let swept = keyspace.make_room(&mut self.hand, step, self.fruitless);
            give_way(keyspace);
            released += swept.dropped_bytes as u64;
            self.fruitless = match swept.dropped_bytes == 0 && swept.spilled == 0 {
                true => self.fruitless + 1,
                false => 0,
            };
            without_room += usize::from(swept.queue_full);
            // Until queued puts are applied there is little to drop: let the applier work.
            if without_room > WITHOUT_ROOM_MAX && !stands_still {
                break;
            }
        }
        released
    }

    /// Drops stubs while they take more than their share, beside values and not instead of them: most of
    /// the bytes are theirs. Only where values give nothing do stubs pay for all. The bytes of them.
    fn drop_stubs(&mut self, plan: &Plan) -> u64 {
        if !plan.drop_stubs {
            return 0;
        }
        let step = Step {
            drop_values: true,
            drop_stubs: true,
            spill: false,
            choice: Choice::Stubs,
        };
        let part = match self.fruitless > admission::FRUITLESS_MAX {
            true => 1,
            false => STUBS_PAY_PART,
        };
        let mut released = 0;
        for _ in 0..STEPS_MAX / part {
            let mut keyspace = self.server.keyspace.lock();
            let swept = keyspace.sweep(&mut self.stubs_hand, step);
            give_way(keyspace);
            released += swept.dropped_bytes as u64;
            if released >= plan.release_bytes / part as u64 {
                break;
            }
        }
        released
    }

    /// Evicts by `maxmemory-policy` what a tier that stands still does not take, with
    /// `maxmemory-only-for-rocksdb no`. Else writers wait, and are refused in the end.
    fn evict(&mut self, sample: &Sample) {
        let taken = self.server.keyspace.lock().tier_puts();
        let since = match self.stall {
            Some((since, before)) if before == taken => since,
            _ => Instant::now(),
        };
        self.stall = Some((since, taken));
        let stalled = match self.server.memory.pressed.swap(false, Ordering::Relaxed) {
            true => policy::STALL_MIN,
            false => since.elapsed(),
        };
        let bytes = policy::evict_bytes(sample, stalled);
        let config = self.server.config();
        let may_evict = !config.memory.strict && config.memory.policy != Policy::NoEviction;
        if bytes == 0 || !may_evict {
            return;
        }
        let kept = config.memory.hot_keys_min;
        let spare =
            census::hot(&self.server, kept.saturating_add(EVICTIONS_MAX)).saturating_sub(kept);
        self.server.evict_values(&config, bytes, spare);
    }

    fn write_back(&mut self) {
        let step = Step {
            drop_values: false,
            drop_stubs: false,
            spill: true,
            choice: Choice::Ahead,
        };
        for _ in 0..STEPS_MAX / 4 {
            let mut keyspace = self.server.keyspace.lock();
            let swept = keyspace.sweep(&mut self.hand, step);
            give_way(keyspace);
            if swept.queue_full {
                break;
            }
        }
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
