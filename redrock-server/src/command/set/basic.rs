//! Members one by one, and whole sets.

use crate::command::hash::peek_as;
use crate::command::hash::scan::{self, Allowed, ScanOptions};
use crate::command::{Args, CommandResult, Context};
use crate::notify::Class;
use crate::value::set::Set;

/// `SADD key member [member ...]`
pub(super) fn sadd(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, members) = (args.at(1), args.from(2));
    let limits = &ctx.config.limits;
    // Nothing to add leaves the entry untouched, unless so many members change its encoding.
    if let Some(set) = peek_as::<Set>(&mut ctx.db, key)?
        && members.len() <= limits.set_listpack_entries_max
        && members.iter().all(|member| set.contains(member))
    {
        ctx.reply.int(0);
        return Ok(());
    }
    let set = ctx.db.write_or_create::<Set>(key)?;
    set.prepare(members, limits);
    let added = members
        .iter()
        .filter(|member| set.add(member, limits))
        .count();
    if added > 0 {
        ctx.changed(key, Class::SET, "sadd");
        ctx.db.effect.dirty += added as u64 - 1;
    }
    ctx.reply.len_int(added);
    Ok(())
}

/// `SREM key member [member ...]`
pub(super) fn srem(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, members) = (args.at(1), args.from(2));
    let set = peek_as::<Set>(&mut ctx.db, key)?;
    let Some(first) = set.and_then(|set| members.iter().position(|member| set.contains(member)))
    else {
        ctx.reply.int(0);
        return Ok(());
    };
    let mut removed = 0;
    if let Some(set) = ctx.db.write::<Set>(key)? {
        removed = members
            .iter()
            .skip(first)
            .filter(|member| set.remove(member))
            .count();
    }
    let emptied = ctx.db.remove_if_empty(key);
    ctx.changed(key, Class::SET, "srem");
    ctx.db.effect.dirty += removed.saturating_sub(1) as u64;
    if emptied {
        ctx.notify(key, Class::GENERIC, "del");
    }
    ctx.reply.len_int(removed);
    Ok(())
}

/// `SMOVE source destination member`
pub(super) fn smove(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (source, destination, member) = (args.at(1), args.at(2), args.at(3));
    let Some(found) = peek_as::<Set>(&mut ctx.db, source)?.map(|set| set.contains(member)) else {
        ctx.reply.int(0);
        return Ok(());
    };
    // The destination's type is checked even if there is nothing to move.
    peek_as::<Set>(&mut ctx.db, destination)?;
    if source == destination || !found {
        ctx.reply.int(i64::from(found));
        return Ok(());
    }
    // A value that a snapshot reads may have to be waited for: before the first change.
    ctx.db.write::<Set>(destination)?;
    if let Some(set) = ctx.db.write::<Set>(source)? {
        set.remove(member);
    }
    let emptied = ctx.db.remove_if_empty(source);
    ctx.changed(source, Class::SET, "srem");
    if emptied {
        ctx.notify(source, Class::GENERIC, "del");
    }
    let limits = &ctx.config.limits;
    let set = ctx.db.write_or_create::<Set>(destination)?;
    set.prepare(&[member], limits);
    if set.add(member, limits) {
        ctx.changed(destination, Class::SET, "sadd");
    }
    ctx.reply.int(1);
    Ok(())
}

/// `SISMEMBER key member`
pub(super) fn sismember(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<Set>(args.at(1))?;
    let found = set.is_some_and(|set| set.contains(args.at(2)));
    ctx.reply.int(i64::from(found));
    Ok(())
}

/// `SMISMEMBER key member [member ...]`
pub(super) fn smismember(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<Set>(args.at(1))?;
    let members = args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        ctx.reply
            .int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

/// `SCARD key`
pub(super) fn scard(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let len = ctx.db.read::<Set>(args.at(1))?.map_or(0, Set::len);
    ctx.reply.len_int(len);
    Ok(())
}

/// `SMEMBERS key`
pub(super) fn smembers(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let set = ctx.db.read::<Set>(args.at(1))?;
    ctx.reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        ctx.reply.item(member);
    }
    Ok(())
}

/// `SSCAN key cursor [MATCH pattern] [COUNT count]`
pub(super) fn sscan(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let cursor = scan::parse_cursor(args.at(2))?;
    let Some(set) = ctx.db.read::<Set>(args.at(1))? else {
        scan::reply_nothing(&mut ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(args, 3, Allowed::default())?;
    let mut items = Vec::new();
    let next = set.scan(cursor, options.count, |member| {
        if options.matches(member) {
            items.push(member);
        }
    });
    scan::reply_items(&mut ctx.reply, next, &items);
    Ok(())
}
