//! DEL, UNLINK, EXISTS, TOUCH and TYPE.

use crate::command::{Args, CommandResult, Context};
use crate::notify::Class;

/// `DEL key [key ...]`, `UNLINK key [key ...]`: neither frees large values under the lock.
pub(super) fn del(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    for key in args.from(1) {
        ctx.db.presence(key)?;
    }
    let mut deleted = 0;
    for key in args.from(1) {
        if ctx.db.remove(key)? {
            ctx.changed(key, Class::GENERIC, "del");
            deleted += 1;
        }
    }
    ctx.reply.int(deleted);
    Ok(())
}

/// `EXISTS key [key ...]`
pub(super) fn exists(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    for key in args.from(1) {
        ctx.db.presence(key)?;
    }
    let mut count = 0;
    for key in args.from(1) {
        count += i64::from(ctx.db.look(key)?.is_some());
    }
    ctx.reply.int(count);
    Ok(())
}

/// `TOUCH key [key ...]`
pub(super) fn touch(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    for key in args.from(1) {
        ctx.db.presence(key)?;
    }
    let mut count = 0;
    for key in args.from(1) {
        let found = ctx.db.look(key)?.is_some();
        if found {
            ctx.db.touch_key(key)?;
        }
        count += i64::from(found);
    }
    ctx.reply.int(count);
    Ok(())
}

/// `TYPE key`
pub(super) fn type_name(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let name = ctx
        .db
        .look(args.at(1))?
        .map_or("none", |found| found.object_type.name());
    ctx.reply.simple(name);
    Ok(())
}
