//! Memory of clients: what one may leave unread or send at once, and what all may take together.
//!
//! Three things bound it:
//! - Redis's limits: `client-query-buffer-limit`, `client-output-buffer-limit`,
//!   `maxmemory-clients`;
//! - where the memory bound holds (I7), **one budget** for the buffers of all clients. Above its
//!   share of it a client's socket is no longer read until it takes its replies; above all of it
//!   the largest client is closed; a single request or reply beyond it is refused;
//! - what is on its way into a large request waits for room like a write, and for its turn
//!   ([`super::large_requests`]).
//!
//! Each connection charges what its buffers hold, in steps, so that small ones cost nothing.

use super::client::{ClientShared, state_flag};
use super::large_requests::LargeRequests;
use crate::config::budget::Budget;
use crate::config::{Config, Memory, OutputLimit};
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Buffers below this many bytes are not charged.
const CHARGED_BYTES_MIN: usize = 16 << 10;
/// A client may always have this much before its socket is left alone.
const SHARE_BYTES_MIN: u64 = 64 << 10;
/// Parts of the budget that one client may fill before its socket is left alone.
const SHARES: u64 = 8;
/// The least that `maxmemory-clients` stands for, so that somebody can change it.
const EVICTION_BYTES_MIN: u64 = 128 << 10;
/// What a reply may take beyond the room that the governor last saw: less than what I7 allows
/// beyond `maxmemory`.
const REPLY_SLACK_BYTES: u64 = 32 << 20;

/// The account of all clients. See the module.
#[derive(Debug, Default)]
pub struct ClientMemory {
    /// What all buffers may take; 0: as much as they like.
    budget_bytes: AtomicU64,
    /// What `maxmemory-clients` allows; 0: as much as they like.
    eviction_bytes: AtomicU64,
    /// What all clients take at most, as far as `maxmemory-clients` is set. Those that are gone
    /// count until the next look at all clients corrects it.
    noted_bytes: AtomicI64,
    /// That is more than `maxmemory-clients` allows: the next flush looks at all clients.
    exceeded: AtomicBool,
    used_bytes: AtomicU64,
    /// Those that are on their way.
    pub large_requests: LargeRequests,
    /// `evicted_clients`
    pub evicted: AtomicU64,
    /// `client_output_buffer_limit_disconnections`
    pub output_closed: AtomicU64,
    /// `client_query_buffer_limit_disconnections`
    pub query_closed: AtomicU64,
    totals: Mutex<Option<(Instant, ClientTotals)>>,
}

/// How old the figures of all clients may be that are shown.
const TOTALS_AGE_MAX: Duration = Duration::from_millis(1);

/// Figures of all clients, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientTotals {
    /// The largest buffer of input.
    pub query_bytes_max: u64,
    /// The most that waits to be sent to one.
    pub out_bytes_max: u64,
    /// Memory of all.
    pub memory_bytes: usize,
}

/// `maxmemory-clients` in bytes; 0: none (`getClientEvictionLimit`).
fn eviction_bytes(clients_memory: i64, maxmemory_bytes: u64) -> u64 {
    let bytes = match clients_memory {
        0 => return 0,
        percent @ ..0 if maxmemory_bytes > 0 => {
            (maxmemory_bytes as f64 * percent.unsigned_abs() as f64 / 100.0) as u64
        }
        ..0 => return 0,
        bytes => bytes.unsigned_abs(),
    };
    bytes.max(EVICTION_BYTES_MIN)
}

impl ClientMemory {
    /// Takes the limits over.
    pub fn configure(&self, config: &Config) {
        let Memory {
            bytes_max,
            tiering,
            strict,
            ..
        } = *config.memory;
        let budget = match tiering && strict {
            true => Budget::new(bytes_max).clients,
            false => 0,
        };
        self.budget_bytes.store(budget, Ordering::Relaxed);
        self.large_requests.set_budget(budget);
        let eviction = eviction_bytes(config.network.clients_memory, bytes_max);
        self.eviction_bytes.store(eviction, Ordering::Relaxed);
    }

