//! The table with values and stubs against a plain map, and what stubs cost.

use super::*;
use crate::value::ObjectType;
use entry::NewValue;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;

fn sum(table: &HotTable) -> Extent {
    let mut all = Extent::default();
    for segment in &table.segments {
        all.replace(Extent::default(), Extent::of(segment));
    }
    all
}

#[test]
fn keeps_every_key_through_splits_and_orders_segments_by_position() {
    let mut table = HotTable::new(Positioner::new((1, 2)));
    for i in 0..20_000u32 {
        let key = format!("key:{i}");
        let hash = table.hash(key.as_bytes());
        table.insert(
            hash,
            Entry::new(key.as_bytes(), NewValue::Int(i.into()), None),
        );
    }
    assert_eq!(table.len(), 20_000);
    assert_eq!(table.extent, sum(&table));
    for i in 0..20_000u32 {
        let key = format!("key:{i}");
        let found = table.find_value(table.hash(key.as_bytes()), key.as_bytes());
        assert!(found.is_some(), "{key} was lost");
    }
    let (mut at, mut seen) = (0, 0);
    while at < POSITION_END {
        let (index, end) = table.segment_at(at);
        for entry in table.segment(index).into_iter().flat_map(Segment::iter) {
            let position = table.hash(entry.key()).position();
            assert!(at <= position && position < end);
            seen += 1;
        }
        at = end;
    }
    assert_eq!(seen, 20_000);
    for i in 0..20_000u32 {
        let key = format!("key:{i}");
        let hash = table.hash(key.as_bytes());
        assert!(table.remove(hash, key.as_bytes()).is_some());
    }
    assert!(table.is_empty());
    assert_eq!(table.extent, sum(&table));
}

fn stub(key: &[u8], expire: Option<i64>) -> Stub<'_> {
    Stub {
        key,
        object_type: ObjectType::ZSet,
        expire,
        fields: None,
        access: 7,
        in_flight: false,
    }
}

/// What the table must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    is_stub: bool,
    expire: Option<i64>,
}

fn check(table: &HotTable, model: &HashMap<Vec<u8>, Known>) {
    assert_eq!(table.len(), model.len());
    assert_eq!(table.extent, sum(table));
    let stubs = model.values().filter(|known| known.is_stub).count();
    assert_eq!(table.stub_count(), stubs);
    let (mut at, mut seen) = (0, 0);
    while at < POSITION_END {
        let (index, end) = table.segment_at(at);
        let segment = table.segment(index).expect("a segment");
        for found in segment.iter() {
            let hash = table.hash(found.key());
            assert!(at <= hash.position() && hash.position() < end);
            let known = model[found.key()];
            assert_eq!(
                (found.is_stub(), found.expire()),
                (known.is_stub, known.expire)
            );
            assert!(segment.expire_floor <= found.due_ms());
            assert!(table.with_hash(index, hash).any(|f| f.key() == found.key()));
            seen += 1;
        }
        at = end;
    }
    assert_eq!(seen, model.len());
}

fn step(table: &mut HotTable, model: &mut HashMap<Vec<u8>, Known>, random: &mut StdRng) {
    let number: u32 = random.random_range(0..6000);
    let mut key = format!("key:{number}").into_bytes();
    // Some are so long that segments are split for their bytes.
    key.resize(if number.is_multiple_of(8) { 3000 } else { 12 }, b' ');
    let hash = table.hash(&key);
    let expire = random.random_bool(0.4).then(|| random.random_range(1..999));
    let known = model.get(&key).copied();
    let found = table.find(hash, &key).map(|found| Known {
        is_stub: found.is_stub(),
        expire: found.expire(),
    });
    assert_eq!(found, known);
    match (known, random.random_range(0..6)) {
        (None, 0..3) => {
            let entry = Entry::new(&key, NewValue::Inline(b"value"), expire);
            table.insert(hash, entry);
            let is_stub = false;
            model.insert(key, Known { is_stub, expire });
        }
        (None, _) => {
            table.insert_stub(hash, &stub(&key, expire));
            let is_stub = true;
            model.insert(key, Known { is_stub, expire });
        }
        (Some(Known { is_stub, .. }), 0) => {
            let removed = match is_stub {
                true => table.remove_stub(hash, &key).is_some(),
                false => table.remove(hash, &key).is_some(),
            };
            assert!(removed);
            model.remove(&key);
        }
        (Some(Known { is_stub: true, .. }), 1) => {
            assert!(table.set_stub_expire(hash, &key, expire));
            table.note_expire(hash, expire);
            let is_stub = true;
            model.insert(key, Known { is_stub, expire });
        }
        (Some(known), 2) if known.is_stub => {
            let entry = table.unpack_stub(hash, &key).expect("a stub");
            assert!(entry.is_stub() && entry.access() == 7);
            *entry = Entry::new(&key, NewValue::Int(1), known.expire);
            let is_stub = false;
            model.insert(key, Known { is_stub, ..known });
        }
        (Some(known), 3) if known.is_stub => {
            let entry = Entry::new(&key, NewValue::Int(1), known.expire);
            assert!(table.stub_to_value(hash, entry));
            let is_stub = false;
            model.insert(key, Known { is_stub, ..known });
        }
        (Some(known), _) if !known.is_stub => {
            table.set_access(hash, &key, 7);
            let left = table.value_to_stub(hash, &key).expect("a value");
            assert_eq!(left.key(), key);
            let is_stub = true;
            model.insert(key, Known { is_stub, ..known });
        }
        _ => {}
    }
}

