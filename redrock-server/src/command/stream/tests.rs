//! What stream commands answer, propagate and tell; who wakes whom.

use crate::command::dispatch::Outcome;
use crate::command::testing::{Bench, Clients, NOW, shown};
use crate::net::client::ClientShared;
use std::sync::Arc;

fn bench(commands: &[&str]) -> Bench {
    Bench::new(|_, event, key, _| format!("{event} {key}"), commands)
}

#[test]
fn added_entries_are_propagated_with_their_final_id() {
    let mut bench = bench(&[]);
    let ran = bench.run("XADD s * f v");
    assert_eq!(ran.text, format!("$15 {NOW}-0"));
    assert_eq!(ran.propagated, format!("XADD s {NOW}-0 f v"));
    assert_eq!((ran.events.concat(), ran.dirty), ("xadd s".into(), 1));
    let ran = bench.run(&format!("XADD s {NOW}-* f v"));
    assert_eq!(ran.propagated, format!("XADD s {NOW}-1 f v"));
    let given = format!("XADD s {NOW}-9 f v");
    assert_eq!(bench.run(&given).propagated, given);
    assert!(
        bench
            .text(&given)
            .contains("equal or smaller than the target stream top item")
    );
    assert_eq!(bench.text("XADD none NOMKSTREAM * f v"), "$-1");
    assert_eq!(bench.text("EXISTS none"), ":0");
}

#[test]
fn approximate_trims_are_propagated_as_exact_ones() {
    let mut bench = bench(&["XADD s 1-0 f v", "XADD s 2-0 f v"]);
    bench.config.streams.node_entries_max = 1;
    bench.run("XADD s 3-0 f v");
    let ran = bench.run("XADD s MAXLEN ~ 2 4-0 f v");
    assert_eq!(ran.propagated, "XADD s MAXLEN = 2 4-0 f v");
    assert_eq!(ran.events, ["xadd s", "xtrim s"]);
    let ran = bench.run("XTRIM s MINID ~ 4 LIMIT 1");
    assert_eq!((&*ran.text, ran.dirty), (":1", 1));
    assert_eq!(ran.propagated, "XTRIM s MINID = 4-0 LIMIT 1");
    assert_eq!(bench.run("XTRIM s MAXLEN ~ 1").propagated, "");
    // A limit stays beside a trim that is exact now: only the log may say so.
    let from_log = "XADD s MAXLEN = 0 LIMIT 1 5-0 f v";
    assert!(bench.text(from_log).starts_with("-ERR syntax error, LIMIT"));
    bench.client.obeyed = true;
    assert_eq!(bench.text(from_log), "$3 5-0");
    assert_eq!(bench.text("XLEN s"), ":0");
    assert_eq!(bench.text("EXISTS s"), ":1");
}

