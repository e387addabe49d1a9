//! `requirepass` and `masterauth`: nobody gets in without the password, a replica no less.

use crate::link::{companions_up, fill, info, link_is, same_data, start, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};

/// A session that starts without the password.
const SESSION: &[&str] = &[
    "PING",
    "SET a 1",
    "SYNC",
    "PSYNC ? -1",
    "REPLCONF listening-port 1",
    "REPLICAOF NO ONE",
    "CONFIG GET requirepass",
    "MULTI",
    "AUTH",
    "AUTH wrong",
    "AUTH secre",
    "AUTH secret2",
    "AUTH other secret",
    "AUTH default wrong",
    "HELLO 2 AUTH default wrong",
    "HELLO 2 AUTH other secret",
    "INFO",
    "AUTH secret",
    "PING",
    "SET a 1",
    "AUTH wrong",
    "GET a",
    "RESET",
    "GET a",
    "AUTH default secret",
    "GET a",
    "CONFIG SET requirepass other",
    "GET a",
    "AUTH secret",
    "RESET",
    "AUTH secret",
    "AUTH other",
    "CONFIG GET requirepass",
    "CONFIG SET aclfile users.acl",
    "GET a",
    "QUIT",
];

fn replies(server: &Server) -> anyhow::Result<Vec<(&'static str, Reply)>> {
    let mut client = server.client()?;
    let ask = |line: &&'static str| {
        let words: Vec<&str> = line.split(' ').collect();
        Ok((*line, client.run(&words)?))
    };
    SESSION.iter().map(ask).collect()
}

/// A server with a password, that serves.
fn protected(kind: Kind, folder: &std::path::Path) -> anyhow::Result<Server> {
    let options = ["--requirepass", "secret", "--enable-debug-command", "yes"];
    let more = ["--repl-diskless-sync-delay", "0", "--appendonly", "yes"];
    let options = [&options[..], &more].concat();
    let server = Server::spawn(kind, folder, &options)?;
    until("a server that serves who has the password", || {
        let answer = Client::connect(server.port).and_then(|mut client| {
            client.ok("AUTH secret")?;
            client.run(&["PING"])
        });
        Ok(matches!(answer, Ok(Reply::Status(_))))
    })?;
    Ok(server)
}

#[test]
fn a_session_without_the_password_gets_nothing_but_redis_s_errors() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let real = replies(&protected(Kind::Redis, theirs.path())?)?;
    let found = replies(&protected(Kind::RedRock, ours.path())?)?;
    assert_eq!(found, real);
    let refused = found.iter().filter(|(_, reply)| match reply {
        Reply::Error(text) => text.starts_with("NOAUTH") || text.starts_with("WRONGPASS"),
        _ => false,
    });
    assert!(refused.count() > 15);
    Ok(())
}

#[test]
fn a_replica_needs_the_master_s_password() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for (above, below) in [(Kind::RedRock, Kind::Redis), (Kind::Redis, Kind::RedRock)] {
        let (upper, lower) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let server = protected(above, upper.path())?;
        let mut master = server.client()?;
        master.ok("AUTH secret")?;
        fill(&mut master, "key", 0..500, 100)?;
        if above == Kind::RedRock {
            companions_up(&mut master)?;
        }
        let replica_server = start(below, lower.path(), &["--masterauth", "wrong"])?;
        let mut replica = replica_server.client()?;
        replica.ok(&format!("REPLICAOF 127.0.0.1 {}", server.port))?;
        let failures = |client: &mut Client| {
            Ok::<_, anyhow::Error>(client.ok("INFO errorstats")?.text().contains("WRONGPASS"))
        };
        until("a refused password", || failures(&mut master))?;
        assert_eq!(
            info(&mut replica, "replication", "master_link_status")?,
            "down"
        );
        assert_eq!(replica.ok("DBSIZE")?.int(), Some(0));
        replica.ok("CONFIG SET masterauth secret")?;
        link_is(&mut replica, "up")?;
        same_data(&mut master, &mut replica)?;
    }
    Ok(())
}
