//! Files of many Redis versions hold what the JSON beside each says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Content, content_of, corpus, entries_of, read_items};
use redrock_rdb::file::ReaderOptions;
use redrock_rdb::object::stream::StreamId;
use redrock_rdb::object::{StreamObject, decode};
use serde_json::Value;

/// JSON holds text: bytes that are not UTF-8 stand there as one replacement
/// character each.
fn as_json_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

fn strings(values: &Value) -> Vec<&str> {
    values
        .as_array()
        .expect("an array")
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect()
}

/// Milliseconds since the epoch of `2022-12-25T18:11:12.573+08:00`.
fn time_ms(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("a number");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let zone_at = text.rfind(['+', '-', 'Z']).expect("a zone");
    let fraction = text[19..zone_at].trim_start_matches('.');
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().unwrap();
    let zone_minutes = match &text[zone_at..zone_at + 1] {
        "Z" => 0,
        sign => {
            let minutes = number(zone_at + 1..zone_at + 3) * 60 + number(zone_at + 4..zone_at + 6);
            if sign == "-" { -minutes } else { minutes }
        }
    };
    // Days since the epoch, with years that begin in March.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days - 719_468;
    (((days * 24 + hour) * 60 + minute - zone_minutes) * 60 + second) * 1000 + millis
}

fn stream_id(text: &Value) -> StreamId {
    let (ms, seq) = text.as_str().unwrap().split_once('-').unwrap();
    StreamId {
        ms: ms.parse().unwrap(),
        seq: seq.parse().unwrap(),
    }
}

fn assert_stream(name: &str, stream: &StreamObject, expected: &Value) {
    let meta = &stream.meta;
    assert_eq!(meta.length, expected["len"].as_u64().unwrap(), "{name}");
    assert_eq!(meta.last_id, stream_id(&expected["lastId"]), "{name}");
    assert_eq!(meta.first_id, stream_id(&expected["firstId"]), "{name}");
    assert_eq!(
        meta.max_deleted_id,
        stream_id(&expected["maxDeletedId"]),
        "{name}"
    );
    assert_eq!(
        meta.entries_added,
        expected["addedEntriesCount"].as_u64().unwrap(),
        "{name}"
    );
    let nodes = expected["entries"].as_array().unwrap();
    assert_eq!(stream.nodes.len(), nodes.len(), "{name}");
    for (node, expected) in stream.nodes.iter().zip(nodes) {
        assert_eq!(node.master_id, stream_id(&expected["firstMsgId"]), "{name}");
        let texts: Vec<String> = node
            .entries
            .iter()
            .map(|value| as_json_text(&value.to_vec()))
            .collect();
        let fields = strings(&expected["fields"]);
        let messages = expected["msgs"].as_array().unwrap();
        let mut rest = texts.iter().skip(3);
        assert_eq!(texts[0], messages.len().to_string(), "{name}");
        fields
            .iter()
            .for_each(|field| assert_eq!(rest.next().unwrap(), field, "{name}"));
        assert_eq!(rest.next().unwrap(), "0", "{name}");
        for message in messages {
            let id = stream_id(&message["id"]);
            assert_eq!(
                rest.next().unwrap(),
                "2",
                "{name}: entries share the fields"
            );
            let ms: u64 = rest.next().unwrap().parse().unwrap();
            let seq: u64 = rest.next().unwrap().parse().unwrap();
            assert_eq!(
                id,
                StreamId {
                    ms: node.master_id.ms + ms,
                    seq
                },
                "{name}"
            );
            for field in &fields {
                assert_eq!(rest.next().unwrap(), &message["fields"][field], "{name}");
            }
            assert_eq!(
                rest.next().unwrap(),
                &(fields.len() + 3).to_string(),
                "{name}"
            );
        }
        assert_eq!(rest.next(), None, "{name}");
    }
}