#[test]
fn deliveries_are_propagated_as_claims() {
    let mut bench = bench(&["XADD s 1-0 f v", "XADD s 2-0 f v", "XGROUP CREATE s g 0"]);
    let ran = bench.run("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    assert_eq!(ran.text, "*1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v");
    let claim = format!("XCLAIM s g c 0 1-0 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID LASTID 1-0");
    assert_eq!(ran.propagated, claim);
    assert_eq!(ran.events, ["xgroup-createconsumer s"]);
    let ran = bench.run("XREADGROUP GROUP g d NOACK STREAMS s >");
    assert_eq!(
        ran.propagated,
        "XGROUP CREATECONSUMER s g d XGROUP SETID s g 2-0 ENTRIESREAD 2"
    );
    let ran = bench.run("XREADGROUP GROUP g c STREAMS s 0");
    assert_eq!(ran.text, "*1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v");
    assert_eq!(ran.propagated, "");
    assert_eq!(bench.text("XPENDING s g - + 9"), "*1 *4 $3 1-0 $1 c :0 :2");
    let ran = bench.run("XCLAIM s g d 0 1 RETRYCOUNT 7 JUSTID");
    assert_eq!(ran.text, "*1 $3 1-0");
    let claim = format!("XCLAIM s g d 0 1 TIME {NOW} RETRYCOUNT 7 FORCE JUSTID LASTID 2-0");
    assert_eq!(ran.propagated, claim);
    bench.run("XDEL s 1-0");
    let ran = bench.run("XAUTOCLAIM s g c 0 0");
    assert_eq!(ran.text, "*3 $3 0-0 *0 *1 $3 1-0");
    let claim = format!("XCLAIM s g d 0 1-0 TIME {NOW} RETRYCOUNT 7 FORCE JUSTID LASTID 2-0");
    assert_eq!(ran.propagated, claim);
    assert_eq!(bench.text("XPENDING s g"), "*4 :0 $-1 $-1 *-1");
}

#[test]
fn what_claims_propagate_has_the_same_effect_again() {
    let setup = ["XADD s 1-0 f v", "XADD s 2-0 f v", "XGROUP CREATE s g 0"];
    let (mut first, mut second) = (bench(&setup), bench(&setup));
    for command in ["XREADGROUP GROUP g c STREAMS s >", "XCLAIM s g d 0 2-0"] {
        let ran = first.run(command);
        let words: Vec<&str> = ran.propagated.split(' ').collect();
        for claim in words.chunks(14) {
            second.run(&claim.join(" "));
        }
    }
    let pending = "XPENDING s g - + 9";
    assert_eq!(first.text(pending), second.text(pending));
    assert_eq!(
        first.text("XPENDING s g"),
        "*4 :2 $3 1-0 $3 2-0 *2 *2 $1 c $1 1 *2 $1 d $1 1"
    );
}

#[test]
fn autoclaim_goes_on_where_it_stopped_and_skips_what_is_too_young() {
    let mut bench = bench(&["XGROUP CREATE s g 0 MKSTREAM"]);
    for n in 1..=5 {
        bench.run(&format!("XADD s {n}-0 f v"));
    }
    bench.run("XREADGROUP GROUP g c STREAMS s >");
    assert_eq!(
        bench.text("XAUTOCLAIM s g d 10 0 COUNT 2 JUSTID"),
        "*3 $3 0-0 *0 *0"
    );
    bench.now_ms += 10;
    assert_eq!(
        bench.text("XAUTOCLAIM s g d 10 0 COUNT 2 JUSTID"),
        "*3 $3 3-0 *2 $3 1-0 $3 2-0 *0"
    );
    assert_eq!(
        bench.text("XAUTOCLAIM s g d 10 (3 COUNT 9 JUSTID"),
        "*3 $3 0-0 *2 $3 4-0 $3 5-0 *0"
    );
    assert_eq!(
        bench
            .text("XINFO CONSUMERS s g")
            .matches("$7 pending")
            .count(),
        2
    );
}

#[test]
fn infos_have_the_fields_of_redis_7_2() {
    let mut bench = bench(&["XADD s 1-0 f v", "XGROUP CREATE s g 0"]);
    bench.run("XREADGROUP GROUP g c STREAMS s >");
    bench.now_ms += 5;
    bench.run("XREADGROUP GROUP g c STREAMS s >");
    bench.now_ms += 3;
    assert_eq!(
        bench.text("XINFO CONSUMERS s g"),
        "*1 *8 $4 name $1 c $7 pending :1 $4 idle :3 $8 inactive :8"
    );
    assert_eq!(
        bench.text("XINFO GROUPS s"),
        "*1 *12 $4 name $1 g $9 consumers :1 $7 pending :1 $17 last-delivered-id $3 1-0 $12 \
         entries-read :1 $3 lag :0"
    );
    assert_eq!(
        bench.text("XINFO STREAM s FULL"),
        format!(
            "*18 $6 length :1 $15 radix-tree-keys :1 $16 radix-tree-nodes :2 $17 last-generated-id \
             $3 1-0 $20 max-deleted-entry-id $3 0-0 $13 entries-added :1 $23 \
             recorded-first-entry-id $3 1-0 $7 entries *1 *2 $3 1-0 *2 $1 f $1 v $6 groups *1 *14 \
             $4 name $1 g $17 last-delivered-id $3 1-0 $12 entries-read :1 $3 lag :0 $9 pel-count \
             :1 $7 pending *1 *4 $3 1-0 $1 c :{NOW} :1 $9 consumers *1 *10 $4 name $1 c $9 \
             seen-time :{} $11 active-time :{NOW} $9 pel-count :1 $7 pending *1 *3 $3 1-0 :{NOW} :1",
            NOW + 5
        )
    );
}

/// Clients of which some wait.
struct Waiters {
    clients: Clients,
}

impl Waiters {
    fn new(setup: &[&str]) -> Self {
        let mut clients = Clients::new(4);
        for command in setup {
            let reply = clients.run_as(0, command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        Self { clients }
    }

    fn wait(&mut self, client: usize, command: &str) -> Arc<ClientShared> {
        let slot = self.clients.clients[client].as_ref();
        let shared = slot.expect("not waiting").shared.clone();
        let (outcome, reply) = self.clients.start(client, command);
        assert!(
            matches!(outcome, Outcome::Parked { .. }),
            "{outcome:?} {reply}"
        );
        shared
    }

    fn run(&mut self, command: &str) {
        let reply = self.clients.run_as(0, command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
}

/// What a waiting client has been answered.
fn answer(waiting: &ClientShared) -> String {
    let text = shown(&waiting.outbox.lock());
    assert_eq!(text.is_empty(), waiting.returned.lock().is_none());
    text
}

#[test]
fn a_reader_waits_for_what_comes_after_the_last_entry_of_then() {
    let mut waiters = Waiters::new(&["XADD s 1-0 f v"]);
    let waiting = waiters.wait(1, "XREAD BLOCK 0 STREAMS s $");
    waiters.run("XDEL s 1-0");
    assert_eq!(answer(&waiting), "");
    waiters.run("XADD s 2-0 f v");
    assert_eq!(answer(&waiting), "*1 *2 $1 s *1 *2 $3 2-0 *2 $1 f $1 v");
}

#[test]
fn a_reader_goes_on_waiting_while_its_key_holds_something_else() {
    let mut waiters = Waiters::new(&["XADD s 1-0 f v"]);
    let reader = waiters.wait(1, "XREAD BLOCK 0 STREAMS s $");
    let popper = waiters.wait(2, "BLPOP t 0");
    waiters.run("XADD t 1-0 f v");
    for command in ["DEL s", "RPUSH s x", "DEL s t", "SET s x", "FLUSHALL"] {
        waiters.run(command);
        assert_eq!(
            (answer(&reader), answer(&popper)),
            Default::default(),
            "{command}"
        );
    }
    waiters.run("XADD s 9-0 f v");
    waiters.run("RPUSH t y");
    assert_eq!(answer(&reader), "*1 *2 $1 s *1 *2 $3 9-0 *2 $1 f $1 v");
    assert_eq!(answer(&popper), "*2 $1 t $1 y");
}

#[test]
fn a_consumer_that_waits_is_told_when_its_group_or_key_goes() {
    const GONE: &str =
        "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    for (commands, expected) in [
        (&["XGROUP DESTROY s g"][..], GONE),
        (&["DEL s"], GONE),
        (&["UNLINK s"], GONE),
        (&["SET s x"], WRONG),
        (&["RENAME s t"], GONE),
        (&["RPUSH l x", "RENAME l s"], WRONG),
        (&["MOVE s 1"], GONE),
        (&["FLUSHALL"], GONE),
        (&["FLUSHDB"], GONE),
        (&["SWAPDB 0 1"], GONE),
        (&["PEXPIRE s -1"], GONE),
    ] {
        let mut waiters = Waiters::new(&["XGROUP CREATE s g $ MKSTREAM"]);
        let waiting = waiters.wait(1, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        waiters.run("XGROUP CREATE s other $");
        waiters.run("XGROUP DESTROY s other");
        assert_eq!(answer(&waiting), "");
        commands.iter().for_each(|command| waiters.run(command));
        assert_eq!(answer(&waiting), expected, "{commands:?}");
    }
}

#[test]
fn an_entry_goes_to_the_consumer_that_waited_first() {
    let mut waiters = Waiters::new(&["XGROUP CREATE s g $ MKSTREAM"]);
    let first = waiters.wait(1, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
    let second = waiters.wait(2, "XREADGROUP GROUP g d BLOCK 0 STREAMS s >");
    let reader = waiters.wait(3, "XREAD BLOCK 0 STREAMS other s 0 $");
    waiters.run("XADD s 1-0 f v");
    let entry = "*1 *2 $1 s *1 *2 $3 1-0 *2 $1 f $1 v";
    assert_eq!(
        (&*answer(&first), &*answer(&second), &*answer(&reader)),
        (entry, "", entry)
    );
    waiters.run("XADD s 2-0 f v");
    assert_eq!(answer(&second), entry.replace("1-0", "2-0"));
}
