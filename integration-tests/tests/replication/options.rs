//! Options of replication mean on either end what they mean in Redis, under their old names too.

use crate::link::{companions_up, fill, info, link_is, same_data, start, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::collections::BTreeMap;
use std::path::Path;

const KINDS: [Kind; 2] = [Kind::Redis, Kind::RedRock];

fn master(kind: Kind, folder: &Path, more: &[&str]) -> anyhow::Result<Server> {
    let options = ["--repl-diskless-sync-delay", "0"];
    let server = start(kind, folder, &[&options[..], more].concat())?;
    let mut client = server.client()?;
    if kind == Kind::RedRock {
        companions_up(&mut client)?;
    }
    fill(&mut client, "key", 0..100, 100)?;
    Ok(server)
}

/// Options by name, those that both servers know.
fn settings(client: &mut Client) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for pattern in ["slave*", "replica*", "min-*", "repl-ping*"] {
        let texts = client.ok(&format!("CONFIG GET {pattern}"))?.elements();
        for pair in texts.chunks(2) {
            if let [name, value] = pair {
                found.insert(name.text(), value.text());
            }
        }
    }
    found.remove("replicaof");
    found.remove("slaveof");
    Ok(found)
}

/// What a replica with options of old names shows, and its master of it.
fn shown(master: &Server, replica: &Server) -> anyhow::Result<BTreeMap<String, String>> {
    let (mut above, mut below) = (master.client()?, replica.client()?);
    link_is(&mut below, "up")?;
    let mut line = String::new();
    until("a replica that is online", || {
        line = info(&mut above, "replication", "slave0")?;
        Ok(line.contains("state=online"))
    })?;
    let mut found = settings(&mut below)?;
    for field in ["slave_priority", "slave_read_only", "replica_announced"] {
        found.insert(field.into(), info(&mut below, "replication", field)?);
    }
    let place: Vec<&str> = line.split(',').take(3).collect();
    found.insert("slave0".into(), place.join(","));
    let role = above.ok("ROLE")?.elements().pop().map(Reply::elements);
    let place = role.and_then(|replicas| replicas.into_iter().next());
    let place = place.map(Reply::elements).unwrap_or_default();
    let place: Vec<String> = place.iter().take(2).map(Reply::text).collect();
    found.insert("ROLE".into(), place.join(","));
    below.ok("SLAVEOF NO ONE")?;
    found.insert("role".into(), info(&mut below, "replication", "role")?);
    Ok(found)
}

