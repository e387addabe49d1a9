//! What geospatial commands tell others, and their texts. Replies are compared with a real Redis
//! elsewhere.

use super::{coordinate_text, distance_text};
use crate::command::testing::Bench;

fn given(commands: &[&str]) -> Bench {
    Bench::new(|_, event, key, _| format!("{event} {key}"), commands)
}

const SICILY: &str = "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";

#[test]
fn additions_leave_as_scores() {
    let mut bench = given(&[]);
    let ran = bench.run(SICILY);
    assert_eq!(ran.text, ":2");
    assert_eq!(ran.events, ["zadd g"]);
    assert_eq!(ran.dirty, 2);
    assert_eq!(
        ran.propagated,
        "zadd g 3479099956230698 Palermo 3479447370796909 Catania"
    );
    assert_eq!(bench.run(SICILY).propagated, "");
    assert_eq!(
        bench.run("GEOADD g xx CH 0 0 Catania").propagated,
        "zadd g xx CH 3377699720527872 Catania"
    );
}

#[test]
fn wrong_additions_are_told_as_redis_does() {
    let mut bench = given(&[]);
    for (command, reply) in [
        ("GEOADD g NX XX 1 2 a", "-ERR syntax error"),
        ("GEOADD g 1 2 a 3", "-ERR syntax error"),
        ("GEOADD g nx ch nx", "-ERR syntax error"),
        ("GEOADD g x 2 a", "-ERR value is not a valid float"),
        ("GEOADD g 1 nan a", "-ERR value is not a valid float"),
        (
            "GEOADD g 1 2 a 200 100 b",
            "-ERR invalid longitude,latitude pair 200.000000,100.000000",
        ),
        (
            "GEOADD g inf 0 a",
            "-ERR invalid longitude,latitude pair inf,0.000000",
        ),
    ] {
        let ran = bench.run(command);
        assert_eq!(ran.text, reply, "{command}");
        assert_eq!(ran.dirty, 0, "{command}");
    }
    assert_eq!(bench.text("EXISTS g"), ":0");
}

#[test]
fn what_is_stored_counts_once_an_element() {
    let mut bench = given(&[SICILY]);
    let store = "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km";
    let ran = bench.run(store);
    assert_eq!((ran.text.as_str(), ran.dirty), (":2", 2));
    assert_eq!(ran.events, ["geosearchstore d"]);
    assert_eq!(ran.propagated, store);
    let ran = bench.run("GEORADIUS g 15 37 100 km STOREDIST d");
    assert_eq!((ran.text.as_str(), ran.dirty), (":1", 1));
    assert_eq!(ran.events, ["georadiusstore d"]);
    assert!(bench.text("ZSCORE d Catania").contains(" 56.441257870158"));
    let ran = bench.run("GEORADIUSBYMEMBER g Palermo 0 m STORE d");
    assert_eq!((ran.text.as_str(), ran.dirty), (":1", 1));
    let ran = bench.run("GEOSEARCHSTORE d absent FROMMEMBER x BYBOX 1 1 m");
    assert_eq!((ran.text.as_str(), ran.dirty), (":0", 1));
    assert_eq!(ran.events, ["del d"]);
    assert_eq!(
        bench
            .run("GEOSEARCHSTORE d absent FROMMEMBER x BYBOX 1 1 m")
            .dirty,
        0
    );
}

#[test]
fn coordinates_are_doubles_in_resp3() {
    let mut bench = given(&[SICILY]);
    let expected = "13.36138933897018433";
    assert!(
        bench
            .text("GEOPOS g Palermo")
            .contains(&format!("$20 {expected}"))
    );
    bench.resp3 = true;
    assert!(
        bench
            .text("GEOPOS g Palermo")
            .contains(&format!(",{expected} "))
    );
    assert_eq!(bench.text("GEOPOS g nobody"), "*1 _");
    assert_eq!(bench.text("GEODIST g Palermo Catania mi"), "$8 103.3182");
}

#[test]
fn texts_are_those_of_redis() {
    for (distance, text) in [
        (0.0, "0.0000"),
        (0.000_01, "0.0000"),
        (0.001_2, "0.0012"),
        (12.345_65, "12.3456"),
        (166_274.151_56, "166274.1516"),
        (1e30, "-922337203685477.5808"),
        (f64::NAN, "-922337203685477.5808"),
    ] {
        assert_eq!(distance_text(distance), text);
    }
    assert_eq!(coordinate_text(-0.0), "0");
    assert_eq!(coordinate_text(180.0), "180");
    assert_eq!(coordinate_text(0.5), "0.5");
}

#[test]
fn stored_results_are_found_among_the_keys() {
    use crate::command::{Args, registry};
    let found = |line: &str| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let args = Args::new(&words);
        let spec = registry::resolve(&args).unwrap();
        let mut keys = Vec::new();
        spec.keys.visit(&args, |at| keys.push(at));
        keys
    };
    assert_eq!(found("GEORADIUS g 1 2 3 km COUNT 1"), [1]);
    assert_eq!(found("GEORADIUS g 1 2 3 km STORE a STOREDIST b"), [1, 9]);
    assert_eq!(found("GEORADIUSBYMEMBER g m 3 km store d"), [1, 6]);
    assert_eq!(found("GEORADIUSBYMEMBER g m 3 km store"), [1]);
}
