//! Bytes on disk that are not what was written.

use super::{ALONE, get, number, set, start, state, value, wait_for};
use redrock_integration_tests::daemons::{companions_up, until};
use redrock_integration_tests::resp::{Client, Reply};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Keys with values in tables, and behind them keys with values in blob files.
const SMALL: usize = 4000;
const LARGE: usize = 60;
const SMALL_BYTES: usize = 2000;
const LARGE_BYTES: usize = 40_000;

fn length(n: usize) -> usize {
    if n < SMALL { SMALL_BYTES } else { LARGE_BYTES }
}

/// Writes all keys and moves them to files, out of memory and memtables.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    for n in 0..SMALL + LARGE {
        set(client, n, length(n))?;
    }
    client.ok("ROCKALL")?;
    client.ok("PURGEROCKSDB")?;
    Ok(())
}

pub(crate) fn files(tier: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(tier.join("db"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Turns a bit over in `count` places spread over a file's first nine tenths, in place.
fn flip(path: &Path, count: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    for n in 1..=count {
        let at = length * 9 / 10 / (count + 1) * n;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 0x10], at)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Reads all keys; those whose value is refused. No value is wrong, and each refusal names its key.
fn read_all(client: &mut Client) -> anyhow::Result<Vec<usize>> {
    let mut refused = Vec::new();
    for n in 0..SMALL + LARGE {
        match get(client, n)? {
            Reply::Bulk(found) => anyhow::ensure!(found == value(n, length(n)), "key:{n} is wrong"),
            Reply::Error(text) => {
                let named = format!("TIERERR the value of key 'key:{n}' is damaged");
                anyhow::ensure!(text.starts_with(&named), "key:{n}: {text}");
                refused.push(n);
            }
            other => anyhow::bail!("key:{n}: {other:?}"),
        }
    }
    Ok(refused)
}

#[test]
fn flipped_bits_cost_the_keys_concerned_and_no_value_is_wrong() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let server = start(folder.path(), &tier, &[])?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    fill(&mut client)?;
    client.ok("SAVE")?;
    let dump = folder.path().join("dump.rdb");
    let before = std::fs::read(&dump)?;

    for path in files(&tier, "sst")?.iter().chain(&files(&tier, "blob")?) {
        if std::fs::metadata(path)?.len() > 100_000 {
            flip(path, 3)?;
        }
    }
    let refused = read_all(&mut client)?;
    let large = refused.iter().filter(|n| **n >= SMALL).count();
    assert!(!refused.is_empty() && large > 0, "{refused:?}");
    assert!(refused.len() < SMALL / 2, "{}", refused.len());
    assert!(number(&mut client, "tiering_read_errors")? >= refused.len() as u64);

    // In one command the good ones are refused with the bad one, which is named; alone they are not.
    let (bad, good) = (
        refused[0],
        (0..).find(|n| !refused.contains(n)).unwrap_or(0),
    );
    let text = format!(
        "{:?}",
        client.run(&["MGET", &format!("key:{good}"), &format!("key:{bad}")])?
    );
    assert!(text.contains(&format!("'key:{bad}'")), "{text}");

    // A snapshot that meets it fails, names a key, and leaves the file that was there.
    client.ok("BGSAVE")?;
    until("the end of the save", || {
        let text = client.ok("INFO persistence")?.text();
        Ok(
            text.contains("rdb_bgsave_in_progress:0")
                && text.contains("rdb_last_bgsave_status:err"),
        )
    })?;
    assert!(std::fs::read(&dump)? == before, "the file was replaced");
    assert!(server.log_text().contains("key '"), "{}", server.log_text());

    // Whatever takes the value's place mends the key.
    for n in &refused {
        let key = format!("key:{n}");
        match n % 2 {
            0 => assert_eq!(client.ok(&format!("DEL {key}"))?.int(), Some(1)),
            _ => assert_eq!(client.ok(&format!("SET {key} new"))?.text(), "OK"),
        }
    }
    for n in &refused {
        let wanted = if n % 2 == 0 {
            Reply::Nil
        } else {
            Reply::Bulk(b"new".into())
        };
        assert_eq!(get(&mut client, *n)?, wanted);
    }
    assert_eq!(client.ok("PING")?.text(), "PONG");
    Ok(())
}

#[test]
fn a_file_that_compaction_can_not_read_does_not_keep_others_from_being_written()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let options = [&ALONE[..], &["--appendonly", "yes"]].concat();
    let server = start(folder.path(), &tier, &options)?;
    let mut client = server.client()?;
    fill(&mut client)?;
    for path in files(&tier, "sst")? {
        if std::fs::metadata(&path)?.len() > 100_000 {
            flip(&path, 1)?;
        }
    }
    // Something for the compaction to do.
    for n in 0..SMALL / 2 {
        set(&mut client, n, SMALL_BYTES)?;
    }
    client.ok("ROCKALL")?;
    let purge = client.run(&["PURGEROCKSDB"])?;
    let told = matches!(&purge, Reply::Error(text) if text.starts_with("TIERERR") && text.contains("Corruption"));
    assert!(told, "{purge:?}");
    wait_for(&mut client, "damaged")?;
    // Values still go there and come back.
    for n in SMALL..SMALL + LARGE {
        set(&mut client, n, LARGE_BYTES)?;
    }
    client.ok("ROCKALL")?;
    for n in SMALL..SMALL + LARGE {
        assert_eq!(get(&mut client, n)?, Reply::Bulk(value(n, LARGE_BYTES)));
    }
    assert_eq!(state(&mut client)?, "damaged");
    assert!(client.ok("ROCKSTAT")?.text().contains("state:damaged"));
    // The way back that is told: the log has everything, a start builds the tier anew.
    server.terminate()?;
    let server = start(folder.path(), &tier, &options)?;
    let mut client = server.client()?;
    assert_eq!(read_all(&mut client)?, Vec::<usize>::new());
    assert_eq!(state(&mut client)?, "healthy");
    Ok(())
}

#[test]
fn a_file_cut_short_refuses_its_keys_and_serves_the_others() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let tier = folder.path().join("t");
    let server = start(folder.path(), &tier, &ALONE)?;
    let mut client = server.client()?;
    fill(&mut client)?;
    let blobs = files(&tier, "blob")?;
    anyhow::ensure!(!blobs.is_empty(), "no blob files");
    let mut kept = Vec::new();
    for path in &blobs {
        let bytes = std::fs::read(path)?;
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes.len() as u64 / 2)?;
        kept.push(bytes);
    }
    let mut refused = 0;
    for n in SMALL..SMALL + LARGE {
        match get(&mut client, n)? {
            Reply::Bulk(found) => assert!(found == value(n, LARGE_BYTES), "key:{n}"),
            Reply::Error(text) => {
                let named = format!("TIERERR the value of key 'key:{n}'");
                assert!(text.starts_with(&named), "{text}");
                refused += 1;
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(get(&mut client, 1)?, Reply::Bulk(value(1, SMALL_BYTES)));
    // What could not be read can be, later.
    for (path, bytes) in blobs.iter().zip(kept) {
        OpenOptions::new()
            .write(true)
            .open(path)?
            .write_all_at(&bytes, 0)?;
    }
    for n in SMALL..SMALL + LARGE {
        assert_eq!(
            get(&mut client, n)?,
            Reply::Bulk(value(n, LARGE_BYTES)),
            "key:{n}"
        );
    }
    Ok(())
}
