//! What to check for a path: a file by its content, a folder by its manifest.

use std::path::{Path, PathBuf};

use redrock_log::fs::{Fs, OpenMode};
use redrock_log::manifest::{self, Manifest, Names};
use redrock_log::scan::{Content, detect_content};
use redrock_log::sidecar::has_stream_bytes;

use super::log_file::check_log;
use super::rdb_file::check_rdb;
use super::{FileReport, Verdict};
use crate::progress::ActionProgress;

/// Checks a file, an append-only folder, or a data directory (its RDB files and append-only
/// folders). Never fails: what can't be read is part of the reports.
pub fn check_path(fs: &dyn Fs, path: &Path, progress: &ActionProgress) -> Vec<FileReport> {
    match fs.metadata(path) {
        Err(error) => vec![report(path, "file", Verdict::Unreadable(error.to_string()))],
        Ok(metadata) if metadata.is_dir => check_directory(fs, path, progress),
        Ok(metadata) => match names_of_manifest(path) {
            Some((directory, names)) => check_manifest(fs, &directory, &names, progress),
            None => {
                progress.expect_bytes(metadata.len);
                vec![check_file(fs, path, false, progress)]
            }
        },
    }
}

fn report(path: &Path, kind: &'static str, verdict: Verdict) -> FileReport {
    FileReport {
        path: path.to_owned(),
        kind,
        bytes: 0,
        keys: 0,
        commands: 0,
        verdict,
        facts: Vec::new(),
    }
}

/// Directory and names for a manifest's path.
fn names_of_manifest(path: &Path) -> Option<(PathBuf, Names)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".manifest")?;
    Some((path.parent()?.to_owned(), Names::new(name)))
}

fn check_directory(fs: &dyn Fs, path: &Path, progress: &ActionProgress) -> Vec<FileReport> {
    let names = match fs.list(path) {
        Ok(names) => names,
        Err(error) => {
            return vec![report(
                path,
                "folder",
                Verdict::Unreadable(error.to_string()),
            )];
        }
    };
    let paths: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
    let manifests: Vec<&PathBuf> = paths
        .iter()
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.ends_with(".manifest") && !name.starts_with("temp-"))
        })
        .collect();
    if !manifests.is_empty() {
        return manifests
            .into_iter()
            .filter_map(|path| names_of_manifest(path))
            .flat_map(|(directory, names)| check_manifest(fs, &directory, &names, progress))
            .collect();
    }
    let mut reports = Vec::new();
    let is_plain = |path: &&PathBuf| is_checked_alone(path) && !is_directory(fs, path);
    progress.expect_bytes(
        paths
            .iter()
            .filter(is_plain)
            .map(|path| length(fs, path))
            .sum(),
    );
    for path in &paths {
        let is_dir = is_directory(fs, path);
        if is_dir && holds_manifest(fs, path) {
            reports.extend(check_directory(fs, path, progress));
        } else if !is_dir && is_checked_alone(path) {
            reports.push(check_file(fs, path, false, progress));
        }
    }
    reports
}

fn is_directory(fs: &dyn Fs, path: &Path) -> bool {
    fs.metadata(path).is_ok_and(|metadata| metadata.is_dir)
}

/// Length of a file; 0 if it can't be had, which its report will say.
fn length(fs: &dyn Fs, path: &Path) -> u64 {
    fs.metadata(path).map_or(0, |metadata| metadata.len)
}

/// Whether it is a finished RDB or log file by its name.
fn is_checked_alone(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_temporary = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("temp-"));
    !is_temporary && matches!(extension, Some("rdb" | "aof"))
}

fn holds_manifest(fs: &dyn Fs, path: &Path) -> bool {
    fs.list(path).is_ok_and(|names| {
        names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".manifest"))
    })
}

/// Checks a manifest and every file that a restart would load.
fn check_manifest(
    fs: &dyn Fs,
    directory: &Path,
    names: &Names,
    progress: &ActionProgress,
) -> Vec<FileReport> {
    let path = directory.join(names.manifest());
    let manifest = match manifest::load(fs, directory, names) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let verdict = Verdict::Unreadable("no such file".into());
            return vec![report(&path, "manifest", verdict)];
        }
        Err(manifest::LoadError::Io(error)) => {
            return vec![report(
                &path,
                "manifest",
                Verdict::Unreadable(error.to_string()),
            )];
        }
        Err(manifest::LoadError::Invalid(error)) => {
            return vec![report(
                &path,
                "manifest",
                Verdict::Damaged(error.to_string()),
            )];
        }
    };
    let mut reports = vec![report(&path, "manifest", Verdict::Sound)];
    if let Some(first) = reports.first_mut() {
        first.bytes = fs.metadata(&path).map_or(0, |metadata| metadata.len);
        first.facts = manifest_facts(&manifest);
    }
    let files: Vec<PathBuf> = manifest
        .files_to_load()
        .map(|entry| directory.join(&entry.name))
        .collect();
    progress.expect_bytes(files.iter().map(|file| length(fs, file)).sum());
    for (index, file) in files.iter().enumerate() {
        let followed = files
            .iter()
            .skip(index + 1)
            .any(|later| has_stream_bytes(fs, later).unwrap_or(true));
        reports.push(check_file(fs, file, followed, progress));
    }
    reports
}

fn manifest_facts(manifest: &Manifest) -> Vec<(String, String)> {
    let kinds = [
        ("base", manifest.base.as_slice()),
        ("history", &manifest.history),
        ("increment", &manifest.incr),
    ];
    let entries = kinds
        .into_iter()
        .flat_map(|(kind, entries)| entries.iter().map(move |entry| (kind, entry)));
    entries
        .map(|(kind, entry)| {
            let start = entry
                .start_offset
                .map_or(String::new(), |start| format!(" from offset {start}"));
            let value = format!("{kind} {}{start}", entry.sequence);
            (entry.name.clone(), value)
        })
        .collect()
}

/// Checks one file by what it holds.
fn check_file(
    fs: &dyn Fs,
    path: &Path,
    followed_by_data: bool,
    progress: &ActionProgress,
) -> FileReport {
    let report = check_content(fs, path, followed_by_data, progress);
    progress.end_part(length(fs, path));
    report
}

fn check_content(
    fs: &dyn Fs,
    path: &Path,
    followed_by_data: bool,
    progress: &ActionProgress,
) -> FileReport {
    let unreadable = |error: String| report(path, "file", Verdict::Unreadable(error));
    let file = match fs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) => return unreadable(error.to_string()),
    };
    let (content, bytes) = match (detect_content(file.as_ref()), file.len()) {
        (Ok(content), Ok(bytes)) => (content, bytes),
        (Err(error), _) | (_, Err(error)) => return unreadable(error.to_string()),
    };
    let is_rdb = path.extension().is_some_and(|extension| extension == "rdb");
    if is_rdb || (content == Content::Rdb && path.extension().is_none()) {
        let (keys, verdict, facts) = match check_rdb(&file, false, progress) {
            Ok(rdb) => (rdb.keys, rdb.verdict(), rdb.facts),
            Err(problem) => (0, Verdict::Damaged(problem), Vec::new()),
        };
        return FileReport {
            bytes,
            keys,
            facts,
            ..report(path, "rdb", verdict)
        };
    }
    match check_log(fs, path, &file, followed_by_data, progress) {
        Ok(found) => FileReport {
            bytes,
            keys: found.keys,
            commands: found.commands,
            facts: found.facts,
            ..report(path, "aof", found.verdict)
        },
        Err(error) => unreadable(error),
    }
}
