//! The sections Persistence, Replication, Tiering and Companions.

use super::{Facts, Section};
use crate::start::progress::Progress;
use crate::state::{LinkState, MasterLink, SaveProgress};
use std::sync::atomic::Ordering;

fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

fn percent(done: u64, total: u64) -> f64 {
    if total == 0 {
        0.0
    } else {
        done as f64 / total as f64 * 100.0
    }
}

pub(super) fn persistence(facts: &Facts<'_>, out: &mut Section<'_>) {
    let state = &facts.server.state;
    let now_s = facts.now_s();
    let loading = facts.server.loading.is_active();
    let load = facts.server.loading.progress();
    let snapshot = *state.snapshot.lock();
    let log = *state.append_only.lock();
    let changes = state.changes.load(Ordering::Relaxed);
    let since = |start: Option<i64>| start.map_or(-1, |start| now_s - start);
    out.field("loading", u8::from(loading));
    out.field("async_loading", 0);
    out.all(
        &[
            "current_cow_peak",
            "current_cow_size",
            "current_cow_size_age",
        ],
        0,
    );
    let is_running = snapshot.running_since_s.is_some() || log.rewrite_since_s.is_some();
    current_save(snapshot.progress, is_running, out);
    let saved = state.changes_at_save.load(Ordering::Relaxed);
    out.field("rdb_changes_since_last_save", changes.saturating_sub(saved));
    out.field(
        "rdb_bgsave_in_progress",
        u8::from(snapshot.running_since_s.is_some()),
    );
    out.field("rdb_last_save_time", snapshot.last_save_s);
    out.field("rdb_last_bgsave_status", word(snapshot.last_ok));
    out.field(
        "rdb_last_bgsave_time_sec",
        snapshot.last_duration_s.unwrap_or(-1),
    );
    out.field(
        "rdb_current_bgsave_time_sec",
        since(snapshot.running_since_s),
    );
    out.field("rdb_saves", snapshot.saves);
    out.field("rdb_last_cow_size", 0);
    last_load(facts, &load, out);
    out.field("aof_enabled", u8::from(log.enabled));
    out.field(
        "aof_rewrite_in_progress",
        u8::from(log.rewrite_since_s.is_some()),
    );
    out.field("aof_rewrite_scheduled", u8::from(log.rewrite_scheduled));
    out.field(
        "aof_last_rewrite_time_sec",
        log.last_rewrite_s.unwrap_or(-1),
    );
    out.field("aof_current_rewrite_time_sec", since(log.rewrite_since_s));
    out.field("aof_last_bgrewrite_status", word(log.last_rewrite_ok));
    out.field("aof_rewrites", log.rewrites);
    out.field(
        "aof_rewrites_consecutive_failures",
        log.consecutive_failures,
    );
    out.field(
        "aof_last_write_status",
        word(log.last_write_ok && !facts.server.log.refuses_writes()),
    );
    out.field("aof_last_cow_size", 0);
    out.all(&["module_fork_in_progress", "module_fork_last_cow_size"], 0);
    if log.enabled {
        out.field("aof_current_size", log.current_bytes);
        out.field("aof_base_size", log.base_bytes);
        out.field("aof_pending_rewrite", u8::from(log.rewrite_scheduled));
        out.field("aof_buffer_length", facts.server.log.unwritten_bytes());
        out.field("aof_pending_bio_fsync", 0);
        out.field("aof_delayed_fsync", facts.server.log.delayed_syncs());
    }
    if loading {
        progress(&load, out);
    }
}

/// How far the save or rewrite under way is: Redis's fields, and while there is one, its pace.
fn current_save(save: SaveProgress, is_running: bool, out: &mut Section<'_>) {
    let done = percent(save.keys_done, save.keys_total);
    out.field("current_fork_perc", format_args!("{done:.2}"));
    out.field("current_save_keys_processed", save.keys_done);
    out.field("current_save_keys_total", save.keys_total);
    if !is_running {
        return;
    }
    out.field("current_save_bytes_per_sec", save.bytes_per_second);
    if let Some(left_s) = save.left_s {
        out.field("current_save_eta_seconds", left_s);
    }
}

fn last_load(facts: &Facts<'_>, load: &Progress, out: &mut Section<'_>) {
    out.field("rdb_last_load_keys_expired", load.expired);
    out.field("rdb_last_load_keys_loaded", load.keys);
    let modules = facts.server.loading.modules();
    out.field("rdb_last_load_module_keys_skipped", modules.keys());
    out.field("rdb_last_load_modules_skipped", modules.field());
}

fn progress(load: &Progress, out: &mut Section<'_>) {
    out.field("loading_start_time", load.start_time);
    out.field("loading_total_bytes", load.total_bytes);
    out.field("loading_rdb_used_mem", load.used_memory_bytes);
    out.field("loading_loaded_bytes", load.loaded_bytes);
    out.field("loading_loaded_perc", format_args!("{:.2}", load.percent));
    out.field("loading_eta_seconds", load.eta_seconds);
    out.field("loading_bytes_per_sec", load.bytes_per_second);
}

