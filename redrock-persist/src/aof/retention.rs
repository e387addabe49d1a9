//! Which replaced files may go: a pure decision.

use std::collections::BTreeSet;

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
