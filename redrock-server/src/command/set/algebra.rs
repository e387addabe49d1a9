//! SINTER, SUNION, SDIFF, their storing forms, and SINTERCARD.
//!
//! All inputs are looked up before anything else, and shared, so that they can be walked
//! together. The shares are dropped before the destination changes: it may be one of them.

use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::db::{Collection, Expiry};
use crate::notify::Class;
use crate::value::Object;
use crate::value::set::{self, Set};
use redrock_rdb::number::parse_i64;
use std::sync::Arc;

/// An input as it is held: `None` for a key that does not exist.
type Shared = Option<Arc<Object>>;

fn look_up(ctx: &mut Context<'_>, keys: &[&[u8]]) -> CommandResult<Vec<Shared>> {
    keys.iter()
        .map(|key| ctx.db.read_shared::<Set>(key))
        .collect()
}

fn as_set(shared: &Shared) -> Option<&Set> {
    Set::of(shared.as_deref()?.as_value_ref())
}

/// Views of all inputs, or `None` if one of them is missing.
fn all_present(shared: &[Shared]) -> Option<Vec<&Set>> {
    shared.iter().map(as_set).collect()
}

fn views(shared: &[Shared]) -> Vec<Option<&Set>> {
    shared.iter().map(as_set).collect()
}

/// `SINTER key [key ...]`
pub(super) fn sinter(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(1))?;
    let Some(mut sets) = all_present(&shared) else {
        ctx.reply.set(0);
        return Ok(());
    };
    let mut body = Vec::new();
    set::intersect(&mut sets, |member| {
        body.push(member);
        true
    });
    ctx.reply.set(body.len());
    body.iter().for_each(|member| ctx.reply.item(*member));
    Ok(())
}

/// `SINTERCARD numkeys key [key ...] [LIMIT limit]`
pub(super) fn sintercard(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let count = parse_i64(args.at(1))
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(CommandError::fixed("ERR numkeys should be greater than 0"))?;
    let Some((keys, options)) = args.from(2).split_at_checked(count) else {
        let text = "ERR Number of keys can't be greater than number of args";
        return Err(CommandError::fixed(text));
    };
    let mut limit = 0;
    for option in options.chunks(2) {
        match option {
            [word, value] if is_word(word, "limit") => {
                limit = parse_i64(value)
                    .and_then(|limit| usize::try_from(limit).ok())
                    .ok_or(CommandError::fixed("ERR LIMIT can't be negative"))?;
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let shared = look_up(ctx, keys)?;
    let mut found = 0;
    if let Some(mut sets) = all_present(&shared) {
        set::intersect(&mut sets, |_| {
            found += 1;
            found != limit
        });
    }
    ctx.reply.len_int(found);
    Ok(())
}

/// `SUNION key [key ...]`
pub(super) fn sunion(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(1))?;
    reply_members(ctx, &set::union(&views(&shared), &ctx.config.limits));
    Ok(())
}

/// `SDIFF key [key ...]`
pub(super) fn sdiff(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(1))?;
    reply_members(ctx, &set::difference(&views(&shared), &ctx.config.limits));
    Ok(())
}

fn reply_members(ctx: &mut Context<'_>, members: &Set) {
    ctx.reply.set(members.len());
    members.iter().for_each(|member| ctx.reply.item(member));
}

/// `SINTERSTORE destination key [key ...]`
pub(super) fn sinterstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(2))?;
    let result = match all_present(&shared) {
        Some(mut sets) => set::intersection(&mut sets, &ctx.config.limits),
        None => Set::new(),
    };
    drop(shared);
    store(ctx, args.at(1), result, "sinterstore")
}

/// `SUNIONSTORE destination key [key ...]`
pub(super) fn sunionstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(2))?;
    let result = set::union(&views(&shared), &ctx.config.limits);
    drop(shared);
    store(ctx, args.at(1), result, "sunionstore")
}

/// `SDIFFSTORE destination key [key ...]`
pub(super) fn sdiffstore(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let shared = look_up(ctx, args.from(2))?;
    let result = set::difference(&views(&shared), &ctx.config.limits);
    drop(shared);
    store(ctx, args.at(1), result, "sdiffstore")
}

/// Puts a result into the destination, whatever that held; an empty one deletes it.
fn store(
    ctx: &mut Context<'_>,
    destination: &[u8],
    result: Set,
    event: &'static str,
) -> CommandResult {
    let len = result.len();
    if len > 0 {
        ctx.db
            .set_object(destination, Object::Set(result), Expiry::Clear)?;
        ctx.changed(destination, Class::SET, event);
    } else if ctx.db.remove(destination)? {
        ctx.changed(destination, Class::GENERIC, "del");
    }
    ctx.reply.len_int(len);
    Ok(())
}