#[test]
fn values_and_stubs_stay_what_they_are_through_changes_and_splits() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut table, mut model) = (HotTable::new(Positioner::new((seed, 2))), HashMap::new());
    for round in 0..40_000 {
        step(&mut table, &mut model, &mut random);
        if round % 8000 == 0 {
            check(&table, &model);
        }
    }
    check(&table, &model);
    for (key, known) in &model {
        let hash = table.hash(key);
        match known.is_stub {
            true => assert!(table.remove_stub(hash, key).is_some()),
            false => assert!(table.remove(hash, key).is_some()),
        }
    }
    check(&table, &HashMap::new());
    assert_eq!(table.stub_bytes(), 0);
}

/// Bytes that this thread has asked of the allocator and not given back.
fn allocated() -> i64 {
    use tikv_jemalloc_ctl::thread;
    let taken = thread::allocatedp::read().expect("the allocator counts");
    let given = thread::deallocatedp::read().expect("the allocator counts");
    taken.get() as i64 - given.get() as i64
}

/// Bytes per stub beside key and expiry, as counted here and as the allocator says: of values
/// that have left.
fn overhead(keys: usize, key_bytes: usize, expire: Option<i64>) -> (f64, f64) {
    let before = allocated();
    let mut table = HotTable::new(Positioner::new((3, 4)));
    for number in 0..keys {
        let key = format!("{number:0key_bytes$}").into_bytes();
        let hash = table.hash(&key);
        table.insert(hash, Entry::new(&key, NewValue::Inline(b"a value"), expire));
        // What a server does: values leave some time after they came.
        if let Some(old) = number.checked_sub(keys / 50) {
            let key = format!("{old:0key_bytes$}").into_bytes();
            assert!(table.value_to_stub(table.hash(&key), &key).is_some());
        }
    }
    for number in keys - keys / 50..keys {
        let key = format!("{number:0key_bytes$}").into_bytes();
        assert!(table.value_to_stub(table.hash(&key), &key).is_some());
    }
    assert_eq!(table.stub_count(), keys);
    let bare = (keys * (key_bytes + expire.map_or(0, |_| 8))) as f64;
    let each = |bytes: f64| (bytes - bare) / keys as f64;
    let asked = (allocated() - before) as f64;
    (each(table.table_bytes() as f64), each(asked))
}

#[test]
fn a_stub_costs_at_most_16_bytes_beside_key_and_expiry_whatever_the_number_of_keys() {
    for expire in [None, Some(1_800_000_000_000)] {
        for (key_bytes, most) in [(5, 16.0), (8, 16.0), (16, 16.0), (32, 16.0), (64, 24.0)] {
            for keys in [10_000, 13_000, 16_000, 19_000] {
                let (counted, asked) = overhead(keys, key_bytes, expire);
                println!("{keys} keys of {key_bytes}: counted {counted:.1}, asked {asked:.1}");
                assert!(
                    counted.max(asked) <= most,
                    "{keys} keys of {key_bytes} bytes"
                );
                assert!(
                    (counted - asked).abs() < 1.0,
                    "what is counted is what is asked"
                );
            }
        }
    }
}

#[test]
fn a_million_stubs_of_16_byte_keys_cost_at_most_16_bytes_each_of_the_allocator() {
    for expire in [None, Some(1_800_000_000_000)] {
        let (counted, asked) = overhead(1_000_000, 16, expire);
        println!("expiry {expire:?}: counted {counted:.2}, asked {asked:.2}");
        assert!(asked > 5.0 && asked <= 16.0, "{asked}");
        assert!((counted - asked).abs() < 1.0, "{counted} {asked}");
    }
}
