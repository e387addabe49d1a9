//! What needs the tier to be written ends while it can't be: with an error, or by giving room back.

use super::disk::{VALUE_BYTES, expire_all, fill_disk};
use super::{ALONE, get, set, start, state, value, wait_for};
use redrock_integration_tests::daemons::{companions_up, info, until};
use redrock_integration_tests::process::Server;
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than anything may take here; waits for a tier that can't be written would go on for a
/// minute, or for ever.
const END_MAX: Duration = Duration::from_secs(20);
const KEYS: usize = 500;

/// A server on a disk that has turned read-only for good, with more queued than memtables hold.
fn on_a_failed_disk(folder: &Path, disk: &SmallDisk, options: &[&str]) -> anyhow::Result<Server> {
    let server = start(folder, &disk.path().join("tier"), options)?;
    let mut client = server.client()?;
    if options != ALONE {
        companions_up(&mut client)?;
    }
    for n in 0..KEYS {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    disk.turn_read_only()?;
    client.set_reply_wait(redrock_integration_tests::scale::PATIENCE)?;
    let mut n = KEYS;
    until("a failing tier", || {
        set(&mut client, n, VALUE_BYTES)?;
        n += 1;
        client.ok("ROCKMEM 100kb 1")?;
        Ok(state(&mut client)? == "failing")
    })?;
    Ok(server)
}

/// The error that a command ends with in time.
fn refused(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let begun = Instant::now();
    let words: Vec<_> = line.split(' ').collect();
    let reply = client.run(&words)?;
    anyhow::ensure!(begun.elapsed() < END_MAX, "{line}: {:?}", begun.elapsed());
    match reply {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

#[test]
fn snapshots_fail_at_once_where_the_tier_can_not_be_written() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4_that_fails(128 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes", "--save", ""];
    let mut server = on_a_failed_disk(folder.path(), &disk, &options)?;
    let mut client = server.client()?;
    client.set_reply_wait(Duration::from_secs(120))?;
    refused(&mut client, "SAVE")?;
    for (command, field) in [
        ("BGSAVE", "rdb_last_bgsave_status"),
        ("BGREWRITEAOF", "aof_last_bgrewrite_status"),
    ] {
        let begun = Instant::now();
        client.ok(command)?;
        until("the failure", || {
            let text = client.ok("INFO persistence")?.text();
            let busy = text.contains("in_progress:1");
            Ok(!busy && text.contains(&format!("{field}:err")))
        })?;
        assert!(
            begun.elapsed() < END_MAX,
            "{command}: {:?}",
            begun.elapsed()
        );
    }
    let log = server.log_text();
    assert!(log.contains("the tier can't be written: "), "{log}");
    // Nothing was lost, and commands go on.
    for n in (0..KEYS).step_by(20) {
        assert_eq!(get(&mut client, n)?, Reply::Bulk(value(n, VALUE_BYTES)));
    }
    let refused = refused(&mut client, "SHUTDOWN SAVE")?;
    assert_eq!(refused, "ERR Errors trying to SHUTDOWN. Check logs.");
    let keys = client.ok("DBSIZE")?.int();
    let begun = Instant::now();
    assert!(client.run(&["SHUTDOWN", "NOSAVE"]).is_err());
    assert!(server.wait_exit()?.success());
    assert!(begun.elapsed() < END_MAX, "{:?}", begun.elapsed());
    // What was nowhere but in memory and the log is in the next tier.
    let server = start(folder.path(), &folder.path().join("t"), &options)?;
    let mut client = server.client()?;
    assert_eq!(client.ok("DBSIZE")?.int(), keys);
    for n in 0..KEYS {
        assert_eq!(get(&mut client, n)?, Reply::Bulk(value(n, VALUE_BYTES)));
    }
    Ok(())
}

#[test]
fn flushing_all_and_ending_wait_for_no_disk() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4_that_fails(128 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let server = on_a_failed_disk(folder.path(), &disk, &ALONE)?;
    let mut client = server.client()?;
    refused(&mut client, "PURGEROCKSDB")?;
    for command in ["FLUSHALL", "FLUSHALL SYNC", "FLUSHDB ASYNC"] {
        let begun = Instant::now();
        client.ok("SET b 1")?;
        client.ok(command)?;
        assert!(
            begun.elapsed() < END_MAX,
            "{command}: {:?}",
            begun.elapsed()
        );
        assert_eq!(client.ok("DBSIZE")?.int(), Some(0));
        assert_eq!(get(&mut client, 1)?, Reply::Nil);
    }
    client.ok("SET a 1")?;
    assert_eq!(client.ok("GET a")?.text(), "1");
    let begun = Instant::now();
    assert!(server.terminate()?.success());
    assert!(begun.elapsed() < END_MAX, "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn flushing_all_gives_a_full_disk_the_room_that_its_queue_waits_for() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4(64 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), &disk.path().join("tier"), &ALONE)?;
    let mut client = server.client()?;
    for n in 0..KEYS {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    fill_disk(&disk.path().join("ballast"))?;
    let mut seconds = 10_000;
    until("a failing tier", || {
        seconds += 1;
        expire_all(&mut client, KEYS, seconds)?;
        Ok(state(&mut client)? == "failing")
    })?;
    client.ok("FLUSHALL")?;
    // The ballast stays: there is no more room than what the files gave back.
    until("a tier that can be written", || {
        Ok(["healthy", "low_space"].contains(&state(&mut client)?.as_str()))
    })?;
    until("an empty queue", || {
        Ok(client.ok("ROCKSTAT")?.text().contains("\nqueue_bytes:0\r"))
    })?;
    set(&mut client, 1, VALUE_BYTES)?;
    assert_eq!(get(&mut client, 1)?, Reply::Bulk(value(1, VALUE_BYTES)));
    Ok(())
}

#[test]
fn a_compaction_without_room_is_told_as_that_and_made_when_there_is_some() -> anyhow::Result<()> {
    /// In tables, which are what is compacted.
    const BYTES: usize = 2000;
    const SMALL: usize = 20_000;
    let Some(disk) = SmallDisk::mount_ext4(160 << 20) else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), &disk.path().join("tier"), &ALONE)?;
    let mut client = server.client()?;
    for n in 0..SMALL {
        set(&mut client, n, BYTES)?;
    }
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    for n in 0..SMALL / 2 {
        set(&mut client, n, BYTES)?;
    }
    client.ok("ROCKALL")?;
    // More than the line that closes the tier, and less than all tables.
    let stat = rustix::fs::statvfs(disk.path())?;
    let ballast = disk.path().join("ballast");
    let line: u64 = info(&mut client, "tiering", "tiering_disk_low_bytes")?.parse()?;
    let room = line * 3 / 2 + (1 << 20);
    assert!(room < 35 << 20, "{room}");
    let length = stat.f_bavail * stat.f_frsize - room;
    std::fs::write(&ballast, vec![1; usize::try_from(length)?])?;
    assert_eq!(state(&mut client)?, "healthy");
    let text = refused(&mut client, "PURGEROCKSDB")?;
    assert!(
        text.starts_with("TIERERR compact the tier: ") && text.contains("No space left"),
        "{text}"
    );
    until("a tier without room", || {
        let report = client.ok("ROCKSTAT")?.text();
        Ok(report.contains("state:low_space") && report.contains("bytes finds no room"))
    })?;
    for n in 0..SMALL {
        assert_eq!(
            get(&mut client, n)?,
            Reply::Bulk(value(n, BYTES)),
            "key:{n}"
        );
    }
    std::fs::remove_file(&ballast)?;
    wait_for(&mut client, "healthy")?;
    client.ok("PURGEROCKSDB")?;
    let log = server.log_text();
    assert!(!log.contains("the tier can't be written"), "{log}");
    assert!(!log.contains("the tier is not compacted"), "{log}");
    Ok(())
}
