//! The section Memory, and the figures behind it that MEMORY STATS and DOCTOR share.

use super::{Facts, Section};
use crate::keyspace::Keyspace;
use crate::memory::stats;
use crate::server::Server;
use std::sync::atomic::Ordering;

/// Bytes as Redis shows them to people (`bytesToHuman`).
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u64, char); 5] = [
        (1 << 50, 'P'),
        (1 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.2}{letter}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

/// One database's tables.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseFacts {
    /// Its number.
    pub index: usize,
    /// Keys, in memory or not.
    pub keys: u64,
    /// Bytes of directory and segments.
    pub table_bytes: usize,
}

/// Where the memory is, bytes (Redis's `redisMemOverhead`).
#[derive(Debug, Clone)]
pub struct MemoryFacts {
    /// Asked of the allocator and not freed.
    pub used: usize,
    /// The most that was.
    pub peak: usize,
    /// In use when the server had started.
    pub startup: usize,
    /// Pages with allocations.
    pub active: usize,
    /// Physical memory of the allocator.
    pub resident: usize,
    /// Physical memory of the process.
    pub process: usize,
    /// Buffers of clients.
    pub clients: usize,
    /// Not data: tables, buffers, what was there at the start.
    pub overhead: usize,
    /// Keys of all databases.
    pub keys: u64,
    /// Databases that are not empty.
    pub databases: Vec<DatabaseFacts>,
}

fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

impl MemoryFacts {
    /// Measures.
    pub fn new(server: &Server, keyspace: &Keyspace) -> Self {
        stats::refresh_shown();
        let used = stats::allocated();
        server.eviction.note_measured(used as u64);
        let peak = server
            .stats
            .memory_peak
            .fetch_max(used, Ordering::Relaxed)
            .max(used);
        let startup = server.stats.memory_startup.load(Ordering::Relaxed);
        let databases: Vec<_> = (0..keyspace.database_count())
            .filter_map(|index| Some((index, keyspace.database(index)?)))
            .filter(|(_, database)| database.keys > 0)
            .map(|(index, database)| DatabaseFacts {
                index,
                keys: database.keys,
                table_bytes: database.table.table_bytes(),
            })
            .collect();
        let clients = server.client_totals().memory_bytes;
        let tables: usize = databases.iter().map(|database| database.table_bytes).sum();
        Self {
            used,
            peak,
            startup,
            active: stats::active(),
            resident: stats::resident(),
            process: stats::process_resident(),
            clients,
            overhead: startup + tables + clients,
            keys: databases.iter().map(|database| database.keys).sum(),
            databases,
        }
    }

    /// Bytes of data.
    pub fn dataset(&self) -> usize {
        self.used.saturating_sub(self.overhead)
    }

    /// Its share of what came after the start, percent.
    pub fn dataset_percent(&self) -> f64 {
        ratio(
            self.dataset(),
            self.used.saturating_sub(self.startup).max(1),
        ) * 100.0
    }

    /// The present share of the peak, percent.
    pub fn peak_percent(&self) -> f64 {
        ratio(self.used, self.peak) * 100.0
    }

    /// Bytes for each key.
    pub fn bytes_per_key(&self) -> u64 {
        (self.used.saturating_sub(self.startup) as u64)
            .checked_div(self.keys)
            .unwrap_or(0)
    }

    /// Ratio and difference of two figures, as the four kinds of fragmentation are shown.
    pub fn excess(a: usize, b: usize) -> (f64, i64) {
        (ratio(a, b), a as i64 - b as i64)
    }
}

/// The name of the allocator.
pub(crate) const ALLOCATOR: &str = "jemalloc-5.3.1";

