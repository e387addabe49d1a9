//! Reading everything in a set again.

use std::collections::BTreeSet;
use std::path::Path;

use redrock_log::fs::RealFs;
use redrock_proto::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::list::files_below;
use super::set::{INFO_NAME, SUMS_NAME, SetManifest};
use super::sums::{self, Sums};
use crate::check::{Verdict, check_path};
use crate::console::Console;
use crate::error::Result;
use crate::progress::ActionProgress;
use crate::restore::build::length;

/// What is wrong with a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files and texts: the set is not what it was, or would not load.
    pub damaged: Vec<(String, String)>,
    /// What could not be read at all.
    pub unreadable: Vec<(String, String)>,
    /// Files compared with their checksums.
    pub files: u64,
    pub bytes: u64,
}

impl Findings {
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.unreadable.is_empty()
    }

    fn damaged(&mut self, name: &str, text: impl Into<String>) {
        self.damaged.push((name.to_owned(), text.into()));
    }
}

/// Verifies a set: description, list of checksums, every byte of every file, that there are no
/// other files, and that a server would load it. Never fails: what goes wrong is a finding.
pub fn verify(set: &Path, cancel: &CancellationToken) -> Findings {
    let mut findings = Findings::default();
    let Some(manifest) = loaded(&mut findings, INFO_NAME, SetManifest::load(&RealFs, set)) else {
        return findings;
    };
    let Some(manifest) = manifest else {
        findings.damaged(INFO_NAME, "is missing");
        return findings;
    };
    if !set.join(SUMS_NAME).exists() {
        findings.damaged(SUMS_NAME, "is missing");
        return findings;
    }
    let Some(sums) = loaded(&mut findings, SUMS_NAME, sums::load(&RealFs, set)) else {
        return findings;
    };
    compare_lists(&mut findings, set, &manifest, &sums);
    for (path, sum) in &sums {
        if !set.join(path).exists() {
            findings.damaged(path, "is missing");
            continue;
        }
        let Some(found) = loaded(&mut findings, path, sums::sum_file(&set.join(path), cancel))
        else {
            continue;
        };
        findings.files += 1;
        findings.bytes += length(&set.join(path));
        if found != *sum {
            findings.damaged(path, "does not match its checksum");
        }
    }
    if findings.is_sound() {
        load_test(&mut findings, set);
    }
    findings
}

fn loaded<T>(findings: &mut Findings, name: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let list = match error.code {
                ErrorCode::Corrupt => &mut findings.damaged,
                _ => &mut findings.unreadable,
            };
            list.push((name.to_owned(), error.message));
            None
        }
    }
}

/// Description, checksums and folder must name the same files.
fn compare_lists(findings: &mut Findings, set: &Path, manifest: &SetManifest, sums: &Sums) {
    if !sums.contains_key(INFO_NAME) {
        findings.damaged(INFO_NAME, "has no checksum");
    }
    let mut known = BTreeSet::from([INFO_NAME, SUMS_NAME]);
    for file in &manifest.files {
        known.insert(&file.path);
        if !sums.contains_key(&file.path) {
            findings.damaged(&file.path, "has no checksum");
        }
        let path = set.join(&file.path);
        if path.exists() && length(&path) != file.bytes {
            let text = format!("has {} bytes instead of {}", length(&path), file.bytes);
            findings.damaged(&file.path, text);
        }
    }
    for path in sums.keys().filter(|path| !known.contains(path.as_str())) {
        findings
            .damaged
            .push((path.clone(), "is not part of the set".into()));
    }
    let Some(present) = loaded(findings, ".", files_below(set)) else {
        return;
    };
    for path in present {
        let relative = path.strip_prefix(set).unwrap_or(&path).to_string_lossy();
        if !known.contains(relative.as_ref()) {
            findings.damaged(
                &relative,
                "is not part of the set: was a server started in it?",
            );
        }
    }
}

/// Sums prove that nothing has changed since; this, that it was good to begin with.
fn load_test(findings: &mut Findings, set: &Path) {
    let progress = ActionProgress::new();
    let _console = Console::watch("verify", &progress);
    for report in check_path(&RealFs, set, &progress) {
        let name = report.path.strip_prefix(set).unwrap_or(&report.path);
        let name = name.to_string_lossy();
        match report.verdict {
            Verdict::Sound | Verdict::Remark(_) => {}
            Verdict::Damaged(text) => findings.damaged(&name, text),
            Verdict::Unreadable(text) => findings.unreadable.push((name.into_owned(), text)),
        }
    }
}
