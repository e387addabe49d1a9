//! DEBUG POPULATE.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::db::Expiry;

/// Creates strings `key:<n>`; existing keys stay. Not propagated.
pub(super) fn populate(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let positive = |i: usize| -> CommandResult<u64> {
        let bad = CommandError::fixed("ERR value is out of range, must be positive");
        u64::try_from(args.int(i).unwrap_or(-1)).map_err(|_| bad)
    };
    let count = positive(2)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = if args.len() > 4 {
        positive(4)? as usize
    } else {
        0
    };
    if size > ctx.config.proto_bulk_bytes_max {
        return Err(CommandError::OutOfRange);
    }
    let mut digits = itoa::Buffer::new();
    for i in 0..count {
        let number = digits.format(i).as_bytes();
        let key = [prefix, b":", number].concat();
        if ctx.db.exists(&key)? {
            continue;
        }
        let mut value = [b"value:", number].concat();
        if size > 0 {
            value.resize(size, 0);
        }
        ctx.db.set_string(&key, &value, Expiry::Clear)?;
        ctx.db.signal(&key);
    }
    ctx.reply.ok();
    Ok(())
}
