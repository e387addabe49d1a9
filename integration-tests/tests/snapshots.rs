//! BGSAVE under a steady write load holds exactly the data of its instant.
//!
//! Seeds are printed; `RR_SEED` repeats a run, `RR_SCALE` raises rounds and sizes.

use redrock_integration_tests::daemons::{
    Daemon, ask_companion, companion, companions_up, info, signal, until,
};
use redrock_integration_tests::load::oracle::Oracle;
use redrock_integration_tests::load::steps::Plan;
use redrock_integration_tests::load::{Counts, Ledger, Load, MARKS_DB};
use redrock_integration_tests::memory::{MIB, resident_bytes};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::scale::{between, seed};
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

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

const STALL_KEYS: usize = 20_000;
/// More than the ring of this bound (16 MiB) holds of them.
const STALL_VALUE_BYTES: usize = 4_000;
const STALL_OPTIONS: [&str; 4] = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];

/// Bytes in the server's files for old values, which have no name any more.
fn spooled_bytes(server: &Server) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(format!("/proc/{}/fd", server.pid()))? {
        // A descriptor may close meanwhile.
        let path = entry?.path();
        let target = std::fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().contains("temp-snapshot-") {
            bytes += std::fs::metadata(&path).map_or(0, |file| file.len());
        }
    }
    Ok(bytes)
}

/// Writes each key anew.
fn fill_keys(client: &mut Client, round: usize) -> anyhow::Result<()> {
    for n in 0..STALL_KEYS {
        let value = format!("{round}-{n}-").repeat(STALL_VALUE_BYTES / 10);
        client.send(&["SET", &format!("key:{n}"), &value])?;
        if n % 1000 == 999 {
            for _ in 0..1000 {
                assert_eq!(client.receive()?, Reply::Status("OK".into()));
            }
        }
    }
    Ok(())
}

/// Queues a change to each key, which leaves its whole old value behind.
fn queue_changes(client: &mut Client) -> anyhow::Result<()> {
    client.ok("MULTI")?;
    for n in 0..STALL_KEYS {
        client.send(&["SETRANGE", &format!("key:{n}"), "0", "changed"])?;
        if n % 1000 == 999 {
            (0..1000).try_for_each(|_| client.receive().map(drop))?;
        }
    }
    Ok(())
}

/// Stops the persister just behind the cut and runs the transaction. False if the walk had filled
/// the ring before: then it waits for the persister, which goes on.
fn exec_behind_cut(server: &Server, client: &mut Client, persist: u32) -> anyhow::Result<bool> {
    let mut saver = server.client()?;
    let saved = saves(&mut saver)?;
    let before = resident_bytes(server.pid());
    queue_changes(client)?;
    let reply = saver.run(&["BGSAVE"])?;
    signal(persist, Signal::STOP)?;
    anyhow::ensure!(reply == Reply::Status("Background saving started".into()));
    client.send(&["EXEC"])?;
    client.set_reply_wait(Duration::from_secs(5))?;
    let answer = client.receive();
    client.set_reply_wait(redrock_integration_tests::scale::PATIENCE)?;
    let Ok(answer) = answer else {
        signal(persist, Signal::CONT)?;
        client.receive()?;
        wait_saved(&mut saver, saved + 1)?;
        return Ok(false);
    };
    assert_eq!(answer.elements().len(), STALL_KEYS);
    // Readers are served, and nothing of the old values is in memory beyond the ring.
    let value = saver.ok("GETRANGE key:7 0 7")?.text();
    assert!(value.starts_with("changed"), "{value}");
    let (grown, spooled) = (
        resident_bytes(server.pid()).saturating_sub(before),
        spooled_bytes(server)?,
    );
    println!("grown by {grown} bytes, {spooled} bytes in the file");
    assert!(spooled > 32 * MIB, "{spooled}");
    assert!(grown < 48 * MIB, "{grown}");
    // A write whose key was in the cut may have to wait; it is not lost.
    let mut writer = server.client()?;
    writer.send(&["SET", "while-stopped", "1"])?;
    assert_eq!(
        info(&mut saver, "persistence", "rdb_bgsave_in_progress")?,
        "1"
    );
    signal(persist, Signal::CONT)?;
    assert_eq!(writer.receive()?, Reply::Status("OK".into()));
    wait_saved(&mut saver, saved + 1)?;
    assert_eq!(
        info(&mut saver, "persistence", "rdb_last_bgsave_status")?,
        "ok"
    );
    Ok(true)
}

#[test]
fn a_persister_that_stops_during_a_large_transaction_still_saves_the_data_before_it()
-> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let options = [&DEBUG[..], &STALL_OPTIONS].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let persist = companion(&mut client, "persist")?;
    for attempt in 0..10 {
        fill_keys(&mut client, attempt)?;
        let digest = client.ok("DEBUG DIGEST")?;
        if exec_behind_cut(&server, &mut client, persist)? {
            let (redis, _copy) = redis_on(folder.path())?;
            assert_eq!(redis.client()?.ok("DEBUG DIGEST")?, digest);
            let mut changed = 0;
            for n in 0..STALL_KEYS {
                let value = client.ok(&format!("GETRANGE key:{n} 0 6"))?.text();
                changed += usize::from(value == "changed");
            }
            assert_eq!(changed, STALL_KEYS);
            return Ok(());
        }
    }
    anyhow::bail!("the walk was faster each time")
}

#[test]
fn a_persister_that_hangs_is_given_up_and_writes_go_on() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let options = [&DEBUG[..], &STALL_OPTIONS].concat();
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let persist = companion(&mut client, "persist")?;
    fill_keys(&mut client, 0)?;
    client.ok("BGSAVE")?;
    signal(persist, Signal::STOP)?;
    // More old values than the ring holds: they can't all leave for the persister.
    let written = fill_keys(&mut client, 1).and_then(|()| fill_keys(&mut client, 2));
    signal(persist, Signal::CONT)?;
    written?;
    let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
    // The one that was given up ends once the persister has noticed.
    while ask_companion(&mut client, "SAVE", || false)? != Reply::Status("OK".into()) {
        anyhow::ensure!(Instant::now() < deadline, "no save came about");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (redis, _copy) = redis_on(folder.path())?;
    assert_eq!(
        redis.client()?.ok("DEBUG DIGEST")?,
        client.ok("DEBUG DIGEST")?
    );
    Ok(())
}

#[test]
fn a_save_that_falls_due_while_a_script_is_busy_waits_for_its_end() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--busy-reply-threshold", "20", "--save", "1 1"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let (mut client, mut running) = (server.client()?, server.client()?);
    companions_up(&mut client)?;
    // A change that makes a save due, and in the same breath what it has to wait for.
    let mut both = Vec::new();
    encode(&mut both, &["SET", "k", "v"]);
    encode(&mut both, &["EVAL", "while true do end", "0"]);
    running.send_raw(&both)?;
    assert_eq!(running.receive()?, Reply::Status("OK".into()));
    until("a save that waits", || {
        Ok(server.log_text().contains("is waited for before the cut"))
    })?;
    client.ok("SCRIPT KILL")?;
    assert!(matches!(running.receive()?, Reply::Error(_)));
    // Nobody's write is refused, and the save comes.
    client.ok("SET k w")?;
    wait_saved(&mut client, 1)?;
    assert_eq!(
        info(&mut client, "persistence", "rdb_last_bgsave_status")?,
        "ok"
    );
    let log = server.log_text();
    assert!(!log.contains("the files that were valid stay so"), "{log}");
    Ok(())
}
