//! Fields that expire survive restarts from the log and from an RDB file, and the option that
//! they need can't be taken away from them.

use crate::{FAR, TIERED, error, evict, info, start, timed, until};
use redrock_integration_tests::process::{Kind, Server, free_port};
use redrock_integration_tests::resp::Client;
use std::path::Path;

/// Hashes of both forms, some with fields that expire, one with an expiry of its own.
fn fill(client: &mut Client) -> anyhow::Result<()> {
    for n in 0..40_i64 {
        let fields = if n % 4 == 0 { 600 } else { 5 };
        for first in (0..fields).step_by(100) {
            let pairs: Vec<String> = (first..fields.min(first + 100))
                .map(|f| format!("f{f} value-{n}-{f}"))
                .collect();
            client.ok(&format!("HSET hash:{n} {}", pairs.join(" ")))?;
        }
        if n % 3 != 2 {
            let at = FAR + n;
            client.ok(&format!("HPEXPIREAT hash:{n} {at} FIELDS 2 f0 f2"))?;
        }
    }
    client.ok("HPERSIST hash:1 FIELDS 2 f0 f2")?;
    client.ok("HSETEX hash:3 PXAT 4102444899999 FIELDS 1 extra 1")?;
    client.ok("HINCRBYFLOAT hash:3 extra 0.25")?;
    client.ok(&format!("PEXPIREAT hash:4 {FAR}"))?;
    Ok(())
}

/// All times and the digest of everything.
fn state(client: &mut Client) -> anyhow::Result<(Vec<String>, String)> {
    let mut times = Vec::new();
    for n in 0..40 {
        let reply = client.ok(&format!("HPEXPIRETIME hash:{n} FIELDS 4 f0 f1 f2 extra"))?;
        times.push(format!("{n}: {reply:?}"));
    }
    Ok((times, client.ok("DEBUG DIGEST")?.text()))
}

fn refused(folder: &Path, options: &[&str]) -> anyhow::Result<String> {
    let (status, text) = Server::refused(Kind::RedRock, folder, free_port()?, options)?;
    anyhow::ensure!(!status.success(), "it started: {text}");
    Ok(text)
}

#[test]
fn times_survive_restarts_from_the_log_with_and_without_a_base_of_them() -> anyhow::Result<()> {
    for options in [&[][..], &TIERED] {
        let folder = tempfile::tempdir()?;
        let options = [options, &["--appendonly", "yes"]].concat();
        let server = start(folder.path(), &options)?;
        let mut client = server.client()?;
        fill(&mut client)?;
        let before = state(&mut client)?;
        let hashes = timed(&mut client)?;
        assert_eq!(hashes, 26);
        server.kill_family()?;

        let server = start(folder.path(), &options)?;
        let mut client = server.client()?;
        assert_eq!(state(&mut client)?, before);
        assert_eq!(timed(&mut client)?, hashes);
        if options.len() > 2 {
            let keys: Vec<String> = (0..20).map(|n| format!("hash:{n}")).collect();
            evict(&mut client, &keys)?;
        }
        until("a rewrite", || {
            Ok(!matches!(
                client.run(&["BGREWRITEAOF"])?,
                redrock_integration_tests::resp::Reply::Error(_)
            ))
        })?;
        until("the end of the rewrite", || {
            Ok(
                info(&mut client, "persistence", "aof_rewrite_in_progress")? == "0"
                    && info(&mut client, "persistence", "aof_last_bgrewrite_status")? == "ok"
                    && info(&mut client, "persistence", "aof_rewrites")? != "0",
            )
        })?;
        // Behind the base: one goes, one gets another time.
        client.ok("HDEL hash:6 f0 f2")?;
        client.ok("HPEXPIREAT hash:7 4102444812345 FIELDS 1 f1")?;
        let before = state(&mut client)?;
        server.kill_family()?;

        let mut older = options.clone();
        older.extend(["--rdb-version", "11"]);
        let text = refused(folder.path(), &older)?;
        assert!(
            text.contains("25 hashes have fields that expire")
                && text.contains("set rdb-version 12"),
            "{text}"
        );
        let server = start(folder.path(), &options)?;
        assert_eq!(state(&mut server.client()?)?, before);
    }
    Ok(())
}

#[test]
fn times_survive_in_an_rdb_file_and_the_option_stays_while_they_need_it() -> anyhow::Result<()> {
    for options in [&[][..], &TIERED] {
        let folder = tempfile::tempdir()?;
        let server = start(folder.path(), options)?;
        let mut client = server.client()?;
        fill(&mut client)?;
        if !options.is_empty() {
            let keys: Vec<String> = (0..30).map(|n| format!("hash:{n}")).collect();
            evict(&mut client, &keys)?;
        }
        let before = state(&mut client)?;
        let why = error(&mut client, "CONFIG SET rdb-version 10")?;
        assert!(
            why.contains("'rdb-version'") && why.contains("26 hashes have fields that expire"),
            "{why}"
        );
        assert_eq!(client.ok("HLEN hash:0")?.int(), Some(600));
        until("a save", || Ok(client.run(&["SAVE"])?.text() == "OK"))?;
        server.kill_family()?;
        let text = refused(folder.path(), options)?;
        assert!(text.contains("set rdb-version 12"), "{text}");

        let server = start(folder.path(), options)?;
        let mut client = server.client()?;
        assert_eq!(state(&mut client)?, before);
        // Without any of them the option may go, and the file is one for all.
        for n in 0..40 {
            client.ok(&format!("HPERSIST hash:{n} FIELDS 3 f0 f2 extra"))?;
        }
        assert_eq!(timed(&mut client)?, 0);
        client.ok("CONFIG SET rdb-version 10")?;
        let digest = client.ok("DEBUG DIGEST")?;
        assert!(
            error(&mut client, "HEXPIRE hash:0 5 FIELDS 1 f0")?.contains("rdb-version 12"),
            "the family names the option"
        );
        until("a save", || Ok(client.run(&["SAVE"])?.text() == "OK"))?;
        server.kill_family()?;
        let debug = ["--enable-debug-command", "yes"];
        let server = Server::start(Kind::RedRock, folder.path(), &[&debug, options].concat())?;
        assert_eq!(server.client()?.ok("DEBUG DIGEST")?, digest);
    }
    Ok(())
}

#[test]
fn what_expired_while_the_server_was_down_is_gone_and_logged_as_gone() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--appendonly", "yes"];
    let server = start(folder.path(), &options)?;
    let mut client = server.client()?;
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0")?;
    client.ok("HSET h a 1 b 2")?;
    client.ok("HPEXPIRE h 1 FIELDS 1 a")?;
    until("its time", || {
        Ok(client.ok("HPTTL h FIELDS 1 a")?.elements()[0].int() == Some(-2))
    })?;
    assert_eq!(client.ok("HLEN h")?.int(), Some(2));
    server.kill_family()?;
    let server = start(folder.path(), &options)?;
    let mut client = server.client()?;
    until(
        "active expiry",
        || Ok(client.ok("HLEN h")?.int() == Some(1)),
    )?;
    server.kill_family()?;
    let server = start(folder.path(), &options)?;
    let mut client = server.client()?;
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0")?;
    assert_eq!(client.ok("HLEN h")?.int(), Some(1));
    Ok(())
}
