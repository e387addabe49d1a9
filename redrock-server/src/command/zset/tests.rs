//! What sorted set commands tell others, and their RESP3 replies. RESP2 replies are compared with
//! a real Redis elsewhere.

use crate::command::testing::{Bench, NOW, Ran};
use crate::notify::Class;

fn given(resp3: bool, commands: &[&str]) -> Bench {
    let show = |class, event: &str, key: &str, _| {
        let class = match class {
            Class::ZSET => "z",
            Class::GENERIC => "g",
            _ => "?",
        };
        format!("{class}:{event}:{key}")
    };
    let mut bench = Bench::new(show, commands);
    bench.resp3 = resp3;
    bench
}

#[test]
fn changes_are_told_and_counted_once_an_element() {
    let mut bench = given(false, &[]);
    for (command, events, dirty) in [
        ("ZADD z 1 a 2 b 3 c", "z:zadd:z", 3),
        ("ZADD z 1 a 2 b 3 c", "", 0),
        ("ZADD z CH 1 a 5 b 4 d", "z:zadd:z", 2),
        ("ZADD z XX 9 nobody", "", 0),
        ("ZADD absent XX 9 nobody", "", 0),
        ("ZADD z NX 9 a", "", 0),
        ("ZADD z INCR 1 a", "z:zincr:z", 1),
        ("ZINCRBY z 0 a", "", 0),
        ("ZINCRBY z 2 a", "z:zincr:z", 1),
        ("ZREM z nobody", "", 0),
        ("ZREM z a nobody b", "z:zrem:z", 2),
        ("ZREM z c d", "z:zrem:z g:del:z", 2),
        ("ZADD z 1 a 2 b 3 c 4 d 5 e", "z:zadd:z", 5),
        ("ZREMRANGEBYRANK z 0 1", "z:zremrangebyrank:z", 2),
        ("ZREMRANGEBYSCORE z 3 3", "z:zremrangebyscore:z", 1),
        ("ZREMRANGEBYSCORE z 3 3", "", 0),
        ("ZREMRANGEBYLEX z - +", "z:zremrangebylex:z g:del:z", 2),
        ("ZADD z 1 a 2 b 3 c", "z:zadd:z", 3),
        ("ZPOPMIN z", "z:zpopmin:z", 1),
        ("ZPOPMAX z 0", "", 0),
        ("ZPOPMAX z 10", "z:zpopmax:z g:del:z", 2),
    ] {
        let ran = bench.run(command);
        assert_eq!(
            (ran.events.join(" ").as_str(), ran.dirty),
            (events, dirty),
            "{command}: {ran:?}"
        );
        let verbatim = if dirty > 0 { command } else { "" };
        assert_eq!(ran.propagated, verbatim, "{command}");
    }
}

#[test]
fn blocking_and_multiple_pops_are_propagated_as_the_plain_pop() {
    let mut bench = given(false, &["ZADD z 1 a 2 b 3 c 4 d 5 e 6 f"]);
    for (command, propagated, events) in [
        ("BZPOPMIN absent z 0", "ZPOPMIN z", "z:zpopmin:z"),
        ("BZPOPMAX z 0", "ZPOPMAX z", "z:zpopmax:z"),
        ("ZMPOP 2 absent z MIN", "ZPOPMIN z 1", "z:zpopmin:z"),
        (
            "BZMPOP 0 2 absent z MAX COUNT 2",
            "ZPOPMAX z 2",
            "z:zpopmax:z",
        ),
        (
            "ZMPOP 1 z MAX COUNT 100",
            "ZPOPMAX z 1",
            "z:zpopmax:z g:del:z",
        ),
        ("ZMPOP 1 z MAX COUNT 100", "", ""),
    ] {
        let ran = bench.run(command);
        assert_eq!(
            (ran.propagated.as_str(), ran.events.join(" ").as_str()),
            (propagated, events),
            "{command}"
        );
    }
}

