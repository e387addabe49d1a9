//! `redrock-persist backup`, `list` and `verify`, beside running servers and without.

use crate::{Ledger, both_agree, done, fingerprint, now_ms, text, tool, tool_with};
use anyhow::Context as _;
use redrock_integration_tests::daemons::{Daemon, ask_companion, companions_up, until};
use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::scale::between;
use std::path::{Path, PathBuf};

const OPTIONS: [&str; 2] = ["--appendonly", "yes"];

/// Makes a set; gives its folder.
fn backup(data: &Path, more: &[&str]) -> anyhow::Result<PathBuf> {
    let mut words = vec!["backup", "--dir", text(data), "--json"];
    words.extend(more);
    let set: serde_json::Value = serde_json::from_str(&done(&words)?)?;
    Ok(PathBuf::from(set["path"].as_str().context("a path")?))
}

/// The sets of a data directory by `list`, oldest first.
fn listed(data: &Path) -> anyhow::Result<Vec<serde_json::Value>> {
    let lines = done(&["list", text(data), "--json"])?;
    lines
        .lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn names(data: &Path) -> anyhow::Result<Vec<String>> {
    let sets = listed(data)?;
    let names = sets.iter().filter_map(|set| set["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// The log of a folder reaches the end of a ledger, for us and for Redis.
fn holds_all(folder: &Path, appendonly: &str, ledger: &Ledger) -> anyhow::Result<()> {
    let count = both_agree(folder, appendonly, ledger, u64::MAX / 2)?;
    anyhow::ensure!(count == ledger.writes.len(), "{count}");
    Ok(())
}

/// A server with both companions, written to.
fn written(folder: &Path, options: &[&str], ledger: &mut Ledger) -> anyhow::Result<Server> {
    let server = Server::start(Kind::RedRock, folder, options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    ledger.write_for(&mut client, 50)?;
    Ok(server)
}

#[test]
fn a_set_made_beside_a_server_under_load_is_one_moment_of_it() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut ledger = Ledger::default();
    let options = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let server = written(folder.path(), &options, &mut ledger)?;
    let mut sets = Vec::new();
    for round in 0..between(4, 30) {
        // Rewrites replace what is being linked.
        ask_companion(&mut server.client()?, "BGREWRITEAOF", || false)?;
        let asked = now_ms();
        let data = folder.path().to_owned();
        let making = std::thread::spawn(move || backup(&data, &[]));
        let mut client = server.client()?;
        while !making.is_finished() {
            ledger.write(&mut client)?;
        }
        let set = making.join().map_err(|_| anyhow::anyhow!("panic"))??;
        sets.push((set, asked, now_ms()));
        println!("round {round}: {} writes", ledger.writes.len());
    }
    server.kill_family()?;
    for (set, asked, made) in sets {
        done(&["verify", text(&set)])?;
        // Everything acknowledged before it was asked for, nothing begun after it was made.
        let of_ledger = Ledger {
            writes: ledger
                .writes
                .iter()
                .map(|(sent, acknowledged)| match acknowledged < &asked {
                    true => (0, 0),
                    false => (*sent, u64::MAX / 4),
                })
                .collect(),
        };
        both_agree(&set, "yes", &of_ledger, made).with_context(|| format!("{set:?}"))?;
        let into = scratch.path().join("restored");
        done(&["restore", "--from", text(&set), "--into", text(&into)])?;
        both_agree(&into, "yes", &of_ledger, made)?;
        std::fs::remove_dir_all(into)?;
    }
    Ok(())
}

#[test]
fn without_a_server_the_source_stays_as_it_is() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (folder, sets) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut ledger = Ledger::default();
    written(folder.path(), &OPTIONS, &mut ledger)?.kill_family()?;
    let before = fingerprint(folder.path())?;
    let set = backup(
        folder.path(),
        &["--backup-dir", text(sets.path()), "--name", "one"],
    )?;
    anyhow::ensure!(fingerprint(folder.path())? == before, "the source changed");
    anyhow::ensure!(set == sets.path().join("one"), "{set:?}");
    let again = tool(&[
        "backup",
        "--dir",
        text(folder.path()),
        "--backup-dir",
        text(sets.path()),
        "--name",
        "one",
    ])?;
    anyhow::ensure!(
        again.code == 1 && again.errors.contains("already"),
        "{again:?}"
    );
    holds_all(&set, "yes", &ledger)?;
    // What goes on in the source afterwards does not reach the set.
    done(&["verify", text(&set)])?;
    let server = Server::start(Kind::RedRock, folder.path(), &OPTIONS)?;
    let mut later = ledger.clone();
    later.write_for(&mut server.client()?, 50)?;
    ask_companion(&mut server.client()?, "BGREWRITEAOF", || false)?;
    server.kill_family()?;
    done(&["verify", text(&set)])?;
    holds_all(&set, "yes", &ledger)
}

#[test]
fn without_a_log_the_dump_is_backed_up_or_made_for_the_set() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut ledger = Ledger::default();
    let server = written(folder.path(), &["--appendonly", "no"], &mut ledger)?;
    // Nothing is saved: a snapshot is taken for the set alone.
    let set = backup(folder.path(), &["--name", "fresh"])?;
    anyhow::ensure!(!folder.path().join("dump.rdb").exists(), "a dump was left");
    holds_all(&set, "no", &ledger)?;
    ask_companion(&mut server.client()?, "SAVE", || false)?;
    let linked = backup(folder.path(), &["--name", "linked"])?;
    let sets = listed(folder.path())?;
    let own: Vec<u64> = sets
        .iter()
        .map(|set| set["bytes"].as_u64().unwrap_or(0) - set["unique_bytes"].as_u64().unwrap_or(0))
        .collect();
    let dump = std::fs::metadata(folder.path().join("dump.rdb"))?.len();
    anyhow::ensure!(
        own.last().is_some_and(|shared| *shared > dump / 2),
        "{sets:?}"
    );
    holds_all(&linked, "no", &ledger)?;
    server.kill_family()?;
    let offline = backup(folder.path(), &["--name", "offline"])?;
    holds_all(&offline, "no", &ledger)?;
    done(&["verify", text(folder.path())])?;
    Ok(())
}

#[test]
fn killed_at_any_step_a_backup_is_whole_or_absent() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut ledger = Ledger::default();
    let server = written(folder.path(), &OPTIONS, &mut ledger)?;
    server.kill_family()?;
    let before = fingerprint(folder.path())?;
    let words = ["backup", "--dir", text(folder.path()), "--name", "set"];
    let sets = folder.path().join("backup");
    for point in ["backup-placed", "backup-summed", "backup-before-rename"] {
        let said = tool_with(&format!("{point}:kill"), &words)?;
        anyhow::ensure!(said.code == 128 + 9, "{point}: {said:?}");
        anyhow::ensure!(names(folder.path())?.is_empty(), "{point}");
        anyhow::ensure!(
            fingerprint(folder.path())? == before,
            "{point}: the source changed"
        );
    }
    let said = tool_with("backup-after-rename:kill", &words)?;
    anyhow::ensure!(said.code == 128 + 9, "{said:?}");
    done(&["verify", text(folder.path())])?;
    holds_all(&sets.join("set"), "yes", &ledger)?;
    // Beside a server, whose persister is killed and comes again.
    let external = ["--appendonly", "yes", "--companions", "external"];
    let server = Server::start(Kind::RedRock, folder.path(), &external)?;
    let mut client = server.client()?;
    let mut dying = Daemon::start("redrock-persist", folder.path(), "backup-summed:kill")?;
    until("an answer about a backup", || {
        let said = tool(&["backup", "--dir", text(folder.path())])?;
        anyhow::ensure!(said.code == 2, "{said:?}");
        Ok(dying.is_gone())
    })?;
    anyhow::ensure!(
        names(folder.path())? == ["set"],
        "{:?}",
        names(folder.path())?
    );
    let _next = Daemon::start("redrock-persist", folder.path(), "")?;
    until("the end of what it left", || {
        Ok(std::fs::read_dir(&sets)?.count() == 1)
    })?;
    ledger.write_for(&mut client, 20)?;
    until("a backup by the next one", || {
        Ok(tool(&["backup", "--dir", text(folder.path()), "--name", "next"])?.code == 0)
    })?;
    server.kill()?;
    holds_all(&sets.join("next"), "yes", &ledger)?;
    let left = std::fs::read_dir(&sets)?.count();
    anyhow::ensure!(left == 2, "{left} entries: what was left is removed");
    Ok(())
}

#[test]
fn as_many_as_backup_keep_says_are_kept_and_named_ones_too() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ledger = Ledger::default();
    let options = ["--appendonly", "yes", "--backup-keep", "2"];
    let server = written(folder.path(), &options, &mut ledger)?;
    let named = backup(folder.path(), &["--name", "by-hand"])?;
    let mut made = Vec::new();
    for _ in 0..4 {
        let set = backup(folder.path(), &[])?;
        made.push(
            set.file_name()
                .context("name")?
                .to_string_lossy()
                .into_owned(),
        );
    }
    made.drain(..2);
    made.insert(0, "by-hand".into());
    anyhow::ensure!(names(folder.path())? == made, "{:?}", names(folder.path())?);
    done(&["verify", text(folder.path()), text(&named)])?;
    // The same by the schedule.
    let mut client = server.client()?;
    for refused in ["every", "every 6", "sometimes"] {
        let reply = client.run(&["CONFIG", "SET", "backup-schedule", refused])?;
        anyhow::ensure!(reply.text().is_empty(), "{reply:?}");
    }
    client.run(&["CONFIG", "SET", "backup-schedule", "every 1s"])?;
    until("two backups by the schedule", || {
        let names = names(folder.path())?;
        Ok(names.len() == 3 && !names.iter().any(|name| made[1..].contains(name)))
    })?;
    client.run(&["CONFIG", "SET", "backup-schedule", ""])?;
    Ok(())
}

