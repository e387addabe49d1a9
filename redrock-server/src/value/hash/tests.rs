//! Hashes against maps, without and with fields that expire.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn content(hash: &Hash) -> Model {
    hash.iter()
        .map(|(field, value)| (field.to_vec(), value.to_vec()))
        .collect()
}

fn small_limits() -> Limits {
    Limits {
        hash_listpack_entries_max: 8,
        hash_listpack_value_bytes_max: 12,
        ..Limits::default()
    }
}

#[test]
fn encodings_change_at_the_thresholds_and_never_back() {
    let limits = Limits {
        hash_listpack_entries_max: 128,
        ..Limits::default()
    };
    let mut hash = Hash::new();
    for n in 0..128 {
        assert!(hash.set(format!("f{n}").as_bytes(), b"v", &limits));
    }
    assert_eq!(hash.encoding(), "listpack");
    assert!(!hash.set(b"f5", &[b'x'; 64], &limits));
    assert_eq!(hash.encoding(), "listpack");
    assert!(hash.set(b"f128", b"v", &limits));
    assert_eq!(hash.encoding(), "hashtable");
    for n in 0..128 {
        assert!(hash.remove(format!("f{n}").as_bytes()));
    }
    assert_eq!((hash.encoding(), hash.len()), ("hashtable", 1));

    let mut hash = Hash::new();
    assert!(hash.set(b"f", &[b'x'; 65], &limits));
    assert_eq!(hash.encoding(), "hashtable");
}

#[test]
fn prepare_converts_for_many_or_long_items() {
    let limits = small_limits();
    let mut hash = Hash::new();
    hash.prepare(&[b"f", b"v"], &limits);
    assert_eq!(hash.encoding(), "listpack");
    let same: Vec<&[u8]> = vec![b"f"; 18];
    hash.prepare(&same, &limits);
    assert_eq!(hash.encoding(), "hashtable");
    let mut hash = Hash::new();
    hash.prepare(&[b"f", b"thirteen byte"], &limits);
    assert_eq!(hash.encoding(), "hashtable");
}

#[test]
fn random_fields_come_with_their_values() {
    for len in [5_usize, 50] {
        let mut hash = Hash::new();
        for n in 0..len {
            hash.set(&[b'f', n as u8], &[b'v', n as u8], &small_limits());
        }
        let mut visited = 0;
        hash.random_repeating(200, 0, |field, value| {
            assert_eq!(field.to_vec()[1..], value.to_vec()[1..]);
            visited += 1;
            visited < 150
        });
        assert_eq!(visited, 150);
        for count in [0, 1, 3, len - 1, len, len + 9] {
            let mut fields = Vec::new();
            hash.random_distinct(count, 0, |field, _| fields.push(field.to_vec()));
            assert_eq!(fields.len(), count.min(len));
            fields.sort();
            fields.dedup();
            assert_eq!(fields.len(), count.min(len));
        }
    }
}

#[test]
fn odd_empty_and_repeated_input_is_refused() {
    let limits = Limits::default();
    assert!(Hash::from_listpack(ListPack::new(), &limits).is_none());
    assert!(Hash::from_listpack(ListPack::from_iter(["a", "b", "c"]), &limits).is_none());
    assert!(Hash::from_pairs([("a", "1"), ("a", "2")], &limits).is_none());
    assert!(Hash::from_pairs::<&str, &str>([], &limits).is_none());
}

proptest! {
    #[test]
    fn behaves_as_a_map(
        steps in prop::collection::vec(
            (0..5_u8, "[a-d]{0,2}|[0-9]{1,2}", "[a-z]{0,14}|-?[0-9]{1,6}"), 0..120),
    ) {
        let limits = small_limits();
        let mut hash = Hash::new();
        let mut model = Model::new();
        for (kind, field, value) in steps {
            let (field, value) = (field.into_bytes(), value.into_bytes());
            if kind == 0 {
                prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
            } else {
                let new = model.insert(field.clone(), value.clone()).is_none();
                prop_assert_eq!(hash.set(&field, &value, &limits), new);
            }
            prop_assert_eq!(hash.len(), model.len());
            let found = hash.get(&field).map(|value| value.to_vec());
            prop_assert_eq!(found.as_ref(), model.get(&field));
            prop_assert_eq!(hash.contains(&field), model.contains_key(&field));
        }
        prop_assert_eq!(content(&hash), model.clone());
        let mut scanned = Model::new();
        let mut cursor = 0;
        loop {
            cursor = hash.scan(cursor, 3, 0, |field, value| {
                scanned.insert(field.to_vec(), value.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(&scanned, &model);
        if let Some(built) = Hash::from_pairs(&model, &limits) {
            prop_assert_eq!(content(&built), model);
        }
    }
}
