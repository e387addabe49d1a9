//! A replica that becomes a master while its log is off since the full sync: what it would take
//! could not be found by a start.

use crate::link::{companions_up, fill, info, link_is, start, until};
use redrock_integration_tests::daemons::Daemon;
use redrock_integration_tests::process::Kind;
use redrock_integration_tests::resp::{Client, Reply};

/// The error of a write; an error if it is taken.
fn refused(client: &mut Client, command: &[&str]) -> anyhow::Result<String> {
    match client.run(command)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{command:?} was not refused: {other:?}"),
    }
}

#[test]
fn a_master_that_lacks_its_log_takes_no_writes_until_it_is_there_or_not_wanted()
-> anyhow::Result<()> {
    let (above, below) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let master = start(Kind::RedRock, above.path(), &[])?;
    let mut source = master.client()?;
    companions_up(&mut source)?;
    fill(&mut source, "key", 0..100, 10)?;
    let options = ["--appendonly", "yes", "--companions", "external"];
    let server = start(Kind::RedRock, below.path(), &options)?;
    let mut client = server.client()?;
    let _agent = Daemon::start("redrock-replica", below.path(), "")?;
    let follow = format!("REPLICAOF 127.0.0.1 {}", master.port);
    client.ok("SET own 1")?;
    client.ok(&follow)?;
    link_is(&mut client, "up")?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(100));
    assert_eq!(info(&mut client, "persistence", "aof_enabled")?, "0");

    client.ok("REPLICAOF NO ONE")?;
    let text = refused(&mut client, &["SET", "lost", "1"])?;
    assert!(
        text.starts_with("MISCONF The append only file is off"),
        "{text}"
    );
    let script = "redis.call('set','lost','1')";
    refused(&mut client, &["EVAL", script, "0"])?;
    client.ok("MULTI")?;
    refused(&mut client, &["SET", "lost", "1"])?;
    client.ok("DISCARD")?;
    // The cause is named once it is known.
    until("the cause", || {
        Ok(refused(&mut client, &["DEL", "key:1"])?.contains("persister is not available"))
    })?;
    assert_eq!(client.ok("PING")?.text(), "PONG");
    assert_eq!(client.ok("DBSIZE")?.int(), Some(100));

    // Who wants no log has none to lack.
    client.ok("CONFIG SET appendonly no")?;
    client.ok("SET taken 1")?;
    client.ok(&follow)?;
    until("the master's data", || {
        Ok(client.ok("DBSIZE")?.int() == Some(100)
            && info(&mut client, "replication", "master_link_status")? == "up")
    })?;
    client.ok("REPLICAOF NO ONE")?;
    client.ok("SET taken 2")?;

    let _persister = Daemon::start("redrock-persist", below.path(), "")?;
    until("a log", || {
        Ok(matches!(
            client.run(&["CONFIG", "SET", "appendonly", "yes"])?,
            Reply::Status(_)
        ))
    })?;
    client.ok("SET taken 3")?;
    server.kill_family()?;
    let server = start(Kind::RedRock, below.path(), &options)?;
    assert_eq!(server.client()?.ok("GET taken")?.text(), "3");
    Ok(())
}

#[test]
fn a_master_takes_writes_when_its_log_has_come_back() -> anyhow::Result<()> {
    let (above, below) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let master = start(Kind::RedRock, above.path(), &[])?;
    companions_up(&mut master.client()?)?;
    let options = ["--appendonly", "yes", "--companions", "external"];
    let server = start(Kind::RedRock, below.path(), &options)?;
    let mut client = server.client()?;
    let agent = Daemon::start("redrock-replica", below.path(), "")?;
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
    link_is(&mut client, "up")?;
    client.ok("REPLICAOF NO ONE")?;
    refused(&mut client, &["SET", "k", "1"])?;
    let persister = Daemon::start("redrock-persist", below.path(), "")?;
    until("writes", || {
        Ok(matches!(client.run(&["SET", "k", "1"])?, Reply::Status(_)))
    })?;
    // What was taken is found by a start, whatever dies.
    server.kill()?;
    drop((agent, persister));
    let server = start(Kind::RedRock, below.path(), &options)?;
    assert_eq!(server.client()?.ok("GET k")?.text(), "1");
    Ok(())
}
