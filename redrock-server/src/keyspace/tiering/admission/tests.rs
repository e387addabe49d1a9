//! What stays in memory and what leaves, decided on a keyspace with a tier.

use super::super::fifo::TierQueue;
use super::super::loader::Join;
use super::super::sweep::{Choice, Hand, Step};
use super::super::{Tiering, admission};
use crate::command::CommandError;
use crate::command::effect::Effect;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::db::{Db, Expiry};
use crate::keyspace::hot::entry::Entry;
use crate::keyspace::position::Positioner;
use crate::notify::{Class, Notifier};
use std::sync::Arc;

struct Silent;

impl Notifier for Silent {
    fn notify(&self, _class: Class, _event: &'static str, _key: &[u8], _db: usize) {}
}

const NOW: i64 = 1_000_000;
const VALUE: [u8; 100] = [b'v'; 100];

const RELEASE: Step = Step {
    drop_values: true,
    drop_stubs: true,
    spill: true,
    choice: Choice::Coldest,
};

/// A keyspace with a tier, in which memory never suffices.
struct World {
    keyspace: Keyspace,
    store: Arc<ColdStore>,
    queue: Arc<TierQueue>,
    hand: Hand,
    _folder: tempfile::TempDir,
}

impl World {
    /// With memory for `hot_bytes`.
    fn new(hot_bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let store = ColdStore::open(folder.path(), ColdBudget::for_cache(8 << 20));
        let store = Arc::new(store.expect("tier"));
        let queue = Arc::new(TierQueue::new(1 << 20));
        let mut keyspace = Keyspace::new(1, Positioner::new((1, 2)));
        keyspace.enable_tiering(Tiering::new(store.clone(), queue.clone(), hot_bytes));
        keyspace.set_pressure(true, true);
        Self {
            keyspace,
            store,
            queue,
            hand: Hand::default(),
            _folder: folder,
        }
    }

