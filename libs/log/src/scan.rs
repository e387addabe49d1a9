//! The recovery scanner: complete commands of a segment, in bounded memory.
//!
//! Reads in chunks and holds one command at most. Parsing is as strict as Redis's checker:
//! `*argc`, then `$length` and bytes, each ended by CRLF; lines that start with `#` are
//! annotations and skipped. MULTI and EXEC are tracked so that the position outside an
//! open transaction is known.
//!
//! Invariants: positions are byte counts from the start of the file; a length larger than
//! what is left of the file is an incomplete command and allocates nothing; no content
//! makes it panic.

mod buffer;
mod decide;
mod truncate;

use std::io;
use std::ops::Range;

use crate::fs::FsFile;
use buffer::{Line, Window};
pub use decide::{TailContext, TailDecision, decide_tail};
pub use truncate::{TruncateError, truncate_tail};

/// Redis's bound for an annotation line.
const ANNOTATION_BYTES_MAX: usize = 1024;
/// `*` or `$`, a sign, 19 digits, CRLF, with some room.
const LENGTH_LINE_BYTES_MAX: usize = 32;
/// The least that one argument takes: `$0\r\n\r\n`.
const ARGUMENT_BYTES_MIN: u64 = 6;

/// Bounds for one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Number of arguments.
    pub arguments_max: usize,
    /// Bytes of one command as it stands in the log.
    pub command_bytes_max: u64,
}

impl Default for ScanLimits {
    /// As many arguments as a client may send, and four times what a client may send by default
    /// (`client-query-buffer-limit`): what was acknowledged must be read again. Nothing is allocated for what a
    /// length says and the file does not have.
    fn default() -> Self {
        Self {
            arguments_max: i32::MAX as usize,
            command_bytes_max: 4 << 30,
        }
    }
}

/// What a file holds, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No bytes at all.
    Empty,
    /// Starts with `REDIS`: an RDB, maybe with commands behind it. Or with `VALKEY`, which is one that
    /// its reader refuses by name.
    Rdb,
    /// Commands.
    Commands,
}

/// Looks at the first bytes of a file.
pub fn detect_content(file: &dyn FsFile) -> io::Result<Content> {
    let mut magic = [0u8; 5];
    let count = file.read_full_at(&mut magic, 0)?;
    Ok(match count {
        0 => Content::Empty,
        _ if matches!(&magic, b"REDIS" | b"VALKE") => Content::Rdb,
        _ => Content::Commands,
    })
}

/// A complete command; borrows the scanner's buffer.
#[derive(Debug)]
pub struct Command<'a> {
    bytes: &'a [u8],
    arguments: &'a [Range<usize>],
    /// Position of its first byte.
    pub start: u64,
    /// Position behind its last byte.
    pub end: u64,
    /// 0-based number of the command in the scan.
    pub index: u64,
}

impl<'a> Command<'a> {
    /// The arguments, the command's name first.
    pub fn arguments(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.arguments
            .iter()
            .map(move |range| bytes.get(range.clone()).unwrap_or(&[]))
    }
    /// One argument; 0 is the command's name.
    pub fn argument(&self, index: usize) -> Option<&'a [u8]> {
        self.bytes.get(self.arguments.get(index)?.clone())
    }
    /// The number of arguments, the name included; at least 1.
    pub fn arguments_count(&self) -> usize {
        self.arguments.len()
    }
    /// The command's bytes as they stand in the log.
    pub fn raw(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Why the scan stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The file ended between commands, outside MULTI.
    End,
    /// The file ended between commands, inside a transaction that began at `multi_start`.
    OpenMulti {
        /// Position of the MULTI.
        multi_start: u64,
    },
    /// The file ended inside a command; all its bytes so far are well-formed.
    Incomplete,
    /// A byte that can't stand where it stands.
    BadFormat {
        /// Position of that byte (of the command's start where a whole is at fault).
        at: u64,
        /// What was expected.
        reason: &'static str,
    },
    /// Well-formed so far, but beyond [`ScanLimits`].
    TooLarge {
        /// Which bound.
        reason: &'static str,
    },
}

