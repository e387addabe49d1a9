//! A disk that answers with errors, and one that can't be written any more.

use super::damage::files;
use super::told::{wait_not_served, wait_served, wait_told};
use super::{ALONE, get, number, set, start, state, value, wait_for};
use redrock_integration_tests::daemons::{info, until};
use redrock_integration_tests::process::free_port;
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::small_disk::{ReadOnlyFolder, SmallDisk, forget_cached};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beside the tables, in files of their own that no cache of the server has.
const VALUE_BYTES: usize = 40_000;

/// Checks all values: how many of them are refused for what `what` says.
fn read_all(client: &mut Client, keys: usize, what: &str) -> anyhow::Result<usize> {
    let mut refused = 0;
    for n in 0..keys {
        match get(client, n)? {
            Reply::Bulk(found) => anyhow::ensure!(found == value(n, VALUE_BYTES), "key:{n}"),
            Reply::Error(text) => {
                let named = format!("TIERERR the value of key 'key:{n}' {what}");
                anyhow::ensure!(text.starts_with(&named), "key:{n}: {text}");
                refused += 1;
            }
            other => anyhow::bail!("key:{n}: {other:?}"),
        }
    }
    Ok(refused)
}

/// Writes more than memtables hold until a flush has failed; how many keys there are then.
fn write_until_failing(client: &mut Client, keys: usize) -> anyhow::Result<usize> {
    client.set_reply_wait(redrock_integration_tests::scale::PATIENCE)?;
    let mut written = keys;
    until("a failing tier", || {
        if written < keys + 2000 {
            set(client, written, VALUE_BYTES)?;
            written += 1;
            client.ok("ROCKMEM 100kb 1")?;
        }
        Ok(state(client)? == "failing")
    })?;
    Ok(written)
}

/// Waits until it was tried twice more whether the tier can be written.
fn wait_probes(client: &mut Client) -> anyhow::Result<()> {
    let probes = number(client, "tiering_probes")?;
    until("more probes", || {
        Ok(number(client, "tiering_probes")? > probes + 1)
    })
}

/// Where to cut the tier's disk so that half of its files with large values lie behind, bytes.
fn half(tier: &Path) -> anyhow::Result<u64> {
    const BLOCK_BYTES: u64 = 4096;
    let mut begins = Vec::new();
    for path in files(tier, "blob")? {
        let output = Command::new("filefrag").arg("-v").arg(&path).output()?;
        let text = String::from_utf8(output.stdout)?;
        // `0: first..last: first on the disk..last on the disk: count`
        let extent = text
            .lines()
            .find(|line| line.trim_start().starts_with("0:"));
        let block = extent
            .and_then(|line| line.split(':').nth(2)?.split("..").next())
            .ok_or_else(|| anyhow::anyhow!("filefrag: {text}"))?;
        begins.push(block.trim().parse::<u64>()? * BLOCK_BYTES);
    }
    begins.sort_unstable();
    Ok(begins[begins.len() / 2])
}

