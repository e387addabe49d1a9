//! What reads of the tier cost without a server: RocksDB with the server's own options, the keys and
//! values of `tier_bench fill`, read at random by some threads. For `scripts/bench-cold.sh`.
//!
//! ```text
//! plain_reads FOLDER KEYS MAXMEMORY READS SEED THREADS... [serve PORT SERVING_THREADS]
//! ```
//!
//! With `serve` it then answers GETs of these keys on that port, with nothing around the read.

mod serve;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_server::config::budget::Budget;
use redrock_server::keyspace::cold::key::TierKey;
use redrock_server::keyspace::cold::options::{self, ColdBudget, VALUES};
use redrock_server::keyspace::position::{KeyHash, Positioner};
use rocksdb::{Cache, DBWithThreadMode, MultiThreaded, WriteBatch};
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Database = DBWithThreadMode<MultiThreaded>;

const VALUE_BYTES: usize = 1000;
const POOL_BYTES: usize = 1 << 20;
const BATCH: u64 = 256;

fn tier_key(positioner: &Positioner, key: u64) -> TierKey {
    let name = format!("key:{key:012}");
    let hash: KeyHash = positioner.hash(name.as_bytes());
    TierKey::new(0, hash, name.as_bytes())
}

fn open(folder: &Path, maxmemory_bytes: u64) -> anyhow::Result<Database> {
    let budget = ColdBudget::for_cache(Budget::new(maxmemory_bytes).tier_cache);
    let cache = Cache::new_hyper_clock_cache(budget.cache_bytes, 4 << 10);
    let families = options::families(budget, &cache);
    Ok(Database::open_cf_descriptors(
        &options::database(&options::memtables(budget, &cache)),
        folder,
        families,
    )?)
}

/// As the server's spills: in no order of positions, and a record is a type byte, a length and the bytes.
fn fill(db: &Database, positioner: &Positioner, keys: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let pool: Vec<u8> = (0..POOL_BYTES).map(|_| random.random()).collect();
    let family = db.cf_handle(VALUES).context("the family of values")?;
    for from in (0..keys).step_by(BATCH as usize) {
        let mut batch = WriteBatch::default();
        for key in from..(from + BATCH).min(keys) {
            let at = (key.wrapping_mul(7919) as usize) % (POOL_BYTES - VALUE_BYTES);
            let mut record = vec![0, 0x43, 0xe8];
            record.extend_from_slice(&pool[at..at + VALUE_BYTES]);
            batch.put_cf(&family, tier_key(positioner, key).as_bytes(), &record);
        }
        db.write_without_wal(batch)?;
    }
    Ok(())
}

/// CPU time of the process so far, of threads that have ended too, us.
fn cpu_us() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").context("fields")?;
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    let hz = rustix::param::clock_ticks_per_second();
    Ok(ticks.iter().sum::<u64>() * 1_000_000 / hz)
}

/// Latencies of `reads` reads, ns.
fn read(
    db: &Database,
    positioner: &Positioner,
    keys: u64,
    reads: u64,
    seed: u64,
) -> anyhow::Result<Vec<u64>> {
    let mut random = StdRng::seed_from_u64(seed);
    let family = db.cf_handle(VALUES).context("the family of values")?;
    let mut took = Vec::with_capacity(reads as usize);
    for _ in 0..reads {
        let key = tier_key(positioner, random.random_range(0..keys));
        let begun = Instant::now();
        let found = db.get_pinned_cf(&family, key.as_bytes())?;
        took.push(begun.elapsed().as_nanos() as u64);
        anyhow::ensure!(
            found.is_some_and(|v| v.len() > VALUE_BYTES),
            "a key is gone"
        );
    }
    Ok(took)
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, numbers) = words.split_first().context("a folder")?;
    let at = numbers.iter().position(|word| word == "serve");
    let (numbers, serving) = numbers.split_at(at.unwrap_or(numbers.len()));
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|word| word.parse())
        .collect::<Result<_, _>>()?;
    let [keys, maxmemory, reads, seed, threads @ ..] = &numbers[..] else {
        anyhow::bail!("see the head of this program's source for what it takes");
    };
    let db = open(Path::new(folder), *maxmemory)?;
    let positioner = Positioner::new((*seed, 1));
    let begun = (Instant::now(), cpu_us()?);
    fill(&db, &positioner, *keys, *seed)?;
    let per_key = (cpu_us()? - begun.1) as f64 / *keys as f64;
    let rate = *keys as f64 / begun.0.elapsed().as_secs_f64();
    println!("plain RocksDB: filled at {rate:.0} keys/s, {per_key:.1} us of CPU a key");
    db.wait_for_compact(&rocksdb::WaitForCompactOptions::default())?;
    for &count in threads {
        let (begun, before) = (Instant::now(), cpu_us()?);
        let (db, positioner) = (&db, &positioner);
        let mut took = std::thread::scope(|scope| {
            let readers = (0..count).map(|thread| {
                let run = move || read(db, positioner, *keys, reads / count, seed + thread);
                scope.spawn(run)
            });
            let readers: Vec<_> = readers.collect();
            let join = |reader: std::thread::ScopedJoinHandle<'_, _>| match reader.join() {
                Ok(took) => took,
                Err(_) => Err(anyhow::anyhow!("a reader ended")),
            };
            let all: anyhow::Result<Vec<Vec<u64>>> = readers.into_iter().map(join).collect();
            all
        })?
        .concat();
        took.sort_unstable();
        let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
        let cpu = (cpu_us()? - before) as f64 / took.len() as f64;
        let at = |percent: usize| took[took.len() * percent / 100] as f64 / 1e6;
        let (p50, p99) = (at(50), at(99));
        println!("| plain get, {count} threads | {rate:.0} | {p50:.3} | {p99:.3} | {cpu:.1} |");
    }
    if let [_, port, threads] = serving {
        serve::serve(&db, &positioner, port.parse()?, threads.parse()?)?;
    }
    Ok(())
}