/// Where the scan stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanEnd {
    /// Why.
    pub reason: StopReason,
    /// Position of the first byte not consumed: the end, or the start of the command that
    /// could not be read.
    pub position: u64,
    /// Position behind the last command outside an open MULTI: what a replay may keep.
    pub safe_position: u64,
    /// Number of complete commands read.
    pub commands: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

/// One step of a scan.
#[derive(Debug)]
pub enum Step<'a> {
    /// A complete command.
    Command(Command<'a>),
    /// The end; every further call gives it again.
    End(ScanEnd),
}

/// A streaming scan over one file.
#[derive(Debug)]
pub struct SegmentScanner<'f> {
    window: Window<'f>,
    limits: ScanLimits,
    arguments: Vec<Range<usize>>,
    safe_position: u64,
    multi_start: Option<u64>,
    commands: u64,
    last_timestamp: Option<i64>,
    end: Option<StopReason>,
}

enum Parsed {
    Command,
    EndOfFile,
}

impl<'f> SegmentScanner<'f> {
    /// Scans from `position` (0, behind the `SELECT` prefix, or behind an RDB preamble).
    /// The length of the file is taken now; bytes appended later are not seen.
    pub fn new(file: &'f dyn FsFile, position: u64, limits: ScanLimits) -> io::Result<Self> {
        Ok(Self {
            window: Window::new(file, position)?,
            limits,
            arguments: Vec::new(),
            safe_position: position,
            multi_start: None,
            commands: 0,
            last_timestamp: None,
            end: None,
        })
    }

    /// The value of the last `#TS:` annotation passed, unix seconds.
    pub fn last_timestamp(&self) -> Option<i64> {
        self.last_timestamp
    }

    /// Position behind the last command outside an open MULTI.
    pub fn safe_position(&self) -> u64 {
        self.safe_position
    }

    /// Whether the last command given lies inside a transaction that is still open.
    pub fn in_multi(&self) -> bool {
        self.multi_start.is_some()
    }

