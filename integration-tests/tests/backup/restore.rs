//! `redrock-persist restore` against a ledger of when what was acknowledged.

use crate::{Ledger, both_agree, done, fingerprint, now_ms, text, tool, tool_with};
use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redrock_integration_tests::daemons::{ask_companion, companions_up, info, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::scale::{between, seed};
use std::path::Path;

const OPTIONS: [&str; 6] = [
    "--appendonly",
    "yes",
    "--enable-debug-command",
    "yes",
    "--aof-disable-auto-gc",
    "yes",
];

/// A moment as the command line takes it, with an offset now and then.
fn moment(unix_ms: u64) -> anyhow::Result<String> {
    let east = unix_ms % 3 * 3600;
    let zone = match unix_ms % 3 {
        0 => "Z".to_owned(),
        hours => format!("+0{hours}:00"),
    };
    let seconds = format!("@{}", unix_ms / 1000 + east);
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &seconds, "+%Y-%m-%dT%H:%M:%S"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("{}.{:03}{zone}", text.trim(), unix_ms % 1000))
}

fn rewrite(server: &Server) -> anyhow::Result<()> {
    let mut client = server.client()?;
    let before = info(&mut client, "persistence", "aof_rewrites")?;
    ask_companion(&mut client, "BGREWRITEAOF", || false)?;
    until("a rewrite", || {
        Ok(info(&mut client, "persistence", "aof_rewrites")? != before)
    })
}

/// Restores the moment into a new folder below `scratch` and lets both servers look at it.
fn check_moment(data: &Path, scratch: &Path, ledger: &Ledger, at: u64) -> anyhow::Result<usize> {
    let into = scratch.join(format!("at-{at}"));
    let time = moment(at)?;
    let said = done(&[
        "restore",
        "--to",
        &time,
        "--from",
        text(data),
        "--into",
        text(&into),
    ])?;
    let count = both_agree(&into, "yes", ledger, at).context(said)?;
    std::fs::remove_dir_all(into)?;
    Ok(count)
}

fn moments_of_a_life(fsync: &str, seed: u64) -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let mut random = StdRng::seed_from_u64(seed);
    let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut options = OPTIONS.to_vec();
    options.extend(["--appendfsync", fsync]);
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    let mut ledger = Ledger::default();
    let begin = now_ms();
    ledger.write_for(&mut client, 600)?;
    rewrite(&server)?;
    ledger.write_for(&mut client, 600)?;
    // A restore from the folder of a running server, which goes on writing.
    let live = now_ms() - 300;
    check_moment(folder.path(), scratch.path(), &ledger, live)?;
    server.kill_family()?;
    // The tail that the dead server left counts as written when it was.
    let options = options.as_slice();
    let server = Server::start(Kind::RedRock, folder.path(), options)?;
    let between_lives = now_ms();
    ledger.write_for(&mut server.client()?, 400)?;
    let end = now_ms();
    server.kill_family()?;
    let before = fingerprint(folder.path())?;
    let mut moments = vec![begin + 1, between_lives, end];
    moments.extend((0..between(5, 60)).map(|_| random.random_range(begin..end)));
    let mut counts = Vec::new();
    moments.sort_unstable();
    for at in moments {
        counts.push(check_moment(folder.path(), scratch.path(), &ledger, at)?);
    }
    println!("{fsync}: {counts:?} of {}", ledger.writes.len());
    anyhow::ensure!(counts.is_sorted(), "{counts:?}");
    anyhow::ensure!(counts.last() == Some(&ledger.writes.len()), "{counts:?}");
    anyhow::ensure!(fingerprint(folder.path())? == before, "the source changed");
    Ok(())
}

#[test]
fn every_moment_of_a_life_comes_back_with_a_sync_a_second() -> anyhow::Result<()> {
    moments_of_a_life("everysec", seed())
}

#[test]
fn and_with_no_sync_at_all() -> anyhow::Result<()> {
    moments_of_a_life("no", seed() + 1)
}

#[test]
fn and_with_a_sync_before_each_reply() -> anyhow::Result<()> {
    moments_of_a_life("always", seed() + 2)
}

#[test]
fn what_can_not_be_reached_is_refused_with_what_can() -> anyhow::Result<()> {
    let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
    let mut ledger = Ledger::default();
    ledger.write_for(&mut server.client()?, 50)?;
    server.kill_family()?;
    let into = scratch.path().join("new");
    let restore = |time: &str| {
        let (from, into) = (text(folder.path()), text(&into));
        tool(&["restore", "--to", time, "--from", from, "--into", into])
    };
    for early in ["1999-12-31T23:59:59Z", "2999-12-31T23:59:59Z"] {
        let said = restore(early)?;
        anyhow::ensure!(
            said.code == 1 && said.errors.contains("reach from 20"),
            "{said:?}"
        );
        anyhow::ensure!(!into.exists(), "{said:?}");
    }
    let said = restore("yesterday")?;
    anyhow::ensure!(
        said.code == 2 && said.errors.contains("no time such as"),
        "{said:?}"
    );
    std::fs::create_dir(&into)?;
    std::fs::write(into.join("precious"), "x")?;
    let said = tool(&[
        "restore",
        "--from",
        text(folder.path()),
        "--into",
        text(&into),
    ])?;
    anyhow::ensure!(
        said.code == 1 && said.errors.contains("not empty"),
        "{said:?}"
    );
    anyhow::ensure!(std::fs::read_dir(&into)?.count() == 1, "it was touched");
    Ok(())
}

#[test]
fn a_dump_from_after_the_log_was_turned_off_is_the_latest() -> anyhow::Result<()> {
    for restarts in [false, true] {
        let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let mut server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
        let mut client = server.client()?;
        companions_up(&mut client)?;
        client.ok("SET logged 1")?;
        if restarts {
            server.kill_family()?;
            server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "no"])?;
            client = server.client()?;
            companions_up(&mut client)?;
        } else {
            client.ok("CONFIG SET appendonly no")?;
        }
        client.ok("SET saved 2")?;
        client.ok("SAVE")?;
        server.kill_family()?;
        let into = scratch.path().join("new");
        let (from, to) = (text(folder.path()), text(&into));
        let said = done(&["restore", "--from", from, "--into", to])?;
        let server = Server::start(Kind::RedRock, &into, &["--appendonly", "no"])?;
        let saved = server.client()?.ok("GET saved")?.text();
        anyhow::ensure!(saved == "2", "restarts: {restarts}: {said}");
    }
    Ok(())
}

#[test]
fn killed_before_the_end_it_leaves_nothing_that_could_be_taken_for_the_folder() -> anyhow::Result<()>
{
    if !has_redis() {
        return Ok(());
    }
    let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = Server::start(Kind::RedRock, folder.path(), &["--appendonly", "yes"])?;
    let mut ledger = Ledger::default();
    ledger.write_for(&mut server.client()?, 50)?;
    server.kill_family()?;
    let into = scratch.path().join("new");
    let words = [
        "restore",
        "--from",
        text(folder.path()),
        "--into",
        text(&into),
    ];
    let said = tool_with("restore-before-rename:kill", &words)?;
    anyhow::ensure!(said.code == 128 + 9 && !into.exists(), "{said:?}");
    done(&words)?;
    let names: Vec<_> = std::fs::read_dir(scratch.path())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(names == ["new"], "{names:?}");
    both_agree(&into, "yes", &ledger, now_ms())?;
    Ok(())
}
