//! Command framing over a byte stream: where each RESP command begins and ends.
//!
//! Used on both sides: a master's stream is spooled as bytes, and only the
//! ends of commands, transactions and `REPLCONF GETACK` matter; what replicas
//! send is a handful of small commands. Payloads are skipped, not kept.
//!
//! Invariants: memory is bounded whatever comes (five arguments of at most 64
//! bytes are kept); a command is reported once, when its last byte is in.

/// Arguments kept of a command.
const ARGS_KEPT_MAX: usize = 5;
/// Longer arguments are kept as empty ones: no word that we look for is so long.
const ARG_BYTES_MAX: usize = 64;
/// `*` or `$`, an i64 and CRLF fit.
const HEADER_BYTES_MAX: usize = 32;
/// As Redis's limit for inline commands.
const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Beyond this a length is damage, not data.
const LENGTH_MAX: u64 = 1 << 40;

/// The bytes are no RESP commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed command at offset {offset}: {reason}")]
pub(crate) struct FramingError {
    /// Offset of the command's first byte.
    pub offset: u64,
    pub reason: &'static str,
}

/// A whole command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command<'a> {
    /// Offset of its first byte, and behind its last one.
    pub start: u64,
    pub end: u64,
    /// Number of arguments, the name included; 0 for a bare newline.
    pub argc: u64,
    /// The first ones; one of more than 64 bytes is empty here.
    args: &'a [Vec<u8>],
}

impl<'a> Command<'a> {
    pub(crate) fn arg(&self, index: usize) -> &'a [u8] {
        self.args.get(index).map_or(&[], Vec::as_slice)
    }

    /// Whether the first arguments are these words, without regard to case.
    pub(crate) fn is(&self, words: &[&[u8]]) -> bool {
        self.argc >= words.len() as u64
            && words
                .iter()
                .enumerate()
                .all(|(index, word)| self.arg(index).eq_ignore_ascii_case(word))
    }
}

#[derive(Debug)]
enum State {
    Start,
    ArrayHeader,
    BulkHeader,
    /// Payload bytes still to come.
    Bulk(u64),
    /// Bytes of the CRLF behind a payload still to come.
    BulkEnd(u8),
    /// Length so far.
    Inline(u64),
}

/// Follows a stream from an offset that is the start of a command.
#[derive(Debug)]
pub(crate) struct Framer {
    state: State,
    offset: u64,
    command_start: u64,
    argc: u64,
    args_left: u64,
    args: Vec<Vec<u8>>,
    /// Whether the argument at hand is short and early enough to be kept.
    keep: bool,
    line: Vec<u8>,
}

impl Framer {
    pub(crate) fn new(offset: u64) -> Framer {
        Framer {
            state: State::Start,
            offset,
            command_start: offset,
            argc: 0,
            args_left: 0,
            args: Vec::new(),
            keep: false,
            line: Vec::new(),
        }
    }

