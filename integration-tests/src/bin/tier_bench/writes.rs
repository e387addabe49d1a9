//! Latency of SETs at a steady pace, quiet and while the persister saves or rewrites.

use super::{Values, name};
use anyhow::bail;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::info;
use redrock_integration_tests::resp::{Client, Reply};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections, each with one SET under way.
const CLIENTS: u64 = 8;
/// Pause of a connection between two of them.
const PACE: Duration = Duration::from_millis(1);
const POLL: Duration = Duration::from_millis(20);

/// What goes on beside the writes.
struct Beside {
    name: &'static str,
    command: &'static str,
    counter: &'static str,
}

const BESIDE: [Beside; 2] = [
    Beside {
        name: "BGSAVE",
        command: "BGSAVE",
        counter: "rdb_saves",
    },
    Beside {
        name: "BGREWRITEAOF",
        command: "BGREWRITEAOF",
        counter: "aof_rewrites",
    },
];

fn write(port: u16, keys: u64, seed: u64, stop: &AtomicBool) -> anyhow::Result<Vec<u64>> {
    let (mut client, values) = (Client::connect(port)?, Values::new(seed));
    let mut random = StdRng::seed_from_u64(seed);
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = random.random_range(0..keys);
        let value = values.of(key + seed);
        let sent = Instant::now();
        let reply = client.run(&[b"SET", name(key).as_bytes(), value])?;
        took.push(sent.elapsed().as_nanos() as u64);
        if let Reply::Error(text) = reply {
            bail!("{text}");
        }
        std::thread::sleep(PACE);
    }
    Ok(took)
}

/// Latencies in ns, sorted, of all writes until `over` returns.
fn writes_until(
    port: u16,
    keys: u64,
    seed: u64,
    over: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<u64>> {
    let stop = AtomicBool::new(false);
    let mut all = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || write(port, keys, seed + client, stop))
            })
            .collect();
        let ended = over();
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for writer in writers {
            match writer.join() {
                Ok(took) => all.extend(took?),
                Err(_) => bail!("a writer ended"),
            }
        }
        ended.map(|()| all)
    })?;
    all.sort_unstable();
    Ok(all)
}

fn print(name: &str, took: &[u64], seconds: f64) {
    let at = |share: f64| {
        let at = (took.len() as f64 * share) as usize;
        took.get(at).or(took.last()).copied().unwrap_or(0) as f64 / 1000.0
    };
    let (writes, p50, p99, p999, most) = (took.len(), at(0.5), at(0.99), at(0.999), at(1.0));
    println!("| {name} | {seconds:.1} | {writes} | {p50:.0} | {p99:.0} | {p999:.0} | {most:.0} |");
}

/// Begins it and waits for its end.
fn run(client: &mut Client, beside: &Beside) -> anyhow::Result<()> {
    let before = info(client, "persistence", beside.counter)?;
    client.ok(beside.command)?;
    while info(client, "persistence", beside.counter)? == before {
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Measures; `keys` are there already.
pub(crate) fn measure(port: u16, keys: u64, seconds: u64, seed: u64) -> anyhow::Result<()> {
    println!(
        "| SETs beside | seconds | writes | p50 us | p99 us | p99.9 us | longest us |\n\
         |---|---|---|---|---|---|---|"
    );
    let pause = || {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    };
    // What is written comes into memory, and others leave.
    writes_until(port, keys, seed, pause)?;
    let begun = Instant::now();
    let took = writes_until(port, keys, seed + 100, pause)?;
    print("nothing", &took, begun.elapsed().as_secs_f64());
    let mut client = Client::connect(port)?;
    for (number, beside) in BESIDE.iter().enumerate() {
        let (begun, seed) = (Instant::now(), seed + 200 + 100 * number as u64);
        let took = writes_until(port, keys, seed, || run(&mut client, beside))?;
        print(beside.name, &took, begun.elapsed().as_secs_f64());
    }
    Ok(())
}
