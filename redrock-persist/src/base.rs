//! A base for a full sync: the log's own base with the segments since it, or a new one.
//!
//! The present base will do if we wrote it (its aux fields say so), in a version that the peer
//! reads, every segment since is ours and joins without a gap, its replication id is the
//! present one or a former one of the same stream, and the log since it isn't long. Otherwise
//! the log is rewritten first; all who ask before the cut share that one.
//! With the append-only file off [`crate::replicas::base`] makes one.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redrock_log::fs::{FsFile, OpenMode};
use redrock_log::history::ReplicationState;
use redrock_proto::model::{Base, FileInfo, FileKind, HexId, LogKind, LogState, SharedPath};
use redrock_proto::{ErrorCode, RpcError, v1};
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};

use crate::aof::keeper::Keeper;
use crate::aof::rewrite::blocking;
use crate::aof::segments::{KnownSegment, contiguous, known_segments};
use crate::error::{Result, io_error};
use crate::files::file_info;
use crate::jobs::Activity;
use crate::replicas;
use crate::service::{Sender, watch_progress};
use crate::session::Session;

/// A log longer than this, and than half its base, is rewritten rather than sent.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Attempts to get hold of a rewrite that others have begun.
const ATTEMPTS_MAX: u32 = 4;

/// A checked request.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub holder: String,
    pub rdb_version_max: u16,
    pub fresh: bool,
    pub lease: Duration,
}

impl TryFrom<&v1::GetBaseRequest> for Wanted {
    type Error = RpcError;

    fn try_from(wire: &v1::GetBaseRequest) -> Result<Wanted> {
        if wire.holder.is_empty() || wire.holder.len() > 128 {
            return Err(RpcError::invalid("holder must have 1 to 128 bytes"));
        }
        if !(1_000..=600_000).contains(&wire.lease_ms) {
            return Err(RpcError::invalid("lease_ms must be 1000 to 600000"));
        }
        let rdb_version_max = u16::try_from(wire.rdb_version_max)
            .ok()
            .filter(|version| (1..=12).contains(version))
            .ok_or_else(|| RpcError::invalid("rdb_version_max must be 1 to 12"))?;
        Ok(Wanted {
            holder: wire.holder.clone(),
            rdb_version_max,
            fresh: wire.fresh,
            lease: Duration::from_millis(wire.lease_ms),
        })
    }
}

/// Finds or makes a base and pins it.
pub async fn get(
    session: &Arc<Session>,
    wanted: Wanted,
    sender: &Sender<v1::GetBaseReply>,
) -> Result<Base> {
    if session.log().await?.kind != LogKind::AppendOnly {
        return replicas::base::get(session, wanted, sender).await;
    }
    let mut fresh = wanted.fresh;
    for _ in 0..ATTEMPTS_MAX {
        // A rewrite under way makes the base: the one for us, unless it is past its cut and a
        // fresh one is wanted.
        let present = session.jobs.present();
        if let Some(job) = present.filter(|job| job.activity == Activity::Rewrite) {
            fresh &= !job.progress.is_before_cut();
            let _ = watch_progress(&job.progress, job.finished(), sender, as_reply).await;
        }
        if !fresh && let Some(base) = pinned_present(session, &wanted).await? {
            return Ok(base);
        }
        match session.rewrite(false) {
            Ok(job) => {
                watch_progress(&job.progress, job.finished(), sender, as_reply).await?;
                fresh = false;
            }
            // One that has begun meanwhile: watched in the next round.
            Err(error) if error.code == ErrorCode::Busy => {}
            Err(error) => return Err(error),
        }
    }
    match pinned_present(session, &wanted).await? {
        Some(base) if !fresh => Ok(base),
        _ => Err(RpcError::busy(
            "other snapshots kept this one from being made",
        )),
    }
}

pub(crate) fn as_reply(progress: v1::Progress) -> v1::GetBaseReply {
    v1::GetBaseReply {
        reply: Some(v1::get_base_reply::Reply::Progress(progress)),
    }
}

