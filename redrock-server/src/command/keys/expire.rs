//! EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT and PERSIST. All leave as absolute milliseconds.

use crate::command::effect::deletion;
use crate::command::string::expire_time::{self, Base, Unit};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;

/// When the expiry is set at all.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(args: &Args<'_>) -> CommandResult<Self> {
        let mut conditions = Self::default();
        for word in args.from(3) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.nx = true,
                b"xx" => conditions.xx = true,
                b"gt" => conditions.gt = true,
                b"lt" => conditions.lt = true,
                _ => {
                    let text = [b"ERR Unsupported option ", *word].concat();
                    return Err(CommandError::Bytes(text));
                }
            }
        }
        let Self { nx, xx, gt, lt } = conditions;
        if nx && (xx || gt || lt) {
            return Err(CommandError::fixed(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if gt && lt {
            return Err(CommandError::fixed(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(conditions)
    }

    /// Whether a key that expires at `current` may get the expiry `new`. No expiry is infinite.
    fn allow(&self, current: Option<i64>, new: i64) -> bool {
        match current {
            None => !self.xx && !self.gt,
            Some(current) => !self.nx && (!self.gt || new > current) && (!self.lt || new < current),
        }
    }
}

fn generic(
    ctx: &mut Context<'_>,
    args: &Args<'_>,
    (unit, base, name): (Unit, Base, &str),
) -> CommandResult {
    let conditions = Conditions::parse(args)?;
    let at_ms = expire_time::parse(args.at(2), unit, base, ctx.now_ms(), name)?;
    let key = args.at(1);
    let Some(found) = ctx.db.presence(key)? else {
        ctx.reply.int(0);
        return Ok(());
    };
    if !conditions.allow(found.expire, at_ms) {
        ctx.reply.int(0);
        return Ok(());
    }
    if expire_time::is_past(&mut ctx.db, at_ms) {
        ctx.db.remove(key)?;
        ctx.propagate(&[deletion(ctx.config.memory.lazy_expire), key]);
        ctx.changed(key, Class::GENERIC, "del");
    } else {
        ctx.db.set_expire(key, Some(at_ms))?;
        if name != "pexpireat" {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at_ms).as_bytes();
            let words: [&[u8]; 3] = [b"PEXPIREAT", key, at];
            ctx.propagate(&[&words, args.from(3)].concat());
        }
        ctx.changed(key, Class::GENERIC, "expire");
    }
    ctx.reply.int(1);
    Ok(())
}

/// `EXPIRE key seconds [NX|XX|GT|LT]`
pub(super) fn expire(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Seconds, Base::Now, "expire"))
}

/// `PEXPIRE key milliseconds [NX|XX|GT|LT]`
pub(super) fn pexpire(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Milliseconds, Base::Now, "pexpire"))
}

/// `EXPIREAT key unix-time-seconds [NX|XX|GT|LT]`
pub(super) fn expireat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Seconds, Base::Epoch, "expireat"))
}

/// `PEXPIREAT key unix-time-milliseconds [NX|XX|GT|LT]`
pub(super) fn pexpireat(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, (Unit::Milliseconds, Base::Epoch, "pexpireat"))
}

/// `PERSIST key`
pub(super) fn persist(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(1);
    let had_expiry = ctx
        .db
        .presence(key)?
        .is_some_and(|found| found.expire.is_some());
    if had_expiry {
        ctx.db.set_expire(key, None)?;
        ctx.changed(key, Class::GENERIC, "persist");
    }
    ctx.reply.int(i64::from(had_expiry));
    Ok(())
}
