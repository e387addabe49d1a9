//! Which stream the server goes on with after recovery, and the log opened for it.
//!
//! A master mints a new replication id: replicas may hold bytes that a power loss took from us.
//! The former id stays valid up to the recovered offset. A replica keeps its master's id, and
//! asks the master to go on from the recovered offset.
//!
//! The ids come from the history of the very log that was replayed; without one nothing is
//! claimed of the past, but by a replica: its dump says where in a master's stream it was made,
//! as Redis's does. An id whose log has ended is never used again, so what a dump says stays true.

use super::append_only::LoadedLog;
use super::directory::{DataDirectory, random_id};
use super::last_segment;
use super::rdb::RdbFacts;
use super::replicas_log::{self, Recovered};
use crate::config::Config;
use crate::log::OpenSegment;
use crate::log::state::LogKind;
use crate::server::Server;
use anyhow::{Context as _, bail};
use redrock_log::ballast::Ballast;
use redrock_log::history::{Histories, LogOrigin, ReplicationState};
use redrock_log::writer::SegmentStart;
use std::sync::Arc;

/// Disk space kept in reserve so that a full disk lets the work at hand finish.
const BALLAST_BYTES: u64 = 4 << 20;
/// Name of the file that holds it, in the append-only directory.
const BALLAST_NAME: &str = "redrock.ballast";

/// What recovery has loaded.
#[derive(Debug)]
pub(super) struct Found {
    /// The append-only log.
    pub(super) loaded: Option<LoadedLog>,
    /// A log for replicas that was replayed, with the append-only log off.
    pub(super) recovered: Option<Recovered>,
    /// The dump, with the append-only log off.
    pub(super) dump: Option<RdbFacts>,
}

/// Gives the stream its identity, makes that durable, and opens the log.
pub(super) fn begin(
    server: &Arc<Server>,
    data: &DataDirectory,
    config: &Config,
    found: Found,
) -> anyhow::Result<()> {
    let (loaded, recovered) = (found.loaded, found.recovered);
    // What clients wrote to a replica of its own is in its dump and must not outlive it.
    let is_copy = server.is_replica() && config.replication.read_only;
    let dump = found.dump.as_ref().filter(|_| is_copy);
    let fs = data.fs.as_ref();
    let stored = Histories::load(fs, &data.path)?;
    let kept = match (config.append_only.enabled, &recovered) {
        (true, _) => LogKind::AppendOnly,
        (false, Some(_)) => LogKind::Replication,
        (false, None) => LogKind::None,
    };
    let (state, is_known) = match &recovered {
        Some(recovered) => {
            let mut state = recovered.state.clone();
            match server.is_replica() {
                true => state.stands_at(recovered.offset),
                false => state.change_id(random_id(), recovered.offset),
            }
            state.database = u32::try_from(recovered.database).unwrap_or(0);
            (state, true)
        }
        None => match dump.and_then(of_dump) {
            Some(state) => (state, true),
            None => present(stored.as_ref(), loaded.as_ref(), server.is_replica()),
        },
    };
    let histories = if kept == LogKind::AppendOnly {
        let histories = Histories::new(state.clone());
        histories.store(fs, &data.path, &|| Ok(()))?;
        Some(histories)
    } else {
        // The file belongs to the log that a later start may find.
        stored
    };
    enter(server, data, &state, is_known);
    // Those of a former run may be in a dump, or in a base.
    let may_have_own = state.has_own_changes || !config.replication.read_only;
    server
        .log
        .set_own_changes(server.is_replica() && may_have_own);
    let place = (data.fs.clone(), data.path.clone());
    let history = &server.history;
    history.open(place.0, place.1, state.clone(), histories, kept);
    match recovered {
        _ if kept == LogKind::AppendOnly => open_log(server, data, config, loaded, &state),
        Some(recovered) => go_on_for_replicas(server, data, &recovered, &state),
        None => Ok(()),
    }
}