#[test]
fn blocking_commands_wait_only_where_they_may() {
    let mut bench = given(false, &[]);
    assert_eq!(bench.run("BZPOPMIN x y 2.5"), Ran::default());
    let request = bench.client.block.take().expect("the client waits");
    assert_eq!(request.keys, [b"x".to_vec(), b"y".to_vec()]);
    assert_eq!(request.deadline_ms, Some(NOW + 2500));
    assert_eq!(bench.run("BZMPOP 0 1 x MIN"), Ran::default());
    assert_eq!(
        bench
            .client
            .block
            .take()
            .expect("the client waits")
            .deadline_ms,
        None
    );
    bench.client.deny_blocking = true;
    assert_eq!(bench.run("BZPOPMAX x 0").text, "*-1");
    assert!(bench.client.block.is_none());
    bench.client.deny_blocking = false;
    bench.run("SET s v");
    assert!(bench.run("BZPOPMAX x s 0").text.starts_with("-WRONGTYPE"));
    assert_eq!(bench.run("BZPOPMAX x -1").text, "-ERR timeout is negative");
    assert!(bench.client.block.is_none());
}

#[test]
fn stored_results_replace_keys_of_any_type_and_empty_ones_delete_them() {
    let mut bench = given(false, &["ZADD z 1 a 2 b", "SET d text EX 100"]);
    for (command, reply, events, dirty) in [
        ("ZUNIONSTORE d 1 z", ":2", "z:zunionstore:d", 1),
        ("ZINTERSTORE d 2 z absent", ":0", "g:del:d", 1),
        ("ZINTERSTORE d 2 z absent", ":0", "", 0),
        ("ZRANGESTORE d z 0 0", ":1", "z:zrangestore:d", 1),
        ("ZDIFFSTORE d 2 z d", ":1", "z:zdiffstore:d", 1),
        ("ZRANGESTORE d absent 0 0", ":0", "g:del:d", 1),
        ("ZRANGESTORE z z (2 +inf BYSCORE", ":0", "g:del:z", 1),
    ] {
        let ran = bench.run(command);
        assert_eq!(
            (ran.text.as_str(), ran.events.join(" ").as_str(), ran.dirty),
            (reply, events, dirty),
            "{command}"
        );
    }
}

#[test]
fn resp3_has_doubles_and_pairs_where_redis_has() {
    let mut bench = given(true, &["ZADD z 1 a 2.5 b inf c"]);
    for (command, reply) in [
        ("ZSCORE z b", ",2.5"),
        ("ZSCORE z x", "_"),
        ("ZMSCORE z a x", "*2 ,1 _"),
        ("ZINCRBY z 0 a", ",1"),
        ("ZADD z NX INCR 1 a", "_"),
        ("ZRANK z x", "_"),
        ("ZRANK z b WITHSCORE", "*2 :1 ,2.5"),
        ("ZREVRANK z x WITHSCORE", "_"),
        ("ZRANGE z 0 0", "*1 $1 a"),
        ("ZRANGE z 0 1 WITHSCORES", "*2 *2 $1 a ,1 *2 $1 b ,2.5"),
        (
            "ZREVRANGEBYSCORE z + - WITHSCORES",
            "-ERR min or max is not a float",
        ),
        (
            "ZREVRANGEBYSCORE z inf 2 WITHSCORES",
            "*2 *2 $1 c ,inf *2 $1 b ,2.5",
        ),
        (
            "ZUNION 1 z WITHSCORES",
            "*3 *2 $1 a ,1 *2 $1 b ,2.5 *2 $1 c ,inf",
        ),
        (
            "ZRANDMEMBER z 9 WITHSCORES",
            "*3 *2 $1 c ,inf *2 $1 b ,2.5 *2 $1 a ,1",
        ),
        ("ZPOPMIN z", "*2 $1 a ,1"),
        ("ZPOPMIN z 1", "*1 *2 $1 b ,2.5"),
        ("BZPOPMIN z 0", "*3 $1 z $1 c ,inf"),
        ("ZPOPMIN z 1", "*0"),
        ("ZMPOP 1 z MIN", "_"),
        ("ZADD z 1 a", ":1"),
        ("ZMPOP 1 z MIN", "*2 $1 z *1 *2 $1 a ,1"),
    ] {
        assert_eq!(bench.run(command).text, reply, "{command}");
    }
}

