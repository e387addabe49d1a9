//! LMOVE and RPOPLPUSH.

use super::{delete_if_empty, parse_end, pop::exists, pop_event, push_event};
use crate::command::{Args, CommandResult, Context};
use crate::notify::Class;
use crate::value::list::{End, List};

/// Moves an element from one end of `source` to one end of `destination`, which may be the same
/// list, and replies with it. False, without a reply, if there is no source.
pub(super) fn move_element(
    ctx: &mut Context<'_>,
    source: &[u8],
    destination: &[u8],
    from: End,
    to: End,
) -> CommandResult<bool> {
    if !exists(ctx, source)? {
        return Ok(false);
    }
    let destination_exists = exists(ctx, destination)?;
    if destination_exists && source != destination {
        // A value that a snapshot reads may have to be waited for: before the first change.
        ctx.db.write::<List>(destination)?;
    }
    let limits = &ctx.config.limits;
    let Some(list) = ctx.db.write::<List>(source)? else {
        return Ok(false);
    };
    let Some(value) = list.end(from).map(|item| item.to_vec()) else {
        return Ok(false);
    };
    if source == destination {
        list.remove_end(from);
        list.push(to, &[&value], limits);
        list.shrink(limits);
    } else {
        // It may turn out to be on disk now: before anything has left the source.
        let target = ctx.db.write_or_create::<List>(destination)?;
        target.push(to, &[&value], limits);
        if let Some(list) = ctx.db.write::<List>(source)? {
            list.remove_end(from);
            list.shrink(limits);
        }
    }
    if !destination_exists {
        ctx.db.signal_ready(destination);
    }
    ctx.db.signal(destination);
    ctx.notify(destination, Class::LIST, push_event(to));
    ctx.reply.bulk(&value);
    ctx.changed(source, Class::LIST, pop_event(from));
    delete_if_empty(ctx, source);
    Ok(true)
}

/// `LMOVE source destination LEFT|RIGHT LEFT|RIGHT`
pub(super) fn lmove(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let from = parse_end(args.at(3))?;
    let to = parse_end(args.at(4))?;
    if !move_element(ctx, args.at(1), args.at(2), from, to)? {
        ctx.reply.null();
    }
    Ok(())
}

/// `RPOPLPUSH source destination`
pub(super) fn rpoplpush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if !move_element(ctx, args.at(1), args.at(2), End::Tail, End::Head)? {
        ctx.reply.null();
    }
    Ok(())
}