    /// What the charged buffers hold.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The budget; `None`: there is none.
    pub fn budget_bytes(&self) -> Option<u64> {
        Some(self.budget_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Bytes that a client may leave unread before its socket is left alone. Less when most of
    /// the budget is used.
    pub fn share_bytes(&self) -> usize {
        match self.budget_bytes() {
            None => usize::MAX,
            Some(budget) if self.used_bytes() > budget / 4 * 3 => SHARE_BYTES_MIN as usize,
            Some(budget) => (budget / SHARES).max(SHARE_BYTES_MIN) as usize,
        }
    }

    /// Bytes that one request may have.
    pub fn request_bytes_max(&self) -> usize {
        let max = |budget| usize::try_from(budget).unwrap_or(usize::MAX);
        self.budget_bytes().map_or(usize::MAX, max)
    }

    /// The refusal of a request or reply of which not even all of the budget would hold.
    pub fn refusal(&self, what: &str) -> String {
        let budget = self.budget_bytes.load(Ordering::Relaxed);
        format!(
            "ERR {what} is beyond what clients may use of 'maxmemory' ({budget} bytes for all of \
             them), raise maxmemory"
        )
    }

    fn change(&self, before: u64, after: u64) -> u64 {
        if after >= before {
            self.used_bytes.fetch_add(after - before, Ordering::Relaxed) + (after - before)
        } else {
            self.used_bytes.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
        }
    }
}

/// How long a reply may become, and what becomes of a longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimit {
    /// Bytes in the client's output buffer.
    pub bytes: usize,
    /// The client is closed (`client-output-buffer-limit`); else it gets an error.
    pub closes: bool,
}

/// The limit of a client's class. MONITOR clients count as normal ones, as in Redis; replicas
/// are the agent's, which keeps nothing for them in memory.
pub fn output_limit<'c>(config: &'c Config, client: &ClientShared) -> &'c OutputLimit {
    let subscribed = client
        .subscriptions
        .iter()
        .any(|count| count.load(Ordering::Relaxed) > 0);
    match subscribed {
        true => &config.network.pubsub_limit,
        false => &config.network.normal_limit,
    }
}

/// Whether `waiting` bytes are more than a client may leave unread (Redis:
/// `checkClientOutputBufferLimits`).
pub fn is_beyond(limit: &OutputLimit, client: &ClientShared, waiting: u64, now_ms: i64) -> bool {
    if limit.hard_bytes > 0 && waiting >= limit.hard_bytes {
        return true;
    }
    let since = &client.over_soft_limit_ms;
    if limit.soft_bytes == 0 || waiting < limit.soft_bytes {
        since.store(0, Ordering::Relaxed);
        return false;
    }
    match since.load(Ordering::Relaxed) {
        0 => {
            since.store(now_ms, Ordering::Relaxed);
            false
        }
        since => now_ms - since > (limit.soft_seconds as i64).saturating_mul(1000),
    }
}

/// The largest of some clients, again and again, until what is left is within `limit`.
fn too_large(mut sizes: Vec<(u64, usize)>, limit: u64) -> Vec<usize> {
    let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
    sizes.sort_unstable();
    let mut closed = Vec::new();
    while total > limit
        && let Some((bytes, index)) = sizes.pop()
    {
        total -= bytes;
        closed.push(index);
    }
    closed
}

impl Server {
    /// A client's buffers hold so much now.
    pub fn charge_client(&self, client: &ClientShared, bytes: usize) {
        let bytes = if bytes < CHARGED_BYTES_MIN { 0 } else { bytes } as u64;
        let before = client.charged_bytes.swap(bytes, Ordering::Relaxed);
        if before == bytes {
            return;
        }
        let memory = &self.client_memory;
        let used = memory.change(before, bytes);
        if bytes > before && memory.budget_bytes().is_some_and(|budget| used > budget) {
            self.limit_clients();
        }
    }

    /// A client's memory may have changed: more than `maxmemory-clients` is seen to by the next
    /// [`Self::limit_exceeding`]. One load where that is not set.
    pub fn note_client(&self, client: &ClientShared) {
        let memory = &self.client_memory;
        let limit = memory.eviction_bytes.load(Ordering::Relaxed);
        if limit == 0 || client.kill.load(Ordering::Relaxed) {
            return;
        }
        let bytes = client.memory_bytes() as u64;
        let before = client.noted_bytes.swap(bytes, Ordering::Relaxed);
        let change = bytes as i64 - before as i64;
        let all = memory.noted_bytes.fetch_add(change, Ordering::Relaxed) + change;
        if change > 0 && all > limit as i64 {
            memory.exceeded.store(true, Ordering::Relaxed);
        }
    }