#[test]
fn whatever_is_damaged_in_a_set_is_found() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ledger = Ledger::default();
    let server = written(folder.path(), &OPTIONS, &mut ledger)?;
    ask_companion(&mut server.client()?, "BGREWRITEAOF", || false)?;
    ledger.write_for(&mut server.client()?, 20)?;
    server.kill_family()?;
    let set = backup(folder.path(), &["--name", "set"])?;
    let verify = || tool(&["verify", text(&set)]);
    anyhow::ensure!(verify()?.code == 0, "{:?}", verify()?);
    for (path, bytes) in fingerprint(&set)? {
        // A link shares its bytes with the source: damage a copy.
        std::fs::remove_file(&path)?;
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            std::fs::write(&path, &damaged)?;
            let said = verify()?;
            anyhow::ensure!(
                said.code == 1 && said.out.contains("DAMAGED"),
                "{path:?} {at}: {said:?}"
            );
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1])?;
        anyhow::ensure!(verify()?.code == 1, "{path:?} cut");
        std::fs::remove_file(&path)?;
        anyhow::ensure!(verify()?.code != 0, "{path:?} missing");
        std::fs::write(&path, &bytes)?;
    }
    anyhow::ensure!(verify()?.code == 0, "{:?}", verify()?);
    std::fs::write(set.join("more"), "x")?;
    anyhow::ensure!(verify()?.code == 1, "a file too many");
    Ok(())
}

