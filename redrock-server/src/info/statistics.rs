//! The sections Stats, Commandstats, Errorstats, Latencystats, Keyspace and Debug.

use super::{Facts, Section};
use crate::acl::log::Reason;
use crate::command::registry;
use crate::keyspace::Database;
use crate::pubsub::Kind;
use crate::stats::Metric;
use crate::value::number::format_double;
use std::sync::atomic::Ordering;

/// The last one is ours.
const SYNCS: [&str; 4] = [
    "sync_full",
    "sync_partial_ok",
    "sync_partial_err",
    "sync_full_resumed",
];

pub(super) fn stats(facts: &Facts<'_>, out: &mut Section<'_>) {
    let stats = &facts.server.stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (syncs, replication_bytes) = {
        let replication = facts.server.state.replication.lock();
        (replication.syncs, replication.net_bytes)
    };
    let [replication_in, replication_out] = replication_bytes;
    let rates = {
        let sampler = stats.sampler.lock();
        [Metric::Commands, Metric::Input, Metric::Output].map(|m| sampler.per_second(m))
    };
    let [ops, input, output] = rates;
    let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    out.field("total_connections_received", load(&stats.connections));
    out.field("total_commands_processed", stats.commands());
    out.field("instantaneous_ops_per_sec", ops);
    out.field(
        "total_net_input_bytes",
        stats.input_bytes() + replication_in,
    );
    out.field(
        "total_net_output_bytes",
        stats.output_bytes() + replication_out,
    );
    out.field("total_net_repl_input_bytes", replication_in);
    out.field("total_net_repl_output_bytes", replication_out);
    out.field("instantaneous_input_kbps", kib(input));
    out.field("instantaneous_output_kbps", kib(output));
    out.all(
        &[
            "instantaneous_input_repl_kbps",
            "instantaneous_output_repl_kbps",
        ],
        "0.00",
    );
    out.field("rejected_connections", load(&stats.rejected));
    for (name, count) in SYNCS.iter().zip(syncs) {
        out.field(name, count);
    }
    let keyspace = &facts.keyspace.stats;
    expired(facts, out);
    out.field("evicted_keys", keyspace.evicted);
    client_limits(facts, out);
    let (total, current) = facts.server.eviction.exceeded_ms();
    out.field("total_eviction_exceeded_time", total);
    out.field("current_eviction_exceeded_time", current);
    out.field("keyspace_hits", keyspace.hits);
    out.field("keyspace_misses", keyspace.misses);
    facts.pubsub(out);
    cuts(facts, out);
    out.field(
        "migrate_cached_sockets",
        facts.server.migrations.pool.count(),
    );
    out.field(
        "slave_expires_tracked_keys",
        facts.keyspace.replica_expires.len(),
    );
    out.all(&["active_defrag_hits", "active_defrag_misses"], 0);
    out.all(&["active_defrag_key_hits", "active_defrag_key_misses"], 0);
    out.all(
        &["total_active_defrag_time", "current_active_defrag_time"],
        0,
    );
    let tracking = facts.keyspace.tracking.totals();
    out.field("tracking_total_keys", tracking.keys);
    out.field("tracking_total_items", tracking.items);
    out.field("tracking_total_prefixes", tracking.prefixes);
    out.field("unexpected_error_replies", 0);
    out.field("total_error_replies", load(&stats.errors));
    out.field("dump_payload_sanitizations", 0);
    out.field("total_reads_processed", stats.reads());
    out.field("total_writes_processed", stats.writes());
    out.all(
        &[
            "io_threaded_reads_processed",
            "io_threaded_writes_processed",
        ],
        0,
    );
    out.all(&["reply_buffer_shrinks", "reply_buffer_expands"], 0);
    event_loop(facts, out);
    for (name, reason) in [
        ("acl_access_denied_auth", Reason::Auth),
        ("acl_access_denied_cmd", Reason::Command),
        ("acl_access_denied_key", Reason::Key),
        ("acl_access_denied_channel", Reason::Channel),
    ] {
        out.field(name, load(stats.denied(reason)));
    }
}

/// Nothing is forked: what takes its place is the cut of a snapshot.
fn cuts(facts: &Facts<'_>, out: &mut Section<'_>) {
    let stats = &facts.server.stats;
    out.field("latest_fork_usec", stats.cut_usec.load(Ordering::Relaxed));
    out.field("total_forks", stats.cuts.load(Ordering::Relaxed));
}

/// What has expired, and how active expiry keeps up.
fn expired(facts: &Facts<'_>, out: &mut Section<'_>) {
    let (keyspace, expiry) = (&facts.keyspace.stats, &facts.server.expiry);
    out.field("expired_keys", keyspace.expired);
    out.field("expired_subkeys", keyspace.expired_fields);
    out.field(
        "expired_stale_perc",
        format_args!("{:.2}", expiry.stale_percent()),
    );
    out.field("expired_time_cap_reached_count", expiry.time_cap_reached());
    out.field("expire_cycle_cpu_milliseconds", expiry.spent_ms());
}

