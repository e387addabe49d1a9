//! LPUSH, RPUSH and their `X` forms.

use super::push_event;
use crate::command::{Args, CommandResult, Context};
use crate::notify::Class;
use crate::value::list::{End, List};

fn push(ctx: &mut Context<'_>, args: &Args<'_>, end: End, only_existing: bool) -> CommandResult {
    let key = args.at(1);
    let values = args.from(2);
    let limits = &ctx.config.limits;
    let (len, created) = match ctx.db.write::<List>(key)? {
        Some(list) => {
            list.push(end, values, limits);
            (list.len(), false)
        }
        None if only_existing => {
            ctx.reply.int(0);
            return Ok(());
        }
        None => {
            let list = ctx.db.write_or_create::<List>(key)?;
            list.push(end, values, limits);
            (list.len(), true)
        }
    };
    if created {
        ctx.db.signal_ready(key);
    }
    ctx.reply.len_int(len);
    ctx.changed(key, Class::LIST, push_event(end));
    ctx.db.effect.dirty += values.len().saturating_sub(1) as u64;
    Ok(())
}

/// `LPUSH key element [element ...]`
pub(super) fn lpush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    push(ctx, args, End::Head, false)
}

/// `RPUSH key element [element ...]`
pub(super) fn rpush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    push(ctx, args, End::Tail, false)
}

/// `LPUSHX key element [element ...]`
pub(super) fn lpushx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    push(ctx, args, End::Head, true)
}

/// `RPUSHX key element [element ...]`
pub(super) fn rpushx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    push(ctx, args, End::Tail, true)
}
