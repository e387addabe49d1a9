//! ZSCAN.

use super::super::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::glob;
use crate::value::number::{double_text, format_g17};
use crate::value::zset::ZSet;
use redrock_rdb::number::IntBuf;

/// Reads a cursor as C's `strtoul` does, Redis's way: nothing is 0, a sign is allowed.
fn parse_cursor(text: &[u8]) -> CommandResult<u64> {
    let (negative, digits) = match text.split_first() {
        None => return Ok(0),
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        Some(_) => (false, text),
    };
    let value = match digits {
        [b'0'..=b'9', ..] => std::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok()),
        _ => None,
    };
    let value = value.ok_or(CommandError::fixed("ERR invalid cursor"))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// `ZSCAN key cursor [MATCH pattern] [COUNT count]`
pub(super) fn zscan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = parse_cursor(args.at(2))?;
    let Some(set) = ctx.db.read::<ZSet>(args.at(1))? else {
        ctx.reply.array(2);
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(());
    };
    let (mut count, mut pattern, mut at) = (10, None, 3);
    while at < args.len() {
        if at + 1 >= args.len() {
            return Err(CommandError::Syntax);
        }
        if args.is(at, "count") {
            count = args.int(at + 1)?;
            if count < 1 {
                return Err(CommandError::Syntax);
            }
        } else if args.is(at, "match") {
            pattern = Some(args.at(at + 1)).filter(|pattern| *pattern != b"*");
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }

    let big = set.encoding() == "skiplist";
    let (mut body, mut found) = (Vec::new(), 0);
    let mut reply = Reply::new(&mut body, ctx.reply.is_resp3());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let next = set.scan(cursor, count, |member, score| {
        let mut digits = IntBuf::default();
        let text = member.bytes(&mut digits);
        if pattern.is_some_and(|pattern| !glob::matches(pattern, text, false)) {
            return;
        }
        found += 1;
        reply.bulk(text);
        // Redis prints the doubles of its skiplist in full, and a listpack's text as it is.
        if big {
            reply.bulk(format_g17(score).as_bytes());
        } else {
            reply.bulk(double_text(score).as_bytes());
        }
    });
    ctx.reply.array(2);
    ctx.reply.bulk_int(next as i64);
    ctx.reply.array(2 * found);
    ctx.reply.raw(&body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_in_redis() {
        assert_eq!(parse_cursor(b"0"), Ok(0));
        assert_eq!(parse_cursor(b""), Ok(0));
        assert_eq!(parse_cursor(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b"-1"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b"+7"), Ok(7));
        for bad in ["x", "1x", " 1", "--1", "-", "18446744073709551616"] {
            assert!(parse_cursor(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
