//! Active expiry: deletes keys, and fields of hashes, whose time has come though nobody asks for
//! them.
//!
//! Each segment knows a time before which nothing in it expires
//! ([`super::hot::segment::Segment::expire_floor`]). A cycle looks at these floors only, and at
//! the keys of a segment whose floor has passed; it holds the lock for a few dozen deletions at a
//! time. Each deletion is propagated by itself, as Redis does. How much time a cycle may take,
//! and how often there is one, follow from `hz` and `active-expire-effort` as in Redis's
//! `activeExpireCycle`. Nothing is deleted while loading or on a replica
//! ([`super::ExpireMode::Delete`] only).

use super::db::Db;
use super::hot::segment::Segment;
use super::{ExpireMode, Keyspace};
use crate::command::effect::Effect;
use crate::server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whether a key with this expiry is gone: behind that millisecond, not yet in it, as in Redis
/// (`keyIsExpired`). A command that gives an expiry deletes already when it is that time
/// (`checkAlreadyExpired`): see [`crate::command::string::expire_time::is_past`].
pub fn has_passed(expire: Option<i64>, now_ms: i64) -> bool {
    expire.is_some_and(|ms| now_ms > ms)
}

/// Deletions per lock hold at most.
const DELETIONS_MAX: usize = 32;
/// Floors looked at per lock hold at most.
const FLOORS_MAX: usize = 4096;

/// What INFO shows and DEBUG switches.
#[derive(Debug)]
pub struct ActiveExpiry {
    /// DEBUG SET-ACTIVE-EXPIRE
    pub enabled: AtomicBool,
    /// Share of keys with an expiry that are past it and still there, in ppm
    /// (`expired_stale_perc` is percent).
    stale_ppm: AtomicU64,
    /// `expired_time_cap_reached_count`
    time_cap_reached: AtomicU64,
    /// Time spent in cycles, microseconds (`expire_cycle_cpu_milliseconds`).
    spent_us: AtomicU64,
}

impl Default for ActiveExpiry {
    fn default() -> Self {
        Self {
            enabled: AtomicBool::new(true),
            stale_ppm: AtomicU64::new(0),
            time_cap_reached: AtomicU64::new(0),
            spent_us: AtomicU64::new(0),
        }
    }
}

impl ActiveExpiry {
    /// `expired_stale_perc`
    pub fn stale_percent(&self) -> f64 {
        self.stale_ppm.load(Ordering::Relaxed) as f64 / 10_000.0
    }

    /// `expired_time_cap_reached_count`
    pub fn time_cap_reached(&self) -> u64 {
        self.time_cap_reached.load(Ordering::Relaxed)
    }

    /// `expire_cycle_cpu_milliseconds`
    pub fn spent_ms(&self) -> u64 {
        self.spent_us.load(Ordering::Relaxed) / 1000
    }

    /// Sets the counters to zero (CONFIG RESETSTAT).
    pub fn reset(&self) {
        for counter in [&self.stale_ppm, &self.time_cap_reached, &self.spent_us] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn note_cycle(&self, spent: Duration, capped: bool, sampled: u64, expired: u64) {
        self.spent_us
            .fetch_add(spent.as_micros() as u64, Ordering::Relaxed);
        self.time_cap_reached
            .fetch_add(u64::from(capped), Ordering::Relaxed);
        // Redis's running average: this cycle counts 5 %.
        let current = (expired * 1_000_000).checked_div(sampled).unwrap_or(0);
        let before = self.stale_ppm.load(Ordering::Relaxed);
        self.stale_ppm
            .store((current * 5 + before * 95) / 100, Ordering::Relaxed);
    }
}

/// Where a walk over all databases' segments is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpireCursor {
    db: usize,
    segment: usize,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpireStep {
    /// Keys with an expiry that were looked at.
    pub sampled: u64,
    /// Keys deleted.
    pub expired: u64,
    /// The walk came to the end of the last database.
    pub wrapped: bool,
}

impl Keyspace {
    /// The next segment whose floor has passed, from the cursor on, and whether the walk went
    /// past the end. The cursor stays on the segment found.
    fn next_due_segment(&self, cursor: &mut ExpireCursor, now_ms: i64) -> (bool, bool) {
        for _ in 0..FLOORS_MAX {
            let Some(database) = self.database(cursor.db) else {
                *cursor = ExpireCursor::default();
                return (false, true);
            };
            match database.table.segment(cursor.segment) {
                Some(segment) if database.expires + database.timed > 0 => {
                    if has_passed(Some(segment.expire_floor), now_ms) {
                        return (true, false);
                    }
                    cursor.segment += 1;
                }
                _ => {
                    *cursor = ExpireCursor {
                        db: cursor.db + 1,
                        segment: 0,
                    }
                }
            }
        }
        (false, false)
    }

