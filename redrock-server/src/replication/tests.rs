//! Who may feed a replica.

use super::follow;
use crate::command::testing::new_server;
use crate::server::Server;
use redrock_proto::ErrorCode;
use redrock_proto::model::{ApplyBegin, HexId};

/// A replica of host `a`.
fn replica() -> Server {
    let server = new_server();
    let mut keyspace = server.keyspace.lock();
    follow::demote(&server, &mut keyspace, "a", 1);
    drop(keyspace);
    server
}

/// A stream of `host` that begins where the server stands.
fn begin(server: &Server, (host, port): (&str, u16)) -> ApplyBegin {
    let replid = String::from_utf8_lossy(&server.log.state().replid).into_owned();
    ApplyBegin {
        replid: HexId::parse(&replid).unwrap(),
        start_offset: server.log.appended_offset(),
        master_host: host.to_owned(),
        master_port: port,
    }
}

#[test]
fn a_stream_is_taken_from_the_present_master_only() {
    let server = replica();
    let (first, _) = follow::adopt(&server, &begin(&server, ("a", 1))).unwrap();
    let mut keyspace = server.keyspace.lock();
    follow::demote(&server, &mut keyspace, "b", 2);
    drop(keyspace);
    for former in [("a", 1), ("a", 2), ("b", 1)] {
        let refused = follow::adopt(&server, &begin(&server, former)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid);
        assert!(refused.message.contains("the master is b:2"));
        // Under an id of its own neither.
        let other = ApplyBegin {
            replid: HexId::parse(&"9".repeat(40)).unwrap(),
            ..begin(&server, former)
        };
        assert!(follow::adopt(&server, &other).is_err());
        assert_ne!(server.log.state().replid, [b'9'; 40]);
    }
    let (second, _) = follow::adopt(&server, &begin(&server, ("b", 2))).unwrap();
    assert!(second > first);
    follow::promote(&server).unwrap();
    assert!(follow::adopt(&server, &begin(&server, ("b", 2))).is_err());
}
