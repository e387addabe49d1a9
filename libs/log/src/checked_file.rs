//! The frame of the small state files: magic, version, length, body, checksum.
//!
//! `magic[8] | version u32 | body length u32 | body | crc32c u32`, little endian, the
//! checksum over everything before it. Written through a durable rename, so a reader sees
//! a whole file or the former one; a bad frame is damage, never a torn write.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{Fs, read_small, write_durably_checked};

const FRAME_BYTES: usize = 20;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why a state file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what its name says, or was damaged.
    #[error("{path} is damaged ({reason}); move it away to start without it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Written by a later version.
    #[error("{path} has version {version}, which this program does not know")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: u32,
    },
}

pub(crate) fn encode(magic: &[u8; 8], version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_BYTES + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(body);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads the body; `None` if the file does not exist.
pub(crate) fn read(
    fs: &dyn Fs,
    path: &Path,
    magic: &[u8; 8],
    version: u32,
) -> Result<Option<Vec<u8>>, StateFileError> {
    let damaged = |reason| StateFileError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let bytes = match read_small(fs, path, (FRAME_BYTES + BODY_BYTES_MAX) as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged("too long"));
        }
        Err(source) => {
            return Err(StateFileError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut reader = Reader::new(&bytes);
    if reader.array::<8>() != Some(*magic) {
        return Err(damaged("magic"));
    }
    let found = reader.u32().ok_or_else(|| damaged("too short"))?;
    if found != version {
        return Err(StateFileError::Version {
            path: path.to_owned(),
            version: found,
        });
    }
    let len = reader.u32().ok_or_else(|| damaged("too short"))? as usize;
    let body = reader.take(len).ok_or_else(|| damaged("length"))?.to_vec();
    let checksum = reader.u32().ok_or_else(|| damaged("too short"))?;
    let covered = bytes.get(..FRAME_BYTES - 4 + len).unwrap_or(&[]);
    if !reader.is_empty() || crc32c::crc32c(covered) != checksum {
        return Err(damaged("checksum"));
    }
    Ok(Some(body))
}

pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    bytes: &[u8],
    check: &dyn Fn() -> io::Result<()>,
) -> Result<(), StateFileError> {
    write_durably_checked(fs, path, bytes, check).map_err(|source| StateFileError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Takes little-endian values from the front of a slice.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