#[test]
fn old_names_are_understood_and_what_is_announced_is_shown() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let mut all = Vec::new();
    for above in KINDS {
        let folder = tempfile::tempdir()?;
        let master = master(above, folder.path(), &[])?;
        for below in KINDS {
            let folder = tempfile::tempdir()?;
            let port = master.port.to_string();
            let options: Vec<&str> = "--slave-read-only no --slave-serve-stale-data no \
                 --slave-priority 7 --slave-announce-ip 127.0.0.9 --slave-announce-port 4242 \
                 --repl-ping-slave-period 3 --slave-ignore-maxmemory no --slave-lazy-flush yes \
                 --min-slaves-to-write 0 --min-slaves-max-lag 8 --replica-announced no \
                 --slaveof 127.0.0.1"
                .split_whitespace()
                .collect();
            let replica = start(below, folder.path(), &[&options[..], &[&port]].concat())?;
            all.push(shown(&master, &replica)?);
            drop(replica);
            until("nobody is there", || {
                let count = info(&mut master.client()?, "replication", "connected_slaves")?;
                Ok(count == "0")
            })?;
        }
    }
    let real = &all[0];
    assert_eq!(real["slave0"], "ip=127.0.0.9,port=4242,state=online");
    assert_eq!(real["ROLE"], "127.0.0.9,4242");
    assert_eq!(real["slave_priority"], "7");
    assert_eq!(real["role"], "master");
    for found in &all[1..] {
        for (name, value) in real {
            assert_eq!(found.get(name), Some(value), "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_replica_comes_as_the_user_that_it_is_given() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let pairs = [
        (Kind::RedRock, Kind::Redis),
        (Kind::Redis, Kind::RedRock),
        (Kind::RedRock, Kind::RedRock),
    ];
    for (above, below) in pairs {
        let (upper, lower) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let server = master(above, upper.path(), &[])?;
        let mut client = server.client()?;
        client.ok("ACL SETUSER follower on >secret +psync +replconf +ping")?;
        client.ok("ACL SETUSER stranger on >secret +replconf +ping")?;
        let port = server.port.to_string();
        let options = ["--masteruser", "stranger", "--masterauth", "secret"];
        let of = ["--replicaof", "127.0.0.1", &port];
        let follower = start(below, lower.path(), &[&options[..], &of].concat())?;
        let mut replica = follower.client()?;
        until("a refused PSYNC", || {
            Ok(client.ok("ACL LOG")?.elements().len() > 1
                || client.ok("INFO errorstats")?.text().contains("NOPERM"))
        })?;
        let link = info(&mut replica, "replication", "master_link_status")?;
        assert_eq!(link, "down");
        replica.ok("CONFIG SET masteruser follower")?;
        link_is(&mut replica, "up")?;
        same_data(&mut client, &mut replica)?;
    }
    Ok(())
}

#[test]
fn a_full_sync_is_the_same_whatever_is_said_of_disks() -> anyhow::Result<()> {
    for (sync, log) in [("yes", "yes"), ("no", "no")] {
        let upper = tempfile::tempdir()?;
        let options = ["--repl-diskless-sync", sync, "--appendonly", log];
        let more = ["--repl-diskless-sync-max-replicas", "9"];
        // Nobody is waited for, however long the delay.
        let delay = ["--repl-diskless-sync-delay", "3600"];
        let all = [&options[..], &more, &delay].concat();
        let server = master(Kind::RedRock, upper.path(), &all)?;
        let mut client = server.client()?;
        let real = has_redis().then_some((Kind::Redis, "swapdb"));
        let ours = ["disabled", "on-empty-db", "swapdb"].map(|load| (Kind::RedRock, load));
        for (kind, load) in ours.into_iter().chain(real) {
            let lower = tempfile::tempdir()?;
            let follower = start(kind, lower.path(), &["--repl-diskless-load", load])?;
            let mut replica = follower.client()?;
            if kind == Kind::RedRock {
                companions_up(&mut replica)?;
            }
            replica.ok("SET before 1")?;
            replica.ok(&format!("REPLICAOF 127.0.0.1 {}", server.port))?;
            link_is(&mut replica, "up")?;
            same_data(&mut client, &mut replica)?;
            assert_eq!(replica.ok("EXISTS before")?.int(), Some(0));
            let kept = replica.ok("CONFIG GET repl-diskless-load")?.elements();
            assert_eq!(kept.last().map(Reply::text).as_deref(), Some(load));
            drop(follower);
        }
    }
    Ok(())
}

#[test]
fn a_backlog_for_memory_is_the_least_on_disk() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = start(
        Kind::RedRock,
        folder.path(),
        &["--repl-backlog-size", "9tb"],
    );
    anyhow::ensure!(server.is_err(), "Redis has no such unit");
    let server = start(
        Kind::RedRock,
        folder.path(),
        &["--repl-backlog-size", "90000gb"],
    )?;
    let mut client = server.client()?;
    let size = |client: &mut Client, wanted: u64| {
        until("the size", || {
            let found = info(client, "replication", "repl_backlog_size")?;
            Ok(found == wanted.to_string())
        })
    };
    size(&mut client, 90_000 << 30)?;
    client.ok("CONFIG SET repl-backlog-size 91000gb")?;
    size(&mut client, 91_000 << 30)?;
    // What is said of the disk itself counts.
    client.ok("CONFIG SET repl-backlog-disk-size 5mb")?;
    size(&mut client, 5 << 20)
}
