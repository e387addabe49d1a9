//! The log that only replicas need: segments in a folder of their own while the append-only
//! file is off. No manifest names them; their sidecars say what they hold.
//!
//! After a restart they may be replayed over the dump, but only over the very file that
//! its own `replication.state` names ([`crate::history::SnapshotIdentity`]), and only as far as they
//! follow each other without a gap: [`continuing`]. Whatever else lies there is of no use to
//! a new run and is removed: [`remove_all_but`]. Names that are not ours are never touched.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::Fs;
use crate::history::{ReplicationState, STATE_FILE_NAME};
use crate::manifest::Names;
use crate::sidecar::{SidecarHeader, SidecarReader};

/// The folder, below the data directory.
pub const DIRECTORY: &str = "repl";
/// A base under construction.
pub const TEMPORARY_BASE: &str = "temp-base.rdb";

/// The folder of a data directory.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY)
}

/// The names of its segments; `appendfilename` has no say here.
pub fn names() -> Names {
    Names::default()
}

/// The name of a base that replicas are sent.
pub fn base_name(number: u64) -> String {
    format!("base.{number}.rdb")
}

/// Whether a name is one of a base, finished or not.
pub fn is_base(name: &str) -> bool {
    let number = name
        .strip_prefix("base.")
        .and_then(|rest| rest.strip_suffix(".rdb"));
    name == TEMPORARY_BASE || number.is_some_and(|digits| digits.parse::<u64>().is_ok())
}

/// The number of the segment that a file is or belongs to: sidecars, tails that were cut.
pub fn segment_number(name: &str) -> Option<i64> {
    let names = names();
    let end = name.find(".incr.aof")? + ".incr.aof".len();
    let rest = name.get(end..)?;
    let belongs = rest.is_empty() || rest.starts_with(".meta") || rest.starts_with(".cut-");
    names.incr_sequence(name.get(..end)?).filter(|_| belongs)
}

/// A segment with a readable sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BacklogSegment {
    /// Its number.
    pub sequence: i64,
    /// Its path.
    pub path: PathBuf,
    /// What its first byte stands for.
    pub header: SidecarHeader,
    /// Its length.
    pub file_bytes: u64,
}

impl BacklogSegment {
    /// Stream offset behind its last byte.
    pub fn end_offset(&self) -> u64 {
        self.header.layout.offset_at(self.file_bytes)
    }

    /// Stream offset of its first byte.
    pub fn start_offset(&self) -> u64 {
        self.header.layout.start_offset
    }
}

