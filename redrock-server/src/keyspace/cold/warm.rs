//! The folder of a warm start: a checkpoint of the tier, kept beside it, and what must be known to
//! go on with it (issue: 20 GB on disk are not written anew for every restart).
//!
//! A cut divides the data set: what the checkpoint holds, and the dirty part, which is the head of
//! the RDB file that the cut was made for. So that file's head, the checkpoint and the log since
//! are as good as the whole file and the log. The checkpoint never is the only copy of anything:
//! whatever is wrong with it, the file has all of it, and [`read`] refuses rather than guesses.
//!
//! `docs/formats/warm.md` describes the folder. Steps of [`keep`], each durable before the next:
//! the description inside the checkpoint's folder, the former folder's name away, the new one's
//! name in place. A crash in between leaves a folder that [`read`] does not look at, or none.

mod description;
#[cfg(test)]
mod tests;

pub use description::{ColdFile, WarmDatabase, WarmStart};

use super::{ColdError, DATABASE_DIR, io};
use redrock_log::failpoint::counted;
use redrock_log::fs::{Fs as _, RealFs, open_regular, remove_tree, write_durably};
use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The kept checkpoint, within the tier's folder.
pub(super) const FOLDER: &str = "warm";
/// The one before it, while it is replaced.
const FORMER: &str = "warm-former";
const DESCRIPTION: &str = "REDROCK_WARM";
/// A description with as many databases and files as can be.
const DESCRIPTION_BYTES_MAX: u64 = 64 << 20;
/// Files of a checkpoint that nobody writes to: they may have several names.
const SHARED_SUFFIXES: [&str; 2] = [".sst", ".blob"];

/// Where the description of the checkpoint in this tier folder is.
fn description_of(tier: &Path) -> PathBuf {
    tier.join(FOLDER).join(DESCRIPTION)
}

/// The secret of the kept checkpoint's positions, if there is one that can be read: a keyspace
/// that may go on with it must use the same.
pub fn secret(tier: &Path) -> Option<(u64, u64)> {
    read_description(tier).ok()?.map(|start| start.secret)
}

fn read_description(tier: &Path) -> Result<Option<WarmStart>, String> {
    let path = description_of(tier);
    let file = match open_regular(OpenOptions::new().read(true), &path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let mut text = String::new();
    file.take(DESCRIPTION_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let parsed = WarmStart::parse(&text);
    parsed
        .map(Some)
        .map_err(|why| format!("{}: {why}", path.display()))
}

/// The kept checkpoint of a tier folder, if its files are those that it was kept with. What it
/// belongs to is for the caller to compare. `Err`: there is one, and why it can't be used.
pub fn read(tier: &Path) -> Result<Option<WarmStart>, String> {
    let Some(start) = read_description(tier)? else {
        return Ok(None);
    };
    let folder = tier.join(FOLDER);
    for file in &start.files {
        let path = folder.join(&file.name);
        let found = std::fs::symlink_metadata(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if !found.is_file() || found.len() != file.bytes {
            return Err(format!(
                "{} has {} bytes, not {}",
                path.display(),
                found.len(),
                file.bytes
            ));
        }
    }
    Ok(Some(start))
}

/// Keeps the checkpoint in `checkpoint`, which must lie in the tier's folder, for a warm start.
/// The former one goes.
pub fn keep(tier: &Path, checkpoint: &Path, mut start: WarmStart) -> Result<(), ColdError> {
    start.files = files_of(checkpoint)?;
    let description = checkpoint.join(DESCRIPTION);
    for file in &start.files {
        let path = checkpoint.join(&file.name);
        if !is_shared(&file.name) {
            // RocksDB has synced what it wrote itself; these are copies.
            let file = std::fs::File::open(&path).map_err(io("open", &path))?;
            counted(&path, || file.sync_all()).map_err(io("sync", &path))?;
        }
    }
    write_durably(&RealFs, &description, start.text().as_bytes())
        .map_err(io("write", &description))?;
    let (folder, former) = (tier.join(FOLDER), tier.join(FORMER));
    remove(&former)?;
    if folder.exists() {
        RealFs
            .rename(&folder, &former)
            .map_err(io("rename", &folder))?;
    }
    RealFs
        .rename(checkpoint, &folder)
        .map_err(io("rename", checkpoint))?;
    RealFs.sync_dir(tier).map_err(io("sync", tier))?;
    remove(&former)?;
    Ok(())
}

/// Removes the kept checkpoint: its room is wanted, or it is of no use. True if there was one.
pub fn discard(tier: &Path) -> Result<bool, ColdError> {
    remove(&tier.join(FOLDER))
}

fn remove(path: &Path) -> Result<bool, ColdError> {
    match remove_tree(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("remove", path)(error)),
    }
}

fn is_shared(name: &str) -> bool {
    SHARED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// RocksDB's files in a folder, by name. Its log of events is none of them.
fn files_of(folder: &Path) -> Result<Vec<ColdFile>, ColdError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io("read", folder))? {
        let entry = entry.map_err(io("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata().map_err(io("look at", &entry.path()))?;
        let is_data = is_shared(&name) || name == "CURRENT" || name.starts_with("MANIFEST-");
        if metadata.is_file() && is_data {
            let bytes = metadata.len();
            files.push(ColdFile { name, bytes });
        }
    }
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Makes the tier's own folder from the kept checkpoint: its files get second names, so that the
/// checkpoint stays as it is whatever becomes of the tier.
pub(super) fn link(tier: &Path, start: &WarmStart) -> Result<(), ColdError> {
    let (from, to) = (tier.join(FOLDER), tier.join(DATABASE_DIR));
    std::fs::create_dir_all(&to).map_err(io("create", &to))?;
    for file in &start.files {
        let (from, to) = (from.join(&file.name), to.join(&file.name));
        if is_shared(&file.name) {
            RealFs.hard_link(&from, &to).map_err(io("link", &to))?;
        } else {
            counted(&to, || std::fs::copy(&from, &to)).map_err(io("copy", &to))?;
        }
    }
    Ok(())
}
