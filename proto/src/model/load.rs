//! What comes from our master through files.

use super::{HexId, SharedPath, invalid, port_field};
use crate::error::RpcError;
use crate::v1;

/// Where an RDB came from, and where its stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    pub replid: HexId,
    pub offset: u64,
    pub master_host: String,
    pub master_port: u16,
}

/// A file to load; the run is checked apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRdb {
    pub path: SharedPath,
    pub bytes: u64,
    pub source: SourceInfo,
    /// Compare the checksum, whatever `rdbchecksum` says.
    pub verify_checksum: bool,
}

impl TryFrom<v1::LoadRdbRequest> for LoadRdb {
    type Error = RpcError;

    fn try_from(wire: v1::LoadRdbRequest) -> Result<LoadRdb, RpcError> {
        let source = wire.source.ok_or_else(|| invalid("source", "is missing"))?;
        Ok(LoadRdb {
            path: SharedPath::field("path", &wire.path)?,
            bytes: wire.bytes,
            verify_checksum: wire.verify_checksum,
            source: SourceInfo {
                replid: HexId::field("source.replid", &source.replid)?,
                offset: source.offset,
                master_port: port_field("source.master_port", source.master_port)?,
                master_host: host_field("source.master_host", source.master_host)?,
            },
        })
    }
}

/// Start of an applied stream; the run is checked apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyBegin {
    pub replid: HexId,
    pub start_offset: u64,
    pub master_host: String,
    pub master_port: u16,
}

impl TryFrom<v1::ApplyBegin> for ApplyBegin {
    type Error = RpcError;

    fn try_from(wire: v1::ApplyBegin) -> Result<ApplyBegin, RpcError> {
        Ok(ApplyBegin {
            replid: HexId::field("replid", &wire.replid)?,
            start_offset: wire.start_offset,
            master_host: host_field("master_host", wire.master_host)?,
            master_port: port_field("master_port", wire.master_port)?,
        })
    }
}

/// What of the spool can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolState {
    pub path: SharedPath,
    /// Stream offset of the file's first byte.
    pub start_offset: u64,
    /// Exclusive; never before `start_offset`.
    pub readable_end_offset: u64,
}

impl TryFrom<v1::SpoolState> for SpoolState {
    type Error = RpcError;

    fn try_from(wire: v1::SpoolState) -> Result<SpoolState, RpcError> {
        if wire.readable_end_offset < wire.start_offset {
            return Err(invalid(
                "readable_end_offset",
                "must not precede start_offset",
            ));
        }
        Ok(SpoolState {
            path: SharedPath::field("path", &wire.path)?,
            start_offset: wire.start_offset,
            readable_end_offset: wire.readable_end_offset,
        })
    }
}

impl From<SpoolState> for v1::SpoolState {
    fn from(state: SpoolState) -> v1::SpoolState {
        v1::SpoolState {
            path: state.path.to_wire(),
            start_offset: state.start_offset,
            readable_end_offset: state.readable_end_offset,
        }
    }
}

/// The link to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkStatus {
    Connect,
    Connecting,
    Sync,
    Connected,
    None,
}

impl LinkStatus {
    pub fn from_wire(status: i32) -> Result<LinkStatus, RpcError> {
        match v1::LinkStatus::try_from(status) {
            Ok(v1::LinkStatus::Connect) => Ok(LinkStatus::Connect),
            Ok(v1::LinkStatus::Connecting) => Ok(LinkStatus::Connecting),
            Ok(v1::LinkStatus::Sync) => Ok(LinkStatus::Sync),
            Ok(v1::LinkStatus::Connected) => Ok(LinkStatus::Connected),
            Ok(v1::LinkStatus::None) => Ok(LinkStatus::None),
            Ok(v1::LinkStatus::Unspecified) | Err(_) => Err(invalid("status", "is unknown")),
        }
    }

    pub fn to_wire(self) -> v1::LinkStatus {
        match self {
            LinkStatus::Connect => v1::LinkStatus::Connect,
            LinkStatus::Connecting => v1::LinkStatus::Connecting,
            LinkStatus::Sync => v1::LinkStatus::Sync,
            LinkStatus::Connected => v1::LinkStatus::Connected,
            LinkStatus::None => v1::LinkStatus::None,
        }
    }

