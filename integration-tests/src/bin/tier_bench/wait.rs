//! How long WAIT takes for one replica after a SET.

use anyhow::ensure;
use redrock_integration_tests::resp::{Client, Reply};
use std::time::Instant;

/// Waits for a replica at most, ms.
const TIMEOUT_MS: &str = "10000";

/// Prints a row: median, 99th percentile and maximum of `samples` waits, ms.
pub(crate) fn measure(port: u16, samples: u64) -> anyhow::Result<()> {
    let mut client = Client::connect(port)?;
    let mut took = Vec::new();
    for sample in 0..samples {
        client.run(&["SET", "waited-for", &sample.to_string()])?;
        let begun = Instant::now();
        let reached = client.run(&["WAIT", "1", TIMEOUT_MS])?;
        ensure!(reached == Reply::Int(1), "WAIT: {reached:?}");
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| took.get(took.len() * share / 100).copied();
    let (Some(p50), Some(p99), Some(max)) = (at(50), at(99), took.last()) else {
        return Ok(());
    };
    println!("| WAIT 1, ms | {p50:.2} | {p99:.2} | {max:.2} |");
    Ok(())
}
