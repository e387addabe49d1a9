//! Checking one append-only file: commands, sidecar, what a start would do about its tail.

use std::path::Path;
use std::sync::Arc;

use redrock_log::fs::{Fs, FsFile};
use redrock_log::scan::{
    Content, ScanLimits, SegmentScanner, Step, TailContext, TailDecision, decide_tail,
    detect_content,
};
use redrock_log::sidecar::SidecarReader;

use super::Verdict;
use super::rdb_file::check_rdb;
use crate::moment;
use crate::progress::ActionProgress;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogContent {
    pub keys: u64,
    pub commands: u64,
    pub verdict: Verdict,
    /// Offsets and times, for people.
    pub facts: Vec<(String, String)>,
}

/// Checks a file of commands, with an RDB in front or not. `followed_by_data` tells that a later
/// segment holds data, so that nothing may be missing here.
pub(super) fn check_log(
    fs: &dyn Fs,
    path: &Path,
    file: &Arc<dyn FsFile>,
    followed_by_data: bool,
    progress: &ActionProgress,
) -> Result<LogContent, String> {
    let mut content = LogContent {
        keys: 0,
        commands: 0,
        verdict: Verdict::Sound,
        facts: Vec::new(),
    };
    let text = |error: std::io::Error| error.to_string();
    let start = match detect_content(file.as_ref()).map_err(text)? {
        Content::Rdb => match check_rdb(file, true, progress) {
            Ok(rdb) => {
                content.keys = rdb.keys;
                content.verdict = rdb.verdict();
                content.facts = rdb.facts;
                rdb.end
            }
            Err(problem) => {
                content.verdict = Verdict::Damaged(problem);
                return Ok(content);
            }
        },
        Content::Empty | Content::Commands => 0,
    };
    let sidecar = SidecarReader::open(fs, path).map_err(|error| error.to_string())?;
    let verification = match &sidecar {
        Some(reader) => Some(
            reader
                .verify(file.as_ref())
                .map_err(|error| error.to_string())?,
        ),
        None => None,
    };
    if let Some(reader) = &sidecar {
        let bytes = file.len().map_err(text)?;
        content.facts.extend(sidecar_facts(reader, bytes)?);
    }
    let mut scanner =
        SegmentScanner::new(file.as_ref(), start, ScanLimits::default()).map_err(text)?;
    let end = loop {
        match scanner.next_step().map_err(text)? {
            Step::Command(command) => {
                if command.index % 4096 == 0 {
                    progress.written(command.end, content.keys);
                }
            }
            Step::End(end) => break end,
        }
    };
    content.commands = end.commands;
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let decision = decide_tail(
        &end,
        TailContext {
            file_name: &name,
            verification: verification.as_ref(),
            followed_by_data,
            load_truncated: true,
        },
    );
    content.verdict = verdict(decision, content.verdict);
    Ok(content)
}

/// The verdict on a file whose tail is to be treated so, and whose RDB in front has been checked.
fn verdict(tail: TailDecision, in_front: Verdict) -> Verdict {
    match (tail, in_front) {
        (TailDecision::Clean, in_front) => in_front,
        (TailDecision::TruncateAt { position, reason }, in_front) => {
            let tail = format!(
                "{reason}; a start with aof-load-truncated yes keeps the first {position} bytes"
            );
            Verdict::Remark(match in_front {
                Verdict::Remark(text) => format!("{text}. {tail}"),
                _ => tail,
            })
        }
        (
            TailDecision::Refuse {
                position,
                command_index,
                reason,
                way_out,
            },
            _,
        ) => Verdict::Damaged(format!(
            "{reason} (position {position}, behind {command_index} commands); {way_out}"
        )),
    }
}

/// What the sidecar says about a segment of so many bytes.
fn sidecar_facts(reader: &SidecarReader, bytes: u64) -> Result<Vec<(String, String)>, String> {
    let summary = reader.summary().map_err(|error| error.to_string())?;
    let header = reader.header();
    let (first, last) = (header.layout.start_offset, header.layout.offset_at(bytes));
    let mut facts = vec![
        ("offsets", format!("{first} to {last}")),
        ("replication id", text_of(&header.replid)),
        ("database at its start", header.database.to_string()),
        ("begun", moment::format(header.created_unix_ms)),
        ("synced up to byte", summary.durable_position.to_string()),
    ];
    if summary.records > 0 {
        facts.push(("last dated write", moment::format(summary.last_unix_ms)));
    }
    let facts = facts.into_iter();
    Ok(facts
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

fn text_of(id: &[u8]) -> String {
    String::from_utf8_lossy(id).into_owned()
}
