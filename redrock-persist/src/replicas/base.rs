//! A base for replicas with the append-only file off: made on demand, shared.
//!
//! The first replica's base turns the log on: the server switches to a segment under `repl/` at
//! the cut. Whoever asks while it is made waits for it, before its cut or after: the segments
//! since hold what it lacks. It serves those who come later too, until the log since it is
//! longer than the backlog or nobody has needed it for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redrock_proto::model::{Base, LogKind, LogState, Purpose, SharedPath};
use redrock_proto::{ErrorCode, RpcError, v1};
use tokio_util::sync::CancellationToken;

use super::tend::tell_segments;
use crate::aof::keeper::NewSegment;
use crate::aof::rewrite::{Offer, blocking, offer};
use crate::base::{Head, Wanted, as_reply, continues};
use crate::error::Result;
use crate::jobs::{Activity, Job, Queueing};
use crate::progress::ActionProgress;
use crate::service::{Sender, watch_progress};
use crate::session::{SERVER_WAIT, Session, file_options, outcome};
use crate::settings::Settings;
use crate::snapshot::{self, Plan};

/// What every peer reads that we serve.
const RDB_VERSION: u16 = 10;
/// What this version and those before it hold can be written in [`RDB_VERSION`] too.
const RDB_VERSION_COMMON: u16 = 11;
/// Attempts to get hold of a base that others have begun.
const ATTEMPTS_MAX: u32 = 4;
/// Offers made until one is taken.
const OFFERS_MAX: u32 = 3;
/// Holder of the pin that keeps the log since a base's cut while the base is made.
const HOLDER: &str = "base for replicas";
/// A job ends long before, and its pin with it.
const JOB_LEASE: Duration = Duration::from_secs(24 * 3600);

/// Finds or makes a base and pins it.
pub async fn get(
    session: &Arc<Session>,
    wanted: Wanted,
    sender: &Sender<v1::GetBaseReply>,
) -> Result<Base> {
    if wanted.rdb_version_max < RDB_VERSION {
        let text = format!("no base can be written that is older than RDB version {RDB_VERSION}");
        return Err(RpcError::unsupported(text));
    }
    let mut fresh = wanted.fresh;
    for _ in 0..ATTEMPTS_MAX {
        if let Some(job) = session.jobs.of(Activity::Base) {
            // The one for us, unless it is past its cut and a fresh one is wanted. How it ended
            // shows below.
            fresh &= !job.progress.is_before_cut();
            let _ = watch_progress(&job.progress, job.finished(), sender, as_reply).await;
        }
        if !fresh && let Some(base) = pinned_present(session, &wanted).await? {
            return Ok(base);
        }
        let version = version_for(&session.settings().await?, &wanted);
        match make(session, version) {
            Ok(job) => {
                watch_progress(&job.progress, job.finished(), sender, as_reply).await?;
                fresh = false;
            }
            // One that has begun meanwhile: watched in the next round.
            Err(error) if error.code == ErrorCode::Busy => {}
            Err(error) => return Err(error),
        }
    }
    pinned_present(session, &wanted)
        .await?
        .ok_or_else(|| RpcError::busy("the bases for replicas were outdated when they were made"))
}

/// The present base, pinned, if the log continues it and is not too long.
async fn pinned_present(session: &Arc<Session>, wanted: &Wanted) -> Result<Option<Base>> {
    let log = session.log().await?;
    let settings = session.settings().await?;
    let backlog_bytes = settings.backlog_bytes(session.source.dir.root());
    let (session, wanted) = (Arc::clone(session), wanted.clone());
    blocking(move || {
        let mut present = session.replicas.base.lock();
        let Some(placed) = present.as_mut() else {
            return Ok(None);
        };
        let head = &placed.head;
        if head.version > wanted.rdb_version_max {
            return Ok(None);
        }
        let lag = log.written_offset.saturating_sub(head.offset);
        let is_covered = covers(&session, &log, head.offset)?;
        if lag > backlog_bytes || !is_covered || !continues(&session, &log, head)? {
            return Ok(None);
        }
        let root = session.source.dir.root();
        let relative = placed.path.strip_prefix(root).unwrap_or(&placed.path);
        session.pins.lock().pin(
            &wanted.holder,
            BTreeSet::from([relative.to_owned()]),
            Some(head.offset),
            wanted.lease,
            Instant::now(),
        )?;
        placed.unused_since = Instant::now();
        Ok(Some(Base {
            path: SharedPath::new(root, &placed.path),
            bytes: head.bytes,
            rdb_version: head.version.into(),
            replid: log.replid,
            offset: head.offset,
            stream_db: head.stream_db,
            segments: Vec::new(),
            holder: wanted.holder,
        }))
    })
    .await
}

/// Whether the segments lead from an offset to the one that is written, without a gap.
fn covers(session: &Session, log: &LogState, offset: u64) -> Result<bool> {
    let Some(current) = log
        .segment
        .as_ref()
        .filter(|_| log.kind == LogKind::Replication)
    else {
        return Ok(false);
    };
    let mut start = current.start_offset;
    for segment in session.replicas.segments()?.iter().rev() {
        if start <= offset {
            break;
        }
        if segment.end_offset() == start {
            start = segment.start_offset();
        }
    }
    Ok((start..=log.written_offset).contains(&offset))
}

