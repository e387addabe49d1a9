//! We as master of a real Redis: a full sync of more than our bound under writes, and a replica that
//! stands still while the stream goes on.

use crate::writers::Writers;
use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, data, digest, info, until};
use redrock_integration_tests::process::{Kind, Server, Signal, has_redis};
use redrock_integration_tests::scale::between;

fn offset(job: &mut Job) -> anyhow::Result<u64> {
    Ok(info(&mut job.client, "replication", "master_repl_offset")?.parse()?)
}

#[test]
fn a_full_sync_to_a_redis_and_a_replica_behind_stay_within_the_bound() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let _alone = alone();
    let data = data();
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut job = Job::start("master", ours.path(), &["--appendonly", "yes"])?;
    job.wait_companions()?;
    data.load(&mut job.client)?;
    data.wait_expired(&mut job.client)?;
    job.end_phase("load")?;

    let writers = Writers::start(job.server.port, data);
    let replica = Server::start(Kind::Redis, theirs.path(), &["--rdbcompression", "no"])?;
    let mut copy = replica.client()?;
    copy.ok(&format!("REPLICAOF 127.0.0.1 {}", job.server.port))?;
    until("the full sync", || {
        Ok(info(&mut copy, "replication", "master_link_status")? == "up")
    })?;
    job.end_phase("full sync under writes")?;

    replica.signal(Signal::STOP)?;
    let stopped_at = offset(&mut job)?;
    let behind = between(40, 600) << 20;
    until(
        "some stream",
        || Ok(offset(&mut job)? > stopped_at + behind),
    )?;
    job.end_phase("stream beside a replica that stands still")?;
    replica.signal(Signal::CONT)?;
    let written = writers.stop()?;
    until("the stream applied", || {
        Ok(job.client.ok("WAIT 1 1000")?.int() == Some(1))
    })?;
    job.end_phase("the replica catches up")?;
    let syncs = info(&mut job.client, "stats", "sync_full")?;
    ensure!(syncs == "1", "{syncs} full syncs");
    ensure!(job.digest()? == digest(&replica)?, "the digest differs");
    written.check(&mut copy)?;
    job.end_phase("DEBUG DIGEST")?;
    job.kill()
}
