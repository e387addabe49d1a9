//! Links between masters and replicas over TLS: ours, and those of a real Redis 7.0.

use anyhow::{Context as _, ensure};
use redrock_integration_tests::certificates::Certificates;
use redrock_integration_tests::daemons::{companion, companions_up, info, kill_9, signal, until};
use redrock_integration_tests::process::{Kind, Server, Signal, has_redis};
use redrock_integration_tests::resp::Client;
use std::path::Path;

/// A server whose links go over TLS, and a client without.
fn start(
    kind: Kind,
    folder: &Path,
    made: &Certificates,
    name: &str,
) -> anyhow::Result<(Server, u16, Client)> {
    let (tls_port, words) = made.listening(name)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let more = ["--tls-replication", "yes", "--enable-debug-command", "yes"];
    let server = Server::start(kind, folder, &[&words[..], &more].concat())?;
    let mut client = server.client()?;
    if kind == Kind::RedRock {
        companions_up(&mut client)?;
    }
    Ok((server, tls_port, client))
}

fn link_is(replica: &mut Client, wanted: &str) -> anyhow::Result<()> {
    until(&format!("link {wanted}"), || {
        Ok(info(replica, "replication", "master_link_status")? == wanted)
    })
}

/// Waits until the replica has all, then compares.
fn same_data(master: &mut Client, replica: &mut Client) -> anyhow::Result<()> {
    master.ok("INCR same-data")?;
    let reached = master.ok("WAIT 1 100000")?.int();
    ensure!(reached == Some(1), "{reached:?} replicas have everything");
    let (theirs, ours) = (master.ok("DEBUG DIGEST")?, replica.ok("DEBUG DIGEST")?);
    ensure!(theirs == ours, "digests differ: {theirs:?}, {ours:?}");
    Ok(())
}

fn fill(client: &mut Client, count: usize, bytes: usize) -> anyhow::Result<()> {
    let first = client.ok("INCRBY filled 0")?.int().unwrap_or(0) as usize;
    for n in first..first + count {
        let value = format!("{n}-").repeat(bytes / 4);
        client.send(&["SET", &format!("key:{n}"), &value])?;
    }
    for _ in 0..count {
        client.receive()?;
    }
    client.ok(&format!("INCRBY filled {count}"))?;
    Ok(())
}

/// Waits until INFO, which our server brings up to date each second, shows these full and partial
/// syncs.
fn synced(master: &mut Client, wanted: (u64, u64)) -> anyhow::Result<()> {
    until(&format!("the syncs {wanted:?}"), || {
        let full = info(master, "stats", "sync_full")?.parse()?;
        let partial = info(master, "stats", "sync_partial_ok")?.parse()?;
        Ok((full, partial) == wanted)
    })
}

fn replica_of(replica: &mut Client, port: u16) -> anyhow::Result<()> {
    replica.ok(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    link_is(replica, "up")
}

#[test]
fn replicas_are_synchronized_in_every_direction() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let made = Certificates::new()?;
    let (us, redis) = (Kind::RedRock, Kind::Redis);
    for (of_master, of_replica, name) in [
        (us, redis, "redis"),
        (redis, us, "redis"),
        (us, us, "server"),
    ] {
        let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
        let (master, port, mut one) = start(of_master, folders.0.path(), &made, name)?;
        let (_replica, replica_port, mut two) = start(of_replica, folders.1.path(), &made, name)?;
        fill(&mut one, 3000, 10_000)?;
        replica_of(&mut two, port)?;
        same_data(&mut one, &mut two)?;
        fill(&mut one, 3000, 1000)?;
        same_data(&mut one, &mut two)?;
        // Its port for TLS is the one that it tells.
        let known = info(&mut one, "replication", "slave0")?;
        ensure!(
            known.contains(&format!("port={replica_port},state=online")),
            "{known}"
        );
        let role = one.ok("ROLE")?.elements();
        let told = role[2].clone().elements()[0].clone().elements()[1].text();
        assert_eq!(told, replica_port.to_string());
        assert_eq!(
            info(&mut two, "replication", "master_port")?,
            port.to_string()
        );
        // The link comes over TLS, and goes on where it was after a kill.
        let list = one.ok("CLIENT LIST TYPE replica")?.text();
        ensure!(
            list.contains(&format!(" laddr=127.0.0.1:{port} ")),
            "{list}"
        );
        synced(&mut one, (1, 0))?;
        assert_eq!(one.ok("CLIENT KILL TYPE replica")?.int(), Some(1));
        synced(&mut one, (1, 1))?;
        link_is(&mut two, "up")?;
        same_data(&mut one, &mut two)?;
        let text = master.log_text();
        ensure!(!text.contains("Error accepting"), "{text}");
    }
    Ok(())
}

