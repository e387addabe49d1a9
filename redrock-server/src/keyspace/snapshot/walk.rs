//! The walker: sends the dirty entries of a cut in position order, a few at a time.

use super::ring::{Item, Ring};
use crate::keyspace::Keyspace;
use crate::keyspace::locks::KeyspaceLock;
use crate::keyspace::position::POSITION_END;
use std::time::Duration;

/// Entries sent in one lock hold.
const ENTRIES_PER_HOLD: usize = 48;

/// Where the walk is.
#[derive(Debug, Default)]
pub struct Walk {
    /// Index into the cut's databases.
    database: usize,
    position: u64,
}

/// Walks the whole cut. False if the consumer is gone or took nothing for `stall`.
pub fn walk(keyspace: &KeyspaceLock, ring: &Ring, stall: Duration) -> bool {
    let mut cursor = Walk::default();
    loop {
        if !ring.wait_for_room(stall) {
            return false;
        }
        let mut locked = keyspace.lock();
        match locked.walk_step(&mut cursor) {
            Step::More => {}
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
                if left == 0 || !snapshot.has_room() {
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
