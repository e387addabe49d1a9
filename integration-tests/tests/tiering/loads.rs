//! Loads that are larger than the bound, with a tier that has no room for the rest.

use super::{ALONE, MB, check, error, fill, number, start};
use redrock_integration_tests::daemons::{companions_up, until};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;

const COUNT: usize = 20_000;
const VALUE_BYTES: usize = 10_000;

/// A folder with a dump of 200 MB.
fn dump() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(Kind::RedRock, folder.path(), &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    fill(&mut client, "key", 0..COUNT, VALUE_BYTES)?;
    client.ok("SAVE")?;
    server.kill_family()?;
    Ok(folder)
}

fn options<'a>(tier: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&ALONE[..], &["--rockdbdir", tier], more].concat()
}

/// A folder of its own for a server that starts on the dump.
fn copy(from: &Path) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::hard_link(from.join("dump.rdb"), folder.path().join("dump.rdb"))?;
    Ok(folder)
}

const NOT_ONLY: [&str; 2] = ["--maxmemory-only-for-rocksdb", "no"];

fn shrinks_by_eviction(from: &Path) -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let tier = disk.path().join("tier").display().to_string();
    let more = [
        "--maxmemory-policy",
        "allkeys-lru",
        "--max-hope-hot-keys",
        "3000",
    ];
    let folder = copy(from)?;
    let server = start(
        folder.path(),
        "128mb",
        &options(&tier, &[&NOT_ONLY[..], &more].concat()),
    )?;
    let mut client = server.client()?;
    let peak = number(&mut client, "memory", "used_memory_peak")?;
    anyhow::ensure!(peak > 140 * MB, "the load kept to the bound: {peak}");
    until("memory within the bound", || {
        Ok(number(&mut client, "memory", "used_memory")? < 128 * MB
            && number(&mut client, "stats", "evicted_keys")? > 0)
    })?;
    until("a write that is taken", || Ok(client.ok("SET a 1").is_ok()))?;
    // At one instant: each key is there or was evicted, and as many are hot as are to be kept.
    client.ok("MULTI")?;
    client.ok("DBSIZE")?;
    client.ok("INFO stats")?;
    let found = client.ok("EXEC")?.elements();
    let evicted = found[1].text().lines().find_map(|line| {
        line.strip_prefix("evicted_keys:")?
            .trim()
            .parse::<i64>()
            .ok()
    });
    let left = found[0].int().unwrap_or(-1);
    assert_eq!(Some(COUNT as i64 + 1 - left), evicted);
    let [_, in_memory, ..] = super::report(&mut client)?;
    anyhow::ensure!(in_memory >= 3000, "{in_memory} hot keys");
    Ok(())
}

fn is_refused_writes(from: &Path) -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let tier = disk.path().join("tier").display().to_string();
    let folder = copy(from)?;
    let server = start(folder.path(), "128mb", &options(&tier, &NOT_ONLY))?;
    let mut client = server.client()?;
    let refusal = error(&mut client, "SET a 1")?;
    anyhow::ensure!(refusal.starts_with("OOM the tier"), "{refusal}");
    assert_eq!(client.ok("DBSIZE")?.int(), Some(COUNT as i64));
    check(&mut client, "key", (0..COUNT).step_by(7), VALUE_BYTES)?;
    // Deletes go on until there is room: what they leave between other values is room once little else
    // is in memory.
    let mut gone = 0;
    while gone < COUNT * 2 / 3 || client.ok("SET a 1").is_err() {
        anyhow::ensure!(
            gone < COUNT * 19 / 20,
            "there is no room after {gone} deletes"
        );
        for n in gone..gone + 500 {
            assert_eq!(client.ok(&format!("DEL key:{n}"))?.int(), Some(1));
        }
        gone += 500;
    }
    check(&mut client, "key", (gone..COUNT).step_by(7), VALUE_BYTES)
}

fn is_refused(from: &Path) -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(24 << 20) else {
        return Ok(());
    };
    let tier = disk.path().join("tier").display().to_string();
    let folder = copy(from)?;
    let Err(refused) = start(folder.path(), "128mb", &options(&tier, &[])) else {
        anyhow::bail!("200 MB fit into 128 MB and a disk of 24 MB");
    };
    let text = format!("{refused:#}");
    let reasons = [
        "the data does not fit: OOM the tier",
        "the tier can't be written: ",
    ];
    anyhow::ensure!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
    Ok(())
}

#[test]
fn a_load_passes_the_bound_only_where_that_is_asked_for_and_memory_shrinks_afterwards()
-> anyhow::Result<()> {
    let dump = dump()?;
    let runs: [fn(&Path) -> anyhow::Result<()>; 3] =
        [is_refused, shrinks_by_eviction, is_refused_writes];
    let path = dump.path();
    let found = std::thread::scope(|scope| {
        let runs = runs.map(|run| scope.spawn(move || run(path)));
        runs.map(|run| run.join())
    });
    for (place, found) in found.into_iter().enumerate() {
        found.map_err(|_| anyhow::anyhow!("run {place} panicked"))??;
    }
    Ok(())
}