#[test]
fn the_death_of_either_end_ends_the_link_and_the_next_one_goes_on() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_master, port, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    let (replica, _, mut two) = start(Kind::Redis, folders.1.path(), &made, "redis")?;
    replica_of(&mut two, port)?;
    fill(&mut one, 500, 1000)?;
    same_data(&mut one, &mut two)?;
    // Our agent dies.
    let agent = companion(&mut one, "replica")?;
    kill_9(agent)?;
    until("the link is gone", || {
        Ok(
            info(&mut two, "replication", "master_link_status")? == "down"
                || companion(&mut one, "replica").is_ok_and(|pid| pid != agent),
        )
    })?;
    link_is(&mut two, "up")?;
    fill(&mut one, 500, 1000)?;
    same_data(&mut one, &mut two)?;
    assert_eq!(info(&mut one, "replication", "connected_slaves")?, "1");
    // An agent that stands still is no reason to keep who is killed.
    let agent = companion(&mut one, "replica")?;
    signal(agent, Signal::STOP)?;
    assert_eq!(one.ok("CLIENT KILL TYPE replica")?.int(), Some(1));
    link_is(&mut two, "down")?;
    signal(agent, Signal::CONT)?;
    link_is(&mut two, "up")?;
    same_data(&mut one, &mut two)?;
    // The replica dies.
    replica.kill()?;
    until("it is gone from the list", || {
        Ok(one.ok("CLIENT LIST TYPE replica")?.text().is_empty()
            && info(&mut one, "replication", "connected_slaves")? == "0")
    })
}

#[test]
fn a_replica_that_takes_nothing_holds_no_memory_and_goes_when_its_time_is_up() -> anyhow::Result<()>
{
    if !has_redis() {
        return Ok(());
    }
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_master, port, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    let (replica, _, mut two) = start(Kind::Redis, folders.1.path(), &made, "redis")?;
    replica_of(&mut two, port)?;
    same_data(&mut one, &mut two)?;
    signal(replica.pid(), Signal::STOP)?;
    for _ in 0..8 {
        fill(&mut one, 1000, 10_000)?;
    }
    let list = one.ok("CLIENT LIST TYPE replica")?.text();
    let memory = list
        .split(' ')
        .find_map(|word| word.strip_prefix("tot-mem="));
    let memory: u64 = memory.context("tot-mem")?.trim().parse()?;
    ensure!(memory < 300_000, "{list}");
    one.ok("CONFIG SET repl-timeout 5")?;
    until("it is given up", || {
        Ok(one.ok("CLIENT LIST TYPE replica")?.text().is_empty())
    })?;
    one.ok("CONFIG SET repl-timeout 60")?;
    signal(replica.pid(), Signal::CONT)?;
    until("it is back", || {
        Ok(info(&mut one, "replication", "connected_slaves")? == "1")
    })?;
    same_data(&mut one, &mut two)
}