    /// Closes clients if a client's growth went beyond `maxmemory-clients`. Called without locks.
    pub fn limit_exceeding(&self) {
        let exceeded = &self.client_memory.exceeded;
        if exceeded.load(Ordering::Relaxed) && exceeded.swap(false, Ordering::Relaxed) {
            self.limit_clients();
        }
    }

    /// How long the reply of a command may become whose client has `waiting` bytes unsent.
    pub fn reply_limit(
        &self,
        config: &Config,
        client: &ClientShared,
        waiting: usize,
    ) -> ReplyLimit {
        let hard = output_limit(config, client).hard_bytes;
        let hard = Some(hard)
            .filter(|bytes| *bytes > 0)
            .map_or(usize::MAX, |bytes| {
                usize::try_from(bytes).unwrap_or(usize::MAX)
            });
        let Some(budget) = self.client_memory.budget_bytes() else {
            return ReplyLimit {
                bytes: hard,
                closes: true,
            };
        };
        // While it grows, a buffer may be there twice. But what could be stored can be read.
        let room = (self.memory.room_bytes() + REPLY_SLACK_BYTES).min(budget);
        let room = room.min(REPLY_SLACK_BYTES / 2).max(room / 2);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let bytes = waiting.saturating_add(room);
        ReplyLimit {
            bytes: bytes.min(hard),
            closes: hard <= bytes,
        }
    }

    /// Figures of all clients for INFO and the like, at most a millisecond old.
    pub fn client_totals(&self) -> ClientTotals {
        let mut kept = self.client_memory.totals.lock();
        if let Some((at, totals)) = *kept
            && at.elapsed() <= TOTALS_AGE_MAX
        {
            return totals;
        }
        let mut totals = ClientTotals::default();
        for client in self.clients.read().values() {
            let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
            totals.query_bytes_max = totals.query_bytes_max.max(load(&client.query_bytes));
            totals.out_bytes_max = totals.out_bytes_max.max(load(&client.out_bytes));
            totals.memory_bytes += client.memory_bytes();
        }
        *kept = Some((Instant::now(), totals));
        totals
    }

    /// Closes the largest clients while all together are beyond the budget, or beyond
    /// `maxmemory-clients`.
    pub fn limit_clients(&self) {
        let memory = &self.client_memory;
        let mut closed = Vec::new();
        let clients = self.clients.read();
        let mut live: Vec<&ClientShared> = clients
            .values()
            .map(|client| &**client)
            .filter(|client| !client.kill.load(Ordering::Relaxed))
            .collect();
        // Of those that will need as much, who has sent most goes first.
        live.sort_by_key(|client| client.query_bytes.load(Ordering::Relaxed));
        let mut close = |sizes: Vec<(u64, usize)>, limit: u64, option: &str| {
            for index in too_large(sizes, limit) {
                let Some(client) = live.get(index) else {
                    continue;
                };
                if client.kill.swap(true, Ordering::Relaxed) {
                    continue;
                }
                let bytes = client.memory_bytes();
                let (id, addr) = (client.id, &client.addr);
                tracing::info!(id, addr, bytes, option, "Evicting client");
                memory.evicted.fetch_add(1, Ordering::Relaxed);
                closed.push(client.id);
                self.poke(client);
            }
        };
        if let Some(budget) = memory.budget_bytes() {
            let charged = |client: &ClientShared| client.charged_bytes.load(Ordering::Relaxed);
            let sizes = live.iter().enumerate();
            let sizes = sizes.map(|(index, client)| (charged(client), index));
            close(sizes.collect(), budget, "maxmemory");
        }
        let eviction = memory.eviction_bytes.load(Ordering::Relaxed);
        if eviction > 0 {
            let kept = |client: &ClientShared| {
                client.flags.load(Ordering::Relaxed) & state_flag::NO_EVICT != 0
            };
            let (kept, sizes): (Vec<_>, Vec<_>) = live
                .iter()
                .enumerate()
                .filter(|(_, client)| !client.kill.load(Ordering::Relaxed))
                .map(|(index, client)| {
                    let bytes = client.memory_bytes() as u64;
                    client.noted_bytes.store(bytes, Ordering::Relaxed);
                    (kept(client), (bytes, index))
                })
                .partition(|(kept, _)| *kept);
            let kept: u64 = kept.iter().map(|(_, (bytes, _))| bytes).sum();
            let sizes: Vec<_> = sizes.into_iter().map(|(_, size)| size).collect();
            let all = kept + sizes.iter().map(|(bytes, _)| bytes).sum::<u64>();
            memory.noted_bytes.store(all as i64, Ordering::Relaxed);
            close(sizes, eviction.saturating_sub(kept), "maxmemory-clients");
        }
        drop(live);
        drop(clients);
        // From now on nobody sees them; their owners do the rest.
        if !closed.is_empty() {
            let mut clients = self.clients.write();
            closed.iter().for_each(|id| _ = clients.remove(id));
        }
    }