    /// The next command, or the end. An error is a failure to read.
    pub fn next_step(&mut self) -> io::Result<Step<'_>> {
        if self.end.is_none() {
            self.window.release();
            match self.parse_next()? {
                Ok(Parsed::Command) => return Ok(Step::Command(self.take_command())),
                Ok(Parsed::EndOfFile) => {
                    self.end = Some(match self.multi_start {
                        Some(multi_start) => StopReason::OpenMulti { multi_start },
                        None => StopReason::End,
                    });
                }
                Err(reason) => self.end = Some(reason),
            }
        }
        Ok(Step::End(ScanEnd {
            reason: self.end.clone().unwrap_or(StopReason::End),
            position: self.window.start(),
            safe_position: self.safe_position,
            commands: self.commands,
            file_bytes: self.window.file_bytes(),
        }))
    }

    fn take_command(&mut self) -> Command<'_> {
        let index = self.commands;
        self.commands += 1;
        Command {
            start: self.window.start(),
            end: self.window.position(),
            bytes: self.window.consumed(),
            arguments: &self.arguments,
            index,
        }
    }

    fn parse_next(&mut self) -> io::Result<Result<Parsed, StopReason>> {
        while self.window.peek()? == Some(b'#') {
            if let Err(reason) = self.skip_annotation()? {
                return Ok(Err(reason));
            }
        }
        if self.window.peek()?.is_none() {
            return Ok(Ok(Parsed::EndOfFile));
        }
        if let Err(reason) = self.parse_command()? {
            return Ok(Err(reason));
        }
        Ok(self.track_multi().map(|()| Parsed::Command))
    }

    fn skip_annotation(&mut self) -> io::Result<Result<(), StopReason>> {
        let line = match self.window.line(ANNOTATION_BYTES_MAX, false)? {
            Line::Whole(range) => self.window.bytes(range),
            Line::Incomplete => return Ok(Err(StopReason::Incomplete)),
            Line::Bad { at } => {
                return Ok(Err(StopReason::BadFormat {
                    at,
                    reason: "an annotation line is too long",
                }));
            }
        };
        let seconds = line
            .strip_prefix(b"#TS:")
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.trim_end().parse().ok());
        if seconds.is_some() {
            self.last_timestamp = seconds;
        }
        self.window.release();
        if self.multi_start.is_none() {
            self.safe_position = self.window.position();
        }
        Ok(Ok(()))
    }

    fn parse_command(&mut self) -> io::Result<Result<(), StopReason>> {
        self.arguments.clear();
        let count = match self.length_line(b'*', "expected '*' and the number of arguments")? {
            Ok(count) => count,
            Err(reason) => return Ok(Err(reason)),
        };
        if count == 0 {
            return Ok(Err(StopReason::BadFormat {
                at: self.window.start(),
                reason: "a command without arguments",
            }));
        }
        if count.saturating_mul(ARGUMENT_BYTES_MIN) > self.window.bytes_left() {
            // The file ends first; still the bytes that are there must be well-formed.
            return self
                .parse_arguments(count)
                .map(|parsed| parsed.and(Err(StopReason::Incomplete)));
        }
        self.parse_arguments(count)
    }

    fn parse_arguments(&mut self, count: u64) -> io::Result<Result<(), StopReason>> {
        for _ in 0..count {
            if self.arguments.len() >= self.limits.arguments_max {
                return Ok(Err(StopReason::TooLarge {
                    reason: "too many arguments",
                }));
            }
            let length = match self.length_line(b'$', "expected '$' and the argument's length")? {
                Ok(length) => length,
                Err(reason) => return Ok(Err(reason)),
            };
            let command_bytes = (self.window.position() - self.window.start())
                .saturating_add(length)
                .saturating_add(2);
            if length.saturating_add(2) > self.window.bytes_left() {
                return Ok(Err(self.short_argument(length)?));
            }
            if command_bytes > self.limits.command_bytes_max {
                return Ok(Err(StopReason::TooLarge {
                    reason: "a command is too long",
                }));
            }
            let range = self.window.take(length as usize)?;
            self.arguments.push(range);
            for expected in *b"\r\n" {
                if self.window.peek()? != Some(expected) {
                    return Ok(Err(StopReason::BadFormat {
                        at: self.window.position(),
                        reason: "expected CRLF behind an argument",
                    }));
                }
                self.window.take(1)?;
            }
        }
        Ok(Ok(()))
    }

    /// The file ends inside an argument or its CRLF: incomplete, unless the one byte of
    /// the CRLF that is there is wrong.
    fn short_argument(&mut self, length: u64) -> io::Result<StopReason> {
        if self.window.bytes_left() == length.saturating_add(1) {
            let at = self.window.position() + length;
            if self.window.byte_in_file(at)? != Some(b'\r') {
                return Ok(StopReason::BadFormat {
                    at,
                    reason: "expected CRLF behind an argument",
                });
            }
        }
        Ok(StopReason::Incomplete)
    }

    fn length_line(
        &mut self,
        kind: u8,
        reason: &'static str,
    ) -> io::Result<Result<u64, StopReason>> {
        let line_start = self.window.position();
        match self.window.peek()? {
            None => return Ok(Err(StopReason::Incomplete)),
            Some(byte) if byte == kind => {}
            Some(_) => {
                return Ok(Err(StopReason::BadFormat {
                    at: line_start,
                    reason,
                }));
            }
        }
        let range = match self.window.line(LENGTH_LINE_BYTES_MAX, true)? {
            Line::Whole(range) => range,
            Line::Incomplete => return Ok(Err(StopReason::Incomplete)),
            Line::Bad { at } => return Ok(Err(StopReason::BadFormat { at, reason })),
        };
        let digits = self.window.bytes(range).get(1..).unwrap_or(&[]);
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok());
        Ok(number.ok_or(StopReason::BadFormat {
            at: line_start,
            reason,
        }))
    }

    fn track_multi(&mut self) -> Result<(), StopReason> {
        let name = self
            .arguments
            .first()
            .map(|range| self.window.bytes(range.clone()))
            .unwrap_or(&[]);
        let bad = |reason| StopReason::BadFormat {
            at: self.window.start(),
            reason,
        };
        if name.eq_ignore_ascii_case(b"multi") {
            if self.multi_start.is_some() {
                return Err(bad("MULTI inside MULTI"));
            }
            self.multi_start = Some(self.window.start());
        } else if name.eq_ignore_ascii_case(b"exec") && self.multi_start.take().is_none() {
            return Err(bad("EXEC without MULTI"));
        }
        if self.multi_start.is_none() {
            self.safe_position = self.window.position();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
