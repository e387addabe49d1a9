//! The AOF manifest, byte-compatible with Redis 7.
//!
//! `appendonly.aof.manifest` lists the files that make up the data set: at most one base,
//! the increments in order, and history files that await removal. A [`Manifest`] is a
//! value: operations return a new one, [`store`] makes it durable, and until its rename
//! lands the former one rules.
//!
//! Beyond Redis 7.0 an entry may carry `startoffset` and `endoffset`, the keys that Redis
//! 8 writes; Redis 7 ignores unknown keys. The sidecar's start offset rules over them.

mod edit;
mod quoting;
mod reserve;
mod store;
mod upgrade;

use std::fmt::Write as _;

pub use edit::ManifestEditError;
pub use reserve::{RESERVE_BYTES, RESERVE_NAME, keep_reserve};
pub use store::{LoadError, load, store, store_checked, temporary_manifest_name};
pub use upgrade::{UpgradeInputs, UpgradePlan, plan_upgrade, upgrade_single_file};

/// Redis's limit for one manifest line, the newline included.
const LINE_BYTES_MAX: usize = 1024;

/// The role of a listed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The snapshot that the increments continue (`b`).
    Base,
    /// Replaced by a rewrite, to be removed (`h`).
    History,
    /// A log segment (`i`).
    Incr,
}

impl FileKind {
    fn letter(self) -> char {
        match self {
            Self::Base => 'b',
            Self::History => 'h',
            Self::Incr => 'i',
        }
    }
}

/// The encoding of a base file, which its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseFormat {
    /// `.base.rdb` (`aof-use-rdb-preamble yes`).
    Rdb,
    /// `.base.aof`.
    Aof,
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// File name inside the append-only directory, never a path. UTF-8 only: other names
    /// are refused when read.
    pub name: String,
    /// Sequence number, never 0 (Redis accepts a negative one for base and history).
    pub sequence: i64,
    /// Role of the file.
    pub kind: FileKind,
    /// Stream offset of the segment's first stream byte (`startoffset`).
    pub start_offset: Option<u64>,
    /// Stream offset behind the segment's last stream byte (`endoffset`).
    pub end_offset: Option<u64>,
}

/// The parsed manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The base, if any.
    pub base: Option<FileEntry>,
    /// Files awaiting removal, newest first as Redis keeps them.
    pub history: Vec<FileEntry>,
    /// The segments, sequence numbers rising.
    pub incr: Vec<FileEntry>,
}

/// Names derived from `appendfilename`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The value of `appendfilename`, `appendonly.aof` by default.
    pub file_name: String,
}

impl Names {
    /// Names for the given `appendfilename`.
    pub fn new(file_name: impl Into<String>) -> Self {
        Self {
            file_name: file_name.into(),
        }
    }
    /// `appendonly.aof.manifest`.
    pub fn manifest(&self) -> String {
        format!("{}.manifest", self.file_name)
    }
    /// `appendonly.aof.N.base.rdb` or `.base.aof`.
    pub fn base(&self, sequence: i64, format: BaseFormat) -> String {
        let suffix = match format {
            BaseFormat::Rdb => "rdb",
            BaseFormat::Aof => "aof",
        };
        format!("{}.{sequence}.base.{suffix}", self.file_name)
    }
    /// `appendonly.aof.N.incr.aof`.
    pub fn incr(&self, sequence: i64) -> String {
        format!("{}.{sequence}.incr.aof", self.file_name)
    }
    /// Whether [`Self::base`] makes this name.
    pub fn is_base(&self, name: &str) -> bool {
        let parts = name.strip_prefix(&self.file_name);
        parts
            .and_then(|rest| rest.strip_prefix('.')?.split_once('.'))
            .is_some_and(|(sequence, kind)| {
                sequence.parse::<i64>().is_ok() && matches!(kind, "base.rdb" | "base.aof")
            })
    }
    /// The sequence number in a name that [`Self::incr`] made.
    pub fn incr_sequence(&self, name: &str) -> Option<i64> {
        name.strip_prefix(&self.file_name)?
            .strip_prefix('.')?
            .strip_suffix(".incr.aof")?
            .parse()
            .ok()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new("appendonly.aof")
    }
}

/// Why a manifest could not be read; the messages are Redis's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", self.place())]
pub struct ManifestError {
    /// Redis's text.
    pub message: &'static str,
    /// 1-based line number; 0 if no line was read.
    pub line_number: usize,
    /// The line, trimmed, if Redis would show it.
    pub line: Option<String>,
}

impl ManifestError {
    fn place(&self) -> String {
        match &self.line {
            Some(line) => format!(" (manifest line {}: '{line}')", self.line_number),
            None => String::new(),
        }
    }

    /// The report that Redis logs before it exits.
    pub fn redis_report(&self) -> String {
        let mut report = String::from("\n*** FATAL AOF MANIFEST FILE ERROR ***\n");
        if let Some(line) = &self.line {
            let _ = write!(
                report,
                "Reading the manifest file, at line {}\n>>> '{line}'\n",
                self.line_number
            );
        }
        report.push_str(self.message);
        report.push('\n');
        report
    }
}

