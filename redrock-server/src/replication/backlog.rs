//! The log that only replicas need, as the server sees it: when it begins in place of the
//! append-only file, and when it ends.
//!
//! With the append-only file off nothing is written until a replica attaches: the persister's
//! cut for its base turns the log on. What was changed while no log was kept is in no segment, so
//! **each time the log is turned on a master's stream gets an id without a past**, and each time
//! it ends the stream gets another one ([`lose_count`]).

use super::identity::lose_count_of_a_log_that_ended;
use crate::config::Config;
use crate::log::state::LogKind;
use crate::server::Server;
use crate::services::Services;
use redrock_daemon::disk::automatic_backlog;
use std::path::Path;
use std::time::Instant;

/// How often the limit may be passed by what one segment holds: the persister has not come to
/// begin another one, so it is not there.
const UNTENDED_LIMIT_FACTOR: u64 = 3;

/// `repl-backlog-disk-size`, or what it means if it is automatic.
pub fn bytes_max(config: &Config, data_dir: &Path) -> u64 {
    match config.replication.backlog_bytes_max {
        0 => automatic_backlog(data_dir, config.replication.backlog_bytes_min),
        bytes => bytes,
    }
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
            lose_count_of_a_log_that_ended(server);
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
        server.log.disable();
        lose_count_of_a_log_that_ended(server);
        self.alone_since = None;
    }
}

/// `appendonly no` with replicas attached: the stream goes on in the segment that the persister
/// has offered. An error means that the log goes on as it was, or has ended if its history could
/// not be stored.
pub fn go_on_for_replicas(server: &Server) -> Result<(), String> {
    {
        let _keyspace = server.keyspace.lock();
        let point = server.log.cut_to_replicas_only();
        let point = point.ok_or("no file for the stream was offered")?;
        server.history.switched(&point, false);
    }
    if let Err(error) = server.history.store() {
        server.log.disable();
        return Err(format!("store the replication state: {error}"));
    }
    server.log.finish_switch()
}
