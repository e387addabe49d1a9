//! `replica-read-only no`: a replica's own clients write, as in Redis for as long as nothing of the master's
//! takes its place.

use crate::link::{Proxy, companions_up, fill, info, link_is, start, synced, until};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

const WARNING: &str = "this replica takes writes of its own clients";

/// A master that knows nothing of before when it is started.
fn master(kind: Kind, folder: &Path, port: u16) -> anyhow::Result<Server> {
    let options = ["--save", "", "--repl-diskless-sync-delay", "0"];
    let server = Server::spawn_on(port, kind, folder, &options)?.wait_ready()?;
    if kind == Kind::RedRock {
        companions_up(&mut server.client()?)?;
    }
    Ok(server)
}

fn value(client: &mut Client, key: &str) -> anyhow::Result<String> {
    Ok(client.ok(&format!("GET {key}"))?.text())
}

/// Waits until a replica has what its master writes last.
fn caught_up(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    let mark = master.ok("INCR mark")?.int();
    let mark = mark.unwrap_or(0).to_string();
    until(
        "the master's writes",
        || Ok(value(replica, "mark")? == mark),
    )
}

fn writes_of_its_own(kind: Kind) -> anyhow::Result<()> {
    let folders = [
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    ];
    let port = free_port()?;
    let top = master(kind, folders[0].path(), port)?;
    let mut client = top.client()?;
    fill(&mut client, "key", 0..100, 100)?;
    let proxy = Proxy::to(port)?;
    let (above, ours) = (proxy.port.to_string(), free_port()?);
    let options = [
        "--appendonly",
        "yes",
        "--replica-read-only",
        "no",
        "--replicaof",
        "127.0.0.1",
        &above,
    ];
    let start_ours =
        || Server::spawn_on(ours, Kind::RedRock, folders[1].path(), &options)?.wait_ready();
    let server = start_ours()?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    let below = ours.to_string();
    let of = ["--replicaof", "127.0.0.1", &below];
    let last = start(Kind::RedRock, folders[2].path(), &of)?;
    let mut leaf = last.client()?;
    link_is(&mut leaf, "up")?;
    assert_eq!(info(&mut replica, "replication", "slave_read_only")?, "0");
    assert_eq!(server.log_text().matches(WARNING).count(), 1);

    // Its clients see what they write, its replicas and the stream nothing of it.
    replica.ok("SET own 1")?;
    replica.ok("SET key:1 own")?;
    replica.ok("RPUSH own-list a b c")?;
    replica.ok("DEL key:2")?;
    assert_eq!(value(&mut replica, "own")?, "1");
    assert_eq!(value(&mut replica, "key:1")?, "own");
    caught_up(&mut client, &mut leaf)?;
    for key in ["own", "own-list"] {
        assert_eq!(leaf.ok(&format!("EXISTS {key}"))?.int(), Some(0), "{key}");
    }
    assert!(leaf.ok("STRLEN key:1")?.int() > Some(90));
    assert_eq!(leaf.ok("EXISTS key:2")?.int(), Some(1));
    let offsets = |client: &mut Client| info(client, "replication", "master_repl_offset");
    until("equal offsets", || {
        Ok(offsets(&mut replica)? == offsets(&mut client)?)
    })?;

    // The master's writes count; a link that goes on takes nothing back.
    client.ok("APPEND key:3 more")?;
    client.ok("SET key:1 theirs")?;
    proxy.cut();
    link_is(&mut replica, "down")?;
    proxy.heal();
    link_is(&mut replica, "up")?;
    caught_up(&mut client, &mut replica)?;
    assert_eq!(value(&mut replica, "key:1")?, "theirs");
    assert_eq!(value(&mut replica, "own")?, "1");
    synced(&mut client, (1, 1))?;

    // A restart undoes them: they are in no log.
    server.kill_family()?;
    let server = start_ours()?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    caught_up(&mut client, &mut replica)?;
    assert_eq!(replica.ok("EXISTS own own-list")?.int(), Some(0));
    assert_eq!(replica.ok("EXISTS key:2")?.int(), Some(1));

    // So does a full sync.
    replica.ok("SET own 2")?;
    match kind {
        Kind::Redis => top.kill()?,
        Kind::RedRock => top.kill_family()?,
    }
    let top = master(kind, folders[0].path(), port)?;
    let mut client = top.client()?;
    fill(&mut client, "other", 0..100, 100)?;
    until("the new master's data", || {
        Ok(replica.ok("EXISTS other:99 own")?.int() == Some(1)
            && replica.ok("EXISTS own")?.int() == Some(0))
    })?;
    assert_eq!(replica.ok("EXISTS key:1")?.int(), Some(0));

    // And it may be taken back.
    replica.ok("CONFIG SET replica-read-only yes")?;
    let refused = replica.run(&["SET", "own", "3"])?;
    assert!(
        matches!(&refused, Reply::Error(text) if text.starts_with("READONLY ")),
        "{refused:?}"
    );
    replica.ok("CONFIG SET replica-read-only no")?;
    replica.ok("SET own 4")?;
    assert_eq!(server.log_text().matches(WARNING).count(), 2);
    Ok(())
}

#[test]
fn writes_of_a_replicas_own_clients_are_local_behind_a_real_master() -> anyhow::Result<()> {
    match has_redis() {
        true => writes_of_its_own(Kind::Redis),
        false => Ok(()),
    }
}

#[test]
fn writes_of_a_replicas_own_clients_are_local_behind_one_of_ours() -> anyhow::Result<()> {
    writes_of_its_own(Kind::RedRock)
}
