//! HRANDFIELD, and what it shares with SRANDMEMBER and ZRANDMEMBER.

use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::hash::Hash;
use redrock_rdb::listpack::LpValue;

/// A reply of elements that may repeat is as long as the client's count says, however small the
/// collection. Past this many bytes it is refused instead of eating all memory.
pub(crate) const REPEATED_REPLY_BYTES_MAX: usize = 512 << 20;

/// The error for such a reply.
pub(crate) const REPLY_TOO_LONG: CommandError =
    CommandError::fixed("ERR the reply exceeds 512 MB; ask for fewer elements");

/// Whether one more element may follow in a reply that began at `start`: neither longer than
/// [`REPEATED_REPLY_BYTES_MAX`] nor than what the client may have, beyond which a reply no longer
/// grows.
pub(crate) fn may_repeat(reply: &Reply<'_>, start: usize) -> bool {
    !reply.is_over() && reply.len() - start <= REPEATED_REPLY_BYTES_MAX
}

/// Argument 2 as a count of random elements: any integer but the lowest.
pub(crate) fn parse_count(args: &Args<'_>) -> CommandResult<i64> {
    let count = args.int(2)?;
    if count == i64::MIN {
        let (low, high) = (-i64::MAX, i64::MAX);
        return Err(CommandError::text(format!(
            "ERR value is out of range, value must between {low} and {high}"
        )));
    }
    Ok(count)
}

/// `HRANDFIELD key [count [WITHVALUES]]`
pub(super) fn hrandfield(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.len() >= 3 {
        return with_count(ctx, args);
    }
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    match hash.and_then(|hash| hash.random(cutoff_ms)) {
        Some((field, _)) => ctx.reply.item(field),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn with_count(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let count = parse_count(args)?;
    let values = args.len() == 4 && args.is(3, "withvalues");
    if args.len() > 4 || (args.len() == 4 && !values) {
        return Err(CommandError::Syntax);
    }
    if values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(CommandError::fixed("ERR value is out of range"));
    }
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    let len = hash.map_or(0, |hash| hash.live_len(cutoff_ms));
    let Some(hash) = hash.filter(|_| len > 0) else {
        ctx.reply.array(0);
        return Ok(());
    };
    let reply = &mut ctx.reply;
    if count < 0 {
        return repeated(reply, hash, cutoff_ms, count.unsigned_abs(), values);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(len);
    header(reply, count as u64, values);
    if count == 1
        && let Some((field, value)) = hash.random(cutoff_ms)
    {
        pair(reply, field, value, values);
    } else {
        hash.random_distinct(count, cutoff_ms, |field, value| {
            pair(reply, field, value, values);
        });
    }
    Ok(())
}

fn repeated(
    reply: &mut Reply<'_>,
    hash: &Hash,
    cutoff_ms: i64,
    count: u64,
    values: bool,
) -> CommandResult {
    let start = reply.len();
    header(reply, count, values);
    let mut complete = true;
    hash.random_repeating(count, cutoff_ms, |field, value| {
        pair(reply, field, value, values);
        complete = may_repeat(reply, start);
        complete
    });
    if complete || reply.is_over() {
        return Ok(());
    }
    reply.truncate(start);
    Err(REPLY_TOO_LONG)
}

/// RESP3 has an array of pairs, RESP2 a flat one.
fn header(reply: &mut Reply<'_>, count: u64, values: bool) {
    let flat = values && !reply.is_resp3();
    let count = if flat { count.saturating_mul(2) } else { count };
    reply.array(usize::try_from(count).unwrap_or(usize::MAX));
}

fn pair(reply: &mut Reply<'_>, field: LpValue<'_>, value: LpValue<'_>, values: bool) {
    if values && reply.is_resp3() {
        reply.array(2);
    }
    reply.item(field);
    if values {
        reply.item(value);
    }
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn elements_are_no_longer_repeated_when_the_reply_may_not_grow() {
        let collections = ["HSET h f v g w", "SADD s a b", "ZADD z 1 a 2 b"];
        let mut bench = Bench::new(|_, _, _, _| String::new(), &collections);
        let endless: [[&[u8]; 3]; 3] = [
            [b"HRANDFIELD", b"h", b"-9223372036854775807"],
            [b"SRANDMEMBER", b"s", b"-9223372036854775807"],
            [b"ZRANDMEMBER", b"z", b"-134217728"],
        ];
        for argv in endless {
            let ran = bench.run_limited(&argv, 1000);
            assert!((900..=1000).contains(&ran.reply.len()), "{}", ran.text);
        }
    }
}
