//! Which keys are evicted.

use super::*;
use crate::keyspace::hot::entry::NewValue;
use crate::keyspace::position::Positioner;

fn config(policy: Policy) -> Config {
    let mut config = Config::default();
    config.memory.policy = policy;
    config
}

/// Databases 0 and 1 with `keys` keys each, the n-th used n times ten seconds ago; each third
/// with an expiry.
fn server(policy: Policy, keys: usize) -> Server {
    let mut keyspace = Keyspace::new(2, Positioner::new((5, 6)));
    keyspace.access.configure(&config(policy).memory);
    keyspace.access.set_clock(1_000_000_000);
    let server = Server::new(config(policy), keyspace, "0".repeat(40), 1);
    {
        let mut keyspace = server.keyspace.lock();
        let mut effect = Effect::default();
        for n in 0..keys {
            for index in 0..2 {
                let key = format!("key:{n}");
                let mut db = Db::new(&mut keyspace, &server, &mut effect, index, 0);
                let expire = n.is_multiple_of(3).then_some(2_000_000_000 + n as i64);
                db.restore(key.as_bytes(), NewValue::Int(1), expire)
                    .expect("nothing is cold");
                let idle = (n * 10) as u64;
                db.set_access(key.as_bytes(), Some(idle), Some(255 - n.min(250) as u8));
            }
        }
    }
    server
}

fn victims(server: &Server, policy: Policy, count: usize) -> Vec<usize> {
    let config = config(policy);
    let (mut pool, mut effect) = (Pool::default(), Effect::default());
    let mut keyspace = server.keyspace.lock();
    let mut numbers = Vec::new();
    while numbers.len() < count
        && let Some((db, key)) = keyspace.eviction_victim(&mut pool, &config)
    {
        assert!(keyspace.evict(server, &mut effect, (db, &key), false) > 0);
        let text = String::from_utf8(key).expect("a name");
        numbers.push(text["key:".len()..].parse().expect("a number"));
    }
    numbers
}

#[test]
fn the_worst_of_the_samples_go_first() {
    for policy in [Policy::AllKeysLru, Policy::AllKeysLfu] {
        let chosen = victims(&server(policy, 240), policy, 48);
        let mean = chosen.iter().sum::<usize>() / chosen.len();
        // At random it would be 120.
        assert!(mean > 170, "{policy:?}: {mean}");
    }
    let policy = Policy::VolatileTtl;
    let chosen = victims(&server(policy, 240), policy, 32);
    let mean = chosen.iter().sum::<usize>() / chosen.len();
    assert!(mean < 80, "{mean}");
}

#[test]
fn volatile_policies_touch_only_keys_with_an_expiry_and_all_of_them() {
    for policy in [
        Policy::VolatileLru,
        Policy::VolatileLfu,
        Policy::VolatileRandom,
        Policy::VolatileTtl,
    ] {
        let server = server(policy, 300);
        let chosen = victims(&server, policy, 1000);
        assert_eq!(chosen.len(), 200, "{policy:?}");
        assert!(chosen.iter().all(|n| n % 3 == 0), "{policy:?}");
        let keyspace = server.keyspace.lock();
        let left: u64 = (0..2)
            .filter_map(|db| keyspace.database(db))
            .map(|d| d.keys)
            .sum();
        assert_eq!((left, keyspace.stats.evicted), (400, 200));
    }
}

#[test]
fn all_keys_go_where_all_may() {
    for policy in [
        Policy::AllKeysRandom,
        Policy::AllKeysLru,
        Policy::AllKeysLfu,
    ] {
        assert_eq!(victims(&server(policy, 200), policy, 1000).len(), 400);
    }
}

#[test]
fn a_cycle_takes_as_long_as_in_redis() {
    assert_eq!(cycle_limit(0), Duration::ZERO);
    assert_eq!(cycle_limit(10), Duration::from_micros(500));
    assert_eq!(cycle_limit(100), Duration::MAX);
    assert!(cycle_limit(99) > Duration::from_secs(60));
}

#[test]
fn the_pool_keeps_the_best_and_none_twice() {
    let mut pool = Pool::default();
    let candidate = |score| Candidate {
        score,
        db: 0,
        key: vec![score as u8],
    };
    for score in [5, 1, 9, 5] {
        pool.offer(candidate(score));
    }
    assert_eq!(pool.0.len(), 3);
    (10..30).for_each(|score| pool.offer(candidate(score)));
    let scores: Vec<u64> = pool.0.iter().map(|c| c.score).collect();
    assert_eq!(scores, (14..30).collect::<Vec<u64>>());
}
