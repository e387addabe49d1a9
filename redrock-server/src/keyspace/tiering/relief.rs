//! Room in the middle of what can't wait outside the locks: a script that has written, EXEC, a
//! transaction of our master (DESIGN 4).
//!
//! Whoever holds the lock does the governor's work itself and waits for the tier's queue, which
//! drains without any shard lock. The wait has an end: then the command that needs memory fails.
//! Before that hot values leave as well: a transaction is not to fail for what could leave. Nobody waits for a
//! tier that another has just waited for in vain.

use super::gate::MemoryGate;
use super::policy::{self, Sample};
use super::sweep::{Choice, Hand, Step};
use crate::keyspace::Keyspace;
use crate::memory;
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one command waits for a tier that takes nothing: a checkpoint for a snapshot may be under way.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// The same for one that makes room, for nobody else is served meanwhile.
const WAIT_IN_ALL_MAX: Duration = Duration::from_secs(60);
/// How often the companions' share is looked at and unused pages are given back meanwhile.
const UPKEEP: Duration = Duration::from_millis(100);
/// How long to wait for the queue before looking again.
const LOOK: Duration = Duration::from_millis(5);
/// How long it waits for what is queued before hot values leave.
const HOT_WAIT_MAX: Duration = Duration::from_millis(100);
/// Steps that meet what a full queue does not take, between two measurements.
const WITHOUT_ROOM_MAX: usize = 8;
/// A look at all values that found none that could leave is not repeated for so many times as long as it
/// took: what could leave then leaves in the order in which it came.
const FRUITLESS_PAUSE: u32 = 10;
/// Segments between two measurements.
const STEPS_MAX: usize = 256;

/// What one relief leaves for the next.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// Where it goes on.
    hand: Mutex<Hand>,
    /// Until when it does not look at all values again.
    paused: Mutex<Option<Instant>>,
    /// What the tier had taken, bytes, when it was waited for in vain, plus one; 0: never yet.
    gave_up_at: AtomicU64,
}

impl Relief {
    /// Whether it is worth while to look at all values.
    fn looks(&self) -> bool {
        let paused = self.paused.lock();
        paused.is_none_or(|until| Instant::now() >= until)
    }

    fn pause(&self, pause: Duration) {
        *self.paused.lock() = Some(Instant::now() + pause);
    }

    fn gave_up_at(&self) -> Option<u64> {
        self.gave_up_at.load(Ordering::Relaxed).checked_sub(1)
    }

    fn give_up_at(&self, taken_bytes: u64) {
        self.gave_up_at.store(taken_bytes + 1, Ordering::Relaxed);
    }
}

/// Moves values to the tier until there is room. False if there is none in time.
pub(super) fn make_room(server: &Server, keyspace: &mut Keyspace) -> bool {
    let relief = &server.memory.relief;
    let begun = Instant::now();
    let mut last_taken = (begun, keyspace.tier_put_bytes());
    // Somebody has waited for this tier in vain, and nothing has come of it since.
    let mut upkept = begun;
    let hopeless = relief.gave_up_at() == Some(last_taken.1);
    loop {
        // Whatever was removed and waits for the lock's release takes memory too.
        drop(keyspace.garbage.take());
        keyspace.take_applied();
        let (sample, plan) = measure(server, keyspace.stub_bytes() as u64, &mut upkept);
        if plan.release_bytes == 0 {
            return true;
        }
        keyspace.set_pressure(true, plan.drop_stubs);
        let Some(queue) = keyspace.tiering.as_ref().map(|t| t.queue.clone()) else {
            return true;
        };
        // What is queued leaves when it is written. Where that takes too long, or nothing is queued
        // that could leave, hot values go too.
        let failed = queue.failure().is_some();
        let looks = relief.looks();
        let patient = !failed && begun.elapsed() < HOT_WAIT_MAX;
        let choice = if patient || !looks {
            Choice::Coldest
        } else {
            Choice::All
        };
        if release(&server.memory, keyspace, &plan, choice) > 0 {
            continue;
        }
        let idle = queue.is_empty() && !queue.has_applied();
        if patient && looks && idle {
            if release(&server.memory, keyspace, &plan, Choice::All) > 0 {
                continue;
            }
            server.memory.note_exhausted();
        }
        let taken_bytes = keyspace.tier_put_bytes();
        if taken_bytes != last_taken.1 {
            last_taken = (Instant::now(), taken_bytes);
        }
        let stands_still = last_taken.0.elapsed() >= WAIT_MAX;
        if stands_still {
            relief.give_up_at(taken_bytes);
        }
        let is_hopeless = hopeless && last_taken.0 == begun;
        let is_over = is_hopeless || stands_still || begun.elapsed() >= WAIT_IN_ALL_MAX;
        // A tier that can't be written makes no room by waiting.
        if failed || is_over {
            if plan.hold_writers {
                tracing::warn!(
                    ?sample,
                    release_bytes = plan.release_bytes,
                    queued_bytes = queue.bytes(),
                    waited_ms = begun.elapsed().as_millis() as u64,
                    "no room for a command in the middle of a script or transaction"
                );
            }
            return !plan.hold_writers;
        }
        if queue.is_empty() && !queue.has_applied() && !plan.hold_writers {
            // All that may leave has left.
            return true;
        }
        queue.wait_applied(LOOK);
    }
}

