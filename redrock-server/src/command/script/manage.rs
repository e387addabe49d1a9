//! SCRIPT.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::script::cache::{digest, parse_digest};

/// `SCRIPT EXISTS digest [digest ...]`
pub(super) fn exists(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let digests = args.from(2);
    ctx.reply.array(digests.len());
    for digest in digests {
        let digest = parse_digest(digest);
        let exists = digest.is_some_and(|digest| ctx.server.scripting.cache.contains(&digest));
        ctx.reply.int(i64::from(exists));
    }
    Ok(())
}

/// `SCRIPT LOAD script`
pub(super) fn load(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let digest = digest(args.at(2));
    let mut engine = ctx.server.scripting.engine();
    let engine = engine.get_or_insert_with(Box::default);
    engine.load_script(ctx, &digest, args.at(2))?;
    if ctx.client.obeyed {
        ctx.server.scripting.cache.keep(&digest);
    }
    ctx.reply.bulk(&digest);
    Ok(())
}

/// `SCRIPT FLUSH [ASYNC | SYNC]`
pub(super) fn flush(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let later = match args.len() {
        2 => true,
        3 if args.is(2, "async") => true,
        3 if args.is(2, "sync") => false,
        _ => {
            return Err(CommandError::fixed(
                "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
            ));
        }
    };
    let scripting = &ctx.server.scripting;
    scripting.cache.clear();
    if let Some(engine) = &mut *scripting.engine() {
        engine.forget_scripts(later);
    }
    let [scripts, _] = &scripting.state_bytes;
    scripts.store(0, std::sync::atomic::Ordering::Relaxed);
    ctx.reply.ok();
    Ok(())
}

/// `SCRIPT KILL`
pub(super) fn kill(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.server.scripting.kill(true)?;
    ctx.reply.ok();
    Ok(())
}

/// `SCRIPT DEBUG (YES | SYNC | NO)`: there is no debugger to switch on.
pub(super) fn debug(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.is(2, "no") {
        ctx.reply.ok();
        return Ok(());
    }
    if args.is(2, "yes") || args.is(2, "sync") {
        return Err(CommandError::fixed(
            "ERR the debugger of Lua scripts is not available: it needs a fork of the server",
        ));
    }
    Err(CommandError::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"))
}

/// `SCRIPT HELP`
pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    crate::command::admin::help(
        ctx,
        "SCRIPT",
        &[
            "DEBUG (YES|SYNC|NO)",
            "    Set the debug mode for subsequent scripts executed.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Return information about the existence of the scripts in the script cache.",
            "FLUSH [ASYNC|SYNC]",
            "    Flush the Lua scripts cache. Very dangerous on replicas.",
            "    When called without the optional mode argument, the behavior is determined by the",
            "    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            "    * ASYNC: Asynchronously flush the scripts cache.",
            "    * SYNC: Synchronously flush the scripts cache.",
            "KILL",
            "    Kill the currently executing Lua script.",
            "LOAD <script>",
            "    Load a script into the scripts cache without executing it.",
        ],
    )
}
