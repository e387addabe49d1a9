//! Which listed segment was made for a switch that did not happen.
//!
//! A death or a full disk may leave a listed segment with a part of its prefix, or a whole one in
//! whose stead the segment before went on. It has no byte of the stream and was never said to have
//! one: nothing of it counts. The server begins it anew; tools pass by it.

use std::path::Path;

use super::{SidecarError, SidecarReader, Verification};
use crate::fs::{Fs, OpenMode};

/// Where the segment before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerEnd {
    /// Stream offset behind its last byte.
    pub offset: u64,
    /// Its number in the manifest.
    pub sequence: u64,
}

impl SidecarReader {
    /// Whether the segment of the number `sequence` was not begun: it lacks bytes of the stream,
    /// and its prefix is not whole or it does not begin where the one before ends, if that is one
    /// of ours. That one went on beyond the place of the switch, or lost its last bytes with the
    /// power. A segment that lacks between the two is no such case.
    pub fn is_unbegun(
        &self,
        verification: &Verification,
        sequence: u64,
        former: Option<FormerEnd>,
    ) -> bool {
        let layout = self.header().layout;
        let (prefix_bytes, start) = (u64::from(layout.prefix_bytes), layout.start_offset);
        let is_torn = verification.segment_bytes < prefix_bytes;
        let lacks_bytes = verification.segment_bytes <= prefix_bytes
            && verification.durable_position <= prefix_bytes;
        lacks_bytes
            && match former {
                Some(former) if former.offset < start => {
                    former.sequence.checked_add(1) == Some(sequence)
                }
                Some(former) => former.offset > start || is_torn,
                None => is_torn,
            }
    }

    /// As [`SidecarReader::is_unbegun`] of the segment at `path`, of which no more than a prefix is
    /// read.
    pub fn is_unbegun_at(
        &self,
        fs: &dyn Fs,
        path: &Path,
        sequence: u64,
        former: Option<FormerEnd>,
    ) -> Result<bool, SidecarError> {
        let failed = |source| SidecarError::Io {
            path: path.to_owned(),
            source,
        };
        let file = fs.open(path, OpenMode::Read).map_err(failed)?;
        if file.len().map_err(failed)? > u64::from(self.header().layout.prefix_bytes) {
            return Ok(false);
        }
        Ok(self.is_unbegun(&self.verify(file.as_ref())?, sequence, former))
    }
}
