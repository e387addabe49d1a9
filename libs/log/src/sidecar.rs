//! The sidecar: a small file beside each segment, `appendonly.aof.N.incr.aof.meta`.
//!
//! A fixed header says where the segment stands in the stream; records of 32 bytes follow.
//! A *check* record carries the CRC-32C of the segment's bytes since the last check record
//! (one per 64 KiB, per sync, and per tenth of a second in which something is written) with the
//! time of the newest write among them: bit-rot detection and point-in-time index.
//! A *durable* record says that everything up to its position survived an `fdatasync`.
//!
//! Durability order: the header is synced before the segment's first byte is written. A
//! durable record is written only after `fdatasync` of the segment returned, so what
//! reached the disk of the sidecar never claims more than is durable. Records need no sync
//! of their own: losing some only lowers the watermark, which weakens detection and never
//! refuses a good log. They are synced when the segment is finished.
//!
//! Invariants: positions of check records rise; a durable record's position is that of a
//! check record before it; a record that fails its checksum ends the file's meaning (the
//! checksum is seeded with the header's and holds the record's index, so stale or moved
//! records do not pass).

mod reader;
mod rewrite;
mod unbegun;
mod writer;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

pub use reader::{
    Checkpoint, DamagedRange, SidecarReader, Summary, Verification, has_stream_bytes,
};
pub use rewrite::{copy_up_to, rewrite_up_to};
pub use unbegun::FormerEnd;
pub(crate) use writer::SidecarWriter;

use crate::segment::SegmentLayout;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 128;
/// Length of a record in bytes.
pub const RECORD_BYTES: usize = 32;
/// A check record is written at the latest after this many segment bytes.
pub const CHECK_BYTES: u64 = 64 * 1024;
/// Bytes written further apart in time than this never share a check record (but those that were
/// there when the segment was opened): the resolution of a restore to a point in time.
pub const CHECK_MS: u64 = 100;

const MAGIC: [u8; 8] = *b"RRSIDECR";
const VERSION: u16 = 1;
const HEADER_CHECKSUM_AT: usize = HEADER_BYTES - 4;
const RECORD_CHECKSUM_AT: usize = RECORD_BYTES - 4;

const FLAG_CHECK: u32 = 1;
const FLAG_DURABLE: u32 = 2;

/// A 40-character lowercase hexadecimal id (replication id, run id).
pub type HexId = [u8; 40];

/// What a segment's first byte stands for; fixed for the segment's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarHeader {
    /// Stream offset and prefix length.
    pub layout: SegmentLayout,
    /// Database that the prefix selects.
    pub database: u32,
    /// Replication id that the offsets belong to. A change of id starts a new segment.
    pub replid: HexId,
    /// Run id of the server that began the segment.
    pub run_id: HexId,
    /// Epoch of that run.
    pub epoch: u64,
    /// Unix time in milliseconds at which the segment was begun.
    pub created_unix_ms: u64,
}

/// Why a sidecar can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// Reading or writing failed.
    #[error("sidecar {path}: {source}")]
    Io {
        /// The sidecar.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has no valid header.
    #[error(
        "sidecar {path} is damaged ({reason}); without it the segment loads under Redis's \
         rules: move the sidecar away to accept that"
    )]
    Damaged {
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Written by a later version.
    #[error("sidecar {path} has version {version}, this program reads version {VERSION}")]
    Version {
        /// The sidecar.
        path: PathBuf,
        /// The version found.
        version: u16,
    },
}

/// The sidecar's path for a segment's path.
pub fn sidecar_path(segment: &Path) -> PathBuf {
    let mut name = OsString::from(segment);
    name.push(".meta");
    PathBuf::from(name)
}

/// One record, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Position in the segment file, the prefix included.
    pub(crate) position: u64,
    pub(crate) unix_ms: u64,
    /// CRC-32C of the bytes since the last check record; 0 if this is no check record.
    pub(crate) crc: u32,
    pub(crate) check: bool,
    pub(crate) durable: bool,
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|part| part.try_into().ok())
        .unwrap_or([0; N])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

