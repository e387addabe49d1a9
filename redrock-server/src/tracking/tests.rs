//! What clients are told, through the dispatcher.

use crate::command::dispatch::Outcome;
use crate::command::testing::{Clients, shown};
use crate::keyspace::expire::{ExpireCursor, cycle};
use crate::net::client::ClientShared;
use crate::tracking::Totals;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Clients that others can redirect to; the first `resp3` of them speak RESP3.
fn clients(count: u64, resp3: usize) -> Clients {
    let mut bench = Clients::new(count);
    for client in 0..count as usize {
        bench
            .server
            .admit_client(bench.clients[client].as_ref().expect("there"));
        if client < resp3 {
            bench.run_as(client, "HELLO 3");
        }
    }
    bench
}

fn shared(bench: &Clients, client: usize) -> Arc<ClientShared> {
    let client = bench.clients[client].as_ref();
    client.expect("not blocked").shared.clone()
}

/// What has been sent to a client beside its replies.
fn told(bench: &Clients, client: usize) -> String {
    bench.server.send_broadcasts();
    shown(&std::mem::take(&mut *shared(bench, client).outbox.lock()))
}

fn totals(bench: &Clients) -> Totals {
    bench.server.keyspace.lock().tracking.totals()
}

fn invalidate(key: &str) -> String {
    format!(">2 $10 invalidate *1 ${} {key}", key.len())
}

#[test]
fn a_reader_is_told_once_of_the_next_change_and_of_nothing_that_it_did_not_read() {
    let mut bench = clients(2, 1);
    bench.run_as(0, "CLIENT TRACKING ON");
    bench.run_as(1, "MSET a 1 b 1");
    for command in ["GET a", "GET none", "LRANGE none 0 -1", "EXISTS b"] {
        bench.run_as(0, command);
    }
    assert_eq!(totals(&bench).keys, 3);
    assert_eq!(told(&bench, 0), "");
    bench.run_as(1, "SET a 2");
    bench.run_as(1, "SET a 3");
    assert_eq!(told(&bench, 0), invalidate("a"));
    bench.run_as(1, "RPUSH none x");
    assert_eq!(told(&bench, 0), invalidate("none"));
    bench.run_as(1, "SELECT 1");
    bench.run_as(1, "SET b x");
    assert_eq!(told(&bench, 0), invalidate("b"), "names alone count");
    bench.run_as(0, "CLIENT TRACKING OFF");
    assert_eq!(totals(&bench), Totals::default());
}

#[test]
fn what_a_client_changes_itself_it_is_told_after_the_reply_unless_it_says_noloop() {
    let mut bench = clients(1, 1);
    bench.run_as(0, "CLIENT TRACKING ON");
    bench.run_as(0, "GET a");
    assert_eq!(bench.run_as(0, "INCR a"), format!(":1 {}", invalidate("a")));
    bench.expect(&[
        ("GET a", "$1 1"),
        ("MULTI", "+OK"),
        ("INCR a", "+QUEUED"),
        ("GET a", "+QUEUED"),
        ("EXEC", "*2 :2 $1 2 >2 $10 invalidate *1 $1 a"),
        ("FLUSHALL", "+OK >2 $10 invalidate _"),
        ("CLIENT TRACKING ON NOLOOP", "+OK"),
        ("GET a", "_"),
        ("SET a 1", "+OK"),
    ]);
    assert_eq!(totals(&bench).keys, 0, "told or not, it is forgotten");
    bench.run_as(0, "CLIENT REPLY OFF");
    bench.run_as(0, "CLIENT TRACKING ON");
    bench.run_as(0, "GET a");
    assert_eq!(
        bench.run_as(0, "DEL a"),
        invalidate("a"),
        "no reply, and yet"
    );
}