    fn run<T>(&mut self, mut command: impl FnMut(&mut Db<'_>) -> Result<T, CommandError>) -> T {
        loop {
            let mut effect = Effect::default();
            let mut db = Db::new(&mut self.keyspace, &Silent, &mut effect, 0, NOW);
            match command(&mut db) {
                Ok(value) => return value,
                Err(CommandError::Cold(index, key)) => self.load(index, &key),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn load(&mut self, index: usize, key: &[u8]) {
        let Join::Wait { start, .. } = self.keyspace.join_load(index, key) else {
            panic!("a key is neither here nor there");
        };
        let tier_key = start.expect("the only read");
        let read = self.store.get(&tier_key).expect("read");
        self.keyspace.finish_load(&tier_key, Ok(read)).wake();
        self.keyspace.unpin(index, key);
    }

    fn set(&mut self, key: &str) {
        self.run(|db| db.set_string(key.as_bytes(), &VALUE, Expiry::Clear));
    }

    fn get(&mut self, key: &str) {
        assert!(
            self.run(|db| Ok(db.read_any(key.as_bytes())?.is_some())),
            "{key}"
        );
    }

    fn is_hot(&self, key: &str) -> bool {
        let table = &self.keyspace.database(0).expect("database").table;
        table
            .find_value(table.hash(key.as_bytes()), key.as_bytes())
            .is_some()
    }

    fn hot(&self, keys: &[String]) -> usize {
        keys.iter().filter(|key| self.is_hot(key)).count()
    }

    fn expect_hot(&self, keys: &[String], at_least: usize) {
        let hot = self.hot(keys);
        assert!(hot >= at_least, "{hot} of {} are left", keys.len());
    }

    /// Makes room for `values` values as the governor does, with the tier's writer at work.
    fn make_room(&mut self, values: usize) {
        let before = self.keyspace.database(0).expect("database").table.len();
        for fruitless in 0..2 * admission::FRUITLESS_MAX {
            drop(self.keyspace.make_room(&mut self.hand, RELEASE, fruitless));
            self.apply();
            let now = self.keyspace.database(0).expect("database").table.len();
            if now + values <= before {
                return;
            }
        }
        panic!("nothing leaves");
    }

    /// As much on probation as may be there while the hand pays.
    fn fill_probation(&mut self) {
        names("filler", 40).iter().for_each(|key| self.set(key));
    }

    /// Writes all that is dirty to the tier ahead of need.
    fn write_back(&mut self) {
        let step = Step {
            drop_values: false,
            drop_stubs: false,
            spill: true,
            choice: Choice::Ahead,
        };
        self.keyspace.set_pressure(false, false);
        while self.keyspace.sweep(&mut self.hand, step).spilled > 0 {
            self.apply();
        }
        self.keyspace.set_pressure(true, true);
    }

    /// Sends all values to the tier; stubs stay.
    fn spill_all(&mut self) {
        let step = Step {
            drop_stubs: false,
            choice: Choice::All,
            ..RELEASE
        };
        self.keyspace.set_pressure(true, false);
        while self.keyspace.sweep(&mut self.hand, step).spilled > 0 {
            self.apply();
        }
        self.keyspace.set_pressure(true, true);
    }

    /// The tier's writer.
    fn apply(&mut self) {
        while !self.queue.is_empty() {
            let applied = self.queue.apply_one_batch(&self.store);
            drop(self.keyspace.applied(&applied));
        }
    }

    /// Keys that were wanted often.
    fn heat_up(&mut self, count: usize) -> Vec<String> {
        let keys: Vec<String> = (0..count).map(|i| format!("hot:{i}")).collect();
        for key in &keys {
            self.set(key);
            for _ in 0..4 {
                self.get(key);
            }
        }
        keys
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}:{i}")).collect()
}

#[test]
fn new_keys_leave_before_hot_ones_whatever_their_number() {
    let mut world = World::new(40_000);
    let hot = world.heat_up(200);
    world.fill_probation();
    for batch in 0..50 {
        let new = names(&format!("new{batch}"), 100);
        new.iter().for_each(|key| world.set(key));
        world.make_room(100);
    }
    world.expect_hot(&hot, 190);
}

/// A pass over many keys on disk, beside hot ones.
fn scan_beside_hot_keys(visit: fn(&mut World, &str)) {
    let mut world = World::new(40_000);
    // More than ghosts are remembered of.
    let cold = names("cold", 20_000);
    for some in cold.chunks(100) {
        some.iter().for_each(|key| world.set(key));
        world.make_room(if some[0] == "cold:0" { 60 } else { 100 });
    }
    let hot = world.heat_up(200);
    world.fill_probation();
    for some in cold.chunks(100) {
        some.iter().for_each(|key| visit(&mut world, key));
        world.make_room(99);
    }
    world.expect_hot(&hot, 190);
}

#[test]
fn a_scan_of_what_is_on_disk_leaves_before_hot_keys() {
    scan_beside_hot_keys(World::get);
}

#[test]
fn a_scan_that_writes_over_what_is_on_disk_leaves_before_hot_keys() {
    scan_beside_hot_keys(World::set);
}

#[test]
fn the_second_touch_promotes_also_after_the_value_had_left() {
    let mut world = World::new(20_000);
    let keys = names("k", 300);
    keys.iter().for_each(|key| world.set(key));
    world.make_room(280);
    // Left unwanted, not long ago: its next load is the second touch.
    assert!(!world.is_hot("k:0"));
    world.get("k:0");
    let more = names("more", 300);
    more.iter().for_each(|key| world.set(key));
    world.get("more:1");
    world.make_room(280);
    assert!(world.is_hot("k:0") && world.is_hot("more:1"));
    assert!(!world.is_hot("more:0") && !world.is_hot("more:2"));
}

#[test]
fn what_is_clean_leaves_without_a_write() {
    let mut world = World::new(10_000);
    let keys = names("k", 200);
    keys.iter().for_each(|key| world.set(key));
    world.write_back();
    let spilled = |world: &World| {
        let tiering = world.keyspace.tiering.as_ref();
        tiering.map(|tiering| tiering.stats.spilled)
    };
    assert_eq!(spilled(&world), Some(200));
    world.make_room(200);
    keys.iter().for_each(|key| world.get(key));
    world.make_room(200);
    assert_eq!(spilled(&world), Some(200));
}

#[test]
fn heat_counts_touches_and_is_spent_by_the_hand() {
    let mut world = World::new(1 << 20);
    let entry_heat = |world: &World| {
        let table = &world.keyspace.database(0).expect("database").table;
        let entry = table.find_value(table.hash(b"a"), b"a").expect("an entry");
        (entry.is_on_probation(), entry.heat())
    };
    world.set("a");
    assert_eq!(entry_heat(&world), (true, 0));
    world.get("a");
    assert_eq!(entry_heat(&world), (false, 1));
    for _ in 0..10 {
        world.set("a");
    }
    let heat_max = world.keyspace.access.heat_max;
    assert_eq!(entry_heat(&world), (false, heat_max));
    for left in (0..heat_max).rev() {
        drop(world.keyspace.sweep(&mut world.hand, RELEASE));
        // Past the end of the last database the hand begins again.
        assert_eq!(entry_heat(&world), (false, left));
    }
    drop(world.keyspace.sweep(&mut world.hand, RELEASE));
    assert!(!world.queue.is_empty(), "it is on its way");
}

#[test]
fn stubs_leave_by_a_hand_of_their_own_and_the_coldest_first() {
    let mut world = World::new(1 << 20);
    let cold = names("cold", 40);
    cold.iter().for_each(|key| world.set(key));
    world.spill_all();
    world.keyspace.access.clock_seconds += 1000;
    let wanted = &cold[..20];
    for key in wanted {
        assert!(world.run(|db| db.touch_key(key.as_bytes())));
    }
    let hot = world.heat_up(20);
    let step = Step {
        choice: Choice::Stubs,
        ..RELEASE
    };
    for _ in 0..2 {
        let swept = world.keyspace.sweep(&mut world.hand, step);
        assert!(swept.dropped.is_empty() && swept.spilled == 0 && swept.dropped_bytes > 0);
        assert_eq!(world.hot(&hot), 20);
    }
    let table = &world.keyspace.database(0).expect("database").table;
    // A quarter of 40, then of 30.
    assert_eq!(table.stub_count(), 22);
    for key in wanted {
        let hash = table.hash(key.as_bytes());
        assert!(table.find_stub(hash, key.as_bytes()).is_some(), "{key}");
    }
    let heat = |key: &String| {
        let entry = table.find_value(table.hash(key.as_bytes()), key.as_bytes());
        entry.map(Entry::heat)
    };
    let heat_max = world.keyspace.access.heat_max;
    assert!(hot.iter().all(|key| heat(key) == Some(heat_max)));
}

#[test]
fn who_cannot_wait_has_hot_values_leave_unless_they_are_wanted_meanwhile() {
    let mut world = World::new(1 << 20);
    let hot = world.heat_up(20);
    let step = Step {
        choice: Choice::All,
        ..RELEASE
    };
    assert_eq!(world.keyspace.sweep(&mut world.hand, step).spilled, 20);
    world.get(&hot[3]);
    world.apply();
    assert_eq!(world.hot(&hot), 1);
    assert!(world.is_hot(&hot[3]));
    let swept = world.keyspace.sweep(&mut world.hand, step);
    assert_eq!(swept.dropped.len(), 1);
    assert_eq!(world.hot(&hot), 0);
}

#[test]
fn what_comes_back_from_a_stub_has_no_heat() {
    let mut world = World::new(1 << 20);
    let heat = |world: &World| {
        let table = &world.keyspace.database(0).expect("database").table;
        let entry = table.find_value(table.hash(b"hot:0"), b"hot:0");
        entry.map(|entry| (entry.is_on_probation(), entry.heat()))
    };
    world.heat_up(1);
    world.spill_all();
    assert_eq!(heat(&world), None);
    world.get("hot:0");
    assert_eq!(heat(&world), Some((true, 0)));
    world.get("hot:0");
    world.spill_all();
    // Written over, not read.
    world.set("hot:0");
    assert_eq!(heat(&world), Some((true, 0)));
}

#[test]
fn ghosts_are_forgotten_the_oldest_first() {
    let mut ghosts = admission::Ghosts::new(64);
    let positioner = Positioner::new((3, 4));
    let hashes: Vec<_> = (0..1000u32)
        .map(|i| positioner.hash(&i.to_le_bytes()))
        .collect();
    for hash in &hashes {
        ghosts.add(0, *hash);
    }
    let held = |ghosts: &admission::Ghosts, range: std::ops::Range<usize>| {
        let some = hashes[range].iter();
        some.filter(|hash| ghosts.contains(0, **hash)).count()
    };
    assert_eq!(held(&ghosts, 0..1000), 64);
    assert_eq!(held(&ghosts, 0..700), 0);
    assert!(held(&ghosts, 984..1000) >= 15);
    assert!(hashes.iter().all(|hash| !ghosts.contains(1, *hash)));
}
