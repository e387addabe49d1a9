//! BGSAVE under a steady write load holds exactly the data of its instant.
//!
//! Seeds are printed; `RR_SEED` repeats a run, `RR_SCALE` raises rounds and sizes.

use redrock_integration_tests::daemons::{Daemon, ask_companion, companions_up, info, until};
use redrock_integration_tests::load::oracle::Oracle;
use redrock_integration_tests::load::steps::Plan;
use redrock_integration_tests::load::{Counts, Ledger, Load, MARKS_DB};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::scale::{between, seed};
use std::path::Path;

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];

fn wait_saved(client: &mut Client, saves: u64) -> anyhow::Result<()> {
    until("the end of a save", || {
        let done = info(client, "persistence", "rdb_saves")?;
        Ok(done.parse::<u64>().unwrap_or(0) >= saves)
    })
}

fn saves(client: &mut Client) -> anyhow::Result<u64> {
    Ok(info(client, "persistence", "rdb_saves")?.parse()?)
}

/// A real Redis over a copy of the dump.
fn redis_on(folder: &Path) -> anyhow::Result<(Server, tempfile::TempDir)> {
    let copy = tempfile::tempdir()?;
    std::fs::copy(folder.join("dump.rdb"), copy.path().join("dump.rdb"))?;
    Ok((Server::start(Kind::Redis, copy.path(), &[])?, copy))
}

/// What Redis finds in a copy of the dump, checked against the oracle.
fn check_dump(
    folder: &Path,
    oracle: &mut Oracle,
    least: Counts,
    most: Counts,
) -> anyhow::Result<Counts> {
    let (redis, _copy) = redis_on(folder)?;
    Ok(oracle.check(&mut redis.client()?, least, most)?.counts)
}

/// As [`check_dump`], for round `round`: the marks are as they were at the instant.
fn redis_loads(
    folder: &Path,
    oracle: &mut Oracle,
    round: u64,
    (least, most): (Counts, Counts),
) -> anyhow::Result<Counts> {
    let (redis, _copy) = redis_on(folder)?;
    let mut client = redis.client()?;
    client.ok(&format!("SELECT {MARKS_DB}"))?;
    let mark = client.ok(&format!("GET after:{round}"))?;
    anyhow::ensure!(mark == Reply::Nil, "what followed BGSAVE's reply is in it");
    let mark = client.ok(&format!("GET before:{round}"))?;
    anyhow::ensure!(mark != Reply::Nil, "what was before BGSAVE is not in it");
    Ok(oracle.check(&mut client, least, most)?.counts)
}

/// Saves in the middle of a load, and checks the file.
fn round(
    server: &Server,
    folder: &Path,
    oracle: &mut Oracle,
    load: Load,
    number: u64,
) -> anyhow::Result<()> {
    let mut client = server.client()?;
    load.advance(40)?;
    client.ok(&format!("SELECT {MARKS_DB}"))?;
    client.ok(&format!("SET before:{number} 1"))?;
    let before = saves(&mut client)?;
    let least = load.ledger.acknowledged();
    // Without a pause: the mark is behind the reply on this very connection.
    client.send(&["BGSAVE"])?;
    client.send(&["SET", &format!("after:{number}"), "1"])?;
    let reply = client.receive()?;
    let most = load.ledger.begun();
    anyhow::ensure!(
        reply == Reply::Status("Background saving started".into()),
        "{reply:?}"
    );
    client.receive()?;
    wait_saved(&mut client, before + 1)?;
    load.advance(10)?;
    let end = load.stop()?;
    let counts = redis_loads(folder, oracle, number, (least, most))?;
    println!("round {number}: cut at {counts:?}, between {least:?} and {most:?}, end {end:?}");
    Ok(())
}

/// Nobody writes: server, dump in Redis, and our own restart from it have one digest.
fn quiesced(
    server: Server,
    folder: &Path,
    oracle: &mut Oracle,
    options: &[&str],
    end: Counts,
) -> anyhow::Result<()> {
    let mut client = server.client()?;
    let ours = oracle.check(&mut client, end, end)?;
    let before = saves(&mut client)?;
    client.ok("BGSAVE")?;
    wait_saved(&mut client, before + 1)?;
    server.kill()?;
    let (redis, _copy) = redis_on(folder)?;
    let theirs = redis.client()?.ok("DEBUG DIGEST")?.text();
    anyhow::ensure!(theirs == ours.digest, "Redis has digest {theirs}");
    let again = Server::start(Kind::RedRock, folder, options)?;
    let digest = again.client()?.ok("DEBUG DIGEST")?.text();
    anyhow::ensure!(digest == ours.digest, "after the restart it is {digest}");
    println!("quiesced: digest {digest} in all three, at {end:?}");
    Ok(())
}