    /// The word that ROLE shows on a replica.
    pub fn role_name(self) -> &'static str {
        match self {
            LinkStatus::Connect | LinkStatus::None => "connect",
            LinkStatus::Connecting => "connecting",
            LinkStatus::Sync => "sync",
            LinkStatus::Connected => "connected",
        }
    }
}

/// Report of the link; the run is checked apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    pub status: LinkStatus,
    /// 0: the master told no length.
    pub sync_bytes_total: u64,
    pub sync_bytes_read: u64,
    /// 0: never.
    pub last_io_unix_ms: u64,
    /// 0: it is up.
    pub down_since_unix_ms: u64,
    pub received_offset: u64,
    pub last_error: Option<String>,
}

impl TryFrom<v1::LinkStateRequest> for LinkState {
    type Error = RpcError;

    fn try_from(wire: v1::LinkStateRequest) -> Result<LinkState, RpcError> {
        Ok(LinkState {
            status: LinkStatus::from_wire(wire.status)?,
            sync_bytes_total: wire.sync_bytes_total,
            sync_bytes_read: wire.sync_bytes_read,
            last_io_unix_ms: wire.last_io_unix_ms,
            down_since_unix_ms: wire.down_since_unix_ms,
            received_offset: wire.received_offset,
            last_error: Some(wire.last_error).filter(|error| !error.is_empty()),
        })
    }
}

impl LinkState {
    /// The request that reports it.
    pub fn to_wire(&self, run: super::RunRef) -> v1::LinkStateRequest {
        v1::LinkStateRequest {
            run: run.to_wire(),
            status: self.status.to_wire().into(),
            sync_bytes_total: self.sync_bytes_total,
            sync_bytes_read: self.sync_bytes_read,
            last_io_unix_ms: self.last_io_unix_ms,
            down_since_unix_ms: self.down_since_unix_ms,
            received_offset: self.received_offset,
            last_error: self.last_error.clone().unwrap_or_default(),
        }
    }
}

fn host_field(name: &str, host: String) -> Result<String, RpcError> {
    if host.is_empty() || host.len() > 255 || host.contains(|c: char| c.is_control()) {
        return Err(invalid(name, "must be a host of 1 to 255 bytes"));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::LoadRdbRequest {
        v1::LoadRdbRequest {
            run: None,
            path: "sync/a.rdb".into(),
            bytes: 100,
            source: Some(v1::SourceInfo {
                replid: "a".repeat(40),
                offset: 5,
                master_host: "host".into(),
                master_port: 6379,
            }),
            verify_checksum: false,
        }
    }

    #[test]
    fn load_requests_are_validated() {
        let load = LoadRdb::try_from(request()).unwrap();
        assert_eq!(load.source.master_port, 6379);
        assert!(
            LoadRdb::try_from(v1::LoadRdbRequest {
                source: None,
                ..request()
            })
            .is_err()
        );
        let broken: [fn(&mut v1::SourceInfo); 4] = [
            |source| source.master_port = 0,
            |source| source.master_port = 70000,
            |source| source.master_host = "a\nb".into(),
            |source| source.replid.clear(),
        ];
        for breakage in broken {
            let mut wire = request();
            breakage(wire.source.as_mut().unwrap());
            assert!(LoadRdb::try_from(wire).is_err());
        }
    }

    #[test]
    fn a_spool_can_not_end_before_it_begins() {
        let state = SpoolState {
            path: SharedPath::field("path", "spool/1").unwrap(),
            start_offset: 10,
            readable_end_offset: 10,
        };
        let wire = v1::SpoolState::from(state.clone());
        assert_eq!(SpoolState::try_from(wire.clone()).unwrap(), state);
        assert!(
            SpoolState::try_from(v1::SpoolState {
                start_offset: 11,
                ..wire
            })
            .is_err()
        );
    }

    #[test]
    fn link_states_survive_the_wire() {
        let run = super::super::RunRef {
            run_id: HexId::from_bytes([1; 20]),
            epoch: 1,
        };
        let state = LinkState {
            status: LinkStatus::Sync,
            sync_bytes_total: 10,
            sync_bytes_read: 5,
            last_io_unix_ms: 1,
            down_since_unix_ms: 0,
            received_offset: 7,
            last_error: Some("refused".into()),
        };
        assert_eq!(LinkState::try_from(state.to_wire(run)).unwrap(), state);
    }
}