/// Measures as the governor does, which can't while the lock is held, and keeps up what it keeps up.
fn measure(server: &Server, stub_bytes: u64, upkept: &mut Instant) -> (Sample, policy::Plan) {
    let gate = &server.memory;
    let sample = gate.sample(stub_bytes);
    let plan = policy::plan(&sample);
    gate.publish(&sample, &plan);
    if plan.release_bytes > 0 && upkept.elapsed() >= UPKEEP {
        *upkept = Instant::now();
        gate.note_companions(server.companion_bytes());
        if plan.purge {
            memory::purge();
        }
    }
    (sample, plan)
}

/// Drops clean values and queues dirty ones; how many bytes have gone.
fn release(gate: &MemoryGate, keyspace: &mut Keyspace, plan: &policy::Plan, choice: Choice) -> u64 {
    let step = Step {
        drop_values: true,
        drop_stubs: plan.drop_stubs,
        spill: true,
        choice,
    };
    let begun = Instant::now();
    let mut hand = *gate.relief.hand.lock();
    let (mut dropped, mut without_room, mut wraps) = (0, 0, 0);
    for steps in 1.. {
        let (swept, over) = match choice {
            // Somewhere there may be one that can leave: all are looked at, if need be.
            Choice::All => (keyspace.sweep(&mut hand, step), wraps > 1),
            _ => {
                let swept = keyspace.make_room(&mut hand, step, 0);
                without_room += usize::from(swept.queue_full);
                (swept, steps >= STEPS_MAX || without_room > WITHOUT_ROOM_MAX)
            }
        };
        wraps += usize::from(swept.wrapped);
        dropped += swept.dropped_bytes as u64;
        if dropped >= plan.release_bytes || over {
            break;
        }
    }
    *gate.relief.hand.lock() = hand;
    if matches!(choice, Choice::All) && dropped == 0 {
        gate.relief.pause(begun.elapsed() * FRUITLESS_PAUSE);
    }
    dropped
}

impl Server {
    /// Before a command that writes, in the middle of a transaction: waits for a tier that is far
    /// behind, for a bounded time.
    pub fn await_tier(&self, keyspace: &mut Keyspace) {
        if !self.memory.tier_is_behind() {
            return;
        }
        let deadline = Instant::now() + WAIT_MAX;
        while self.memory.tier_is_behind() && Instant::now() < deadline {
            drop(keyspace.take_applied());
            if let Some(tiering) = &keyspace.tiering {
                tiering.queue.wait_applied(LOOK);
            }
        }
    }

    /// Before a command that may need memory, in the middle of a transaction: makes room if there
    /// is none. False if there is none in time.
    pub fn relieve(&self, keyspace: &mut Keyspace) -> bool {
        !self.memory.is_held() || make_room(self, keyspace)
    }
}
