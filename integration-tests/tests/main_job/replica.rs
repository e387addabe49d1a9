//! We as replica of a real Redis that holds more than our bound.

use crate::writers::Writers;
use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, data, digest, info, stride, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};

#[test]
fn a_full_sync_from_a_larger_redis_stays_within_the_bound() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let _alone = alone();
    let data = data();
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = ["--repl-diskless-sync-delay", "0", "--rdbcompression", "no"];
    let master = Server::start(Kind::Redis, theirs.path(), &options)?;
    let mut source = master.client()?;
    data.load(&mut source)?;
    data.wait_expired(&mut source)?;

    let mut job = Job::start("replica", ours.path(), &["--appendonly", "yes"])?;
    job.wait_companions()?;
    job.end_phase("empty")?;
    job.client
        .ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    let client = &mut job.client;
    until("the full sync", || {
        Ok(info(client, "replication", "master_link_status")? == "up")
    })?;
    job.end_phase("full sync")?;
    let wanted = digest(&master)?;
    ensure!(job.digest()? == wanted, "the digest differs after the sync");
    job.end_phase("DEBUG DIGEST")?;

    let writers = Writers::start(master.port, data);
    until("some stream", || {
        let offset = info(&mut source, "replication", "master_repl_offset")?;
        Ok(offset.parse::<u64>()? > data.count * 200)
    })?;
    let written = writers.stop()?;
    until("the stream applied", || {
        Ok(source.ok("WAIT 1 1000")?.int() == Some(1))
    })?;
    job.end_phase("stream")?;
    ensure!(
        job.digest()? == digest(&master)?,
        "the digest differs after the stream"
    );
    written.check(&mut job.client)?;
    data.check_some(&mut job.client, (0..data.count).step_by(5 * stride()))?;
    job.end_phase("read back")?;
    job.kill()
}
