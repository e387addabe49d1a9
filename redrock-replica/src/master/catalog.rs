//! Which log segments there are, and which of them form our stream.
//!
//! The directories are looked at anew each time: segments and sidecars say by
//! themselves what they hold, so that a partial resync needs no companion.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use redrock_log::backlog;
use redrock_log::fs::RealFs;
use redrock_log::history::{LogOrigin, ReplicationState, RetainedRange};
use redrock_log::segment::SegmentLayout;
use redrock_log::sidecar::{HexId, SidecarReader};
use redrock_proto::model::{LogKind, LogState};

const SEGMENT_SUFFIX: &str = ".incr.aof";

/// A segment with stream bytes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) layout: SegmentLayout,
    pub(crate) replid: HexId,
    /// Stream offset behind its last byte.
    pub(crate) end_offset: u64,
}

/// All segments with a sidecar in the places where they are kept.
pub(crate) fn scan(data_dir: &Path, appenddirname: &str, log: &LogState) -> Vec<SegmentFile> {
    let mut directories = vec![data_dir.join(appenddirname), backlog::directory(data_dir)];
    let current = log.segment.as_ref().map(|s| s.path.resolve(data_dir));
    if let Some(parent) = current.as_deref().and_then(Path::parent)
        && !directories.iter().any(|known| known == parent)
    {
        directories.push(parent.to_owned());
    }
    let mut found = vec![];
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(OsStr::to_str);
            if !name.is_some_and(|name| name.ends_with(SEGMENT_SUFFIX)) {
                continue;
            }
            match read_segment(&path) {
                Ok(segment) => found.extend(segment),
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "a segment is left out");
                }
            }
        }
    }
    found
}

fn read_segment(path: &Path) -> anyhow::Result<Option<SegmentFile>> {
    let Some(sidecar) = SidecarReader::open(&RealFs, path)? else {
        return Ok(None);
    };
    let header = sidecar.header();
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(SegmentFile {
        path: path.to_owned(),
        layout: header.layout,
        replid: header.replid,
        end_offset: header.layout.offset_at(bytes),
    }))
}

/// The segments that form our stream without a gap up to what is written,
/// ascending; the last one is being written. Empty without a log.
///
/// A former segment belongs to it if it ends where the next begins, is no older
/// than the log itself, and its first byte is one of our stream: files of a
/// history that we left are never fed. Its id may have changed behind that.
pub(crate) fn chain(
    mut found: Vec<SegmentFile>,
    log: &LogState,
    data_dir: &Path,
    state: &ReplicationState,
) -> Vec<SegmentFile> {
    let Some(current) = &log.segment else {
        return vec![];
    };
    let current_path = current.path.resolve(data_dir);
    let replid = id_bytes(&log.replid);
    found.retain(|file| file.path != current_path && file.end_offset > file.layout.start_offset);
    let mut chain = vec![SegmentFile {
        path: current_path.clone(),
        layout: SegmentLayout {
            start_offset: current.start_offset,
            prefix_bytes: current.prefix_bytes,
        },
        replid,
        end_offset: log.written_offset,
    }];
    let mut start = current.start_offset;
    loop {
        let before = found
            .iter()
            .position(|file| file.end_offset == start && belongs(state, file, &current_path));
        let Some(before) = before else { break };
        let file = found.swap_remove(before);
        start = file.layout.start_offset;
        chain.push(file);
    }
    chain.reverse();
    chain
}

fn belongs(state: &ReplicationState, file: &SegmentFile, current: &Path) -> bool {
    // Numbers can be compared within one directory.
    let is_older_log = file.path.parent() == current.parent()
        && sequence(&file.path).is_none_or(|sequence| sequence < state.origin.sequence);
    let start = file.layout.start_offset;
    !is_older_log && start >= state.origin.offset && state.knows(&file.replid, start)
}

/// The number in a segment's name.
fn sequence(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(SEGMENT_SUFFIX)?;
    name.rsplit('.').next()?.parse().ok()
}

/// What the chain holds.
pub(crate) fn retained(chain: &[SegmentFile]) -> Option<RetainedRange> {
    Some(RetainedRange {
        start_offset: chain.first()?.layout.start_offset,
        end_offset: chain.last()?.end_offset,
    })
}

/// The segment that holds the byte at `offset`, or that will: at a border the
/// later one.
pub(crate) fn holding(chain: &[SegmentFile], offset: u64) -> Option<&SegmentFile> {
    chain
        .iter()
        .rev()
        .find(|file| (file.layout.start_offset..=file.end_offset).contains(&offset))
}

/// The ids that our stream has had, and where its log begins. The server's file
/// is complete; while the id changes it may be one change ahead or behind. What
/// it says of another log counts for nothing.
pub(crate) fn replication_state(data_dir: &Path, log: &LogState) -> ReplicationState {
    let directory = match log.kind {
        LogKind::Replication => backlog::directory(data_dir),
        LogKind::AppendOnly | LogKind::None => data_dir.to_owned(),
    };
    let stored = match ReplicationState::load(&RealFs, &directory) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::warn!(%error, "the history of replication ids can't be read");
            None
        }
    };
    bring_up_to_date(stored, log)
}

fn bring_up_to_date(stored: Option<ReplicationState>, log: &LogState) -> ReplicationState {
    let replid = id_bytes(&log.replid);
    // On the wire the first offset that is no longer valid.
    let former = log
        .replid2
        .as_ref()
        .map(|(id, end)| (id_bytes(id), end.saturating_sub(1)));
    if let Some(mut state) = stored {
        let before = state.before_last_change();
        match (before, former) {
            _ if state.replid == replid => return state,
            (Some(before), _) if before.replid == replid => return before,
            (_, Some((former, end))) if state.replid == former => {
                state.change_id(replid, end);
                return state;
            }
            _ => {}
        }
    }
    let mut state = ReplicationState::new(replid, log.written_offset, 0);
    if let Some((former, end)) = former {
        state = ReplicationState::new(former, end, 0);
        state.change_id(replid, end);
    }
    // Nothing but the segment at hand is known to be ours.
    state.origin = LogOrigin {
        sequence: u64::MAX,
        offset: u64::MAX,
    };
    state
}