#[test]
fn random_members_are_distinct_for_a_positive_count_and_all_come_up() {
    let mut bench = given(false, &[]);
    for n in 0..500 {
        bench.run(&format!("ZADD z {n} m{n}"));
    }
    for count in [1usize, 7, 100, 400, 499] {
        let reply = bench.run(&format!("ZRANDMEMBER z {count}")).text;
        let mut members: Vec<_> = reply.split(' ').filter(|w| w.starts_with('m')).collect();
        assert_eq!(members.len(), count);
        members.sort_unstable();
        members.dedup();
        assert_eq!(members.len(), count);
    }
    let reply = bench.run("ZRANDMEMBER z -20000 WITHSCORES").text;
    let mut words = reply.split(' ').filter(|w| !w.starts_with('$'));
    assert_eq!(words.next(), Some("*40000"));
    let mut seen = std::collections::BTreeSet::new();
    while let (Some(member), Some(score)) = (words.next(), words.next()) {
        assert_eq!(member, format!("m{score}"));
        seen.insert(member);
    }
    // A member is left out with a probability of 4e-18.
    assert_eq!(seen.len(), 500);
}

#[test]
fn scans_of_both_forms_return_all_members_with_their_scores() {
    let mut bench = given(
        false,
        &["ZADD small 1 a 2.5 b", "ZADD big 0.1 x", "SET s v"],
    );
    assert_eq!(
        bench.run("ZSCAN small 0").text,
        "*2 $1 0 *4 $1 a $1 1 $1 b $3 2.5"
    );
    assert_eq!(
        bench.run("ZSCAN small 7 MATCH b").text,
        "*2 $1 0 *2 $1 b $3 2.5"
    );
    assert_eq!(bench.run("ZSCAN absent 0 COUNT").text, "*2 $1 0 *0");
    assert_eq!(bench.run("ZSCAN small 0 COUNT 0").text, "-ERR syntax error");
    assert!(bench.run("ZSCAN s 0").text.starts_with("-WRONGTYPE"));
    for n in 0..1000 {
        bench.run(&format!("ZADD big {n} m{n}"));
    }
    let (mut seen, mut cursor, mut calls) = (Vec::new(), "0".to_owned(), 0);
    loop {
        let reply = bench
            .run(&format!("ZSCAN big {cursor} COUNT 50 MATCH m*"))
            .text;
        let words: Vec<_> = reply.split(' ').filter(|w| !w.starts_with('$')).collect();
        cursor = words[1].to_owned();
        for pair in words[3..].chunks(2) {
            assert_eq!(pair[0], format!("m{}", pair[1]));
            seen.push(pair[0].to_owned());
        }
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), calls), (1000, 21));
    assert!(
        bench
            .run("ZSCAN big 0 MATCH x COUNT 5000")
            .text
            .ends_with("$19 0.10000000000000001")
    );
}

#[test]
fn sets_take_part_with_scores_of_one() {
    let mut bench = given(
        false,
        &["ZADD z 5 a 6 2 7 c", "SADD ints 1 2 3", "SADD s a c x"],
    );
    for (command, reply) in [
        (
            "ZUNION 2 z ints WITHSCORES",
            "*10 $1 1 $1 1 $1 3 $1 1 $1 a $1 5 $1 2 $1 7 $1 c $1 7",
        ),
        (
            "ZINTER 2 z s WEIGHTS 1 10 WITHSCORES",
            "*4 $1 a $2 15 $1 c $2 17",
        ),
        (
            "ZINTER 2 s z AGGREGATE MIN WITHSCORES",
            "*4 $1 a $1 1 $1 c $1 1",
        ),
        ("ZDIFF 2 s z WITHSCORES", "*2 $1 x $1 1"),
        ("ZDIFF 3 z s ints", "*0"),
        ("ZINTERCARD 2 z s", ":2"),
        ("ZINTERCARD 2 z s LIMIT 1", ":1"),
        ("ZUNIONSTORE s 2 s ints", ":6"),
        ("ZRANGE s 0 -1", "*6 $1 1 $1 2 $1 3 $1 a $1 c $1 x"),
    ] {
        assert_eq!(bench.run(command).text, reply, "{command}");
    }
}
