//! Who may feed a replica, and what it does with what it can't apply.

use super::apply::Applier;
use super::failover::{self, Running};
use super::follow;
use crate::command::effect::Effect;
use crate::command::testing::{new_server, wait_for_stream};
use crate::config::OptionSet;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::cold::{ColdStore, Times};
use crate::keyspace::db::Db;
use crate::keyspace::expire::{self, ExpireCursor};
use crate::keyspace::hot::entry::NewValue;
use crate::keyspace::tiering::Tiering;
use crate::keyspace::tiering::fifo::{TierOp, TierQueue};
use crate::net::client::Client;
use crate::notify::Class;
use crate::pubsub::Kind;
use crate::server::Server;
use redrock_proto::model::{ApplyBegin, HexId};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::Arc;
use std::time::Duration;

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

#[test]
fn a_transaction_that_can_not_be_run_as_a_whole_does_not_begin() {
    let server = replica();
    let from = begin(&server, ("a", 1));
    let (feed, db) = follow::adopt(&server, &from).unwrap();
    for last in ["NOSUCH x", "INCR", "SELECT 4000"] {
        // The second time is that of the next link.
        for _ in 0..2 {
            let mut applier = Applier::new(&server, from.start_offset, db, feed);
            let stream = format!("MULTI\r\nINCR a\r\n{last}\r\nEXEC\r\n");
            assert!(applier.feed(stream.as_bytes()).is_err(), "{last}");
            assert_eq!(applier.applied_offset(), from.start_offset);
            let keyspace = server.keyspace.lock();
            assert_eq!(keyspace.database(0).unwrap().table.len(), 0, "{last}");
        }
    }
    assert!(follow::adopt(&server, &from).is_ok());
}

#[test]
fn what_a_transaction_publishes_that_is_to_come_again_is_heard_once() {
    let folder = tempfile::tempdir().unwrap();
    let cold = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).unwrap();
    let cold = Arc::new(cold);
    let queue = Arc::new(TierQueue::new(1 << 20));
    let server = replica();
    let apply = |keyspace: &mut Keyspace| drop(keyspace.applied(&queue.apply_one_batch(&cold)));
    let from = begin(&server, ("a", 1));
    let (feed, db) = follow::adopt(&server, &from).unwrap();
    let mut applier = Applier::new(&server, from.start_offset, db, feed);
    let tier_key = {
        let mut keyspace = server.keyspace.lock();
        keyspace.enable_tiering(Tiering::new(cold.clone(), queue.clone(), 1 << 20));
        let mut effect = Effect::default();
        let mut db = Db::new(&mut keyspace, &server, &mut effect, 0, 0);
        db.restore(b"n", NewValue::Int(1), None).unwrap();
        let database = keyspace.database(0).unwrap();
        let hash = database.table.hash(b"n");
        let tier_key = database.tier_key(hash, b"n");
        assert!(keyspace.spill(0, hash, b"n"));
        apply(&mut keyspace);
        assert!(keyspace.drop_clean(0, hash, b"n", false).is_some());
        tier_key
    };
    let mut listener = Client::new(Arc::default(), String::new(), String::new(), 0);
    server.pubsub.subscribe(Kind::Channel, b"c", &mut listener);
    let heard = || String::from_utf8_lossy(&listener.shared.outbox.lock()).into_owned();
    // The tier has lost the value.
    let times = Times::default();
    queue.push(TierOp::Delete {
        key: tier_key,
        times,
        seq: u64::MAX,
    });
    drop(queue.apply_one_batch(&cold));
    let stream = b"MULTI\r\nPUBLISH c m\r\nINCR n\r\nEXEC\r\n";
    assert!(applier.feed(stream).is_err());
    assert_eq!(applier.applied_offset(), from.start_offset);
    assert_eq!(heard(), "");
    // It comes again when the value can be read.
    let mut keyspace = server.keyspace.lock();
    keyspace.flush(0, false);
    drop(keyspace);
    let mut applier = Applier::new(&server, from.start_offset, db, feed);
    applier.feed(stream).unwrap();
    assert_eq!(heard(), "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n");
}

#[test]
fn who_has_lost_its_place_goes_on_from_a_snapshot_only() {
    let server = replica();
    let from = begin(&server, ("a", 1));
    let keyspace = server.keyspace.lock();
    follow::lose_place(&server);
    drop(keyspace);
    assert_ne!(server.log.state().replid, from.replid.digits());
    // Even if the agent has not heard of it.
    let refused = follow::adopt(&server, &from).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    let replication = server.state.replication.lock();
    assert_eq!(replication.master.as_ref().unwrap().applied_offset, None);
}