pub(super) fn replication(facts: &Facts<'_>, out: &mut Section<'_>) {
    let state = &facts.server.state;
    let replication = state.replication.lock().clone();
    let now_s = facts.now_s();
    match &replication.master {
        None => out.field("role", "master"),
        Some(link) => {
            out.field("role", "slave");
            master_link(link, now_s, out);
            facts.replica_options(out);
        }
    }
    out.field("connected_slaves", replication.replicas.len());
    for (i, replica) in replication.replicas.iter().enumerate() {
        let online = replica.state == "online";
        let lag_s = if online {
            now_s - replica.acknowledged_s
        } else {
            0
        };
        out.field(
            format_args!("slave{i}"),
            format_args!(
                "ip={},port={},state={},offset={},lag={lag_s}",
                replica.ip, replica.port, replica.state, replica.offset
            ),
        );
    }
    out.field("master_failover_state", replication.failover);
    out.field("master_replid", &replication.replid);
    out.field("master_replid2", &replication.replid2);
    let offset = facts.server.log.appended_offset();
    out.field("master_repl_offset", offset);
    out.field("second_repl_offset", replication.second_offset);
    out.field("repl_backlog_active", u8::from(replication.backlog_active));
    out.field("repl_backlog_size", replication.backlog_bytes_max);
    // Redis counts bytes from 1.
    let (first, length) = match replication.backlog_active {
        true => {
            let oldest = replication.backlog_oldest;
            (oldest + 1, offset.saturating_sub(oldest))
        }
        false => (0, 0),
    };
    out.field("repl_backlog_first_byte_offset", first);
    out.field("repl_backlog_histlen", length);
}

fn master_link(link: &MasterLink, now_s: i64, out: &mut Section<'_>) {
    let up = link.state == LinkState::Connected;
    out.field("master_host", &link.host);
    out.field("master_port", link.port);
    out.field("master_link_status", if up { "up" } else { "down" });
    let idle_s = link.last_io_s.map_or(-1, |then| now_s - then);
    out.field("master_last_io_seconds_ago", if up { idle_s } else { -1 });
    out.field(
        "master_sync_in_progress",
        u8::from(link.state == LinkState::Sync),
    );
    // The agent tells only now and then how much it has read.
    let applied = link.applied_offset.unwrap_or(1);
    out.field("slave_read_repl_offset", link.read_offset.max(applied));
    out.field("slave_repl_offset", applied);
    if link.state == LinkState::Sync {
        let (total, read) = link.transfer_bytes;
        out.field("master_sync_total_bytes", total);
        out.field("master_sync_read_bytes", read);
        out.field("master_sync_left_bytes", total.saturating_sub(read));
        out.field(
            "master_sync_perc",
            format_args!("{:.2}", percent(read, total)),
        );
        out.field("master_sync_last_io_seconds_ago", idle_s);
    }
    if !up {
        let down_s = link.down_since_s.map_or(-1, |then| now_s - then);
        out.field("master_link_down_since_seconds", down_s);
    }
    // Also while the link is up: what it brings may have no room here.
    if !link.last_error.is_empty() {
        // One line: INFO's end with CR LF.
        let text = link.last_error.replace(['\r', '\n'], " ");
        out.field("master_link_last_error", text);
    }
}

impl Facts<'_> {
    fn replica_options(&self, out: &mut Section<'_>) {
        let options = &self.config.replication;
        out.field("slave_priority", options.priority);
        out.field("slave_read_only", u8::from(options.read_only));
        out.field("replica_announced", u8::from(options.announced));
    }
}

/// A text as the value of a field.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

pub(super) fn tiering(facts: &Facts<'_>, out: &mut Section<'_>) {
    let keyspace = facts.keyspace;
    let databases = (0..keyspace.database_count()).filter_map(|index| keyspace.database(index));
    let (mut keys, mut entries, mut stubs, mut stub_bytes) = (0, 0, 0, 0);
    for database in databases {
        keys += database.keys;
        entries += database.table.len() as u64;
        stubs += database.table.stub_count();
        stub_bytes += database.table.stub_bytes();
    }
    out.field("tiering_enabled", u8::from(keyspace.tiering.is_some()));
    out.field("tiering_keys", keys);
    out.field("tiering_keys_with_entry", entries);
    out.field("tiering_stubs", stubs);
    out.field("tiering_stub_bytes", stub_bytes);
    let stats = keyspace
        .tiering
        .as_ref()
        .map(|tiering| tiering.stats.clone())
        .unwrap_or_default();
    out.field("tiering_spilled_values", stats.spilled);
    out.field("tiering_dropped_values", stats.dropped);
    out.field("tiering_dropped_stubs", stats.stubs_dropped);
    out.field("tiering_loaded_values", stats.loaded);
    out.field("tiering_lent_values", stats.lent);
    out.field("tiering_waits", stats.waits);
    out.field("tiering_blocking_reads", stats.blocking_reads);
    out.field("tiering_slowed_writes", facts.server.memory.pace.slowed());
    let Some(tiering) = &keyspace.tiering else {
        return;
    };
    let health = &tiering.queue.health;
    let report = health.report();
    out.field("tiering_state", report.state.word());
    out.field("tiering_state_since", report.since_ms / 1000);
    out.field("tiering_state_reason", one_line(&report.reason));
    for (name, figure) in health.figures() {
        out.field(format_args!("tiering_{name}"), figure);
    }
    out.field(
        "tiering_last_read_error",
        one_line(&health.last_read_error()),
    );
}

pub(super) fn companions(facts: &Facts<'_>, out: &mut Section<'_>) {
    for companion in facts.server.state.companions.lock().iter() {
        let seen_s = companion
            .last_seen_s
            .map_or(-1, |then| facts.now_s() - then);
        out.field(
            format_args!("companion_{}", companion.name),
            format_args!(
                "state={},pid={},starts={},last_seen_seconds_ago={seen_s},resident_bytes={}",
                companion.state,
                companion.pid.map_or(-1, i64::from),
                companion.starts,
                companion.resident_bytes
            ),
        );
    }
}
