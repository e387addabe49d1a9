//! Transactions through the dispatcher, with the real clock and two clients.

use crate::command::dispatch::Outcome;
use crate::command::testing::Clients;

#[test]
fn queued_commands_run_in_order_each_with_its_own_reply_or_error() {
    Clients::new(2).expect(&[
        ("EXEC", "-ERR EXEC without MULTI"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("WATCH k", "-ERR WATCH inside MULTI is not allowed"),
        ("SET k v", "+QUEUED"),
        ("INCR k", "+QUEUED"),
        ("BLPOP none 0", "+QUEUED"),
        ("GET k", "+QUEUED"),
        (
            "EXEC",
            "*4 +OK -ERR value is not an integer or out of range *-1 $1 v",
        ),
        ("MULTI", "+OK"),
        ("EXEC", "*0"),
        ("MULTI", "+OK"),
        ("SET k w", "+QUEUED"),
        ("DISCARD", "+OK"),
        ("GET k", "$1 v"),
    ]);
}

#[test]
fn a_command_that_can_not_be_queued_aborts_the_transaction() {
    Clients::new(2).expect(&[
        ("MULTI", "+OK"),
        ("SET k", "-ERR wrong number of arguments for 'set' command"),
        ("SET k v", "+QUEUED"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("EXISTS k", ":0"),
        ("MULTI", "+OK"),
        (
            "EXEC now",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        ),
        ("EXEC", "-ERR EXEC without MULTI"),
        (
            "EXEC now",
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        ),
    ]);
}

#[test]
fn select_inside_a_transaction_holds_for_what_follows_and_stays() {
    let mut bench = Clients::new(2);
    bench.expect(&[
        ("MULTI", "+OK"),
        ("SET k 0", "+QUEUED"),
        ("SELECT 3", "+QUEUED"),
        ("SET k 3", "+QUEUED"),
        ("EXEC", "*3 +OK +OK +OK"),
        ("GET k", "$1 3"),
        ("SELECT 0", "+OK"),
        ("GET k", "$1 0"),
        ("SELECT 4", "-ERR DB index is out of range"),
    ]);
}

#[test]
fn a_change_of_a_watched_key_by_anybody_fails_the_transaction_once() {
    for change in [
        "SET k 2",
        "DEL k",
        "EXPIRE k 100",
        "FLUSHDB",
        "FLUSHALL",
        "SWAPDB 0 1",
        "RENAME k m",
    ] {
        let mut bench = Clients::new(2);
        bench.expect(&[("SET k 1", "+OK"), ("WATCH k other", "+OK")]);
        bench.run_as(1, change);
        bench.expect(&[
            ("MULTI", "+OK"),
            ("SET k x", "+QUEUED"),
            ("EXEC", "*-1"),
            ("MULTI", "+OK"),
            ("PING", "+QUEUED"),
            ("EXEC", "*1 +PONG"),
        ]);
        assert!(bench.server.keyspace.lock().watched.is_empty(), "{change}");
    }
}

#[test]
fn what_does_not_change_a_watched_key_does_not_fail_the_transaction() {
    for command in [
        "GET k",
        "SET other 1",
        "DEL none",
        "EXPIRE none 1",
        "SWAPDB 2 3",
        "SETNX k 1",
    ] {
        let mut bench = Clients::new(2);
        bench.expect(&[("SET k 1", "+OK"), ("WATCH k", "+OK")]);
        bench.run_as(1, command);
        bench.expect(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "*1 +PONG")]);
    }
}

#[test]
fn unwatch_and_discard_forget_watched_keys_and_their_changes() {
    for forget in ["UNWATCH", "DISCARD"] {
        let mut bench = Clients::new(2);
        bench.run_as(0, "WATCH k");
        bench.run_as(1, "SET k 1");
        if forget == "DISCARD" {
            bench.run_as(0, "MULTI");
        }
        assert_eq!(bench.run_as(0, forget), "+OK");
        bench.expect(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "*1 +PONG")]);
    }
}

#[test]
fn a_watched_key_that_expires_fails_the_transaction_but_not_if_it_had_expired_before() {
    let mut bench = Clients::new(2);
    bench.expect(&[("PSETEX k 5 v", "+OK"), ("WATCH k", "+OK")]);
    std::thread::sleep(std::time::Duration::from_millis(10));
    bench.expect(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "*-1")]);
    bench.expect(&[("WATCH k", "+OK"), ("MULTI", "+OK"), ("PING", "+QUEUED")]);
    assert_eq!(bench.run_as(1, "EXISTS k"), ":0", "deletes the expired key");
    bench.expect(&[("EXEC", "*1 +PONG"), ("WATCH k", "+OK")]);
    bench.run_as(1, "SET k again");
    bench.expect(&[("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "*-1")]);
}

#[test]
fn blocked_clients_are_served_after_the_whole_transaction() {
    let mut bench = Clients::new(2);
    let (outcome, _) = bench.start(1, "BLPOP l 0");
    assert!(matches!(outcome, Outcome::Parked { .. }));
    bench.expect(&[
        ("MULTI", "+OK"),
        ("RPUSH l a b", "+QUEUED"),
        ("LPOP l", "+QUEUED"),
        ("EXEC", "*2 :2 $1 a"),
        ("EXISTS l", ":0"),
    ]);
    assert!(bench.server.keyspace.lock().blocked.is_empty());
}
