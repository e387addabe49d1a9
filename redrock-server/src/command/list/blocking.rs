//! BLPOP, BRPOP, BLMPOP, BLMOVE and BRPOPLPUSH.
//!
//! When a key becomes ready the same words run again, so each of these is its plain command with
//! the wish to wait added. What they did is propagated as the plain command.

use super::moves::move_element;
use super::pop::{first_list, parse_multi_pop, pop_with_key};
use super::timeout::parse_deadline;
use super::{parse_end, pop_name, pop_one};
use crate::command::{Args, CommandResult, Context, Reply};
use crate::net::client::BlockRequest;
use crate::value::list::{End, List};

/// Waits for one of `keys`, or answers `denied` where blocking is not allowed.
fn wait(
    ctx: &mut Context<'_>,
    keys: &[&[u8]],
    deadline_ms: Option<i64>,
    denied: fn(&mut Reply<'_>),
) {
    if ctx.client.deny_blocking {
        denied(&mut ctx.reply);
        return;
    }
    ctx.client.block = Some(BlockRequest {
        keys: keys.iter().map(|key| key.to_vec()).collect(),
        deadline_ms,
        // The null array for every list command, also those that answer a bulk string.
        on_timeout: |reply| reply.null_array(),
        wants: crate::value::ObjectType::List,
        or_gone: false,
        again: None,
    });
}

fn blocking_pop(ctx: &mut Context<'_>, args: &Args<'_>, end: End) -> CommandResult {
    let last = args.len() - 1;
    let deadline_ms = parse_deadline(args.at(last), ctx.now_ms())?;
    let keys = args.all().get(1..last).unwrap_or_default();
    let Some(key) = first_list(ctx, keys)? else {
        wait(ctx, keys, deadline_ms, |reply| reply.null_array());
        return Ok(());
    };
    ctx.db.write::<List>(key)?;
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    pop_one(ctx, key, end)?;
    ctx.propagate(&[pop_name(end), key]);
    Ok(())
}

/// `BLPOP key [key ...] timeout`
pub(super) fn blpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Head)
}

/// `BRPOP key [key ...] timeout`
pub(super) fn brpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    blocking_pop(ctx, args, End::Tail)
}

/// `BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]`
pub(super) fn blmpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let pop = parse_multi_pop(args, 2)?;
    let deadline_ms = parse_deadline(args.at(1), ctx.now_ms())?;
    match first_list(ctx, pop.keys)? {
        Some(key) => pop_with_key(ctx, key, &pop),
        None => {
            wait(ctx, pop.keys, deadline_ms, |reply| reply.null_array());
            Ok(())
        }
    }
}

/// `BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout`
pub(super) fn blmove(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let from = parse_end(args.at(3))?;
    let to = parse_end(args.at(4))?;
    let deadline_ms = parse_deadline(args.at(5), ctx.now_ms())?;
    if move_element(ctx, args.at(1), args.at(2), from, to)? {
        ctx.propagate(&[b"LMOVE", args.at(1), args.at(2), args.at(3), args.at(4)]);
    } else {
        wait(ctx, &[args.at(1)], deadline_ms, |reply| reply.null());
    }
    Ok(())
}

/// `BRPOPLPUSH source destination timeout`
pub(super) fn brpoplpush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let deadline_ms = parse_deadline(args.at(3), ctx.now_ms())?;
    if move_element(ctx, args.at(1), args.at(2), End::Tail, End::Head)? {
        ctx.propagate(&[b"RPOPLPUSH", args.at(1), args.at(2)]);
    } else {
        wait(ctx, &[args.at(1)], deadline_ms, |reply| reply.null());
    }
    Ok(())
}
