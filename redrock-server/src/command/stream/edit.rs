//! XDEL and XSETID.

use super::{id, peek};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::stream::{ID_MIN, Stream, StreamId};

/// All ids from argument `at` on.
pub(super) fn ids_from(args: &Args<'_>, at: usize) -> CommandResult<Vec<StreamId>> {
    args.from(at)
        .iter()
        .map(|word| id::strict(word, 0))
        .collect()
}

/// `XDEL key id [id ...]`
pub(super) fn xdel(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    if peek(ctx, key)?.is_none() {
        ctx.reply.int(0);
        return Ok(());
    }
    let ids = ids_from(args, 2)?;
    let Some(stream) = ctx.db.write::<Stream>(key)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    let deleted = stream.delete_all(&ids);
    ctx.reply.int(deleted as i64);
    if deleted > 0 {
        ctx.changed(key, Class::STREAM, "xdel");
        ctx.db.effect.dirty += deleted - 1;
    }
    Ok(())
}

/// `XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]`
pub(super) fn xsetid(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let last_id = id::strict(args.at(2), 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, None);
    let mut at = 3;
    while at < args.len() {
        let more = at + 1 < args.len();
        if more && args.is(at, "entriesadded") {
            let count = u64::try_from(args.int(at + 1)?);
            entries_added =
                Some(count.map_err(|_| CommandError::fixed("ERR entries_added must be positive"))?);
        } else if more && args.is(at, "maxdeletedid") {
            let id = id::strict(args.at(at + 1), 0)?;
            if last_id < id {
                return Err(CommandError::fixed(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted_id = Some(id);
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let key = args.at(1);
    let Some(stream) = peek(ctx, key)? else {
        return Err(CommandError::NoSuchKey);
    };
    check_against(stream, last_id, entries_added)?;
    if let Some(stream) = ctx.db.write::<Stream>(key)? {
        let max_deleted_id = max_deleted_id.filter(|id| *id != ID_MIN);
        stream.set_meta(last_id, entries_added, max_deleted_id);
    }
    ctx.reply.ok();
    ctx.db.effect.dirty += 1;
    ctx.notify(key, Class::STREAM, "xsetid");
    Ok(())
}

/// Whether the entries that are there allow it.
fn check_against(stream: &Stream, last_id: StreamId, entries_added: Option<u64>) -> CommandResult {
    if last_id < stream.meta().max_deleted_id {
        return Err(CommandError::fixed(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if stream.is_empty() {
        return Ok(());
    }
    if last_id < stream.last_entry_id() {
        return Err(CommandError::fixed(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if entries_added.is_some_and(|added| added < stream.meta().length) {
        return Err(CommandError::fixed(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    Ok(())
}
