use super::*;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::cold::{ColdStore, Times};
use crate::keyspace::position::Positioner;

fn start() -> WarmStart {
    WarmStart {
        secret: (1, u64::MAX),
        file: "appendonlydir/with a name.aof.3.base.rdb".to_owned(),
        file_bytes: 1_000_000,
        file_crc64: 0xfeed,
        dirty_bytes: 1000,
        dirty_crc64: 0xbeef,
        timed: true,
        large: false,
        databases: vec![WarmDatabase {
            index: 2,
            generation: 3,
            keys: 20,
            cold: 10,
            expires: 4,
            timed: 1,
        }],
        files: vec![ColdFile {
            name: "000012.sst".to_owned(),
            bytes: 77,
        }],
    }
}

#[test]
fn a_description_survives_and_no_changed_byte_of_it_does() {
    let text = start().text();
    assert_eq!(WarmStart::parse(&text), Ok(start()));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let changed = String::from_utf8(bytes).expect("still ASCII");
        assert!(WarmStart::parse(&changed).is_err(), "byte {at}");
        assert!(WarmStart::parse(&text[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_description_of_what_can_not_be_is_refused() {
    for (from, to) in [
        ("redrock-warm 1", "redrock-warm 2"),
        ("database 2 3 20 10 4 1", "database 2 3 20 21 4 1"),
        ("database 2 3 20 10 4 1", "database 2 3 20 10 21 1"),
        ("database 2 3 20 10 4 1", "database 2 4294967296 20 10 4 1"),
        ("cold 77 000012.sst", "cold 77 ../000012.sst"),
        ("cold 77 000012.sst", "warm 77 000012.sst"),
    ] {
        let text = start().text();
        let (body, _) = text.split_once("crc32c").expect("a checksum");
        let body = body.replace(from, to);
        let check = crc32c::crc32c(body.as_bytes());
        let changed = format!("{body}crc32c {check:08x}\n");
        assert!(WarmStart::parse(&changed).is_err(), "{to}");
    }
}

fn key(generation: u32, n: u32) -> TierKey {
    let name = format!("key:{n}");
    let hash = Positioner::new((1, u64::MAX)).hash(name.as_bytes());
    TierKey::new(generation, hash, name.as_bytes())
}

/// A tier with ten keys in generation 3, and some that a flush left in others.
fn filled(tier: &Path) -> ColdStore {
    let store = ColdStore::open(tier, ColdBudget::for_cache(8 << 20)).expect("open");
    let mut batch = store.batch();
    for n in 0..10 {
        for generation in [0, 2, 3, 4, u32::MAX] {
            let value = format!("\0value {generation} {n}");
            let times = Times {
                key: (n < 4).then_some(4_102_444_800_000),
                fields: None,
            };
            let key = key(generation, n);
            store
                .put(&mut batch, &key, value.as_bytes(), times)
                .expect("put");
        }
    }
    store.apply(batch).expect("apply");
    store
}

fn check(store: &ColdStore) {
    for n in 0..10 {
        let found = store.get(&key(3, n)).expect("get").expect("a value");
        assert_eq!(found.record, format!("\0value 3 {n}").into_bytes());
        assert_eq!(found.expire, (n < 4).then_some(4_102_444_800_000));
        for generation in [0, 2, 4, u32::MAX] {
            assert_eq!(store.get(&key(generation, n)).expect("get"), None);
        }
    }
}

/// A tier folder with a kept checkpoint in it.
fn kept() -> (tempfile::TempDir, WarmStart) {
    let tier = tempfile::tempdir().expect("a folder");
    let store = filled(tier.path());
    let checkpoint = store.checkpoint_path(1);
    store.checkpoint(&checkpoint).expect("checkpoint");
    drop(store);
    keep(tier.path(), &checkpoint, start()).expect("keep");
    assert!(!checkpoint.exists());
    let found = read(tier.path()).expect("read").expect("one");
    assert!(found.files.len() >= 3, "{:?}", found.files);
    assert_eq!(secret(tier.path()), Some((1, u64::MAX)));
    (tier, found)
}

#[test]
fn a_tier_goes_on_with_what_was_kept_as_often_as_it_starts() {
    let (tier, start) = kept();
    for round in 0..3 {
        let budget = ColdBudget::for_cache(8 << 20);
        let store = ColdStore::open_warm(tier.path(), budget, &start).expect("open");
        check(&store);
        // What is written now is not in what was kept.
        let mut batch = store.batch();
        for n in 0..10 {
            let key = key(3, n);
            match n % 2 {
                0 => store.delete(&mut batch, &key, Times::default()),
                _ => store.put(&mut batch, &key, b"\0other", Times::default()),
            }
            .expect("change");
        }
        store.apply(batch).expect("apply");
        store.flush().expect("flush");
        drop(store);
        assert_eq!(read(tier.path()), Ok(Some(start.clone())), "round {round}");
    }
}

#[test]
fn another_checkpoint_takes_the_place_of_the_former() {
    let (tier, former) = kept();
    let store = ColdStore::open_warm(tier.path(), ColdBudget::for_cache(8 << 20), &former);
    let store = store.expect("open");
    let checkpoint = store.checkpoint_path(2);
    store.checkpoint(&checkpoint).expect("checkpoint");
    drop(store);
    let next = WarmStart {
        file: "dump.rdb".to_owned(),
        ..start()
    };
    keep(tier.path(), &checkpoint, next).expect("keep");
    let found = read(tier.path()).expect("read").expect("one");
    assert_eq!(found.file, "dump.rdb");
    let store = ColdStore::open_warm(tier.path(), ColdBudget::for_cache(8 << 20), &found);
    check(&store.expect("open"));
    assert!(!tier.path().join(FORMER).exists());
}

#[test]
fn a_crash_at_any_step_of_keeping_leaves_one_that_is_whole_or_none() {
    let (tier, former) = kept();
    let folder = tier.path().join(FOLDER);
    let budget = || ColdBudget::for_cache(8 << 20);
    // Before the names change: the one before.
    let next = tier.path().join("checkpoint-7");
    std::fs::create_dir(&next).expect("create");
    std::fs::write(next.join(DESCRIPTION), start().text()).expect("write");
    assert_eq!(read(tier.path()), Ok(Some(former.clone())));
    // Between the two: none.
    std::fs::rename(&folder, tier.path().join(FORMER)).expect("rename");
    assert_eq!(read(tier.path()), Ok(None));
    // With the new name, the former not yet removed: the new one, and a start removes the rest.
    std::fs::rename(tier.path().join(FORMER), &folder).expect("rename");
    std::fs::create_dir(tier.path().join(FORMER)).expect("create");
    check(&ColdStore::open_warm(tier.path(), budget(), &former).expect("open"));
    assert!(!next.exists() && !tier.path().join(FORMER).exists());
}

#[test]
fn a_start_without_it_wipes_it() {
    let (tier, _) = kept();
    drop(ColdStore::open(tier.path(), ColdBudget::for_cache(8 << 20)).expect("open"));
    assert_eq!(read(tier.path()), Ok(None));
    assert!(!discard(tier.path()).expect("discard"));
}

#[test]
fn a_file_that_is_missing_or_of_another_length_is_told() {
    let (tier, start) = kept();
    for file in &start.files {
        let path = tier.path().join(FOLDER).join(&file.name);
        let content = std::fs::read(&path).expect("read");
        std::fs::write(&path, &content[..content.len() - 1]).expect("cut");
        let why = read(tier.path()).expect_err("cut short");
        assert!(why.contains(&file.name), "{why}");
        std::fs::remove_file(&path).expect("remove");
        let why = read(tier.path()).expect_err("missing");
        assert!(why.contains(&file.name), "{why}");
        std::fs::write(&path, &content).expect("restore");
        assert_eq!(read(tier.path()), Ok(Some(start.clone())));
    }
}
