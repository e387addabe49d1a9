//! What the server tells monitoring: one list of figures, scraped ([`http`]) or pushed
//! ([`statsd`]). Names and meanings are listed in `docs/metrics.md`.

pub mod http;
pub mod statsd;

use crate::keyspace::cold::ColdStore;
use crate::keyspace::tiering::TieringStats;
use crate::keyspace::tiering::fifo::TierQueue;
use crate::keyspace::tiering::health::Health;
use crate::memory::stats;
use crate::server::Server;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a figure behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for CONFIG RESETSTAT.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A figure at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Its name, without prefix; bytes and the like come last.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its value.
    pub value: u64,
}

const fn counter(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure {
        name,
        help,
        kind: Kind::Counter,
        value,
    }
}

const fn gauge(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure {
        name,
        help,
        kind: Kind::Gauge,
        value,
    }
}

/// All of them. Those of the keyspace are left out while a command holds it for long.
pub fn figures(server: &Server) -> Vec<Figure> {
    let mut figures = of_server(server).to_vec();
    figures.extend(of_memory(server));
    let Some(keyspace) = server.keyspace_soon() else {
        return figures;
    };
    let keys = (0..keyspace.database_count())
        .filter_map(|index| keyspace.database(index))
        .map(|database| database.keys)
        .sum();
    let counts = &keyspace.stats;
    figures.extend([
        gauge("keys", "Keys, in memory or on disk.", keys),
        gauge(
            "blocked_clients",
            "Clients in blocking commands.",
            keyspace.blocked.len() as u64,
        ),
        counter("keyspace_hits", "Lookups that found a key.", counts.hits),
        counter("keyspace_misses", "Lookups that did not.", counts.misses),
        counter("expired_keys", "Keys deleted when due.", counts.expired),
        counter("evicted_keys", "Keys evicted.", counts.evicted),
    ]);
    let tier = keyspace.tiering.as_ref().map(|tiering| {
        (
            tiering.stats.clone(),
            tiering.cold.clone(),
            tiering.queue.clone(),
        )
    });
    drop(keyspace);
    if let Some((moved, cold, queue)) = tier {
        figures.extend(of_moves(&moved));
        figures.extend(of_tier(&cold, &queue));
        figures.extend(of_health(&queue.health));
    }
    figures
}

fn of_moves(moved: &TieringStats) -> [Figure; 7] {
    [
        counter(
            "tier_spilled_values",
            "Values queued for disk.",
            moved.spilled,
        ),
        counter(
            "tier_dropped_values",
            "Clean values dropped.",
            moved.dropped,
        ),
        counter("tier_dropped_stubs", "Stubs dropped.", moved.stubs_dropped),
        counter("tier_loaded_values", "Values loaded.", moved.loaded),
        counter(
            "tier_lent_values",
            "Loaded values that did not stay.",
            moved.lent,
        ),
        counter("tier_waits", "Waits of commands for a load.", moved.waits),
        counter(
            "tier_blocking_reads",
            "Reads made under the locks.",
            moved.blocking_reads,
        ),
    ]
}

fn of_tier(cold: &ColdStore, queue: &TierQueue) -> [Figure; 7] {
    let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let counts = &cold.stats;
    [
        gauge(
            "tier_queue_bytes",
            "On the way to disk.",
            queue.bytes() as u64,
        ),
        gauge(
            "tier_cache_bytes",
            "Cache in use.",
            cold.cache_bytes() as u64,
        ),
        gauge(
            "tier_disk_bytes",
            "Size of the tier's files.",
            cold.disk_bytes(),
        ),
        counter(
            "tier_disk_reads",
            "Keys looked up on disk.",
            load(&counts.reads),
        ),
        counter("tier_disk_puts", "Records written.", load(&counts.puts)),
        counter(
            "tier_disk_deletes",
            "Records deleted.",
            load(&counts.deletes),
        ),
        counter(
            "tier_disk_put_bytes",
            "Bytes of records written, before compression.",
            load(&counts.put_bytes),
        ),
    ]
}

fn of_health(health: &Health) -> [Figure; 6] {
    let state = health.report().state.number();
    let [free, low, probes, changes, read_errors] = health.figures().map(|(_, value)| value);
    [
        gauge(
            "tier_state",
            "0 healthy, 1 damaged, 2 low space, 3 failing.",
            state,
        ),
        gauge("tier_disk_free_bytes", "Free on the tier's disk.", free),
        gauge(
            "tier_disk_low_bytes",
            "With less free than that no more values go there.",
            low,
        ),
        counter(
            "tier_probes",
            "Writes to see whether the tier is back.",
            probes,
        ),
        counter("tier_state_changes", "Changes of its state.", changes),
        counter(
            "tier_read_errors",
            "Values that could not be read.",
            read_errors,
        ),
    ]
}

fn of_server(server: &Server) -> [Figure; 10] {
    let counts = &server.stats;
    let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    let uptime_ms = crate::clock::unix_ms() - server.started_ms;
    [
        gauge(
            "uptime_seconds",
            "Since the start.",
            u64::try_from(uptime_ms / 1000).unwrap_or(0),
        ),
        gauge(
            "connected_clients",
            "Clients.",
            server.clients.read().len() as u64,
        ),
        gauge(
            "loading",
            "1 while data are loaded.",
            server.loading.is_active().into(),
        ),
        gauge("replica", "1 on a replica.", server.is_replica().into()),
        counter(
            "connections",
            "Connections taken.",
            load(&counts.connections),
        ),
        counter(
            "connections_rejected",
            "Connections refused.",
            load(&counts.rejected),
        ),
        counter("commands", "Commands run.", counts.commands()),
        counter("error_replies", "Errors answered.", load(&counts.errors)),
        counter(
            "net_input_bytes",
            "Bytes from clients.",
            counts.input_bytes(),
        ),
        counter(
            "net_output_bytes",
            "Bytes to clients.",
            counts.output_bytes(),
        ),
    ]
}

fn of_memory(server: &Server) -> [Figure; 4] {
    stats::refresh_shown();
    [
        gauge("memory_used_bytes", "Allocated.", stats::allocated() as u64),
        gauge(
            "memory_resident_bytes",
            "Physical memory of the server.",
            stats::process_resident() as u64,
        ),
        gauge(
            "memory_companions_bytes",
            "Physical memory of its companions.",
            server.companion_bytes(),
        ),
        gauge(
            "memory_max_bytes",
            "maxmemory; 0: none.",
            server.config().memory.bytes_max,
        ),
    ]
}
