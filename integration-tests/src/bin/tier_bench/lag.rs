//! How far a replica is behind its master, and how long WAIT takes for it.

use anyhow::{Context as _, ensure};
use redrock_integration_tests::resp::{Client, Reply};
use std::time::{Duration, Instant};

/// A replica is waited for so long at most, ms.
const TIMEOUT_MS: &str = "10000";
/// Between two samples, so that they are of different moments of the load.
const PAUSE: Duration = Duration::from_millis(5);

/// A number of INFO replication.
fn offset(client: &mut Client, field: &str) -> anyhow::Result<f64> {
    let Reply::Bulk(info) = client.run(&["INFO", "replication"])? else {
        anyhow::bail!("INFO: no text");
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines
        .find(|(name, _)| *name == field)
        .with_context(|| format!("no {field}"))?;
    Ok(value.trim().parse()?)
}

/// Prints median, 99th percentile and maximum.
fn print(name: &str, mut all: Vec<f64>) {
    all.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| all.get(all.len() * share / 100).copied().unwrap_or(0.0);
    let (p50, p99, max) = (at(50), at(99), all.last().copied().unwrap_or(0.0));
    println!("| {name} | {p50:.2} | {p99:.2} | {max:.2} |");
}

/// Prints two rows. The replica's offset is asked for first and the master's after it: what a master goes
/// on in between counts as lag.
pub(crate) fn measure(master: u16, replica: u16, samples: u64) -> anyhow::Result<()> {
    let (mut master, mut replica) = (Client::connect(master)?, Client::connect(replica)?);
    let (mut behind, mut waited) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let there = offset(&mut replica, "slave_repl_offset")?;
        let here = offset(&mut master, "master_repl_offset")?;
        behind.push((here - there) / 1024.0);
        master.run(&["SET", "waited-for", &sample.to_string()])?;
        let begun = Instant::now();
        let reached = master.run(&["WAIT", "1", TIMEOUT_MS])?;
        ensure!(reached == Reply::Int(1), "WAIT: {reached:?}");
        waited.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    print("lag, KiB", behind);
    print("WAIT 1, ms", waited);
    Ok(())
}
