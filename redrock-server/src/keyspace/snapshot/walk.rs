//! The walker: sends the dirty entries of a cut in position order, a few at a time.

use super::ring::{Item, Ring};
use crate::keyspace::Keyspace;
use crate::keyspace::locks::{KeyspaceLock, give_way};
use crate::keyspace::position::POSITION_END;
use std::time::{Duration, Instant};

/// Entries sent in one lock hold.
const ENTRIES_PER_HOLD: usize = 16;
/// Time with the lock after which the walk pauses, if it is to give way.
const HELD_MAX: Duration = Duration::from_micros(50);
/// How many times as long it then pauses.
const PAUSE_FACTOR: u32 = 2;
/// But no longer than this, be it that it lost its processor with the lock in its hands.
const PAUSE_MAX: Duration = Duration::from_millis(2);

/// Where the walk is.
#[derive(Debug, Default)]
pub struct Walk {
    /// Index into the cut's databases.
    database: usize,
    position: u64,
}

/// Walks the whole cut. False if the consumer is gone or took nothing for `stall`. A `patient` walk has the
/// lock for about a third of the time, so that clients get it in between.
pub fn walk(keyspace: &KeyspaceLock, ring: &Ring, stall: Duration, patient: bool) -> bool {
    let mut cursor = Walk::default();
    let mut held = Duration::ZERO;
    loop {
        if !ring.wait_for_room(stall) {
            return false;
        }
        if patient && held > HELD_MAX {
            std::thread::sleep(held.saturating_mul(PAUSE_FACTOR).min(PAUSE_MAX));
            held = Duration::ZERO;
        }
        let mut locked = keyspace.lock();
        let since = Instant::now();
        match locked.walk_step(&mut cursor) {
            Step::More => {
                held += since.elapsed();
                give_way(locked);
            }
            Step::Done(sent) => {
                let ended = locked.end_snapshot();
                drop(locked);
                ring.push(Item::DirtyEnd(sent));
                drop(ended);
                return true;
            }
            Step::Gone => return false,
        }
    }
}

enum Step {
    More,
    Done(Vec<u64>),
    Gone,
}

impl Keyspace {
    /// One step of the walk; true when it is complete.
    #[cfg(test)]
    pub(in crate::keyspace) fn walk_step_for_test(&mut self, walk: &mut Walk, ring: &Ring) -> bool {
        match self.walk_step(walk) {
            Step::Done(sent) => {
                drop(self.end_snapshot());
                ring.push(Item::DirtyEnd(sent));
                true
            }
            Step::More => false,
            Step::Gone => panic!("the snapshot is gone"),
        }
    }

    fn walk_step(&mut self, cursor: &mut Walk) -> Step {
        let (epoch, access) = (self.epoch, self.access);
        let Some(mut snapshot) = self.snapshot.take() else {
            return Step::Gone;
        };
        let Some(cut) = snapshot.databases.get(cursor.database).copied() else {
            let sent = snapshot.sent.clone();
            self.snapshot = Some(snapshot);
            return Step::Done(sent);
        };
        // The content may have moved (SWAPDB) or have been flushed since.
        let mut retired = std::mem::take(&mut snapshot.retired);
        let table = match self
            .databases
            .iter_mut()
            .find(|d| d.generation == cut.generation)
        {
            Some(database) => Some(&mut database.table),
            None => {
                let found = retired.iter_mut().find(|d| d.generation == cut.generation);
                found.map(|database| &mut database.table)
            }
        };
        if let Some(table) = table
            && cursor.position < POSITION_END
        {
            let (segment, end) = table.segment_at(cursor.position);
            let mut left = ENTRIES_PER_HOLD;
            for entry in table
                .segment_mut(segment)
                .into_iter()
                .flat_map(|s| s.values_mut())
            {
                if entry.epoch() == epoch || !entry.is_dirty() {
                    continue;
                }
                if left == 0 || !snapshot.has_room_for_walk() {
                    left = 0;
                    break;
                }
                snapshot.emit(cut.generation, entry, &access);
                entry.set_epoch(epoch);
                left -= 1;
            }
            // A segment with more to send is visited again.
            if left > 0 {
                cursor.position = end;
            }
        } else {
            cursor.database += 1;
            cursor.position = 0;
        }
        snapshot.retired = retired;
        self.snapshot = Some(snapshot);
        Step::More
    }
}
