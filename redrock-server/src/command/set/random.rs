//! SPOP and SRANDMEMBER.

use crate::command::effect::deletion;
use crate::command::hash::peek_as;
use crate::command::hash::random::{REPLY_TOO_LONG, may_repeat, parse_count};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::set::Set;
use redrock_rdb::number::parse_i64;

/// Members in one SREM of what SPOP propagates.
const PROPAGATED_BATCH: usize = 1024;

/// `SPOP key [count]`
pub(super) fn spop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    match args.len() {
        2 => spop_one(ctx, args.at(1)),
        3 => spop_many(ctx, args),
        _ => Err(CommandError::Syntax),
    }
}

fn spop_one(ctx: &mut Context<'_>, key: &[u8]) -> CommandResult {
    let Some(member) = ctx.db.write::<Set>(key)?.and_then(Set::take_random) else {
        ctx.reply.null();
        return Ok(());
    };
    let emptied = ctx.db.remove_if_empty(key);
    ctx.changed(key, Class::SET, "spop");
    if emptied {
        ctx.notify(key, Class::GENERIC, "del");
    }
    ctx.propagate(&[b"SREM", key, &member]);
    ctx.reply.bulk(&member);
    Ok(())
}

fn spop_many(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let count = parse_i64(args.at(2))
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(CommandError::fixed(
            "ERR value is out of range, must be positive",
        ))?;
    let len = peek_as::<Set>(&mut ctx.db, key)?.map_or(0, Set::len);
    if count == 0 || len == 0 {
        ctx.reply.set(0);
        return Ok(());
    }
    if count >= len {
        return spop_all(ctx, key, len);
    }
    let limits = &ctx.config.limits;
    let Some(set) = ctx.db.write::<Set>(key)? else {
        return Ok(());
    };
    let members = set.take_many_random(count, limits);
    ctx.changed(key, Class::SET, "spop");
    ctx.db.effect.dirty += members.len().saturating_sub(1) as u64;
    ctx.reply.set(members.len());
    let mut command: Vec<&[u8]> = Vec::with_capacity(members.len().min(PROPAGATED_BATCH) + 2);
    for batch in members.chunks(PROPAGATED_BATCH) {
        command.clear();
        command.extend_from_slice(&[b"SREM", key]);
        command.extend(batch.iter().map(Vec::as_slice));
        ctx.propagate(&command);
        batch.iter().for_each(|member| ctx.reply.bulk(member));
    }
    Ok(())
}

/// Pops everything there is: the key goes.
fn spop_all(ctx: &mut Context<'_>, key: &[u8], len: usize) -> CommandResult {
    let Some(set) = peek_as::<Set>(&mut ctx.db, key)? else {
        return Ok(());
    };
    ctx.reply.set(len);
    set.iter().for_each(|member| ctx.reply.item(member));
    ctx.db.remove(key)?;
    ctx.changed(key, Class::SET, "spop");
    ctx.db.effect.dirty += len as u64 - 1;
    ctx.notify(key, Class::GENERIC, "del");
    ctx.propagate(&[deletion(ctx.config.memory.lazy_server_delete), key]);
    Ok(())
}

/// `SRANDMEMBER key [count]`
pub(super) fn srandmember(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    match args.len() {
        2 => {
            match ctx.db.read::<Set>(args.at(1))?.and_then(Set::random) {
                Some(member) => ctx.reply.item(member),
                None => ctx.reply.null(),
            }
            Ok(())
        }
        3 => srandmember_many(ctx, args),
        _ => Err(CommandError::Syntax),
    }
}

fn srandmember_many(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let count = parse_count(args)?;
    let Some(set) = ctx.db.read::<Set>(args.at(1))? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let reply = &mut ctx.reply;
    if count >= 0 {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(set.len());
        reply.array(count);
        if count == 1
            && let Some(member) = set.random()
        {
            reply.item(member);
        } else {
            set.random_distinct(count, |member| reply.item(member));
        }
        return Ok(());
    }
    let start = reply.len();
    let count = count.unsigned_abs();
    reply.array(usize::try_from(count).unwrap_or(usize::MAX));
    let mut complete = true;
    set.random_repeating(count, |member| {
        reply.item(member);
        complete = may_repeat(reply, start);
        complete
    });
    if complete || reply.is_over() {
        return Ok(());
    }
    reply.truncate(start);
    Err(REPLY_TOO_LONG)
}
