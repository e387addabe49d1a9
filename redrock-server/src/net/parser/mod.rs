//! Request parser: RESP multibulk and inline commands out of a byte buffer.
//!
//! Incremental: [`Parser::next`] is called again with a longer buffer that starts with the same
//! bytes, and goes on where it stopped. Arguments are ranges of the buffer; nothing is copied.
//! Error texts are those of Redis's `processMultibulkBuffer` and `processInlineBuffer`.

#[cfg(test)]
mod differential;
mod quoting;
#[cfg(test)]
mod tests;

pub use quoting::split_quoted;
use redrock_rdb::number::parse_i64;
use std::ops::Range;

/// Longest inline request and longest header line, bytes (`PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Arguments for which there is room from one request to the next.
const ARGUMENTS_KEPT: usize = 1024;

/// Limits that hold for one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// `proto-max-bulk-len`
    pub bulk_bytes_max: usize,
    /// What one request may take in all; a larger one is refused.
    pub request_bytes_max: usize,
    /// False until the client has authenticated, where that is needed: tiny limits then.
    pub authenticated: bool,
}

/// The outcome of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A command: [`Parser::arguments`] has its ranges; the buffer up to `consumed` is done with.
    Command {
        /// Bytes of the buffer that the command used.
        consumed: usize,
    },
    /// An empty request (`\r\n` or `*0`), to be skipped.
    Empty {
        /// Bytes of the buffer that it used.
        consumed: usize,
    },
    /// More bytes are needed; if known, how long the buffer must be at least.
    Incomplete {
        /// Length that the buffer will need.
        needed: usize,
    },
    /// The request is larger than allowed. It is to be passed over: the rest of the argument under
    /// way, and the arguments after it.
    TooLarge {
        /// Bytes of the buffer before the argument's value.
        consumed: usize,
        /// The argument's length, line end included.
        body_bytes: usize,
        /// Arguments after it.
        arguments: usize,
    },
    /// The request is malformed; the connection is closed after this error. It may repeat a byte
    /// of the request, whatever that is.
    Error(Vec<u8>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Parser {
    /// Position behind what was understood so far.
    at: usize,
    /// Position behind what was understood of an unfinished request, the length of an argument
    /// included whose value is still coming.
    understood: usize,
    /// Arguments still to come; `None` before a request's first line was read.
    remaining: Option<usize>,
    arguments: Vec<Range<usize>>,
    /// An inline request's arguments after unquoting, when they aren't plain ranges.
    unquoted: Vec<u8>,
    inline: bool,
}

impl Parser {
    /// The arguments of the last command, out of the buffer it was parsed from.
    pub fn arguments<'b>(&'b self, buffer: &'b [u8], argv: &mut impl Extend<&'b [u8]>) {
        let source = if self.inline {
            &self.unquoted[..]
        } else {
            buffer
        };
        argv.extend(
            self.arguments
                .iter()
                .map(|r| source.get(r.clone()).unwrap_or_default()),
        );
    }

    /// Forgets the last command; the buffer's consumed bytes were dropped.
    pub fn reset(&mut self) {
        (self.at, self.understood) = (0, 0);
        self.remaining = None;
        self.arguments.clear();
        self.arguments.shrink_to(ARGUMENTS_KEPT);
        self.unquoted.clear();
        self.unquoted.shrink_to(ARGUMENTS_KEPT);
        self.inline = false;
    }

    /// Where the last command's arguments are in its buffer; `None` for an inline command.
    pub fn ranges(&self) -> Option<&[Range<usize>]> {
        (!self.inline).then_some(&*self.arguments)
    }

    /// Bytes at the start of the buffer that were understood: Redis counts them no longer as
    /// waiting to be parsed.
    pub fn understood_bytes(&self) -> usize {
        self.understood.max(self.at)
    }

    /// Bytes of buffer that the unfinished request may still refer to, for memory limits.
    pub fn memory_bytes(&self) -> usize {
        self.arguments.capacity() * size_of::<Range<usize>>() + self.unquoted.capacity()
    }

    /// Goes on parsing `buffer`.
    pub fn next(&mut self, buffer: &[u8], limits: RequestLimits) -> Step {
        let Some(&first) = buffer.first() else {
            return Step::Incomplete { needed: 1 };
        };
        if first != b'*' && self.remaining.is_none() {
            return self.next_inline(buffer);
        }
        if self.remaining.is_none() {
            match self.header(buffer, 0, "too big mbulk count string") {
                Err(step) => return step,
                Ok((digits, end)) => {
                    let Some(count) =
                        parse_i64(&buffer[digits]).filter(|&n| n <= i64::from(i32::MAX))
                    else {
                        return unless_nul(buffer, 0, end, error("invalid multibulk length"));
                    };
                    if count > 10 && !limits.authenticated {
                        return error("unauthenticated multibulk length");
                    }
                    self.at = end;
                    if count <= 0 {
                        return Step::Empty { consumed: end };
                    }
                    self.remaining = Some(count as usize);
                }
            }
        }
        self.next_bulks(buffer, limits)
    }

    fn next_bulks(&mut self, buffer: &[u8], limits: RequestLimits) -> Step {
        while let Some(left @ 1..) = self.remaining {
            let Some(&kind) = buffer.get(self.at) else {
                return Step::Incomplete {
                    needed: self.at + 1,
                };
            };
            let (digits, start) = match self.header(buffer, self.at, "too big bulk count string") {
                Err(step) => return step,
                Ok(found) => found,
            };
            if kind != b'$' {
                let text = [b"Protocol error: expected '$', got '", &[kind][..], b"'"].concat();
                return unless_nul(buffer, self.at, start, Step::Error(text));
            }
            let length = parse_i64(&buffer[digits]).and_then(|n| usize::try_from(n).ok());
            let Some(length) = length.filter(|&n| n <= limits.bulk_bytes_max) else {
                return unless_nul(buffer, self.at, start, error("invalid bulk length"));
            };
            if length > 16384 && !limits.authenticated {
                return error("unauthenticated bulk length");
            }
            let end = start + length;
            let ranges = self.arguments.len() * size_of::<Range<usize>>();
            if (end + 2).saturating_add(ranges) > limits.request_bytes_max {
                return Step::TooLarge {
                    consumed: start,
                    body_bytes: length + 2,
                    arguments: left - 1,
                };
            }
            if buffer.len() < end + 2 {
                self.understood = start;
                return Step::Incomplete { needed: end + 2 };
            }
            self.arguments.push(start..end);
            self.at = end + 2;
            self.remaining = Some(left - 1);
        }
        Step::Command { consumed: self.at }
    }

    /// The digits after the type byte at `at`, and the position behind the line.
    fn header(
        &self,
        buffer: &[u8],
        at: usize,
        too_long: &str,
    ) -> Result<(Range<usize>, usize), Step> {
        let line = &buffer[at..];
        // Lengths have few digits: a short search first finds almost every one.
        let found = match line.iter().take(16).position(|&b| b == b'\r') {
            Some(found) => Some(found),
            None => memchr::memchr(b'\r', &line[..line.len().min(LINE_BYTES_MAX + 1)]),
        };
        match found {
            Some(end) if line.len() > end + 1 => Ok((at + 1..at + end, at + end + 2)),
            Some(end) => Err(Step::Incomplete {
                needed: at + end + 2,
            }),
            None if line.len() > LINE_BYTES_MAX => Err(error(too_long)),
            None => Err(Step::Incomplete {
                needed: buffer.len() + 1,
            }),
        }
    }

    fn next_inline(&mut self, buffer: &[u8]) -> Step {
        // As in Redis a NUL hides the end of the line: nothing behind it is executed.
        let end = memchr::memchr2(b'\n', 0, buffer);
        let Some(newline) = end.filter(|&at| buffer.get(at) == Some(&b'\n')) else {
            if buffer.len() > LINE_BYTES_MAX {
                return error("too big inline request");
            }
            return Step::Incomplete {
                needed: buffer.len() + 1,
            };
        };
        let mut line = &buffer[..newline];
        if line.last() == Some(&b'\r') {
            line = &line[..line.len() - 1];
        }
        let consumed = newline + 1;
        self.inline = true;
        self.unquoted.clear();
        self.arguments.clear();
        let Some(words) = split_quoted(line) else {
            return error("unbalanced quotes in request");
        };
        for word in words {
            let start = self.unquoted.len();
            self.unquoted.extend_from_slice(&word);
            self.arguments.push(start..self.unquoted.len());
        }
        if self.arguments.is_empty() {
            return Step::Empty { consumed };
        }
        Step::Command { consumed }
    }
}

fn error(text: &str) -> Step {
    Step::Error(format!("Protocol error: {text}").into_bytes())
}

/// `wrong`, unless the header line from `start` to `end` has a NUL: Redis finds no end of the
/// line then, and waits for one until the line is too long.
fn unless_nul(buffer: &[u8], start: usize, end: usize, wrong: Step) -> Step {
    let line = buffer.get(start..end).unwrap_or_default();
    if memchr::memchr(0, line).is_none() {
        return wrong;
    }
    if buffer.len() - start > LINE_BYTES_MAX {
        return error(if start == 0 {
            "too big mbulk count string"
        } else {
            "too big bulk count string"
        });
    }
    Step::Incomplete {
        needed: buffer.len() + 1,
    }
}
