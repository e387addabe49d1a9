//! Scripts and EXECs that write a multiple of the bound; live, after a restart, and at a replica.

use anyhow::ensure;
use redrock_integration_tests::job::{Job, alone, digest, info, long_wait, max_memory_mib, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::between;

/// No one else may say BUSY while such a script runs.
const PATIENT: &[&str] = &["--appendonly", "yes", "--busy-reply-threshold", "0"];

const LARGE_VALUES: &str = "local value = string.rep('x', 100000)
    for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'large:' .. i, value .. i) end
    return redis.call('GET', 'large:1')";

const SMALL_VALUES: &str = "for i = 1, tonumber(ARGV[1]) do
        redis.call('SET', 'small:' .. i, 'a value of some length, number ' .. i)
    end
    return redis.call('GET', 'small:1')";

/// Values of 100 KB: twice the bound, up to ten times.
fn large_count() -> u64 {
    max_memory_mib() * 10 * between(2, 10)
}

fn eval(client: &mut Client, script: &str, count: u64) -> anyhow::Result<String> {
    client.set_reply_wait(long_wait())?;
    match client.run(&["EVAL", script, "0", &count.to_string()])? {
        Reply::Error(text) => anyhow::bail!("EVAL: {text}"),
        reply => Ok(reply.text()),
    }
}

fn check(client: &mut Client, large: u64, small: u64) -> anyhow::Result<()> {
    for i in (1..=large).step_by(97) {
        let value = client.ok(&format!("GET large:{i}"))?.text();
        ensure!(
            value.len() > 100_000 && value.ends_with(&format!("x{i}")),
            "large:{i}"
        );
    }
    for i in (1..=small).step_by(9973) {
        let value = client.ok(&format!("GET small:{i}"))?.text();
        ensure!(
            value.ends_with(&format!("number {i}")),
            "small:{i}: {value}"
        );
    }
    Ok(())
}

#[test]
fn scripts_and_transactions_that_write_a_multiple_of_the_bound_stay_within_it() -> anyhow::Result<()>
{
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut job = Job::start("script", folder.path(), PATIENT)?;
    job.wait_companions()?;
    let (large, small) = (large_count(), between(300_000, 3_000_000));
    ensure!(eval(&mut job.client, LARGE_VALUES, large)?.ends_with("x1"));
    job.end_phase("a script with large values")?;
    ensure!(eval(&mut job.client, SMALL_VALUES, small)?.ends_with("number 1"));
    job.end_phase("a script with small values")?;
    // Copies: what is queued is little, what it makes is not.
    let copies = large / 2;
    job.client.ok("MULTI")?;
    for i in 1..=copies {
        job.client.ok(&format!("COPY large:1 copy:{i}"))?;
    }
    let replies = job.client.ok("EXEC")?.elements();
    let other = replies.iter().find(|reply| **reply != Reply::Int(1));
    ensure!(other.is_none(), "{other:?}");
    job.end_phase("EXEC")?;
    check(&mut job.client, large, small)?;
    let wanted = job.digest()?;
    job.end_phase("reads and digest")?;
    job.kill()?;

    let mut job = Job::start("script", folder.path(), PATIENT)?;
    job.end_phase("restart")?;
    let keys = job.client.ok("DBSIZE")?.int();
    ensure!(keys == Some((large + small + copies) as i64), "{keys:?}");
    ensure!(job.digest()? == wanted, "the digest differs");
    job.end_phase("digest")?;
    job.kill()
}

#[test]
fn a_replica_runs_a_transaction_larger_than_its_bound_within_it() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let _alone = alone();
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = [
        "--repl-diskless-sync-delay",
        "0",
        "--client-output-buffer-limit",
        "replica 0 0 0",
    ];
    let master = Server::start(Kind::Redis, theirs.path(), &options)?;
    let mut source = master.client()?;
    let mut job = Job::start("replica", ours.path(), PATIENT)?;
    job.wait_companions()?;
    job.client
        .ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    until("the link", || {
        Ok(info(&mut job.client, "replication", "master_link_status")? == "up")
    })?;
    let large = large_count() / 2;
    eval(&mut source, LARGE_VALUES, large)?;
    eval(&mut source, SMALL_VALUES, 100_000)?;
    until("the stream applied", || {
        Ok(source.ok("WAIT 1 1000")?.int() == Some(1))
    })?;
    job.end_phase("transactions of the master")?;
    check(&mut job.client, large, 100_000)?;
    let wanted = digest(&master)?;
    ensure!(job.digest()? == wanted, "the digest differs");
    job.end_phase("reads and digest")?;
    job.kill()?;
    drop(master);

    let mut job = Job::start("replica", ours.path(), PATIENT)?;
    job.end_phase("restart")?;
    ensure!(
        job.digest()? == wanted,
        "the digest differs after a restart"
    );
    job.kill()
}
