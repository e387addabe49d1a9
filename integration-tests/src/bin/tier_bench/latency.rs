//! Latency of GETs of the hottest keys, one at a time, alone and while others load new keys.

use super::popular::Popular;
use super::{Values, name, set_all};
use redrock_integration_tests::resp::Client;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Hot keys.
const HOT: usize = 1000;
/// New keys in one pipeline.
const AT_ONCE: u64 = 16;

/// Latencies of one phase in ns, sorted.
fn read_for(client: &mut Client, popular: &Popular, span: Duration) -> anyhow::Result<Vec<u64>> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < span {
        let key = name(popular.key(took.len() % HOT));
        let sent = Instant::now();
        client.run(&["GET", &key])?;
        took.push(sent.elapsed().as_nanos() as u64);
    }
    took.sort_unstable();
    Ok(took)
}

fn print(name: &str, took: &[u64], loaded: u64) {
    let at = |share: f64| {
        let at = (took.len() as f64 * share) as usize;
        took.get(at).copied().unwrap_or(0) as f64 / 1000.0
    };
    let (reads, p50, p99, p999) = (took.len(), at(0.5), at(0.99), at(0.999));
    println!("| {name} | {reads} | {p50:.0} | {p99:.0} | {p999:.0} | {loaded} |");
}

/// Makes the calling thread run on idle processors only, by the program `chrt`.
fn give_way() -> anyhow::Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .status()?;
    anyhow::ensure!(status.success(), "chrt: {status}");
    Ok(())
}

/// Sets new keys from `next` on until told to stop; the first one that is not set.
fn load(
    port: u16,
    mut next: u64,
    seed: u64,
    gives_way: bool,
    stop: &AtomicBool,
) -> anyhow::Result<u64> {
    if gives_way {
        give_way()?;
    }
    let (mut loader, values) = (Client::connect(port)?, Values::new(seed));
    while !stop.load(Ordering::Relaxed) {
        set_all(&mut loader, next..next + AT_ONCE, &values)?;
        next += AT_ONCE;
    }
    Ok(next)
}

/// Measures; `keys` are there already. The second load runs on idle processors only: what is left then is
/// what the server does, as if who loads had a machine of its own.
pub(crate) fn measure(port: u16, keys: u64, seconds: u64, seed: u64) -> anyhow::Result<()> {
    let popular = Popular::new(keys, seed);
    let mut client = Client::connect(port)?;
    let span = Duration::from_secs(seconds);
    println!(
        "| hot GETs | reads | p50 us | p99 us | p99.9 us | keys loaded |\n|---|---|---|---|---|---|"
    );
    let mut next = keys;
    for (name, gives_way) in [
        ("during a bulk load", false),
        ("during one that gives way", true),
    ] {
        // Makes them hot.
        read_for(&mut client, &popular, Duration::from_secs(1))?;
        print("quiet", &read_for(&mut client, &popular, span)?, 0);
        let stop = AtomicBool::new(false);
        let (took, end) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load(port, next, seed, gives_way, &stop));
            let took = read_for(&mut client, &popular, span);
            stop.store(true, Ordering::Relaxed);
            let end = load
                .join()
                .map_err(|_| anyhow::anyhow!("the load ended"))??;
            anyhow::Ok((took?, end))
        })?;
        print(name, &took, end - next);
        next = end;
    }
    Ok(())
}
