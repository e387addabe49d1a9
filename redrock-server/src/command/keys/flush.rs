//! DBSIZE, FLUSHDB, FLUSHALL and SWAPDB: whole databases.

use super::{NO_DATABASE, small_int};
use crate::command::admin::persistence::later;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::services::Services;
use std::sync::Arc;

/// `DBSIZE`
pub(super) fn dbsize(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.int(ctx.db.len() as i64);
    Ok(())
}

/// Whether the content is freed in the background: unless SYNC is said, which answers when the
/// memory is free. Nobody waits for the lock in either case.
fn background(args: &Args<'_>) -> CommandResult<bool> {
    match args.len() {
        1 => Ok(true),
        2 if args.is(1, "async") => Ok(true),
        2 if args.is(1, "sync") => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

/// Empties some databases. It is propagated even if they were empty already.
fn flush(ctx: &mut Context<'_>, args: &Args<'_>, indexes: std::ops::Range<usize>) -> CommandResult {
    let background = background(args)?;
    for index in indexes {
        let keys = ctx.db.keyspace().flush(index, background);
        ctx.db.effect.dirty += keys;
    }
    ctx.db.keyspace().tracking.flushed();
    ctx.propagate(args.all());
    ctx.reply.ok();
    Ok(())
}

/// `FLUSHDB [ASYNC|SYNC]`
pub(super) fn flushdb(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let index = ctx.db.index();
    flush(ctx, args, index..index + 1)
}

/// `FLUSHALL [ASYNC|SYNC]`
pub(super) fn flushall(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let count = ctx.db.keyspace().database_count();
    flush(ctx, args, 0..count)?;
    save_empty(ctx)
}

/// A save that is under way is stopped; where save points are set FLUSHALL saves too, and answers
/// when that is done. In transactions, scripts and a master's stream nobody waits for it.
fn save_empty(ctx: &mut Context<'_>) -> CommandResult {
    let saves = !ctx.config.snapshot.points.is_empty();
    let concerns = |services: &Arc<Services>| saves || services.may_be_saving();
    let services = ctx.server.services.get().filter(|it| concerns(it)).cloned();
    let Some(services) = services.filter(|_| !ctx.server.loading.is_active()) else {
        return Ok(());
    };
    let flush = services.note_flush(ctx.db.keyspace().newest_cut);
    if ctx.client.deny_blocking || ctx.client.obeyed {
        let handle = services.handle.clone();
        handle.spawn(services.after_flush(flush, saves));
        return Ok(());
    }
    ctx.reply.truncate(ctx.reply.len() - b"+OK\r\n".len());
    later(ctx, async move {
        services.after_flush(flush, saves).await;
        Ok("OK".to_owned())
    })
}

/// `SWAPDB index1 index2`
pub(super) fn swapdb(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let index = |at, message| small_int(args, at).map_err(|_| CommandError::fixed(message));
    let a = index(1, "ERR invalid first DB index")?;
    let b = index(2, "ERR invalid second DB index")?;
    let count = ctx.db.keyspace().database_count();
    let (Ok(a), Ok(b)) = (usize::try_from(a), usize::try_from(b)) else {
        return Err(NO_DATABASE);
    };
    if a >= count || b >= count {
        return Err(NO_DATABASE);
    }
    ctx.db.keyspace().swap(a, b);
    ctx.db.effect.dirty += 1;
    ctx.reply.ok();
    Ok(())
}
