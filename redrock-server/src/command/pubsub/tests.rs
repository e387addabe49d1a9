//! Subscriptions, messages and keyspace events, through the dispatcher.

use crate::command::testing::{Clients, shown};
use crate::config::OptionSet;
use crate::net::client::ClientShared;
use crate::notify::Class;
use crate::pubsub::{Kind, publish};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn shared(bench: &Clients, client: usize) -> Arc<ClientShared> {
    let client = bench.clients[client].as_ref();
    client.expect("not blocked").shared.clone()
}

/// What other threads have left for a client.
fn messages(bench: &Clients, client: usize) -> String {
    shown(&std::mem::take(&mut *shared(bench, client).outbox.lock()))
}

#[test]
fn messages_reach_channels_and_patterns_in_the_subscribers_protocol() {
    let mut bench = Clients::new(3);
    assert_eq!(
        bench.run_as(0, "SUBSCRIBE a b a"),
        "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2 *3 $9 subscribe $1 a :2"
    );
    bench.run_as(1, "HELLO 3");
    assert_eq!(
        bench.run_as(1, "PSUBSCRIBE a*"),
        ">3 $10 psubscribe $2 a* :1"
    );
    assert_eq!(bench.run_as(2, "PUBLISH a hi"), ":2");
    assert_eq!(messages(&bench, 0), "*3 $7 message $1 a $2 hi");
    assert_eq!(messages(&bench, 1), ">4 $8 pmessage $2 a* $1 a $2 hi");
    assert_eq!(bench.run_as(2, "PUBLISH c hi"), ":0");
    assert_eq!(
        bench.run_as(2, "SPUBLISH a hi"),
        ":0",
        "shard channels are others"
    );
    assert!(
        bench
            .run_as(0, "GET k")
            .starts_with("-ERR Can't execute 'get'")
    );
    assert_eq!(bench.run_as(1, "GET k"), "_");
    assert_eq!(bench.run_as(2, "PUBSUB NUMSUB a c"), "*4 $1 a :1 $1 c :0");
    assert_eq!(bench.run_as(2, "PUBSUB NUMPAT"), ":1");
    assert_eq!(bench.run_as(2, "PUBSUB CHANNELS [b-z]"), "*1 $1 b");
}

#[test]
fn messages_before_the_end_of_a_subscription_come_before_its_confirmation() {
    let mut bench = Clients::new(3);
    bench.run_as(0, "SSUBSCRIBE s");
    bench.run_as(1, "SPUBLISH s 1");
    assert_eq!(
        bench.run_as(0, "SUNSUBSCRIBE"),
        "*3 $8 smessage $1 s $1 1 *3 $12 sunsubscribe $1 s :0"
    );
    assert_eq!(bench.run_as(0, "UNSUBSCRIBE"), "*3 $11 unsubscribe $-1 :0");
    assert_eq!(
        bench.run_as(0, "PUNSUBSCRIBE x"),
        "*3 $12 punsubscribe $1 x :0"
    );
    assert_eq!(bench.run_as(1, "SPUBLISH s 2"), ":0");
}

#[test]
fn a_client_that_goes_or_resets_hears_nothing_more() {
    let mut bench = Clients::new(3);
    for client in [0, 1] {
        bench.run_as(client, "SUBSCRIBE a");
        bench.run_as(client, "PSUBSCRIBE *");
    }
    bench.run_as(0, "RESET");
    let gone = bench.clients[1].take();
    let shared = gone.as_ref().expect("there").shared.clone();
    bench.server.forget_client(&shared, gone);
    assert_eq!(bench.run_as(2, "PUBLISH a x"), ":0");
    assert!(!bench.server.pubsub.has_listeners());
}

#[test]
fn a_subscriber_that_does_not_read_is_closed() {
    let mut bench = Clients::new(3);
    bench.run_as(0, "SUBSCRIBE a");
    let payload = "x".repeat(1 << 20);
    for _ in 0..40 {
        bench.run_as(2, &format!("PUBLISH a {payload}"));
    }
    let shared = shared(&bench, 0);
    assert!(shared.kill.load(Ordering::Relaxed));
    assert!(shared.outbox.lock().is_empty());
}

#[test]
fn keyspace_events_are_published_as_the_option_says() {
    let mut bench = Clients::new(3);
    bench.run_as(0, "PSUBSCRIBE *");
    bench.run_as(2, "SET k v");
    assert_eq!(messages(&bench, 0), "", "off by default");
    let mut config = (*bench.server.config()).clone();
    config.observation.events = Class::parse_mask("KE$g").expect("letters");
    bench.server.set_config(config, &OptionSet::default());
    bench.run_as(2, "SET k v");
    assert_eq!(
        messages(&bench, 0),
        "*4 $8 pmessage $1 * $16 __keyspace@0__:k $3 set *4 $8 pmessage $1 * $18 __keyevent@0__:set $1 k"
    );
    bench.run_as(2, "LPUSH l v");
    assert_eq!(messages(&bench, 0), "", "not a class that is asked for");
    bench.run_as(2, "DEL k l none");
    assert_eq!(messages(&bench, 0).matches("$3 del").count(), 2);
}

#[test]
fn a_transaction_may_subscribe_but_not_to_shard_channels() {
    let mut bench = Clients::new(3);
    bench.run_as(0, "MULTI");
    bench.run_as(0, "SUBSCRIBE a");
    bench.run_as(0, "SSUBSCRIBE s");
    assert_eq!(
        bench.run_as(0, "EXEC"),
        "*2 *3 $9 subscribe $1 a :1 -ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"
    );
}

#[test]
fn messages_are_held_back_until_the_log_has_what_they_tell_of() {
    let mut bench = Clients::new(2);
    bench.run_as(0, "SUBSCRIBE a");
    let server = &bench.server;
    assert_eq!(publish(server, Kind::Channel, b"a", b"1"), 1);
    assert_eq!(publish(server, Kind::Channel, b"a", b"2"), 1);
    assert_eq!(messages(&bench, 0), "");
    bench.run_as(1, "SET k v");
    assert_eq!(
        messages(&bench, 0),
        "*3 $7 message $1 a $1 1 *3 $7 message $1 a $1 2"
    );
}
