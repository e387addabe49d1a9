//! A disk that fills up, and one that goes away.

use super::told::{wait_not_served, wait_served};
use super::{ALONE, get, number, set, start, state, value, wait_for};
use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::free_port;
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::small_disk::SmallDisk;
use std::io::Write as _;
use std::path::Path;

pub(crate) const VALUE_BYTES: usize = 20_000;

/// Fills memory and tier until a write is refused; how many were taken, and the refusal.
fn fill(client: &mut Client) -> anyhow::Result<(usize, String)> {
    for n in 0..20_000 {
        match set(client, n, VALUE_BYTES)? {
            Reply::Error(text) => return Ok((n, text)),
            reply => assert_eq!(reply, Reply::Status("OK".into())),
        }
    }
    anyhow::bail!("it never fills up")
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_comes_back_when_there_is_some() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4(64 << 20) else {
        return Ok(());
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 32 << 20])?;
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let metrics_port = port.to_string();
    let options = [&ALONE[..], &["--metrics-port", &metrics_port]].concat();
    let server = start(folder.path(), &disk.path().join("tier"), &options)?;
    let mut client = server.client()?;
    assert_eq!(state(&mut client)?, "healthy");
    wait_served(folder.path(), port)?;
    let (count, refusal) = fill(&mut client)?;
    assert!(
        refusal.starts_with("OOM the tier"),
        "{refusal}\n{}",
        server.log_text()
    );
    let closed = state(&mut client)?;
    assert!(
        ["low_space", "failing"].contains(&closed.as_str()),
        "{closed}"
    );
    wait_not_served(folder.path(), port)?;
    // The newest are hot; reads and deletes go on.
    assert_eq!(
        get(&mut client, count - 1)?,
        Reply::Bulk(value(count - 1, VALUE_BYTES))
    );
    for n in 0..100 {
        assert_eq!(client.ok(&format!("DEL key:{n}"))?.int(), Some(1));
    }
    // Room, by an operator's hand: no restart is needed.
    std::fs::remove_file(&ballast)?;
    wait_for(&mut client, "healthy")?;
    let mut more = count;
    until("a write that is taken", || {
        let reply = set(&mut client, more, VALUE_BYTES)?;
        Ok(reply == Reply::Status("OK".into()))
    })?;
    more += 1;
    for n in more..more + 200 {
        assert_eq!(
            set(&mut client, n, VALUE_BYTES)?,
            Reply::Status("OK".into())
        );
    }
    more += 200;
    // Nothing was lost, in memory, in memtables or on disk, and nothing is wrong.
    for n in 100..more {
        let found = get(&mut client, n)?;
        assert!(
            found == Reply::Bulk(value(n, VALUE_BYTES)),
            "key:{n}: {found:.40?}"
        );
    }
    assert_eq!(client.ok("DBSIZE")?.int(), Some(more as i64 - 100));
    assert!(number(&mut client, "tiering_state_changes")? >= 2);
    // What is written ahead of need may have filled the disk again: with all gone there is room.
    client.ok("FLUSHALL")?;
    wait_served(folder.path(), port)?;
    let log = server.log_text();
    assert!(
        log.matches("the tier takes no more values").count() <= 3,
        "{log}"
    );
    Ok(())
}

/// Takes what is left of a disk.
pub(crate) fn fill_disk(path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for length in [1 << 20, 4096] {
        while file.write_all(&vec![1; length]).is_ok() {}
    }
    // What is not on disk yet is what does not fit.
    let _ = file.sync_all();
    Ok(())
}

/// Gives all keys an expiry, round after round, in pipelines: cold ones get it on disk.
pub(crate) fn expire_all(client: &mut Client, keys: usize, seconds: usize) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for n in 0..keys {
        let words = ["EXPIRE".to_owned(), format!("key:{n}"), seconds.to_string()];
        encode(&mut bytes, &words);
    }
    client.send_raw(&bytes)?;
    for n in 0..keys {
        let reply = client.receive()?;
        anyhow::ensure!(reply == Reply::Int(1), "key:{n}: {reply:?}");
    }
    Ok(())
}

#[test]
fn a_flush_that_finds_no_room_is_made_when_there_is_some() -> anyhow::Result<()> {
    const KEYS: usize = 500;
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
    let ballast = disk.path().join("ballast");
    fill_disk(&ballast)?;
    // Small writes go on until memtables are full.
    let mut seconds = 10_000;
    until("a failing tier", || {
        seconds += 1;
        expire_all(&mut client, KEYS, seconds)?;
        Ok(state(&mut client)? == "failing")
    })?;
    let report = client.ok("ROCKSTAT")?.text();
    assert!(report.contains("No space left on device"), "{report}");
    // What is in no file yet is read.
    for n in (0..KEYS).step_by(50) {
        assert_eq!(get(&mut client, n)?, Reply::Bulk(value(n, VALUE_BYTES)));
    }
    expire_all(&mut client, KEYS, 20_000)?;
    std::fs::remove_file(&ballast)?;
    wait_for(&mut client, "healthy")?;
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    for n in 0..KEYS {
        let ttl = client.ok(&format!("TTL key:{n}"))?.int();
        assert!(
            ttl.is_some_and(|s| (19_000..=20_000).contains(&s)),
            "{ttl:?}"
        );
        assert_eq!(
            get(&mut client, n)?,
            Reply::Bulk(value(n, VALUE_BYTES)),
            "key:{n}"
        );
    }
    Ok(())
}

#[test]
fn a_folder_that_goes_away_and_comes_back_costs_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let server = start(folder.path(), &tier, &ALONE)?;
    let mut client = server.client()?;
    let count = 500;
    for n in 0..count {
        set(&mut client, n, VALUE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    let (there, away) = (tier.join("db"), tier.join("away"));
    std::fs::rename(&there, &away)?;
    // More than memtables hold: a flush is due, and can't be made.
    let mut written = count;
    until("a failing tier", || {
        set(&mut client, written, VALUE_BYTES)?;
        written += 1;
        client.set_reply_wait(redrock_integration_tests::scale::PATIENCE)?;
        client.ok("ROCKMEM 100kb 1")?;
        Ok(state(&mut client)? == "failing")
    })?;
    until("a probe", || Ok(number(&mut client, "tiering_probes")? > 0))?;
    let hot = format!("hot:{written}");
    client.ok(&format!("SET {hot} 1"))?;
    assert_eq!(client.ok(&format!("GET {hot}"))?.text(), "1");
    std::fs::rename(&away, &there)?;
    wait_for(&mut client, "healthy")?;
    client.ok("ROCKALL")?;
    for n in 0..written {
        let found = get(&mut client, n)?;
        assert!(
            found == Reply::Bulk(value(n, VALUE_BYTES)),
            "key:{n}: {found:.60?}"
        );
    }
    let log = server.log_text();
    assert_eq!(log.matches("the tier can't be written").count(), 1, "{log}");
    Ok(())
}
