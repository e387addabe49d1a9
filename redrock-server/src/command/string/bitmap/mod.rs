//! Bitmaps: strings whose bit 0 is the highest bit of their first byte.

mod bits;
mod field;
mod op;

pub(super) use field::{bitfield, bitfield_ro};
pub(super) use op::bitop;

use super::{check_growth, grow_zeroed, peek_string};
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::config::Config;
use crate::notify::Class;
use redrock_rdb::number::parse_i64;

/// Reads a bit offset. With `width`, `#n` means the n-th field of so many bits.
fn parse_offset(config: &Config, arg: &[u8], width: Option<u32>) -> CommandResult<u64> {
    const INVALID: CommandError =
        CommandError::fixed("ERR bit offset is not an integer or out of range");
    let (digits, factor) = match (arg, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, i64::from(width)),
        _ => (arg, 1),
    };
    let offset = parse_i64(digits)
        .and_then(|n| n.checked_mul(factor))
        .ok_or(INVALID)?;
    let offset = u64::try_from(offset).map_err(|_| INVALID)?;
    if offset >> 3 >= config.proto_bulk_bytes_max as u64 {
        return Err(INVALID);
    }
    Ok(offset)
}

/// SETBIT key offset value
pub(super) fn setbit(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    const INVALID: CommandError = CommandError::fixed("ERR bit is not an integer or out of range");
    let offset = parse_offset(ctx.config, args.at(2), None)?;
    let on = match parse_i64(args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(INVALID),
    };
    let (key, byte) = (args.at(1), (offset / 8) as usize);
    let (len, old) = match peek_string(&mut ctx.db, key)? {
        None => (0, None),
        Some(value) => {
            let mut digits = itoa::Buffer::new();
            let text = value.as_bytes(&mut digits);
            (text.len(), text.get(byte).copied())
        }
    };
    let was_on = old.is_some_and(|old| bits::get(&[old], offset % 8));
    // A string that gets longer changes even if the bit is zero as before.
    if old.is_none() || was_on != on {
        check_growth(ctx.server, len, byte + 1)?;
        let bytes = ctx.db.string_mut(key)?;
        grow_zeroed(bytes, byte + 1);
        bits::set(bytes, offset, on);
        ctx.changed(key, Class::STRING, "setbit");
    } else if ctx.db.encoding(key)? != Some("raw") {
        // Redis makes the string editable before it looks at the bit.
        ctx.db.string_mut(key)?;
    }
    ctx.reply.int(i64::from(was_on));
    Ok(())
}

/// GETBIT key offset
pub(super) fn getbit(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let offset = parse_offset(ctx.config, args.at(2), None)?;
    let on = match ctx.db.read_string(args.at(1))? {
        None => false,
        Some(value) => bits::get(value.as_bytes(&mut itoa::Buffer::new()), offset),
    };
    ctx.reply.int(i64::from(on));
    Ok(())
}

/// Whether the range argument `i` counts bits; `-ERR syntax error` if it is neither word.
fn counts_bits(args: &Args<'_>, i: usize) -> CommandResult<bool> {
    match args.get(i) {
        None => Ok(false),
        Some(_) if args.is(i, "bit") => Ok(true),
        Some(_) if args.is(i, "byte") => Ok(false),
        Some(_) => Err(CommandError::Syntax),
    }
}

/// Makes a range over `len` bytes one of bits, the last one included; `None` when it is empty.
/// Negative ends count from the end of the string, in units of the range.
fn bit_range(len: usize, start: i64, end: i64, in_bits: bool) -> Option<(u64, u64)> {
    let total = if in_bits { len as i64 * 8 } else { len as i64 };
    let absolute = |index: i64| {
        if index < 0 {
            (total + index).max(0)
        } else {
            index
        }
    };
    let (start, end) = (absolute(start), absolute(end).min(total - 1));
    if start > end {
        return None;
    }
    let (start, end) = (start as u64, end as u64);
    Some(if in_bits {
        (start, end)
    } else {
        (start * 8, end * 8 + 7)
    })
}

/// BITCOUNT key [start end [BYTE | BIT]]
pub(super) fn bitcount(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    // The key comes before the arguments: for a missing one they aren't even looked at.
    let Some(value) = ctx.db.read_string(args.at(1))? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = value.as_bytes(&mut digits);
    let range = match args.len() {
        2 => bit_range(bytes.len(), 0, -1, false),
        4 | 5 => {
            let (start, end) = (args.int(2)?, args.int(3)?);
            if start < 0 && end < 0 && start > end {
                // Redis answers this before it looks at the unit.
                None
            } else {
                bit_range(bytes.len(), start, end, counts_bits(args, 4)?)
            }
        }
        _ => return Err(CommandError::Syntax),
    };
    let count = range.map_or(0, |(first, last)| bits::count_range(bytes, first, last));
    ctx.reply.int(count as i64);
    Ok(())
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
pub(super) fn bitpos(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let bit = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let Some(value) = ctx.db.read_string(args.at(1))? else {
        ctx.reply.int(if bit { -1 } else { 0 });
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = value.as_bytes(&mut digits);
    let end_given = args.len() > 4;
    let range = match args.len() {
        3 => bit_range(bytes.len(), 0, -1, false),
        4..=6 => {
            let start = args.int(3)?;
            let in_bits = counts_bits(args, 5)?;
            let end = if end_given { args.int(4)? } else { -1 };
            bit_range(bytes.len(), start, end, in_bits)
        }
        _ => return Err(CommandError::Syntax),
    };
    let position = match range {
        None => -1,
        Some((first, last)) => match bits::find(bytes, bit, first, last) {
            Some(position) => position as i64,
            // Without an end the string goes on with zeros for ever.
            None if !bit && !end_given => bytes.len() as i64 * 8,
            None => -1,
        },
    };
    ctx.reply.int(position);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_ranges_of_bits() {
        assert_eq!(bit_range(3, 0, -1, false), Some((0, 23)));
        assert_eq!(bit_range(3, 1, 1, false), Some((8, 15)));
        assert_eq!(bit_range(3, -5, 100, true), Some((19, 23)));
        assert_eq!(bit_range(3, -100, -90, true), Some((0, 0)));
        assert_eq!(bit_range(3, 3, -1, false), None);
        assert_eq!(bit_range(0, 0, -1, false), None);
        assert_eq!(bit_range(0, 0, 0, true), None);
        assert_eq!(bit_range(3, i64::MIN, i64::MAX, false), Some((0, 23)));
    }

    #[test]
    fn offsets_are_bounded_by_the_largest_string() {
        let config = Config {
            proto_bulk_bytes_max: 1024,
            ..Config::default()
        };
        assert_eq!(parse_offset(&config, b"8191", None), Ok(8191));
        assert_eq!(parse_offset(&config, b"#3", Some(10)), Ok(30));
        for (arg, width) in [
            ("8192", None),
            ("-1", None),
            ("#1", None),
            ("", None),
            ("#", Some(8)),
            ("x", Some(8)),
        ] {
            assert!(
                parse_offset(&config, arg.as_bytes(), width).is_err(),
                "{arg}"
            );
        }
        assert!(parse_offset(&config, b"#9223372036854775807", Some(64)).is_err());
    }
}
