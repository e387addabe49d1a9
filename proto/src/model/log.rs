//! Where the effect log stands.

use super::{HexId, SharedPath, invalid, stream_db_field, stream_db_to_wire};
use crate::error::RpcError;
use crate::v1;

/// Side of replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Master,
    Replica,
}

impl Role {
    pub fn to_wire(self) -> v1::Role {
        match self {
            Role::Master => v1::Role::Master,
            Role::Replica => v1::Role::Replica,
        }
    }
}

/// Which log is appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogKind {
    None,
    AppendOnly,
    Replication,
}

impl LogKind {
    pub fn from_wire(kind: i32) -> Result<LogKind, RpcError> {
        match v1::LogKind::try_from(kind) {
            Ok(v1::LogKind::None) => Ok(LogKind::None),
            Ok(v1::LogKind::AppendOnly) => Ok(LogKind::AppendOnly),
            Ok(v1::LogKind::Replication) => Ok(LogKind::Replication),
            Ok(v1::LogKind::Unspecified) | Err(_) => Err(invalid("kind", "is unknown")),
        }
    }

    pub fn to_wire(self) -> v1::LogKind {
        match self {
            LogKind::None => v1::LogKind::None,
            LogKind::AppendOnly => v1::LogKind::AppendOnly,
            LogKind::Replication => v1::LogKind::Replication,
        }
    }
}

/// The segment being appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub seq: u64,
    pub path: SharedPath,
    /// Stream offset of the first byte after the prefix.
    pub start_offset: u64,
    pub prefix_bytes: u32,
}

impl Segment {
    /// File position of a stream offset; `None` if it lies before the segment.
    pub fn file_position(&self, offset: u64) -> Option<u64> {
        offset
            .checked_sub(self.start_offset)?
            .checked_add(u64::from(self.prefix_bytes))
    }
}

/// A state of the log, as watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    pub written_offset: u64,
    pub durable_offset: u64,
    pub kind: LogKind,
    /// Absent with [`LogKind::None`].
    pub segment: Option<Segment>,
    pub replid: HexId,
    /// Former id and the first offset that isn't valid for it.
    pub replid2: Option<(HexId, u64)>,
    pub stream_db: Option<u32>,
    pub role: Role,
    pub changes_since_save: u64,
    pub write_error: Option<String>,
}

impl TryFrom<v1::LogState> for LogState {
    type Error = RpcError;

    fn try_from(wire: v1::LogState) -> Result<LogState, RpcError> {
        if wire.durable_offset > wire.written_offset {
            return Err(invalid("durable_offset", "must not exceed written_offset"));
        }
        let kind = LogKind::from_wire(wire.kind)?;
        let segment = match kind {
            LogKind::None => None,
            LogKind::AppendOnly | LogKind::Replication => Some(segment_from_wire(&wire)?),
        };
        let replid2 = match wire.replid2.as_str() {
            "" => None,
            replid2 => Some((HexId::field("replid2", replid2)?, wire.replid2_end_offset)),
        };
        let role = match v1::Role::try_from(wire.role) {
            Ok(v1::Role::Master) => Role::Master,
            Ok(v1::Role::Replica) => Role::Replica,
            Ok(v1::Role::Unspecified) | Err(_) => return Err(invalid("role", "is unknown")),
        };
        Ok(LogState {
            written_offset: wire.written_offset,
            durable_offset: wire.durable_offset,
            kind,
            segment,
            replid: HexId::field("replid", &wire.replid)?,
            replid2,
            stream_db: stream_db_field("stream_db", wire.stream_db)?,
            role,
            changes_since_save: wire.changes_since_save,
            write_error: Some(wire.write_error).filter(|error| !error.is_empty()),
        })
    }
}

