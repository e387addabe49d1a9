//! Verifying files without any daemon: RDB, append-only files, manifests, sidecars; and repairing
//! them when somebody asks for it ([`repair`]).
//!
//! Reading only, but for the repair. Memory is bounded by the largest single value or command.

pub mod command;
mod folder;
mod log_file;
mod rdb_file;
mod rebuild;
pub mod repair;
mod salvage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use redrock_log::fs::RealFs;
use redrock_proto::{RpcError, v1};

use crate::aof::rewrite::blocking;
use crate::error::Result;
use crate::progress::{ActionProgress, millis};
pub use folder::check_path;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every byte is as it should be.
    Sound,
    /// Loads, but not unchanged: a tail will be cut, or something is unusual.
    Remark(String),
    /// Does not load.
    Damaged(String),
    /// Could not be read.
    Unreadable(String),
}

/// The result for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    pub path: PathBuf,
    /// `rdb`, `aof` or `manifest`.
    pub kind: &'static str,
    pub bytes: u64,
    /// Keys in an RDB.
    pub keys: u64,
    /// Commands in an append-only file.
    pub commands: u64,
    pub verdict: Verdict,
    /// What else there is to say about it: name and value.
    pub facts: Vec<(String, String)>,
}

/// For `Persist.Verify`: checks a file or an append-only folder; the first damage is the error.
pub async fn verify(path: PathBuf, progress: ActionProgress) -> Result<v1::Outcome> {
    let shown = path.clone();
    let counting = progress.clone();
    let reports = blocking(move || Ok(check_path(&RealFs, &path, &counting))).await?;
    let mut outcome = v1::Outcome {
        path: shown.to_string_lossy().into_owned(),
        ..v1::Outcome::default()
    };
    for report in reports {
        let name = report.path.display();
        match report.verdict {
            Verdict::Sound | Verdict::Remark(_) => {}
            Verdict::Damaged(text) => {
                return Err(RpcError::corrupt(format!("{name}: {text}"))
                    .with_hint("`redrock-persist check` reports on every file"));
            }
            Verdict::Unreadable(text) => return Err(RpcError::internal(format!("{name}: {text}"))),
        }
        outcome.bytes += report.bytes;
        outcome.keys += report.keys;
    }
    outcome.elapsed_ms = millis(progress.elapsed());
    Ok(outcome)
}
