//! What the server tells of itself and of its companions.

use crate::config::budget::Budget;
use crate::grpc::{Shared, log};
use crate::keyspace::tiering::health::State;
use crate::server::Server;
use crate::services::Heard;
use crate::state::LinkState;
use redrock_daemon::memory;
use redrock_log::sidecar::HexId;
use redrock_proto::v1::{self, DaemonKind, LinkStatus, Role};
use std::sync::atomic::Ordering;

pub(super) async fn status(shared: &Shared) -> v1::AdminStatus {
    let server = &shared.server;
    let config = server.config();
    let heard = heard(shared);
    let keys = {
        let keyspace = server.keyspace_when_idle().await;
        (0..keyspace.database_count())
            .filter_map(|i| keyspace.database(i))
            .map(|d| d.keys)
            .sum()
    };
    v1::AdminStatus {
        run: shared.run.to_wire(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        port: config.shown_port().into(),
        uptime_ms: u64::try_from(crate::clock::unix_ms() - server.started_ms).unwrap_or(0),
        role: if server.is_replica() {
            Role::Replica
        } else {
            Role::Master
        }
        .into(),
        directory: shared.data_dir.display().to_string(),
        keys,
        clients: u32::try_from(server.clients.read().len()).unwrap_or(u32::MAX),
        commands_processed: server.stats.commands(),
        commands_per_second: 0,
        daemons: daemons(shared, &heard),
        log: Some(log::wire_state(server, &shared.data_dir)),
        warnings: warnings(shared, &heard),
        persist: heard.persist,
        loading: server.loading.is_active(),
    }
}

fn heard(shared: &Shared) -> Heard {
    shared
        .services()
        .map(|services| services.heard.lock().clone())
        .unwrap_or_default()
}

fn daemons(shared: &Shared, heard: &Heard) -> Vec<v1::DaemonStatus> {
    let mut daemons = vec![v1::DaemonStatus {
        kind: DaemonKind::Server.into(),
        up: true,
        pid: std::process::id(),
        starts: 0,
        rss_bytes: crate::memory::resident_bytes(),
        error: String::new(),
    }];
    for companion in shared.server.state.companions.lock().iter() {
        let (kind, error) = match companion.name {
            "persist" => (DaemonKind::Persist, &heard.persist_error),
            _ => (DaemonKind::Replica, &heard.replica_error),
        };
        daemons.push(v1::DaemonStatus {
            kind: kind.into(),
            up: companion.state == "up",
            pid: companion.pid.unwrap_or(0),
            starts: u32::try_from(companion.starts).unwrap_or(u32::MAX),
            rss_bytes: companion.resident_bytes,
            error: error.clone(),
        });
    }
    daemons
}

/// The tier's state if it is not healthy, and why.
fn tier_trouble(server: &Server) -> Option<String> {
    let report = server.memory.tier_health()?.report();
    let state = report.state.word();
    (report.state != State::Healthy).then(|| format!("the tier is {state}: {}", report.reason))
}

/// What needs a look, most urgent first.
fn warnings(shared: &Shared, heard: &Heard) -> Vec<String> {
    let server = &shared.server;
    let mut warnings = Vec::new();
    if let Some(text) = server.log.refusal_text() {
        warnings.push(text);
    }
    if let Some(text) = tier_trouble(server) {
        warnings.push(text);
    }
    if !server.state.snapshot.lock().last_ok {
        warnings.push("the last save failed".to_owned());
    }
    if !server.state.append_only.lock().last_rewrite_ok {
        warnings.push("the last rewrite of the append only log failed".to_owned());
    }
    for (name, error) in [
        ("persister", &heard.persist_error),
        ("agent", &heard.replica_error),
    ] {
        if !error.is_empty() {
            warnings.push(format!("the {name} does not answer: {error}"));
        }
    }
    warnings
}

pub(super) fn memory(shared: &Shared) -> v1::AdminMemory {
    let server = &shared.server;
    let mut processes = vec![process(DaemonKind::Server, std::process::id())];
    for companion in server.state.companions.lock().iter() {
        if let Some(pid) = companion.pid {
            let kind = match companion.name {
                "persist" => DaemonKind::Persist,
                _ => DaemonKind::Replica,
            };
            processes.push(process(kind, pid));
        }
    }
    let config = server.config();
    let bound = config.memory.bytes_max;
    let (allocated, ..) = server.memory.measured();
    let mut parts = vec![part("allocated", allocated, bound)];
    {
        let keyspace = server.keyspace.lock();
        if let Some(tiering) = &keyspace.tiering {
            let limit = Budget::new(bound).tier_cache;
            parts.push(part("tier_cache", tiering.cold.cache_bytes() as u64, limit));
            parts.push(part("tier_queue", tiering.queue.bytes() as u64, 0));
        }
    }
    parts.push(part("log_unwritten", server.log.unwritten_bytes(), 0));
    let unsent = server.clients.read();
    let unsent = unsent
        .values()
        .map(|client| client.out_bytes.load(Ordering::Relaxed))
        .sum();
    parts.push(part("client_output", unsent, 0));
    parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.bytes));
    v1::AdminMemory {
        max_bytes: bound,
        pss_bytes: processes.iter().map(|process| process.pss_bytes).sum(),
        processes,
        parts,
    }
}

