//! The log that was written for replicas, replayed over the dump that it continues.
//!
//! Only over the very file that `repl/replication.state` names: its length, checksum, history and
//! offset. Otherwise the dump alone counts, as in Redis, and what lies under `repl/` is removed.
//! A segment that differs from its checksums is not replayed, nor is anything behind it: what is
//! recovered is always the data set of one moment.

use super::directory::DataDirectory;
use super::rdb::RdbFacts;
use super::replay::Replayer;
use crate::config::Config;
use crate::server::Server;
use anyhow::Context as _;
use redrock_log::backlog::{self, BacklogSegment};
use redrock_log::epoch::EpochGuard;
use redrock_log::fs::OpenMode;
use redrock_log::history::{ReplicationState, SnapshotIdentity};
use redrock_log::scan::{
    ScanLimits, SegmentScanner, Step, TailContext, TailDecision, decide_tail, truncate_tail,
};
use redrock_log::sidecar::{SidecarReader, Verification};
use redrock_log::writer::{SegmentStart, SegmentWriter};
use std::path::Path;

/// Bytes of an RDB's checksum, its last ones.
const CHECKSUM_BYTES: u64 = 8;

/// What is to be replayed over the dump.
#[derive(Debug)]
pub struct Plan {
    state: ReplicationState,
    dump: SnapshotIdentity,
    segments: Vec<(BacklogSegment, Verification)>,
}

/// Where the stream goes on.
#[derive(Debug)]
pub struct Recovered {
    /// The history up to there.
    pub state: ReplicationState,
    /// End of what was replayed.
    pub offset: u64,
    /// Database selected there.
    pub database: usize,
    /// Number of the next segment.
    pub sequence: i64,
}

/// Looks whether the log continues the dump; `None` if there is nothing to replay. Changes
/// nothing.
///
/// A server that starts as a replica goes on behind it only if all of it is a master's, so that its own
/// replicas are not ahead of it. Of what it wrote as a master the new one may lack the end: from its dump
/// on it can be had.
pub fn plan(data: &DataDirectory, config: &Config) -> anyhow::Result<Option<Plan>> {
    let follows = config.replication.master.is_some();
    if config.append_only.enabled || (follows && !config.replication.read_only) {
        return Ok(None);
    }
    let fs = data.fs.as_ref();
    let state = match ReplicationState::load(fs, &backlog::directory(&data.path)) {
        Ok(Some(state)) if follows && !state.is_copy => return Ok(None),
        Ok(Some(state)) => state,
        Ok(None) => return Ok(None),
        Err(error) => {
            // The dump is whole without it.
            tracing::warn!(%error, "the log for replicas of a former run is left out");
            return Ok(None);
        }
    };
    let path = data.path.join(&config.snapshot.file_name);
    let Some(dump) = state
        .snapshot
        .filter(|dump| is_same_file(data, &path, dump))
    else {
        return Ok(None);
    };
    let found = backlog::segments(fs, &backlog::directory(&data.path)).context("list `repl/`")?;
    let mut segments = Vec::new();
    for segment in backlog::continuing(&found, &state, dump.offset) {
        let Some(verification) = verified(data, &segment)? else {
            tracing::warn!(
                path = %segment.path.display(),
                "a file of the log for replicas is damaged: it and what follows is left out"
            );
            break;
        };
        segments.push((segment, verification));
    }
    if segments.is_empty() {
        return Ok(None);
    }
    Ok(Some(Plan {
        state,
        dump,
        segments,
    }))
}

/// Whether the dump has the length and the checksum of the file that the state names.
fn is_same_file(data: &DataDirectory, path: &Path, dump: &SnapshotIdentity) -> bool {
    let checksum = || -> std::io::Result<(u64, u64)> {
        let file = data.fs.open(path, OpenMode::Read)?;
        let bytes = file.len()?;
        let mut trailer = [0; CHECKSUM_BYTES as usize];
        file.read_full_at(&mut trailer, bytes.saturating_sub(CHECKSUM_BYTES))?;
        Ok((bytes, u64::from_le_bytes(trailer)))
    };
    checksum().is_ok_and(|(bytes, crc64)| bytes == dump.file_bytes && crc64 == dump.crc64)
}

/// The check of a segment whose bytes are all as they were written; `None` for a damaged one.
fn verified(
    data: &DataDirectory,
    segment: &BacklogSegment,
) -> anyhow::Result<Option<Verification>> {
    let fs = data.fs.as_ref();
    let named = || format!("check {}", segment.path.display());
    let Some(sidecar) = SidecarReader::open(fs, &segment.path).with_context(named)? else {
        return Ok(None);
    };
    let file = fs.open(&segment.path, OpenMode::Read).with_context(named)?;
    let checked = sidecar.verify(file.as_ref()).with_context(named)?;
    let is_whole = checked.durable_damage.is_none() && checked.tail_mismatch.is_none();
    Ok(Some(checked).filter(|_| is_whole))
}

