//! XLEN, XRANGE and XREVRANGE.

use super::{id, reply_entry};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::stream::{Entry, Stream};

/// `XLEN key`
pub(super) fn xlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let stream = ctx.db.read::<Stream>(args.at(1))?;
    ctx.reply.len_int(stream.map_or(0, Stream::len));
    Ok(())
}

/// Replies with at most `count` entries, an array of them.
pub(super) fn reply_entries<'e>(
    reply: &mut Reply<'_>,
    entries: impl Iterator<Item = Entry<'e>>,
    count: usize,
) {
    let start = reply.deferred();
    let mut written = 0;
    for entry in entries.take(count) {
        reply_entry(reply, &entry);
        written += 1;
        if reply.is_over() {
            break;
        }
    }
    reply.finish_array(start, written);
}

fn range(ctx: &mut Context<'_>, args: &Args<'_>, reversed: bool) -> CommandResult {
    let (start_at, end_at) = if reversed { (3, 2) } else { (2, 3) };
    let start = id::interval_start(args.at(start_at))?;
    let end = id::interval_stop(args.at(end_at))?;
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if !args.is(at, "count") || at + 1 == args.len() {
            return Err(CommandError::Syntax);
        }
        count = Some(usize::try_from(args.int(at + 1)?).unwrap_or(0));
        at += 2;
    }
    let Some(stream) = ctx.db.read::<Stream>(args.at(1))? else {
        ctx.reply.array(0);
        return Ok(());
    };
    match count {
        Some(0) => ctx.reply.null_array(),
        _ if reversed => {
            let entries = stream.range_reversed(start, end);
            reply_entries(&mut ctx.reply, entries, count.unwrap_or(usize::MAX));
        }
        _ => {
            let entries = stream.range(start, end);
            reply_entries(&mut ctx.reply, entries, count.unwrap_or(usize::MAX));
        }
    }
    Ok(())
}

/// `XRANGE key start end [COUNT count]`
pub(super) fn xrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    range(ctx, args, false)
}

/// `XREVRANGE key end start [COUNT count]`
pub(super) fn xrevrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    range(ctx, args, true)
}
