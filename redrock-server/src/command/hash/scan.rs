//! What SCAN, HSCAN, SSCAN and ZSCAN have in common: cursor, options and reply.

use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Reply};
use crate::value::glob;
use redrock_rdb::listpack::LpValue;
use redrock_rdb::number::IntBuf;

/// Elements a call aims at when there is no COUNT.
const COUNT_DEFAULT: usize = 10;

/// Which options a command of the family takes beside MATCH and COUNT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// `TYPE name` (SCAN).
    pub with_type: bool,
    /// `NOVALUES` (HSCAN; Redis has it since 7.4).
    pub novalues: bool,
}

/// The options of a call.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Elements to aim at, at least 1.
    pub count: usize,
    /// The pattern of MATCH; `None` also for `*`, which matches all, the empty name included.
    pub pattern: Option<&'a [u8]>,
    /// The name of TYPE.
    pub type_name: Option<&'a [u8]>,
    /// Whether NOVALUES was given.
    pub novalues: bool,
}

impl<'a> ScanOptions<'a> {
    /// Parses the options from argument `from` on.
    pub fn parse(args: &Args<'a>, from: usize, allowed: Allowed) -> CommandResult<Self> {
        let mut options = Self {
            count: COUNT_DEFAULT,
            pattern: None,
            type_name: None,
            novalues: false,
        };
        let mut at = from;
        while let Some(word) = args.get(at) {
            let value = args.get(at + 1);
            match value {
                Some(_) if is_word(word, "count") => {
                    let count = args.int(at + 1)?;
                    options.count = usize::try_from(count).unwrap_or(0);
                    if options.count < 1 {
                        return Err(CommandError::Syntax);
                    }
                    at += 2;
                }
                Some(pattern) if is_word(word, "match") => {
                    options.pattern = (pattern != b"*").then_some(pattern);
                    at += 2;
                }
                Some(name) if allowed.with_type && is_word(word, "type") => {
                    options.type_name = Some(name);
                    at += 2;
                }
                _ if allowed.novalues && is_word(word, "novalues") => {
                    options.novalues = true;
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }

    /// Whether an element passes MATCH.
    pub fn matches(&self, element: LpValue<'_>) -> bool {
        self.pattern.is_none_or(|pattern| {
            glob::matches(pattern, element.bytes(&mut IntBuf::default()), false)
        })
    }
}

/// Parses a cursor as C's `strtoul` does, leading space refused
/// (`-ERR invalid cursor`): a sign is taken, a NUL ends the text, and no digits at all is 0 only
/// if there is nothing else.
pub fn parse_cursor(text: &[u8]) -> CommandResult<u64> {
    const INVALID: CommandError = CommandError::fixed("ERR invalid cursor");
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Ok(0);
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(INVALID);
    }
    let cursor = digits.iter().try_fold(0_u64, |n, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    });
    match cursor {
        Some(cursor) if negative => Ok(cursor.wrapping_neg()),
        Some(cursor) => Ok(cursor),
        None => Err(INVALID),
    }
}

/// The reply for a key that does not exist (Redis: `shared.emptyscan`).
pub fn reply_nothing(reply: &mut Reply<'_>) {
    reply_items(reply, 0, &[]);
}

/// The reply: the next cursor and the elements, fields and values in turn.
pub fn reply_items(reply: &mut Reply<'_>, cursor: u64, items: &[LpValue<'_>]) {
    reply.array(2);
    // Redis prints the unsigned cursor as a signed number.
    reply.bulk_int(cursor as i64);
    reply.array(items.len());
    items.iter().for_each(|item| reply.item(*item));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        for (text, cursor) in [
            ("", 0),
            ("0", 0),
            ("+17", 17),
            ("007", 7),
            ("-1", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("5\0x", 5),
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), Ok(cursor), "{text:?}");
        }
        for text in [" 1", "1 ", "x", "-", "1x", "18446744073709551616", "--1"] {
            assert!(parse_cursor(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    fn parse<'a>(argv: &'a [&'a [u8]], allowed: Allowed) -> CommandResult<ScanOptions<'a>> {
        ScanOptions::parse(&Args::new(argv), 0, allowed)
    }

    #[test]
    fn options_are_parsed_in_any_order_and_checked() {
        let all = Allowed {
            with_type: true,
            novalues: true,
        };
        let options = parse(&[b"MATCH", b"a*", b"novalues", b"Count", b"7"], all).expect("parses");
        assert_eq!(
            (options.count, options.pattern),
            (7, Some(b"a*".as_slice()))
        );
        assert!(options.novalues && options.type_name.is_none());
        let options = parse(&[b"match", b"a", b"match", b"*"], all).expect("parses");
        assert_eq!(options.pattern, None);

        let none = Allowed::default();
        assert_eq!(
            parse(&[b"count", b"0"], none).err(),
            Some(CommandError::Syntax)
        );
        assert_eq!(
            parse(&[b"count", b"x"], none).err(),
            Some(CommandError::NotInteger)
        );
        assert_eq!(parse(&[b"count"], none).err(), Some(CommandError::Syntax));
        assert_eq!(
            parse(&[b"type", b"hash"], none).err(),
            Some(CommandError::Syntax)
        );
        assert_eq!(
            parse(&[b"novalues"], none).err(),
            Some(CommandError::Syntax)
        );
    }
}
