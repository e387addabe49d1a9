//! The frames of a snapshot, and the order they must come in.

use bytes::Bytes;

use super::record::{self, RecordError, Records};
use super::{HexId, SharedPath, invalid, stream_db_field, stream_db_to_wire};
use crate::error::RpcError;
use crate::v1;

/// Bounds of `frame_bytes_max`.
const FRAME_BYTES_MIN: u32 = 4 * 1024;
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
const FRAME_BYTES_DEFAULT: u32 = 256 * 1024;

/// What a cut is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    Save,
    BackgroundSave,
    Rewrite,
    FullSync,
    Backup,
}

impl Purpose {
    fn from_wire(purpose: i32) -> Result<Purpose, RpcError> {
        match v1::Purpose::try_from(purpose) {
            Ok(v1::Purpose::Save) => Ok(Purpose::Save),
            Ok(v1::Purpose::Bgsave) => Ok(Purpose::BackgroundSave),
            Ok(v1::Purpose::Rewrite) => Ok(Purpose::Rewrite),
            Ok(v1::Purpose::FullSync) => Ok(Purpose::FullSync),
            Ok(v1::Purpose::Backup) => Ok(Purpose::Backup),
            Ok(v1::Purpose::Unspecified) | Err(_) => Err(invalid("purpose", "is unknown")),
        }
    }

    pub fn to_wire(self) -> v1::Purpose {
        match self {
            Purpose::Save => v1::Purpose::Save,
            Purpose::BackgroundSave => v1::Purpose::Bgsave,
            Purpose::Rewrite => v1::Purpose::Rewrite,
            Purpose::FullSync => v1::Purpose::FullSync,
            Purpose::Backup => v1::Purpose::Backup,
        }
    }
}

/// A validated `TakeRequest`; the run is checked apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeRequest {
    pub purpose: Purpose,
    /// Segment that the log switches to at the cut.
    pub rotate_to_segment: Option<u64>,
    /// 4 KiB to 1 MiB.
    pub frame_bytes_max: usize,
}

impl TryFrom<&v1::TakeRequest> for TakeRequest {
    type Error = RpcError;

    fn try_from(wire: &v1::TakeRequest) -> Result<TakeRequest, RpcError> {
        let purpose = Purpose::from_wire(wire.purpose)?;
        if wire.rotate_to_segment == Some(0) {
            return Err(invalid("rotate_to_segment", "must be at least 1"));
        }
        if purpose == Purpose::Rewrite && wire.rotate_to_segment.is_none() {
            return Err(invalid("rotate_to_segment", "is required for a rewrite"));
        }
        let frame_bytes_max = match wire.frame_bytes_max {
            0 => FRAME_BYTES_DEFAULT,
            bytes @ FRAME_BYTES_MIN..=FRAME_BYTES_MAX => bytes,
            _ => return Err(invalid("frame_bytes_max", "must be 4 KiB to 1 MiB")),
        };
        Ok(TakeRequest {
            purpose,
            rotate_to_segment: wire.rotate_to_segment,
            frame_bytes_max: frame_bytes_max as usize,
        })
    }
}

/// A database at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    pub index: u32,
    pub generation: u32,
    /// Hot and cold.
    pub keys: u64,
    /// Those with an expiry.
    pub expires: u64,
}

/// The cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    pub snapshot_id: u64,
    pub cut_unix_ms: u64,
    pub log_offset: u64,
    pub replid: HexId,
    pub stream_db: Option<u32>,
    pub rotated: bool,
    /// 0: no log is kept.
    pub segment_seq: u64,
    /// That segment is one of the append-only file.
    pub append_only: bool,
    /// Ascending by index.
    pub databases: Vec<Database>,
    pub functions: Vec<Bytes>,
    pub aux: Vec<(String, Bytes)>,
    pub used_memory_bytes: u64,
}

impl TryFrom<v1::Begin> for Begin {
    type Error = RpcError;

