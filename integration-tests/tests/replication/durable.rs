//! WAITAOF: what a replica says of its disk.

use crate::link::{link_is, start, until};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};

/// Nothing but what the tests write goes through the link.
const NO_PINGS: [&str; 2] = ["--repl-ping-replica-period", "3600"];

fn pair(
    folders: &[tempfile::TempDir; 2],
    options: [&[&str]; 2],
) -> anyhow::Result<(Server, Server)> {
    let [first, second] = options.map(|options| [options, &NO_PINGS[..]].concat());
    let master = start(Kind::RedRock, folders[0].path(), &first)?;
    let replica = start(Kind::RedRock, folders[1].path(), &second)?;
    let mut client = replica.client()?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    link_is(&mut client, "up")?;
    Ok((master, replica))
}

/// A write, and how many replicas have it on disk after WAITAOF.
fn on_disk(client: &mut Client, timeout_ms: u64) -> anyhow::Result<Option<i64>> {
    client.ok("INCR key")?;
    let reply = client.ok(&format!("WAITAOF 0 1 {timeout_ms}"))?;
    Ok(reply.elements().get(1).and_then(Reply::int))
}

#[test]
fn a_replica_has_on_disk_what_its_append_only_log_has_synced() -> anyhow::Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let (master, replica) = pair(
        &folders,
        [&["--appendonly", "yes"], &["--appendonly", "no"]],
    )?;
    let (mut client, mut admin) = (master.client()?, replica.client()?);
    // It has the data, but nowhere that a restart is sure to find them.
    client.ok("SET key 0")?;
    assert_eq!(client.ok("WAIT 1 100000")?, Reply::Int(1));
    assert_eq!(on_disk(&mut client, 300)?, Some(0));

    admin.ok("CONFIG SET appendonly yes")?;
    // Its sync comes up to a second after the write, with nothing else that would tell of it.
    for policy in ["everysec", "always", "everysec"] {
        admin.ok(&format!("CONFIG SET appendfsync {policy}"))?;
        assert_eq!(on_disk(&mut client, 30_000)?, Some(1), "{policy}");
    }
    admin.ok("CONFIG SET appendonly no")?;
    assert_eq!(on_disk(&mut client, 300)?, Some(0));
    Ok(())
}

#[test]
fn a_wait_for_a_log_that_is_turned_off_ends_with_an_error() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes", "--appendfsync", "no"];
    let server = start(Kind::RedRock, folder.path(), &options)?;
    let (mut client, mut admin) = (server.client()?, server.client()?);
    client.ok("SET key value")?;
    client.send(&["WAITAOF", "1", "0", "0"])?;
    until("a blocked client", || {
        let clients = admin.ok("INFO clients")?.text();
        Ok(clients.contains("blocked_clients:1\r"))
    })?;
    admin.ok("CONFIG SET appendonly no")?;
    let text = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(client.receive()?, Reply::Error(text.into()));
    assert_eq!(client.ok("PING")?, Reply::Status("PONG".into()));
    Ok(())
}
