//! CLIENT TRACKING and its relatives. Client-side caching is not served yet: turning it on is
//! refused after Redis's own checks, because a client that believed in invalidations that never
//! come would serve stale data.

use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use redrock_rdb::number::parse_i64;

#[derive(Debug, Default)]
struct Options {
    redirect: Option<i64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    prefixes: usize,
}

fn options(ctx: &Context<'_>, args: &Args<'_>) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut words = args.from(3).iter();
    while let Some(word) = words.next() {
        match () {
            () if is_word(word, "bcast") => options.broadcast = true,
            () if is_word(word, "optin") => options.opt_in = true,
            () if is_word(word, "optout") => options.opt_out = true,
            () if is_word(word, "noloop") => {}
            () if is_word(word, "redirect") => {
                let id = words.next().ok_or(CommandError::Syntax)?;
                if options.redirect.is_some_and(|id| id != 0) {
                    return Err(CommandError::fixed(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = parse_i64(id).ok_or(CommandError::NotInteger)?;
                if !ctx.server.clients.read().contains_key(&(id as u64)) {
                    return Err(CommandError::fixed(
                        "ERR The client ID you want redirect to does not exist",
                    ));
                }
                options.redirect = Some(id);
            }
            () if is_word(word, "prefix") => {
                words.next().ok_or(CommandError::Syntax)?;
                options.prefixes += 1;
            }
            () => return Err(CommandError::Syntax),
        }
    }
    Ok(options)
}

pub(super) fn tracking(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = options(ctx, args)?;
    if args.is(2, "off") {
        ctx.reply.ok();
        return Ok(());
    }
    if !args.is(2, "on") {
        return Err(CommandError::Syntax);
    }
    let text = match () {
        () if !options.broadcast && options.prefixes > 0 => {
            "ERR PREFIX option requires BCAST mode to be enabled"
        }
        () if options.broadcast && (options.opt_in || options.opt_out) => {
            "ERR OPTIN and OPTOUT are not compatible with BCAST"
        }
        () if options.opt_in && options.opt_out => {
            "ERR You can't specify both OPTIN mode and OPTOUT mode"
        }
        () => "ERR CLIENT TRACKING is not supported by this server",
    };
    Err(CommandError::fixed(text))
}

pub(super) fn caching(_ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    Err(CommandError::fixed(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
         OPTOUT mode enabled",
    ))
}

pub(super) fn getredir(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.int(-1);
    Ok(())
}

pub(super) fn trackinginfo(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(1);
    ctx.reply.bulk(b"off");
    ctx.reply.bulk(b"redirect");
    ctx.reply.int(-1);
    ctx.reply.bulk(b"prefixes");
    ctx.reply.array(0);
    Ok(())
}
