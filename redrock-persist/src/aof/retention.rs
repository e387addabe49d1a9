//! Which replaced files may go: a pure decision.

use std::collections::BTreeSet;
use std::time::Duration;

/// A file that no restart needs any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedFile {
    /// Name inside its directory.
    pub name: String,
    /// Offset behind the last stream byte of a segment of ours; `None` for bases and for
    /// segments that can't be fed to anybody.
    pub end_offset: Option<u64>,
}

/// What is pinned, over all holders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Names inside the directory in question.
    pub names: BTreeSet<String>,
    /// Segments that hold bytes from here on are kept.
    pub from_offset: Option<u64>,
}

/// What is known of those who may come back for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// End of the stream.
    pub written_offset: u64,
    /// What is kept for replicas that come back, bytes.
    pub backlog_bytes: u64,
    /// Since when no replica has been attached; `None`: none ever was.
    pub alone_for: Option<Duration>,
    /// For how long the backlog is kept then; `None` is forever.
    pub ttl: Option<Duration>,
    /// The persister has run for so long that whoever is attached has said so.
    pub pins_are_known: bool,
    /// The log can't be written: what others may want makes room for it.
    pub is_failing: bool,
}

/// From where on the stream is kept for replicas that come back; `None`: from nowhere.
pub fn backlog_from(facts: Facts) -> Option<u64> {
    let alone_for = facts.alone_for?;
    if !facts.pins_are_known {
        return Some(0);
    }
    if facts.is_failing || facts.ttl.is_some_and(|ttl| alone_for >= ttl) {
        return None;
    }
    Some(facts.written_offset.saturating_sub(facts.backlog_bytes))
}

/// The names of the files that may be removed now.
///
/// A stream can only be fed without a gap, so everything from the first segment on that
/// somebody needs stays, although only that one may be pinned.
pub fn removable(files: &[ReplacedFile], pinned: &Pinned) -> Vec<String> {
    let pinned_end = files
        .iter()
        .filter(|file| pinned.names.contains(&file.name))
        .filter_map(|file| file.end_offset)
        .min();
    let from = [
        pinned_end,
        pinned.from_offset.map(|from| from.saturating_add(1)),
    ]
    .into_iter()
    .flatten()
    .min();
    files
        .iter()
        .filter(|file| !pinned.names.contains(&file.name))
        .filter(|file| match (file.end_offset, from) {
            (Some(end), Some(from)) => end < from,
            _ => true,
        })
        .map(|file| file.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<ReplacedFile> {
        [
            ("1", Some(100)),
            ("2", Some(200)),
            ("3", Some(300)),
            ("b", None),
        ]
        .map(|(name, end_offset)| ReplacedFile {
            name: name.into(),
            end_offset,
        })
        .to_vec()
    }

    fn pinned(names: &[&str], from_offset: Option<u64>) -> Pinned {
        Pinned {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            from_offset,
        }
    }

    #[test]
    fn without_pins_everything_may_go() {
        assert_eq!(removable(&files(), &Pinned::default()).len(), 4);
    }

    #[test]
    fn the_backlog_is_kept_while_somebody_may_come_back_for_it() {
        let second = Duration::from_secs(1);
        let facts = Facts {
            written_offset: 350,
            backlog_bytes: 200,
            alone_for: Some(second),
            ttl: Some(second * 2),
            pins_are_known: true,
            is_failing: false,
        };
        assert_eq!(backlog_from(facts), Some(150));
        let from = |facts: Facts| {
            let kept = pinned(&[], backlog_from(facts));
            removable(&files(), &kept)
        };
        assert_eq!(from(facts), ["1", "b"], "the base goes at once");
        let expired = Facts {
            alone_for: Some(second * 2),
            ..facts
        };
        assert_eq!(from(expired).len(), 4);
        assert_eq!(
            backlog_from(Facts {
                ttl: None,
                ..expired
            }),
            Some(150)
        );
        let nobody = Facts {
            alone_for: None,
            ..facts
        };
        assert_eq!(backlog_from(nobody), None);
        let failing = Facts {
            is_failing: true,
            ..facts
        };
        assert_eq!(backlog_from(failing), None);
        // Right after a start nobody has said yet what it needs.
        let early = Facts {
            pins_are_known: false,
            ..expired
        };
        assert_eq!(from(early), ["b"]);
        let small = Facts {
            written_offset: 100,
            ..facts
        };
        assert_eq!(backlog_from(small), Some(0));
    }

    #[test]
    fn an_offset_keeps_the_segments_that_hold_bytes_behind_it() {
        assert_eq!(
            removable(&files(), &pinned(&[], Some(200))),
            ["1", "2", "b"]
        );
        assert_eq!(removable(&files(), &pinned(&[], Some(199))), ["1", "b"]);
        assert_eq!(removable(&files(), &pinned(&[], Some(0))), ["b"]);
    }

    #[test]
    fn a_pinned_segment_keeps_those_behind_it_and_a_pinned_base_itself_only() {
        assert_eq!(removable(&files(), &pinned(&["2"], None)), ["1", "b"]);
        assert_eq!(removable(&files(), &pinned(&["b"], None)), ["1", "2", "3"]);
    }
}
