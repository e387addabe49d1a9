//! Tests of the element table.

use super::super::thin::ThinBytes;
use super::bucket::SLOTS;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn key(n: u32) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn insert(table: &mut Table<ThinBytes>, n: u32) -> bool {
    let key = key(n);
    table.insert_with(&key, || ThinBytes::new(&key))
}

fn check(table: &Table<ThinBytes>) {
    let mut total = 0;
    let mut heap_bytes = 0;
    for index in 0..table.bucket_count() {
        let bucket = table.bucket(index).expect("every bucket is there");
        total += bucket.chain_len();
        assert!(bucket.chain_len() <= table.chain_max);
        bucket.for_each(&mut |element: &ThinBytes| {
            assert_eq!(table.bucket_of(hash_of(element.key())), index);
            heap_bytes += element.heap_bytes();
        });
        let mut chain = Some(bucket);
        while let Some(bucket) = chain {
            assert!(bucket.next.is_none() || usize::from(bucket.count) == SLOTS);
            chain = bucket.next.as_deref();
            assert!(chain.is_none_or(|bucket| bucket.count > 0));
        }
    }
    assert_eq!(total, table.len());
    assert_eq!(heap_bytes, table.heap_bytes);
    assert_eq!(table.iter().count(), table.len());
}

#[test]
fn a_bucket_of_thin_elements_is_one_cache_line() {
    assert_eq!(size_of::<Bucket<ThinBytes>>(), 64);
}

#[test]
fn growing_and_shrinking_keep_every_element_findable() {
    let mut table = Table::new();
    for n in 0..5000 {
        assert!(insert(&mut table, n));
        assert!(!insert(&mut table, n));
    }
    check(&table);
    assert!(table.bucket_count() * LOAD_MAX >= 5000);
    for n in 0..5000 {
        assert!(table.contains(&key(n)));
        assert_eq!(table.remove(&key(n)).expect("is there").as_bytes(), key(n));
        assert!(table.remove(&key(n)).is_none());
        if n % 500 == 0 {
            check(&table);
        }
    }
    assert!(table.is_empty());
    assert_eq!((table.bucket_count(), table.heap_bytes), (1, 0));
    assert!(table.random().is_none());
}

#[test]
fn random_elements_are_evenly_spread() {
    let mut table = Table::new();
    (0..100).for_each(|n| assert!(insert(&mut table, n)));
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for _ in 0..100_000 {
        let element = table.random().expect("not empty");
        *seen.entry(element.as_bytes().to_vec()).or_default() += 1;
    }
    assert_eq!(seen.len(), 100);
    // 1000 expected each, standard deviation 31.5: seven of them either way.
    for (element, count) in seen {
        assert!(
            (780..1220).contains(&count),
            "{element:?} came {count} times"
        );
    }
}

#[test]
fn a_scan_step_visits_about_as_many_as_asked() {
    let mut table = Table::new();
    (0..10_000).for_each(|n| assert!(insert(&mut table, n)));
    let mut steps = 0;
    let mut cursor = 0;
    loop {
        let mut visited = 0;
        cursor = table.scan(cursor, 100, |_| visited += 1);
        assert!(visited < 100 + 30, "a step visited {visited}");
        steps += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!((70..=101).contains(&steps), "{steps} steps");
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Remove(u32),
    InsertMany(u32),
    RemoveMany(u32),
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..400_u32).prop_map(Step::Insert),
        (0..400_u32).prop_map(Step::Remove),
        (0..2000_u32).prop_map(Step::InsertMany),
        (0..2000_u32).prop_map(Step::RemoveMany),
        (1..40_usize).prop_map(Step::Scan),
    ]
}

proptest! {
    #[test]
    fn a_scan_returns_what_was_there_all_the_time(steps in prop::collection::vec(step(), 1..60)) {
        let mut table = Table::new();
        let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut cursor = 0;
        let mut constant: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut returned: BTreeSet<Vec<u8>> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Insert(n) => prop_assert_eq!(insert(&mut table, n), model.insert(key(n))),
                Step::Remove(n) => {
                    prop_assert_eq!(table.remove(&key(n)).is_some(), model.remove(&key(n)));
                    constant.remove(&key(n));
                }
                Step::InsertMany(from) => for n in from..from + 300 {
                    prop_assert_eq!(insert(&mut table, n), model.insert(key(n)));
                },
                Step::RemoveMany(from) => for n in from..from + 300 {
                    prop_assert_eq!(table.remove(&key(n)).is_some(), model.remove(&key(n)));
                    constant.remove(&key(n));
                },
                Step::Scan(count) => {
                    if cursor == 0 {
                        constant.clone_from(&model);
                        returned.clear();
                    }
                    cursor = table.scan(cursor, count, |element: &ThinBytes| {
                        returned.insert(element.as_bytes().to_vec());
                    });
                    if cursor == 0 {
                        prop_assert!(constant.is_subset(&returned));
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        check(&table);
        while cursor != 0 {
            cursor = table.scan(cursor, 7, |element: &ThinBytes| {
                returned.insert(element.as_bytes().to_vec());
            });
            if cursor == 0 {
                prop_assert!(constant.is_subset(&returned));
            }
        }
        let all: BTreeSet<Vec<u8>> = table.iter().map(|e| e.as_bytes().to_vec()).collect();
        prop_assert_eq!(all, model);
    }
}
