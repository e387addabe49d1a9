//! The keyspace against a naive model, under random interleavings of commands, spills, drops,
//! applied batches, loads (also such that changes overtake), flushes, swaps and snapshots (I6, DESIGN 6).
//!
//! The seed is printed; `RR_SEED` repeats one, `RR_SCALE` multiplies the number of runs.

mod steps;
mod taking;
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
        None => (0..12 * scale()).map(|_| rand::random()).collect(),
    };
    let mut snapshots = 0;
    for seed in seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..3000 {
            world.step();
        }
        world.settle();
        snapshots += world.snapshots;
    }
    assert!(
        fixed.is_some() || snapshots > 12,
        "too few snapshots were taken: {snapshots}"
    );
}