/// The present base, pinned, if it will do.
async fn pinned_present(session: &Arc<Session>, wanted: &Wanted) -> Result<Option<Base>> {
    let log = session.log().await?;
    let keeper = session.keeper().await?;
    let (owned, wanted) = (Arc::clone(session), wanted.clone());
    blocking(move || {
        let Some(base) = find(&owned, &keeper, &log, &wanted)? else {
            return Ok(None);
        };
        let mut paths: BTreeSet<PathBuf> = base
            .segments
            .iter()
            .map(|segment| segment.path.as_path().to_owned())
            .collect();
        paths.insert(base.path.as_path().to_owned());
        let pinned = owned.pins.lock().pin(
            &wanted.holder,
            paths,
            Some(base.offset),
            wanted.lease,
            Instant::now(),
        );
        match pinned {
            Ok(()) => {}
            Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        // What is a base after the pin can't have been condemned before it: that takes a
        // rewrite, which replaces the base first.
        let present = keeper.manifest().and_then(|manifest| manifest.base);
        let path = base.path.resolve(owned.source.dir.root());
        if present.is_some_and(|entry| keeper.path_of(&entry.name) == path) {
            return Ok(Some(base));
        }
        owned.pins.lock().unpin(&wanted.holder);
        Ok(None)
    })
    .await
}

fn find(
    session: &Session,
    keeper: &Keeper,
    log: &LogState,
    wanted: &Wanted,
) -> Result<Option<Base>> {
    let Some(entry) = keeper.manifest().and_then(|manifest| manifest.base) else {
        return Ok(None);
    };
    let path = keeper.path_of(&entry.name);
    let Some(head) = read_head(session, &path)? else {
        return Ok(None);
    };
    if head.version > wanted.rdb_version_max || !continues(session, log, &head)? {
        return Ok(None);
    }
    let known = contiguous(known_segments(keeper, Some(log)));
    let segments: Vec<&KnownSegment> = known
        .iter()
        .filter(|segment| segment.start_offset >= head.offset)
        .collect();
    if segments
        .first()
        .is_none_or(|first| first.start_offset != head.offset)
    {
        return Ok(None);
    }
    let log_bytes = log.written_offset.saturating_sub(head.offset);
    if is_long(log_bytes, head.bytes) {
        return Ok(None);
    }
    let segments: Vec<FileInfo> = segments
        .into_iter()
        .filter_map(|segment| {
            let seq = u64::try_from(segment.seq).ok()?;
            let path = keeper.path_of(&segment.name);
            let mut file = file_info(session, FileKind::Segment, &path, seq)?;
            file.start_offset = segment.start_offset;
            Some(file)
        })
        .collect();
    Ok(Some(Base {
        path: SharedPath::new(session.source.dir.root(), &path),
        bytes: head.bytes,
        rdb_version: head.version.into(),
        replid: log.replid,
        offset: head.offset,
        stream_db: head.stream_db,
        segments,
        holder: wanted.holder.clone(),
    }))
}

/// Whether sending the log costs more than a new base would.
fn is_long(log_bytes: u64, base_bytes: u64) -> bool {
    log_bytes > LOG_BYTES_MAX && log_bytes > base_bytes / 2
}

/// Whether the present stream goes on from the base's cut: its id may be a former one.
pub(crate) fn continues(session: &Session, log: &LogState, head: &Head) -> Result<bool> {
    if head.replid == log.replid {
        return Ok(true);
    }
    if log
        .replid2
        .is_some_and(|(id, end)| id == head.replid && head.offset < end)
    {
        return Ok(true);
    }
    let dir = &session.source.dir;
    let state = ReplicationState::load(dir.fs(), dir.root())
        .map_err(|error| RpcError::internal(format!("read the replication state: {error}")))?;
    // A file about another log says nothing of this one.
    let state = state.filter(|state| state.replid.as_slice() == log.replid.as_str().as_bytes());
    Ok(state.is_some_and(|state| {
        state.former().any(|former| {
            former.replid.as_slice() == head.replid.as_str().as_bytes()
                && head.offset <= former.valid_to_offset
        })
    }))
}

/// What the head of an RDB of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub version: u16,
    pub bytes: u64,
    pub replid: HexId,
    pub offset: u64,
    pub stream_db: Option<u32>,
}

/// Reads the aux fields at the head of a file; `None` if we did not write it.
fn read_head(session: &Session, path: &Path) -> Result<Option<Head>> {
    let file = session.source.dir.open(path, OpenMode::Read)?;
    let bytes = file
        .len()
        .map_err(|error| io_error("look at", path, &error))?;
    let options = ReaderOptions {
        verify_checksum: false,
        allow_trailing: true,
        value_bytes_max: 1 << 20,
        ..ReaderOptions::default()
    };
    let reader = FileReader {
        file: file.as_ref(),
        position: 0,
    };
    let Ok(mut reader) = RdbReader::new(reader, options) else {
        return Ok(None);
    };
    let (mut replid, mut offset, mut stream_db, mut ours) = (None, None, None, false);
    while let Ok(Some(Item::Aux { key, value })) = reader.next_item() {
        let value = String::from_utf8(value).unwrap_or_default();
        match key.as_slice() {
            b"repl-id" => replid = HexId::parse(&value),
            b"repl-offset" => offset = value.parse().ok(),
            b"repl-stream-db" => stream_db = value.parse().ok(),
            b"redrock-ver" => ours = true,
            _ => {}
        }
    }
    Ok(match (replid, offset, ours) {
        (Some(replid), Some(offset), true) => Some(Head {
            version: reader.version(),
            bytes,
            replid,
            offset,
            stream_db,
        }),
        _ => None,
    })
}

/// A file from front to back.
struct FileReader<'a> {
    file: &'a dyn FsFile,
    position: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(target, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_long_above_a_gigabyte_and_half_its_base() {
        assert!(!is_long(1 << 30, 0));
        assert!(is_long((1 << 30) + 1, 2 << 30));
        assert!(!is_long(2 << 30, 4 << 30));
    }
}