    fn try_from(wire: v1::Begin) -> Result<Begin, RpcError> {
        if wire.snapshot_id == 0 {
            return Err(invalid("snapshot_id", "must be at least 1"));
        }
        if !wire.databases.is_sorted_by(|a, b| a.index < b.index) {
            return Err(invalid("databases", "must ascend"));
        }
        let databases = wire
            .databases
            .iter()
            .map(database_from_wire)
            .collect::<Result<_, _>>()?;
        Ok(Begin {
            snapshot_id: wire.snapshot_id,
            cut_unix_ms: wire.cut_unix_ms,
            log_offset: wire.log_offset,
            replid: HexId::field("replid", &wire.replid)?,
            stream_db: stream_db_field("stream_db", wire.stream_db)?,
            rotated: wire.rotated,
            segment_seq: wire.segment_seq,
            append_only: wire.append_only,
            databases,
            functions: wire.functions,
            aux: wire
                .aux
                .into_iter()
                .map(|field| (field.name, field.value))
                .collect(),
            used_memory_bytes: wire.used_memory_bytes,
        })
    }
}

fn database_from_wire(wire: &v1::Database) -> Result<Database, RpcError> {
    if wire.index > i32::MAX as u32 {
        return Err(invalid("databases.index", "is out of range"));
    }
    if wire.expires > wire.keys {
        return Err(invalid("databases.expires", "must not exceed keys"));
    }
    Ok(Database {
        index: wire.index,
        generation: wire.generation,
        keys: wire.keys,
        expires: wire.expires,
    })
}

impl From<Begin> for v1::Begin {
    fn from(begin: Begin) -> v1::Begin {
        v1::Begin {
            snapshot_id: begin.snapshot_id,
            cut_unix_ms: begin.cut_unix_ms,
            log_offset: begin.log_offset,
            replid: begin.replid.to_string(),
            stream_db: stream_db_to_wire(begin.stream_db),
            rotated: begin.rotated,
            segment_seq: begin.segment_seq,
            append_only: begin.append_only,
            databases: begin
                .databases
                .into_iter()
                .map(|database| v1::Database {
                    index: database.index,
                    generation: database.generation,
                    keys: database.keys,
                    expires: database.expires,
                })
                .collect(),
            functions: begin.functions,
            aux: begin
                .aux
                .into_iter()
                .map(|(name, value)| v1::AuxField { name, value })
                .collect(),
            used_memory_bytes: begin.used_memory_bytes,
        }
    }
}

/// A piece of a long value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueChunk {
    /// Packed header in the first piece (see [`record::decode_header`]), else
    /// empty.
    pub header: Bytes,
    pub payload_position: u64,
    pub payload: Bytes,
    pub last: bool,
}

/// The cold part's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointReady {
    pub path: SharedPath,
    pub files: u64,
    pub bytes: u64,
    pub lease_ms: u64,
}

/// Counts of the dirty part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyEnd {
    pub records: u64,
    /// In the order of [`Begin::databases`].
    pub records_by_database: Vec<u64>,
}

/// The take is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub copy_window_ms: u64,
    pub pre_images: u64,
    pub pre_image_bytes: u64,
}

/// One message of a take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Begin(Begin),
    /// Packed records and their count; read them with [`Records`].
    Records {
        packed: Bytes,
        count: u32,
    },
    ValueChunk(ValueChunk),
    CheckpointReady(CheckpointReady),
    DirtyEnd(DirtyEnd),
    End(End),
    Failed(RpcError),
    /// A command that runs for long is waited for.
    Waiting,
}

impl TryFrom<v1::Frame> for Frame {
    type Error = RpcError;

