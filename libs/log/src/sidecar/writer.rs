//! Appending records while the segment grows.
//!
//! The bytes since the last record form the *open* part. A sync seals it at its start; if
//! nothing else needed a record meanwhile, one record both checks and declares it durable.
//! Check records carry the time of the newest write that they cover, not that of the sync: a
//! restore to a point in time rests on them.
//! A record that can't be written (disk full) never fails the log: its part is folded into
//! the next one with CRC combination, so that the chain of checksums has no hole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::reader::checksum_of;
use super::{
    CHECK_BYTES, CHECK_MS, Record, SidecarError, SidecarHeader, SidecarReader, record_position,
};
use crate::fs::{Fs, FsFile, OpenMode};

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    crc: u32,
    bytes: u64,
    /// Times of the oldest and the newest write, unix milliseconds; `None` if nobody knows.
    written_ms: Option<(u64, u64)>,
}

impl Part {
    fn add(&mut self, bytes: &[u8], unix_ms: u64) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        let oldest = self.written_ms.map_or(unix_ms, |(oldest, _)| oldest);
        self.written_ms = Some((oldest, unix_ms));
    }

    fn followed_by(self, next: Self) -> Self {
        let written_ms = match (self.written_ms, next.written_ms) {
            (Some((oldest, _)), Some((_, newest))) => Some((oldest, newest)),
            (one, other) => other.or(one),
        };
        Self {
            crc: crc32c::crc32c_combine(self.crc, next.crc, next.bytes as usize),
            bytes: self.bytes + next.bytes,
            written_ms,
        }
    }

    /// Whether a write now would make the times of one record differ too much.
    fn is_old(&self, unix_ms: u64) -> bool {
        let oldest = self.written_ms.map_or(unix_ms, |(oldest, _)| oldest);
        self.bytes > 0 && unix_ms.saturating_sub(oldest) >= CHECK_MS
    }
}

#[derive(Debug)]
pub(crate) struct SidecarWriter {
    file: Arc<dyn FsFile>,
    header_checksum: u32,
    records: u32,
    /// Position of the last check record in the file.
    checked_position: u64,
    /// Bytes behind it that a running sync covers.
    sealed: Option<Part>,
    /// Bytes behind those.
    open: Part,
    /// Size of the open part at which the next record is tried.
    try_at_bytes: u64,
}

impl SidecarWriter {
    /// Creates the sidecar with its header and syncs the file; the caller syncs the
    /// directory before the segment's first byte.
    pub(crate) fn create(fs: &dyn Fs, path: &Path, header: &SidecarHeader) -> io::Result<Self> {
        let file = fs.open(path, OpenMode::CreateTruncate)?;
        let bytes = header.encode();
        file.write_all_at(&bytes, 0)
            .and_then(|()| file.sync_all())
            .inspect_err(|_| {
                // Without a header it says nothing about a segment that is not begun.
                let _ = file.set_len(0);
            })?;
        Ok(Self {
            file,
            header_checksum: super::u32_at(&bytes, super::HEADER_CHECKSUM_AT),
            records: 0,
            checked_position: 0,
            sealed: None,
            open: Part::default(),
            try_at_bytes: CHECK_BYTES,
        })
    }

    /// Continues a sidecar for a segment of `segment_bytes`, changed last at `modified_ms`; the
    /// bytes behind the last check record are read to continue the checksum.
    pub(crate) fn resume(
        fs: &dyn Fs,
        reader: &SidecarReader,
        segment: &dyn FsFile,
        segment_bytes: u64,
        modified_ms: Option<u64>,
    ) -> Result<Self, SidecarError> {
        let summary = reader.summary()?;
        if summary.checked_position > segment_bytes {
            return Err(SidecarError::Damaged {
                path: reader.path().to_owned(),
                reason: "it claims more bytes than the segment has",
            });
        }
        let failed = |source| SidecarError::Io {
            path: reader.path().to_owned(),
            source,
        };
        let file = fs
            .open(reader.path(), OpenMode::ReadWrite)
            .map_err(failed)?;
        // A torn record goes, so that nothing stale stands behind the next one.
        file.set_len(record_position(summary.records))
            .map_err(failed)?;
        let mut buffer = vec![0u8; CHECK_BYTES as usize];
        let from = summary.checked_position;
        let crc = checksum_of(segment, from, segment_bytes, &mut buffer).map_err(failed)?;
        Ok(Self {
            file,
            header_checksum: reader.header_checksum(),
            records: summary.records,
            checked_position: from,
            sealed: None,
            open: Part {
                crc,
                bytes: segment_bytes - from,
                written_ms: modified_ms.map(|at| (at, at)),
            },
            try_at_bytes: CHECK_BYTES,
        })
    }

