//! What the rows of SEMANTICS A and B promise of the feature: the bound and what may be changed
//! of it while the server runs, where memory goes by which option, and the commands of the tier; and
//! that the tier is no backup (D).

mod bound;
mod events;
mod loads;
mod no_backup;
mod options;
mod policy;
mod rock;
mod rock_words;

use redrock_integration_tests::daemons::info;
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply, encode};
use std::path::Path;

const FEATURE: [&str; 2] = ["--enable-rocksdb-feature", "yes"];
/// Without companions, where a test has no use for them.
const ALONE: [&str; 2] = ["--companions", "external"];
const MB: u64 = 1 << 20;

/// A server with the feature on.
fn start(folder: &Path, maxmemory: &str, options: &[&str]) -> anyhow::Result<Server> {
    let bound = ["--maxmemory", maxmemory];
    let options = [&bound[..], &FEATURE, options].concat();
    Server::start(Kind::RedRock, folder, &options)
}

/// A value of `length` bytes that does not compress, another for each `n`.
fn value(n: usize, length: usize) -> Vec<u8> {
    let mut word = n as u64 + 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*
        word ^= word >> 12;
        word ^= word << 25;
        word ^= word >> 27;
        bytes.extend_from_slice(&word.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sets `prefix:n` for each n in pipelines; the replies that were errors.
fn fill(
    client: &mut Client,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    length: usize,
) -> anyhow::Result<Vec<String>> {
    let all: Vec<usize> = numbers.collect();
    let mut errors = Vec::new();
    for some in all.chunks(50) {
        let mut bytes = Vec::new();
        for n in some {
            let key = format!("{prefix}:{n}");
            encode(&mut bytes, &[b"SET", key.as_bytes(), &value(*n, length)]);
        }
        client.send_raw(&bytes)?;
        for _ in some {
            if let Reply::Error(text) = client.receive()? {
                errors.push(text);
            }
        }
    }
    Ok(errors)
}

/// Fails unless each `prefix:n` has its value.
fn check(
    client: &mut Client,
    prefix: &str,
    numbers: impl Iterator<Item = usize>,
    length: usize,
) -> anyhow::Result<()> {
    for n in numbers {
        let found = client.run(&["GET", &format!("{prefix}:{n}")])?;
        anyhow::ensure!(
            found == Reply::Bulk(value(n, length)),
            "{prefix}:{n}: {found:.60?}"
        );
    }
    Ok(())
}

fn number(client: &mut Client, section: &str, field: &str) -> anyhow::Result<u64> {
    let text = info(client, section, field)?;
    text.parse()
        .map_err(|error| anyhow::anyhow!("{field} is '{text}': {error}"))
}

/// A figure of ROCKSTAT.
fn statistic(client: &mut Client, name: &str) -> anyhow::Result<u64> {
    let text = client.ok("ROCKSTAT")?.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let figure = line.and_then(|figure| figure.trim().parse().ok());
    figure.ok_or_else(|| anyhow::anyhow!("no {name} in {text}"))
}

/// The figures of ROCK REPORT: keys, with their value in memory, not on disk, on disk only.
fn report(client: &mut Client) -> anyhow::Result<[i64; 4]> {
    let found = client.ok("ROCK REPORT")?.elements();
    let figure = |at: usize| found.get(2 * at + 1).and_then(Reply::int).unwrap_or(-1);
    Ok([0, 1, 2, 3].map(figure))
}

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}