    fn try_from(wire: v1::Frame) -> Result<Frame, RpcError> {
        use v1::frame::Frame as Wire;
        Ok(
            match wire.frame.ok_or_else(|| invalid("frame", "is empty"))? {
                Wire::Begin(begin) => Frame::Begin(begin.try_into()?),
                Wire::Records(records) => Frame::Records {
                    packed: records.packed,
                    count: records.count,
                },
                Wire::ValueChunk(chunk) => Frame::ValueChunk(ValueChunk {
                    header: chunk.header,
                    payload_position: chunk.payload_position,
                    payload: chunk.payload,
                    last: chunk.last,
                }),
                Wire::CheckpointReady(ready) => Frame::CheckpointReady(CheckpointReady {
                    path: SharedPath::field("path", &ready.path)?,
                    files: ready.files,
                    bytes: ready.bytes,
                    lease_ms: ready.lease_ms,
                }),
                Wire::DirtyEnd(end) => Frame::DirtyEnd(DirtyEnd {
                    records: end.records,
                    records_by_database: end.records_by_database,
                }),
                Wire::End(end) => Frame::End(End {
                    copy_window_ms: end.copy_window_ms,
                    pre_images: end.pre_images,
                    pre_image_bytes: end.pre_image_bytes,
                }),
                Wire::Failed(failed) => Frame::Failed(
                    failed
                        .error
                        .map(RpcError::from_detail)
                        .unwrap_or_else(|| RpcError::internal("the snapshot failed")),
                ),
                Wire::Waiting(v1::Waiting {}) => Frame::Waiting,
            },
        )
    }
}

impl From<Frame> for v1::Frame {
    fn from(frame: Frame) -> v1::Frame {
        use v1::frame::Frame as Wire;
        let wire = match frame {
            Frame::Begin(begin) => Wire::Begin(begin.into()),
            Frame::Records { packed, count } => Wire::Records(v1::Records { packed, count }),
            Frame::ValueChunk(chunk) => Wire::ValueChunk(v1::ValueChunk {
                header: chunk.header,
                payload_position: chunk.payload_position,
                payload: chunk.payload,
                last: chunk.last,
            }),
            Frame::CheckpointReady(ready) => Wire::CheckpointReady(v1::CheckpointReady {
                path: ready.path.to_wire(),
                files: ready.files,
                bytes: ready.bytes,
                lease_ms: ready.lease_ms,
            }),
            Frame::DirtyEnd(end) => Wire::DirtyEnd(v1::DirtyEnd {
                records: end.records,
                records_by_database: end.records_by_database,
            }),
            Frame::End(end) => Wire::End(v1::End {
                copy_window_ms: end.copy_window_ms,
                pre_images: end.pre_images,
                pre_image_bytes: end.pre_image_bytes,
            }),
            Frame::Failed(error) => Wire::Failed(v1::Failed {
                error: Some(error.to_detail()),
            }),
            Frame::Waiting => Wire::Waiting(v1::Waiting {}),
        };
        v1::Frame { frame: Some(wire) }
    }
}

/// Checks the order and the counts of a take's frames, so that a receiver
/// never takes half a snapshot for a whole one.
#[derive(Debug, Default)]
pub struct FrameOrder {
    databases: Option<Vec<Database>>,
    sent_by_database: Vec<u64>,
    /// A long value under way: its length (0: unknown) and what has come.
    value: Option<(u64, u64)>,
    checkpoint: bool,
    dirty_end: bool,
    ended: bool,
}

impl FrameOrder {
    pub fn new() -> FrameOrder {
        FrameOrder::default()
    }

    /// Takes notice of the next frame; CORRUPT if it can't come now, and the
    /// frame's own error for [`Frame::Failed`].
    pub fn check(&mut self, frame: &Frame) -> Result<(), RpcError> {
        if let Frame::Failed(error) = frame {
            return Err(error.clone());
        }
        if self.ended {
            return Err(out_of_order("a frame after the end"));
        }
        match (frame, self.databases.is_some()) {
            (Frame::Waiting, _) => return Ok(()),
            (Frame::Begin(begin), false) => {
                self.sent_by_database = vec![0; begin.databases.len()];
                self.databases = Some(begin.databases.clone());
                return Ok(());
            }
            (Frame::Begin(_), true) => return Err(out_of_order("a second beginning")),
            (_, false) => return Err(out_of_order("a frame before the beginning")),
            _ => {}
        }
        match frame {
            Frame::Records { packed, count } => self.records(packed, *count),
            Frame::ValueChunk(chunk) => self.chunk(chunk),
            Frame::CheckpointReady(_) if self.checkpoint => {
                Err(out_of_order("a second checkpoint"))
            }
            Frame::CheckpointReady(_) => {
                self.checkpoint = true;
                Ok(())
            }
            Frame::DirtyEnd(end) => self.dirty_end(end),
            Frame::End(_) => self.end(),
            Frame::Begin(_) | Frame::Failed(_) | Frame::Waiting => Ok(()),
        }
    }

