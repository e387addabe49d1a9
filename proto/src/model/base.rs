//! Bases and the files around them.

use super::{HexId, SharedPath, invalid, stream_db_field, stream_db_to_wire};
use crate::error::RpcError;
use crate::v1;

/// What a file of the persister is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    Base,
    Segment,
    History,
    Dump,
    Backup,
}

impl FileKind {
    pub fn from_wire(kind: i32) -> Result<FileKind, RpcError> {
        match v1::FileKind::try_from(kind) {
            Ok(v1::FileKind::Base) => Ok(FileKind::Base),
            Ok(v1::FileKind::Segment) => Ok(FileKind::Segment),
            Ok(v1::FileKind::History) => Ok(FileKind::History),
            Ok(v1::FileKind::Dump) => Ok(FileKind::Dump),
            Ok(v1::FileKind::Backup) => Ok(FileKind::Backup),
            Ok(v1::FileKind::Unspecified) | Err(_) => Err(invalid("kind", "is unknown")),
        }
    }

    pub fn to_wire(self) -> v1::FileKind {
        match self {
            FileKind::Base => v1::FileKind::Base,
            FileKind::Segment => v1::FileKind::Segment,
            FileKind::History => v1::FileKind::History,
            FileKind::Dump => v1::FileKind::Dump,
            FileKind::Backup => v1::FileKind::Backup,
        }
    }
}

/// A file of the persister.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    pub kind: FileKind,
    pub path: SharedPath,
    pub bytes: u64,
    /// 0 for dumps and backups.
    pub seq: u64,
    pub start_offset: u64,
    /// Absent in files that tell none (foreign ones).
    pub replid: Option<HexId>,
    pub created_unix_ms: u64,
    pub pinned_by: Vec<String>,
}

impl TryFrom<v1::FileInfo> for FileInfo {
    type Error = RpcError;

    fn try_from(wire: v1::FileInfo) -> Result<FileInfo, RpcError> {
        let replid = match wire.replid.as_str() {
            "" => None,
            replid => Some(HexId::field("replid", replid)?),
        };
        Ok(FileInfo {
            kind: FileKind::from_wire(wire.kind)?,
            path: SharedPath::field("path", &wire.path)?,
            bytes: wire.bytes,
            seq: wire.seq,
            start_offset: wire.start_offset,
            replid,
            created_unix_ms: wire.created_unix_ms,
            pinned_by: wire.pinned_by,
        })
    }
}

impl From<FileInfo> for v1::FileInfo {
    fn from(file: FileInfo) -> v1::FileInfo {
        v1::FileInfo {
            kind: file.kind.to_wire().into(),
            path: file.path.to_wire(),
            bytes: file.bytes,
            seq: file.seq,
            start_offset: file.start_offset,
            replid: file
                .replid
                .map(|replid| replid.to_string())
                .unwrap_or_default(),
            created_unix_ms: file.created_unix_ms,
            pinned_by: file.pinned_by,
        }
    }
}

/// A base for a full sync, pinned for `holder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub path: SharedPath,
    pub bytes: u64,
    /// 1 to 12.
    pub rdb_version: u32,
    pub replid: HexId,
    pub offset: u64,
    pub stream_db: Option<u32>,
    /// From the offset on, ascending.
    pub segments: Vec<FileInfo>,
    pub holder: String,
}

impl TryFrom<v1::Base> for Base {
    type Error = RpcError;

    fn try_from(wire: v1::Base) -> Result<Base, RpcError> {
        if wire.bytes == 0 {
            return Err(invalid("bytes", "must not be 0"));
        }
        if !(1..=12).contains(&wire.rdb_version) {
            return Err(invalid("rdb_version", "must be 1 to 12"));
        }
        if !wire
            .segments
            .is_sorted_by(|a, b| a.start_offset <= b.start_offset && a.seq < b.seq)
        {
            return Err(invalid("segments", "must ascend"));
        }
        if wire
            .segments
            .first()
            .is_some_and(|segment| segment.start_offset > wire.offset)
        {
            return Err(invalid("segments", "must reach back to the offset"));
        }
        let segments = wire.segments.into_iter().map(FileInfo::try_from);
        Ok(Base {
            path: SharedPath::field("path", &wire.path)?,
            bytes: wire.bytes,
            rdb_version: wire.rdb_version,
            replid: HexId::field("replid", &wire.replid)?,
            offset: wire.offset,
            stream_db: stream_db_field("stream_db", wire.stream_db)?,
            segments: segments.collect::<Result<_, _>>()?,
            holder: wire.holder,
        })
    }
}

impl From<Base> for v1::Base {
    fn from(base: Base) -> v1::Base {
        v1::Base {
            path: base.path.to_wire(),
            bytes: base.bytes,
            rdb_version: base.rdb_version,
            replid: base.replid.to_string(),
            offset: base.offset,
            stream_db: stream_db_to_wire(base.stream_db),
            segments: base.segments.into_iter().map(v1::FileInfo::from).collect(),
            holder: base.holder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u64, start_offset: u64) -> FileInfo {
        FileInfo {
            kind: FileKind::Segment,
            path: SharedPath::field("path", &format!("appendonlydir/{seq}")).unwrap(),
            bytes: 10,
            seq,
            start_offset,
            replid: None,
            created_unix_ms: 0,
            pinned_by: vec!["replica-9".into()],
        }
    }

    fn base(segments: Vec<FileInfo>) -> Base {
        Base {
            path: SharedPath::field("path", "appendonlydir/base.rdb").unwrap(),
            bytes: 99,
            rdb_version: 10,
            replid: HexId::from_bytes([3; 20]),
            offset: 100,
            stream_db: Some(2),
            segments,
            holder: "replica-9".into(),
        }
    }

    #[test]
    fn bases_survive_the_wire() {
        for base in [base(vec![]), base(vec![segment(1, 100), segment(2, 150)])] {
            assert_eq!(Base::try_from(v1::Base::from(base.clone())).unwrap(), base);
        }
    }

    #[test]
    fn a_base_with_a_gap_or_of_an_unknown_version_is_refused() {
        for bad in [
            base(vec![segment(1, 101)]),
            base(vec![segment(2, 50), segment(1, 100)]),
            Base {
                rdb_version: 13,
                ..base(vec![])
            },
            Base {
                bytes: 0,
                ..base(vec![])
            },
        ] {
            assert!(Base::try_from(v1::Base::from(bad)).is_err());
        }
    }
}
