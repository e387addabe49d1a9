//! Fields of hashes that expire, in whole servers. No Redis of a version that has them is
//! installed: what is expected stands here, from the documentation of Redis 7.4 and 8.

mod active;
mod link;
mod replies;
mod restart;

use anyhow::Context as _;
use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;
use std::time::Duration;

/// How long a reply may take.
const WAIT: Duration = redrock_integration_tests::scale::PATIENCE;
const TIERED: [&str; 4] = ["--maxmemory", "160mb", "--enable-rocksdb-feature", "yes"];
/// The year 2100, unix ms.
const FAR: i64 = 4_102_444_800_000;

/// A server that holds fields that expire.
fn start(folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    let always = ["--rdb-version", "12", "--enable-debug-command", "yes"];
    Server::start(Kind::RedRock, folder, &[&always, options].concat())
}

/// A field of INFO; empty if it is not there.
fn info(client: &mut Client, section: &str, name: &str) -> anyhow::Result<String> {
    let text = client.ok(&format!("INFO {section}"))?.text();
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(found.unwrap_or_default().to_owned())
}

fn number(client: &mut Client, section: &str, name: &str) -> anyhow::Result<u64> {
    let text = info(client, section, name)?;
    text.parse().with_context(|| format!("{name}: {text:?}"))
}

/// Hashes with fields that expire in database 0, as INFO tells.
fn timed(client: &mut Client) -> anyhow::Result<u64> {
    let line = info(client, "keyspace", "db0")?;
    let found = line.split_once("subexpiry=").map_or("0", |(_, rest)| rest);
    found.parse().with_context(|| line.clone())
}

/// Moves hashes out of memory.
fn evict(client: &mut Client, keys: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = std::iter::once("ROCKEVICT")
        .chain(keys.iter().map(String::as_str))
        .collect();
    for fate in client.run(&words)?.elements() {
        let fate = fate.text();
        let gone = matches!(fate.as_str(), "EVICTED" | "ON_DISK" | "NOT_FOUND");
        anyhow::ensure!(gone, "{fate}");
    }
    Ok(())
}

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}