/// Opens the log for replicas behind what was replayed of it.
fn go_on_for_replicas(
    server: &Arc<Server>,
    data: &DataDirectory,
    recovered: &Recovered,
    state: &ReplicationState,
) -> anyhow::Result<()> {
    // The new id is on the disk before anything is appended under it.
    server.history.store()?;
    let start = SegmentStart {
        start_offset: state.offset,
        database: u32::try_from(recovered.database).unwrap_or(0),
        replid: state.replid,
        run_id: data.epoch.run_id,
        epoch: data.epoch.number,
    };
    server.log.open(OpenSegment {
        segment: replicas_log::begin(data, recovered, &start)?,
        sequence: recovered.sequence.unsigned_abs(),
        kind: LogKind::Replication,
        replid: state.replid,
        database: recovered.database,
    });
    Ok(())
}

/// Where in a stream a dump was made, if it says so.
fn of_dump(dump: &RdbFacts) -> Option<ReplicationState> {
    let replid = dump.repl_id.as_deref()?.try_into().ok()?;
    let database = dump.repl_stream_db?;
    Some(ReplicationState::new(replid, dump.repl_offset?, database))
}

/// The history to go on with, and whether it continues a former run's.
fn present(
    stored: Option<&Histories>,
    loaded: Option<&LoadedLog>,
    is_replica: bool,
) -> (ReplicationState, bool) {
    let Some((log, (offset, first_id))) = loaded.and_then(|log| Some((log, log.end?))) else {
        // Without a log of ours nobody can go on from what was before.
        return (ReplicationState::new(random_id(), 0, 0), false);
    };
    let known = stored
        .and_then(|stored| stored.of_log(log.last_sequence))
        // A file that does not know the newest segment's first byte is not about this log.
        .filter(|state| state.knows(&first_id, log.last_start_offset));
    let Some(known) = known else {
        let mut state = ReplicationState::new(random_id(), offset, 0);
        state.origin = LogOrigin {
            sequence: log.last_sequence,
            offset,
        };
        tracing::warn!(
            "the history of replication ids does not belong to this log: replicas need a full sync"
        );
        return (state, false);
    };
    let mut state = known.clone();
    if !is_replica && known.has_own_changes {
        // Nobody who followed has all that the base has.
        state = ReplicationState::new(random_id(), offset, 0);
        state.origin = known.origin;
    } else if is_replica {
        state.stands_at(offset);
    } else {
        state.change_id(random_id(), offset);
    }
    state.database = u32::try_from(log.database).unwrap_or(0);
    (state, true)
}

/// Makes the state the running server's.
fn enter(server: &Server, data: &DataDirectory, state: &ReplicationState, is_known: bool) {
    let former = state
        .former()
        .next()
        .map(|former| (former.replid, former.valid_to_offset));
    let epoch = data.epoch;
    server
        .log
        .set_identity(epoch.run_id, epoch.number, state.replid, former);
    server.log.set_offset(state.offset);
    let mut replication = server.state.replication.lock();
    if let Some(link) = replication.master.as_mut() {
        server.log.set_following(true);
        link.applied_offset = is_known.then_some(state.offset);
        if is_known {
            // The master's stream goes on in this database.
            server.log.select(state.database as usize);
        }
    }
}

fn open_log(
    server: &Arc<Server>,
    data: &DataDirectory,
    config: &Config,
    loaded: Option<LoadedLog>,
    state: &ReplicationState,
) -> anyhow::Result<()> {
    let fs = data.fs.as_ref();
    let start = SegmentStart {
        start_offset: state.offset,
        database: loaded.as_ref().map_or(0, |loaded| loaded.database as u32),
        replid: state.replid,
        run_id: data.epoch.run_id,
        epoch: data.epoch.number,
    };
    let is_new = loaded.as_ref().is_none_or(|loaded| loaded.end.is_none());
    let opened = last_segment::open(config, data, loaded, &start)?;
    if is_new {
        // What lies beside the first segment is no part of the stream.
        server.history.begin_at(LogOrigin {
            sequence: opened.sequence,
            offset: state.offset,
        })?;
    }
    server.log.open(OpenSegment {
        segment: opened.segment,
        sequence: opened.sequence,
        kind: LogKind::AppendOnly,
        replid: state.replid,
        database: opened.database,
    });
    // What was replayed is durable before anyone is told so.
    if !server.log.sync_now() {
        bail!("fsync of the append only file failed");
    }
    let path = data.log_directory(config).join(BALLAST_NAME);
    server
        .log
        .set_ballast(Ballast::open(fs, &path, BALLAST_BYTES).context("disk space reserve")?);
    Ok(())
}