#[test]
fn a_resp2_client_redirects_to_a_subscriber_until_that_is_gone() {
    let mut bench = clients(3, 0);
    assert_eq!(bench.run_as(0, "CLIENT TRACKING ON REDIRECT 2"), "+OK");
    bench.run_as(0, "MGET a b");
    bench.run_as(2, "SET a 1");
    assert_eq!(told(&bench, 1), "", "it does not listen to anything");
    bench.run_as(1, "SUBSCRIBE __redis__:invalidate");
    bench.run_as(2, "SET b 1");
    assert_eq!(
        told(&bench, 1),
        "*3 $7 message $20 __redis__:invalidate *1 $1 b"
    );
    bench.run_as(0, "GET a");
    bench.run_as(2, "FLUSHDB");
    assert_eq!(
        told(&bench, 1),
        "*3 $7 message $20 __redis__:invalidate $-1"
    );
    let gone = shared(&bench, 1);
    let client = bench.clients[1].take();
    bench.server.forget_client(&gone, client);
    bench.run_as(0, "HELLO 3");
    bench.run_as(0, "GET a");
    bench.run_as(2, "SET a 1");
    assert_eq!(told(&bench, 0), ">2 $21 tracking-redir-broken :2");
    assert_eq!(
        bench.run_as(0, "CLIENT TRACKINGINFO"),
        "%3 $5 flags ~2 $2 on $15 broken_redirect $8 redirect :2 $8 prefixes *0"
    );
    assert_eq!(
        bench.run_as(0, "CLIENT TRACKING ON REDIRECT 2"),
        "-ERR The client ID you want redirect to does not exist"
    );
}

#[test]
fn broadcasts_name_each_changed_key_with_a_prefix_once_whoever_read_it() {
    let mut bench = clients(3, 2);
    bench.run_as(0, "CLIENT TRACKING ON BCAST PREFIX a PREFIX b");
    bench.run_as(1, "CLIENT TRACKING ON BCAST NOLOOP");
    assert_eq!(totals(&bench).prefixes, 3);
    bench.run_as(2, "MSET a1 1 c 1");
    bench.run_as(1, "MSET a1 1 b1 1 a2 2");
    bench.run_as(2, "APPEND b1 x");
    assert_eq!(
        told(&bench, 0),
        ">2 $10 invalidate *2 $2 a1 $2 a2 >2 $10 invalidate *1 $2 b1"
    );
    assert_eq!(
        told(&bench, 1),
        ">2 $10 invalidate *2 $2 b1 $1 c",
        "the last change of a1 and a2 is its own"
    );
    bench.run_as(0, "CLIENT TRACKING OFF");
    assert_eq!(totals(&bench).prefixes, 1);
    bench.run_as(1, "RESET");
    bench.run_as(2, "SET a1 1");
    assert!(!bench.server.has_broadcasts.load(Ordering::Relaxed));
    assert_eq!(totals(&bench), Totals::default());
}