fn id_bytes(id: &redrock_proto::model::HexId) -> HexId {
    let mut bytes = [0; 40];
    bytes.copy_from_slice(id.as_str().as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use redrock_proto::model::{HexId as ModelId, Role, Segment, SharedPath};

    use super::*;

    fn file(name: &str, letter: u8, start: u64, end: u64) -> SegmentFile {
        SegmentFile {
            path: Path::new("/data").join(format!("{name}.incr.aof")),
            layout: SegmentLayout {
                start_offset: start,
                prefix_bytes: 23,
            },
            replid: [letter; 40],
            end_offset: end,
        }
    }

    fn log(start: u64, written: u64) -> LogState {
        LogState {
            written_offset: written,
            durable_offset: 0,
            kind: LogKind::AppendOnly,
            segment: Some(Segment {
                seq: 9,
                path: SharedPath::new(Path::new("/data"), Path::new("/data/current.incr.aof")),
                start_offset: start,
                prefix_bytes: 23,
            }),
            replid: ModelId::parse(&"c".repeat(40)).unwrap(),
            replid2: None,
            stream_db: None,
            role: Role::Master,
            changes_since_save: 0,
            write_error: None,
        }
    }

    fn state() -> ReplicationState {
        let mut state = ReplicationState::new([b'a'; 40], 0, 0);
        state.change_id([b'c'; 40], 300);
        state
    }

    #[test]
    fn the_chain_reaches_back_as_far_as_there_is_no_gap() {
        let found = vec![
            file("current", b'c', 400, 450),
            file("2", b'a', 200, 300),
            file("4", b'c', 300, 400),
            file("3", b'c', 300, 300),
            file("0", b'a', 0, 150),
        ];
        let chain = chain(found, &log(400, 470), Path::new("/data"), &state());
        let names: Vec<_> = chain
            .iter()
            .map(|file| file.path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["2.incr.aof", "4.incr.aof", "current.incr.aof"]);
        let range = retained(&chain).unwrap();
        assert_eq!((range.start_offset, range.end_offset), (200, 470));
        let held = |offset| holding(&chain, offset).map(|file| file.layout.start_offset);
        assert_eq!(held(199), None);
        assert_eq!(held(200), Some(200));
        assert_eq!(held(300), Some(300));
        assert_eq!(held(470), Some(400));
        assert_eq!(held(471), None);
    }

    #[test]
    fn segments_of_a_history_that_we_left_are_not_fed() {
        let stranger = vec![file("x", b'z', 200, 400)];
        let dir = Path::new("/data");
        assert_eq!(chain(stranger, &log(400, 470), dir, &state()).len(), 1);
        let beyond = vec![file("2", b'a', 301, 400)];
        assert_eq!(chain(beyond, &log(400, 470), dir, &state()).len(), 1);
        // The id changed in the middle of this one.
        let both = vec![file("2", b'a', 200, 400)];
        assert_eq!(chain(both.clone(), &log(400, 470), dir, &state()).len(), 2);
        // Files of a log before ours end in the same place, under the same id.
        for (sequence, offset, length) in [(3, 0, 1), (0, 201, 1), (2, 200, 2)] {
            let mut state = state();
            state.origin = LogOrigin { sequence, offset };
            let chain = chain(both.clone(), &log(400, 470), dir, &state);
            assert_eq!(chain.len(), length, "{sequence} {offset}");
        }
        let none = LogState {
            segment: None,
            ..log(400, 470)
        };
        assert_eq!(retained(&chain(vec![], &none, dir, &state())), None);
    }

    #[test]
    fn a_state_file_that_is_one_change_old_is_brought_up_to_date() {
        let valid_to = |state: &ReplicationState, letter: u8| {
            let former = state.former().find(|former| former.replid == [letter; 40]);
            former.map(|former| former.valid_to_offset)
        };
        let mut log = log(400, 470);
        log.replid2 = Some((ModelId::parse(&"b".repeat(40)).unwrap(), 421));
        let mut stored = ReplicationState::new([b'a'; 40], 0, 0);
        stored.change_id([b'b'; 40], 300);
        let state = bring_up_to_date(Some(stored.clone()), &log);
        assert_eq!(state.replid, [b'c'; 40]);
        assert_eq!(valid_to(&state, b'b'), Some(420));
        assert_eq!(valid_to(&state, b'a'), Some(300));
        // The file is one change ahead.
        let mut ahead = stored.clone();
        ahead.change_id([b'c'; 40], 420);
        ahead.change_id([b'd'; 40], 470);
        let state = bring_up_to_date(Some(ahead), &log);
        assert_eq!(
            (state.replid, valid_to(&state, b'b')),
            ([b'c'; 40], Some(420))
        );
        // Another history, or none: only what the log says counts.
        stored.replace_stream([b'z'; 40], 9, 0);
        for stored in [Some(stored.clone()), None] {
            let state = bring_up_to_date(stored, &log);
            assert_eq!(valid_to(&state, b'b'), Some(420));
            assert_eq!(state.former().len(), 1);
        }
        stored = ReplicationState::new([b'c'; 40], 0, 0);
        assert_eq!(bring_up_to_date(Some(stored.clone()), &log), stored);
    }
}
