//! Looks at servers until they are as wanted.

use anyhow::Context as _;
pub(crate) use redrock_integration_tests::daemons::{companions_up, info, until};
use redrock_integration_tests::daemons::{kill_each, processes, wait_ended};
use redrock_integration_tests::process::{Kind, Server};
pub(crate) use redrock_integration_tests::proxy::Proxy;
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

/// Starts a server that lets its data be compared; waits for nothing.
pub(crate) fn spawn(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    let all = [options, &["--enable-debug-command", "yes"]].concat();
    Server::spawn(kind, folder, &all)
}

/// As [`spawn`], and waits until it serves.
pub(crate) fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Server> {
    spawn(kind, folder, options)?.wait_ready()
}

/// Kills a server with all its companions (SIGKILL) and puts what `again` starts in its place.
pub(crate) fn replace(
    server: &mut Server,
    again: impl FnOnce() -> anyhow::Result<Server>,
) -> anyhow::Result<()> {
    let pids = processes(server);
    kill_each(&pids, 0)?;
    wait_ended(&pids)?;
    *server = again()?;
    Ok(())
}

/// As [`info`], a number.
pub(crate) fn number(client: &mut Client, section: &str, field: &str) -> anyhow::Result<u64> {
    let text = info(client, section, field)?;
    text.parse().with_context(|| format!("{field}: '{text}'"))
}

/// Waits until a replica's link to its master is `up` or `down`.
pub(crate) fn link_is(replica: &mut Client, wanted: &str) -> anyhow::Result<()> {
    until(&format!("link {wanted}"), || {
        Ok(info(replica, "replication", "master_link_status")? == wanted)
    })
}

/// Makes a replica a master and waits until it [`takes_writes`].
pub(crate) fn promote(replica: &mut Client, key: &str) -> anyhow::Result<()> {
    replica.ok("REPLICAOF NO ONE")?;
    takes_writes(replica, key)
}

/// Waits until what was a replica takes `SET key 1`: none does before its log is on after a full sync.
pub(crate) fn takes_writes(master: &mut Client, key: &str) -> anyhow::Result<()> {
    until("writes", || {
        let set = master.run(&["SET", key, "1"])?;
        let is_refused =
            matches!(&set, Reply::Error(text) if text.starts_with("MISCONF The append only"));
        anyhow::ensure!(is_refused || matches!(set, Reply::Status(_)), "{set:?}");
        Ok(!is_refused)
    })
}

/// Waits until the replica has all that the master wrote, then compares the data.
pub(crate) fn same_data(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    // Something to be acknowledged by this very client.
    master.ok("INCR same-data")?;
    let reached = master.ok("WAIT 1 100000")?.int();
    anyhow::ensure!(reached == Some(1), "{reached:?} replicas have everything");
    let (theirs, ours) = (master.ok("DEBUG DIGEST")?, replica.ok("DEBUG DIGEST")?);
    anyhow::ensure!(theirs == ours, "digests differ: {theirs:?}, {ours:?}");
    anyhow::ensure!(theirs.text() != "0".repeat(40), "there are no data");
    Ok(())
}

/// Full syncs and partial ones that a master has served.
pub(crate) fn syncs(master: &mut Client) -> anyhow::Result<(u64, u64)> {
    let full = number(master, "stats", "sync_full")?;
    Ok((full, number(master, "stats", "sync_partial_ok")?))
}

/// Waits until INFO, which our server brings up to date each second, shows these counts.
pub(crate) fn synced(master: &mut Client, wanted: (u64, u64)) -> anyhow::Result<()> {
    let mut found = (0, 0);
    let shown = until("the syncs", || {
        found = syncs(master)?;
        Ok(found == wanted)
    });
    shown.with_context(|| format!("{found:?} instead of {wanted:?}"))
}

/// Sets keys `prefix:from..to` with values of about `bytes` bytes, pipelined.
pub(crate) fn fill(
    client: &mut Client,
    prefix: &str,
    range: std::ops::Range<u64>,
    bytes: usize,
) -> anyhow::Result<()> {
    let keys: Vec<u64> = range.collect();
    for part in keys.chunks(200) {
        for n in part {
            let head = format!("{n}-");
            let value = head.repeat(bytes / head.len() + 1);
            client.send(&["SET", &format!("{prefix}:{n}"), &value])?;
        }
        for _ in part {
            client.receive()?;
        }
    }
    Ok(())
}

/// Collections of each type.
pub(crate) fn collections(client: &mut Client) -> anyhow::Result<()> {
    for n in 0..300 {
        client.send(&["RPUSH", "list", &format!("e{n}")])?;
        client.send(&["HSET", "hash", &format!("f{n}"), "v"])?;
        client.send(&["ZADD", "z", &n.to_string(), &format!("m{n}")])?;
        client.send(&["SADD", "set", &format!("m{n}")])?;
        client.send(&["SET", &format!("ttl:{n}"), "v", "PX", "100000000"])?;
    }
    for _ in 0..5 * 300 {
        client.receive()?;
    }
    Ok(())
}
