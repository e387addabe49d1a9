//! LSET, LINSERT, LREM and LTRIM.

use super::{clamp_range, delete_if_empty, pop::exists};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::ValueRef;
use crate::value::list::{End, List};

/// `LSET key index element`
pub(super) fn lset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    if !exists(ctx, key)? {
        return Err(CommandError::NoSuchKey);
    }
    let index = args.int(2)?;
    let Some(list) = ctx.db.write::<List>(key)? else {
        return Err(CommandError::NoSuchKey);
    };
    if !list.set(index, args.at(3), &ctx.config.limits) {
        return Err(CommandError::OutOfRange);
    }
    ctx.reply.ok();
    ctx.changed(key, Class::LIST, "lset");
    Ok(())
}

/// `LINSERT key BEFORE|AFTER pivot element`
pub(super) fn linsert(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let after = if args.is(2, "after") {
        true
    } else if args.is(2, "before") {
        false
    } else {
        return Err(CommandError::Syntax);
    };
    let Some(list) = ctx.db.write::<List>(key)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    if !list.insert(args.at(3), after, args.at(4), &ctx.config.limits) {
        ctx.reply.int(-1);
        return Ok(());
    }
    ctx.reply.len_int(list.len());
    ctx.changed(key, Class::LIST, "linsert");
    Ok(())
}

/// `LREM key count element`
pub(super) fn lrem(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let count = args.int(2)?;
    let from = if count < 0 { End::Tail } else { End::Head };
    let max = match count.unsigned_abs() {
        0 => usize::MAX,
        max => usize::try_from(max).unwrap_or(usize::MAX),
    };
    // Looked for first: a list without the element must not count as changed.
    let found = match ctx.db.peek(key)? {
        None => false,
        Some(ValueRef::List(list)) => list.contains(args.at(3)),
        Some(_) => return Err(CommandError::WrongType),
    };
    let list = if found {
        ctx.db.write::<List>(key)?
    } else {
        None
    };
    let Some(list) = list else {
        ctx.reply.int(0);
        return Ok(());
    };
    let removed = list.remove_matching(args.at(3), from, max);
    list.shrink(&ctx.config.limits);
    ctx.reply.len_int(removed);
    ctx.changed(key, Class::LIST, "lrem");
    ctx.db.effect.dirty += removed.saturating_sub(1) as u64;
    delete_if_empty(ctx, key);
    Ok(())
}

/// `LTRIM key start stop`
pub(super) fn ltrim(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let (start, stop) = (args.int(2)?, args.int(3)?);
    let Some(list) = ctx.db.write::<List>(key)? else {
        ctx.reply.ok();
        return Ok(());
    };
    let len = list.len();
    let (start, count) = clamp_range(start, stop, len).unwrap_or((len, 0));
    list.remove_range(start + count, len);
    list.remove_range(0, start);
    list.shrink(&ctx.config.limits);
    // Redis tells of a trim that removes nothing too, but does not propagate it.
    ctx.db.signal(key);
    ctx.notify(key, Class::LIST, "ltrim");
    ctx.db.effect.dirty += (len - count) as u64;
    delete_if_empty(ctx, key);
    ctx.reply.ok();
    Ok(())
}