#[test]
fn who_opts_in_or_out_says_so_for_one_command_or_one_transaction() {
    let mut bench = clients(1, 1);
    bench.expect(&[
        ("CLIENT TRACKING ON OPTIN", "+OK"),
        ("GET a", "_"),
        ("CLIENT CACHING YES", "+OK"),
        ("CLIENT GETREDIR", ":0"),
        ("GET b", "_"),
        ("GET c", "_"),
        ("CLIENT CACHING YES", "+OK"),
        ("MULTI", "+OK"),
        ("GET d", "+QUEUED"),
        ("GET e", "+QUEUED"),
        ("EXEC", "*2 _ _"),
        ("GET f", "_"),
        (
            "CLIENT CACHING NO",
            "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        ("MSET a 1 b 1 c 1", "+OK >2 $10 invalidate *1 $1 b"),
        (
            "MSET d 1 f 1 e 1",
            "+OK >2 $10 invalidate *1 $1 d >2 $10 invalidate *1 $1 e",
        ),
        ("CLIENT TRACKING OFF", "+OK"),
        ("CLIENT TRACKING ON OPTOUT", "+OK"),
        ("CLIENT CACHING NO", "+OK"),
        ("GET a", "$1 1"),
        ("GET b", "$1 1"),
        ("DEL a b", ":2 >2 $10 invalidate *1 $1 b"),
    ]);
}

#[test]
fn expiry_is_told_even_to_whom_does_not_want_to_hear_of_its_own_changes() {
    let mut bench = clients(2, 1);
    bench.run_as(0, "CLIENT TRACKING ON NOLOOP");
    bench.run_as(1, "SET a 1 PX 1");
    bench.run_as(0, "GET a");
    bench.run_as(0, "GET b");
    std::thread::sleep(Duration::from_millis(3));
    cycle(
        &bench.server,
        &mut ExpireCursor::default(),
        Duration::from_secs(9),
    );
    assert_eq!(told(&bench, 0), invalidate("a"));
}

#[test]
fn a_full_table_forgets_and_tells() {
    let mut bench = clients(1, 1);
    bench.run_as(0, "CLIENT TRACKING ON");
    for n in 0..250 {
        bench.run_as(0, &format!("GET key{n}"));
    }
    let limit = |keys_max| {
        let mut keyspace = bench.server.keyspace.lock();
        keyspace.limit_tracking(&bench.server, keys_max);
    };
    limit(0);
    assert_eq!(totals(&bench).keys, 250);
    limit(1);
    assert_eq!(totals(&bench).keys, 150, "so far the first pass goes");
    limit(1);
    assert_eq!((totals(&bench).keys, totals(&bench).items), (1, 1));
    assert_eq!(told(&bench, 0).matches("invalidate").count(), 249);
}

#[test]
fn a_served_client_is_told_after_its_reply() {
    let mut bench = clients(2, 1);
    bench.run_as(0, "CLIENT TRACKING ON");
    bench.run_as(0, "LRANGE to 0 -1");
    let blocked = shared(&bench, 0);
    let (outcome, _) = bench.start(0, "BLMOVE from to LEFT LEFT 0");
    assert!(matches!(outcome, Outcome::Parked { .. }));
    bench.run_as(1, "RPUSH from x");
    let text = shown(&std::mem::take(&mut *blocked.outbox.lock()));
    assert_eq!(text, format!("$1 x {}", invalidate("to")));
}

#[test]
fn what_contradicts_itself_or_the_present_mode_is_refused() {
    let mut bench = clients(1, 1);
    for (command, error) in [
        (
            "ON PREFIX a",
            "PREFIX option requires BCAST mode to be enabled",
        ),
        (
            "ON BCAST OPTIN",
            "OPTIN and OPTOUT are not compatible with BCAST",
        ),
        (
            "ON OPTIN OPTOUT",
            "You can't specify both OPTIN mode and OPTOUT mode",
        ),
        (
            "ON BCAST PREFIX FOOBAR PREFIX FOO",
            "Prefix 'FOOBAR' overlaps with another provided prefix 'FOO'. Prefixes for a single \
             client must not overlap.",
        ),
        ("ON REDIRECT x", "value is not an integer or out of range"),
        ("ON REDIRECT", "syntax error"),
        ("maybe", "syntax error"),
    ] {
        let reply = bench.run_as(0, &format!("CLIENT TRACKING {command}"));
        assert_eq!(reply, format!("-ERR {error}"));
    }
    bench.run_as(0, "CLIENT TRACKING ON BCAST PREFIX FOO PREFIX BAR");
    assert_eq!(
        bench.run_as(0, "CLIENT TRACKING ON BCAST PREFIX FO"),
        "-ERR Prefix 'FO' overlaps with an existing prefix 'FOO'. Prefixes for a single client \
         must not overlap."
    );
    assert!(
        bench
            .run_as(0, "CLIENT TRACKING ON")
            .starts_with("-ERR You can't switch BCAST mode on/off")
    );
}
