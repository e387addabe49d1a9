//! What the server and the replica agent are told about the segments that exist.

use redrock_log::history::ReplicationState;
use redrock_log::manifest::Manifest;
use redrock_proto::model::{LogState, RunRef};
use redrock_proto::v1;

use super::keeper::{Extent, Keeper};
use super::retention::ReplacedFile;

/// Most segments that one message may hold.
const SEGMENTS_MAX: usize = 65536;

/// A segment whose place in the stream is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSegment {
    pub seq: i64,
    pub name: String,
    pub start_offset: u64,
    pub end_offset: u64,
}

/// The segments, ascending, that lead without a gap up to the newest one whose place is known.
pub fn contiguous(mut known: Vec<KnownSegment>) -> Vec<KnownSegment> {
    known.sort_by_key(|segment| segment.seq);
    let mut from = known.len();
    while let Some(before) = from.checked_sub(1) {
        let leads_on = match (known.get(before), known.get(from)) {
            (Some(segment), Some(next)) => segment.end_offset == next.start_offset,
            _ => true,
        };
        if !leads_on || known.len() - before > SEGMENTS_MAX {
            break;
        }
        from = before;
    }
    known.split_off(from)
}

/// The files that the manifest keeps as history. `present` is the history of the log in force, if
/// that is known: what is not of its stream is fed to nobody, whatever offsets it has.
pub fn replaced_files(
    keeper: &Keeper,
    manifest: &Manifest,
    present: Option<&ReplicationState>,
) -> Vec<ReplacedFile> {
    let end_offset = |name: &str| {
        let sequence = keeper.names().incr_sequence(name)?;
        let extent = keeper.extent(name)?;
        let is_fed = present.is_none_or(|history| belongs(history, sequence, &extent));
        is_fed.then_some(extent.end_offset)
    };
    let replaced = manifest.history.iter();
    replaced
        .map(|entry| ReplacedFile {
            name: entry.name.clone(),
            end_offset: end_offset(&entry.name),
        })
        .collect()
}

/// Whether a segment of the append-only directory holds a part of a log's stream.
fn belongs(log: &ReplicationState, sequence: i64, extent: &Extent) -> bool {
    u64::try_from(sequence).is_ok_and(|sequence| sequence >= log.origin.sequence)
        && extent.start_offset >= log.origin.offset
        && log.knows(&extent.replid, extent.start_offset)
}

/// All segments of the append-only directory whose sidecars tell their place, history included.
pub fn known_segments(keeper: &Keeper, log: Option<&LogState>) -> Vec<KnownSegment> {
    let Some(manifest) = keeper.manifest() else {
        return Vec::new();
    };
    let current = log.and_then(|log| log.segment.as_ref());
    segment_names(&manifest)
        .filter_map(|name| {
            let seq = keeper.names().incr_sequence(name)?;
            let is_current = current.filter(|segment| i64::try_from(segment.seq) == Ok(seq));
            let (start_offset, end_offset) = match (is_current, log) {
                (Some(segment), Some(log)) => (segment.start_offset, log.written_offset),
                _ => {
                    let extent = keeper.extent(name)?;
                    (extent.start_offset, extent.end_offset)
                }
            };
            Some(KnownSegment {
                seq,
                name: name.to_owned(),
                start_offset,
                end_offset,
            })
        })
        .collect()
}

fn segment_names(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let entries = manifest.history.iter().chain(&manifest.incr);
    entries.map(|entry| entry.name.as_str())
}

/// The message that states them.
pub fn listed_request(
    run: RunRef,
    kind: v1::LogKind,
    segments: &[KnownSegment],
) -> v1::SegmentsListedRequest {
    v1::SegmentsListedRequest {
        run: run.to_wire(),
        kind: kind.into(),
        segments: segments
            .iter()
            .map(|segment| v1::ListedSegment {
                seq: u64::try_from(segment.seq).unwrap_or(0),
                start_offset: segment.start_offset,
            })
            .collect(),
        oldest_offset: segments.first().map_or(0, |segment| segment.start_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: i64, start_offset: u64, end_offset: u64) -> KnownSegment {
        KnownSegment {
            seq,
            name: format!("{seq}"),
            start_offset,
            end_offset,
        }
    }

    #[test]
    fn only_what_leads_to_the_newest_without_a_gap_is_told() {
        let known = vec![
            segment(4, 30, 40),
            segment(1, 0, 10),
            segment(2, 15, 20),
            segment(3, 20, 30),
        ];
        let seqs = |known| -> Vec<i64> {
            contiguous(known)
                .iter()
                .map(|segment| segment.seq)
                .collect()
        };
        assert_eq!(seqs(known), [2, 3, 4]);
        assert_eq!(seqs(vec![segment(7, 5, 5)]), [7]);
        assert!(seqs(Vec::new()).is_empty());
    }
}
