//! `redrock-persist check --repair`: behind it both servers start, and the original is kept.

use crate::{text, tool};
use anyhow::Context as _;
use redrock_integration_tests::daemons::{ask_companion, companions_up, info, until};
use redrock_integration_tests::process::{Kind, Server, copy_folder, has_redis};
use std::path::{Path, PathBuf};

pub(crate) const KEYS: i64 = 200;

/// A data directory with a dump, a base with half of the keys and a segment with the others.
pub(crate) fn filled() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    // A checksum for each sync, so that damage is narrowed down to a command.
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = Server::start(Kind::RedRock, folder.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    for n in 0..KEYS {
        if n == KEYS / 2 {
            ask_companion(&mut client, "BGREWRITEAOF", || false)?;
            until("the rewrite", || {
                Ok(info(&mut client, "persistence", "aof_rewrites")? == "1")
            })?;
        }
        client.ok(&format!("SET key:{n} value-{n}"))?;
    }
    client.ok("SAVE")?;
    anyhow::ensure!(server.terminate()?.success());
    Ok(folder)
}

/// The files of a folder whose names hold `part`.
pub(crate) fn named(folder: &Path, part: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut found: Vec<_> = paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(part))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Puts `content` in the place of the file `name`, repairs the folder, and gives how many keys our
/// server and Redis then find, the same ones.
fn repaired(folder: &Path, file: &Path, content: &[u8], log: &str) -> anyhow::Result<i64> {
    std::fs::write(file, content)?;
    let refused = tool(&["check", text(folder)])?;
    anyhow::ensure!(refused.code == 1, "{refused:?}");
    let said = tool(&["check", "--repair", "--yes", text(folder)])?;
    anyhow::ensure!(said.code == 0, "{said:?}");
    let directory = file.parent().context("folder")?;
    let name = file.file_name().context("name")?.to_string_lossy();
    let mut kept = named(directory, &format!("{name}.damaged-"))?;
    kept.retain(|path| path.extension().is_none_or(|extension| extension != "meta"));
    anyhow::ensure!(kept.len() == 1, "{kept:?}: {said:?}");
    anyhow::ensure!(
        std::fs::read(&kept[0])? == content,
        "the original has changed"
    );
    anyhow::ensure!(said.out.contains(text(&kept[0])), "{said:?}");
    let mut found = Vec::new();
    let kinds: &[Kind] = match has_redis() {
        true => &[Kind::RedRock, Kind::Redis],
        false => &[Kind::RedRock],
    };
    for &kind in kinds {
        let copy = tempfile::tempdir()?;
        copy_folder(folder, copy.path())?;
        let mut options = vec!["--appendonly", log];
        if kind == Kind::RedRock {
            options.extend(["--enable-debug-command", "yes", "--companions", "external"]);
        }
        let server = Server::start(kind, copy.path(), &options).context(said.out.clone())?;
        let mut client = server.client()?;
        let keys = client.ok("DBSIZE")?.int().context("DBSIZE")?;
        found.push((keys, client.ok("DEBUG DIGEST")?.text()));
    }
    found.dedup();
    anyhow::ensure!(found.len() == 1, "the servers differ: {found:?}");
    Ok(found.first().map_or(0, |(keys, _)| *keys))
}

#[test]
fn a_repaired_log_dump_or_manifest_is_loaded_by_both_servers_and_the_damaged_copy_is_kept()
-> anyhow::Result<()> {
    let source = filled()?;
    let fresh = || -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
        let folder = tempfile::tempdir()?;
        copy_folder(source.path(), folder.path())?;
        let directory = folder.path().join("appendonlydir");
        Ok((folder, directory))
    };
    // The segment: cut before the damage, behind the base.
    let (folder, directory) = fresh()?;
    let segments = named(&directory, ".incr.aof")?;
    let segment = segments
        .iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "aof"))
        .context("a segment")?;
    let mut content = std::fs::read(segment)?;
    let half = content.len() / 2;
    content[half] ^= 0xff;
    let keys = repaired(folder.path(), segment, &content, "yes")?;
    anyhow::ensure!(
        (KEYS / 2..KEYS).contains(&keys) && keys > KEYS / 2,
        "{keys} keys"
    );

    // The dump: what can be read of it.
    let (folder, _) = fresh()?;
    let dump = folder.path().join("dump.rdb");
    let mut content = std::fs::read(&dump)?;
    content.truncate(content.len() / 2);
    let keys = repaired(folder.path(), &dump, &content, "no")?;
    anyhow::ensure!((1..KEYS).contains(&keys), "{keys} keys");

    // The manifest: found again from the files, which lose nothing.
    let (folder, directory) = fresh()?;
    let manifest = directory.join("appendonly.aof.manifest");
    let keys = repaired(folder.path(), &manifest, b"garbage\n", "yes")?;
    anyhow::ensure!(keys == KEYS, "{keys} keys");
    Ok(())
}
