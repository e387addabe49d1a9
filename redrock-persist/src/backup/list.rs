//! The sets in a folder.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use redrock_log::fs::RealFs;

use super::set::SetManifest;
use crate::error::{Result, io_error};
use crate::place::TEMPORARY;

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSet {
    pub name: String,
    pub path: PathBuf,
    /// Why it can't be read, if so.
    pub manifest: std::result::Result<SetManifest, String>,
    /// Bytes of files that nothing outside of the set shares: what its removal gives back.
    pub unique_bytes: u64,
}

impl ListedSet {
    /// When it was made, unix milliseconds; 0 if it can't be read.
    pub fn made_unix_ms(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |set| set.made_unix_ms)
    }
}

/// The sets in a folder, oldest first; none if there is no such folder.
pub fn sets(folder: &Path) -> Result<Vec<ListedSet>> {
    let failed = |error: io::Error| io_error("read", folder, &error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut sets = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with(TEMPORARY) {
            sets.extend(set(&name, entry.path()));
        }
    }
    sets.sort_by(|one, other| {
        (one.made_unix_ms(), &one.name).cmp(&(other.made_unix_ms(), &other.name))
    });
    Ok(sets)
}

/// The set at a path; `None` if there is none.
pub fn set(name: &str, path: PathBuf) -> Option<ListedSet> {
    let manifest = match SetManifest::load(&RealFs, &path) {
        Ok(manifest) => Ok(manifest?),
        Err(error) => Err(error.message),
    };
    let files = files_below(&path).unwrap_or_default();
    let unique_bytes = files
        .iter()
        .filter_map(|file| std::fs::metadata(file).ok())
        .filter(|metadata| metadata.nlink() == 1)
        .map(|metadata| metadata.len())
        .sum();
    Some(ListedSet {
        name: name.to_owned(),
        path,
        manifest,
        unique_bytes,
    })
}

/// The newest set that can be read.
pub fn newest(folder: &Path) -> Result<Option<ListedSet>> {
    let mut sets = sets(folder)?;
    sets.retain(|set| set.manifest.is_ok());
    Ok(sets.pop())
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| io_error("read", folder, &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_type().map_err(failed)?.is_dir() {
            true => found.extend(files_below(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}
