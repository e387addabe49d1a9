//! CLIENT GETNAME, SETNAME, SETINFO, REPLY, NO-EVICT, NO-TOUCH: the caller's own session.

use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::ReplyMode;

/// Names may hold what a CLIENT LIST line can: printable characters without spaces.
fn is_valid(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

pub(super) fn getname(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let name = &ctx.client.name;
    ctx.reply.opt_bulk((!name.is_empty()).then_some(name));
    Ok(())
}

pub(super) fn setname(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if !is_valid(args.at(2)) {
        return Err(CommandError::fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    ctx.client.name = args.at(2).to_vec();
    ctx.reply.ok();
    Ok(())
}

pub(super) fn setinfo(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (option, value) = (args.at(2), args.at(3));
    let (name, version) = &mut ctx.client.lib;
    let slot = match () {
        () if is_word(option, "lib-name") => name,
        () if is_word(option, "lib-ver") => version,
        () => {
            let text = [b"ERR Unrecognized option '", option, b"'"].concat();
            return Err(CommandError::Bytes(text));
        }
    };
    if !is_valid(value) {
        let rest = b" cannot contain spaces, newlines or special characters.";
        return Err(CommandError::Bytes([b"ERR ", option, rest].concat()));
    }
    *slot = value.to_vec();
    ctx.reply.ok();
    Ok(())
}

/// Whether argument 2 is ON; anything but ON and OFF is a syntax error.
fn on_or_off(args: &Args<'_>) -> Result<bool, CommandError> {
    match () {
        () if args.is(2, "on") => Ok(true),
        () if args.is(2, "off") => Ok(false),
        () => Err(CommandError::Syntax),
    }
}

pub(super) fn no_evict(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    ctx.client.no_evict = on_or_off(args)?;
    ctx.reply.ok();
    Ok(())
}

pub(super) fn no_touch(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    ctx.client.no_touch = on_or_off(args)?;
    ctx.reply.ok();
    Ok(())
}

/// Only ON is answered.
pub(super) fn reply(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    match () {
        () if args.is(2, "on") => {
            ctx.client.reply_mode = ReplyMode::On;
            ctx.reply.ok();
        }
        () if args.is(2, "off") => ctx.client.reply_mode = ReplyMode::Off,
        () if args.is(2, "skip") => {
            if ctx.client.reply_mode != ReplyMode::Off {
                ctx.client.reply_mode = ReplyMode::SkipNext;
            }
        }
        () => return Err(CommandError::Syntax),
    }
    Ok(())
}