    /// A client is about to run a command with arguments of so many bytes: they count, and may be
    /// too much.
    pub fn note_arguments(&self, client: &ClientShared, bytes: usize) {
        client.argument_bytes.store(bytes as u64, Ordering::Relaxed);
        if bytes >= CHARGED_BYTES_MIN {
            self.note_client(client);
            self.limit_exceeding();
        }
    }

    /// Looks at `maxmemory-clients` where it is set. Called ten times a second.
    pub fn sweep_clients(&self) {
        if self.client_memory.eviction_bytes.load(Ordering::Relaxed) > 0 {
            self.limit_clients();
        }
    }

    /// Closes a client that leaves more than `waiting` bytes unread than it may.
    pub fn limit_output(&self, config: &Config, client: &ClientShared, waiting: u64) {
        let now_ms = crate::clock::unix_ms();
        if client.kill.load(Ordering::Relaxed)
            || !is_beyond(output_limit(config, client), client, waiting, now_ms)
        {
            return;
        }
        self.close_for_output(client, waiting);
    }

    /// Closes a client because of what it leaves unread.
    pub fn close_for_output(&self, client: &ClientShared, waiting: u64) {
        tracing::warn!(
            id = client.id,
            addr = client.addr,
            waiting_bytes = waiting,
            "Client scheduled to be closed ASAP for overcoming of output buffer limits."
        );
        self.client_memory
            .output_closed
            .fetch_add(1, Ordering::Relaxed);
        client.kill.store(true, Ordering::Relaxed);
        self.poke(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_maxmemory_for_clients_is_that_of_redis() {
        assert_eq!(eviction_bytes(0, 1 << 30), 0);
        assert_eq!(eviction_bytes(-5, 0), 0);
        assert_eq!(eviction_bytes(-50, 1 << 30), 1 << 29);
        assert_eq!(eviction_bytes(1, 0), EVICTION_BYTES_MIN);
        assert_eq!(eviction_bytes(1 << 20, 0), 1 << 20);
    }

    #[test]
    fn the_largest_go_until_the_rest_fits() {
        let sizes = vec![(5, 0), (1, 1), (9, 2), (4, 3)];
        assert_eq!(too_large(sizes.clone(), 19), Vec::<usize>::new());
        assert_eq!(too_large(sizes.clone(), 18), [2]);
        assert_eq!(too_large(sizes.clone(), 5), [2, 0]);
        assert_eq!(too_large(sizes, 0), [2, 0, 3, 1]);
    }

    #[test]
    fn the_soft_limit_counts_only_after_its_seconds_without_a_pause() {
        let limit = OutputLimit {
            hard_bytes: 100,
            soft_bytes: 50,
            soft_seconds: 2,
        };
        let client = ClientShared::default();
        let beyond = |waiting, now_ms| is_beyond(&limit, &client, waiting, now_ms);
        assert!(beyond(100, 1));
        assert!(!beyond(60, 1000) && !beyond(60, 3000) && !beyond(49, 3100));
        assert!(!beyond(60, 3200) && !beyond(60, 5200) && beyond(60, 5201));
    }

    #[test]
    fn a_share_shrinks_when_most_of_the_budget_is_used() {
        let memory = ClientMemory::default();
        assert_eq!(memory.share_bytes(), usize::MAX);
        assert_eq!(memory.request_bytes_max(), usize::MAX);
        memory.budget_bytes.store(80 << 20, Ordering::Relaxed);
        assert_eq!(memory.share_bytes(), 10 << 20);
        memory.change(0, 61 << 20);
        assert_eq!(memory.share_bytes(), SHARE_BYTES_MIN as usize);
        memory.change(61 << 20, 1);
        assert_eq!((memory.used_bytes(), memory.share_bytes()), (1, 10 << 20));
    }
}