fn segment_from_wire(wire: &v1::LogState) -> Result<Segment, RpcError> {
    if wire.segment_seq == 0 {
        return Err(invalid("segment_seq", "must be at least 1"));
    }
    if wire.segment_start_offset > wire.written_offset {
        return Err(invalid(
            "segment_start_offset",
            "must not exceed written_offset",
        ));
    }
    Ok(Segment {
        seq: wire.segment_seq,
        path: SharedPath::field("segment_path", &wire.segment_path)?,
        start_offset: wire.segment_start_offset,
        prefix_bytes: wire.segment_prefix_bytes,
    })
}

impl From<LogState> for v1::LogState {
    fn from(state: LogState) -> v1::LogState {
        let (seq, path, start, prefix) = state.segment.map_or((0, String::new(), 0, 0), |s| {
            (s.seq, s.path.to_wire(), s.start_offset, s.prefix_bytes)
        });
        let (replid2, replid2_end_offset) = state
            .replid2
            .map_or((String::new(), 0), |(id, end)| (id.to_string(), end));
        v1::LogState {
            written_offset: state.written_offset,
            durable_offset: state.durable_offset,
            kind: state.kind.to_wire().into(),
            segment_seq: seq,
            segment_path: path,
            segment_start_offset: start,
            segment_prefix_bytes: prefix,
            replid: state.replid.to_string(),
            replid2,
            replid2_end_offset,
            stream_db: stream_db_to_wire(state.stream_db),
            role: state.role.to_wire().into(),
            changes_since_save: state.changes_since_save,
            write_error: state.write_error.unwrap_or_default(),
        }
    }
}

/// A segment to switch to later; the run is checked apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferSegment {
    pub seq: u64,
    pub path: SharedPath,
    /// Never [`LogKind::None`].
    pub kind: LogKind,
    /// Not at the next cut but now; only with [`LogKind::Replication`].
    pub switch_now: bool,
}

impl TryFrom<&v1::OfferSegmentRequest> for OfferSegment {
    type Error = RpcError;

    fn try_from(wire: &v1::OfferSegmentRequest) -> Result<OfferSegment, RpcError> {
        if wire.seq == 0 {
            return Err(invalid("seq", "must be at least 1"));
        }
        let kind = LogKind::from_wire(wire.kind)?;
        if kind == LogKind::None {
            return Err(invalid("kind", "must name a log"));
        }
        if wire.switch_now && kind != LogKind::Replication {
            return Err(invalid("switch_now", "needs the kind REPLICATION"));
        }
        Ok(OfferSegment {
            seq: wire.seq,
            path: SharedPath::field("path", &wire.path)?,
            kind,
            switch_now: wire.switch_now,
        })
    }
}

/// How far a replica is with its synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaState {
    WaitBase,
    SendBase,
    Online,
}

impl ReplicaState {
    pub fn to_wire(self) -> v1::ReplicaState {
        match self {
            ReplicaState::WaitBase => v1::ReplicaState::WaitBase,
            ReplicaState::SendBase => v1::ReplicaState::SendBase,
            ReplicaState::Online => v1::ReplicaState::Online,
        }
    }

    /// The word that INFO replication shows.
    pub fn info_name(self) -> &'static str {
        match self {
            ReplicaState::WaitBase => "wait_bgsave",
            ReplicaState::SendBase => "send_bulk",
            ReplicaState::Online => "online",
        }
    }
}

/// What one replica has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaAck {
    pub client_id: u64,
    pub state: ReplicaState,
    pub acked_offset: u64,
    /// 0: it sends none.
    pub fsynced_offset: u64,
    pub sent_offset: u64,
    /// 0: none yet.
    pub acked_unix_ms: u64,
    pub address: String,
    /// 0: it told none.
    pub listening_port: u16,
    pub announced_ip: String,
}

impl TryFrom<v1::ReplicaAck> for ReplicaAck {
    type Error = RpcError;

