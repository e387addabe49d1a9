//! EVAL, EVALSHA, FCALL and their read-only forms.

use crate::command::{Args, CommandError, CommandResult, Context};
use crate::script::cache::{digest, parse_digest};
use crate::script::engine::Call;
use crate::script::function::NOT_FOUND;

/// What the digest of a script that is not known is answered.
pub const NO_SCRIPT: CommandError =
    CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");

/// `EVAL script numkeys [key ...] [arg ...]`
pub(super) fn eval(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run(ctx, args, false, false)
}

/// `EVAL_RO script numkeys [key ...] [arg ...]`
pub(super) fn eval_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run(ctx, args, false, true)
}

/// `EVALSHA digest numkeys [key ...] [arg ...]`
pub(super) fn evalsha(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run(ctx, args, true, false)
}

/// `EVALSHA_RO digest numkeys [key ...] [arg ...]`
pub(super) fn evalsha_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run(ctx, args, true, true)
}

/// Tells MONITOR clients of a script before its commands.
pub(super) fn show(ctx: &Context<'_>, args: &Args<'_>) {
    if !ctx.server.monitors.is_empty() {
        ctx.server
            .monitors
            .feed(ctx.server, ctx.client, ctx.db.index(), args.all());
    }
}

/// The keys and what follows them, after the number of keys at argument 2.
pub(super) fn keys_and_args<'a>(
    args: &Args<'a>,
    count: i64,
) -> CommandResult<(&'a [&'a [u8]], &'a [&'a [u8]])> {
    let rest = args.from(3);
    if count > rest.len() as i64 {
        return Err(CommandError::fixed(
            "ERR Number of keys can't be greater than number of args",
        ));
    }
    let count = usize::try_from(count)
        .map_err(|_| CommandError::fixed("ERR Number of keys can't be negative"))?;
    Ok(rest.split_at(count.min(rest.len())))
}

fn run(ctx: &mut Context<'_>, args: &Args<'_>, by_digest: bool, read_only: bool) -> CommandResult {
    show(ctx, args);
    let digest = match by_digest {
        true => parse_digest(args.at(1)).ok_or(NO_SCRIPT)?,
        false => digest(args.at(1)),
    };
    let (keys, rest) = keys_and_args(args, args.int(2)?)?;
    let scripting = &ctx.server.scripting;
    let mut engine = scripting.engine();
    let engine = engine.get_or_insert_with(Box::default);
    let script = match scripting.cache.get(&digest) {
        Some(script) => script,
        None if by_digest => return Err(NO_SCRIPT),
        None => {
            engine.load_script(ctx, &digest, args.at(1))?;
            scripting.cache.get(&digest).ok_or(NO_SCRIPT)?
        }
    };
    if ctx.client.obeyed {
        scripting.cache.keep(&digest);
    }
    let call = Call {
        name: String::from_utf8_lossy(&digest).into_owned(),
        flags: script.flags,
        read_only,
        keys,
        args: rest,
    };
    engine.run_script(ctx, args, &digest, &script, call)
}

/// `FCALL function numkeys [key ...] [arg ...]`
pub(super) fn fcall(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run_function(ctx, args, false)
}

/// `FCALL_RO function numkeys [key ...] [arg ...]`
pub(super) fn fcall_ro(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    run_function(ctx, args, true)
}

fn run_function(ctx: &mut Context<'_>, args: &Args<'_>, read_only: bool) -> CommandResult {
    show(ctx, args);
    let scripting = &ctx.server.scripting;
    let mut engine = scripting.engine();
    let engine = engine.get_or_insert_with(Box::default);
    let (name, flags, reference) = {
        let libraries = scripting.libraries.read();
        let function = libraries.function(args.at(1)).ok_or(NOT_FOUND)?;
        let name = String::from_utf8_lossy(&function.name).into_owned();
        (name, function.flags, function.reference)
    };
    let count = args
        .int(2)
        .map_err(|_| CommandError::fixed("ERR Bad number of keys provided"))?;
    let (keys, rest) = keys_and_args(args, count)?;
    let call = Call {
        name,
        flags,
        read_only,
        keys,
        args: rest,
    };
    engine.run_function(ctx, args, reference, call)
}
