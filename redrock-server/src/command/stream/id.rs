//! Ids as clients write them.

use super::CommandError;
use crate::command::CommandResult;
use crate::value::stream::{ID_MAX, ID_MIN, StreamId, next_id, previous_id};
use redrock_rdb::number::parse_i64;

const INVALID: CommandError =
    CommandError::fixed("ERR Invalid stream ID specified as stream command argument");
/// Longest text of an id.
const TEXT_BYTES_MAX: usize = 127;

/// `ms-seq`, without an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdText {
    bytes: [u8; 41],
    len: usize,
}

impl IdText {
    pub(super) fn new(id: StreamId) -> Self {
        let mut text = Self {
            bytes: [0; 41],
            len: 0,
        };
        let mut digits = itoa::Buffer::new();
        text.push(digits.format(id.ms).as_bytes());
        text.push(b"-");
        text.push(digits.format(id.seq).as_bytes());
        text
    }

    fn push(&mut self, part: &[u8]) {
        // Two numbers of at most 20 digits fit.
        if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
            place.copy_from_slice(part);
            self.len += part.len();
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The bytes before the first zero: what Redis, to which a word is a C string, sees of it.
pub(super) fn c_text(word: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, word).unwrap_or(word.len());
    word.get(..end).unwrap_or_default()
}

/// An unsigned number as Redis's `string2ull` reads it: what is no plain number goes through
/// `strtoull`, which takes blanks, signs and leading zeros.
fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(n) = parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let blanks = text
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b)
        .count();
    let text = text.get(blanks..)?;
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut n: u64 = 0;
    for digit in digits {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        n = n.checked_mul(10)?.checked_add(digit)?;
    }
    Some(if negative { n.wrapping_neg() } else { n })
}

/// The parts of `ms`, `ms-seq` or `ms-*`.
enum Parts {
    Ms(u64),
    Both(StreamId),
    MsAny(u64),
}

fn parts(word: &[u8]) -> Option<Parts> {
    if word.len() > TEXT_BYTES_MAX {
        return None;
    }
    let text = c_text(word);
    let Some(dash) = memchr::memchr(b'-', text) else {
        return Some(Parts::Ms(parse_u64(text)?));
    };
    let ms = parse_u64(text.get(..dash)?)?;
    match text.get(dash + 1..)? {
        b"*" => Some(Parts::MsAny(ms)),
        seq => Some(Parts::Both(StreamId {
            ms,
            seq: parse_u64(seq)?,
        })),
    }
}

/// An id; `-` and `+` are none.
pub(super) fn strict(word: &[u8], missing_seq: u64) -> CommandResult<StreamId> {
    match parts(word) {
        Some(Parts::Both(id)) => Ok(id),
        Some(Parts::Ms(ms)) => Ok(StreamId {
            ms,
            seq: missing_seq,
        }),
        _ => Err(INVALID),
    }
}

/// An id, `-` or `+`.
pub(super) fn any(word: &[u8], missing_seq: u64) -> CommandResult<StreamId> {
    match c_text(word) {
        _ if word.len() > TEXT_BYTES_MAX => Err(INVALID),
        b"-" => Ok(ID_MIN),
        b"+" => Ok(ID_MAX),
        _ => strict(word, missing_seq),
    }
}

/// The id of a new entry: whole, or `ms-*`.
pub(super) enum Wanted {
    /// `ms-seq` or `ms`.
    Exact(StreamId),
    /// `ms-*`
    NextOf(u64),
}

/// XADD's id, but for `*`.
pub(super) fn wanted(word: &[u8]) -> CommandResult<Wanted> {
    match parts(word) {
        Some(Parts::Both(id)) => Ok(Wanted::Exact(id)),
        Some(Parts::Ms(ms)) => Ok(Wanted::Exact(StreamId { ms, seq: 0 })),
        Some(Parts::MsAny(ms)) => Ok(Wanted::NextOf(ms)),
        None => Err(INVALID),
    }
}

/// An end of an interval and whether it is open, written `(id`.
fn interval_end(word: &[u8], missing_seq: u64) -> CommandResult<(StreamId, bool)> {
    match word {
        [b'(', rest @ ..] if !rest.is_empty() => Ok((strict(rest, missing_seq)?, true)),
        _ => Ok((any(word, missing_seq)?, false)),
    }
}

/// The first id of an interval.
pub(super) fn interval_start(word: &[u8]) -> CommandResult<StreamId> {
    let (id, open) = interval_end(word, 0)?;
    match open {
        true => next_id(id).ok_or(CommandError::fixed("ERR invalid start ID for the interval")),
        false => Ok(id),
    }
}

/// The last id of an interval.
pub(super) fn interval_stop(word: &[u8]) -> CommandResult<StreamId> {
    let (id, open) = interval_end(word, u64::MAX)?;
    match open {
        true => previous_id(id).ok_or(CommandError::fixed("ERR invalid end ID for the interval")),
        false => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let id = |ms, seq| Some(StreamId { ms, seq });
        for (text, expected) in [
            ("5", id(5, 7)),
            ("5-3", id(5, 3)),
            ("007-01", id(7, 1)),
            (" 5-+3", id(5, 3)),
            ("5--0", id(5, 0)),
            ("5--9223372036854775809", id(5, 9_223_372_036_854_775_807)),
            (
                "18446744073709551615-18446744073709551615",
                id(u64::MAX, u64::MAX),
            ),
            ("5-3\0junk", id(5, 3)),
            ("18446744073709551616", None),
            ("5--3", None),
            ("-", None),
            ("+", None),
            ("5-", None),
            ("5-*", None),
            ("", None),
            ("x", None),
            ("5 ", None),
        ] {
            assert_eq!(strict(text.as_bytes(), 7).ok(), expected, "{text:?}");
        }
        assert_eq!(any(b"-", 0), Ok(ID_MIN));
        assert_eq!(any(b"+", 0), Ok(ID_MAX));
        assert!(strict(&[b'0'; 128], 0).is_err());
        assert!(strict(&[b'0'; 127], 0).is_ok());
    }

    #[test]
    fn open_intervals_leave_their_ends_out() {
        assert_eq!(interval_start(b"(5-1"), Ok(StreamId { ms: 5, seq: 2 }));
        assert_eq!(
            interval_stop(b"(5-0"),
            Ok(StreamId {
                ms: 4,
                seq: u64::MAX
            })
        );
        assert!(interval_start(b"(18446744073709551615-18446744073709551615").is_err());
        assert!(interval_stop(b"(0-0").is_err());
        assert!(interval_start(b"(-").is_err());
        assert!(interval_start(b"(").is_err());
    }

    #[test]
    fn the_longest_id_has_room() {
        let text = "18446744073709551615-18446744073709551615";
        assert_eq!(IdText::new(ID_MAX).as_bytes(), text.as_bytes());
    }
}