/// The text form, exactly as Redis formats it, plus the offsets where known.
pub fn format(manifest: &Manifest) -> String {
    let mut text = String::new();
    let entries = manifest
        .base
        .iter()
        .chain(&manifest.history)
        .chain(&manifest.incr);
    for entry in entries {
        let name = quoting::quote_if_needed(entry.name.as_bytes());
        let (sequence, letter) = (entry.sequence, entry.kind.letter());
        let _ = write!(text, "file {name} seq {sequence} type {letter}");
        if let Some(offset) = entry.start_offset {
            let _ = write!(text, " startoffset {offset}");
        }
        if let Some(offset) = entry.end_offset {
            let _ = write!(text, " endoffset {offset}");
        }
        text.push('\n');
    }
    text
}

/// Parses the text form under Redis's rules: lines of at most 1024 bytes that end in a
/// newline, `#` comments, key/value pairs in any order with unknown keys ignored, one
/// base, rising sequence numbers of increments.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let mut manifest = Manifest::default();
    let mut rest = bytes;
    let mut line_number = 0;
    if rest.is_empty() {
        return Err(ManifestError {
            message: "Found an empty AOF manifest",
            line_number: 0,
            line: None,
        });
    }
    while !rest.is_empty() {
        // As fgets does: through the newline, or as much as the buffer takes.
        let window = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
        let taken = match window.iter().position(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None => window.len(),
        };
        let (line, behind) = rest.split_at(taken);
        rest = behind;
        line_number += 1;
        if line.first() == Some(&b'#') {
            continue;
        }
        parse_line(line, &mut manifest).map_err(|(message, shown)| ManifestError {
            message,
            line_number,
            line: shown.map(|line| String::from_utf8_lossy(line).into_owned()),
        })?;
    }
    Ok(manifest)
}

const INVALID_FORMAT: &str = "Invalid AOF manifest file format";

fn parse_line<'a>(
    line: &'a [u8],
    manifest: &mut Manifest,
) -> Result<(), (&'static str, Option<&'a [u8]>)> {
    // Redis works on C strings: a NUL byte ends the line before its newline.
    if line.last() != Some(&b'\n') || line.contains(&0) {
        return Err(("The AOF manifest file contains too long line", None));
    }
    let line = trim(line);
    let fail = |message| (message, Some(line));
    let arguments = quoting::split_arguments(line).ok_or(fail(INVALID_FORMAT))?;
    if arguments.len() < 6 || arguments.len() % 2 != 0 {
        return Err(fail(INVALID_FORMAT));
    }
    let entry = parse_entry(&arguments).map_err(fail)?;
    match entry.kind {
        FileKind::Base => {
            if manifest.base.is_some() {
                return Err(fail("Found duplicate base file information"));
            }
            manifest.base = Some(entry);
        }
        FileKind::History => manifest.history.push(entry),
        FileKind::Incr => {
            let last = manifest.incr.last().map_or(0, |entry| entry.sequence);
            if entry.sequence <= last {
                return Err(fail("Found a non-monotonic sequence number"));
            }
            manifest.incr.push(entry);
        }
    }
    Ok(())
}

fn parse_entry(arguments: &[Vec<u8>]) -> Result<FileEntry, &'static str> {
    let (mut name, mut sequence, mut letter) = (None, 0, None);
    let (mut start_offset, mut end_offset) = (None, None);
    for pair in arguments.chunks_exact(2) {
        let [key, value] = pair else { continue };
        match key.to_ascii_lowercase().as_slice() {
            b"file" => name = Some(parse_name(value)?),
            b"seq" => sequence = leading_integer(value),
            b"type" => letter = value.first().copied(),
            b"startoffset" => start_offset = offset_value(value),
            b"endoffset" => end_offset = offset_value(value),
            _ => {}
        }
    }
    let (Some(name), Some(letter)) = (name, letter) else {
        return Err(INVALID_FORMAT);
    };
    if sequence == 0 {
        return Err(INVALID_FORMAT);
    }
    let kind = match letter {
        b'b' => FileKind::Base,
        b'h' => FileKind::History,
        b'i' => FileKind::Incr,
        _ => return Err("Unknown AOF file type"),
    };
    Ok(FileEntry {
        name,
        sequence,
        kind,
        start_offset,
        end_offset,
    })
}

fn parse_name(value: &[u8]) -> Result<String, &'static str> {
    const NOT_A_NAME: &str = "File can't be a path, just a filename";
    if value.contains(&b'/') || value.contains(&b'\\') {
        return Err(NOT_A_NAME);
    }
    // Stricter than Redis: these can never name a file, and unlinking goes by the name.
    if matches!(value, b"" | b"." | b"..") || value.contains(&0) {
        return Err(NOT_A_NAME);
    }
    String::from_utf8(value.to_vec()).map_err(|_| INVALID_FORMAT)
}

/// As atoll: blanks, a sign, digits; what follows is ignored, no digits give 0.
fn leading_integer(value: &[u8]) -> i64 {
    let value = value.trim_ascii_start();
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let magnitude =
        digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0i64, |sum, byte| {
                sum.saturating_mul(10)
                    .saturating_add(i64::from(byte - b'0'))
            });
    if negative { -magnitude } else { magnitude }
}

/// An offset key that is no plain number is ignored, as an unknown key would be.
fn offset_value(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn trim(line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|byte| !blank(byte));
    let end = line.iter().rposition(|byte| !blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => line.get(start..=end).unwrap_or(&[]),
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
