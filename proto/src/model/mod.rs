//! Domain types: what a peer sent, validated once on receipt.
//!
//! Each type converts from its generated message with `TryFrom` (failing with
//! INVALID, naming the field) and back with `From`. Sending needs no checks.

mod base;
mod load;
mod log;
mod pace;
pub mod record;
mod snapshot;

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::error::{ErrorCode, RpcError};
use crate::v1;

pub use base::{Base, FileInfo, FileKind};
pub use load::{ApplyBegin, LinkState, LinkStatus, LoadRdb, SourceInfo, SpoolState};
pub use log::{LogKind, LogState, OfferSegment, ReplicaAck, ReplicaState, Role, Segment};
pub use snapshot::{
    Begin, CheckpointReady, Database, DirtyEnd, End, Frame, FrameOrder, Purpose, TakeRequest,
    ValueChunk,
};

/// Longest path in a message, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// 40 lower-case hexadecimal digits: a run id or a replication id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HexId([u8; 40]);

impl HexId {
    /// `None` unless it is exactly 40 of `0-9a-f`.
    pub fn parse(text: &str) -> Option<HexId> {
        let digits: [u8; 40] = text.as_bytes().try_into().ok()?;
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some(HexId(digits))
    }

    /// The same, out of a file that holds the digits.
    pub fn from_digits(digits: [u8; 40]) -> Option<HexId> {
        HexId::parse(std::str::from_utf8(&digits).ok()?)
    }

    /// The digits themselves.
    pub fn digits(&self) -> [u8; 40] {
        self.0
    }

    /// The digits of 20 (random) bytes.
    pub fn from_bytes(bytes: [u8; 20]) -> HexId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; 40];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        HexId(digits)
    }

    pub fn as_str(&self) -> &str {
        // Only ASCII digits get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(crate) fn field(name: &str, text: &str) -> Result<HexId, RpcError> {
        HexId::parse(text).ok_or_else(|| invalid(name, "must be 40 lower-case hex digits"))
    }
}

impl fmt::Debug for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A run of the server in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunRef {
    pub run_id: HexId,
    /// At least 1; grows with each start.
    pub epoch: u64,
}

impl RunRef {
    /// The run that a command line names.
    pub fn named((run_id, epoch): (&str, u64)) -> Result<RunRef, RpcError> {
        let run_id = run_id.to_owned();
        RunRef::try_from(v1::RunRef { run_id, epoch })
    }

    /// Refuses a request that names another run, or none.
    pub fn check(&self, request: Option<v1::RunRef>) -> Result<(), RpcError> {
        let asked = RunRef::try_from(request.ok_or_else(|| invalid("run", "is missing"))?)?;
        if asked == *self {
            return Ok(());
        }
        Err(RpcError::new(
            ErrorCode::StaleEpoch,
            format!(
                "the request is for run {} (epoch {}), this is run {} (epoch {})",
                asked.run_id, asked.epoch, self.run_id, self.epoch
            ),
        )
        .with_hint("a process of a former run is still alive, or the server was restarted"))
    }

    /// As [`check`](RunRef::check), but a missing run is fine (`Admin`).
    pub fn check_if_set(&self, request: Option<v1::RunRef>) -> Result<(), RpcError> {
        match request {
            Some(run) => self.check(Some(run)),
            None => Ok(()),
        }
    }

    /// For the `run` field of a request.
    pub fn to_wire(self) -> Option<v1::RunRef> {
        Some(self.into())
    }
}

impl TryFrom<v1::RunRef> for RunRef {
    type Error = RpcError;

    fn try_from(wire: v1::RunRef) -> Result<RunRef, RpcError> {
        if wire.epoch == 0 {
            return Err(invalid("run.epoch", "must be at least 1"));
        }
        Ok(RunRef {
            run_id: HexId::field("run.run_id", &wire.run_id)?,
            epoch: wire.epoch,
        })
    }
}

impl From<RunRef> for v1::RunRef {
    fn from(run: RunRef) -> v1::RunRef {
        v1::RunRef {
            run_id: run.run_id.to_string(),
            epoch: run.epoch,
        }
    }
}

/// A path as it travels: relative to the data directory, or absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedPath(PathBuf);

impl SharedPath {
    /// For sending: relative to `data_dir` if it lies below it.
    pub fn new(data_dir: &Path, path: &Path) -> SharedPath {
        SharedPath(path.strip_prefix(data_dir).unwrap_or(path).to_path_buf())
    }

