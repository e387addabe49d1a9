//! APPEND and SETRANGE: strings that grow in place.

use super::{check_growth, check_length, grow_zeroed, peek_len, reserve};
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::keyspace::db::Expiry;
use crate::notify::Class;

/// APPEND key value
pub(super) fn append(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, tail) = (args.at(1), args.at(2));
    let total = match peek_len(&mut ctx.db, key)? {
        None => {
            ctx.db.set_string(key, tail, Expiry::Clear)?;
            tail.len()
        }
        Some(len) => {
            let total = check_length(ctx.config, len, tail.len())?;
            check_growth(ctx.server, len, total)?;
            let bytes = ctx.db.string_mut(key)?;
            reserve(bytes, total);
            bytes.extend_from_slice(tail);
            total
        }
    };
    ctx.changed(key, Class::STRING, "append");
    ctx.reply.len_int(total);
    Ok(())
}

/// SETRANGE key offset value: zero bytes fill what lies before the offset. An empty value changes
/// nothing, and creates nothing.
pub(super) fn setrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, value) = (args.at(1), args.at(3));
    let offset = usize::try_from(args.int(2)?)
        .map_err(|_| CommandError::fixed("ERR offset is out of range"))?;
    let old_len = peek_len(&mut ctx.db, key)?.unwrap_or(0);
    if value.is_empty() {
        ctx.reply.len_int(old_len);
        return Ok(());
    }
    let end = check_length(ctx.config, offset, value.len())?;
    check_growth(ctx.server, old_len, end)?;
    let bytes = ctx.db.string_mut(key)?;
    grow_zeroed(bytes, end);
    if let Some(range) = bytes.get_mut(offset..end) {
        range.copy_from_slice(value);
    }
    let total = bytes.len();
    ctx.changed(key, Class::STRING, "setrange");
    ctx.reply.len_int(total);
    Ok(())
}
