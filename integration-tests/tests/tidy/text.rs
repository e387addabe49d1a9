//! The text files of the repository.

use std::path::{Path, PathBuf};

/// A file that people read or edit.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// From the repository's root, with slashes.
    pub(crate) path: String,
    pub(crate) content: String,
}

/// Kinds of files that are looked at; others have no extension (scripts, Makefile, Dockerfile).
const EXTENSIONS: &[&str] = &["rs", "proto", "md", "toml", "sh", "yml", "yaml", "conf"];

pub(crate) fn root() -> PathBuf {
    PathBuf::from("..")
}

/// All text files, sorted. Build output, git's folder and fixtures are left out.
pub(crate) fn files() -> Vec<TextFile> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        found.len() > 100,
        "the repository was not found at {}",
        root.display()
    );
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<TextFile>) {
    for entry in std::fs::read_dir(folder).expect("list a folder") {
        let entry = entry.expect("list a folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), ".git" | "target" | "fixtures" | "corpus") {
            continue;
        }
        let path = entry.path();
        if entry.file_type().expect("type of a file").is_dir() {
            collect(root, &path, found);
            continue;
        }
        let plain = path
            .extension()
            .is_none_or(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        // A clone made by `git worktree` has a file `.git`, left out above.
        let Some(content) = plain.then(|| std::fs::read_to_string(&path).ok()).flatten() else {
            continue;
        };
        let path = path
            .strip_prefix(root)
            .expect("below the root")
            .to_string_lossy()
            .into_owned();
        found.push(TextFile { path, content });
    }
}

/// Whether `line` names a path that begins with `folder`: not in the middle of a longer one.
pub(crate) fn names_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '.' | '}' | ')' | '_' | '-' | '>' | '*')
        })
    })
}

#[test]
fn a_path_counts_only_from_its_beginning() {
    assert!(names_path("see /opt/x", "/opt/"));
    assert!(!names_path("see ../opt/x and a/opt/x", "/opt/"));
}
