//! SHUTDOWN with its options, SIGTERM and SIGINT, beside a real Redis.

use redrock_integration_tests::daemons::until;
use redrock_integration_tests::process::{Kind, Server, Signal, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::Path;

/// Save points that are never due.
const POINTS: [&str; 2] = ["--save", "3600 1000000"];

fn kinds() -> Vec<Kind> {
    match has_redis() {
        true => vec![Kind::RedRock, Kind::Redis],
        false => vec![Kind::RedRock],
    }
}

/// How a server goes.
enum How<'a> {
    Command(&'a str),
    Signal(Signal),
}

/// Starts a server with one key and makes it go: exit code, and whether it saved.
fn goes(kind: Kind, options: &[&str], how: &How<'_>) -> anyhow::Result<(Option<i32>, bool)> {
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(kind, folder.path(), options)?;
    let mut client = server.client()?;
    client.ok("SET a 1")?;
    match how {
        How::Command(line) => {
            let words: Vec<&str> = line.split(' ').collect();
            let answer = client.run(&words);
            anyhow::ensure!(answer.is_err(), "{line}: {answer:?}");
        }
        How::Signal(signal) => server.signal(*signal)?,
    }
    let status = server.wait_exit()?;
    Ok((status.code(), folder.path().join("dump.rdb").exists()))
}

#[test]
fn it_saves_where_that_is_configured_or_wanted_and_ends_with_status_0() -> anyhow::Result<()> {
    let on_signal = |option| [&POINTS[..], &[option, "nosave now"]].concat();
    let cases: [(Vec<&str>, How<'_>, bool); 10] = [
        (vec![], How::Command("SHUTDOWN"), false),
        (vec![], How::Command("SHUTDOWN SAVE"), true),
        (vec![], How::Command("shutdown now force save"), true),
        (POINTS.into(), How::Command("SHUTDOWN"), true),
        (POINTS.into(), How::Command("SHUTDOWN NOSAVE NOW"), false),
        (vec![], How::Signal(Signal::TERM), false),
        (POINTS.into(), How::Signal(Signal::TERM), true),
        (POINTS.into(), How::Signal(Signal::INT), true),
        (
            on_signal("--shutdown-on-sigterm"),
            How::Signal(Signal::TERM),
            false,
        ),
        (
            on_signal("--shutdown-on-sigint"),
            How::Signal(Signal::INT),
            false,
        ),
    ];
    for (number, (options, how, saved)) in cases.iter().enumerate() {
        for kind in kinds() {
            let result = goes(kind, options, how)?;
            assert_eq!(result, (Some(0), *saved), "case {number}, {kind:?}");
        }
    }
    Ok(())
}

/// Nothing can be renamed over a folder that is not empty.
fn make_saves_fail(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder.join("dump.rdb/in the way"))?;
    Ok(())
}

fn error(client: &mut Client, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match client.run(&words)? {
        Reply::Error(text) => Ok(text),
        other => anyhow::bail!("{line}: {other:?}"),
    }
}

#[test]
fn it_stays_when_the_save_fails_unless_forced() -> anyhow::Result<()> {
    const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
    const REFUSED: &str = "Errors trying to shut down the server";
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let mut server = Server::start(kind, folder.path(), &POINTS)?;
        let mut client = server.client()?;
        client.ok("CONFIG SET stop-writes-on-bgsave-error no")?;
        client.ok("SET a 1")?;
        make_saves_fail(folder.path())?;
        assert_eq!(error(&mut client, "SHUTDOWN")?, FAILED, "{kind:?}");
        assert_eq!(error(&mut client, "SHUTDOWN SAVE NOW")?, FAILED, "{kind:?}");
        for (number, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
            server.signal(signal)?;
            until("the refusal", || {
                Ok(server.log_text().matches(REFUSED).count() == 3 + number)
            })?;
            assert_eq!(client.ok("GET a")?.text(), "1", "{kind:?}");
        }
        // Nothing is under way any more.
        assert_eq!(
            error(&mut client, "SHUTDOWN ABORT")?,
            "ERR No shutdown in progress."
        );
        assert!(client.run(&["SHUTDOWN", "FORCE"]).is_err());
        assert_eq!(server.wait_exit()?.code(), Some(0), "{kind:?}");
    }
    Ok(())
}

#[test]
fn wrong_forms_are_refused_as_in_redis() -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let server = Server::start(kind, folder.path(), &[])?;
        let mut client = server.client()?;
        let mut seen = Vec::new();
        for line in [
            "SHUTDOWN SAVE NOSAVE",
            "SHUTDOWN ABORT NOW",
            "SHUTDOWN LATER",
            "SHUTDOWN ABORT",
        ] {
            seen.push(error(&mut client, line)?);
        }
        client.ok("MULTI")?;
        seen.push(error(&mut client, "SHUTDOWN")?);
        seen.push(error(&mut client, "EXEC")?);
        outcomes.push(seen);
    }
    let (first, rest) = outcomes.split_first().expect("our server");
    rest.iter().for_each(|other| assert_eq!(first, other));
    Ok(())
}

/// A replica that takes nothing more: the shutdown waits for it.
fn lagging_replica(master: &Server) -> anyhow::Result<(tempfile::TempDir, Server)> {
    let folder = tempfile::tempdir()?;
    let port = master.port.to_string();
    let options = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start(Kind::Redis, folder.path(), &options)?;
    let mut client = master.client()?;
    until("an online replica", || {
        let info = client.ok("INFO replication");
        Ok(info.is_ok_and(|info| info.text().contains("state=online")))
    })?;
    replica.signal(Signal::STOP)?;
    client.ok("SET lag 1")?;
    Ok((folder, replica))
}

#[test]
fn it_waits_for_replicas_until_it_is_taken_back_or_insisted_on() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    for kind in kinds() {
        let folder = tempfile::tempdir()?;
        let mut options = vec!["--shutdown-timeout", "60", "--repl-timeout", "300"];
        options.extend(["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]);
        let mut server = Server::start(kind, folder.path(), &options)?;
        let (_replica_folder, replica) = lagging_replica(&server)?;
        let (mut waiting, mut client) = (server.client()?, server.client()?);
        waiting.send(&["SHUTDOWN"])?;
        until("the abort", || {
            let answer = client.run(&["SHUTDOWN", "ABORT"]);
            Ok(answer.is_ok_and(|reply| reply == Reply::Status("OK".into())))
        })?;
        let text = waiting.receive()?;
        assert_eq!(
            text,
            Reply::Error("ERR Errors trying to SHUTDOWN. Check logs.".into())
        );
        // Writes are no longer held back.
        client.ok("SET after 1")?;
        server.signal(Signal::INT)?;
        until("the first signal", || {
            Ok(server.log_text().contains("SIGINT"))
        })?;
        server.signal(Signal::INT)?;
        assert_eq!(server.wait_exit()?.code(), Some(1), "{kind:?}");
        assert!(server.log_text().contains("You insist"), "{kind:?}");
        drop(replica);
    }
    Ok(())
}