    /// Takes the next bytes and reports each command that they complete. After
    /// an error the framer is of no more use.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut on_command: impl FnMut(Command<'_>),
    ) -> Result<(), FramingError> {
        while let Some(&first) = bytes.first() {
            let taken = match self.state {
                State::Start => self.start(first),
                State::ArrayHeader => self.header(bytes, true, &mut on_command)?,
                State::BulkHeader => self.header(bytes, false, &mut on_command)?,
                State::Bulk(left) => self.payload(bytes, left),
                State::BulkEnd(left) => self.payload_end(first, left, &mut on_command)?,
                State::Inline(length) => self.inline(bytes, length, &mut on_command)?,
            };
            self.offset += taken as u64;
            if matches!(self.state, State::Start) && taken > 0 {
                self.command_start = self.offset;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn start(&mut self, first: u8) -> usize {
        self.args.clear();
        self.line.clear();
        self.argc = 0;
        self.command_start = self.offset;
        if first == b'*' {
            self.state = State::ArrayHeader;
            return 1;
        }
        self.state = State::Inline(0);
        0
    }

    fn header(
        &mut self,
        bytes: &[u8],
        array: bool,
        on_command: &mut impl FnMut(Command<'_>),
    ) -> Result<usize, FramingError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.line
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.line.len() > HEADER_BYTES_MAX {
            return Err(self.error("a length is too long"));
        }
        if end.is_none() {
            return Ok(taken);
        }
        let line = std::mem::take(&mut self.line);
        let digits = line
            .strip_suffix(b"\r\n")
            .ok_or_else(|| self.error("a length without CRLF"))?;
        if array {
            let count = parse_integer(digits).ok_or_else(|| self.error("invalid count"))?;
            self.argc = u64::try_from(count).unwrap_or(0);
            if self.argc > LENGTH_MAX {
                return Err(self.error("invalid count"));
            }
            self.args_left = self.argc;
            self.next_argument(taken, on_command);
        } else {
            let length = digits
                .strip_prefix(b"$")
                .and_then(parse_integer)
                .and_then(|length| u64::try_from(length).ok())
                .filter(|length| *length <= LENGTH_MAX)
                .ok_or_else(|| self.error("invalid bulk length"))?;
            self.keep = length <= ARG_BYTES_MAX as u64 && self.args.len() < ARGS_KEPT_MAX;
            if self.args.len() < ARGS_KEPT_MAX {
                self.args.push(Vec::new());
            }
            self.state = match length {
                0 => State::BulkEnd(2),
                length => State::Bulk(length),
            };
        }
        Ok(taken)
    }

    fn payload(&mut self, bytes: &[u8], left: u64) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if self.keep
            && let Some(arg) = self.args.last_mut()
        {
            arg.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        }
        self.state = match left - taken as u64 {
            0 => State::BulkEnd(2),
            left => State::Bulk(left),
        };
        taken
    }

    fn payload_end(
        &mut self,
        first: u8,
        left: u8,
        on_command: &mut impl FnMut(Command<'_>),
    ) -> Result<usize, FramingError> {
        if first != if left == 2 { b'\r' } else { b'\n' } {
            return Err(self.error("an argument without CRLF"));
        }
        if left == 2 {
            self.state = State::BulkEnd(1);
        } else {
            self.args_left -= 1;
            self.next_argument(1, on_command);
        }
        Ok(1)
    }

    fn inline(
        &mut self,
        bytes: &[u8],
        length: u64,
        on_command: &mut impl FnMut(Command<'_>),
    ) -> Result<usize, FramingError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let room = (ARGS_KEPT_MAX * ARG_BYTES_MAX).saturating_sub(self.line.len());
        self.line
            .extend_from_slice(bytes.get(..taken.min(room)).unwrap_or_default());
        let length = length + taken as u64;
        if length > INLINE_BYTES_MAX {
            return Err(self.error("an inline command is too long"));
        }
        self.state = State::Inline(length);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let words = || {
                line.split(u8::is_ascii_whitespace)
                    .filter(|w| !w.is_empty())
            };
            self.argc = words().count() as u64;
            self.args
                .extend(words().take(ARGS_KEPT_MAX).map(<[u8]>::to_vec));
            self.args_left = 0;
            self.next_argument(taken, on_command);
        }
        Ok(taken)
    }

    /// The next argument begins `taken` bytes further on, or the command ends
    /// there.
    fn next_argument(&mut self, taken: usize, on_command: &mut impl FnMut(Command<'_>)) {
        if self.args_left > 0 {
            self.state = State::BulkHeader;
            return;
        }
        self.state = State::Start;
        on_command(Command {
            start: self.command_start,
            end: self.offset + taken as u64,
            argc: self.argc,
            args: &self.args,
        });
    }

    fn error(&self, reason: &'static str) -> FramingError {
        FramingError {
            offset: self.command_start,
            reason,
        }
    }
}

fn parse_integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(
        bytes: &[u8],
        step: usize,
    ) -> Result<Vec<(u64, u64, u64, Vec<Vec<u8>>)>, FramingError> {
        let mut framer = Framer::new(100);
        let mut seen = vec![];
        for chunk in bytes.chunks(step) {
            framer.push(chunk, |command| {
                let args = command.args.to_vec();
                seen.push((command.start, command.end, command.argc, args));
            })?;
        }
        Ok(seen)
    }

    fn command(args: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn offsets_are_those_of_first_and_last_byte_whatever_the_chunks() {
        let set = command(&[b"SET", b"key", &[b'v'; 200]]);
        let getack = command(&[b"REPLCONF", b"GetAck", b"*"]);
        let mut bytes = set.clone();
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(&getack);
        bytes.extend_from_slice(b"PING now\r\n");
        let at = |length: usize| 100 + length as u64;
        for step in [1, 2, 3, 7, 1000] {
            let seen = frames(&bytes, step).unwrap();
            assert_eq!(seen.len(), 4);
            assert_eq!((seen[0].0, seen[0].1, seen[0].2), (100, at(set.len()), 3));
            assert_eq!(seen[0].3[2], b"", "a long argument isn't kept");
            assert_eq!(seen[1].2, 0);
            assert_eq!(seen[2].0, at(set.len() + 1));
            assert_eq!(seen[3].3, [b"PING".to_vec(), b"now".to_vec()]);
            assert_eq!(seen[3].1, at(bytes.len()));
        }
        let mut framer = Framer::new(0);
        let mut found = false;
        framer
            .push(&getack, |command| {
                found = command.is(&[b"replconf", b"getack"]) && command.argc == 3;
            })
            .unwrap();
        assert!(found);
    }

    #[test]
    fn malformed_bytes_are_refused_with_their_place() {
        for bad in [
            &b"*x\r\n"[..],
            b"*1\r\n:5\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$2\r\nabc\r\n",
            b"*1\n",
            b"*11111111111111111111111111111111111111",
            b"*1\r\n$99999999999999\r\n",
        ] {
            let mut bytes = command(&[b"PING"]);
            let start = 100 + bytes.len() as u64;
            bytes.extend_from_slice(bad);
            assert_eq!(frames(&bytes, 5).unwrap_err().offset, start);
        }
        assert!(frames(&[b'x'; 70_000], 4096).is_err());
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            commands in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 1..8),
                1..10,
            ),
            step in 1usize..50,
        ) {
            let mut bytes = vec![];
            for args in &commands {
                let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                bytes.extend_from_slice(&command(&args));
            }
            let whole = frames(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(whole.len(), commands.len());
            prop_assert_eq!(whole, frames(&bytes, step).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = frames(&bytes, 9);
        }
    }
}
