//! BITFIELD: integers of any width at any bit offset.

use super::super::{check_growth, grow_zeroed, peek_len};
use super::{bits, parse_offset};
use crate::command::args::is_word;
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context, Reply};
use crate::config::Config;
use crate::notify::Class;
use redrock_rdb::number::parse_i64;

/// `OVERFLOW`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// A field's type, `i1` to `i64` or `u1` to `u63`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width {
    signed: bool,
    bits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operation {
    width: Width,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

/// BITFIELD key [GET t o | [OVERFLOW w] SET t o v | [OVERFLOW w] INCRBY t o n] ...
pub(in crate::command::string) fn bitfield(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
) -> CommandResult {
    let operations = parse(ctx.config, args.from(2))?;
    let bytes_needed = operations
        .iter()
        .filter(|operation| operation.action != Action::Get)
        .map(|operation| (operation.offset + u64::from(operation.width.bits)).div_ceil(8))
        .max();
    match bytes_needed {
        None => read(ctx, args.at(1), &operations),
        Some(bytes) => write(ctx, args.at(1), &operations, bytes as usize),
    }
}

/// BITFIELD_RO key [GET t o] ...
pub(in crate::command::string) fn bitfield_ro(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
) -> CommandResult {
    let operations = parse(ctx.config, args.from(2))?;
    if operations
        .iter()
        .any(|operation| operation.action != Action::Get)
    {
        return Err(CommandError::fixed(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read(ctx, args.at(1), &operations)
}

fn parse(config: &Config, words: &[&[u8]]) -> CommandResult<Vec<Operation>> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut words = words;
    loop {
        let (action, rest): (fn(i64) -> Action, _) = match words {
            [] => return Ok(operations),
            [word, kind, rest @ ..] if is_word(word, "overflow") => {
                overflow = parse_overflow(kind)?;
                words = rest;
                continue;
            }
            [word, rest @ ..] if is_word(word, "get") && rest.len() >= 2 => (|_| Action::Get, rest),
            [word, rest @ ..] if is_word(word, "set") && rest.len() >= 3 => (Action::Set, rest),
            [word, rest @ ..] if is_word(word, "incrby") && rest.len() >= 3 => {
                (Action::Increment, rest)
            }
            _ => return Err(CommandError::Syntax),
        };
        let [width, offset, rest @ ..] = rest else {
            return Err(CommandError::Syntax);
        };
        let width = parse_width(width)?;
        let offset = parse_offset(config, offset, Some(width.bits))?;
        let mut action = action(0);
        words = rest;
        if let Action::Set(value) | Action::Increment(value) = &mut action
            && let [argument, rest @ ..] = rest
        {
            *value = parse_i64(argument).ok_or(CommandError::NotInteger)?;
            words = rest;
        }
        operations.push(Operation {
            width,
            offset,
            action,
            overflow,
        });
    }
}

fn parse_overflow(word: &[u8]) -> CommandResult<Overflow> {
    const WORDS: [(&str, Overflow); 3] = [
        ("wrap", Overflow::Wrap),
        ("sat", Overflow::Saturate),
        ("fail", Overflow::Fail),
    ];
    let found = WORDS.into_iter().find(|(name, _)| is_word(word, name));
    let (_, overflow) = found.ok_or(CommandError::fixed("ERR Invalid OVERFLOW type specified"))?;
    Ok(overflow)
}

fn parse_width(text: &[u8]) -> CommandResult<Width> {
    const INVALID: CommandError = CommandError::fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but \
         i64 is.",
    );
    let (signed, bits_max, digits) = match text {
        [b'i', digits @ ..] => (true, 64, digits),
        [b'u', digits @ ..] => (false, 63, digits),
        _ => return Err(INVALID),
    };
    match parse_i64(digits) {
        Some(bits) if (1..=bits_max).contains(&bits) => Ok(Width {
            signed,
            bits: bits as u32,
        }),
        _ => Err(INVALID),
    }
}

fn read(ctx: &mut Context<'_>, key: &[u8], operations: &[Operation]) -> CommandResult {
    let value = ctx.db.read_string(key)?;
    let mut digits = itoa::Buffer::new();
    let bytes = value
        .as_ref()
        .map_or(&b""[..], |value| value.as_bytes(&mut digits));
    ctx.reply.array(operations.len());
    for operation in operations {
        ctx.reply.int(operation.width.get(bytes, operation.offset));
    }
    Ok(())
}

fn write(
    ctx: &mut Context<'_>,
    key: &[u8],
    operations: &[Operation],
    bytes_needed: usize,
) -> CommandResult {
    let len = peek_len(&mut ctx.db, key)?.unwrap_or(0);
    check_growth(ctx.server, len, bytes_needed)?;
    let bytes = ctx.db.string_mut(key)?;
    let grows = bytes.len() < bytes_needed;
    grow_zeroed(bytes, bytes_needed);
    ctx.reply.array(operations.len());
    let mut changes = 0;
    for operation in operations {
        if operation.run(bytes, &mut ctx.reply) || (grows && operation.action != Action::Get) {
            changes += 1;
        }
    }
    // Redis does not count a string that only grew, because every write in it failed, and so
    // leaves its replicas with a shorter one. Here such a command is propagated.
    if changes > 0 {
        ctx.changed(key, Class::STRING, "setbit");
        ctx.db.effect.dirty += changes - 1;
    }
    Ok(())
}

impl Operation {
    /// Runs on a string that is long enough for its writes; true if it changed a bit.
    fn run(&self, bytes: &mut [u8], reply: &mut Reply<'_>) -> bool {
        let old = self.width.get(bytes, self.offset);
        let (base, increment) = match self.action {
            Action::Get => {
                reply.int(old);
                return false;
            }
            Action::Set(value) => (value, 0),
            Action::Increment(increment) => (old, increment),
        };
        let Some(new) = self.width.add(base, increment, self.overflow) else {
            reply.null();
            return false;
        };
        reply.int(if matches!(self.action, Action::Set(_)) {
            old
        } else {
            new
        });
        bits::set_field(bytes, self.offset, self.width.bits, new as u64);
        new != old
    }
}

/// Which end of a field's range was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    Max,
    Min,
}

impl Width {
    fn get(self, bytes: &[u8], offset: u64) -> i64 {
        let field = bits::get_field(bytes, offset, self.bits);
        if self.signed {
            self.wrap(field as i64)
        } else {
            field as i64
        }
    }

    fn max(self) -> i64 {
        ((1_u64 << (self.bits - u32::from(self.signed))) - 1) as i64
    }

    fn min(self) -> i64 {
        if self.signed { -self.max() - 1 } else { 0 }
    }

    /// Keeps the lowest bits, and the sign they make in a signed field.
    fn wrap(self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            value << unused >> unused
        } else {
            ((value as u64) << unused >> unused) as i64
        }
    }

    /// `value + increment` as the overflow mode wants it; `None` if it is to fail.
    fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        match (self.passed(value, increment), overflow) {
            (None, _) => Some(value.wrapping_add(increment)),
            (Some(_), Overflow::Fail) => None,
            (Some(_), Overflow::Wrap) => Some(self.wrap(value.wrapping_add(increment))),
            (Some(Passed::Max), Overflow::Saturate) => Some(self.max()),
            (Some(Passed::Min), Overflow::Saturate) => Some(self.min()),
        }
    }

    /// Whether `value + increment` leaves the range, in Redis's own 64-bit arithmetic. Its
    /// differences wrap around for a SET to a value far outside, and so do these: a negative
    /// value is far above an unsigned field, and -2^63 is above a narrow signed one.
    fn passed(self, value: i64, increment: i64) -> Option<Passed> {
        let up = self.max().wrapping_sub(value);
        let down = self.min().wrapping_sub(value);
        if !self.signed {
            return if value < 0 || value > self.max() || (increment > 0 && increment > up) {
                Some(Passed::Max)
            } else if increment < 0 && increment < down {
                Some(Passed::Min)
            } else {
                None
            };
        }
        let narrow = self.bits != 64;
        if value > self.max()
            || (narrow && increment > up)
            || (value >= 0 && increment > 0 && increment > up)
        {
            Some(Passed::Max)
        } else if value < self.min()
            || (narrow && increment < down)
            || (value < 0 && increment < 0 && increment < down)
        {
            Some(Passed::Min)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn width(text: &str) -> Width {
        parse_width(text.as_bytes()).expect("a valid type")
    }

    #[test]
    fn types_have_their_limits() {
        assert_eq!((width("i8").min(), width("i8").max()), (-128, 127));
        assert_eq!((width("u8").min(), width("u8").max()), (0, 255));
        assert_eq!(
            (width("i64").min(), width("i64").max()),
            (i64::MIN, i64::MAX)
        );
        assert_eq!(width("u63").max(), i64::MAX);
        assert_eq!((width("i1").min(), width("i1").max()), (-1, 0));
        for text in ["u64", "i65", "i0", "u", "", "8", "x8", "i-1", "i08", "I8"] {
            assert!(parse_width(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        for (text, value, increment, wrapped, saturated) in [
            ("u2", 3, 1, 0, 3),
            ("u2", 0, -1, 3, 0),
            ("i8", 127, 1, -128, 127),
            ("i8", -128, -1, 127, -128),
            ("i64", i64::MAX, 1, i64::MIN, i64::MAX),
            ("i64", i64::MIN, -1, i64::MAX, i64::MIN),
            ("u63", i64::MAX, 1, 0, i64::MAX),
            ("u8", -1, 0, 255, 255),
            ("i8", 200, 0, -56, 127),
        ] {
            let width = width(text);
            assert_eq!(
                width.add(value, increment, Overflow::Wrap),
                Some(wrapped),
                "{text}"
            );
            assert_eq!(
                width.add(value, increment, Overflow::Saturate),
                Some(saturated),
                "{text}"
            );
            assert_eq!(width.add(value, increment, Overflow::Fail), None, "{text}");
        }
        assert_eq!(
            width("i64").add(i64::MAX, -1, Overflow::Fail),
            Some(i64::MAX - 1)
        );
    }

    #[test]
    fn operations_are_read_in_order_with_the_overflow_in_force() {
        let words: Vec<&[u8]> =
            "GET u4 #2 overflow sat incrby i8 100 -3 OVERFLOW fail set u1 0 1 overflow wrap"
                .split(' ')
                .map(str::as_bytes)
                .collect();
        let config = Config {
            proto_bulk_bytes_max: 1 << 20,
            ..Config::default()
        };
        let operations = parse(&config, &words).expect("valid operations");
        let brief: Vec<_> = operations
            .iter()
            .map(|o| (o.offset, o.action, o.overflow))
            .collect();
        assert_eq!(
            brief,
            [
                (8, Action::Get, Overflow::Wrap),
                (100, Action::Increment(-3), Overflow::Saturate),
                (0, Action::Set(1), Overflow::Fail),
            ]
        );
        for words in [
            &[&b"get"[..], b"u8"][..],
            &[b"set", b"u8", b"0"],
            &[b"overflow"],
            &[b"x"],
        ] {
            assert_eq!(parse(&config, words), Err(CommandError::Syntax));
        }
    }

    proptest! {
        #[test]
        fn what_stays_in_range_is_the_plain_sum(
            signed: bool,
            bits in 1_u32..=63,
            seed in any::<i64>(),
            increment in any::<i64>(),
        ) {
            let width = Width { signed, bits };
            let value = width.wrap(seed);
            let sum = i128::from(value) + i128::from(increment);
            let fits = (i128::from(width.min())..=i128::from(width.max())).contains(&sum);
            let failing = width.add(value, increment, Overflow::Fail);
            // Where 64-bit differences cannot wrap, Redis's test is the plain one.
            if increment.unsigned_abs() < 1 << 62 {
                prop_assert_eq!(failing, fits.then_some(sum as i64));
            }
            if let Some(wrapped) = width.add(value, increment, Overflow::Wrap) {
                prop_assert!((width.min()..=width.max()).contains(&wrapped));
            }
        }
    }
}
