//! Keeping the log for replicas within its bound: further segments, and removing what nobody
//! needs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redrock_log::backlog::BacklogSegment;
use redrock_proto::model::{LogKind, LogState};
use redrock_proto::v1;

use super::retention::{Facts, Finished, removable, segment_bytes};
use crate::aof::rewrite::{Offer, blocking, offer};
use crate::aof::segments::{KnownSegment, contiguous, listed_request};
use crate::error::Result;
use crate::session::{SERVER_WAIT, Session};
use crate::settings::Settings;

/// A base that nobody has had for so long goes: making another one is cheap by comparison.
const UNUSED_BASE_PATIENCE: Duration = Duration::from_secs(60);
/// After a segment could not be begun.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// Holders of pins of a persister that died have renewed them by then.
pub(crate) const PINS_KNOWN_AFTER: Duration = Duration::from_secs(30);

/// Has the server begin another segment each time the present one is long, until it is cancelled.
/// Looks at each state of the log, so that a segment is not much longer than it should be.
pub async fn rotate(session: Arc<Session>) {
    let mut states = session.log.clone();
    while states.changed().await.is_ok() {
        let log = states.borrow_and_update().clone();
        let settings = session.settings.borrow().clone();
        let (Some(log), Some(settings)) = (log, settings) else {
            continue;
        };
        let backlog_bytes = settings.backlog_bytes(session.source.dir.root());
        let is_long = log.segment.as_ref().is_some_and(|segment| {
            let bytes = log.written_offset.saturating_sub(segment.start_offset);
            bytes >= segment_bytes(backlog_bytes)
        });
        if log.kind != LogKind::Replication || !is_long {
            continue;
        }
        if let Err(error) = begin_next(&session, &log).await {
            tracing::warn!(%error, "could not begin another file of the log for replicas");
            tokio::time::sleep(FAILED_PAUSE).await;
        }
    }
}

async fn begin_next(session: &Arc<Session>, log: &LogState) -> Result<()> {
    let present = log.segment.as_ref().map_or(0, |segment| segment.seq);
    let seq_min = i64::try_from(present).unwrap_or(i64::MAX).saturating_add(1);
    let folder = Arc::clone(&session.replicas);
    let segment = blocking(move || folder.create_segment(seq_min)).await?;
    match offer(&session.source, &segment, v1::LogKind::Replication, true).await? {
        Offer::InUse => Ok(()),
        Offer::Accepted | Offer::Refused { .. } => {
            // The log has ended meanwhile, or another switch is under way.
            let folder = Arc::clone(&session.replicas);
            blocking(move || folder.remove_segment(segment.seq)).await
        }
    }
}

/// Removes what nobody needs. Called once a second and when the server's log has changed.
pub async fn tend(session: &Arc<Session>, settings: &Settings, log: &LogState) {
    let (owned, log) = (Arc::clone(session), log.clone());
    let backlog_bytes = settings.backlog_bytes(session.source.dir.root());
    match blocking(move || remove_unneeded(&owned, &log, backlog_bytes)).await {
        Ok(0) => {}
        Ok(files) => {
            tracing::debug!(files, "removed files of the log for replicas");
            tell_segments(session).await;
        }
        Err(error) => tracing::warn!(%error, "could not look after the log for replicas"),
    }
}

fn remove_unneeded(session: &Session, log: &LogState, backlog_bytes: u64) -> Result<usize> {
    let folder = &session.replicas;
    let root = session.source.dir.root();
    let is_pinned = |path: &Path| {
        let path = path.strip_prefix(root).unwrap_or(path);
        !session.pins.lock().holders_of(path).is_empty()
    };
    forget_outdated_base(session, log, backlog_bytes, is_pinned);
    let mut removed = folder.remove_bases(is_pinned)?;
    let current = log
        .segment
        .as_ref()
        .filter(|_| log.kind == LogKind::Replication)
        .and_then(|segment| i64::try_from(segment.seq).ok());
    if let Some(current) = current {
        folder.confirm(current);
    }
    let found = folder.segments()?;
    let kept = if log.kind == LogKind::None {
        Vec::new()
    } else {
        kept_segments(session, log, &found, current, backlog_bytes)
    };
    removed += folder.remove_litter(&kept)?;
    Ok(removed)
}

/// Numbers of the segments that hold what may still be fed.
fn kept_segments(
    session: &Session,
    log: &LogState,
    found: &[BacklogSegment],
    current: Option<i64>,
    backlog_bytes: u64,
) -> Vec<i64> {
    let from_offset = session.pins.lock().of_directory(Path::new("")).from_offset;
    // Right after the start nobody's pins are known.
    let pins_are_known = session.began.elapsed() > PINS_KNOWN_AFTER;
    let finished: Vec<Finished> = found
        .iter()
        .filter(|segment| Some(segment.sequence) != current)
        .map(|segment| Finished {
            seq: segment.sequence,
            end_offset: segment.end_offset(),
        })
        .collect();
    let facts = Facts {
        written_offset: log.written_offset,
        backlog_bytes,
        pinned_from: match pins_are_known {
            true => from_offset,
            false => Some(0),
        },
    };
    let gone = removable(&finished, facts);
    let rest = finished.iter().map(|segment| segment.seq);
    rest.filter(|seq| !gone.contains(seq))
        .chain(current)
        .collect()
}

/// Lets go of the base if nobody uses it, or if it could not be continued.
fn forget_outdated_base(
    session: &Session,
    log: &LogState,
    backlog_bytes: u64,
    is_pinned: impl Fn(&Path) -> bool,
) {
    let mut base = session.replicas.base.lock();
    let Some(placed) = base.as_mut() else {
        return;
    };
    if is_pinned(&placed.path) {
        placed.unused_since = Instant::now();
    }
    let is_unused = placed.unused_since.elapsed() > UNUSED_BASE_PATIENCE;
    let is_long = log.written_offset.saturating_sub(placed.head.offset) > backlog_bytes;
    if is_unused || is_long {
        *base = None;
    }
}

/// Tells the server which segments exist, if they are those for replicas.
pub async fn tell_segments(session: &Session) {
    let log = session.log.borrow().clone();
    let Some(log) = log.filter(|log| log.kind == LogKind::Replication) else {
        return;
    };
    let folder = Arc::clone(&session.replicas);
    let known = blocking(move || {
        let found = folder.segments()?;
        Ok(contiguous(known_segments(&found, &log)))
    });
    let request = match known.await {
        Ok(known) => listed_request(session.run, v1::LogKind::Replication, &known),
        Err(error) => {
            tracing::warn!(%error, "could not list the log's files for the server");
            return;
        }
    };
    let mut client = session.source.server.log();
    let told = tokio::time::timeout(SERVER_WAIT, client.segments_listed(request)).await;
    if !matches!(told, Ok(Ok(_))) {
        tracing::debug!("could not tell the server which log files exist");
    }
}

/// The segments up to the one that is written.
fn known_segments(found: &[BacklogSegment], log: &LogState) -> Vec<KnownSegment> {
    let current = log.segment.as_ref();
    found
        .iter()
        .filter_map(|segment| {
            let seq = u64::try_from(segment.sequence).ok()?;
            let is_current = current.is_some_and(|current| current.seq == seq);
            let is_before = current.is_some_and(|current| seq < current.seq);
            (is_current || is_before).then(|| KnownSegment {
                seq: segment.sequence,
                name: String::new(),
                start_offset: segment.start_offset(),
                end_offset: match is_current {
                    true => log.written_offset,
                    false => segment.end_offset(),
                },
            })
        })
        .collect()
}
