//! What a replica applies, and needs of the tier for that.

use super::bench::Bench;
use crate::keyspace::cold::Times;
use crate::replication::apply::Applier;
use crate::replication::follow;
use std::sync::atomic::Ordering;

#[test]
fn a_transaction_that_fails_behind_its_first_change_costs_the_place_in_the_stream() {
    let mut bench = Bench::new();
    bench.run("SET cold value");
    bench.evict(0, &["cold"], false);
    // As if the disk had lost it.
    let key = bench.server.keyspace.lock().tier_key(0, b"cold");
    let mut batch = bench.cold.batch();
    bench
        .cold
        .delete(&mut batch, &key, Times::default())
        .unwrap();
    bench.cold.apply(batch).unwrap();
    let server = &bench.server;
    let mut keyspace = server.keyspace.lock();
    follow::demote(server, &mut keyspace, "a", 1);
    drop(keyspace);
    let known = server.log.state().replid;
    let lost = || {
        let replication = server.state.replication.lock();
        replication.master.as_ref().unwrap().needs_snapshot
    };
    let offset = server.log.appended_offset();
    let feed = |stream: &[u8]| {
        let feed = server.state.feed.load(Ordering::Acquire);
        Applier::new(server, offset, 0, feed).feed(stream)
    };
    // Nothing was changed before: it may be tried again.
    assert!(feed(b"APPEND cold x\r\n").is_err());
    assert!(feed(b"MULTI\r\nSELECT 0\r\nAPPEND cold x\r\nINCR a\r\nEXEC\r\n").is_err());
    assert!(!lost() && server.log.state().replid == known);
    assert!(feed(b"MULTI\r\nINCR a\r\nAPPEND cold x\r\nEXEC\r\n").is_err());
    assert!(lost() && server.log.state().replid != known);
}