#[test]
fn times_before_the_present_base_come_from_older_sets() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (folder, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut ledger = Ledger::default();
    let server = written(folder.path(), &OPTIONS, &mut ledger)?;
    ledger.write_for(&mut server.client()?, 300)?;
    let early = now_ms();
    ledger.write_for(&mut server.client()?, 300)?;
    backup(folder.path(), &[])?;
    ask_companion(&mut server.client()?, "BGREWRITEAOF", || false)?;
    let directory = folder.path().join("appendonlydir");
    until("the removal of what was replaced", || {
        Ok(!directory.join("appendonly.aof.1.incr.aof").exists())
    })?;
    server.kill_family()?;
    let date = [
        "-u",
        "-d",
        &format!("@{}.{:03}", early / 1000, early % 1000),
        "+%FT%T.%3NZ",
    ];
    let date = std::process::Command::new("date").args(date).output()?;
    let time = String::from_utf8(date.stdout)?;
    let into = scratch.path().join("new");
    let (data, sets) = (text(folder.path()), folder.path().join("backup"));
    let said = tool(&[
        "restore",
        "--to",
        time.trim(),
        "--from",
        data,
        "--into",
        text(&into),
    ])?;
    anyhow::ensure!(
        said.code == 1 && said.errors.contains("backup set"),
        "{said:?}"
    );
    done(&[
        "restore",
        "--to",
        time.trim(),
        "--from",
        data,
        "--from",
        text(&sets),
        "--into",
        text(&into),
    ])?;
    both_agree(&into, "yes", &ledger, early)?;
    Ok(())
}
