//! The governor: keeps all our processes' memory below the bound (I7).
//!
//! Measures ten times a second (more often near the bound), asks [`super::policy`] what to do,
//! and lets [`super::admission`] and the hand of [`super::sweep`] work until it is done. Holds the lock
//! for one segment at a time; frees what leaves without it.

use super::policy::{self, Plan, Sample};
use super::sweep::{Choice, Hand, Step};
use super::{admission, census};
use crate::config::Policy;
use crate::keyspace::locks::give_way;
use crate::server::Server;
use crate::{memory, priority};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_NEAR_BOUND: Duration = Duration::from_millis(2);
/// Segments per measurement at most.
const STEPS_MAX: usize = 256;
/// Steps per measurement that meet what a full queue does not take.
const WITHOUT_ROOM_MAX: usize = 8;
/// Stubs that take too much pay this part of what is needed.
const STUBS_PAY_PART: usize = 4;
/// Values that take less than this part of the bound are as good as none.
const VALUES_LEFT_PART: u64 = 64;
/// How often it is counted what they take where none leaves.
const COUNT_EVERY: Duration = Duration::from_millis(500);
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
    /// When it was last counted what is left.
    counted: Option<Instant>,
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
                counted: None,
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
            if released == 0 && self.fruitless > 2 * admission::FRUITLESS_MAX {
                self.note_what_is_left();
            }
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

    /// Nothing could leave for long: whether that is because there is nothing, or because the tier takes
    /// nothing.
    fn note_what_is_left(&mut self) {
        if self.counted.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted = Some(Instant::now());
        let gate = &self.server.memory;
        let few = gate.maxmemory_bytes.load(Ordering::Relaxed) / VALUES_LEFT_PART;
        let queued_bytes = self.server.keyspace.lock().tier_queue_bytes();
        if queued_bytes + census::hot_bytes(&self.server, few) < few {
            gate.note_exhausted();
        }
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