pub(super) fn memory(facts: &Facts<'_>, out: &mut Section<'_>) {
    let m = MemoryFacts::new(facts.server, facts.keyspace);
    let human = |bytes: usize| human_bytes(bytes as u64);
    let system = stats::system_total();
    out.field("used_memory", m.used);
    out.field("used_memory_human", human(m.used));
    out.field("used_memory_rss", m.process);
    out.field("used_memory_rss_human", human(m.process));
    out.field("used_memory_peak", m.peak);
    out.field("used_memory_peak_human", human(m.peak));
    out.field(
        "used_memory_peak_perc",
        format_args!("{:.2}%", m.peak_percent()),
    );
    out.field("used_memory_overhead", m.overhead);
    out.field("used_memory_startup", m.startup);
    out.field("used_memory_dataset", m.dataset());
    out.field(
        "used_memory_dataset_perc",
        format_args!("{:.2}%", m.dataset_percent()),
    );
    out.field("allocator_allocated", m.used);
    out.field("allocator_active", m.active);
    out.field("allocator_resident", m.resident);
    out.field("total_system_memory", system);
    out.field("total_system_memory_human", human(system));
    scripts(facts, out);
    out.field("maxmemory", facts.config.memory.bytes_max);
    out.field(
        "maxmemory_human",
        human_bytes(facts.config.memory.bytes_max),
    );
    out.field("maxmemory_policy", facts.policy());
    for (name, (ratio, bytes)) in [
        ("allocator_frag", MemoryFacts::excess(m.active, m.used)),
        ("allocator_rss", MemoryFacts::excess(m.resident, m.active)),
        ("rss_overhead", MemoryFacts::excess(m.process, m.resident)),
        ("mem_fragmentation", MemoryFacts::excess(m.process, m.used)),
    ] {
        out.field(format_args!("{name}_ratio"), format_args!("{ratio:.2}"));
        out.field(format_args!("{name}_bytes"), bytes);
    }
    out.field("mem_not_counted_for_evict", 0);
    out.all(
        &["mem_replication_backlog", "mem_total_replication_buffers"],
        0,
    );
    out.field("mem_clients_slaves", 0);
    out.field("mem_clients_normal", m.clients);
    out.field("mem_cluster_links", 0);
    out.field("mem_aof_buffer", facts.server.log.unwritten_bytes());
    out.field("mem_allocator", ALLOCATOR);
    out.field("active_defrag_running", 0);
    let reclaimer = &facts.server.reclaimer;
    out.field("lazyfree_pending_objects", reclaimer.pending_objects());
    out.field("lazyfreed_objects", reclaimer.freed_objects());
}

/// Lua states, scripts and functions.
fn scripts(facts: &Facts<'_>, out: &mut Section<'_>) {
    let human = |bytes: usize| human_bytes(bytes as u64);
    let scripting = &facts.server.scripting;
    let [vm_eval, vm_functions] = &scripting.state_bytes;
    let (vm_eval, vm_functions) = (
        vm_eval.load(Ordering::Relaxed),
        vm_functions.load(Ordering::Relaxed),
    );
    let scripts = scripting.cache.memory_bytes();
    out.all(&["used_memory_lua", "used_memory_vm_eval"], vm_eval);
    out.field("used_memory_lua_human", human(vm_eval));
    out.field("used_memory_scripts_eval", scripts);
    out.field("number_of_cached_scripts", scripting.cache.len());
    let (functions, libraries, library_bytes) = {
        let all = scripting.libraries.read();
        (all.function_count(), all.len(), all.memory_bytes())
    };
    out.field("number_of_functions", functions);
    out.field("number_of_libraries", libraries);
    out.field("used_memory_vm_functions", vm_functions);
    out.field("used_memory_vm_total", vm_eval + vm_functions);
    out.field("used_memory_vm_total_human", human(vm_eval + vm_functions));
    out.field("used_memory_functions", library_bytes);
    out.field("used_memory_scripts", scripts + library_bytes);
    out.field("used_memory_scripts_human", human(scripts + library_bytes));
}

impl Facts<'_> {
    fn policy(&self) -> String {
        let settings = &self.config.settings;
        let shown = settings
            .matching(&[b"maxmemory-policy"])
            .pop()
            .map(|(_, value)| value);
        String::from_utf8_lossy(&shown.unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_redis_shows_them() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_572_864, "1.50M"),
            (3 << 30, "3.00G"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