#[test]
fn a_demotion_that_comes_too_late_changes_nothing() {
    let server = Arc::new(new_server());
    let at = |expected| {
        let number = server.state.replication.lock().failovers;
        failover::demote(&server, number, ("a", 1), expected)
    };
    let demote = || at(None);
    let code = |result: Result<_, RpcError>| result.unwrap_err().code;
    assert_eq!(code(demote()), ErrorCode::Invalid, "no failover");
    let running = Running::begin(&server).unwrap();
    let elsewhere = at(Some(77));
    assert_eq!(code(elsewhere), ErrorCode::Busy);
    // Taken back by the agent, which then says so.
    failover::refuse_demotion(&server);
    assert_eq!(code(demote()), ErrorCode::Invalid);
    drop(running);
    drop(Running::begin(&server).unwrap());
    assert_eq!(code(demote()), ErrorCode::Invalid, "it is over");
    assert!(!server.is_replica());
    let running = Running::begin(&server).unwrap();
    demote().unwrap();
    assert!(server.is_replica());
    assert_eq!(code(demote()), ErrorCode::Invalid, "it was one");
    drop(running);
}

#[test]
fn who_acts_for_an_earlier_failover_changes_nothing() {
    let server = Arc::new(new_server());
    let number = || server.state.replication.lock().failovers;
    let demote = |number| failover::demote(&server, number, ("a", 1), None);
    drop(Running::begin(&server).unwrap());
    let earlier = number();
    let running = Running::begin(&server).unwrap();
    let late = demote(earlier).unwrap_err();
    assert_eq!(late.code, ErrorCode::Invalid);
    assert!(!server.is_replica());
    // It has taken nothing from the present one.
    demote(number()).unwrap();
    assert!(server.is_replica());
    let take_back = |number| {
        let is_present = || failover::is_present(&server, number);
        follow::promote_if(&server, is_present).unwrap()
    };
    assert_eq!(take_back(earlier), None);
    assert!(server.is_replica());
    assert!(take_back(number()).is_some());
    assert!(!server.is_replica());
    drop(running);
    assert!(!failover::is_present(&server, number()));
}

#[test]
fn a_script_that_a_master_names_and_nobody_knows_loses_the_place() {
    let server = replica();
    let from = begin(&server, ("a", 1));
    let (feed, db) = follow::adopt(&server, &from).unwrap();
    let mut applier = Applier::new(&server, from.start_offset, db, feed);
    // Its text came before.
    let digest = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let known = format!("EVAL \"return 1\" 0\r\nEVALSHA {digest} 0\r\n");
    applier.feed(known.as_bytes()).unwrap();
    assert_eq!(server.scripting.cache.kept().len(), 1);
    let unknown = format!("EVALSHA {} 0\r\n", "0".repeat(40));
    let error = applier.feed(unknown.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("a full sync is due"), "{error}");
    let replication = server.state.replication.lock();
    assert!(replication.master.as_ref().unwrap().needs_snapshot);
    drop(replication);
    assert_ne!(server.log.state().replid, from.replid.digits());
}

#[test]
fn who_becomes_a_master_takes_writes_from_that_moment_on() {
    let server = replica();
    assert!(server.is_read_only());
    follow::promote(&server).unwrap();
    assert!(!server.is_read_only());
}

#[test]
fn what_expires_of_a_replicas_own_keys_is_told_before_the_next_command() {
    let server = replica();
    let mut config = (*server.config()).clone();
    config.observation.events = Class::parse_mask("Ex").unwrap();
    server.set_config(config, &OptionSet::default());
    let mut listener = Client::new(Arc::default(), String::new(), String::new(), 0);
    let channel = b"__keyevent@0__:expired";
    let pubsub = &server.pubsub;
    pubsub.subscribe(Kind::Channel, channel, &mut listener);
    let mut keyspace = server.keyspace.lock();
    let mut effect = Effect::default();
    let mut db = Db::new(&mut keyspace, &server, &mut effect, 0, 0);
    db.restore(b"n", NewValue::Int(1), Some(5)).unwrap();
    keyspace.replica_expires.insert((0, b"n".to_vec()));
    let waiting = wait_for_stream(&mut keyspace, "n");
    drop(keyspace);
    let most = Duration::from_secs(1);
    expire::cycle(&server, &mut ExpireCursor::default(), most);
    let told = listener.shared.outbox.lock();
    assert!(told.ends_with(b"$1\r\nn\r\n"), "{told:?}");
    assert!(waiting.returned.lock().is_some());
}
