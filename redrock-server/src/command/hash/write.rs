//! Changing hashes.

use super::expire::propagate_time;
use super::peek_as;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::hash::{Found, Hash};
use crate::value::number::LongDouble;
use redrock_rdb::number::IntBuf;

/// Sets the pairs from argument 2 on; returns how many fields are new.
fn set_pairs(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult<usize> {
    let items = args.from(2);
    if !items.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(args.at(0)).to_ascii_lowercase();
        return Err(CommandError::Arity(name));
    }
    let limits = &ctx.config.limits;
    let hash = ctx.db.write_or_create::<Hash>(args.at(1))?;
    let timed = hash.is_timed();
    hash.prepare(items, limits);
    let mut created = 0;
    for pair in items.chunks_exact(2) {
        if let [field, value] = pair {
            created += usize::from(hash.set(field, value, limits));
        }
    }
    if timed {
        ctx.db.fields_changed(args.at(1));
    }
    ctx.changed(args.at(1), Class::HASH, "hset");
    ctx.db.effect.dirty += (items.len() / 2).saturating_sub(1) as u64;
    Ok(created)
}

/// `HSET key field value [field value ...]`
pub(super) fn hset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let created = set_pairs(ctx, args)?;
    ctx.reply.len_int(created);
    Ok(())
}

/// `HMSET key field value [field value ...]`
pub(super) fn hmset(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    set_pairs(ctx, args)?;
    ctx.reply.ok();
    Ok(())
}

/// A field before a change that depends on it.
fn look<'a>(ctx: &'a mut Context<'_>, key: &[u8], field: &[u8]) -> CommandResult<Found<'a>> {
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    Ok(hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms)))
}

/// Deletes a field that is over before it gets a new value, so that who follows the log sees what
/// this command saw.
fn make_way(ctx: &mut Context<'_>, key: &[u8], field: &[u8], is_over: bool) -> CommandResult {
    if is_over {
        ctx.db.expire_named(key, &[field])?;
    }
    Ok(())
}

/// `HSETNX key field value`
pub(super) fn hsetnx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field, value) = (args.at(1), args.at(2), args.at(3));
    let found = look(ctx, key, field)?;
    let is_over = found.is_over();
    if found.value().is_some() {
        ctx.reply.int(0);
        return Ok(());
    }
    make_way(ctx, key, field, is_over)?;
    let limits = &ctx.config.limits;
    let hash = ctx.db.write_or_create::<Hash>(key)?;
    let timed = hash.is_timed();
    hash.prepare(&[field, value], limits);
    hash.set(field, value, limits);
    if timed {
        ctx.db.fields_changed(key);
    }
    ctx.changed(key, Class::HASH, "hset");
    ctx.reply.int(1);
    Ok(())
}

/// `HDEL key field [field ...]`
pub(super) fn hdel(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, fields) = (args.at(1), args.from(2));
    let hash = peek_as::<Hash>(&mut ctx.db, key)?;
    // Nothing to delete leaves the entry untouched, and with it its copy on disk.
    let Some(first) = hash.and_then(|hash| fields.iter().position(|field| hash.contains(field)))
    else {
        ctx.reply.int(0);
        return Ok(());
    };
    let mut timed = false;
    let mut deleted = 0;
    if let Some(hash) = ctx.db.write::<Hash>(key)? {
        timed = hash.is_timed();
        deleted = fields
            .iter()
            .skip(first)
            .filter(|field| hash.remove(field))
            .count();
    }
    let emptied = ctx.db.remove_if_empty(key);
    if timed {
        ctx.db.fields_changed(key);
    }
    ctx.changed(key, Class::HASH, "hdel");
    ctx.db.effect.dirty += deleted.saturating_sub(1) as u64;
    if emptied {
        ctx.notify(key, Class::GENERIC, "del");
    }
    ctx.reply.len_int(deleted);
    Ok(())
}

/// `HINCRBY key field increment`
pub(super) fn hincrby(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field) = (args.at(1), args.at(2));
    let increment = args.int(3)?;
    let found = look(ctx, key, field)?;
    let is_over = found.is_over();
    let old = match found.value() {
        None => 0,
        Some(value) => value
            .as_int()
            .ok_or(CommandError::fixed("ERR hash value is not an integer"))?,
    };
    let new = old.checked_add(increment).ok_or(CommandError::fixed(
        "ERR increment or decrement would overflow",
    ))?;
    make_way(ctx, key, field, is_over)?;
    let mut digits = itoa::Buffer::new();
    let limits = &ctx.config.limits;
    ctx.db.write_or_create::<Hash>(key)?.set_keeping_time(
        field,
        digits.format(new).as_bytes(),
        limits,
    );
    ctx.changed(key, Class::HASH, "hincrby");
    ctx.reply.int(new);
    Ok(())
}

/// `HINCRBYFLOAT key field increment`
pub(super) fn hincrbyfloat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field) = (args.at(1), args.at(2));
    let increment = LongDouble::parse(args.at(3)).ok_or(CommandError::NotFloat)?;
    if !increment.is_finite() {
        return Err(CommandError::fixed("ERR value is NaN or Infinity"));
    }
    let found = look(ctx, key, field)?;
    let is_over = found.is_over();
    let old = match found.value() {
        None => LongDouble::parse(b"0"),
        Some(value) => LongDouble::parse(value.bytes(&mut IntBuf::default())),
    };
    let old = old.ok_or(CommandError::fixed("ERR hash value is not a float"))?;
    let new = old
        .checked_add(increment)
        .ok_or(CommandError::fixed(
            "ERR increment would produce NaN or Infinity",
        ))?
        .format_human();
    make_way(ctx, key, field, is_over)?;
    let limits = &ctx.config.limits;
    let hash = ctx.db.write_or_create::<Hash>(key)?;
    hash.set_keeping_time(field, new.as_bytes(), limits);
    let time = hash.time_of(field).flatten();
    ctx.changed(key, Class::HASH, "hincrbyfloat");
    // The sum is propagated, so that replicas and reloads never round on their own.
    ctx.propagate(&[b"HSET", key, field, new.as_bytes()]);
    if let Some(ms) = time {
        propagate_time(ctx, key, ms, &[field]);
    }
    ctx.reply.bulk(new.as_bytes());
    Ok(())
}
