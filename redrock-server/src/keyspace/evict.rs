//! `maxmemory` without tiering: keys are evicted as `maxmemory-policy` says (`evict.c`).
//!
//! Before a command runs, the memory in use is compared with the limit. Memory is measured at
//! least ten times a second and when the estimate since then passes the limit; what is freed is
//! counted key by key. An eviction deletes keys one by one, each propagated by itself, within a time
//! that follows from `maxmemory-eviction-tenacity`; what is left then is done by a thread of its
//! own, and commands run meanwhile, as in Redis.

#[cfg(test)]
mod tests;

use super::db::Db;
use super::hot::HotTable;
use super::hot::entry::Entry;
use super::{ExpireMode, Keyspace};
use crate::command::effect::{Effect, deletion};
use crate::command::table::{Spec, flag};
use crate::command::{CommandError, CommandResult};
use crate::config::{Config, Policy};
use crate::net::client::Client;
use crate::notify::{Class, Notifier as _};
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Candidates that are remembered from one eviction to the next (`EVPOOL_SIZE`).
const POOL_MAX: usize = 16;
/// Keys between looks at the clock.
const KEYS_PER_LOOK: u64 = 16;
/// Between measurements while nothing happens.
const MEASURE_PERIOD: Duration = Duration::from_millis(100);
/// Measurements, some microseconds each, until it is decided that commands are refused.
const LOOKS_AGAIN: u32 = 100;
const OOM_TEXT: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// A key that may be evicted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    /// How little it deserves to stay.
    score: u64,
    db: usize,
    key: Vec<u8>,
}

/// The best candidates of the samples so far, the best last.
#[derive(Debug, Default)]
struct Pool(Vec<Candidate>);

impl Pool {
    fn offer(&mut self, candidate: Candidate) {
        let worst = self.0.first().map_or(0, |worst| worst.score);
        let full = self.0.len() >= POOL_MAX;
        let known = |known: &Candidate| known.key == candidate.key && known.db == candidate.db;
        if (full && candidate.score <= worst) || self.0.iter().any(known) {
            return;
        }
        if full {
            self.0.remove(0);
        }
        let at = self
            .0
            .partition_point(|known| known.score <= candidate.score);
        self.0.insert(at, candidate);
    }
}

/// What commands and the evicting thread share. See the module.
#[derive(Debug, Default)]
pub struct Eviction {
    /// The limit; 0: none, or values are tiered.
    bytes_max: AtomicU64,
    /// Memory in use: the last measurement and what commands may have allocated since.
    used_bytes: AtomicU64,
    /// There is more to evict than one cycle could.
    behind: AtomicBool,
    /// Held by the cycle that runs.
    pool: Mutex<Pool>,
    /// Cycles so far.
    cycles: AtomicU64,
    thread: OnceLock<Thread>,
    /// Since when the limit is exceeded, unix us; 0: it is not.
    exceeded_since_us: AtomicI64,
    exceeded_us: AtomicI64,
}

/// What a cycle came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cycle {
    /// Memory is within the limit, or nothing may be evicted now.
    Done,
    /// There is more to do.
    Behind,
    /// Nothing is left that may go.
    Nothing,
}

