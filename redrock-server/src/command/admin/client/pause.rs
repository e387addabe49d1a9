//! CLIENT PAUSE and UNPAUSE.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::state::{PauseBy, PauseMode};

pub(super) fn pause(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let mode = match args.get(3) {
        _ if args.len() > 4 => return Err(super::unknown(args)),
        None => PauseMode::All,
        Some(_) if args.is(3, "all") => PauseMode::All,
        Some(_) if args.is(3, "write") => PauseMode::Write,
        Some(_) => {
            return Err(CommandError::fixed(
                "ERR CLIENT PAUSE mode must be WRITE or ALL",
            ));
        }
    };
    let bad = |text: &'static str| CommandError::fixed(text);
    let timeout_ms = args
        .int(2)
        .map_err(|_| bad("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(bad("ERR timeout is negative"));
    }
    let end_ms = crate::clock::unix_ms()
        .checked_add(timeout_ms)
        .ok_or(bad("ERR timeout is out of range"))?;
    let pause = &ctx.server.state.pause;
    pause.start(PauseBy::Client, end_ms, mode);
    ctx.db.keyspace().expiry_paused_until_ms = pause.end_ms();
    ctx.reply.ok();
    Ok(())
}

pub(super) fn unpause(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let pause = &ctx.server.state.pause;
    pause.lift(PauseBy::Client);
    ctx.db.keyspace().expiry_paused_until_ms = pause.end_ms();
    ctx.reply.ok();
    Ok(())
}
