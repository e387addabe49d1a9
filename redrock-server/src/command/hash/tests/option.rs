//! Times go where their hash goes and are counted; the option that they need.

use super::{both, expect, given};
use crate::command::testing::Bench;

#[test]
fn times_move_with_their_hash_and_are_counted() {
    for mut bench in both(&["HSET h a 1 b 2", "HPEXPIRE h 5000 FIELDS 1 a"]) {
        let timed = |bench: &Bench| bench.keyspace.timed_hashes();
        expect(
            &mut bench,
            &[
                ("COPY h copy", ":1"),
                ("RENAME copy moved", "+OK"),
                ("MOVE moved 1", ":1"),
                ("HPTTL h FIELDS 2 a b", "*2 :5000 :-1"),
                ("SELECT 1", "+OK"),
                ("HPTTL moved FIELDS 2 a b", "*2 :5000 :-1"),
            ],
        );
        assert_eq!(timed(&bench), 2);
        assert_eq!(bench.text("HSET moved a 3"), ":0");
        assert_eq!(timed(&bench), 1);
        assert_eq!(bench.text("SELECT 0"), "+OK");
        let dumped = bench.run("DUMP h").reply;
        let at = dumped.iter().position(|b| *b == b'\n').expect("a bulk") + 1;
        let payload = &dumped[at..dumped.len() - 2];
        let restored = bench.run_argv(&[b"RESTORE", b"again", b"0", payload]);
        assert_eq!(restored.text, "+OK");
        assert_eq!(bench.text("HPTTL again FIELDS 2 a b"), "*2 :5000 :-1");
        assert_eq!(timed(&bench), 2);
        for (command, left) in [
            ("SET again x", 1),
            ("HPERSIST h FIELDS 1 a", 0),
            ("HEXPIRE h 9 FIELDS 1 b", 1),
            ("HDEL h b", 0),
            ("HEXPIRE h 9 FIELDS 1 a", 1),
            ("DEL h", 0),
            ("HSETEX h EX 9 FIELDS 1 a 1", 1),
            ("FLUSHALL", 0),
        ] {
            bench.run(command);
            assert_eq!(timed(&bench), left, "{command}");
            let gate = &bench.keyspace.field_expiry;
            assert_eq!(gate.hashes(), left, "{command}");
        }
    }
}

#[test]
fn the_family_names_the_option_that_it_needs_and_the_option_stays_while_it_is_needed() {
    let mut bench = given(10, false, &["HSET h a 1"]);
    let refusal = "-ERR fields of hashes expire only with rdb-version 12: files of rdb-version 10 \
                   can't hold them";
    for command in [
        "HEXPIRE h 1 FIELDS 1 a",
        "HPEXPIRE h 1 FIELDS 1 a",
        "HEXPIREAT h 1 FIELDS 1 a",
        "HPEXPIREAT h 1 FIELDS 1 a",
        "HTTL h FIELDS 1 a",
        "HPTTL h FIELDS 1 a",
        "HEXPIRETIME h FIELDS 1 a",
        "HPEXPIRETIME h FIELDS 1 a",
        "HPERSIST h FIELDS 1 a",
        "HGETEX h FIELDS 1 a",
        "HSETEX h FIELDS 1 a 1",
        "HGETDEL h FIELDS 1 a",
    ] {
        assert_eq!(bench.text(command), refusal, "{command}");
    }
    let gate = bench.keyspace.field_expiry.clone();
    assert_eq!(gate.set_rdb_version(12), Ok(()));
    assert_eq!(bench.text("HEXPIRE h 5 FIELDS 1 a"), "*1 :1");
    let why = gate.set_rdb_version(11).expect_err("it is needed");
    assert!(why.starts_with("1 hashes have fields that expire"), "{why}");
    assert!(gate.is_allowed());
    assert_eq!(bench.text("HPERSIST h FIELDS 1 a"), "*1 :1");
    assert_eq!(gate.set_rdb_version(11), Ok(()));
    // What a log or a master says is done in any case.
    bench.client.obeyed = true;
    assert_eq!(bench.text("HEXPIRE h 5 FIELDS 1 a"), "*1 :1");
}