impl Eviction {
    /// Takes the limit over.
    pub fn configure(&self, config: &Config) {
        let memory = &config.memory;
        let bytes_max = if memory.tiering { 0 } else { memory.bytes_max };
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) == bytes_max {
            return;
        }
        // Whatever was measured belongs to another limit.
        self.used_bytes.store(u64::MAX / 2, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn measure(&self) -> u64 {
        crate::memory::stats::flush_thread_cache();
        crate::memory::stats::refresh();
        let used = crate::memory::stats::allocated() as u64;
        self.used_bytes.store(used, Ordering::Relaxed);
        used
    }

    /// What background work takes it gives back at once: before commands begin to be refused
    /// it is looked at again, some times.
    fn is_within_soon(&self, bytes_max: u64) -> bool {
        let look = |_| {
            std::thread::yield_now();
            self.measure() <= bytes_max
        };
        self.exceeded_since_us.load(Ordering::Relaxed) == 0 && (0..LOOKS_AGAIN).any(look)
    }

    /// Somebody else has measured: more than was estimated counts at once.
    pub fn note_measured(&self, used: u64) {
        self.used_bytes.fetch_max(used, Ordering::Relaxed);
    }

    /// `total_eviction_exceeded_time` and `current_eviction_exceeded_time`, ms.
    pub fn exceeded_ms(&self) -> (i64, i64) {
        let since = self.exceeded_since_us.load(Ordering::Relaxed);
        let current = if since == 0 {
            0
        } else {
            crate::clock::unix_us() - since
        };
        let total = self.exceeded_us.load(Ordering::Relaxed) + current;
        (total / 1000, current / 1000)
    }

    fn note(&self, cycle: Cycle) {
        self.behind.store(cycle == Cycle::Behind, Ordering::Relaxed);
        let now_us = crate::clock::unix_us();
        if cycle != Cycle::Done {
            let since = &self.exceeded_since_us;
            let _ = since.compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
            return;
        }
        let since = self.exceeded_since_us.swap(0, Ordering::Relaxed);
        if since != 0 {
            self.exceeded_us
                .fetch_add(now_us - since, Ordering::Relaxed);
        }
    }
}

/// How long a cycle may take (`evictionTimeLimitUs`).
fn cycle_limit(tenacity: u32) -> Duration {
    match tenacity {
        0..=10 => Duration::from_micros(50 * u64::from(tenacity)),
        11..=99 => Duration::from_micros((500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64),
        _ => Duration::MAX,
    }
}

fn is_volatile(policy: Policy) -> bool {
    matches!(
        policy,
        Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
    )
}

/// Which entries may go.
#[derive(Debug, Clone, Copy)]
struct Eligible {
    /// Only those with an expiry.
    volatile: bool,
    /// Only values that are not in the tier: nothing else frees memory.
    untiered: bool,
}

impl Eligible {
    fn new(config: &Config) -> Self {
        Self {
            volatile: is_volatile(config.memory.policy),
            untiered: config.memory.tiering,
        }
    }

    fn admits(self, entry: &Entry) -> bool {
        (!self.volatile || entry.has_expire()) && (!self.untiered || entry.is_dirty())
    }
}

/// Segments that one search looks at when most entries may be stubs.
const TIERED_SEGMENTS_MAX: usize = 64;

/// Some entries with their values from a random place of a table on.
fn sample(table: &HotTable, which: Eligible, count: usize) -> Vec<&Entry> {
    let segments = table.segment_count().max(1);
    let start = rand::random_range(0..segments);
    // `maxmemory-samples` may be any number.
    let mut found = Vec::with_capacity(count.min(64));
    let looks = if which.untiered {
        TIERED_SEGMENTS_MAX
    } else {
        segments
    };
    for step in 0..segments.min(looks) {
        let Some(segment) = table.segment((start + step) % segments) else {
            continue;
        };
        // The floor tells without a look at the entries.
        if segment.value_count() == 0 || (which.volatile && segment.expire_floor == i64::MAX) {
            continue;
        }
        let skip = rand::random_range(0..segment.value_count());
        let eligible = |entry: &&Entry| which.admits(entry);
        let (before, behind): (Vec<_>, Vec<_>) = segment
            .values()
            .enumerate()
            .filter(|(_, entry)| eligible(entry))
            .partition(|(at, _)| *at < skip);
        let entries = behind.into_iter().chain(before).map(|(_, entry)| entry);
        found.extend(entries.take(count - found.len()));
        if found.len() == count {
            break;
        }
    }
    found
}

impl Keyspace {
    /// The key that goes next.
    fn eviction_victim(&self, pool: &mut Pool, config: &Config) -> Option<(usize, Vec<u8>)> {
        let policy = config.memory.policy;
        let which = Eligible::new(config);
        let eligible = |index: usize| {
            self.database(index)
                .filter(|database| match which.volatile {
                    true => database.expires > 0,
                    false => !database.table.is_empty(),
                })
        };
        if matches!(policy, Policy::AllKeysRandom | Policy::VolatileRandom) {
            let start = rand::random_range(0..self.database_count().max(1));
            let mut indexes =
                (0..self.database_count()).map(|step| (start + step) % self.database_count());
            return indexes.find_map(|index| {
                let entry = *sample(&eligible(index)?.table, which, 1).first()?;
                Some((index, entry.key().to_vec()))
            });
        }
        loop {
            let mut any = false;
            for db in 0..self.database_count() {
                let Some(database) = eligible(db) else {
                    continue;
                };
                for entry in sample(&database.table, which, config.memory.samples.max(1)) {
                    any = true;
                    let score = match policy {
                        Policy::VolatileTtl => u64::MAX - entry.expire().unwrap_or(0).max(0) as u64,
                        _ => u64::from(self.access.coldness(entry.access())),
                    };
                    let key = entry.key().to_vec();
                    pool.offer(Candidate { score, db, key });
                }
            }
            if !any {
                return None;
            }
            // Those that are gone by now are passed over.
            while let Some(Candidate { db, key, .. }) = pool.0.pop() {
                let entry = eligible(db).and_then(|d| d.table.find_value(d.table.hash(&key), &key));
                if entry.is_some_and(|entry| which.admits(entry)) {
                    return Some((db, key));
                }
            }
        }
    }

    /// Deletes a key; the bytes that become free.
    fn evict(
        &mut self,
        server: &Server,
        effect: &mut Effect,
        (db, key): (usize, &[u8]),
        lazy: bool,
    ) -> u64 {
        let now_ms = crate::clock::unix_ms();
        let mut handle = Db::new(self, server, effect, db, now_ms);
        let hash = handle.hash(key);
        let Some(entry) = handle.remove_entry(hash, key) else {
            return 0;
        };
        let bytes = entry.memory_bytes() as u64;
        handle.effect.before(db, &[deletion(lazy), key]);
        handle.signal_gone(key);
        self.garbage.add(entry);
        self.stats.evicted += 1;
        server.notify(Class::EVICTED, "evicted", key, db);
        server.log.append_effect(effect);
        bytes
    }
}

impl Server {
    /// Counts memory that a command which has begun takes beyond its arguments: it is not refused,
    /// but those after it wait, or evict.
    pub fn charge(&self, bytes: u64) {
        self.memory.charge(bytes);
        if self.eviction.bytes_max.load(Ordering::Relaxed) > 0 {
            self.eviction.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Evicts before a command where memory is short; refuses a command that needs memory when
    /// nothing may go. One addition while there is room.
    pub fn make_room(
        &self,
        config: &Config,
        client: &Client,
        spec: &Spec,
        charge: u64,
    ) -> CommandResult {
        let eviction = &self.eviction;
        let bytes_max = eviction.bytes_max.load(Ordering::Relaxed);
        if bytes_max == 0 {
            return Ok(());
        }
        let queued = client.transaction.as_ref();
        let is_exec = spec.name == "exec";
        let flags = spec.flags | queued.filter(|_| is_exec).map_or(0, |queued| queued.flags);
        let charge = if flags & flag::WRITE != 0 { charge } else { 0 };
        if eviction.used_bytes.fetch_add(charge, Ordering::Relaxed) + charge <= bytes_max {
            return Ok(());
        }
        // What a transaction queues takes memory too; it may always be ended.
        let ends = matches!(spec.name, "exec" | "discard" | "quit" | "reset");
        let needs_memory = flags & flag::DENYOOM != 0 || (queued.is_some() && !ends);
        if config.memory.policy == Policy::NoEviction && !needs_memory {
            return Ok(());
        }
        match self.evict(config) {
            Cycle::Nothing if needs_memory => Err(CommandError::fixed(OOM_TEXT)),
            _ => Ok(()),
        }
    }

    /// Whether more is used than may be, and nothing can go: what scripts ask when they start.
    pub fn is_out_of_memory(&self, config: &Config) -> bool {
        let bytes_max = self.eviction.bytes_max.load(Ordering::Relaxed);
        bytes_max > 0
            && self.eviction.used_bytes.load(Ordering::Relaxed) > bytes_max
            && self.evict(config) == Cycle::Nothing
    }

    /// One cycle (`performEvictions`).
    fn evict(&self, config: &Config) -> Cycle {
        let eviction = &self.eviction;
        let bytes_max = eviction.bytes_max.load(Ordering::Relaxed);
        if bytes_max == 0 || !self.may_evict(config) {
            return Cycle::Done;
        }
        let seen = eviction.cycles.load(Ordering::Acquire);
        // One cycle at a time: two that measured the same excess would each evict for it.
        let mut pool = eviction.pool.lock();
        let used = &eviction.used_bytes;
        if eviction.cycles.load(Ordering::Acquire) != seen
            && used.load(Ordering::Relaxed) <= bytes_max
        {
            return Cycle::Done;
        }
        let used = eviction.measure();
        let cycle = if used <= bytes_max {
            Cycle::Done
        } else if config.memory.policy == Policy::NoEviction {
            Cycle::Nothing
        } else {
            let excess = used - bytes_max;
            match self.evict_bytes(config, &mut pool, excess, u64::MAX, bytes_max) {
                Cycle::Nothing if eviction.is_within_soon(bytes_max) => Cycle::Done,
                cycle => cycle,
            }
        };
        eviction.cycles.fetch_add(1, Ordering::Release);
        drop(pool);
        eviction.note(cycle);
        if cycle == Cycle::Behind {
            eviction.wake();
        }
        cycle
    }

    fn may_evict(&self, config: &Config) -> bool {
        let decides = !self.is_replica() || !config.replication.ignore_memory_limit;
        decides
            && !self.loading.is_active()
            && !self.held.load(Ordering::Acquire)
            && !self.state.pause.is_on()
            && !self.log.refuses_writes()
    }

    /// Where values are tiered and the tier takes none: evicts values of `bytes` bytes, at most
    /// `keys_max`, as far as one cycle goes.
    pub(in crate::keyspace) fn evict_values(&self, config: &Config, bytes: u64, keys_max: u64) {
        if keys_max > 0 && self.may_evict(config) {
            let mut pool = self.eviction.pool.lock();
            self.evict_bytes(config, &mut pool, bytes, keys_max, 0);
            drop(pool);
            self.log.flush();
        }
    }

    /// Evicts `bytes` while the limit of plain eviction stays `bytes_max`.
    fn evict_bytes(
        &self,
        config: &Config,
        pool: &mut Pool,
        bytes: u64,
        keys_max: u64,
        bytes_max: u64,
    ) -> Cycle {
        let limit = cycle_limit(config.memory.tenacity);
        let start = Instant::now();
        let (mut freed, mut keys) = (0, 0);
        let mut effect = Effect::default();
        let mut keyspace = self.keyspace.lock();
        keyspace.access.set_clock(crate::clock::unix_ms());
        let cycle = loop {
            // Under the lock once more: the limit may be another, and who holds clients back
            // relies on nothing changing any more.
            let same = self.eviction.bytes_max.load(Ordering::Relaxed) == bytes_max;
            if freed >= bytes || !same || self.held.load(Ordering::Relaxed) {
                break Cycle::Done;
            }
            // A snapshot takes the old values first; a load or a master decides on its own keys.
            let held_up = keyspace.snapshot.as_ref().is_some_and(|s| !s.has_room())
                || keyspace.expire_mode == ExpireMode::Ignore;
            if held_up || (keys % KEYS_PER_LOOK == 0 && keys > 0 && start.elapsed() > limit) {
                break Cycle::Behind;
            }
            let victim = (keys < keys_max).then(|| keyspace.eviction_victim(pool, config));
            let Some((db, key)) = victim.flatten() else {
                break Cycle::Nothing;
            };
            let lazy = config.memory.lazy_eviction;
            let began = self.latency.begin();
            freed += keyspace.evict(self, &mut effect, (db, &key), lazy);
            self.latency.end("eviction-del", began);
            keys += 1;
        };
        keyspace.serve_blocked(self, &mut effect);
        keyspace.tell_clients(self);
        let garbage = keyspace.garbage.take();
        drop(keyspace);
        self.reclaimer.dispose(garbage);
        let used = &self.eviction.used_bytes;
        used.store(
            used.load(Ordering::Relaxed).saturating_sub(freed),
            Ordering::Relaxed,
        );
        self.latency
            .record("eviction-cycle", start.elapsed().as_millis() as u64);
        cycle
    }
}

/// Starts the thread that measures and that finishes what commands had no time for.
pub fn spawn(server: Arc<Server>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("eviction".into())
        .spawn(move || {
            let _ = server.eviction.thread.set(std::thread::current());
            while !server.is_stopping() {
                if server.eviction.bytes_max.load(Ordering::Relaxed) > 0 {
                    let cycle = server.evict(&server.config());
                    server.log.flush();
                    if cycle == Cycle::Behind {
                        std::thread::park_timeout(Duration::from_micros(100));
                        continue;
                    }
                }
                std::thread::park_timeout(MEASURE_PERIOD);
            }
        })
}
