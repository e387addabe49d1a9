//! What is looked at when everybody is dead, or after an undisturbed start.

use crate::Keeping;
use redrock_integration_tests::daemons::until;
use redrock_integration_tests::load::oracle::{Found, Oracle};
use redrock_integration_tests::process::{Kind, Server, binary};
use redrock_log::fs::RealFs;
use redrock_log::manifest::{self, Names};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const LOG: &str = "appendonlydir";
/// Folders with files under construction, and those that hold none when nothing is under way.
const FOLDERS: [&str; 5] = ["", LOG, "repl", "backup", "tier"];

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// Whether a name is one of work that is under way.
fn is_temporary(name: &str) -> bool {
    let begins = ["temp-", "checkpoint-"];
    name == "warm-former" || begins.iter().any(|begin| name.starts_with(begin))
}

/// Log files with bytes that no manifest lists.
fn unlisted(folder: &Path) -> anyhow::Result<Vec<String>> {
    let directory = folder.join(LOG);
    let Some(manifest) = manifest::load(&RealFs, &directory, &Names::default())? else {
        return Ok(Vec::new());
    };
    let bases = manifest.base.iter().map(|base| base.name.clone());
    let logs = manifest.incr.iter().map(|incr| incr.name.clone());
    let listed: BTreeSet<String> = bases.chain(logs).collect();
    let is_data = |name: &String| name.ends_with(".aof") || name.ends_with(".rdb");
    let stray = names(&directory).into_iter().filter(|name| {
        // The next file of the log is made before it is listed.
        let bytes = std::fs::metadata(directory.join(name)).map_or(0, |found| found.len());
        is_data(name) && !listed.contains(name) && bytes > 0
    });
    Ok(stray.collect())
}

/// What the dead left under construction goes, a while after a start.
pub(crate) fn nothing_left_over(folder: &Path) -> anyhow::Result<()> {
    let mut left = Vec::new();
    let gone = until("a folder without leftovers", || {
        left = unlisted(folder)?;
        for part in FOLDERS {
            let found = names(&folder.join(part)).into_iter();
            left.extend(found.filter(|name| is_temporary(name)));
        }
        Ok(left.is_empty())
    });
    gone.map_err(|error| error.context(format!("{left:?}")))
}

/// `redrock-persist` finds everything sound, and every backup set whole.
pub(crate) fn check_files(folder: &Path) -> anyhow::Result<()> {
    let sets = names(&folder.join("backup"));
    let words: &[&str] = match sets.is_empty() {
        true => &["check"],
        false => &["check", "verify"],
    };
    for word in words {
        let output = Command::new(binary("redrock-persist")?)
            .arg(word)
            .arg(folder)
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        anyhow::ensure!(output.status.success(), "{word}: {text}");
    }
    Ok(())
}

/// Redis refuses a log that is cut in the middle of a command but in its last file: the next one is
/// listed before anything is written to it. `redrock-persist check --repair`, or a start of ours, is
/// the way out (docs/formats/log.md).
fn empty_one_is_last(copy: &Path) -> anyhow::Result<bool> {
    let directory = copy.join(LOG);
    let manifest = manifest::load(&RealFs, &directory, &Names::default())?.unwrap_or_default();
    let Some(last) = manifest.incr.last() else {
        return Ok(false);
    };
    let bytes = std::fs::metadata(directory.join(&last.name))?.len();
    Ok(manifest.incr.len() > 1 && bytes == 0)
}

/// A real Redis finds in a copy what we found in the original.
pub(crate) fn redis_agrees(
    keeping: Keeping,
    oracle: &mut Oracle,
    copy: &Path,
    ours: &Found,
) -> anyhow::Result<()> {
    let log = match keeping {
        Keeping::Dump => "no",
        _ => "yes",
    };
    if keeping != Keeping::Dump && empty_one_is_last(copy)? {
        println!("the next file of the log was listed and empty: Redis is not asked");
        return Ok(());
    }
    let redis = Server::start(Kind::Redis, copy, &["--appendonly", log])?;
    let theirs = oracle.check(&mut redis.client()?, ours.counts, ours.counts)?;
    anyhow::ensure!(theirs == *ours, "Redis: {theirs:?}, we: {ours:?}");
    Ok(())
}