fn assert_content(name: &str, content: &Content, expected: &Value) {
    let kind = expected["type"].as_str().unwrap();
    match content {
        Content::String(bytes) => {
            assert_eq!(kind, "string", "{name}");
            assert_eq!(
                as_json_text(bytes),
                expected["value"].as_str().unwrap(),
                "{name}"
            );
        }
        Content::List(elements) => {
            assert_eq!(kind, "list", "{name}");
            let found: Vec<String> = elements.iter().map(|bytes| as_json_text(bytes)).collect();
            assert_eq!(found, strings(&expected["values"]), "{name}");
        }
        Content::Set(members) => {
            assert_eq!(kind, "set", "{name}");
            let mut wanted = strings(&expected["members"]);
            let mut found: Vec<String> = members.iter().map(|bytes| as_json_text(bytes)).collect();
            wanted.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, wanted, "{name}");
        }
        Content::ZSet(members) => {
            assert_eq!(kind, "zset", "{name}");
            let wanted: BTreeMap<&str, f64> = expected["entries"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| {
                    (
                        entry["member"].as_str().unwrap(),
                        entry["score"].as_f64().unwrap(),
                    )
                })
                .collect();
            assert_eq!(members.len(), wanted.len(), "{name}");
            for (member, score) in members {
                assert_eq!(
                    wanted.get(as_json_text(member).as_str()),
                    Some(score),
                    "{name}"
                );
            }
        }
        Content::Hash(fields) => {
            assert_eq!(kind, "hash", "{name}");
            let wanted = expected["hash"].as_object().unwrap();
            assert_eq!(fields.len(), wanted.len(), "{name}");
            for (field, (value, expire_ms)) in fields {
                let field = as_json_text(field);
                assert_eq!(
                    as_json_text(value),
                    wanted[&field].as_str().unwrap(),
                    "{name} {field}"
                );
                let wanted_ms = expected["expire"][&field].as_u64().filter(|&at| at != 0);
                assert_eq!(*expire_ms, wanted_ms, "{name} {field}");
            }
        }
        Content::Stream(stream) => {
            assert_eq!(kind, "stream", "{name}");
            assert_stream(name, stream, expected);
        }
    }
}

#[test]
fn every_file_holds_what_its_json_says() {
    let Some(cases) = corpus() else { return };
    for normalize in [true, false] {
        for case in &cases {
            let name = &case.name;
            let options = ReaderOptions {
                normalize,
                ..ReaderOptions::default()
            };
            let items = read_items(&case.rdb, options).unwrap_or_else(|error| {
                panic!("{name}: {error}");
            });
            let entries = entries_of(items);
            let expected: Value = serde_json::from_str(&case.json).expect("JSON");
            let mut wanted: BTreeMap<(u64, String), &Value> = expected
                .as_array()
                .unwrap()
                .iter()
                .map(|value| {
                    let key = value["key"].as_str().unwrap().to_owned();
                    ((value["db"].as_u64().unwrap(), key), value)
                })
                .collect();
            for (database, entry) in entries {
                let key = as_json_text(&entry.key);
                let object = decode(entry.object_type, &entry.payload)
                    .unwrap_or_else(|error| panic!("{name} {key}: {error}"));
                let value = wanted
                    .remove(&(database, key.clone()))
                    .unwrap_or_else(|| panic!("{name}: {key} is not in the JSON"));
                let expire_at_ms = value["expiration"].as_str().map(time_ms);
                assert_eq!(entry.expire_at_ms, expire_at_ms, "{name} {key}");
                assert_content(&format!("{name} {key}"), &content_of(object), value);
            }
            assert!(
                wanted.is_empty(),
                "{name}: keys not found: {:?}",
                wanted.keys()
            );
        }
    }
}

#[test]
fn the_corpus_holds_the_historic_encodings() {
    let Some(cases) = corpus() else { return };
    let options = ReaderOptions {
        normalize: false,
        ..ReaderOptions::default()
    };
    let mut found = std::collections::BTreeSet::new();
    for case in &cases {
        for (_, entry) in entries_of(read_items(&case.rdb, options).unwrap()) {
            found.insert(entry.object_type);
        }
    }
    println!("types in the corpus: {found:?}");
    // Zipmap, list and hash and sorted set ziplists, text scores, intset.
    for object_type in [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 19] {
        assert!(
            found.contains(&object_type),
            "type {object_type} is missing"
        );
    }
}

/// Our own files: what Redis 7.0.15 wrote.
#[test]
fn files_of_redis_7_0_decode_and_encode_to_the_same_bytes() {
    let folder = "../../integration-tests/fixtures/rdb";
    let mut types = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the fixtures") {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rdb") {
            continue;
        }
        let name = path.display();
        let bytes = std::fs::read(&path).unwrap();
        let items = read_items(&bytes, ReaderOptions::default()).unwrap();
        for (_, entry) in entries_of(items) {
            types.insert(entry.object_type);
            let object = decode(entry.object_type, &entry.payload).unwrap();
            let mut again = Vec::new();
            object.encode(&mut again);
            let key = entry.key.escape_ascii();
            assert_eq!(object.object_type(), entry.object_type, "{name} {key}");
            assert_eq!(again, entry.payload, "{name} {key}");
        }
    }
    // Strings, and each collection in its small and its large encoding, streams.
    for object_type in [0, 2, 4, 5, 11, 16, 17, 18, 21] {
        assert!(types.contains(&object_type), "{types:?}");
    }
}
