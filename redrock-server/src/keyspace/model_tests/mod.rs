//! The keyspace against a naive model (I6, DESIGN 6), under random interleavings of commands, spills,
//! drops, batches applied whole, in part, in vain and told of late, loads (also such that changes,
//! renames, flushes and swaps overtake), room made by heat and probation, expiry of cold keys,
//! flushes, swaps and snapshots. Counts and the key concerned are compared after each step, all of
//! memory and tier after each sixteenth, a snapshot's content at its end.
//!
//! The seed is printed; `RR_SEED` repeats one and prints its steps, `RR_SCALE` multiplies the number of runs.

mod commands;
mod oracle;
mod steps;
mod taking;
mod tier_steps;
mod world;

use crate::notify::{Class, Notifier};
use std::collections::BTreeMap;
use world::World;

const NOW: i64 = 1_000_000;
const DATABASES: usize = 3;

struct Silent;

impl Notifier for Silent {
    fn notify(&self, _class: Class, _event: &'static str, _key: &[u8], _db: usize) {}
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    String(Vec<u8>),
    /// Fields with their values and times.
    Hash(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>),
}

type Entry = (Value, Option<i64>);
type Model = Vec<BTreeMap<Vec<u8>, Entry>>;
/// How often what is rare has happened.
type Tally = BTreeMap<&'static str, usize>;
type Flat = BTreeMap<(usize, Vec<u8>), Entry>;

fn scale() -> u64 {
    std::env::var("RR_SCALE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

#[test]
fn hot_cold_and_snapshots_agree_with_the_model_under_random_interleavings() {
    let fixed: Option<u64> = std::env::var("RR_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seeds: Vec<u64> = match fixed {
        Some(seed) => vec![seed],
        None => (0..60 * scale()).map(|_| rand::random()).collect(),
    };
    let mut tally = Tally::new();
    for seed in seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.is_traced = fixed.is_some();
        for _ in 0..3000 {
            world.step();
        }
        world.settle();
        for (what, times) in world.tally {
            *tally.entry(what).or_default() += times;
        }
    }
    println!("{tally:#?}");
    for what in [
        "a snapshot",
        "a part of a batch",
        "word of a batch that comes later",
        "a write in vain",
        "two who wait for one read",
        "a read that was overtaken",
        "a value that was lent",
        "room that was made",
        "a key that expired on disk",
    ] {
        let times = tally.get(what).copied().unwrap_or(0);
        assert!(fixed.is_some() || times > 12, "{what}: {times} times");
    }
}

/// A key on disk, with its stub in memory.
fn world_with_a_cold_key(key: &[u8]) -> World {
    let mut world = World::new(1);
    world.set(0, key.to_vec());
    world.spill(0, key);
    world.drain();
    let hash = world.keyspace.positioner.hash(key);
    assert!(world.keyspace.drop_clean(0, hash, key, false).is_some());
    world
}

#[test]
fn a_stub_stays_as_long_as_a_read_that_saw_an_older_expiry() {
    let key = b"key:1";
    let mut world = world_with_a_cold_key(key);
    let expire = Some(NOW + 5000);
    assert!(world.with_db(0, |db| db.set_expire(key, expire)));
    world.model[0].get_mut(&key[..]).expect("the key").1 = expire;
    // It sees the record before the change of the expiry is applied; nobody waits for it any more.
    world.start_read(0, key);
    let tier_key = world.keyspace.tier_key(0, key);
    world.reads.iter_mut().for_each(|read| {
        if std::mem::take(&mut read.pinned) {
            world.keyspace.unpin_tier(&tier_key);
        }
    });
    world.drain();
    let hash = world.keyspace.positioner.hash(key);
    drop(world.keyspace.drop_clean(0, hash, key, true));
    world.finish_reads();
    world.check(0, key);
}

#[test]
fn a_read_that_fails_is_no_absent_key_for_who_waits() {
    use super::cold::ColdError;
    use super::tiering::loader::Join;
    let key = b"key:1";
    let mut world = world_with_a_cold_key(key);
    let joined = world.keyspace.join_load(0, key);
    let Join::Wait {
        start: Some(tier_key),
        mut done,
    } = joined
    else {
        panic!("{joined:?}");
    };
    let error = ColdError::NoFamily("default");
    world.keyspace.finish_load(&tier_key, Err(error)).wake();
    let told = done.try_recv().expect("who waits is told");
    let text = told.expect_err("the read failed");
    assert!(text.contains("'key:1' can't be read"), "{text}");
    world.keyspace.unpin_tier(&tier_key);
    // A later read may succeed.
    world.check(0, key);
}