fn run(plan: Plan, rounds: u64, options: &[&str]) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = [&DEBUG[..], options].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let ledger = Ledger::new(plan);
    ledger.preload(&mut client)?;
    let mut oracle = Oracle::start(&ledger)?;
    for number in 1..=rounds {
        let load = Load::start(server.port, &ledger);
        round(&server, folder.path(), &mut oracle, load, number)?;
    }
    let end = ledger.acknowledged();
    if options.contains(&"--maxmemory") {
        let report = client.ok("ROCK REPORT")?.elements();
        let share = report.last().map(Reply::text).unwrap_or_default();
        println!("{share} % of the keys are on disk only");
    }
    quiesced(server, folder.path(), &mut oracle, &options, end)
}

#[test]
fn a_save_under_load_holds_the_data_of_its_instant() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let plan = Plan {
        seed: seed(),
        cold_keys: 4000,
        cold_bytes: 200,
    };
    run(plan, between(5, 200), &[])
}

#[test]
fn so_it_does_with_a_log_and_every_reply_after_its_sync() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let plan = Plan {
        seed: seed() + 1,
        cold_keys: 4000,
        cold_bytes: 200,
    };
    let logged = ["--appendonly", "yes", "--appendfsync", "always"];
    run(plan, between(3, 50), &logged)
}

#[test]
fn so_it_does_with_more_data_than_memory() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let plan = Plan {
        seed: seed() + 2,
        cold_keys: between(135_000, 500_000),
        cold_bytes: 1000,
    };
    let tiered = ["--maxmemory", "128mb", "--enable-rocksdb-feature", "yes"];
    run(plan, between(1, 40), &tiered)
}

/// Every point that a save passes, and whether the new dump is in place by then.
const POINTS: [(&str, bool); 6] = [
    ("snapshot-after-dirty", false),
    ("snapshot-after-cold", false),
    ("snapshot-after-sync", false),
    ("save-before-rename", false),
    ("save-after-rename", true),
    ("save-after-dir-sync", true),
];

#[test]
fn a_persister_killed_at_any_step_leaves_the_old_dump_or_the_new_one() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let plan = Plan {
        seed: seed() + 3,
        cold_keys: 3000,
        cold_bytes: 200,
    };
    let folder = tempfile::tempdir()?;
    let options = [&DEBUG[..], &["--companions", "external"]].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    let ledger = Ledger::new(plan);
    ledger.preload(&mut client)?;
    let mut oracle = Oracle::start(&ledger)?;
    let dump = folder.path().join("dump.rdb");
    for (point, is_new) in POINTS {
        let before = std::fs::read(&dump).unwrap_or_default();
        let kill = format!("{point}:kill");
        let mut persist = Daemon::start("redrock-persist", folder.path(), &kill)?;
        let load = Load::start(server.port, &ledger);
        load.advance(5)?;
        // An earlier attempt than the one that counts would make no cut.
        let least = ledger.acknowledged();
        ask_companion(&mut client, "BGSAVE", || persist.is_gone())?;
        persist.wait_gone()?;
        let most = ledger.begun();
        load.advance(5)?;
        load.stop()?;
        if is_new {
            let found = check_dump(folder.path(), &mut oracle, least, most)?;
            println!("{point}: the new dump, {found:?}");
        } else {
            let same = std::fs::read(&dump).unwrap_or_default() == before;
            anyhow::ensure!(same, "{point}: the dump has changed");
        }
    }
    let _persist = Daemon::start("redrock-persist", folder.path(), "")?;
    let end = ledger.acknowledged();
    ask_companion(&mut client, "SAVE", || false)?;
    check_dump(folder.path(), &mut oracle, end, end)?;
    for entry in std::fs::read_dir(folder.path())? {
        let name = entry?.file_name();
        anyhow::ensure!(
            !name.to_string_lossy().starts_with("temp-"),
            "{name:?} is left"
        );
    }
    Ok(())
}