/// Replays what was planned over the dump that was loaded. `None` if the dump turned out to be
/// another one, or a file to hold something else than our log: the data set is then that of the
/// last command that was replayed.
pub fn replay(
    server: &Server,
    data: &DataDirectory,
    plan: Option<Plan>,
    facts: Option<&RdbFacts>,
) -> anyhow::Result<Option<Recovered>> {
    let (Some(plan), Some(facts)) = (plan, facts) else {
        return Ok(None);
    };
    let is_named = facts.repl_id.as_deref() == Some(plan.dump.replid.as_slice())
        && facts.repl_offset == Some(plan.dump.offset);
    if !is_named {
        return Ok(None);
    }
    let mut replayer = Replayer::new(server);
    replayer.begin_file();
    replayer.set_database(facts.repl_stream_db.unwrap_or(0) as usize);
    let mut offset = plan.dump.offset;
    let mut sequence = 1;
    for (at, (segment, verification)) in plan.segments.iter().enumerate() {
        if at > 0 {
            replayer.begin_file();
        }
        let is_last = at + 1 == plan.segments.len();
        let from = if at == 0 {
            offset
        } else {
            segment.start_offset()
        };
        let one = One {
            data,
            segment,
            verification,
            is_last,
        };
        let Some(end) = one.replay(&mut replayer, from, at == 0)? else {
            return Ok(None);
        };
        offset = end;
        sequence = segment.sequence + 1;
    }
    tracing::info!(
        commands = replayer.commands(),
        from = plan.dump.offset,
        to = offset,
        "the log for replicas was replayed over the RDB file that it continues"
    );
    Ok(Some(Recovered {
        state: plan.state,
        offset,
        database: replayer.database(),
        sequence,
    }))
}

/// One segment to replay.
struct One<'a> {
    data: &'a DataDirectory,
    segment: &'a BacklogSegment,
    verification: &'a Verification,
    is_last: bool,
}

impl One<'_> {
    /// Replays the commands from a stream offset on; where the kept part ends. `None` if what
    /// is there can't be our log.
    fn replay(
        &self,
        replayer: &mut Replayer<'_>,
        from: u64,
        is_first: bool,
    ) -> anyhow::Result<Option<u64>> {
        let layout = self.segment.header.layout;
        // A segment's own SELECT says which database its stream begins in.
        let position = match is_first {
            true => layout.position_of(from).unwrap_or(0),
            false => 0,
        };
        let path = &self.segment.path;
        let fs = self.data.fs.as_ref();
        let named = || format!("replay {}", path.display());
        let file = fs.open(path, OpenMode::Read).with_context(named)?;
        let mut scanner = SegmentScanner::new(file.as_ref(), position, ScanLimits::default())?;
        let end = loop {
            match scanner.next_step().with_context(named)? {
                Step::Command(command) => replayer.command(&command).with_context(named)?,
                Step::End(end) => break end,
            }
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let context = TailContext {
            file_name: name.unwrap_or_default(),
            verification: Some(self.verification),
            followed_by_data: !self.is_last,
            load_truncated: true,
        };
        match decide_tail(&end, context) {
            TailDecision::Clean => Ok(Some(layout.offset_at(end.file_bytes))),
            TailDecision::TruncateAt { position, reason } => {
                tracing::warn!(reason, position, "the end of the log for replicas is cut");
                let seconds = crate::clock::unix_ms() as u64 / 1000;
                truncate_tail(fs, path, position, seconds)?;
                Ok(Some(layout.offset_at(position)))
            }
            TailDecision::Refuse { reason, .. } => {
                tracing::warn!(reason, "the log for replicas is replayed no further");
                Ok(None)
            }
        }
    }
}

/// Removes what a former run has left under `repl/`, but for what the stream goes on behind.
pub fn clean_up(data: &DataDirectory, recovered: Option<&Recovered>) -> anyhow::Result<()> {
    let directory = backlog::directory(&data.path);
    let guard = EpochGuard::new(data.fs.clone(), &data.path, data.epoch);
    let fs = data.fs.as_ref();
    let kept: Vec<i64> = match recovered {
        None => Vec::new(),
        Some(recovered) => {
            let found = backlog::segments(fs, &directory).context("list `repl/`")?;
            let numbers = found.iter().map(|segment| segment.sequence);
            numbers.filter(|n| *n < recovered.sequence).collect()
        }
    };
    let removed = backlog::remove_all_but(fs, &directory, &kept, &|| guard.check_io())
        .context("remove what a former run left under `repl/`")?;
    if removed > 0 {
        tracing::debug!(removed, "removed files of a former run's log for replicas");
    }
    Ok(())
}

/// Begins the segment in which the stream goes on.
pub fn begin(
    data: &DataDirectory,
    recovered: &Recovered,
    start: &SegmentStart,
) -> anyhow::Result<SegmentWriter> {
    let name = backlog::names().incr(recovered.sequence);
    let path = backlog::directory(&data.path).join(name);
    let now = crate::clock::unix_ms() as u64;
    SegmentWriter::begin(data.fs.as_ref(), &path, start, now)
        .with_context(|| format!("begin {}", path.display()))
}