    fn try_from(wire: v1::ReplicaAck) -> Result<ReplicaAck, RpcError> {
        let state = match v1::ReplicaState::try_from(wire.state) {
            Ok(v1::ReplicaState::WaitBase) => ReplicaState::WaitBase,
            Ok(v1::ReplicaState::SendBase) => ReplicaState::SendBase,
            Ok(v1::ReplicaState::Online) => ReplicaState::Online,
            Ok(v1::ReplicaState::Unspecified) | Err(_) => {
                return Err(invalid("state", "is unknown"));
            }
        };
        if wire.address.len() > 255 || wire.announced_ip.len() > 255 {
            return Err(invalid("address", "is too long"));
        }
        Ok(ReplicaAck {
            client_id: wire.client_id,
            state,
            acked_offset: wire.acked_offset,
            fsynced_offset: wire.fsynced_offset,
            sent_offset: wire.sent_offset,
            acked_unix_ms: wire.acked_unix_ms,
            address: wire.address,
            listening_port: u16::try_from(wire.listening_port)
                .map_err(|_| invalid("listening_port", "must be at most 65535"))?,
            announced_ip: wire.announced_ip,
        })
    }
}

impl From<ReplicaAck> for v1::ReplicaAck {
    fn from(ack: ReplicaAck) -> v1::ReplicaAck {
        v1::ReplicaAck {
            client_id: ack.client_id,
            state: ack.state.to_wire().into(),
            acked_offset: ack.acked_offset,
            fsynced_offset: ack.fsynced_offset,
            sent_offset: ack.sent_offset,
            acked_unix_ms: ack.acked_unix_ms,
            address: ack.address,
            listening_port: ack.listening_port.into(),
            announced_ip: ack.announced_ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> LogState {
        LogState {
            written_offset: 900,
            durable_offset: 850,
            kind: LogKind::AppendOnly,
            segment: Some(Segment {
                seq: 3,
                path: SharedPath::field("path", "appendonlydir/a.3.incr.aof").unwrap(),
                start_offset: 500,
                prefix_bytes: 23,
            }),
            replid: HexId::from_bytes([1; 20]),
            replid2: Some((HexId::from_bytes([2; 20]), 400)),
            stream_db: None,
            role: Role::Replica,
            changes_since_save: 5,
            write_error: Some("no space".into()),
        }
    }

    #[test]
    fn log_states_survive_the_wire() {
        let idle = LogState {
            kind: LogKind::None,
            segment: None,
            replid2: None,
            ..state()
        };
        for state in [state(), idle] {
            assert_eq!(
                LogState::try_from(v1::LogState::from(state.clone())).unwrap(),
                state
            );
        }
    }

    #[test]
    fn impossible_log_states_are_refused() {
        let broken: [fn(&mut v1::LogState); 6] = [
            |wire| wire.durable_offset = 901,
            |wire| wire.kind = 0,
            |wire| wire.segment_seq = 0,
            |wire| wire.segment_start_offset = 901,
            |wire| wire.role = 77,
            |wire| wire.stream_db = -2,
        ];
        for breakage in broken {
            let mut wire = v1::LogState::from(state());
            breakage(&mut wire);
            assert!(LogState::try_from(wire).is_err());
        }
    }

    #[test]
    fn offsets_map_to_file_positions_behind_the_prefix() {
        let segment = state().segment.unwrap();
        assert_eq!(segment.file_position(500), Some(23));
        assert_eq!(segment.file_position(510), Some(33));
        assert_eq!(segment.file_position(499), None);
    }

    #[test]
    fn acknowledgements_survive_the_wire_and_are_checked() {
        let ack = ReplicaAck {
            client_id: 9,
            state: ReplicaState::Online,
            acked_offset: 10,
            fsynced_offset: 0,
            sent_offset: 12,
            acked_unix_ms: 1,
            address: "127.0.0.1:5".into(),
            listening_port: 6380,
            announced_ip: String::new(),
        };
        let wire = v1::ReplicaAck::from(ack.clone());
        assert_eq!(ReplicaAck::try_from(wire.clone()).unwrap(), ack);
        assert!(
            ReplicaAck::try_from(v1::ReplicaAck {
                listening_port: 65536,
                ..wire.clone()
            })
            .is_err()
        );
        assert!(ReplicaAck::try_from(v1::ReplicaAck { state: 0, ..wire }).is_err());
    }
}
