//! The store by itself.

use super::*;
use crate::keyspace::position::Positioner;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const MB: usize = 1 << 20;
const VALUE_BYTES: usize = 2000;

fn keys(count: usize) -> Vec<TierKey> {
    let positioner = Positioner::new((1, 2));
    let name = |n: usize| format!("key:{n}").into_bytes();
    let key = |name: Vec<u8>| TierKey::new(0, positioner.hash(&name), &name);
    (0..count).map(name).map(key).collect()
}

fn fill(store: &ColdStore, keys: &[TierKey]) {
    let mut random = StdRng::seed_from_u64(5);
    let mut value = vec![0; VALUE_BYTES];
    for some in keys.chunks(100) {
        loop {
            let mut batch = store.batch();
            for key in some {
                random.fill_bytes(&mut value);
                store
                    .put(&mut batch, key, &value, Times::default())
                    .expect("put");
            }
            match store.apply(batch) {
                // A flush is under way.
                Err(error) if error.is_stall() => std::thread::yield_now(),
                done => break done.expect("a write"),
            }
        }
    }
}

fn read_all(store: &ColdStore, keys: &[TierKey]) {
    for key in keys {
        let value = store.get(key).expect("read").expect("it was written");
        assert_eq!(value.record.len(), VALUE_BYTES);
    }
}

#[test]
fn a_cache_that_may_take_more_or_less_from_now_on_does() {
    let folder = tempfile::tempdir().expect("folder");
    let small = ColdBudget::for_cache(8 << 20);
    let store = ColdStore::open(folder.path(), small).expect("open");
    let keys = keys(20_000);
    fill(&store, &keys);
    store.compact().expect("compact");
    read_all(&store, &keys);
    assert!(store.cache_bytes() < 9 * MB, "{}", store.cache_bytes());

    let large = ColdBudget::for_cache(64 << 20);
    store.resize(large).expect("resize");
    assert_eq!(store.memtable_bytes(), 32 << 20);
    read_all(&store, &keys);
    // Less than twice: the cache's table keeps the size that it was made with.
    assert!(store.cache_bytes() > 12 * MB, "{}", store.cache_bytes());

    store.resize(small).expect("resize");
    read_all(&store, &keys);
    assert!(store.cache_bytes() < 9 * MB, "{}", store.cache_bytes());
}

#[test]
fn a_probe_succeeds_only_where_a_file_can_be_written() {
    let folder = tempfile::tempdir().expect("folder");
    let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
    store.probe().expect("all is well");
    let (there, away) = (folder.path().join("db"), folder.path().join("away"));
    std::fs::rename(&there, &away).expect("rename");
    store.probe().expect_err("the folder has gone");
    std::fs::rename(&away, &there).expect("rename");
    store.probe().expect("the folder is back");
    assert!(!there.join("probe").exists());
}