/// What the threads did between two sleeps; Redis has one event loop.
fn event_loop(facts: &Facts<'_>, out: &mut Section<'_>) {
    let stats = &facts.server.stats;
    let [rate, usec] = {
        let sampler = stats.sampler.lock();
        [Metric::Cycles, Metric::CycleUsec].map(|metric| sampler.per_second(metric))
    };
    let cycles = stats.cycles();
    out.field("eventloop_cycles", cycles.count);
    out.field("eventloop_duration_sum", cycles.usec);
    out.field("eventloop_duration_cmd_sum", stats.command_usec());
    out.field("instantaneous_eventloop_cycles_per_sec", rate);
    out.field(
        "instantaneous_eventloop_duration_usec",
        usec.checked_div(rate).unwrap_or(0),
    );
}

impl Facts<'_> {
    fn pubsub(&self, out: &mut Section<'_>) {
        let pubsub = &self.server.pubsub;
        out.field("pubsub_channels", pubsub.len(Kind::Channel));
        out.field("pubsub_patterns", pubsub.len(Kind::Pattern));
        out.field("pubsubshard_channels", pubsub.len(Kind::Shard));
    }
}

pub(super) fn commands(facts: &Facts<'_>, out: &mut Section<'_>) {
    for spec in registry::numbered() {
        let stats = facts.server.stats.command(spec);
        if stats.calls == 0 && stats.rejected == 0 && stats.failed == 0 {
            continue;
        }
        let per_call = if stats.calls == 0 {
            0.0
        } else {
            stats.usec as f64 / stats.calls as f64
        };
        out.field(
            format_args!("cmdstat_{}", spec.name),
            format_args!(
                "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                stats.calls, stats.usec, stats.rejected, stats.failed
            ),
        );
    }
}

pub(super) fn errors(facts: &Facts<'_>, out: &mut Section<'_>) {
    for (code, count) in facts.server.stats.error_codes() {
        let code = code.replace(['#', ':', '\n', '\r'], "_");
        out.field(
            format_args!("errorstat_{code}"),
            format_args!("count={count}"),
        );
    }
}

pub(super) fn latencies(facts: &Facts<'_>, out: &mut Section<'_>) {
    let options = &facts.config.observation;
    if !options.latency_tracking {
        return;
    }
    for spec in registry::numbered() {
        let Some(histogram) = facts.server.stats.histogram(spec) else {
            continue;
        };
        let percentiles: Vec<String> = (options.latency_percentiles.iter())
            .map(|&percent| {
                let micros = histogram.percentile(percent) as f64 / 1000.0;
                format!("p{}={micros:.3}", format_double(percent))
            })
            .collect();
        let name = format_args!("latency_percentiles_usec_{}", spec.name);
        out.field(name, percentiles.join(","));
    }
}

/// The mean time to live in ms of a sample of the keys in memory that have an expiry.
fn average_ttl_ms(database: &Database, now_ms: i64) -> i64 {
    const SEGMENTS_MAX: usize = 8;
    if database.expires == 0 {
        return 0;
    }
    let (mut sum, mut count) = (0i64, 0i64);
    let segments = (0..database.table.segment_count()).filter_map(|i| database.table.segment(i));
    for segment in segments
        .filter(|segment| segment.expire_floor != i64::MAX)
        .take(SEGMENTS_MAX)
    {
        for expire in segment.iter().filter_map(|entry| entry.expire()) {
            sum = sum.saturating_add(expire.saturating_sub(now_ms).max(0));
            count += 1;
        }
    }
    sum.checked_div(count).unwrap_or(0)
}

pub(super) fn keyspace(facts: &Facts<'_>, out: &mut Section<'_>) {
    for index in 0..facts.keyspace.database_count() {
        let Some(database) = facts.keyspace.database(index) else {
            continue;
        };
        if database.keys == 0 {
            continue;
        }
        // As Redis 7.4 from where fields may expire on; some parse the line of 7.2 to its end.
        let subexpiry = match facts.keyspace.field_expiry.is_allowed() || database.timed > 0 {
            true => format!(",subexpiry={}", database.timed),
            false => String::new(),
        };
        out.field(
            format_args!("db{index}"),
            format_args!(
                "keys={},expires={},avg_ttl={}{subexpiry}",
                database.keys,
                database.expires,
                average_ttl_ms(database, facts.now_us / 1000)
            ),
        );
    }
}

pub(super) fn debug(facts: &Facts<'_>, out: &mut Section<'_>) {
    let cycles = facts.server.stats.cycles();
    out.field("eventloop_duration_aof_sum", cycles.log_usec);
    out.field("eventloop_duration_cron_sum", cycles.periodic_usec);
    out.field("eventloop_duration_max", cycles.usec_max);
    out.field("eventloop_cmd_per_cycle_max", cycles.commands_max);
}

/// Clients that were closed for what they took.
fn client_limits(facts: &Facts<'_>, out: &mut Section<'_>) {
    let clients = &facts.server.client_memory;
    for (name, count) in [
        ("evicted_clients", &clients.evicted),
        (
            "client_query_buffer_limit_disconnections",
            &clients.query_closed,
        ),
        (
            "client_output_buffer_limit_disconnections",
            &clients.output_closed,
        ),
    ] {
        out.field(name, count.load(Ordering::Relaxed));
    }
}
