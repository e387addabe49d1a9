//! Request parser: RESP multibulk and inline commands out of a byte buffer.
//!
//! Incremental: [`Parser::next`] is called again with a longer buffer that starts with the same
//! bytes, and goes on where it stopped. Arguments are ranges of the buffer; nothing is copied.
//! Error texts are those of Redis's `processMultibulkBuffer` and `processInlineBuffer`.

use redrock_rdb::number::parse_i64;
use std::ops::Range;

/// Longest inline request and longest header line, bytes (`PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES_MAX: usize = 64 * 1024;

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
        self.at = 0;
        self.remaining = None;
        self.arguments.clear();
        self.unquoted.clear();
        self.inline = false;
    }

    /// Where the last command's arguments are in its buffer; `None` for an inline command.
    pub fn ranges(&self) -> Option<&[Range<usize>]> {
        (!self.inline).then_some(&*self.arguments)
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

/// Splits a line into words as Redis's `sdssplitargs`: double quotes with escapes, single quotes,
/// `None` when quotes don't balance. Used for inline commands and the configuration file.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let skip = rest.iter().take_while(|b| is_space(b)).count();
        rest = &rest[skip..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, behind) = quoted_word(rest)?;
        words.push(word);
        rest = behind;
    }
}

/// C's `isspace`.
fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

fn quoted_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            // Fewer than separate words: a vertical tab or form feed inside a word is part of it.
            [b' ' | b'\t' | b'\n' | b'\r' | 0, tail @ ..] => return Some((word, tail)),
            [b'"', tail @ ..] => {
                rest = double_quoted(tail, &mut word)?;
                // A closing quote must be followed by a space or nothing at all.
                return rest.first().is_none_or(is_space).then_some((word, rest));
            }
            [b'\'', tail @ ..] => {
                rest = single_quoted(tail, &mut word)?;
                return rest.first().is_none_or(is_space).then_some((word, rest));
            }
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            [b'\\', escaped, tail @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            [b'"', tail @ ..] => return Some(tail),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
            [] => return None,
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                rest = tail;
            }
            [b'\'', tail @ ..] => return Some(tail),
            [b, tail @ ..] => {
                word.push(*b);
                rest = tail;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        bulk_bytes_max: 512 << 20,
        request_bytes_max: usize::MAX,
        authenticated: true,
    };

    fn parse_all(mut buffer: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<Vec<u8>>) {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        loop {
            let step = parser.next(buffer, LIMITS);
            let consumed = match step {
                Step::Command { consumed } => {
                    let mut argv = Vec::new();
                    parser.arguments(buffer, &mut argv);
                    out.push(argv.iter().map(|a| a.to_vec()).collect());
                    consumed
                }
                Step::Empty { consumed } => consumed,
                Step::Incomplete { .. } | Step::TooLarge { .. } => return (out, None),
                Step::Error(text) => return (out, Some(text)),
            };
            parser.reset();
            buffer = &buffer[consumed..];
        }
    }

    #[test]
    fn reads_pipelined_multibulk_and_inline_commands() {
        let (commands, error) = parse_all(
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\nPING\r\nset k \"a\\x41 b\"\r\n*0\r\n*1\r\n$4\r\nPI",
        );
        assert_eq!(error, None);
        assert_eq!(commands.len(), 3);
        assert_eq!(commands[0], [b"GET".to_vec(), b"a".to_vec()]);
        assert_eq!(
            commands[2],
            [b"set".to_vec(), b"k".to_vec(), b"aA b".to_vec()]
        );
    }

    #[test]
    fn goes_on_after_any_split_of_the_input() {
        let input = b"*3\r\n$3\r\nSET\r\n$5\r\nhello\r\n$0\r\n\r\n";
        for cut in 0..input.len() {
            let mut parser = Parser::default();
            assert!(
                matches!(parser.next(&input[..cut], LIMITS), Step::Incomplete { .. }),
                "{cut}"
            );
            assert_eq!(
                parser.next(input, LIMITS),
                Step::Command {
                    consumed: input.len()
                }
            );
            let mut argv = Vec::new();
            parser.arguments(input, &mut argv);
            assert_eq!(argv, [&b"SET"[..], b"hello", b""]);
        }
    }

    #[test]
    fn a_request_beyond_the_limit_is_known_before_it_has_come() {
        let limits = RequestLimits {
            request_bytes_max: 100,
            ..LIMITS
        };
        let mut parser = Parser::default();
        let head = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$50\r\n";
        let step = parser.next(head, limits);
        let (consumed, body_bytes, arguments) = (head.len(), 52, 1);
        assert_eq!(
            step,
            Step::TooLarge {
                consumed,
                body_bytes,
                arguments
            }
        );
        // The ranges of many small arguments count too.
        let mut many = b"*1000\r\n".to_vec();
        many.extend(b"$0\r\n\r\n".repeat(10));
        let step = Parser::default().next(&many, limits);
        assert!(matches!(step, Step::TooLarge { .. }), "{step:?}");
    }

    #[test]
    fn names_protocol_errors_as_redis_does() {
        for (input, text) in [
            (&b"*a\r\n"[..], "Protocol error: invalid multibulk length"),
            (
                b"*3000000000\r\n",
                "Protocol error: invalid multibulk length",
            ),
            (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            (
                b"*1\r\n$999999999999\r\n",
                "Protocol error: invalid bulk length",
            ),
            (
                b"get \"a\r\n",
                "Protocol error: unbalanced quotes in request",
            ),
        ] {
            assert_eq!(parse_all(input).1.as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn a_nul_hides_the_end_of_a_line_and_what_follows_is_not_run() {
        for input in [
            &b"PING\0\r\nPING\r\n"[..],
            b"\0PING\r\n",
            b"set a \"x\0y\"\r\n",
            b"*1\0\r\n$4\r\nPING\r\n",
            b"*1\r\n$\x004\r\nPING\r\n",
            b"*1\r\n\0\r\n",
        ] {
            assert_eq!(parse_all(input), (Vec::new(), None), "{input:?}");
            let long = [input, &[b'x'; LINE_BYTES_MAX]].concat();
            let text = parse_all(&long).1.unwrap();
            assert!(text.starts_with(b"Protocol error: too big "), "{input:?}");
        }
    }
}
