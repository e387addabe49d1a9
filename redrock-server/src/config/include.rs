//! `include` with wildcards.

use crate::value::glob;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

fn has_wildcard(text: &OsStr) -> bool {
    text.as_bytes().iter().any(|b| b"*?[".contains(b))
}

/// The paths that `pattern` stands for, relative ones counted from `dir`, sorted. A pattern with
/// wildcards may match none; a plain path is returned whether it exists or not.
pub(super) fn expand(dir: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let full = dir.join(pattern);
    if !has_wildcard(pattern) {
        return vec![full];
    }
    let mut found = vec![PathBuf::new()];
    for component in full.components() {
        found = match component {
            Component::Normal(name) if has_wildcard(name) => found
                .iter()
                .flat_map(|parent| children(parent, name))
                .collect(),
            other => found.into_iter().map(|parent| parent.join(other)).collect(),
        };
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

/// Entries of a directory that match; a leading dot must be matched by a dot, as in shells.
fn children(parent: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let hidden = pattern.as_bytes().starts_with(b".");
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_bytes();
            (hidden || !name.starts_with(b".")) && glob::matches(pattern.as_bytes(), name, false)
        })
        .map(|entry| entry.path())
        .collect()
}
