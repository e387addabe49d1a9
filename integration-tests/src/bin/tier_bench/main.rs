//! Loads for figures of tiering, run by `scripts/bench-hits.sh` and `scripts/bench-cold.sh` against a
//! server that they started:
//!
//! ```text
//! tier_bench fill PORT KEYS SEED            keys of 1 KB, in order, pipelined
//! tier_bench hits PORT KEYS OPERATIONS SEED hit ratios: zipf 0.99, then with a full scan and new keys
//! tier_bench latency PORT KEYS SECONDS SEED hot keys' latency, quiet and during a bulk load
//! tier_bench lag PORT PORT SAMPLES          how far a replica is behind, and how long WAIT takes
//! tier_bench writes PORT KEYS SECONDS SEED  writes' latency, quiet and during a save and a rewrite
//! ```

mod hits;
mod lag;
mod latency;
mod lru;
mod popular;
mod writes;

use anyhow::{Context as _, bail};
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::time::Instant;

/// Bytes of a value.
const VALUE_BYTES: usize = 1000;
/// Random bytes of which all values are parts: they don't compress.
const POOL_BYTES: usize = 1 << 20;

/// Where values come from.
struct Values(Vec<u8>);

impl Values {
    fn new(seed: u64) -> Self {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        Self((0..POOL_BYTES).map(|_| random.random()).collect())
    }

    fn of(&self, key: u64) -> &[u8] {
        let at = (key.wrapping_mul(7919) as usize) % (POOL_BYTES - VALUE_BYTES);
        &self.0[at..at + VALUE_BYTES]
    }
}

/// The name that `redis-benchmark` gives the key of this number.
fn name(key: u64) -> String {
    format!("key:{key:012}")
}

/// Sends commands at once and reads all replies, none of which may be an error.
fn run_all(client: &mut Client, commands: usize, bytes: &[u8]) -> anyhow::Result<Vec<Reply>> {
    client.send_raw(bytes)?;
    let replies: Vec<Reply> = (0..commands)
        .map(|_| client.receive())
        .collect::<anyhow::Result<_>>()?;
    if let Some(Reply::Error(text)) = replies.iter().find(|r| matches!(r, Reply::Error(_))) {
        bail!("{text}");
    }
    Ok(replies)
}

/// Writes keys.
fn set_all(
    client: &mut Client,
    keys: impl Iterator<Item = u64>,
    values: &Values,
) -> anyhow::Result<()> {
    let (mut bytes, mut count) = (Vec::new(), 0);
    for key in keys {
        encode(&mut bytes, &[b"SET", name(key).as_bytes(), values.of(key)]);
        count += 1;
    }
    run_all(client, count, &bytes).map(drop)
}

fn fill(port: u16, keys: u64, seed: u64) -> anyhow::Result<()> {
    const AT_ONCE: u64 = 64;
    let values = Values::new(seed);
    let mut client = Client::connect(port)?;
    let begun = Instant::now();
    for from in (0..keys).step_by(AT_ONCE as usize) {
        set_all(&mut client, from..(from + AT_ONCE).min(keys), &values)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "fill: {keys} keys of {VALUE_BYTES} bytes, {:.0} keys/s",
        keys as f64 / seconds
    );
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers = words.iter().skip(1).map(|word| word.parse::<u64>());
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().context("a number")?;
    let port = |port: &u64| u16::try_from(*port).context("a port");
    match (words.first().map(String::as_str), &numbers[..]) {
        (Some("fill"), [at, keys, seed]) => fill(port(at)?, *keys, *seed),
        (Some("hits"), [at, keys, operations, seed]) => {
            hits::measure(port(at)?, *keys, *operations, *seed)
        }
        (Some("latency"), [at, keys, seconds, seed]) => {
            latency::measure(port(at)?, *keys, *seconds, *seed)
        }
        (Some("lag"), [at, replica, samples]) => lag::measure(port(at)?, port(replica)?, *samples),
        (Some("writes"), [at, keys, seconds, seed]) => {
            writes::measure(port(at)?, *keys, *seconds, *seed)
        }
        _ => bail!("see the head of this program's source for what it takes"),
    }
}
