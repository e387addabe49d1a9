//! Which segments for replicas may go: a pure decision.

/// A segment that is no longer appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    pub seq: i64,
    /// Behind its last stream byte.
    pub end_offset: u64,
}

/// What the decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// End of the stream.
    pub written_offset: u64,
    /// What is kept for replicas that come back, bytes.
    pub backlog_bytes: u64,
    /// From where on somebody who is attached needs the stream.
    pub pinned_from: Option<u64>,
}

/// Attached replicas and a running full sync may hold this many backlogs; the agent drops who
/// holds more than two, and its pins are some seconds old.
const PINNED_BACKLOGS_MAX: u64 = 3;
/// A segment is a small part of the backlog, so that what is kept stays near the bound.
const SEGMENTS_PER_BACKLOG: u64 = 8;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (64 << 10)..=(128 << 20);

/// Length from which on the server is to begin another segment.
pub fn segment_bytes(backlog_bytes: u64) -> u64 {
    let (least, most) = SEGMENT_BYTES.into_inner();
    (backlog_bytes / SEGMENTS_PER_BACKLOG).clamp(least, most)
}

/// Numbers of the segments that may go.
pub fn removable(segments: &[Finished], facts: Facts) -> Vec<i64> {
    let reach = |backlogs: u64| {
        let bytes = facts.backlog_bytes.saturating_mul(backlogs);
        facts.written_offset.saturating_sub(bytes)
    };
    let pinned = facts.pinned_from.unwrap_or(u64::MAX);
    let needed = reach(1).min(pinned.max(reach(PINNED_BACKLOGS_MAX)));
    segments
        .iter()
        .filter(|segment| segment.end_offset <= needed)
        .map(|segment| segment.seq)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(pinned_from: Option<u64>) -> Vec<i64> {
        let segments: Vec<Finished> = (1..=9)
            .map(|seq| Finished {
                seq,
                end_offset: seq as u64 * 100,
            })
            .collect();
        let facts = Facts {
            written_offset: 950,
            backlog_bytes: 200,
            pinned_from,
        };
        removable(&segments, facts)
    }

    #[test]
    fn the_backlog_is_kept_for_whoever_comes_back() {
        assert_eq!(removed(None), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(removed(Some(940)), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_pinned_stays_up_to_three_backlogs() {
        assert_eq!(removed(Some(500)), [1, 2, 3, 4, 5]);
        assert_eq!(removed(Some(0)), [1, 2, 3]);
    }

    #[test]
    fn segments_are_an_eighth_of_the_backlog_within_bounds() {
        assert_eq!(segment_bytes(1), 64 << 10);
        assert_eq!(segment_bytes(80 << 20), 10 << 20);
        assert_eq!(segment_bytes(u64::MAX), 128 << 20);
    }
}
