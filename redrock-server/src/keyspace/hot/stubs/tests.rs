//! Packed stubs against a plain map.

use super::*;
use crate::keyspace::position::Positioner;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    key: Vec<u8>,
    object_type: ObjectType,
    expire: Option<i64>,
    fields: Option<i64>,
    access: u32,
    in_flight: bool,
}

impl Owned {
    fn random(random: &mut StdRng, key: &[u8]) -> Self {
        let time = |random: &mut StdRng| random.random_bool(0.4).then(|| random.random());
        Self {
            key: key.to_vec(),
            object_type: ObjectType::from_index(random.random_range(0..6)),
            expire: time(random),
            fields: time(random),
            access: random.random_range(0..1 << 24),
            in_flight: random.random(),
        }
    }

    fn stub(&self) -> Stub<'_> {
        Stub {
            key: &self.key,
            object_type: self.object_type,
            expire: self.expire,
            fields: self.fields,
            access: self.access,
            in_flight: self.in_flight,
        }
    }
}

fn key(random: &mut StdRng) -> Vec<u8> {
    let number: u32 = random.random_range(0..600);
    // Lengths with one, two and three bytes of length.
    let length = match number % 50 {
        0 => 20_000,
        1 => 127 + number as usize % 3,
        2 => 0,
        _ => number as usize % 40,
    };
    let mut key = number.to_string().into_bytes();
    key.resize(key.len() + length, b'k');
    key
}

fn check(stubs: &Stubs, model: &HashMap<Vec<u8>, Owned>, positioner: Positioner) {
    assert_eq!(stubs.len(), model.len());
    assert_eq!(stubs.iter().count(), model.len());
    for stub in stubs.iter() {
        assert_eq!(stub, model[stub.key].stub());
    }
    for owned in model.values() {
        let hash = positioner.hash(&owned.key);
        assert_eq!(stubs.find(hash, &owned.key), Some(owned.stub()));
        let same = stubs.with_hash(hash, |key| positioner.hash(key));
        assert_eq!(same.collect::<Vec<_>>(), [owned.stub()]);
    }
    let record = |owned: &Owned| {
        let times = usize::from(owned.expire.is_some()) + usize::from(owned.fields.is_some());
        let width = match owned.key.len() {
            0..128 => 1,
            128..16_384 => 2,
            _ => 3,
        };
        HEAD_BYTES + width + 8 * times + owned.key.len()
    };
    let bytes: usize = model.values().map(record).sum();
    assert_eq!(stubs.bytes.len(), bytes);
    assert!(stubs.bytes.capacity() <= size_class(bytes + bytes / 8 + 128));
}

#[test]
fn whatever_is_done_the_stubs_are_those_of_a_plain_map() {
    for _ in 0..8 {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let positioner = Positioner::new((seed, 1));
        let hasher = |key: &[u8]| positioner.hash(key);
        let (mut stubs, mut model) = (Stubs::default(), HashMap::new());
        let mut likely = 0.7;
        for step in 0..4000 {
            if step % 800 == 0 {
                // Grows and shrinks in turn.
                likely = 1.0 - likely;
                check(&stubs, &model, positioner);
            }
            let key = key(&mut random);
            let hash = hasher(&key);
            let known = model.contains_key(&key);
            assert_eq!(stubs.find(hash, &key).is_some(), known);
            match random.random_range(0..10) {
                0 => {
                    let expire = random.random_bool(0.5).then(|| random.random());
                    assert_eq!(stubs.set_expire(hash, &key, expire, hasher), known);
                    model.entry(key).and_modify(|owned| owned.expire = expire);
                }
                1 => {
                    let access = random.random_range(0..1 << 24);
                    assert_eq!(stubs.set_access(hash, &key, access), known);
                    model.entry(key).and_modify(|owned| owned.access = access);
                }
                2 => {
                    assert_eq!(stubs.end_flight(hash, &key), known);
                    model.entry(key).and_modify(|owned| owned.in_flight = false);
                }
                _ if random.random_bool(likely) => {
                    let removed = stubs.remove(hash, &key);
                    assert_eq!(removed.is_some(), model.remove(&key).is_some());
                }
                _ if !known => {
                    let owned = Owned::random(&mut random, &key);
                    stubs.insert(hash, &owned.stub(), hasher);
                    model.insert(key, owned);
                }
                _ => {}
            }
        }
        check(&stubs, &model, positioner);
        let is_high = |hash: KeyHash| hash.prefix(1) == 1;
        let (low, high) = stubs.split(hasher, is_high);
        let (above, below): (HashMap<_, _>, HashMap<_, _>) =
            model.into_iter().partition(|(key, _)| is_high(hasher(key)));
        check(&low, &below, positioner);
        check(&high, &above, positioner);
    }
}

#[test]
fn sizes_are_those_of_the_allocator() {
    for (asked, class) in [
        (1, 16),
        (128, 128),
        (129, 160),
        (257, 320),
        (4096, 4096),
        (4097, 5120),
        (9000, 10_240),
    ] {
        assert_eq!(size_class(asked), class, "{asked}");
    }
}
