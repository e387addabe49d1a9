//! The thread that looks after a tier: what it sees makes the state, and it tries again what failed
//! (ADR 13).

use super::{Seen, State, low_bytes, next};
use crate::keyspace::cold::listener::NoRoom;
use crate::keyspace::cold::warm;
use crate::keyspace::cold::{ColdStore, Space};
use crate::keyspace::tiering::fifo::TierQueue;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(200);
/// Between two probes: the first, and twice as long each time up to the second.
const PROBE_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The same between two compactions that find no room.
const ROOM_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(16));
/// After so long a compaction is tried even if there is less free than it wanted: it may want less now.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two reads of what could not be read.
const READ_PAUSE: Duration = Duration::from_secs(5);

/// Pauses that grow, between tries of one thing.
#[derive(Debug)]
struct Backoff {
    bounds: (Duration, Duration),
    pause: Duration,
    last: Option<Instant>,
}

impl Backoff {
    fn new(bounds: (Duration, Duration)) -> Self {
        Self {
            bounds,
            pause: Duration::ZERO,
            last: None,
        }
    }

    /// Whether the pause since the last try is over.
    fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= self.pause)
    }

    /// It has been tried.
    fn note(&mut self) {
        self.pause = (self.pause * 2).clamp(self.bounds.0, self.bounds.1);
        self.last = Some(Instant::now());
    }

    fn waited(&self) -> Duration {
        self.last.map_or(Duration::MAX, |last| last.elapsed())
    }

    /// All is well: the next trouble begins anew.
    fn reset(&mut self) {
        self.pause = Duration::ZERO;
    }
}

/// Looks after one tier.
pub struct Watch {
    store: Arc<ColdStore>,
    queue: Arc<TierQueue>,
    probes: Backoff,
    /// Whether compaction is on.
    compacts: bool,
    /// It is off because there was no room for it.
    waits_for_room: bool,
    /// Compactions without room that have been seen.
    without_room: u64,
    rooms: Backoff,
    reads: Backoff,
}

impl Watch {
    /// Nothing has been seen yet.
    pub fn new(store: Arc<ColdStore>, queue: Arc<TierQueue>) -> Self {
        Self {
            store,
            queue,
            probes: Backoff::new(PROBE_PAUSES),
            compacts: true,
            waits_for_room: false,
            without_room: 0,
            rooms: Backoff::new(ROOM_PAUSES),
            reads: Backoff::new((READ_PAUSE, READ_PAUSE)),
        }
    }

    /// One look, and what is due.
    pub fn look(&mut self) {
        self.probe();
        let space = self.store.space();
        self.follow_room(space.map_or(0, |space| space.free));
        self.follow_compaction();
        self.read_again();
        let health = &self.queue.health;
        let write_error = self
            .background_error()
            .or_else(|| health.write_error.lock().clone());
        let background = self.store.background();
        let damage = background.damage().or_else(|| self.unreadable());
        let no_room = background.no_room();
        let total = space.map_or(0, |space| space.total);
        let seen = Seen {
            free_bytes: space.map(|space| space.free),
            low_bytes: low_bytes(total, self.store.memtable_bytes()),
            write_fails: write_error.is_some(),
            no_room: no_room.is_some(),
            damaged: damage.is_some(),
        };
        let coming = next(health.report().state, &seen);
        if coming != State::Healthy && self.give_up_checkpoint() && coming == State::LowSpace {
            // The next look tells whether that was enough.
            return;
        }
        health.enter(&seen, |state| match state {
            State::Healthy => String::new(),
            State::Damaged => damage.unwrap_or_default(),
            State::LowSpace => low_space_text(space, no_room.as_ref()),
            State::Failing => write_error.unwrap_or_default(),
        });
    }

    /// What is kept for a warm start is the first to go where there is no room; and it shares files
    /// with the tier, so that damage is likely to be in both. True if there was any.
    fn give_up_checkpoint(&self) -> bool {
        match warm::discard(self.store.path()) {
            Ok(was_there) => {
                if was_there {
                    tracing::info!("the checkpoint kept for a warm start is given up");
                }
                was_there
            }
            Err(error) => {
                tracing::debug!(%error, "the checkpoint kept for a warm start stays");
                false
            }
        }
    }

    fn background_error(&self) -> Option<String> {
        let background = self.store.background();
        background
            .flush_trouble()
            .or_else(|| background.stop_trouble())
    }

    /// Sees whether the tier takes writes again, and has it try what failed.
    fn probe(&mut self) {
        if self.background_error().is_none() {
            return self.probes.reset();
        }
        if !self.probes.is_due() {
            return;
        }
        self.probes.note();
        self.queue.health.probes.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.store.probe() {
            tracing::debug!(%error, "probe of the tier failed");
        }
    }

    /// A compaction that finds no room writes all that there is and gives it back, and RocksDB would
    /// have it do so each second. So it is off until it is worth another try.
    fn follow_room(&mut self, free_bytes: u64) {
        let background = self.store.background();
        let Some(NoRoom { wanted_bytes, .. }) = background.no_room() else {
            self.waits_for_room = false;
            return self.rooms.reset();
        };
        let without_room = background.without_room();
        if without_room != self.without_room {
            self.without_room = without_room;
            self.waits_for_room = true;
            self.rooms.note();
        } else if self.waits_for_room {
            let hopeful = free_bytes >= wanted_bytes || self.rooms.waited() >= ROOM_WAIT_MAX;
            self.waits_for_room = !(hopeful && self.rooms.is_due());
        } else if self.compacts && !self.store.needs_compaction() {
            // What was to be compacted is gone.
            background.forget_no_room();
        }
    }

    /// Nor is a damaged file compacted again and again, until PURGEROCKSDB could read it.
    fn follow_compaction(&mut self) {
        let on = !self.store.background().is_corrupt() && !self.waits_for_room;
        if on == self.compacts {
            return;
        }
        match self.store.set_compaction(on) {
            Ok(()) => self.compacts = on,
            Err(error) => tracing::debug!(%error, "the tier's compaction could not be switched"),
        }
    }

    /// Why a value can't be read.
    fn unreadable(&self) -> Option<String> {
        let unreadable = self.queue.health.unreadable.lock();
        unreadable.last().map(|(_, text)| text.clone())
    }

    /// Reads what could not be read again: it may be better, or not be there any more.
    fn read_again(&mut self) {
        let health = &self.queue.health;
        let keys: Vec<_> = health.unreadable.lock().clone();
        if keys.is_empty() || !self.reads.is_due() {
            return;
        }
        self.reads.note();
        for (key, _) in keys {
            if self.store.get(&key).is_ok() {
                health.unreadable.lock().retain(|(noted, _)| *noted != key);
            }
        }
    }
}

fn low_space_text(space: Option<Space>, no_room: Option<&NoRoom>) -> String {
    let free = space.map_or(0, |space| space.free);
    let compaction = no_room.map_or(String::new(), |room| {
        format!(
            ", a compaction of {} bytes finds no room",
            room.wanted_bytes
        )
    });
    format!(
        "the tier's disk is full ({free} bytes are free{compaction}): values can't leave memory"
    )
}

/// Starts the thread that looks.
pub fn spawn(
    server: Arc<Server>,
    mut watch: Watch,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("tier-health".into())
        .spawn(move || {
            while !server.is_stopping() {
                watch.look();
                std::thread::park_timeout(PAUSE);
            }
        })
}