#[test]
fn a_link_needs_the_right_certificates_and_gets_them_at_run_time() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (master, port, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    let (replica, _, mut two) = start(Kind::RedRock, folders.1.path(), &made, "stranger")?;
    fill(&mut one, 10, 10)?;
    two.ok(&format!("REPLICAOF 127.0.0.1 {port}"))?;
    // The master does not know who signed that certificate.
    until("it is refused", || {
        Ok(master.log_text().contains("UnknownIssuer"))
    })?;
    until("the reason is told", || {
        let text = replica.log_text();
        Ok(text.contains("the link to the master is down") && text.contains("UnknownCA"))
    })?;
    // A certificate for links alone.
    let (cert, key) = (made.path("client.crt"), made.path("client.key"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let words = ["tls-client-cert-file", &cert, "tls-client-key-file", &key];
    assert_eq!(
        two.run(&[&["CONFIG", "SET"], &words[..]].concat())?.text(),
        "OK"
    );
    link_is(&mut two, "up")?;
    same_data(&mut one, &mut two)?;
    // A master whose certificate is none for us is no master.
    let other = made.path("other.crt").display().to_string();
    assert_eq!(
        two.run(&["CONFIG", "SET", "tls-ca-cert-file", &other])?
            .text(),
        "OK"
    );
    one.ok("CLIENT KILL TYPE replica")?;
    until("it is not talked to", || {
        Ok(replica
            .log_text()
            .contains("invalid peer certificate: UnknownIssuer"))
    })?;
    link_is(&mut two, "down")?;
    let ca = made.path("ca.crt").display().to_string();
    assert_eq!(
        two.run(&["CONFIG", "SET", "tls-ca-cert-file", &ca])?.text(),
        "OK"
    );
    link_is(&mut two, "up")?;
    same_data(&mut one, &mut two)?;
    // And without TLS, on the other port.
    two.ok("CONFIG SET tls-replication no")?;
    two.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    link_is(&mut two, "up")?;
    same_data(&mut one, &mut two)
}

#[test]
fn a_failover_changes_the_roles_over_tls() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_one, port, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    let (_two, other_port, mut two) = start(Kind::RedRock, folders.1.path(), &made, "redis")?;
    fill(&mut one, 100, 100)?;
    replica_of(&mut two, port)?;
    same_data(&mut one, &mut two)?;
    one.ok(&format!("FAILOVER TO 127.0.0.1 {other_port}"))?;
    until("the roles have changed", || {
        Ok(info(&mut one, "replication", "role")? == "slave"
            && info(&mut two, "replication", "role")? == "master")
    })?;
    link_is(&mut one, "up")?;
    same_data(&mut two, &mut one)?;
    assert_eq!(
        info(&mut one, "replication", "master_port")?,
        other_port.to_string()
    );
    Ok(())
}

#[test]
fn a_replica_begins_with_a_link_over_tls_after_a_restart() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_master, port, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    fill(&mut one, 100, 100)?;
    let mut words = made.options("redis");
    words.extend(["--replicaof", &format!("127.0.0.1 {port}")].map(str::to_owned));
    words.extend(["--tls-replication", "yes", "--enable-debug-command", "yes"].map(str::to_owned));
    words.extend(["--appendonly", "yes"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for _ in 0..2 {
        let mut replica = Server::start(Kind::RedRock, folders.1.path(), &words)?;
        let mut two = replica.client()?;
        link_is(&mut two, "up")?;
        fill(&mut one, 10, 10)?;
        same_data(&mut one, &mut two)?;
        // It listens without TLS only.
        let known = info(&mut one, "replication", "slave0")?;
        ensure!(
            known.contains(&format!("port={},", replica.port)),
            "{known}"
        );
        // As with Redis, no server ends in order while its log is begun.
        until("an end in order", || Ok(two.run(&["SHUTDOWN"]).is_err()))?;
        replica.wait_exit()?;
    }
    synced(&mut one, (1, 1))
}

#[test]
fn keys_migrate_over_tls_where_tls_cluster_says_so() -> anyhow::Result<()> {
    let made = Certificates::new()?;
    let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (_one, _, mut one) = start(Kind::RedRock, folders.0.path(), &made, "server")?;
    let (_two, port, mut two) = start(Kind::RedRock, folders.1.path(), &made, "server")?;
    fill(&mut one, 3, 3_000_000)?;
    let migrate = format!("MIGRATE 127.0.0.1 {port} {{}} 0 5000");
    let error = one.ok(&migrate.replace("{}", "key:0"));
    ensure!(error.is_err(), "a target that speaks TLS only: {error:?}");
    one.ok("CONFIG SET tls-cluster yes")?;
    let before = one.ok("DEBUG DIGEST-VALUE key:0 key:1 key:2")?;
    for key in ["key:0", "key:1", "key:2"] {
        assert_eq!(one.ok(&migrate.replace("{}", key))?.text(), "OK");
    }
    ensure!(two.ok("DEBUG DIGEST-VALUE key:0 key:1 key:2")? == before);
    assert_eq!(one.ok("EXISTS key:0 key:1 key:2")?.int(), Some(0));
    // A target that is none of ours.
    let other = made.path("other.crt").display().to_string();
    assert_eq!(
        one.run(&["CONFIG", "SET", "tls-ca-cert-file", &other])?
            .text(),
        "OK"
    );
    one.ok("SET more 1")?;
    until("no connection is kept", || {
        Ok(info(&mut one, "stats", "migrate_cached_sockets")? == "0")
    })?;
    let error = one
        .ok(&migrate.replace("{}", "more"))
        .unwrap_err()
        .to_string();
    ensure!(
        error.contains("IOERR error or timeout connecting"),
        "{error}"
    );
    assert_eq!(one.ok("EXISTS more")?.int(), Some(1));
    Ok(())
}