/// The names in the folder that are UTF-8; none if there is no folder.
pub fn list(fs: &dyn Fs, directory: &Path) -> io::Result<Vec<String>> {
    match fs.list(directory) {
        Ok(names) => Ok(names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All segments, ascending by number. One that can't be read is left out: nothing leads
/// through it.
pub fn segments(fs: &dyn Fs, directory: &Path) -> io::Result<Vec<BacklogSegment>> {
    let mut found: Vec<BacklogSegment> = list(fs, directory)?
        .into_iter()
        .filter_map(|name| {
            let sequence = names().incr_sequence(&name)?;
            let path = directory.join(name);
            let header = SidecarReader::open(fs, &path).ok()??.header().clone();
            Some(BacklogSegment {
                sequence,
                file_bytes: fs.metadata(&path).ok()?.len,
                path,
                header,
            })
        })
        .collect();
    found.sort_by_key(|segment| segment.sequence);
    Ok(found)
}

/// The segments that continue the stream of `state` from `offset` on, oldest first: the first
/// holds that offset, each next one begins where the one before ends. Empty if none holds it.
pub fn continuing(
    segments: &[BacklogSegment],
    state: &ReplicationState,
    offset: u64,
) -> Vec<BacklogSegment> {
    // An id may change in the middle of a segment. One that another begins within has been cut, or should
    // have been: the other tells where.
    let is_cut = |segment: &BacklogSegment| {
        segments.iter().any(|later| {
            later.sequence > segment.sequence && later.start_offset() < segment.end_offset()
        })
    };
    let is_ours = |segment: &&BacklogSegment| {
        state.knows(&segment.header.replid, segment.start_offset()) && !is_cut(segment)
    };
    let mut chain: Vec<BacklogSegment> = Vec::new();
    for segment in segments.iter().filter(is_ours) {
        let fits = match chain.last() {
            None => (segment.start_offset()..=segment.end_offset()).contains(&offset),
            Some(last) => segment.start_offset() == last.end_offset(),
        };
        if fits {
            chain.push(segment.clone());
        } else if !chain.is_empty() {
            break;
        }
    }
    chain
}

/// Removes what is ours in the folder but the segments with these numbers; with none of them
/// their history goes too. `check` runs before each removal. Gives the number of files removed.
pub fn remove_all_but(
    fs: &dyn Fs,
    directory: &Path,
    kept: &[i64],
    check: &dyn Fn() -> io::Result<()>,
) -> io::Result<usize> {
    let mut removed = 0;
    for name in list(fs, directory)? {
        let number = segment_number(&name);
        let is_kept = number.is_some_and(|number| kept.contains(&number));
        let is_history = kept.is_empty() && name == STATE_FILE_NAME;
        if is_kept || (number.is_none() && !is_base(&name) && !is_history) {
            continue;
        }
        check()?;
        unlink(fs, &directory.join(name))?;
        removed += 1;
    }
    if removed > 0 {
        fs.sync_dir(directory)?;
    }
    Ok(removed)
}

fn unlink(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.unlink(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentLayout;
    use crate::testing::PowerLossFs;
    use crate::writer::{SegmentStart, SegmentWriter};

    fn id(letter: u8) -> [u8; 40] {
        [letter; 40]
    }

    fn segment(sequence: i64, letter: u8, start_offset: u64, bytes: u64) -> BacklogSegment {
        BacklogSegment {
            sequence,
            path: PathBuf::from(names().incr(sequence)),
            header: SidecarHeader {
                layout: SegmentLayout {
                    start_offset,
                    prefix_bytes: 23,
                },
                database: 0,
                replid: id(letter),
                run_id: id(b'r'),
                epoch: 1,
                created_unix_ms: 0,
            },
            file_bytes: bytes + 23,
        }
    }

    fn numbers(chain: &[BacklogSegment]) -> Vec<i64> {
        chain.iter().map(|segment| segment.sequence).collect()
    }

    #[test]
    fn only_what_follows_the_offset_without_a_gap_and_of_our_history_continues_it() {
        let mut state = ReplicationState::new(id(b'a'), 0, 0);
        state.change_id(id(b'b'), 300);
        let all = [
            segment(1, b'a', 0, 100),
            segment(2, b'a', 100, 100),
            segment(3, b'a', 200, 100),
            segment(4, b'b', 300, 50),
        ];
        let chain = |offset| numbers(&continuing(&all, &state, offset));
        assert_eq!(chain(150), [2, 3, 4]);
        assert_eq!(chain(350), [4]);
        assert!(chain(351).is_empty());
        // The dump's cut at a border: either segment holds it, and the older leads on.
        assert_eq!(chain(200), [2, 3, 4]);
        let gap = [all[1].clone(), segment(4, b'b', 250, 50)];
        assert_eq!(numbers(&continuing(&gap, &state, 150)), [2]);
        let stranger = [all[1].clone(), segment(3, b'z', 200, 9), all[3].clone()];
        assert_eq!(numbers(&continuing(&stranger, &state, 150)), [2]);
        // Begun beyond the point where our stream left the former id.
        let beyond = [segment(2, b'a', 301, 99)];
        assert!(continuing(&beyond, &state, 350).is_empty());
        // The id changed within it; or it was to end there, and another goes on.
        let within = [segment(2, b'a', 100, 300), segment(3, b'b', 400, 9)];
        assert_eq!(numbers(&continuing(&within, &state, 150)), [2, 3]);
        let overlong = [segment(2, b'a', 100, 300), segment(3, b'b', 300, 9)];
        assert!(continuing(&overlong, &state, 150).is_empty());
        assert_eq!(numbers(&continuing(&overlong, &state, 305)), [3]);
    }

    #[test]
    fn foreign_names_stay_and_ours_go() {
        let fs = PowerLossFs::new("/d");
        let dir = Path::new("/d");
        let start = SegmentStart {
            start_offset: 7,
            database: 0,
            replid: id(b'a'),
            run_id: id(b'r'),
            epoch: 1,
        };
        for number in [1, 2] {
            let path = dir.join(names().incr(number));
            SegmentWriter::begin(&fs, &path, &start, 1).unwrap();
        }
        let others = ["notes.txt", "base.x.rdb", "appendonly.aof.1.incr.aof.bak"];
        for name in ["base.3.rdb", TEMPORARY_BASE].into_iter().chain(others) {
            fs.open(&dir.join(name), crate::fs::OpenMode::CreateNew)
                .unwrap();
        }
        let found = segments(&fs, dir).unwrap();
        assert_eq!(numbers(&found), [1, 2]);
        assert_eq!((found[0].start_offset(), found[0].end_offset()), (7, 7));
        let refused = remove_all_but(&fs, dir, &[], &|| Err(io::Error::other("superseded")));
        assert!(refused.is_err());
        assert_eq!(remove_all_but(&fs, dir, &[2], &|| Ok(())).unwrap(), 4);
        let mut left = list(&fs, dir).unwrap();
        left.sort();
        let mut wanted: Vec<String> = others.map(str::to_owned).to_vec();
        wanted.extend([names().incr(2), format!("{}.meta", names().incr(2))]);
        wanted.sort();
        assert_eq!(left, wanted);
    }
}
