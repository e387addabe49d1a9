//! GET and its relatives.

use super::set::{Dialect, Options};
use super::{expire_time, reply_string};
use crate::command::effect::deletion;
use crate::command::error::CommandResult;
use crate::command::{Args, Context};
use crate::keyspace::db::StringRef;
use crate::notify::Class;
use crate::value::ValueRef;

/// GET key
pub(super) fn get(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    match ctx.db.read_string(args.at(1))? {
        Some(value) => reply_string(&mut ctx.reply, value),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// GETDEL key
pub(super) fn getdel(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let Some(value) = ctx.db.read_string(key)? else {
        ctx.reply.null();
        return Ok(());
    };
    reply_string(&mut ctx.reply, value);
    delete(ctx, key, b"DEL");
    Ok(())
}

/// Deletes a key that was read in the same command, so that it can't be missing or cold.
fn delete(ctx: &mut Context<'_>, key: &[u8], deletion: &[u8]) {
    if ctx.db.remove(key).unwrap_or(false) {
        ctx.changed(key, Class::GENERIC, "del");
        ctx.propagate(&[deletion, key]);
    }
}

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]
///
/// Never propagated in its own words, but as what it did: PEXPIREAT, PERSIST, DEL or nothing.
pub(super) fn getex(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = Options::parse(args.from(2), Dialect::GetEx)?;
    // Redis looks at the key before it looks at the time.
    let expire = options.expire_ms(ctx.now_ms(), "getex");
    let key = args.at(1);
    let before = ctx.db.presence(key)?.and_then(|presence| presence.expire);
    let Some(value) = ctx.db.read_string(key)? else {
        ctx.reply.null();
        return Ok(());
    };
    let expire = expire?;
    reply_string(&mut ctx.reply, value);
    match expire {
        Some(ms) if expire_time::is_past(&mut ctx.db, ms) => {
            let word = deletion(ctx.config.memory.lazy_expire);
            delete(ctx, key, word);
        }
        Some(ms) => change_expire(ctx, key, Some(ms)),
        None if options.persist && before.is_some() => change_expire(ctx, key, None),
        None => {}
    }
    Ok(())
}

/// Gives a key that was read in the same command an expiry, or takes its expiry away.
fn change_expire(ctx: &mut Context<'_>, key: &[u8], expire: Option<i64>) {
    if !ctx.db.set_expire(key, expire).unwrap_or(false) {
        return;
    }
    ctx.changed(
        key,
        Class::GENERIC,
        if expire.is_some() {
            "expire"
        } else {
            "persist"
        },
    );
    match expire {
        Some(ms) => {
            let mut digits = itoa::Buffer::new();
            ctx.propagate(&[b"PEXPIREAT", key, digits.format(ms).as_bytes()]);
        }
        None => ctx.propagate(&[b"PERSIST", key]),
    }
}

/// MGET key [key ...]: what is no string is null, as if it were absent.
pub(super) fn mget(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let start = ctx.reply.len();
    let keys = args.from(1);
    ctx.reply.array(keys.len());
    for key in keys {
        match ctx.db.read_any(key) {
            Ok(Some(ValueRef::Int(n))) => ctx.reply.bulk_int(n),
            Ok(Some(ValueRef::Str(bytes))) => ctx.reply.bulk(bytes),
            Ok(_) => ctx.reply.null(),
            Err(error) => {
                // The whole command runs again later.
                ctx.reply.truncate(start);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// STRLEN key
pub(super) fn strlen(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let len = ctx
        .db
        .read_string(args.at(1))?
        .map_or(0, |value| value.len());
    ctx.reply.len_int(len);
    Ok(())
}

/// GETRANGE key start end, and SUBSTR, its old name.
pub(super) fn getrange(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (start, end) = (args.int(2)?, args.int(3)?);
    let value = ctx
        .db
        .read_string(args.at(1))?
        .unwrap_or(StringRef::Bytes(b""));
    let mut digits = itoa::Buffer::new();
    let bytes = value.as_bytes(&mut digits);
    ctx.reply.bulk(slice(bytes, start, end));
    Ok(())
}

/// The bytes from `start` to `end` inclusive, negative ones counted from the end.
fn slice(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    let len = bytes.len() as i64;
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let from_start = |index: i64| {
        if index < 0 {
            (len + index).max(0)
        } else {
            index
        }
    };
    let (start, end) = (from_start(start), from_start(end).min(len - 1));
    bytes
        .get(start as usize..(end + 1) as usize)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::slice;

    #[test]
    fn ranges_are_cut_to_the_string() {
        for (start, end, expected) in [
            (0, 3, "This"),
            (0, -1, "This is a string"),
            (-3, -1, "ing"),
            (10, 100, "string"),
            (5, 4, ""),
            (-1, -3, ""),
            (-5000, 10000, "This is a string"),
            (-100, -90, "T"),
            (16, 20, ""),
            (i64::MIN, i64::MAX, "This is a string"),
            (i64::MAX, i64::MAX, ""),
            (i64::MIN, i64::MIN, "T"),
        ] {
            assert_eq!(slice(b"This is a string", start, end), expected.as_bytes());
        }
        assert_eq!(slice(b"", 0, -1), b"");
        assert_eq!(slice(b"", -1, 0), b"");
    }
}
