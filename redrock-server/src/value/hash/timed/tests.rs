//! Hashes with fields that expire, against a map, through every form and back from a file.

use super::super::{Found, Hash};
use crate::value::codec::{Decoded, decode, decode_payload, encode};
use crate::value::{Limits, Object, ValueRef};
use proptest::prelude::*;
use redrock_rdb::object::{ObjectError, Target, transcode, types};
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn small_limits() -> Limits {
    Limits {
        hash_listpack_entries_max: 8,
        hash_listpack_value_bytes_max: 12,
        ..Limits::default()
    }
}

fn content(hash: &Hash) -> Model {
    let plain = hash.iter().map(|(field, value)| (field, value, None));
    let elements: Vec<_> = match hash.timed_elements() {
        Some(elements) => elements.collect(),
        None => plain.collect(),
    };
    elements
        .into_iter()
        .map(|(field, value, time)| (field.to_vec(), (value.to_vec(), time)))
        .collect()
}

fn record(hash: &Hash) -> Vec<u8> {
    let mut record = Vec::new();
    encode(ValueRef::Hash(hash), &mut record);
    record
}

fn hash_of(decoded: Decoded) -> Hash {
    match decoded {
        Decoded::Heap(object) => match &*object {
            Object::Hash(hash) => hash.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn hash(fields: &[(&str, Option<i64>)], limits: &Limits) -> Hash {
    let mut hash = Hash::new();
    for (field, time) in fields {
        hash.set(field.as_bytes(), b"v", limits);
        assert!(hash.set_time(field.as_bytes(), *time));
    }
    hash
}

fn names(fields: Vec<Vec<u8>>) -> Vec<String> {
    let text = fields.into_iter().map(String::from_utf8);
    text.collect::<Result<_, _>>().expect("names")
}

#[test]
fn the_first_time_makes_a_small_hash_listpackex_and_a_large_one_stays_a_hashtable() {
    let limits = small_limits();
    let mut small = hash(&[("a", None)], &limits);
    assert_eq!((small.encoding(), small.is_timed()), ("listpack", false));
    assert!(!small.set_time(b"none", Some(5)));
    assert!(small.set_time(b"a", None));
    assert_eq!(small.encoding(), "listpack");
    assert!(small.set_time(b"a", Some(5)));
    assert_eq!(
        (small.encoding(), small.earliest()),
        ("listpackex", Some(5))
    );
    // As in Redis it stays one when nothing expires any more.
    assert!(small.set_time(b"a", None));
    assert_eq!((small.encoding(), small.earliest()), ("listpackex", None));
    for n in 0..8 {
        small.set(format!("f{n}").as_bytes(), b"v", &limits);
    }
    assert_eq!((small.encoding(), small.is_timed()), ("hashtable", false));
    assert!(small.set_time(b"f3", Some(7)));
    assert_eq!((small.encoding(), small.is_timed()), ("hashtable", true));
    assert!(!small.set(b"f3", b"w", &limits));
    assert_eq!((small.is_timed(), small.len()), (false, 9));
}

#[test]
fn a_new_value_ends_a_time_unless_it_is_to_be_kept() {
    for limits in [
        small_limits(),
        Limits {
            hash_listpack_entries_max: 0,
            ..small_limits()
        },
    ] {
        let mut hash = hash(&[("a", Some(9)), ("b", Some(4))], &limits);
        assert!(!hash.set_keeping_time(b"a", b"1", &limits));
        assert_eq!(hash.time_of(b"a"), Some(Some(9)));
        assert!(!hash.set(b"b", b"2", &limits));
        assert_eq!((hash.time_of(b"b"), hash.earliest()), (Some(None), Some(9)));
        assert!(hash.set_keeping_time(b"c", b"3", &limits));
        assert_eq!((hash.time_of(b"c"), hash.time_of(b"d")), (Some(None), None));
    }
}

#[test]
fn what_is_over_is_found_the_earliest_first_and_hidden_from_readers() {
    for limits in [
        small_limits(),
        Limits {
            hash_listpack_entries_max: 1,
            ..small_limits()
        },
    ] {
        let hash = hash(
            &[
                ("a", Some(30)),
                ("b", None),
                ("c", Some(10)),
                ("d", Some(20)),
            ],
            &limits,
        );
        assert_eq!(names(hash.over(20, 9)), ["c"]);
        assert_eq!(names(hash.over(100, 2)), ["c", "d"]);
        assert_eq!(
            (hash.len(), hash.live_len(21), hash.live_len(i64::MIN)),
            (4, 2, 4)
        );
        assert!(matches!(hash.lookup(b"d", 21), Found::Over));
        assert!(matches!(hash.lookup(b"d", 20), Found::Live(_, Some(20))));
        assert!(matches!(hash.lookup(b"b", i64::MAX), Found::Live(_, None)));
        let mut live: Vec<_> = hash.live(21).map(|(field, _)| field.to_vec()).collect();
        live.sort();
        assert_eq!(names(live), ["a", "b"]);
        for _ in 0..50 {
            let (field, _) = hash.random(31).expect("one is left");
            assert!(field.eq_bytes(b"b"));
            hash.random_distinct(9, 31, |field, _| assert!(field.eq_bytes(b"b")));
            hash.random_repeating(3, 31, |field, _| {
                field.eq_bytes(b"b") || panic!("{field:?}")
            });
        }
    }
}

#[test]
fn a_hash_without_times_costs_what_it_did() {
    assert_eq!(size_of::<Hash>(), 24);
    let limits = Limits::default();
    let mut plain = Hash::new();
    plain.set(b"f", b"v", &limits);
    let bytes = plain.memory_bytes();
    plain.set_time(b"f", None);
    assert_eq!((plain.memory_bytes(), plain.is_timed()), (bytes, false));
}

#[test]
fn older_versions_take_what_no_longer_expires_and_refuse_the_rest() {
    for limits in [
        small_limits(),
        Limits {
            hash_listpack_entries_max: 1,
            ..small_limits()
        },
    ] {
        let mut hash = hash(&[("a", Some(30)), ("b", None)], &limits);
        let target = Target {
            version: 10,
            compress: false,
        };
        let record_of = record(&hash);
        let refused = transcode(record_of[0], &record_of[1..], target, &mut Vec::new());
        assert!(
            matches!(refused, Err(ObjectError::NotInVersion { .. })),
            "{refused:?}"
        );
        hash.set_time(b"a", None);
        let record_of = record(&hash);
        let mut out = Vec::new();
        let written = transcode(record_of[0], &record_of[1..], target, &mut out).expect("fits");
        assert_eq!(written.object_type, types::HASH);
        let again = hash_of(decode_payload(types::HASH, &out, &limits).expect("decodes"));
        assert_eq!(content(&again), content(&hash));
    }
}

/// One random step, done to both.
fn step(
    hash: &mut Hash,
    model: &mut Model,
    kind: u8,
    (field, value): (&[u8], &[u8]),
    ms: i64,
) -> Result<(), TestCaseError> {
    match kind {
        0 => prop_assert_eq!(hash.remove(field), model.remove(field).is_some()),
        1 | 2 => {
            let new = model
                .insert(field.to_vec(), (value.to_vec(), None))
                .is_none();
            prop_assert_eq!(hash.set(field, value, &small_limits()), new);
        }
        3 => {
            let time = model.get(field).and_then(|(_, time)| *time);
            let new = model
                .insert(field.to_vec(), (value.to_vec(), time))
                .is_none();
            prop_assert_eq!(hash.set_keeping_time(field, value, &small_limits()), new);
        }
        4 => {
            let entry = model.get_mut(field);
            prop_assert_eq!(hash.set_time(field, None), entry.is_some());
            entry.into_iter().for_each(|entry| entry.1 = None);
        }
        5 if model.len() > 4 => {
            for field in hash.over(ms, 3) {
                let (_, time) = model.remove(&field).expect("it was there");
                prop_assert!(time.is_some_and(|time| time < ms));
                prop_assert!(hash.remove(&field));
            }
        }
        _ => {
            let entry = model.get_mut(field);
            prop_assert_eq!(hash.set_time(field, Some(ms)), entry.is_some());
            entry.into_iter().for_each(|entry| entry.1 = Some(ms));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn behaves_as_a_map_with_times(
        steps in prop::collection::vec(
            (0..9_u8, "[a-e]{0,2}|[0-9]{1,2}", "[a-z]{0,14}|-?[0-9]{1,6}", 1..60_i64), 0..120),
        cutoff_ms in 0..60_i64,
    ) {
        let limits = small_limits();
        let mut hash = Hash::new();
        let mut model = Model::new();
        for (kind, field, value, ms) in steps {
            let (field, value) = (field.into_bytes(), value.into_bytes());
            step(&mut hash, &mut model, kind, (&field, &value), ms)?;
            prop_assert_eq!(hash.len(), model.len());
            let times = model.values().filter_map(|(_, time)| *time);
            prop_assert_eq!(hash.earliest(), times.min());
            prop_assert_eq!(hash.time_of(&field), model.get(&field).map(|(_, time)| *time));
        }
        prop_assert_eq!(content(&hash), model.clone());
        let is_live = |time: &Option<i64>| time.is_none_or(|ms| ms >= cutoff_ms);
        let live: Vec<_> = model.iter().filter(|(_, (_, time))| is_live(time)).collect();
        prop_assert_eq!(hash.live_len(cutoff_ms), live.len());
        let mut seen: Vec<_> = hash.live(cutoff_ms).map(|(field, _)| field.to_vec()).collect();
        seen.sort();
        prop_assert!(seen.iter().eq(live.iter().map(|(field, _)| *field)));
        let (mut scanned, mut cursor) = (Vec::new(), 0);
        loop {
            cursor = hash.scan(cursor, 2, cutoff_ms, |field, _| scanned.push(field.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        scanned.sort();
        prop_assert_eq!(scanned, seen);
        let mut distinct = Vec::new();
        hash.random_distinct(99, cutoff_ms, |field, _| distinct.push(field.to_vec()));
        prop_assert_eq!(distinct.len(), live.len());
        if !model.is_empty() {
            // Through the tier and back: nothing changes, not even the encoding.
            let record = record(&hash);
            let again = hash_of(decode(&record).expect("our own record"));
            prop_assert_eq!(content(&again), model.clone());
            prop_assert_eq!(again.encoding(), hash.encoding());
            prop_assert_eq!(again.earliest(), hash.earliest());
            // From a file under other options.
            let other = Limits { hash_listpack_entries_max: 4, ..limits };
            let loaded = decode_payload(record[0], &record[1..], &other).expect("decodes");
            prop_assert_eq!(content(&hash_of(loaded)), model);
        }
    }
}
