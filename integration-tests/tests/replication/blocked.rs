//! Clients that wait while their server becomes a replica: told so and disconnected, as by Redis.

use crate::link::until;
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};

fn kinds() -> Vec<Kind> {
    match has_redis() {
        true => vec![Kind::Redis, Kind::RedRock],
        false => vec![Kind::RedRock],
    }
}

const WAITS: [&str; 4] = [
    "BLPOP none 0",
    "BLMOVE none other LEFT RIGHT 0",
    "BZPOPMIN none 1000",
    "WAIT 1 0",
];

fn send(client: &mut Client, line: &str) -> anyhow::Result<()> {
    client.send(&line.split(' ').collect::<Vec<_>>())
}

/// What each of [`WAITS`] gets when `demote` runs, and whether the connection ends with it.
fn disconnected(server: &Server, demote: &[&str]) -> anyhow::Result<Vec<(Reply, bool)>> {
    let mut idle = server.client()?;
    idle.ok("PING")?;
    let mut waiting = Vec::new();
    for line in WAITS {
        let mut client = server.client()?;
        client.ok("SET key value")?;
        send(&mut client, line)?;
        // Nobody reads it any more.
        send(&mut client, "PING")?;
        waiting.push(client);
    }
    let mut admin = server.client()?;
    until("blocked clients", || {
        let clients = admin.ok("INFO clients")?.text();
        Ok(clients.contains("blocked_clients:4\r"))
    })?;
    for line in demote {
        admin.ok(line)?;
    }
    let mut found = Vec::new();
    for mut client in waiting {
        let reply = client.receive()?;
        found.push((reply, client.receive().is_err()));
    }
    // Who does not wait stays.
    assert_eq!(idle.ok("PING")?, Reply::Status("PONG".into()));
    let text = admin.ok("INFO")?.text();
    anyhow::ensure!(text.contains("blocked_clients:0\r"), "{text}");
    anyhow::ensure!(text.contains("errorstat_UNBLOCKED:count=4\r"), "{text}");
    Ok(found)
}

#[test]
fn clients_that_wait_are_disconnected_when_the_server_becomes_a_replica() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    // Nobody listens there: the role changes all the same.
    for demote in [
        &["REPLICAOF 127.0.0.1 1"][..],
        // As Sentinel does it.
        &[
            "MULTI",
            "REPLICAOF 127.0.0.1 1",
            "CLIENT KILL TYPE pubsub",
            "EXEC",
        ],
    ] {
        let mut both = Vec::new();
        for kind in [Kind::Redis, Kind::RedRock] {
            let folder = tempfile::tempdir()?;
            let server = Server::start(kind, folder.path(), &[])?;
            both.push(disconnected(&server, demote)?);
        }
        assert_eq!(both[0], both[1], "{demote:?}");
        assert!(both[0].iter().all(|(reply, closed)| {
            let told = matches!(reply, Reply::Error(text) if text.starts_with("UNBLOCKED force"));
            told && *closed
        }));
    }
    Ok(())
}

#[test]
fn a_queued_script_that_may_write_is_refused_on_what_has_become_a_replica() -> anyhow::Result<()> {
    const READ_ONLY: &str = "READONLY You can't write against a read only replica.";
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let server = Server::start(kind, folder.path(), &[])?;
        let (mut says, mut hides) = (server.client()?, server.client()?);
        for (client, script) in [
            (&mut says, "#!lua\nreturn 1"),
            (&mut hides, "return redis.call('set', KEYS[1], 1)"),
        ] {
            client.ok("MULTI")?;
            let queued = client.run(&["EVAL", script, "1", "key"])?;
            assert_eq!(queued, Reply::Status("QUEUED".into()), "{kind:?}");
        }
        server.client()?.ok("REPLICAOF 127.0.0.1 1")?;
        let refused = format!("EXECABORT Transaction discarded because of: {READ_ONLY}");
        assert_eq!(says.run(&["EXEC"])?, Reply::Error(refused), "{kind:?}");
        let replies = hides.ok("EXEC")?.elements();
        let told = matches!(&replies[..], [Reply::Error(text)] if text.starts_with(READ_ONLY));
        assert!(told, "{kind:?}: {replies:?}");
    }
    Ok(())
}