    /// Where the file is on this host.
    pub fn resolve(&self, data_dir: &Path) -> PathBuf {
        data_dir.join(&self.0)
    }

    /// As received or to be sent.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Names that aren't UTF-8 can't travel and are refused by the receiver.
    pub fn to_wire(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }

    pub(crate) fn field(name: &str, text: &str) -> Result<SharedPath, RpcError> {
        if text.is_empty() || text.len() > PATH_BYTES_MAX {
            return Err(invalid(name, "must have 1 to 4096 bytes"));
        }
        if text.contains('\0') || text.contains('\u{fffd}') {
            return Err(invalid(name, "isn't a path"));
        }
        let path = PathBuf::from(text);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(invalid(name, "must not hold `..`"));
        }
        Ok(SharedPath(path))
    }
}

pub(crate) fn invalid(field: &str, problem: &str) -> RpcError {
    RpcError::invalid(format!("{field} {problem}"))
}

/// A port of 1 to 65535.
pub(crate) fn port_field(name: &str, port: u32) -> Result<u16, RpcError> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid(name, "must be 1 to 65535"))
}

/// A database number, or -1 for none.
pub(crate) fn stream_db_field(name: &str, db: i32) -> Result<Option<u32>, RpcError> {
    match db {
        -1 => Ok(None),
        _ => u32::try_from(db)
            .map(Some)
            .map_err(|_| invalid(name, "must be at least -1")),
    }
}

/// The reverse of [`stream_db_field`].
pub(crate) fn stream_db_to_wire(db: Option<u32>) -> i32 {
    db.and_then(|db| i32::try_from(db).ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epoch: u64) -> RunRef {
        RunRef {
            run_id: HexId::from_bytes([0xa5; 20]),
            epoch,
        }
    }

    #[test]
    fn hex_ids_hold_40_lower_case_digits_only() {
        let id = HexId::from_bytes([0x0f; 20]);
        assert_eq!(id.as_str(), "0f".repeat(20));
        assert_eq!(HexId::parse(id.as_str()), Some(id));
        assert_eq!(HexId::parse(&"0F".repeat(20)), None);
        assert_eq!(HexId::parse("0f"), None);
        assert_eq!(HexId::parse(&"é".repeat(20)), None);
    }

    #[test]
    fn a_peer_of_another_run_is_stale() {
        assert!(run(3).check(run(3).to_wire()).is_ok());
        let other_epoch = run(3).check(run(2).to_wire()).unwrap_err();
        assert_eq!(other_epoch.code, ErrorCode::StaleEpoch);
        let other_id = RunRef {
            run_id: HexId::from_bytes([1; 20]),
            epoch: 3,
        };
        assert_eq!(
            run(3).check(other_id.to_wire()).unwrap_err().code,
            ErrorCode::StaleEpoch
        );
    }

    #[test]
    fn a_missing_or_malformed_run_is_invalid() {
        assert_eq!(run(3).check(None).unwrap_err().code, ErrorCode::Invalid);
        assert!(run(3).check_if_set(None).is_ok());
        let wire = v1::RunRef {
            run_id: "x".into(),
            epoch: 3,
        };
        assert_eq!(
            run(3).check_if_set(Some(wire)).unwrap_err().code,
            ErrorCode::Invalid
        );
        let zero = v1::RunRef {
            run_id: "a".repeat(40),
            epoch: 0,
        };
        assert_eq!(
            run(3).check(Some(zero)).unwrap_err().code,
            ErrorCode::Invalid
        );
    }

    #[test]
    fn paths_stay_below_the_data_directory_or_are_absolute() {
        let dir = Path::new("/data");
        let inside = SharedPath::new(dir, Path::new("/data/appendonlydir/a.aof"));
        assert_eq!(inside.to_wire(), "appendonlydir/a.aof");
        assert_eq!(inside.resolve(dir), Path::new("/data/appendonlydir/a.aof"));
        let outside = SharedPath::new(dir, Path::new("/tier/x"));
        assert_eq!(outside.resolve(dir), Path::new("/tier/x"));
        for bad in ["", "../x", "a/../../x", "a\0b", &"x".repeat(5000)] {
            assert!(SharedPath::field("path", bad).is_err(), "{bad:?}");
        }
    }
}
