//! What commands of HyperLogLogs tell others, and what they refuse. Replies and bytes are compared
//! with a real Redis elsewhere.

use crate::command::testing::Bench;

fn given(commands: &[&str]) -> Bench {
    Bench::new(|_, event, key, _| format!("{event} {key}"), commands)
}

#[test]
fn changes_are_told_and_counted() {
    let mut bench = given(&[]);
    for (command, reply, events, dirty) in [
        ("PFADD h", ":1", "pfadd h", 1),
        ("PFADD h", ":0", "", 0),
        ("PFADD h a b c", ":1", "pfadd h", 3),
        ("PFADD h c b a", ":0", "", 0),
        ("PFADD other x y", ":1", "pfadd other", 3),
        ("PFCOUNT h", ":3", "", 1),
        ("PFCOUNT h", ":3", "", 0),
        ("PFCOUNT h other absent", ":5", "", 0),
        ("PFCOUNT absent", ":0", "", 0),
        ("PFMERGE all h other absent", "+OK", "pfadd all", 1),
        ("PFCOUNT all", ":5", "", 1),
        ("PFMERGE all", "+OK", "pfadd all", 1),
        ("PFDEBUG encoding all", "+sparse", "", 0),
        ("PFDEBUG todense all", ":1", "", 1),
        ("PFDEBUG todense all", ":0", "", 0),
        ("PFDEBUG encoding all", "+dense", "", 0),
        ("PFMERGE h all", "+OK", "pfadd h", 1),
        ("PFDEBUG encoding h", "+dense", "", 0),
        ("PFCOUNT h", ":5", "", 1),
    ] {
        let ran = bench.run(command);
        assert_eq!(ran.text, reply, "{command}");
        assert_eq!(ran.events.join(" "), events, "{command}");
        assert_eq!(ran.dirty, dirty, "{command}");
        let propagated = if dirty > 0 { command } else { "" };
        assert_eq!(ran.propagated, propagated, "{command}");
    }
    let runs = "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603";
    bench.run("PFADD abc a b c");
    assert_eq!(
        bench.text("PFDEBUG decode abc"),
        format!("${} {runs}", runs.len())
    );
    let registers = bench.text("PFDEBUG getreg abc");
    assert!(registers.starts_with("*16384 :0 "));
    assert_eq!(registers.matches(":1").count(), 2);
    assert_eq!(bench.text("PFDEBUG encoding abc"), "+dense");
}

#[test]
fn a_watched_key_is_touched_by_what_writes_only() {
    let mut bench = given(&["PFADD h a", "PFCOUNT h"]);
    let before = bench.run("GET h").reply;
    for command in ["PFCOUNT h", "PFADD h a", "PFCOUNT h absent"] {
        assert_eq!(bench.run(command).dirty, 0, "{command}");
        assert_eq!(bench.run("GET h").reply, before, "{command}");
    }
}

#[test]
fn what_is_no_hyperloglog_is_refused() {
    let not_one = "-WRONGTYPE Key is not a valid HyperLogLog string value.";
    let mut bench = given(&["SET s text", "SET n 1", "RPUSH l x", "PFADD h a"]);
    for key in ["s", "n"] {
        for command in [
            "PFADD",
            "PFCOUNT",
            "PFMERGE",
            "PFDEBUG encoding",
            "PFCOUNT h",
            "PFMERGE h",
        ] {
            assert_eq!(
                bench.text(&format!("{command} {key}")),
                not_one,
                "{command}"
            );
        }
    }
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(bench.text("PFADD l x"), wrong_type);
    assert_eq!(
        bench.text("PFDEBUG encoding no"),
        "-ERR The specified key does not exist"
    );
    assert_eq!(
        bench.text("PFDEBUG x h"),
        "-ERR Unknown PFDEBUG subcommand 'x'"
    );
}

#[test]
fn what_is_damaged_is_refused_and_kept() {
    // Runs for two registers only.
    let damaged = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x01";
    let refusal = "-INVALIDOBJ Corrupted HLL object detected";
    let mut bench = given(&["PFADD h a"]);
    for command in [
        "PFADD d a b c",
        "PFCOUNT d",
        "PFCOUNT d h",
        "PFMERGE h d",
        "PFMERGE d h",
        "PFDEBUG todense d",
        "PFDEBUG getreg d",
    ] {
        bench.run_argv(&[b"SET", b"d", damaged]);
        let ran = bench.run(command);
        assert_eq!(ran.text, refusal, "{command}");
        assert_eq!(ran.dirty, 0, "{command}");
        let kept = bench.run("GET d").reply;
        assert!(kept.windows(damaged.len()).any(|bytes| bytes == damaged));
    }
    assert_eq!(bench.text("PFCOUNT h"), ":1");
}
