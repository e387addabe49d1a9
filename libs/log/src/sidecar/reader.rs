//! Reading a sidecar and checking a segment against it, in bounded memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    HEADER_BYTES, RECORD_BYTES, Record, SidecarError, SidecarHeader, record_position, sidecar_path,
};
use crate::fs::{Fs, FsFile, OpenMode};

/// Bytes read at once from sidecar and segment.
const READ_BYTES: usize = 64 * 1024;

/// A point in the segment whose bytes before it have a checksum, with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Position in the segment file.
    pub position: u64,
    /// Stream offset at that position.
    pub offset: u64,
    /// Unix time in milliseconds at which it was reached.
    pub unix_ms: u64,
}

/// What the records say in sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Number of valid records.
    pub records: u32,
    /// Bytes behind the last valid record (a torn record, or damage).
    pub bytes_ignored: u64,
    /// Position of the last check record; 0 if there is none.
    pub checked_position: u64,
    /// The durable watermark: position up to which the segment survived a sync.
    pub durable_position: u64,
    /// Time of the last record, unix milliseconds; 0 if there is none.
    pub last_unix_ms: u64,
}

/// A range of the segment (positions) whose checksum does not match, or that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedRange {
    /// First position of the range.
    pub from: u64,
    /// Position behind the range.
    pub to: u64,
}

/// The result of checking a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// Length of the segment file.
    pub segment_bytes: u64,
    /// Bytes up to here match their checksums; what follows is unverified or damaged.
    pub verified_position: u64,
    /// The durable watermark.
    pub durable_position: u64,
    /// The first damage that lies wholly at or before the durable watermark. It can't come
    /// from a crash: the start is refused.
    pub durable_damage: Option<DamagedRange>,
    /// The first mismatch beyond the watermark: bytes that no sync covered. It decides
    /// nothing by itself.
    pub tail_mismatch: Option<DamagedRange>,
}

/// An open sidecar.
#[derive(Debug)]
pub struct SidecarReader {
    path: PathBuf,
    file: Arc<dyn FsFile>,
    header: SidecarHeader,
    header_checksum: u32,
}