#[test]
fn read_errors_of_the_disk_cost_the_keys_concerned_until_it_is_mended() -> anyhow::Result<()> {
    const KEYS: usize = 800;
    let Some(disk) = SmallDisk::mount_ext4_that_fails(256 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let tier = disk.path().join("tier");
    let port = free_port()?;
    let metrics_port = port.to_string();
    let options = [&ALONE[..], &["--metrics-port", &metrics_port]].concat();
    let server = start(folder.path(), &tier, &options)?;
    let mut client = server.client()?;
    for n in 0..KEYS {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    wait_served(folder.path(), port)?;
    // From now on the tables, which name the places of values, are cached.
    assert_eq!(read_all(&mut client, KEYS, "")?, 0);
    client.ok("ROCKALL")?;

    let at = half(&tier)?;
    let rest = disk.cut(at)?;
    forget_cached(&tier.join("db"))?;
    let refused = read_all(&mut client, KEYS, "can't be read: ")?;
    assert!(refused > 0 && refused < KEYS, "{refused}");
    wait_for(&mut client, "damaged")?;
    assert!(number(&mut client, "tiering_read_errors")? >= refused as u64);
    let last = info(&mut client, "tiering", "tiering_last_read_error")?;
    assert!(
        last.contains("the value of key 'key:") && last.contains("Input/output error"),
        "{last}"
    );
    let report = client.ok("ROCKSTAT")?.text();
    assert!(
        report.contains("state_reason:the value of key 'key:"),
        "{report}"
    );
    // What can be read is served, and told to be.
    wait_told(folder.path(), port, "ok, but the tier is damaged")?;

    // Nor can files be written behind the end.
    let written = write_until_failing(&mut client, KEYS)?;
    wait_not_served(folder.path(), port)?;
    client.ok("SET hot 1")?;
    assert_eq!(client.ok("GET hot")?.text(), "1");

    disk.mend(at, &rest)?;
    wait_for(&mut client, "healthy")?;
    client.ok("ROCKALL")?;
    forget_cached(&tier.join("db"))?;
    assert_eq!(read_all(&mut client, written, "")?, 0);
    client.ok("PURGEROCKSDB")?;
    wait_served(folder.path(), port)?;
    Ok(())
}

#[test]
fn a_folder_that_turns_read_only_is_told_once_and_costs_nothing() -> anyhow::Result<()> {
    const KEYS: usize = 300;
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let server = start(folder.path(), &tier, &ALONE)?;
    let mut client = server.client()?;
    for n in 0..KEYS {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    let Some(mount) = ReadOnlyFolder::mount(&tier.join("db")) else {
        return Ok(());
    };
    let written = write_until_failing(&mut client, KEYS)?;
    let report = client.ok("ROCKSTAT")?.text();
    assert!(report.contains("Read-only file system"), "{report}");
    wait_probes(&mut client)?;
    // What is in memory, in memtables or in files is read all the same.
    assert_eq!(read_all(&mut client, written, "")?, 0);
    let log = server.log_text();
    assert_eq!(log.matches("the tier can't be written").count(), 1, "{log}");

    mount.make_writable()?;
    wait_for(&mut client, "healthy")?;
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    assert_eq!(read_all(&mut client, written, "")?, 0);
    assert_eq!(client.ok("DBSIZE")?.int(), Some(written as i64));
    let log = server.log_text();
    assert_eq!(log.matches("the tier is healthy again").count(), 1, "{log}");
    Ok(())
}

fn manifest(tier: &Path) -> anyhow::Result<(PathBuf, u64)> {
    let mut newest = None;
    for entry in std::fs::read_dir(tier.join("db"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("MANIFEST-"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            newest = newest.max(Some((number, path)));
        }
    }
    let (number, path) = newest.ok_or_else(|| anyhow::anyhow!("no manifest"))?;
    Ok((path, number))
}

/// A file that nobody can write any more, not even who has it open, until this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn make(path: &Path) -> Option<Self> {
        let output = Command::new("chattr").arg("+i").arg(path).output();
        if output.is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("skipped: chattr can't be used here");
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn a_manifest_that_can_not_be_written_is_begun_anew_when_one_can() -> anyhow::Result<()> {
    const KEYS: usize = 300;
    const NAMES: u64 = 3000;
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let server = start(folder.path(), &tier, &ALONE)?;
    let mut client = server.client()?;
    for n in 0..KEYS {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    let (path, number) = manifest(&tier)?;
    let Some(immutable) = Immutable::make(&path) else {
        return Ok(());
    };
    // Nor one of another name: there are folders where it would be.
    let taken = |n: u64| tier.join("db").join(format!("MANIFEST-{:06}", number + n));
    for n in 1..NAMES {
        std::fs::create_dir(taken(n))?;
    }
    let written = write_until_failing(&mut client, KEYS)?;
    let report = client.ok("ROCKSTAT")?.text();
    assert!(report.contains("MANIFEST"), "{report}");
    let purge = client.run(&["PURGEROCKSDB"])?;
    let told = matches!(&purge, Reply::Error(text) if text.starts_with("TIERERR flush the tier: "));
    assert!(told, "{purge:?}");
    // It is tried again and again, and no more is lost by that.
    wait_probes(&mut client)?;
    assert_eq!(state(&mut client)?, "failing");
    assert_eq!(read_all(&mut client, written, "")?, 0);

    for n in 1..NAMES {
        std::fs::remove_dir(taken(n))?;
    }
    wait_for(&mut client, "healthy")?;
    assert_ne!(manifest(&tier)?.0, path);
    drop(immutable);
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    assert_eq!(read_all(&mut client, written, "")?, 0);
    assert_eq!(client.ok("DBSIZE")?.int(), Some(written as i64));
    assert_eq!(state(&mut client)?, "healthy");
    Ok(())
}
