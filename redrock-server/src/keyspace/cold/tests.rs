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

/// Writes a little to all memtables that matter.
fn put(store: &ColdStore, key: &TierKey) {
    let mut batch = store.batch();
    store
        .put(&mut batch, key, &[7; VALUE_BYTES], Times::default())
        .expect("put");
    store.apply(batch).expect("a write");
}

/// Whether `reached` comes about within a minute, tried again and again.
fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !reached() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn without_a_disk_whatever_needs_a_flush_fails_and_closing_needs_none() {
    let folder = tempfile::tempdir().expect("folder");
    let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
    let keys = keys(2);
    put(&store, &keys[0]);
    store.flush().expect("all is well");
    let (there, away) = (folder.path().join("db"), folder.path().join("away"));
    std::fs::rename(&there, &away).expect("rename");
    put(&store, &keys[1]);
    let checkpoint = folder.path().join("checkpoint");
    assert!(matches!(
        store.checkpoint(&checkpoint),
        Err(ColdError::Flush(_))
    ));
    assert!(matches!(store.compact(), Err(ColdError::Flush(_))));
    assert!(!checkpoint.exists());
    let (closed, is_closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(store);
        closed.send(())
    });
    is_closed
        .recv_timeout(std::time::Duration::from_secs(60))
        .expect("it closes");
}

/// Has all writes to an open file of this process fail that are made from now on.
fn break_writes(path: &Path) {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    let path = path.canonicalize().expect("path");
    let read_only = std::fs::File::open("/dev/null").expect("open");
    for entry in std::fs::read_dir("/proc/self/fd").expect("list") {
        let entry = entry.expect("entry").path();
        if std::fs::read_link(&entry).is_ok_and(|target| target == path) {
            let name = entry.file_name().and_then(|name| name.to_str());
            let number: i32 = name.expect("name").parse().expect("number");
            // SAFETY: it is open, and stays so: whose it is will close it.
            let mut file = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            rustix::io::dup2(&read_only, &mut file).expect("dup2");
        }
    }
}

fn manifest(folder: &Path) -> (std::path::PathBuf, u64) {
    let number = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("MANIFEST-")?.parse::<u64>().ok()
    };
    let paths = std::fs::read_dir(folder).expect("list");
    let paths = paths.map(|entry| entry.expect("entry").path());
    let found = paths.filter_map(|path| number(&path).map(|number| (path, number)));
    found.max_by_key(|(_, number)| *number).expect("a manifest")
}

#[test]
fn a_manifest_that_can_not_be_written_is_begun_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
    let keys = keys(3);
    put(&store, &keys[0]);
    store.flush().expect("all is well");
    let database = folder.path().join("db");
    let (path, number) = manifest(&database);
    break_writes(&path);
    let taken = |n: u64| database.join(format!("MANIFEST-{:06}", number + n));
    for n in 1..1000 {
        std::fs::create_dir(taken(n)).expect("a folder where the next would be");
    }
    put(&store, &keys[1]);
    let failed = store.flush().expect_err("it can't be written").to_string();
    assert!(failed.contains("MANIFEST"), "{failed}");
    // However often it is tried in vain, no memtable is added to those that wait.
    let ends = store.background().flush_ends();
    for _ in 0..100 {
        store.probe().expect("all but the manifest can be written");
        let waiting = store.sum("rocksdb.num-immutable-mem-table");
        assert!(waiting.expect("sum") <= 3);
    }
    until("another failure", || store.background().flush_ends() > ends);
    assert!(store.background().flush_trouble().is_some());
    for n in 1..1000 {
        std::fs::remove_dir(taken(n)).expect("a free name");
    }
    until("a flush", || {
        store.probe().expect("all can be written");
        store.background().flush_trouble().is_none()
    });
    assert_ne!(manifest(&database).0, path);
    // As is a file that broke where another can be made.
    break_writes(&manifest(&database).0);
    put(&store, &keys[2]);
    store.flush().expect_err("it can't be written");
    until("a flush", || {
        store.probe().expect("all can be written");
        store.background().flush_trouble().is_none()
    });
    for key in &keys {
        assert!(store.get(key).expect("read").is_some());
    }
    assert_eq!(store.background().stop_trouble(), None);
}

#[test]
fn options_are_in_force_even_if_they_can_not_be_written_down() {
    let folder = tempfile::tempdir().expect("folder");
    let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20)).expect("open");
    let (there, away) = (folder.path().join("db"), folder.path().join("away"));
    std::fs::rename(&there, &away).expect("rename");
    store.set_compaction(false).expect("they are set");
    store.set_compaction(true).expect("they are set");
}

/// Records in a checkpoint.
fn records(path: &Path) -> usize {
    let names = [VALUES, EXPIRES, EXPIRE_INDEX];
    let options = rocksdb::Options::default();
    let db = Database::open_cf_for_read_only(&options, path, names, false).expect("open");
    let values = db.cf_handle(VALUES).expect("values");
    db.iterator_cf(&values, IteratorMode::Start).count()
}

#[test]
fn a_checkpoint_has_all_that_was_written_however_many_flushes_were_due_before_it() {
    let folder = tempfile::tempdir().expect("folder");
    let budget = ColdBudget::for_cache(16 << 20);
    let store = ColdStore::open(folder.path(), budget).expect("open");
    let keys = keys(20_000);
    let mut filled = 0;
    for (id, some) in keys.chunks(4_000).enumerate() {
        for few in some.chunks(100) {
            fill(&store, few);
            // As if the memtable were full: many are, while the first one is being written.
            let families =
                [VALUES, EXPIRES, EXPIRE_INDEX].map(|name| store.family(name).expect("it"));
            let mut flush = rocksdb::FlushOptions::default();
            flush.set_wait(false);
            let families: Vec<_> = families.iter().collect();
            store
                .db
                .flush_cfs_opt(&families, &flush)
                .expect("asked for");
        }
        filled += some.len();
        let path = store.checkpoint_path(id as u64);
        store.checkpoint(&path).expect("checkpoint");
        assert_eq!(records(&path), filled, "checkpoint {id}");
    }
}
