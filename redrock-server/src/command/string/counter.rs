//! INCR and its relatives.

use super::peek_string;
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::keyspace::db::{Expiry, StringRef};
use crate::notify::Class;
use crate::value::number::LongDouble;
use redrock_rdb::number::parse_i64;

fn add(ctx: &mut Context<'_>, key: &[u8], increment: i64) -> CommandResult {
    let old = match peek_string(&mut ctx.db, key)? {
        None => 0,
        Some(StringRef::Int(n)) => n,
        Some(StringRef::Bytes(text)) => parse_i64(text).ok_or(CommandError::NotInteger)?,
    };
    let new = old.checked_add(increment).ok_or(CommandError::fixed(
        "ERR increment or decrement would overflow",
    ))?;
    ctx.db.set_int(key, new, Expiry::Keep)?;
    ctx.changed(key, Class::STRING, "incrby");
    ctx.reply.int(new);
    Ok(())
}

/// INCR key
pub(super) fn incr(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    add(ctx, args.at(1), 1)
}

/// DECR key
pub(super) fn decr(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    add(ctx, args.at(1), -1)
}

/// INCRBY key increment
pub(super) fn incrby(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    add(ctx, args.at(1), args.int(2)?)
}

/// DECRBY key decrement
pub(super) fn decrby(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let increment = args
        .int(2)?
        .checked_neg()
        .ok_or(CommandError::fixed("ERR decrement would overflow"))?;
    add(ctx, args.at(1), increment)
}

/// INCRBYFLOAT key increment
///
/// Propagated as the SET of its result, so that nobody has to calculate alike.
pub(super) fn incrbyfloat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let old = match peek_string(&mut ctx.db, key)? {
        None => LongDouble::from(0),
        Some(StringRef::Int(n)) => LongDouble::from(n),
        Some(StringRef::Bytes(text)) => LongDouble::parse(text).ok_or(CommandError::NotFloat)?,
    };
    let increment = LongDouble::parse(args.at(2)).ok_or(CommandError::NotFloat)?;
    let sum = old.checked_add(increment).ok_or(CommandError::fixed(
        "ERR increment would produce NaN or Infinity",
    ))?;
    let text = sum.format_human();
    let text = text.as_bytes();
    ctx.db.set_text(key, text, Expiry::Keep)?;
    ctx.changed(key, Class::STRING, "incrbyfloat");
    ctx.propagate(&[b"SET", key, text, b"KEEPTTL"]);
    ctx.reply.bulk(text);
    Ok(())
}