fn part(name: &str, bytes: u64, limit_bytes: u64) -> v1::MemoryPart {
    v1::MemoryPart {
        name: name.to_owned(),
        bytes,
        limit_bytes,
    }
}

fn process(kind: DaemonKind, pid: u32) -> v1::ProcessMemory {
    // A companion may have ended a moment ago: then it has no memory.
    let memory = memory::read(pid).unwrap_or_default();
    v1::ProcessMemory {
        kind: kind.into(),
        pid,
        rss_bytes: memory.rss_bytes,
        pss_bytes: memory.pss_bytes,
        peak_rss_bytes: memory.peak_rss_bytes,
    }
}

pub(super) fn tier(shared: &Shared) -> v1::AdminTier {
    let census = crate::keyspace::tiering::census::take(&shared.server);
    let (cold, queue, stats) = {
        let keyspace = shared.server.keyspace.lock();
        let Some(tiering) = &keyspace.tiering else {
            return v1::AdminTier::default();
        };
        (
            tiering.cold.clone(),
            tiering.queue.clone(),
            tiering.stats.clone(),
        )
    };
    v1::AdminTier {
        enabled: true,
        keys_hot: census.hot,
        keys_cold_with_stub: census.stubs,
        keys_cold_without_stub: census.keys.saturating_sub(census.hot + census.stubs),
        keys_dirty: census.dirty,
        disk_bytes: cold.disk_bytes(),
        queue_operations: 0,
        queue_bytes: queue.bytes() as u64,
        cold_reads: stats.waits + stats.blocking_reads,
        promotions: stats.loaded,
        spills: stats.spilled,
        cold_read_p50_us: 0,
        cold_read_p99_us: 0,
        trouble: tier_trouble(&shared.server).unwrap_or_default(),
    }
}

pub(super) fn replication(shared: &Shared) -> v1::AdminReplication {
    let server = &shared.server;
    let services = shared.services().ok();
    let replicas = services
        .map(|services| services.replicas.list())
        .unwrap_or_default();
    let mut replicas: Vec<v1::ReplicaAck> =
        replicas.iter().cloned().map(v1::ReplicaAck::from).collect();
    replicas.sort_unstable_by_key(|replica| replica.client_id);
    let oldest =
        services.and_then(|services| Some(services.segments.lock().as_ref()?.oldest_offset));
    let log = log::wire_state(server, &shared.data_dir);
    let master = server.state.replication.lock().master.clone();
    let mut reply = v1::AdminReplication {
        oldest_offset: oldest.unwrap_or(log.written_offset),
        log: Some(log),
        replicas,
        link: LinkStatus::None.into(),
        ..v1::AdminReplication::default()
    };
    if let Some(link) = master {
        let status = match link.state {
            LinkState::Connect => LinkStatus::Connect,
            LinkState::Connecting | LinkState::Handshake => LinkStatus::Connecting,
            LinkState::Sync => LinkStatus::Sync,
            LinkState::Connected => LinkStatus::Connected,
        };
        reply.master_host = link.host;
        reply.master_port = link.port.into();
        reply.link = status.into();
        reply.last_io_unix_ms = u64::try_from(link.last_io_s.unwrap_or(0)).unwrap_or(0) * 1000;
        (reply.sync_bytes_total, reply.sync_bytes_read) = link.transfer_bytes;
        let digits = |id: HexId| String::from_utf8_lossy(&id).into_owned();
        reply.last_error = link.last_error;
        reply.ask_replid = link.ask_as.map(digits).unwrap_or_default();
        // Counted with and without a log.
        reply.applied_offset = server.log.appended_offset();
    }
    reply
}
