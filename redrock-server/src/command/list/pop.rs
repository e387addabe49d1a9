//! LPOP, RPOP and LMPOP.

use super::{parse_end, pop_name, pop_one, pop_range};
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::value::list::{End, List};
use redrock_rdb::number::parse_i64;

fn pop(ctx: &mut Context<'_>, args: &Args<'_>, end: End, name: &str) -> CommandResult {
    if args.len() > 3 {
        return Err(CommandError::Arity(name.into()));
    }
    let key = args.at(1);
    let count = match args.get(2) {
        None => None,
        Some(arg) => Some(parse_i64(arg).and_then(|n| usize::try_from(n).ok()).ok_or(
            CommandError::fixed("ERR value is out of range, must be positive"),
        )?),
    };
    match count {
        None => {
            if !pop_one(ctx, key, end)? {
                ctx.reply.null();
            }
        }
        Some(0) if exists(ctx, key)? => ctx.reply.array(0),
        Some(count) => {
            if pop_range(ctx, key, end, count)? == 0 {
                ctx.reply.null_array();
            }
        }
    }
    Ok(())
}

/// Whether there is a list at the key, as a write looks it up: no statistics.
pub(super) fn exists(ctx: &mut Context<'_>, key: &[u8]) -> CommandResult<bool> {
    match ctx.db.peek(key)? {
        None => Ok(false),
        Some(crate::value::ValueRef::List(_)) => Ok(true),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// `LPOP key [count]`
pub(super) fn lpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    pop(ctx, args, End::Head, "lpop")
}

/// `RPOP key [count]`
pub(super) fn rpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    pop(ctx, args, End::Tail, "rpop")
}

/// What LMPOP and BLMPOP ask for.
pub(super) struct MultiPop<'a> {
    pub(super) keys: &'a [&'a [u8]],
    pub(super) end: End,
    pub(super) count: usize,
}

/// Parses `numkeys key [key ...] LEFT|RIGHT [COUNT count]` from argument `at` on.
pub(super) fn parse_multi_pop<'a>(args: &Args<'a>, at: usize) -> CommandResult<MultiPop<'a>> {
    let key_count = positive(args.at(at), "ERR numkeys should be greater than 0")?;
    let end_at = at.saturating_add(key_count).saturating_add(1);
    let end = parse_end(args.get(end_at).ok_or(CommandError::Syntax)?)?;
    let keys = args.all().get(at + 1..end_at).unwrap_or_default();
    let count = match args.from(end_at + 1) {
        [] => 1,
        [word, rest @ ..] if is_word(word, "count") && !rest.is_empty() => {
            let count = positive(rest[0], "ERR count should be greater than 0")?;
            if rest.len() > 1 {
                return Err(CommandError::Syntax);
            }
            count
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(MultiPop { keys, end, count })
}

fn positive(arg: &[u8], error: &'static str) -> CommandResult<usize> {
    let value = parse_i64(arg)
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    value.ok_or(CommandError::fixed(error))
}

/// The first key that holds a list; a key of another type on the way is an error.
pub(super) fn first_list<'a>(
    ctx: &mut Context<'_>,
    keys: &[&'a [u8]],
) -> CommandResult<Option<&'a [u8]>> {
    for key in keys {
        if exists(ctx, key)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Pops from one list and replies with its key and the elements; propagated as LPOP or RPOP.
pub(super) fn pop_with_key(ctx: &mut Context<'_>, key: &[u8], pop: &MultiPop<'_>) -> CommandResult {
    // Made ready before the reply is begun, so that nothing can fail in the middle of it.
    ctx.db.write::<List>(key)?;
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    let count = pop_range(ctx, key, pop.end, pop.count)?;
    let mut digits = itoa::Buffer::new();
    ctx.propagate(&[pop_name(pop.end), key, digits.format(count).as_bytes()]);
    Ok(())
}

/// `LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]`
pub(super) fn lmpop(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let pop = parse_multi_pop(args, 1)?;
    match first_list(ctx, pop.keys)? {
        Some(key) => pop_with_key(ctx, key, &pop),
        None => {
            ctx.reply.null_array();
            Ok(())
        }
    }
}
