//! All of the data at once: read and written evenly and unevenly, flushed, expired.

use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, data, info, long_wait, until};
use redrock_integration_tests::memory::MIB;
use redrock_integration_tests::mixed::Mixed;
use redrock_integration_tests::resp::{Client, encode};
use redrock_integration_tests::scale::between;
use std::time::Instant;

/// About what a key of the mixed data has on the average, bytes.
const MIXED_BYTES: u64 = 1200;

const APPEND_ONLY: &[&str] = &["--appendonly", "yes"];

/// A place among `count`, the low ones by far the most frequent (Zipf's law, exponent 0.99).
fn skewed(random: f64, count: u64) -> u64 {
    // The inverse of the distribution's integral; exact enough for load.
    let exponent = 1.0 - 0.99;
    let top = (count as f64).powf(exponent);
    let place = ((top - 1.0) * random + 1.0).powf(1.0 / exponent);
    (place as u64).saturating_sub(1).min(count - 1)
}

/// Reads and writes `data` in place, at the places that `pick` names.
fn touch(
    client: &mut Client,
    data: Mixed,
    operations: u64,
    mut pick: impl FnMut(u64) -> u64,
) -> anyhow::Result<()> {
    for round in 0..operations / 32 {
        let mut bytes = Vec::new();
        let mut sent = 0;
        for i in 0..32 {
            let at = pick(round * 32 + i);
            if i % 2 == 0 {
                sent += u64::from(data.write_again(&mut bytes, at));
            } else {
                let key = data.key(at);
                encode(&mut bytes, &[b"DUMP".as_slice(), &key]);
                sent += 1;
            }
        }
        client.send_raw(&bytes)?;
        for _ in 0..sent {
            client.receive()?;
        }
    }
    Ok(())
}

#[test]
fn reads_and_writes_flushes_and_saves_stay_within_the_bound() -> anyhow::Result<()> {
    let _alone = alone();
    let data = data();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("bulk", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    data.load(&mut job.client)?;
    job.end_phase("load")?;
    let operations = between(60_000, 1_000_000);
    touch(&mut job.client, data, operations, |i| i * 7919 % data.count)?;
    job.end_phase("even reads and writes")?;
    touch(&mut job.client, data, operations, |i| {
        let random = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64;
        // The first ones are the largest collections, which would be all that there is to do.
        (skewed(random, data.count) + 17) % data.count
    })?;
    job.end_phase("skewed reads and writes")?;
    data.check_some(&mut job.client, (0..data.count).step_by(101))?;

    // A flush in the middle of a save: the save has all, the server nothing.
    job.client.set_reply_wait(long_wait())?;
    let saves = info(&mut job.client, "persistence", "rdb_saves")?;
    let client = &mut job.client;
    // Saves and rewrites of its own come first.
    until("a save's start", || Ok(client.ok("BGSAVE").is_ok()))?;
    job.client.ok("FLUSHALL")?;
    ensure!(job.client.ok("DBSIZE")?.int() == Some(0));
    let client = &mut job.client;
    until("the save", || {
        Ok(info(client, "persistence", "rdb_bgsave_in_progress")? == "0")
    })?;
    ensure!(info(&mut job.client, "persistence", "rdb_last_bgsave_status")? == "ok");
    ensure!(info(&mut job.client, "persistence", "rdb_saves")? != saves);
    job.end_phase("FLUSHALL during BGSAVE")?;
    data.load(&mut job.client)?;
    job.client.ok("FLUSHALL")?;
    job.end_phase("load and FLUSHALL")?;
    job.kill()
}

/// What the bound is in the largest load, MiB.
const INGEST_MEMORY_MIB: u64 = 200;

/// Without log and saves: of data a hundred times the bound the disk is to hold one copy.
#[test]
fn ingest_of_many_times_the_bound_stays_within_it() -> anyhow::Result<()> {
    let _alone = alone();
    let times = between(10, 100);
    let data = Mixed {
        count: times * INGEST_MEMORY_MIB * MIB / MIXED_BYTES,
        long_bytes: 1000,
        ..data()
    };
    let folder = tempfile::tempdir()?;
    let none: &[&str] = &["--save", ""];
    let mut job = Job::start_within(INGEST_MEMORY_MIB, "ingest", folder.path(), none)?;
    job.wait_companions()?;
    let began = Instant::now();
    data.load(&mut job.client)?;
    let rate = data.count as f64 / began.elapsed().as_secs_f64();
    println!("ingest: {times} times the bound, {rate:.0} keys a second");
    job.end_phase("load")?;
    data.wait_expired(&mut job.client)?;
    let step = usize::try_from(data.count / 5000)?.max(1);
    data.check_some(&mut job.client, (0..data.count).step_by(step))?;
    job.end_phase("some of it read back")?;
    job.kill()
}

#[test]
fn the_expiry_of_everything_at_once_stays_within_the_bound() -> anyhow::Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("expiry", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    let count = between(400_000, 5_000_000);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
    let due = (now_ms + u128::from(between(12_000, 180_000))).to_string();
    let mut number = 0;
    while number < count {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            number += 1;
            let key = format!("volatile:{number}");
            let value = format!("a value of a volatile key, number {number:0150}");
            encode(&mut bytes, &["SET", &key, &value, "PXAT", &due]);
        }
        job.client.send_raw(&bytes)?;
        for _ in 0..1000 {
            job.client.receive()?;
        }
    }
    let there = job.client.ok("DBSIZE")?.int().unwrap_or(0);
    job.end_phase("load of volatile keys")?;
    ensure!(there > 0, "nothing is left to expire");
    let client = &mut job.client;
    until("all expired", || Ok(client.ok("DBSIZE")?.int() == Some(0)))?;
    job.end_phase("expiry")?;
    let expired: u64 = info(&mut job.client, "stats", "expired_keys")?.parse()?;
    ensure!(expired >= there as u64, "{expired} of {there} keys expired");
    job.kill()
}