impl SidecarHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0u8; HEADER_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 8, &VERSION.to_le_bytes());
        put(&mut bytes, 10, &(HEADER_BYTES as u16).to_le_bytes());
        put(&mut bytes, 12, &self.layout.prefix_bytes.to_le_bytes());
        put(&mut bytes, 16, &self.layout.start_offset.to_le_bytes());
        put(&mut bytes, 24, &self.database.to_le_bytes());
        put(&mut bytes, 28, &self.epoch.to_le_bytes());
        put(&mut bytes, 36, &self.created_unix_ms.to_le_bytes());
        put(&mut bytes, 44, &self.replid);
        put(&mut bytes, 84, &self.run_id);
        let checksum = crc32c::crc32c(bytes.get(..HEADER_CHECKSUM_AT).unwrap_or(&[]));
        put(&mut bytes, HEADER_CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<(Self, u32), SidecarError> {
        let damaged = |reason| SidecarError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let header = bytes
            .get(..HEADER_BYTES)
            .ok_or_else(|| damaged("shorter than its header"))?;
        if header.get(..8) != Some(&MAGIC[..]) {
            return Err(damaged("not a sidecar"));
        }
        let version = u16::from_le_bytes(array(header, 8));
        if version != VERSION {
            return Err(SidecarError::Version {
                path: path.to_owned(),
                version,
            });
        }
        let checksum = u32_at(header, HEADER_CHECKSUM_AT);
        if crc32c::crc32c(header.get(..HEADER_CHECKSUM_AT).unwrap_or(&[])) != checksum {
            return Err(damaged("header checksum"));
        }
        let decoded = Self {
            layout: SegmentLayout {
                prefix_bytes: u32_at(header, 12),
                start_offset: u64_at(header, 16),
            },
            database: u32_at(header, 24),
            epoch: u64_at(header, 28),
            created_unix_ms: u64_at(header, 36),
            replid: array(header, 44),
            run_id: array(header, 84),
        };
        Ok((decoded, checksum))
    }
}

impl Record {
    pub(crate) fn encode(&self, header_checksum: u32, index: u32) -> [u8; RECORD_BYTES] {
        let flags =
            if self.check { FLAG_CHECK } else { 0 } | if self.durable { FLAG_DURABLE } else { 0 };
        let mut bytes = [0u8; RECORD_BYTES];
        put(&mut bytes, 0, &self.position.to_le_bytes());
        put(&mut bytes, 8, &self.unix_ms.to_le_bytes());
        put(&mut bytes, 16, &self.crc.to_le_bytes());
        put(&mut bytes, 20, &flags.to_le_bytes());
        put(&mut bytes, 24, &index.to_le_bytes());
        let checksum = record_checksum(&bytes, header_checksum);
        put(&mut bytes, RECORD_CHECKSUM_AT, &checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], header_checksum: u32, index: u32) -> Option<Self> {
        let bytes = bytes.get(..RECORD_BYTES)?;
        let flags = u32_at(bytes, 20);
        let valid = record_checksum(bytes, header_checksum) == u32_at(bytes, RECORD_CHECKSUM_AT)
            && u32_at(bytes, 24) == index
            && flags != 0
            && flags & !(FLAG_CHECK | FLAG_DURABLE) == 0;
        valid.then(|| Self {
            position: u64_at(bytes, 0),
            unix_ms: u64_at(bytes, 8),
            crc: u32_at(bytes, 16),
            check: flags & FLAG_CHECK != 0,
            durable: flags & FLAG_DURABLE != 0,
        })
    }
}

fn record_checksum(bytes: &[u8], header_checksum: u32) -> u32 {
    crc32c::crc32c_append(
        header_checksum,
        bytes.get(..RECORD_CHECKSUM_AT).unwrap_or(&[]),
    )
}

/// Position in the sidecar of the record with this index.
fn record_position(index: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(index) * RECORD_BYTES as u64
}

#[cfg(test)]
mod tests;