impl SidecarReader {
    /// Opens the sidecar of a segment; `None` if there is none (a segment of Redis's), or if a death or a
    /// full disk has left a part of its header: that comes before the segment's first byte.
    pub fn open(fs: &dyn Fs, segment: &Path) -> Result<Option<Self>, SidecarError> {
        let path = sidecar_path(segment);
        let failed = |source| SidecarError::Io {
            path: path.clone(),
            source,
        };
        let file = match fs.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = [0u8; HEADER_BYTES];
        let count = file.read_full_at(&mut bytes, 0).map_err(failed)?;
        let decoded = SidecarHeader::decode(bytes.get(..count).unwrap_or(&[]), &path);
        let (header, header_checksum) = match decoded {
            Ok(decoded) => decoded,
            Err(SidecarError::Damaged { .. })
                if file.len().map_err(failed)? <= HEADER_BYTES as u64 && is_empty(fs, segment) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            path,
            file,
            header,
            header_checksum,
        }))
    }

    /// The header.
    pub fn header(&self) -> &SidecarHeader {
        &self.header
    }

    pub(super) fn header_checksum(&self) -> u32 {
        self.header_checksum
    }

    /// The sidecar's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: io::Error) -> SidecarError {
        SidecarError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// Hands every valid record to `visit`, in order, until it returns false or a record
    /// is invalid; returns the number of valid records visited.
    pub(super) fn each_record(
        &self,
        mut visit: impl FnMut(Record) -> Result<bool, SidecarError>,
    ) -> Result<u32, SidecarError> {
        let mut buffer = vec![0u8; READ_BYTES];
        let (mut index, mut checked) = (0u32, 0u64);
        loop {
            let count = self
                .file
                .read_full_at(&mut buffer, record_position(index))
                .map_err(|error| self.failed(error))?;
            let whole = count / RECORD_BYTES;
            for bytes in buffer.chunks_exact(RECORD_BYTES).take(whole) {
                let Some(record) = Record::decode(bytes, self.header_checksum, index) else {
                    return Ok(index);
                };
                let in_order = if record.check {
                    record.position > checked
                } else {
                    record.position <= checked
                };
                if !in_order {
                    return Ok(index);
                }
                if record.check {
                    checked = record.position;
                }
                index += 1;
                if !visit(record)? {
                    return Ok(index);
                }
            }
            if whole < READ_BYTES / RECORD_BYTES {
                return Ok(index);
            }
        }
    }

    /// Sums the records up.
    pub fn summary(&self) -> Result<Summary, SidecarError> {
        let mut summary = Summary::default();
        summary.records = self.each_record(|record| {
            if record.check {
                summary.checked_position = record.position;
            }
            if record.durable {
                summary.durable_position = summary.durable_position.max(record.position);
            }
            summary.last_unix_ms = record.unix_ms;
            Ok(true)
        })?;
        let len = self.file.len().map_err(|error| self.failed(error))?;
        summary.bytes_ignored = len.saturating_sub(record_position(summary.records));
        Ok(summary)
    }

    /// Hands every checkpoint to `visit`, in order, until it returns false.
    pub fn each_checkpoint(
        &self,
        mut visit: impl FnMut(Checkpoint) -> bool,
    ) -> Result<(), SidecarError> {
        self.each_record(|record| {
            Ok(!record.check
                || visit(Checkpoint {
                    position: record.position,
                    offset: self.header.layout.offset_at(record.position),
                    unix_ms: record.unix_ms,
                }))
        })?;
        Ok(())
    }

    /// The last checkpoint before the first one that is later than `unix_ms`; `None` if
    /// the segment's first checkpoint is already later, or there is none.
    ///
    /// The offset need not be a command boundary: recovery to a point in time stops at the
    /// last boundary at or before it.
    pub fn checkpoint_at(&self, unix_ms: u64) -> Result<Option<Checkpoint>, SidecarError> {
        let mut found = None;
        self.each_checkpoint(|checkpoint| {
            let reached = checkpoint.unix_ms <= unix_ms;
            if reached {
                found = Some(checkpoint);
            }
            reached
        })?;
        Ok(found)
    }

    /// The stream offset reached at `unix_ms`: see [`Self::checkpoint_at`].
    pub fn offset_at(&self, unix_ms: u64) -> Result<Option<u64>, SidecarError> {
        Ok(self.checkpoint_at(unix_ms)?.map(|found| found.offset))
    }

    /// Checks the segment's bytes against every record, reading it once.
    ///
    /// An error is a failure to read; damage is part of the result.
    pub fn verify(&self, segment: &dyn FsFile) -> Result<Verification, SidecarError> {
        let summary = self.summary()?;
        let segment_bytes = segment.len().map_err(|error| self.failed(error))?;
        let mut result = Verification {
            segment_bytes,
            verified_position: 0,
            durable_position: summary.durable_position,
            durable_damage: None,
            tail_mismatch: None,
        };
        let mut from = 0;
        let mut buffer = vec![0u8; READ_BYTES];
        self.each_record(|record| {
            if !record.check {
                return Ok(true);
            }
            let to = record.position;
            let matches = to <= segment_bytes
                && checksum_of(segment, from, to, &mut buffer)
                    .map_err(|error| self.failed(error))?
                    == record.crc;
            let range = DamagedRange { from, to };
            from = to;
            if matches {
                result.verified_position = to;
                return Ok(true);
            }
            if to <= result.durable_position {
                result.durable_damage = Some(range);
            } else {
                result.tail_mismatch = Some(range);
            }
            Ok(false)
        })?;
        Ok(result)
    }
}

/// Whether a segment holds bytes of the stream, that is, more than its prefix. Without a
/// sidecar every byte counts. A missing file holds none.
pub fn has_stream_bytes(fs: &dyn Fs, segment: &Path) -> Result<bool, SidecarError> {
    let len = match fs.metadata(segment) {
        Ok(metadata) => metadata.len,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(SidecarError::Io {
                path: segment.to_owned(),
                source,
            });
        }
    };
    if len == 0 {
        return Ok(false);
    }
    let prefix_bytes =
        SidecarReader::open(fs, segment)?.map_or(0, |reader| reader.header().layout.prefix_bytes);
    Ok(len > u64::from(prefix_bytes))
}

/// Whether a segment has no byte, not of its prefix either; a missing one has none.
fn is_empty(fs: &dyn Fs, segment: &Path) -> bool {
    match fs.metadata(segment) {
        Ok(metadata) => metadata.len == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// CRC-32C of `from..to`; a file that ends earlier gives the checksum of what is there.
pub(super) fn checksum_of(
    segment: &dyn FsFile,
    from: u64,
    to: u64,
    buffer: &mut [u8],
) -> io::Result<u32> {
    let (mut crc, mut at) = (0, from);
    while at < to {
        let wanted = (to - at).min(buffer.len() as u64) as usize;
        let Some(window) = buffer.get_mut(..wanted) else {
            break;
        };
        let count = segment.read_full_at(window, at)?;
        crc = crc32c::crc32c_append(crc, window.get(..count).unwrap_or(&[]));
        at += count as u64;
        if count < wanted {
            break;
        }
    }
    Ok(crc)
}
