//! RENAME, RENAMENX, MOVE and COPY.

use super::{NO_DATABASE, SAME_OBJECT, small_int};
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;

fn rename_generic(ctx: &mut Context<'_>, args: &Args<'_>, only_new: bool) -> CommandResult {
    let (from, to) = (args.at(1), args.at(2));
    if !ctx.db.exists(from)? {
        return Err(CommandError::NoSuchKey);
    }
    if from == to || (only_new && ctx.db.exists(to)?) {
        if only_new {
            ctx.reply.int(0)
        } else {
            ctx.reply.ok()
        }
        return Ok(());
    }
    let db = ctx.db.index();
    ctx.db.move_entry(from, db, to)?;
    ctx.db.signal(from);
    ctx.db.signal(to);
    ctx.notify(from, Class::GENERIC, "rename_from");
    ctx.notify(to, Class::GENERIC, "rename_to");
    ctx.db.effect.dirty += 1;
    if only_new {
        ctx.reply.int(1)
    } else {
        ctx.reply.ok()
    }
    Ok(())
}

/// `RENAME key newkey`
pub(super) fn rename(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    rename_generic(ctx, args, false)
}

/// `RENAMENX key newkey`
pub(super) fn renamenx(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    rename_generic(ctx, args, true)
}

/// Argument `at` as the number of a database.
fn database(ctx: &mut Context<'_>, args: &Args<'_>, at: usize) -> CommandResult<usize> {
    let count = ctx.db.keyspace().database_count();
    let index = usize::try_from(small_int(args, at)?).map_err(|_| NO_DATABASE)?;
    if index < count {
        Ok(index)
    } else {
        Err(NO_DATABASE)
    }
}

/// `MOVE key db`
pub(super) fn move_key(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let target = database(ctx, args, 2)?;
    if target == ctx.db.index() {
        return Err(SAME_OBJECT);
    }
    let key = args.at(1);
    if !ctx.db.exists(key)? || ctx.db.other(target).exists(key)? {
        ctx.reply.int(0);
        return Ok(());
    }
    ctx.db.move_entry(key, target, key)?;
    ctx.db.signal(key);
    ctx.db.other(target).signal(key);
    ctx.notify(key, Class::GENERIC, "move_from");
    ctx.db.other(target).notify(key, Class::GENERIC, "move_to");
    ctx.db.effect.dirty += 1;
    ctx.reply.int(1);
    Ok(())
}

/// `COPY source destination [DB destination-db] [REPLACE]`
pub(super) fn copy(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (mut target, mut replace) = (ctx.db.index(), false);
    let mut at = 3;
    while let Some(word) = args.get(at) {
        if is_word(word, "replace") {
            replace = true;
        } else if is_word(word, "db") && at + 1 < args.len() {
            target = database(ctx, args, at + 1)?;
            at += 1;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    let (from, to) = (args.at(1), args.at(2));
    if target == ctx.db.index() && from == to {
        return Err(SAME_OBJECT);
    }
    if ctx.db.read_any(from)?.is_none() || (ctx.db.other(target).exists(to)? && !replace) {
        ctx.reply.int(0);
        return Ok(());
    }
    ctx.db.copy_entry(from, target, to)?;
    let mut target = ctx.db.other(target);
    target.changed(to, Class::GENERIC, "copy_to");
    ctx.reply.int(1);
    Ok(())
}
