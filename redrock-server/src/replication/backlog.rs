//! The log that only replicas need, as the server sees it: when its history begins, when it
//! ends, and which dump it continues.
//!
//! With the append-only file off nothing is written until a replica attaches: the persister's
//! cut for its base turns the log on. What was changed while no log was kept is in no segment, so
//! **each time the log is turned on a master's stream gets an id without a past**.

use crate::config::Config;
use crate::log::state::LogKind;
use crate::server::Server;
use crate::services::Services;
use crate::start::directory::random_id;
use anyhow::Context as _;
use redrock_daemon::disk::automatic_share;
use redrock_log::epoch::{Epoch, EpochGuard};
use redrock_log::fs::RealFs;
use redrock_log::history::{ReplicationState, SnapshotIdentity};
use redrock_proto::model::RunRef;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// How often the limit may be passed by what one segment holds: the persister has not come to
/// begin another one, so it is not there.
const UNTENDED_LIMIT_FACTOR: u64 = 3;

/// `repl-backlog-disk-size`, or what it means if it is automatic.
pub fn bytes_max(config: &Config, data_dir: &Path) -> u64 {
    match config.replication.backlog_bytes_max {
        0 => automatic_share(data_dir),
        bytes => bytes,
    }
}

/// Gives a master's stream a new id if no log is kept. Called with all shards held, before the cut
/// that turns the log on. True if it did: [`store_history`] must follow.
pub fn begin_history(server: &Server, run: RunRef) -> bool {
    if server.log.state().kind != LogKind::None || server.is_replica() {
        return false;
    }
    let (run_id, replid) = (run.run_id.digits(), random_id());
    server.log.set_identity(run_id, run.epoch, replid, None);
    true
}

/// Stores the id that [`begin_history`] gave. Blocks on the disk.
pub fn store_history(server: &Server, services: &Services) -> anyhow::Result<()> {
    change(services, |_| {
        let log = server.log.state();
        let offset = log.segment.map_or(log.written_offset, |s| s.start_offset);
        Some(ReplicationState::new(log.replid, offset, 0))
    })
}

/// A dump is in place that was cut while the log was written for replicas: after a restart the
/// log may be replayed over it. Blocks on the disk.
pub fn note_dump(
    server: &Server,
    services: &Services,
    dump: SnapshotIdentity,
) -> anyhow::Result<()> {
    change(services, |stored| {
        let log = server.log.state();
        if log.kind != LogKind::Replication || log.replid != dump.replid {
            return None;
        }
        let mut state = stored
            .filter(|state| state.replid == log.replid)
            .unwrap_or_else(|| ReplicationState::new(log.replid, dump.offset, 0));
        state.offset = dump.offset;
        state.snapshot = Some(dump);
        Some(state)
    })
}

/// Replaces the state file by what `make` makes of it.
fn change(
    services: &Services,
    make: impl FnOnce(Option<ReplicationState>) -> Option<ReplicationState>,
) -> anyhow::Result<()> {
    let _one = services.state_file.lock();
    let stored =
        ReplicationState::load(&RealFs, &services.data_dir).context("read replication state")?;
    let Some(state) = make(stored) else {
        return Ok(());
    };
    let epoch = Epoch {
        run_id: services.run.run_id.digits(),
        number: services.run.epoch,
    };
    let guard = EpochGuard::new(Arc::new(RealFs), &services.data_dir, epoch);
    state
        .store(&RealFs, &services.data_dir, &|| guard.check_io())
        .context("store replication state")
}

/// Decides once a second whether the log for replicas has to end.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when no replica has been attached.
    alone_since: Option<Instant>,
}

impl Watch {
    /// One look; ends the log if nobody needs it any longer, or if nobody keeps it within its
    /// bound.
    pub fn look(&mut self, services: &Services, server: &Server) {
        let log = server.log.state();
        let attached = !services.replicas.list().is_empty();
        if log.kind != LogKind::Replication || attached {
            self.alone_since = None;
        } else {
            self.alone_since.get_or_insert_with(Instant::now);
        }
        if log.kind != LogKind::Replication {
            return;
        }
        let config = server.config();
        let limit = bytes_max(&config, &services.data_dir).saturating_mul(UNTENDED_LIMIT_FACTOR);
        let start = log.segment.map_or(0, |segment| segment.start_offset);
        let ttl_s = config.replication.backlog_ttl_s;
        let alone_s = self
            .alone_since
            .map_or(0, |since| since.elapsed().as_secs());
        if log.written_offset.saturating_sub(start) > limit {
            tracing::warn!(
                limit_bytes = limit,
                "the log for replicas ends: it has grown beyond repl-backlog-disk-size, and the \
                 persister begins no further file"
            );
        } else if ttl_s > 0 && alone_s >= ttl_s && !server.is_replica() {
            tracing::info!(
                "Replication backlog freed after {ttl_s} seconds without connected replicas."
            );
        } else {
            return;
        }
        if let Err(error) = server.log.disable() {
            tracing::warn!(error, "the log for replicas was not ended cleanly");
        }
        self.alone_since = None;
    }
}

/// `appendonly no` with replicas attached: the stream goes on in the segment that the persister
/// has offered. An error means that nothing has changed.
pub fn go_on_for_replicas(server: &Server) -> Result<(), String> {
    let switched = {
        let _keyspace = server.keyspace.lock();
        server.log.cut_to_replicas_only()
    };
    let switched = switched.ok_or("no file for the stream was offered")?;
    server.log.wait_switched(switched)
}
