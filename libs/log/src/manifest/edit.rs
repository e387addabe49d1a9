//! The changes a manifest goes through, as pure functions.

use super::{BaseFormat, FileEntry, FileKind, Manifest, Names};

/// A change that would make the manifest invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestEditError {
    /// The sequence number is not above those listed.
    #[error("sequence number {asked} is not above {last}")]
    NotMonotonic {
        /// The number asked for.
        asked: i64,
        /// The highest one in use.
        last: i64,
    },
    /// There is no such segment.
    #[error("no listed segment has sequence number {0}")]
    NoSuchSegment(i64),
}

impl Manifest {
    /// A sequence number for the next segment, above every listed one, history included.
    ///
    /// Segments that exist unlisted are not known here: the caller skips names in use.
    pub fn next_incr_sequence(&self, names: &Names) -> i64 {
        let history = self
            .history
            .iter()
            .filter_map(|entry| names.incr_sequence(&entry.name));
        let listed = self.incr.iter().map(|entry| entry.sequence);
        listed.chain(history).max().unwrap_or(0).max(0) + 1
    }

    /// A sequence number for the next base, above the present one and those in history.
    pub fn next_base_sequence(&self) -> i64 {
        let history = self
            .history
            .iter()
            .filter(|entry| entry.name.contains(".base."))
            .map(|entry| entry.sequence);
        let base = self.base.iter().map(|entry| entry.sequence);
        base.chain(history).max().unwrap_or(0).max(0) + 1
    }

    /// Lists a new last segment.
    pub fn with_incr(
        &self,
        names: &Names,
        sequence: i64,
        start_offset: Option<u64>,
    ) -> Result<Self, ManifestEditError> {
        let last = self.next_incr_sequence(names) - 1;
        if sequence <= last {
            return Err(ManifestEditError::NotMonotonic {
                asked: sequence,
                last,
            });
        }
        let mut changed = self.clone();
        changed.incr.push(FileEntry {
            name: names.incr(sequence),
            sequence,
            kind: FileKind::Incr,
            start_offset,
            end_offset: None,
        });
        Ok(changed)
    }

    /// Takes back the last segment, whose sequence number must be `sequence`: it was
    /// listed for a cut that did not follow.
    pub fn without_last_incr(&self, sequence: i64) -> Result<Self, ManifestEditError> {
        let mut changed = self.clone();
        match changed.incr.pop() {
            Some(last) if last.sequence == sequence => Ok(changed),
            _ => Err(ManifestEditError::NoSuchSegment(sequence)),
        }
    }

    /// Puts a new base in place. The old base and every segment before `first_incr_kept`
    /// become history, in Redis's order.
    pub fn with_base(
        &self,
        names: &Names,
        format: BaseFormat,
        first_incr_kept: i64,
    ) -> Result<Self, ManifestEditError> {
        if !self
            .incr
            .iter()
            .any(|entry| entry.sequence == first_incr_kept)
        {
            return Err(ManifestEditError::NoSuchSegment(first_incr_kept));
        }
        let sequence = self.next_base_sequence();
        let (replaced, incr): (Vec<_>, Vec<_>) = self
            .incr
            .iter()
            .cloned()
            .partition(|entry| entry.sequence < first_incr_kept);
        let history = replaced
            .into_iter()
            .chain(self.base.clone())
            .map(|entry| FileEntry {
                kind: FileKind::History,
                ..entry
            })
            .chain(self.history.iter().cloned())
            .collect();
        Ok(Self {
            base: Some(FileEntry {
                name: names.base(sequence, format),
                sequence,
                kind: FileKind::Base,
                start_offset: None,
                end_offset: None,
            }),
            history,
            incr,
        })
    }

    /// Forgets the history files named by `removed` (those already unlinked).
    pub fn without_history(&self, removed: &[String]) -> Self {
        let mut changed = self.clone();
        changed
            .history
            .retain(|entry| !removed.contains(&entry.name));
        changed
    }

    /// Writes down the start offset of a listed segment.
    pub fn with_start_offset(
        &self,
        sequence: i64,
        start_offset: u64,
    ) -> Result<Self, ManifestEditError> {
        let mut changed = self.clone();
        let entry = changed
            .incr
            .iter_mut()
            .find(|entry| entry.sequence == sequence)
            .ok_or(ManifestEditError::NoSuchSegment(sequence))?;
        entry.start_offset = Some(start_offset);
        Ok(changed)
    }

    /// The files a restart reads, in order: the base, then the segments.
    pub fn files_to_load(&self) -> impl Iterator<Item = &FileEntry> {
        self.base.iter().chain(&self.incr)
    }
}