/// The version of a base for a peer: one for all, unless fields of hashes may expire, which older
/// versions can't hold. A peer that reads none of that gets a base only while no field does.
fn version_for(settings: &Settings, wanted: &Wanted) -> u16 {
    let newest = settings.rdb_version;
    match newest > RDB_VERSION_COMMON && newest <= wanted.rdb_version_max {
        true => newest,
        false => RDB_VERSION,
    }
}

/// Starts making a base.
fn make(session: &Arc<Session>, version: u16) -> Result<Job> {
    let owned = Arc::clone(session);
    session.jobs.start(
        Activity::Base,
        Queueing::Wait,
        move |progress, cancel| async move { run(&owned, version, &progress, &cancel).await },
    )
}

async fn run(
    session: &Arc<Session>,
    version: u16,
    progress: &ActionProgress,
    cancel: &CancellationToken,
) -> Result<v1::Outcome> {
    session.ready().await?;
    let settings = session.settings().await?;
    let log = session.log().await?;
    if log.kind == LogKind::AppendOnly {
        return Err(RpcError::busy("the append only log has been turned on"));
    }
    let _pin = JobPin::new(session, log.written_offset)?;
    let folder = Arc::clone(&session.replicas);
    blocking(move || folder.create()).await?;
    let segment = match log.kind {
        LogKind::None => Some(offered_segment(session).await?),
        _ => None,
    };
    let temporary = session.replicas.temporary_base();
    let mut file = file_options(&settings, true);
    file.version = version;
    let plan = Plan {
        purpose: Purpose::FullSync,
        rotate_to_segment: segment.and_then(|segment| u64::try_from(segment.seq).ok()),
        temporary: temporary.clone(),
        file,
        incremental_fsync: settings.rewrite_incremental_fsync,
        rate: settings.snapshot_rate,
        key_delay: settings.key_delay,
    };
    // If it fails behind its cut the log is on and goes on: the next base needs no switch.
    let taken = snapshot::take(&session.source, plan, progress, cancel)
        .await
        .map_err(|failed| failed.error)?;
    let begin = &taken.begin;
    let head = Head {
        version,
        bytes: taken.summary.written.bytes,
        replid: begin.replid,
        offset: begin.log_offset,
        stream_db: begin.stream_db,
    };
    let folder = Arc::clone(&session.replicas);
    let placed = blocking(move || folder.place_base(head)).await;
    let file = placed.as_deref().ok();
    taken.release(&session.source, file).await;
    if placed.is_err() {
        session.source.dir.unlink_litter(&temporary);
    }
    let path = placed?;
    log_shows(session, taken.begin.log_offset).await;
    tell_segments(session).await;
    Ok(outcome(session.source.dir.root(), &path, &taken, progress))
}

/// Waits a bounded time for the log's state to show what the cut has brought: those who wait for
/// the base look at that.
async fn log_shows(session: &Session, offset: u64) {
    let mut states = session.log.clone();
    let seen = states.wait_for(|log| {
        let log = log.as_ref();
        log.is_some_and(|log| log.kind != LogKind::None && log.written_offset >= offset)
    });
    // A state that never comes shows when the base is looked at.
    let _ = tokio::time::timeout(SERVER_WAIT, seen).await;
}

/// Keeps the log from an offset on while it lives.
struct JobPin<'a>(&'a Session);

impl JobPin<'_> {
    fn new(session: &Session, from_offset: u64) -> Result<JobPin<'_>> {
        let now = Instant::now();
        let paths = BTreeSet::new();
        let mut pins = session.pins.lock();
        pins.pin(HOLDER, paths, Some(from_offset), JOB_LEASE, now)?;
        drop(pins);
        Ok(JobPin(session))
    }
}

impl Drop for JobPin<'_> {
    fn drop(&mut self) {
        self.0.pins.lock().unpin(HOLDER);
    }
}

/// A new segment that the server has taken the offer of.
pub async fn offered_segment(session: &Arc<Session>) -> Result<NewSegment> {
    let mut seq_min = 1;
    for _ in 0..OFFERS_MAX {
        let folder = Arc::clone(&session.replicas);
        let segment = blocking(move || folder.create_segment(seq_min)).await?;
        match offer(&session.source, &segment, v1::LogKind::Replication, false).await? {
            Offer::Accepted => return Ok(segment),
            Offer::InUse => {
                let text = format!("the server already writes to log file {}", segment.seq);
                return Err(RpcError::internal(text));
            }
            Offer::Refused { seq_min: wanted } => {
                let (folder, seq) = (Arc::clone(&session.replicas), segment.seq);
                blocking(move || folder.remove_segment(seq)).await?;
                seq_min = wanted.max(seq.saturating_add(1));
            }
        }
    }
    Err(RpcError::internal("the server refuses every log file"))
}