    /// Deletes what is due in the next segment that may have something due, at most
    /// [`DELETIONS_MAX`] keys and fields.
    pub fn expire_step(
        &mut self,
        server: &Server,
        effect: &mut Effect,
        cursor: &mut ExpireCursor,
        now_ms: i64,
    ) -> ExpireStep {
        let (found, wrapped) = self.next_due_segment(cursor, now_ms);
        if !found {
            return ExpireStep {
                wrapped,
                ..ExpireStep::default()
            };
        }
        let (mut sampled, mut due) = (0, Vec::new());
        let segment = self.databases[cursor.db].table.segment(cursor.segment);
        for found in segment.into_iter().flat_map(Segment::iter) {
            sampled += u64::from(found.expire().is_some());
            if has_passed(Some(found.due_ms()), now_ms) {
                due.push(found.key().to_vec());
                if due.len() == DELETIONS_MAX {
                    break;
                }
            }
        }
        let (mut expired, mut left) = (0, DELETIONS_MAX);
        for key in due {
            if left == 0 {
                break;
            }
            let began = server.latency.begin();
            let mut db = Db::new(self, server, effect, cursor.db, now_ms);
            db.touch = false;
            if db.expire_if_due(&key) {
                expired += 1;
                left -= 1;
            } else {
                // A large hash that a snapshot is reading waits for the next round.
                left -= db.expire_fields(&key, left).unwrap_or(0).min(left);
            }
            server.latency.end("expire-del", began);
            server.log.append_effect(effect);
        }
        let more = left == 0;
        self.serve_blocked(server, effect);
        self.tell_clients(server);
        if !more {
            if let Some(segment) = self.databases[cursor.db].table.segment_mut(cursor.segment) {
                segment.refresh_expire_floor();
            }
            cursor.segment += 1;
        }
        ExpireStep {
            sampled,
            expired,
            wrapped: false,
        }
    }
}

impl Keyspace {
    /// On a replica: deletes what is due of the keys that its own clients gave an expiry
    /// (`expireSlaveKeys`).
    fn expire_of_replica(
        &mut self,
        server: &Server,
        effect: &mut Effect,
        now_ms: i64,
    ) -> ExpireStep {
        let mut step = ExpireStep {
            wrapped: true,
            ..ExpireStep::default()
        };
        let tracked = std::mem::take(&mut self.replica_expires);
        for (index, key) in tracked {
            let Some(database) = self.databases.get(index) else {
                continue;
            };
            let found = database.table.find(database.table.hash(&key), &key);
            let Some(expire) = found.and_then(|found| found.expire()) else {
                continue;
            };
            step.sampled += 1;
            if step.expired < DELETIONS_MAX as u64 && has_passed(Some(expire), now_ms) {
                Db::new(self, server, effect, index, now_ms).expire_if_due(&key);
                server.log.append_effect(effect);
                step.expired += 1;
            } else {
                self.replica_expires.insert((index, key));
            }
        }
        self.serve_blocked(server, effect);
        self.tell_clients(server);
        step
    }
}

/// Time between two cycles and what one may take.
fn budget(hz: u32, effort: u32) -> (Duration, Duration) {
    let hz = u64::from(hz.clamp(1, 500));
    let percent = 25 + 2 * u64::from(effort.clamp(1, 10) - 1);
    (
        Duration::from_millis(1000 / hz),
        Duration::from_micros(percent * 10_000 / hz),
    )
}

/// One cycle: all that is due, as far as `limit` allows.
pub fn cycle(server: &Server, cursor: &mut ExpireCursor, limit: Duration) {
    let start = Instant::now();
    let mut effect = Effect::default();
    let (mut sampled, mut expired) = (0, 0);
    let mut capped = false;
    // A walk that begins in the middle has been everywhere only when it has wrapped twice.
    let mut wraps_left = if *cursor == ExpireCursor::default() {
        1
    } else {
        2
    };
    while wraps_left > 0 {
        let now_ms = crate::clock::unix_ms();
        let mut keyspace = server.keyspace.lock();
        keyspace.access.set_clock(now_ms);
        if keyspace.expire_mode == ExpireMode::Ignore
            || !server.expiry.enabled.load(Ordering::Relaxed)
            // CLIENT PAUSE: the data set stands still.
            || server.state.pause.is_on()
            // Deletions that can't be logged would pile up, and so would those that the tier has
            // not taken yet.
            || server.log.refuses_writes()
            || server.memory.tier_is_behind()
        {
            return;
        }
        let step = match keyspace.expire_mode {
            ExpireMode::Delete => {
                keyspace.replica_expires.clear();
                keyspace.expire_step(server, &mut effect, cursor, now_ms)
            }
            _ => keyspace.expire_of_replica(server, &mut effect, now_ms),
        };
        let garbage = keyspace.garbage.take();
        drop(keyspace);
        server.reclaimer.dispose(garbage);
        sampled += step.sampled;
        expired += step.expired;
        wraps_left -= usize::from(step.wrapped);
        if start.elapsed() >= limit && wraps_left > 0 {
            capped = true;
            break;
        }
        std::thread::yield_now();
    }
    let took_ms = start.elapsed().as_millis() as u64;
    server.latency.record("expire-cycle", took_ms);
    server
        .expiry
        .note_cycle(start.elapsed(), capped, sampled, expired);
}

/// Starts the thread that runs the cycles; it also keeps the clock of LRU and LFU going.
pub fn spawn(server: Arc<Server>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("expiry".into())
        .spawn(move || {
            let mut cursor = ExpireCursor::default();
            while !server.is_stopping() {
                let config = server.config();
                let (period, limit) = budget(config.hz, config.memory.expire_effort);
                drop(config);
                let start = Instant::now();
                cycle(&server, &mut cursor, limit);
                server.send_broadcasts();
                server.log.flush();
                std::thread::sleep(
                    period
                        .saturating_sub(start.elapsed())
                        .max(Duration::from_millis(1)),
                );
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::keyspace::hot::entry::NewValue;
    use crate::keyspace::position::Positioner;
    use crate::keyspace::tiering::fifo::{TierOp, TierQueue};
    use crate::value::Limits;
    use crate::value::hash::Hash;

    fn server(keys: usize, expire: impl Fn(usize) -> Option<i64>) -> Server {
        let keyspace = Keyspace::new(2, Positioner::new((5, 6)));
        let server = Server::new(Config::default(), keyspace, "0".repeat(40), 1);
        {
            let mut keyspace = server.keyspace.lock();
            let mut effect = Effect::default();
            for n in 0..keys {
                let key = format!("key:{n}");
                let mut db = Db::new(&mut keyspace, &server, &mut effect, n % 2, 0);
                db.restore(key.as_bytes(), NewValue::Int(1), expire(n))
                    .expect("nothing is cold");
            }
        }
        server
    }

    fn left(server: &Server) -> u64 {
        let keyspace = server.keyspace.lock();
        (0..2)
            .filter_map(|db| keyspace.database(db))
            .map(|db| db.keys)
            .sum()
    }

    #[test]
    fn a_cycle_deletes_all_that_is_due_and_nothing_else() {
        let now = crate::clock::unix_ms();
        let server = server(5000, |n| match n % 3 {
            0 => Some(now - 1),
            1 => Some(now + 100_000),
            _ => None,
        });
        let mut cursor = ExpireCursor::default();
        cycle(&server, &mut cursor, Duration::from_secs(60));
        assert_eq!(left(&server), 5000 - 1667);
        assert_eq!(server.keyspace.lock().stats.expired, 1667);
        assert!(server.expiry.stale_percent() > 0.0);
        assert_eq!(server.expiry.time_cap_reached(), 0);
        // With the floors up to date the next cycle looks at no key.
        let mut keyspace = server.keyspace.lock();
        let mut effect = Effect::default();
        let step = keyspace.expire_step(&server, &mut effect, &mut ExpireCursor::default(), now);
        assert_eq!(
            step,
            ExpireStep {
                wrapped: true,
                ..ExpireStep::default()
            }
        );
    }

    #[test]
    fn nothing_is_deleted_while_the_tier_is_far_behind_with_deletions() {
        let server = server(500, |_| Some(5));
        let queue = Arc::new(TierQueue::new(1));
        server.memory.set_tier(queue.clone());
        queue.push(TierOp::DropGeneration(7));
        assert!(server.memory.tier_is_behind());
        let mut cursor = ExpireCursor::default();
        cycle(&server, &mut cursor, Duration::from_secs(60));
        assert_eq!(left(&server), 500);
        queue.set_bytes_max(1 << 20);
        cycle(&server, &mut cursor, Duration::from_secs(60));
        assert_eq!(left(&server), 0);
    }

    #[test]
    fn one_lock_hold_deletes_a_few_dozen_and_each_deletion_is_propagated() {
        let server = server(300, |_| Some(5));
        let mut keyspace = server.keyspace.lock();
        let mut effect = Effect::default();
        let mut cursor = ExpireCursor::default();
        let step = keyspace.expire_step(&server, &mut effect, &mut cursor, 10);
        assert_eq!(step.expired, DELETIONS_MAX as u64);
        assert_eq!(effect.count(), 0, "appended to the log one by one");
    }

    #[test]
    fn fields_are_deleted_a_few_dozen_at_a_time_and_the_hash_with_the_last() {
        let server = server(0, |_| None);
        let mut keyspace = server.keyspace.lock();
        let mut effect = Effect::default();
        {
            let mut db = Db::new(&mut keyspace, &server, &mut effect, 1, 0);
            for (key, times) in [("some", 100..140), ("all", 0..40)] {
                let hash: &mut Hash = db.write_or_create(key.as_bytes()).expect("nothing is cold");
                for n in 0..40_u8 {
                    hash.set(&[n], b"v", &Limits::default());
                    hash.set_time(&[n], Some(times.start + i64::from(n) + 1));
                }
                db.fields_changed(key.as_bytes());
            }
        }
        assert_eq!(keyspace.timed_hashes(), 2);
        let mut cursor = ExpireCursor::default();
        let mut deleted = Vec::new();
        while !keyspace
            .expire_step(&server, &mut effect, &mut cursor, 120)
            .wrapped
        {
            deleted.push(keyspace.stats.expired_fields);
        }
        assert_eq!(deleted.first(), Some(&(DELETIONS_MAX as u64)));
        assert_eq!(deleted.last(), Some(&(40 + 19)));
        assert_eq!(
            (keyspace.timed_hashes(), keyspace.databases[1].keys),
            (1, 1)
        );
        // With the floors up to date the next walk looks at nothing.
        assert!(
            keyspace
                .expire_step(&server, &mut effect, &mut cursor, 120)
                .wrapped
        );
        assert_eq!(
            keyspace.databases[1]
                .table
                .segment(0)
                .map(|s| s.expire_floor),
            Some(120)
        );
    }

    #[test]
    fn nothing_is_deleted_in_the_very_millisecond_of_its_expiry() {
        let server = server(10, |_| Some(5));
        let mut keyspace = server.keyspace.lock();
        let mut step_at = |now_ms| {
            let (mut effect, mut cursor) = (Effect::default(), ExpireCursor::default());
            keyspace
                .expire_step(&server, &mut effect, &mut cursor, now_ms)
                .expired
        };
        assert_eq!((step_at(5), step_at(6)), (0, 5));
    }

    #[test]
    fn nothing_is_deleted_on_a_replica_or_when_switched_off() {
        let server = server(10, |_| Some(5));
        let mut cursor = ExpireCursor::default();
        server.keyspace.lock().expire_mode = ExpireMode::Hide;
        cycle(&server, &mut cursor, Duration::from_secs(1));
        assert_eq!(left(&server), 10);
        server.keyspace.lock().expire_mode = ExpireMode::Delete;
        server.expiry.enabled.store(false, Ordering::Relaxed);
        cycle(&server, &mut cursor, Duration::from_secs(1));
        assert_eq!(left(&server), 10);
        server.expiry.enabled.store(true, Ordering::Relaxed);
        cycle(&server, &mut cursor, Duration::from_secs(1));
        assert_eq!(left(&server), 0);
    }

    #[test]
    fn time_per_cycle_is_that_of_redis() {
        assert_eq!(
            budget(10, 1),
            (Duration::from_millis(100), Duration::from_millis(25))
        );
        assert_eq!(
            budget(100, 10),
            (Duration::from_millis(10), Duration::from_micros(4300))
        );
    }
}