    /// True once [`Frame::End`] has come.
    pub fn is_whole(&self) -> bool {
        self.ended
    }

    /// Keys expected from the checkpoint, by database in the order of
    /// [`Begin::databases`]. Meaningful after [`Frame::DirtyEnd`].
    pub fn cold_keys(&self) -> Vec<u64> {
        let databases = self.databases.as_deref().unwrap_or_default();
        let sent = self.sent_by_database.iter();
        databases
            .iter()
            .zip(sent)
            .map(|(db, sent)| db.keys.saturating_sub(*sent))
            .collect()
    }

    fn records(&mut self, packed: &[u8], count: u32) -> Result<(), RpcError> {
        if self.value.is_some() || self.dirty_end {
            return Err(out_of_order("records in the wrong place"));
        }
        let mut seen = 0_u32;
        for record in Records::new(packed) {
            self.count(record?.header.database)?;
            seen = seen.saturating_add(1);
        }
        if seen != count || count == 0 {
            return Err(RpcError::corrupt(format!(
                "{seen} records in a frame of {count}"
            )));
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &ValueChunk) -> Result<(), RpcError> {
        if self.dirty_end {
            return Err(out_of_order("a value after the dirty part"));
        }
        let (total, received) = match (self.value, chunk.header.is_empty()) {
            (Some(value), true) => value,
            (None, false) => {
                let (header, total) =
                    record::decode_header(&chunk.header).map_err(|error: RecordError| {
                        RpcError::corrupt(format!("value header: {error}"))
                    })?;
                self.count(header.database)?;
                (total, 0)
            }
            _ => return Err(out_of_order("a piece of no value")),
        };
        if chunk.payload_position != received {
            return Err(RpcError::corrupt(format!(
                "a piece at {} where {received} was due",
                chunk.payload_position
            )));
        }
        let received = received.saturating_add(chunk.payload.len() as u64);
        if total != 0 && (received > total || (chunk.last && received != total)) {
            return Err(RpcError::corrupt(format!(
                "{received} bytes of a value of {total}"
            )));
        }
        self.value = (!chunk.last).then_some((total, received));
        Ok(())
    }

    fn count(&mut self, index: u32) -> Result<(), RpcError> {
        let databases = self.databases.as_deref().unwrap_or_default();
        let at = databases
            .binary_search_by_key(&index, |database| database.index)
            .map_err(|_| RpcError::corrupt(format!("a record of unknown database {index}")))?;
        let keys = databases.get(at).map_or(0, |database| database.keys);
        let sent = self
            .sent_by_database
            .get_mut(at)
            .ok_or_else(|| RpcError::internal("databases and counts differ"))?;
        *sent += 1;
        if *sent > keys {
            return Err(RpcError::corrupt(format!(
                "more than the {keys} keys of database {index}"
            )));
        }
        Ok(())
    }

    fn dirty_end(&mut self, end: &DirtyEnd) -> Result<(), RpcError> {
        if self.value.is_some() || self.dirty_end {
            return Err(out_of_order("the dirty part's end in the wrong place"));
        }
        let sent: u64 = self.sent_by_database.iter().sum();
        if end.records != sent || end.records_by_database != self.sent_by_database {
            return Err(RpcError::corrupt(format!(
                "{sent} records came, {} were sent",
                end.records
            )));
        }
        self.dirty_end = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), RpcError> {
        if !self.dirty_end {
            return Err(out_of_order("the end before the dirty part's end"));
        }
        if !self.checkpoint && self.cold_keys().iter().any(|keys| *keys != 0) {
            return Err(RpcError::corrupt("cold keys but no checkpoint"));
        }
        self.ended = true;
        Ok(())
    }
}

fn out_of_order(what: &str) -> RpcError {
    RpcError::corrupt(format!("snapshot stream: {what}"))
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
