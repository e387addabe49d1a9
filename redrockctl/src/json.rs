//! Answers as JSON. Names are those of the contract; enums are words in lower
//! case; absent parts are null.

use redrock_proto::{RpcError, v1};
use serde_json::{Value, json};

use crate::table::{daemon_name, file_kind_name, lower, replica_state_name};

pub(crate) fn error(error: &RpcError) -> Value {
    json!({ "error": {
        "code": error.code.name(),
        "message": error.message,
        "hint": error.hint,
    }})
}

pub(crate) fn progress(progress: &v1::Progress) -> Value {
    json!({
        "phase": lower(progress.phase().as_str_name(), "PHASE_"),
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "keys_done": progress.keys_done,
        "keys_total": progress.keys_total,
        "elapsed_ms": progress.elapsed_ms,
        "bytes_per_second": progress.bytes_per_second,
        "percent": progress.percent,
        "left_ms": progress.left_ms,
        "note": progress.note,
        "outcome": progress.outcome.as_ref().map(outcome),
    })
}

pub(crate) fn outcome(outcome: &v1::Outcome) -> Value {
    json!({
        "path": outcome.path,
        "bytes": outcome.bytes,
        "keys": outcome.keys,
        "cut_unix_ms": outcome.cut_unix_ms,
        "replid": outcome.replid,
        "offset": outcome.offset,
        "records_copied": outcome.records_copied,
        "records_transcoded": outcome.records_transcoded,
        "elapsed_ms": outcome.elapsed_ms,
    })
}

pub(crate) fn status(status: &v1::AdminStatus) -> Value {
    let daemon = |daemon: &v1::DaemonStatus| {
        json!({
            "daemon": daemon_name(daemon.kind()),
            "up": daemon.up,
            "pid": daemon.pid,
            "starts": daemon.starts,
            "rss_bytes": daemon.rss_bytes,
            "error": daemon.error,
        })
    };
    json!({
        "run_id": status.run.as_ref().map(|run| run.run_id.as_str()),
        "epoch": status.run.as_ref().map(|run| run.epoch),
        "version": status.version,
        "port": status.port,
        "uptime_ms": status.uptime_ms,
        "role": lower(status.role().as_str_name(), "ROLE_"),
        "directory": status.directory,
        "keys": status.keys,
        "clients": status.clients,
        "commands_processed": status.commands_processed,
        "commands_per_second": status.commands_per_second,
        "loading": status.loading,
        "daemons": status.daemons.iter().map(daemon).collect::<Vec<_>>(),
        "log": status.log.as_ref().map(log),
        "persist": status.persist.as_ref().map(persist),
        "warnings": status.warnings,
    })
}

fn log(log: &v1::LogState) -> Value {
    json!({
        "kind": lower(log.kind().as_str_name(), "LOG_KIND_"),
        "written_offset": log.written_offset,
        "durable_offset": log.durable_offset,
        "segment_seq": log.segment_seq,
        "segment_path": log.segment_path,
        "segment_start_offset": log.segment_start_offset,
        "replid": log.replid,
        "replid2": log.replid2,
        "replid2_end_offset": log.replid2_end_offset,
        "role": lower(log.role().as_str_name(), "ROLE_"),
        "changes_since_save": log.changes_since_save,
        "write_error": log.write_error,
    })
}

fn persist(status: &v1::PersistStatus) -> Value {
    let last = |action: &v1::LastAction| {
        json!({
            "ended_unix_ms": action.ended_unix_ms,
            "succeeded": action.succeeded,
            "elapsed_ms": action.elapsed_ms,
            "bytes": action.bytes,
            "error": action.error,
        })
    };
    json!({
        "activity": lower(status.activity().as_str_name(), "ACTIVITY_"),
        "progress": status.progress.as_ref().map(progress),
        "last_save": status.last_save.as_ref().map(last),
        "last_rewrite": status.last_rewrite.as_ref().map(last),
        "last_backup": status.last_backup.as_ref().map(last),
        "append_only": status.append_only,
        "aof_current_bytes": status.aof_current_bytes,
        "aof_base_bytes": status.aof_base_bytes,
        "rewrite_retry_unix_ms": status.rewrite_retry_unix_ms,
        "pins": status.pins,
    })
}

pub(crate) fn memory(memory: &v1::AdminMemory) -> Value {
    let process = |process: &v1::ProcessMemory| {
        json!({
            "daemon": daemon_name(process.kind()),
            "pid": process.pid,
            "rss_bytes": process.rss_bytes,
            "pss_bytes": process.pss_bytes,
            "peak_rss_bytes": process.peak_rss_bytes,
        })
    };
    let part = |part: &v1::MemoryPart| json!({ "name": part.name, "bytes": part.bytes, "limit_bytes": part.limit_bytes });
    json!({
        "max_bytes": memory.max_bytes,
        "pss_bytes": memory.pss_bytes,
        "processes": memory.processes.iter().map(process).collect::<Vec<_>>(),
        "parts": memory.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

pub(crate) fn tier(tier: &v1::AdminTier) -> Value {
    json!({
        "enabled": tier.enabled,
        "keys_hot": tier.keys_hot,
        "keys_cold_with_stub": tier.keys_cold_with_stub,
        "keys_cold_without_stub": tier.keys_cold_without_stub,
        "keys_dirty": tier.keys_dirty,
        "disk_bytes": tier.disk_bytes,
        "queue_operations": tier.queue_operations,
        "queue_bytes": tier.queue_bytes,
        "cold_reads": tier.cold_reads,
        "promotions": tier.promotions,
        "spills": tier.spills,
        "cold_read_p50_us": tier.cold_read_p50_us,
        "cold_read_p99_us": tier.cold_read_p99_us,
        "trouble": tier.trouble,
    })
}

pub(crate) fn backups(backups: &v1::AdminBackups) -> Value {
    let file = |file: &v1::FileInfo| {
        json!({
            "kind": file_kind_name(file.kind()),
            "path": file.path,
            "bytes": file.bytes,
            "created_unix_ms": file.created_unix_ms,
            "replid": file.replid,
            "offset": file.start_offset,
            "pinned_by": file.pinned_by,
        })
    };
    json!({ "files": backups.files.iter().map(file).collect::<Vec<_>>() })
}

pub(crate) fn replication(state: &v1::AdminReplication) -> Value {
    let replica = |replica: &v1::ReplicaAck| {
        json!({
            "client_id": replica.client_id,
            "address": replica.address,
            "listening_port": replica.listening_port,
            "announced_ip": replica.announced_ip,
            "state": replica_state_name(replica.state()),
            "sent_offset": replica.sent_offset,
            "acked_offset": replica.acked_offset,
            "fsynced_offset": replica.fsynced_offset,
            "acked_unix_ms": replica.acked_unix_ms,
        })
    };
    json!({
        "log": state.log.as_ref().map(log),
        "master_host": state.master_host,
        "master_port": state.master_port,
        "link": lower(state.link().as_str_name(), "LINK_STATUS_"),
        "last_io_unix_ms": state.last_io_unix_ms,
        "last_error": state.last_error,
        "sync_bytes_total": state.sync_bytes_total,
        "sync_bytes_read": state.sync_bytes_read,
        "applied_offset": state.applied_offset,
        "oldest_offset": state.oldest_offset,
        "replicas": state.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

pub(crate) fn settings(reply: &v1::ConfigGetReply) -> Value {
    let pair = |setting: &v1::Setting| (setting.name.clone(), json!(setting.value));
    Value::Object(reply.settings.iter().map(pair).collect())
}
