//! backup, restore and repair, killed behind each of their steps (at larger scale behind and within each
//! operation on a file): what is there is whole or absent, and the command can be repeated.

use crate::repair::{KEYS, filled, named};
use crate::{done, fingerprint, text, tool_with};
use anyhow::Context as _;
use redrock_integration_tests::process::{Kind, Server, copy_folder};
use redrock_integration_tests::scale::scale;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More than any of the commands does.
const OPERATIONS_MAX: u32 = 2000;

/// Kills a command at its first operation, at its second, and so on until it comes to its end. `look`
/// is called behind each death, and makes that the command can be run again. Gives the number of deaths.
fn die_at_each(
    words: &[&str],
    mut look: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<u32> {
    let kinds: &[(&str, &str)] = match scale() {
        1 => &[("step", "kill")],
        _ => &[("fs", "tear"), ("fs", "kill")],
    };
    let mut deaths = 0;
    for (at, (kind, action)) in kinds.iter().enumerate() {
        if at > 0 {
            look()?;
        }
        let mut ended = false;
        for number in 1..OPERATIONS_MAX {
            let point = format!("{kind}@{number}:{action}");
            let said = tool_with(&point, words)?;
            ended = said.code == 0;
            if ended {
                break;
            }
            anyhow::ensure!(said.code == 128 + 9, "{point}: {said:?}");
            look().with_context(|| format!("{}, {point}", words[0]))?;
            deaths += 1;
        }
        anyhow::ensure!(ended, "{words:?} comes to no end");
    }
    println!("{}: {deaths} deaths", words[0]);
    Ok(deaths)
}

/// Names in a folder.
fn entries(folder: &Path) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(folder)?.count())
}

/// A folder that is there is whole; it goes, so that the command can be repeated.
fn whole_or_absent(folder: &Path, check: &str) -> anyhow::Result<()> {
    if folder.exists() {
        done(&[check, text(folder)])?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[test]
fn a_backup_is_whole_or_absent_behind_each_operation() -> anyhow::Result<()> {
    let source = filled()?;
    let before = fingerprint(source.path())?;
    let sets = source.path().join("backup");
    let words = ["backup", "--dir", text(source.path()), "--name", "set"];
    let deaths = die_at_each(&words, || {
        anyhow::ensure!(
            fingerprint(source.path())? == before,
            "the source has changed"
        );
        whole_or_absent(&sets.join("set"), "verify")
    })?;
    anyhow::ensure!(deaths > 20, "{deaths} operations only");
    done(&["verify", text(&sets.join("set"))])?;
    anyhow::ensure!(entries(&sets)? == 1, "leftovers");
    Ok(())
}

#[test]
fn a_restore_is_whole_or_absent_behind_each_operation() -> anyhow::Result<()> {
    let source = filled()?;
    let before = fingerprint(source.path())?;
    let place = tempfile::tempdir()?;
    let new = place.path().join("new");
    let words = [
        "restore",
        "--from",
        text(source.path()),
        "--into",
        text(&new),
    ];
    let deaths = die_at_each(&words, || {
        anyhow::ensure!(
            fingerprint(source.path())? == before,
            "the source has changed"
        );
        whole_or_absent(&new, "check")
    })?;
    anyhow::ensure!(deaths > 10, "{deaths} operations only");
    anyhow::ensure!(entries(place.path())? == 1, "leftovers");
    let options = ["--appendonly", "yes", "--companions", "external"];
    let server = Server::start(Kind::RedRock, &new, &options)?;
    anyhow::ensure!(server.client()?.ok("DBSIZE")?.int() == Some(KEYS));
    Ok(())
}

/// What a start reads of a log.
fn log_files(directory: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (path, content) in fingerprint(directory)? {
        let name = path.file_name().context("a name")?.to_string_lossy();
        if !name.contains(".damaged-") {
            found.insert(PathBuf::from(name.into_owned()), content);
        }
    }
    Ok(found)
}

#[test]
fn a_repair_that_was_killed_can_be_done_again() -> anyhow::Result<()> {
    let source = filled()?;
    let directory = source.path().join("appendonlydir");
    let segments = named(&directory, ".incr.aof")?;
    let segment = segments
        .iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "aof"));
    let segment = segment.context("a segment")?;
    let mut content = std::fs::read(segment)?;
    let half = content.len() / 2;
    content[half] ^= 0xff;
    std::fs::write(segment, &content)?;

    let folder = tempfile::tempdir()?;
    let begin_anew = || -> anyhow::Result<()> {
        std::fs::remove_dir_all(folder.path())?;
        copy_folder(source.path(), folder.path())
    };
    let words = ["check", "--repair", "--yes", text(folder.path())];
    let log = folder.path().join("appendonlydir");
    begin_anew()?;
    done(&words)?;
    let wanted = log_files(&log)?;
    begin_anew()?;
    let deaths = die_at_each(&words, || {
        done(&words)?;
        done(&["check", text(folder.path())])?;
        anyhow::ensure!(
            log_files(&log)? == wanted,
            "{:?} instead of {:?}",
            log_files(&log)?.keys(),
            wanted.keys()
        );
        begin_anew()
    })?;
    anyhow::ensure!(deaths > 5, "{deaths} operations only");
    Ok(())
}
