//! Reading hashes.

use super::scan::{self, Allowed, ScanOptions};
use crate::command::{Args, CommandResult, Context};
use crate::value::hash::Hash;

/// `HGET key field`
pub(super) fn hget(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    match hash.and_then(|hash| hash.get(args.at(2))) {
        Some(value) => ctx.reply.item(value),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `HMGET key field [field ...]`
pub(super) fn hmget(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    let fields = args.from(2);
    ctx.reply.array(fields.len());
    for field in fields {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => ctx.reply.item(value),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// `HEXISTS key field`
pub(super) fn hexists(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    let found = hash.is_some_and(|hash| hash.contains(args.at(2)));
    ctx.reply.int(i64::from(found));
    Ok(())
}

/// `HLEN key`
pub(super) fn hlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let len = ctx.db.read::<Hash>(args.at(1))?.map_or(0, Hash::len);
    ctx.reply.len_int(len);
    Ok(())
}

/// `HSTRLEN key field`
pub(super) fn hstrlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    let len = hash
        .and_then(|hash| hash.get(args.at(2)))
        .map_or(0, |value| value.len());
    ctx.reply.len_int(len);
    Ok(())
}

/// `HGETALL key`
pub(super) fn hgetall(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        ctx.reply.item(field);
        ctx.reply.item(value);
    }
    Ok(())
}

/// `HKEYS key`
pub(super) fn hkeys(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    for (field, _) in hash.into_iter().flat_map(Hash::iter) {
        ctx.reply.item(field);
    }
    Ok(())
}

/// `HVALS key`
pub(super) fn hvals(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let hash = ctx.db.read::<Hash>(args.at(1))?;
    ctx.reply.array(hash.map_or(0, Hash::len));
    for (_, value) in hash.into_iter().flat_map(Hash::iter) {
        ctx.reply.item(value);
    }
    Ok(())
}

/// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`
pub(super) fn hscan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = scan::parse_cursor(args.at(2))?;
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
    let next = hash.scan(cursor, options.count, |field, value| {
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
