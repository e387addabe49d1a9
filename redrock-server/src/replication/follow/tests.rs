//! What becomes of our own log when a master's snapshot has been loaded.

use super::*;
use crate::command::effect::Effect;
use crate::config::Config;
use crate::keyspace::position::Positioner;
use redrock_proto::model::{HexId, SharedPath, SourceInfo};
use std::io::Write as _;

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

fn load(server: &Server, path: &Path, bytes: u64, watch: &Arc<LoadWatch>) -> anyhow::Result<u64> {
    let request = LoadRdb {
        path: SharedPath::new(path.parent().unwrap(), path),
        bytes,
        source: SourceInfo {
            replid: HexId::from_bytes([7; 20]),
            offset: 777,
            master_port: 1,
            master_host: "localhost".into(),
        },
        verify_checksum: false,
    };
    load_snapshot(server, path, &request, watch)
}

#[test]
fn a_replica_leaves_its_log_for_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(folder.path());
    demote(&server, &mut server.keyspace.lock(), "localhost", 1);
    let path = folder.path().join("snapshot.rdb");
    std::fs::write(&path, EMPTY).unwrap();
    let bytes = EMPTY.len() as u64;
    assert_eq!(load(&server, &path, bytes, &Arc::default()).unwrap(), 0);
    assert_eq!(server.log.state().kind, LogKind::None);
    assert_eq!(server.log.appended_offset(), 777);
}

#[test]
fn who_became_a_master_while_it_was_loaded_keeps_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(folder.path());
    demote(&server, &mut server.keyspace.lock(), "localhost", 1);
    let before = server.log.appended_offset();
    // A pipe: it ends when we like, and has no length.
    let path = folder.path().join("snapshot.rdb");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let watch = Arc::new(LoadWatch::default());
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pipe = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            pipe.write_all(&EMPTY[..9]).unwrap();
            while watch.read_bytes.load(Ordering::Relaxed) < 9 {
                std::thread::yield_now();
            }
            promote(&server).unwrap();
            pipe.write_all(&EMPTY[9..]).unwrap();
        });
        load(&server, &path, 0, &watch).unwrap_err()
    });
    assert!(error.to_string().contains("does not follow"), "{error}");
    assert_eq!(server.log.state().kind, LogKind::AppendOnly);
    assert!(server.log.is_on());
    assert_eq!(server.log.appended_offset(), before);
}

#[test]
fn what_our_own_clients_changed_ends_log_and_history_at_the_promotion() {
    let folder = tempfile::tempdir().unwrap();
    let server = logging(folder.path());
    let set = || {
        let mut effect = Effect::default();
        effect.replace(0, &[b"SET", b"k", b"v"]);
        server.log.append_effect(&mut effect);
    };
    set();
    let follow_and_promote = |writes: bool| {
        demote(&server, &mut server.keyspace.lock(), "localhost", 1);
        let before = server.log.state().replid;
        if writes {
            set();
        }
        let (replid, offset) = promote(&server).unwrap();
        assert_eq!(replid, server.log.state().replid);
        assert_eq!(replid, server.history.present().replid);
        assert_ne!(replid, before);
        server.history.present().knows(&before, offset)
    };
    assert!(follow_and_promote(false));
    assert_eq!(server.log.state().kind, LogKind::AppendOnly);
    let offset = server.log.appended_offset();
    assert!(!follow_and_promote(true));
    assert_eq!(server.log.state().kind, LogKind::None);
    assert_eq!(server.log.appended_offset(), offset);
    assert!(!server.log.has_own_changes());
}
