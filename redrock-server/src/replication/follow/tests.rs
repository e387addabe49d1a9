//! What becomes of our own log when a master's snapshot has been loaded.

use super::*;
use crate::config::Config;
use crate::keyspace::position::Positioner;
use redrock_proto::model::{HexId, SharedPath, SourceInfo};

/// An empty RDB without a checksum.
const EMPTY: &[u8] = b"REDIS0011\xff\0\0\0\0\0\0\0\0";

/// A master with an append-only log in `folder`.
fn logging(folder: &Path) -> Server {
    let keyspace = Keyspace::new(4, Positioner::new((1, 2)));
    let server = Server::new(Config::default(), keyspace, "0".repeat(40), 1);
    let segment = folder.join("appendonly.aof.1.incr.aof");
    server.log.offer(1, segment, LogKind::AppendOnly);
    server.log.cut_point(Some(1), None).unwrap();
    server.log.finish_switch().unwrap();
    server
}

fn load(server: &Server, folder: &Path) -> anyhow::Result<u64> {
    let path = folder.join("snapshot.rdb");
    std::fs::write(&path, EMPTY)?;
    let request = LoadRdb {
        path: SharedPath::new(folder, &path),
        bytes: EMPTY.len() as u64,
        source: SourceInfo {
            replid: HexId::from_bytes([7; 20]),
            offset: 777,
            master_port: 1,
            master_host: "localhost".into(),
        },
    };
    load_snapshot(server, &path, &request, &Arc::default())
}

#[test]
fn a_replica_leaves_its_log_for_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(folder.path());
    demote_at(&server, "localhost", 1, None).unwrap();
    assert_eq!(load(&server, folder.path()).unwrap(), 0);
    assert_eq!(server.log.state().kind, LogKind::None);
    assert_eq!(server.log.appended_offset(), 777);
}

#[test]
fn who_became_a_master_while_it_was_loaded_keeps_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(folder.path());
    let before = server.log.appended_offset();
    let error = load(&server, folder.path()).unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");
    assert_eq!(server.log.state().kind, LogKind::AppendOnly);
    assert!(server.log.is_on());
    assert_eq!(server.log.appended_offset(), before);
}
