//! TTL, PTTL, EXPIRETIME and PEXPIRETIME.

use crate::command::{Args, CommandResult, Context};

fn generic(ctx: &mut Context<'_>, args: &Args<'_>, seconds: bool, absolute: bool) -> CommandResult {
    let now_ms = ctx.now_ms();
    let answer = match ctx.db.look(args.at(1))?.map(|found| found.expire) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => {
            let ms = if absolute {
                at_ms
            } else {
                at_ms.saturating_sub(now_ms)
            }
            .max(0);
            if seconds {
                ms.saturating_add(500) / 1000
            } else {
                ms
            }
        }
    };
    ctx.reply.int(answer);
    Ok(())
}

/// `TTL key`
pub(super) fn ttl(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, true, false)
}

/// `PTTL key`
pub(super) fn pttl(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, false, false)
}

/// `EXPIRETIME key`
pub(super) fn expiretime(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, true, true)
}

/// `PEXPIRETIME key`
pub(super) fn pexpiretime(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    generic(ctx, args, false, true)
}
