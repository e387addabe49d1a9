//! Load, read back, save and rewrite under writes, and both ways of restoring.

use crate::job::{Job, alone, data, digest, max_memory_mib};
use crate::writers::{Writers, Written};
use anyhow::ensure;
use redrock_integration_tests::memory::MIB;
use redrock_integration_tests::mixed::Mixed;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use std::path::Path;
use std::process::Command;

const APPEND_ONLY: &[&str] = &["--appendonly", "yes"];

#[test]
fn more_data_than_memory_is_held_saved_and_restored_within_the_bound() -> anyhow::Result<()> {
    let _alone = alone();
    let data = data();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("load", folder.path(), APPEND_ONLY)?;
    job.wait_companions()?;
    load_and_read_back(&mut job, data)?;
    let written = save_and_rewrite_under_writes(&mut job, data)?;
    let dump = folder.path().join("dump.rdb");
    job.in_background("BGSAVE")?;
    job.end_phase("save at rest")?;
    let size = std::fs::metadata(&dump)?.len();
    ensure!(size > max_memory_mib() * MIB, "{size} bytes fit into RAM");
    let digest = job.digest()?;
    job.end_phase("DEBUG DIGEST")?;
    redis_loads(&dump, &digest)?;
    // What only the log has: the restart replays base and increments.
    let mut client = job.server.client()?;
    client.ok("SET after:the:save 1")?;
    job.kill()?;

    let mut job = Job::start("restart", folder.path(), APPEND_ONLY)?;
    job.end_phase("restore from base and increments")?;
    ensure!(job.client.ok("GET after:the:save")?.text() == "1");
    check(&mut job, data, &written)?;
    job.kill()?;

    let alone = tempfile::tempdir()?;
    std::fs::rename(&dump, alone.path().join("dump.rdb"))?;
    let mut job = Job::start("dump", alone.path(), &["--appendonly", "no"])?;
    job.end_phase("restore from a lone dump.rdb")?;
    ensure!(job.digest()? == digest, "the digest differs");
    check(&mut job, data, &written)?;
    job.kill()
}

fn load_and_read_back(job: &mut Job, data: Mixed) -> anyhow::Result<()> {
    println!("main_job load: {} keys", data.count);
    data.load(&mut job.client)?;
    job.end_phase("load with automatic saves and rewrites")?;
    data.wait_expired(&mut job.client)?;
    data.check(job.server.port)?;
    job.end_phase("read back")
}

fn check(job: &mut Job, data: Mixed, written: &Written) -> anyhow::Result<()> {
    data.check(job.server.port)?;
    written.check(&mut job.client)?;
    job.end_phase("read back")
}

fn save_and_rewrite_under_writes(job: &mut Job, data: Mixed) -> anyhow::Result<Written> {
    let writers = Writers::start(job.server.port, data);
    for command in ["BGSAVE", "BGREWRITEAOF"] {
        job.in_background(command)?;
        job.end_phase(&format!("{command} under writes"))?;
    }
    let written = writers.stop()?;
    println!(
        "main_job save: {} writes on {} keys of the writers' own meanwhile, as many on the data",
        written.total(),
        written.keys()
    );
    check(job, data, &written)?;
    Ok(written)
}

/// Real Redis finds the file sound, loads it, and has the same data.
fn redis_loads(dump: &Path, wanted: &str) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let checked = Command::new("redis-check-rdb").arg(dump).output()?;
    let text = String::from_utf8_lossy(&checked.stdout);
    ensure!(checked.status.success(), "redis-check-rdb: {text}");
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(dump, folder.path().join("dump.rdb"))?;
    let redis = Server::start(Kind::Redis, folder.path(), &[])?;
    let found = digest(&redis)?;
    println!("main_job save: Redis loads the file, its digest is {found}");
    ensure!(found == wanted, "ours is {wanted}");
    redis.kill()
}