    fn sealed_bytes(&self) -> u64 {
        self.sealed.map_or(0, |part| part.bytes)
    }

    /// Position up to which bytes were noted.
    pub(crate) fn position(&self) -> u64 {
        self.checked_position + self.sealed_bytes() + self.open.bytes
    }

    fn append(&mut self, record: Record) -> io::Result<()> {
        let bytes = record.encode(self.header_checksum, self.records);
        self.file
            .write_all_at(&bytes, record_position(self.records))?;
        self.records += 1;
        Ok(())
    }

    fn append_check(&mut self, part: Part, unix_ms: u64, durable: bool) -> io::Result<()> {
        self.append(Record {
            position: self.checked_position + part.bytes,
            unix_ms: part.written_ms.map_or(unix_ms, |(_, newest)| newest),
            crc: part.crc,
            check: true,
            durable,
        })?;
        self.checked_position += part.bytes;
        Ok(())
    }

    /// Takes note of bytes that a whole write has put into the segment.
    pub(crate) fn note_written(&mut self, bytes: &[u8], unix_ms: u64) {
        if self.open.is_old(unix_ms) {
            self.emit_checks(unix_ms);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let wanted = self.try_at_bytes.saturating_sub(self.open.bytes);
            let step = (rest.len() as u64).min(wanted.max(1)) as usize;
            let (part, behind) = rest.split_at(step);
            self.open.add(part, unix_ms);
            rest = behind;
            if self.open.bytes >= self.try_at_bytes {
                self.emit_checks(unix_ms);
            }
        }
    }

    /// `unix_ms` stands in for the time of bytes whose own is not known.
    fn emit_checks(&mut self, unix_ms: u64) {
        let written = match self.sealed {
            Some(sealed) => self.append_check(sealed, unix_ms, false),
            None => Ok(()),
        };
        let written = written.and_then(|()| {
            self.sealed = None;
            self.append_check(self.open, unix_ms, false)
        });
        match written {
            Ok(()) => {
                self.open = Part::default();
                self.try_at_bytes = CHECK_BYTES;
            }
            // The part stays open and grows; tried again after as many bytes again.
            Err(_) => self.try_at_bytes = self.open.bytes + CHECK_BYTES,
        }
    }

    /// Seals what was noted; returns the position that the sync about to start covers.
    pub(crate) fn begin_sync(&mut self) -> u64 {
        self.fold();
        if self.open.bytes > 0 {
            self.sealed = Some(std::mem::take(&mut self.open));
            self.try_at_bytes = CHECK_BYTES;
        }
        self.checked_position + self.sealed_bytes()
    }

    /// Declares `position`, as returned by [`Self::begin_sync`], durable. An error leaves
    /// the watermark where it was. `unix_ms` is the time of the sync.
    pub(crate) fn finish_sync(&mut self, position: u64, unix_ms: u64) -> io::Result<()> {
        if let Some(sealed) = self.sealed
            && self.checked_position + sealed.bytes == position
        {
            self.append_check(sealed, unix_ms, true)?;
            self.sealed = None;
            return Ok(());
        }
        if position == 0 || position > self.checked_position {
            return Ok(());
        }
        self.append(Record {
            position,
            unix_ms,
            crc: 0,
            check: false,
            durable: true,
        })
    }

    /// Joins a part whose sync failed, or whose record could not be written, to the next.
    fn fold(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            self.open = sealed.followed_by(self.open);
        }
    }

    /// Takes the header back: the segment was not begun. Best effort, since readers expect the rest
    /// of an interrupted beginning.
    pub(crate) fn withdraw(self) {
        let _ = self.file.set_len(0);
    }

    /// Makes the records durable (clean shutdown, end of the segment).
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
