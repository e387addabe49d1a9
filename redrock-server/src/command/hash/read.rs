//! Reading hashes.

use super::expire_met;
use super::scan::{self, Allowed, ScanOptions};
use crate::command::{Args, CommandResult, Context};
use crate::value::hash::{Found, Hash};

/// `HGET key field`
pub(super) fn hget(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field) = (args.at(1), args.at(2));
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(key)?;
    let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
    match found.value() {
        Some(value) => ctx.reply.item(value),
        None => ctx.reply.null(),
    }
    if found.is_over() {
        expire_met(ctx, key, &[field]);
    }
    Ok(())
}

/// `HMGET key field [field ...]`
pub(super) fn hmget(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, fields) = (args.at(1), args.from(2));
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(key)?;
    ctx.reply.array(fields.len());
    let mut some_over = false;
    for field in fields {
        let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
        match found.value() {
            Some(value) => ctx.reply.item(value),
            None => ctx.reply.null(),
        }
        some_over |= found.is_over();
    }
    if some_over {
        expire_met(ctx, key, fields);
    }
    Ok(())
}

/// `HEXISTS key field`
pub(super) fn hexists(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field) = (args.at(1), args.at(2));
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(key)?;
    let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
    ctx.reply.int(i64::from(found.value().is_some()));
    if found.is_over() {
        expire_met(ctx, key, &[field]);
    }
    Ok(())
}

/// `HLEN key`: those over and not deleted yet count, as in Redis.
pub(super) fn hlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let len = ctx.db.read::<Hash>(args.at(1))?.map_or(0, Hash::len);
    ctx.reply.len_int(len);
    Ok(())
}

/// `HSTRLEN key field`
pub(super) fn hstrlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, field) = (args.at(1), args.at(2));
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(key)?;
    let found = hash.map_or(Found::Absent, |hash| hash.lookup(field, cutoff_ms));
    ctx.reply
        .len_int(found.value().map_or(0, |value| value.len()));
    if found.is_over() {
        expire_met(ctx, key, &[field]);
    }
    Ok(())
}

/// `HGETALL key`
pub(super) fn hgetall(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply
        .map(hash.map_or(0, |hash| hash.live_len(cutoff_ms)));
    for (field, value) in hash.into_iter().flat_map(|hash| hash.live(cutoff_ms)) {
        ctx.reply.item(field);
        ctx.reply.item(value);
    }
    Ok(())
}

/// `HKEYS key`
pub(super) fn hkeys(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply
        .array(hash.map_or(0, |hash| hash.live_len(cutoff_ms)));
    for (field, _) in hash.into_iter().flat_map(|hash| hash.live(cutoff_ms)) {
        ctx.reply.item(field);
    }
    Ok(())
}

/// `HVALS key`
pub(super) fn hvals(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cutoff_ms = ctx.db.field_cutoff();
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply
        .array(hash.map_or(0, |hash| hash.live_len(cutoff_ms)));
    for (_, value) in hash.into_iter().flat_map(|hash| hash.live(cutoff_ms)) {
        ctx.reply.item(value);
    }
    Ok(())
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`
pub(super) fn hscan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = scan::parse_cursor(args.at(2))?;
    let cutoff_ms = ctx.db.field_cutoff();
    // As in Redis the options are not looked at when there is no such key.
    let Some(hash) = ctx.db.read::<Hash>(args.at(1))? else {
        scan::reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(
        args,
        3,
        Allowed {
            novalues: true,
            ..Allowed::default()
        },
    )?;
    let mut items = Vec::new();
    let next = hash.scan(cursor, options.count, cutoff_ms, |field, value| {
        if options.matches(field) {
            items.push(field);
            if !options.novalues {
                items.push(value);
            }
        }
    });
    scan::reply_items(&mut ctx.reply, next, &items);
    Ok(())
}
