//! Load, read back, save and rewrite under writes, and both ways of restoring.

use crate::writers::{Writers, Written};
use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, data, digest, stride};
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
    job.in_background("BGSAVE")?;
    job.end_phase("BGSAVE at rest")?;
    let digest = job.digest()?;
    job.end_phase("DEBUG DIGEST")?;
    let dump = folder.path().join("dump.rdb");
    redis_loads(&dump, &digest)?;
    // What only the log has.
    job.client.ok("SET after:the:save 1")?;
    job.kill()?;

    let mut job = Job::start("restart", folder.path(), APPEND_ONLY)?;
    job.end_phase("restore from base and increments")?;
    ensure!(job.client.ok("GETDEL after:the:save")?.text() == "1");
    compare(&mut job, data, &written, &digest)?;
    job.kill()?;

    let lone = tempfile::tempdir()?;
    std::fs::rename(&dump, lone.path().join("dump.rdb"))?;
    drop(folder);
    let mut job = Job::start("dump", lone.path(), &["--appendonly", "no"])?;
    job.end_phase("restore from a lone dump.rdb")?;
    compare(&mut job, data, &written, &digest)?;
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

/// All by digest, and by value the writers' own keys and some of the data.
fn compare(job: &mut Job, data: Mixed, written: &Written, digest: &str) -> anyhow::Result<()> {
    let found = job.digest()?;
    ensure!(found == digest, "the digest is {found}, not {digest}");
    written.check(&mut job.client)?;
    data.check_some(&mut job.client, (0..data.count).step_by(5 * stride()))?;
    job.end_phase("digest and reads")
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
    written.check(&mut job.client)?;
    data.check_some(&mut job.client, (0..data.count).step_by(5 * stride()))?;
    job.end_phase("reads")?;
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
