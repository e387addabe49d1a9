//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: what a client's own cache is told of.

use super::list::redirect;
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::tracking::broadcast::Overlap;
use crate::tracking::mode;
use redrock_rdb::number::parse_i64;
use std::sync::atomic::Ordering;

#[derive(Debug, Default)]
struct Options<'a> {
    /// 0: none.
    redirect: u64,
    /// Bits of [`mode`].
    modes: u32,
    prefixes: Vec<&'a [u8]>,
}

fn options<'a>(ctx: &Context<'_>, args: &Args<'a>) -> Result<Options<'a>, CommandError> {
    let mut options = Options::default();
    let mut words = args.from(3).iter();
    while let Some(word) = words.next() {
        options.modes |= match () {
            () if is_word(word, "bcast") => mode::BROADCAST,
            () if is_word(word, "optin") => mode::OPT_IN,
            () if is_word(word, "optout") => mode::OPT_OUT,
            () if is_word(word, "noloop") => mode::NO_LOOP,
            () if is_word(word, "redirect") => {
                let id = words.next().ok_or(CommandError::Syntax)?;
                if options.redirect != 0 {
                    return Err(CommandError::fixed(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let id = parse_i64(id).ok_or(CommandError::NotInteger)? as u64;
                if !ctx.server.clients.read().contains_key(&id) {
                    return Err(CommandError::fixed(
                        "ERR The client ID you want redirect to does not exist",
                    ));
                }
                options.redirect = id;
                0
            }
            () if is_word(word, "prefix") => {
                options
                    .prefixes
                    .push(words.next().ok_or(CommandError::Syntax)?);
                0
            }
            () => return Err(CommandError::Syntax),
        };
    }
    Ok(options)
}

/// What contradicts itself, or how the client, with `now` as its modes, is tracked already.
fn contradiction(options: &Options<'_>, now: u32) -> Option<&'static str> {
    let wants = |bit: u32| options.modes & bit != 0;
    let broadcast = wants(mode::BROADCAST);
    let has = |bit: u32| now & bit != 0;
    match () {
        () if !broadcast && !options.prefixes.is_empty() => {
            Some("ERR PREFIX option requires BCAST mode to be enabled")
        }
        () if has(mode::ON) && has(mode::BROADCAST) != broadcast => Some(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
             and then re-enabling it with a different mode.",
        ),
        () if broadcast && (wants(mode::OPT_IN) || wants(mode::OPT_OUT)) => {
            Some("ERR OPTIN and OPTOUT are not compatible with BCAST")
        }
        () if wants(mode::OPT_IN) && wants(mode::OPT_OUT) => {
            Some("ERR You can't specify both OPTIN mode and OPTOUT mode")
        }
        () if (wants(mode::OPT_IN) && has(mode::OPT_OUT))
            || (wants(mode::OPT_OUT) && has(mode::OPT_IN)) =>
        {
            Some(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            )
        }
        () => None,
    }
}

fn overlap_error(overlap: &Overlap) -> CommandError {
    let meets: &[u8] = match overlap.existing {
        true => b"' overlaps with an existing prefix '",
        false => b"' overlaps with another provided prefix '",
    };
    let text: [&[u8]; 5] = [
        b"ERR Prefix '",
        &overlap.prefix,
        meets,
        &overlap.other,
        b"'. Prefixes for a single client must not overlap.",
    ];
    CommandError::Bytes(text.concat())
}

fn modes(ctx: &Context<'_>) -> u32 {
    ctx.client.shared.tracking.load(Ordering::Relaxed)
}

pub(super) fn tracking(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = options(ctx, args)?;
    let now = modes(ctx);
    let table = &mut ctx.db.keyspace().tracking;
    let shared = &ctx.client.shared;
    if args.is(2, "on") {
        if let Some(text) = contradiction(&options, now) {
            return Err(CommandError::fixed(text));
        }
        if options.modes & mode::BROADCAST != 0
            && let Some(overlap) = table.overlap(shared.id, &options.prefixes)
        {
            return Err(overlap_error(&overlap));
        }
        table.enable(shared, options.redirect, options.modes, &options.prefixes);
    } else if args.is(2, "off") {
        table.disable(shared);
    } else {
        return Err(CommandError::Syntax);
    }
    ctx.reply.ok();
    Ok(())
}

pub(super) fn caching(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let modes = modes(ctx);
    if modes & mode::ON == 0 {
        return Err(CommandError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ));
    }
    let (needs, otherwise) = match () {
        () if args.is(2, "yes") => (
            mode::OPT_IN,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        () if args.is(2, "no") => (
            mode::OPT_OUT,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        () => return Err(CommandError::Syntax),
    };
    if modes & needs == 0 {
        return Err(CommandError::fixed(otherwise));
    }
    let tracking = &ctx.client.shared.tracking;
    tracking.fetch_or(mode::CACHING, Ordering::Relaxed);
    ctx.reply.ok();
    Ok(())
}

pub(super) fn getredir(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.int(redirect(&ctx.client.shared));
    Ok(())
}

pub(super) fn trackinginfo(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let modes = modes(ctx);
    let has = |bits: u32| modes & bits == bits;
    let flags = [
        (has(mode::ON), "on"),
        (!has(mode::ON), "off"),
        (has(mode::BROADCAST), "bcast"),
        (has(mode::OPT_IN), "optin"),
        (has(mode::OPT_IN | mode::CACHING), "caching-yes"),
        (has(mode::OPT_OUT), "optout"),
        (has(mode::OPT_OUT | mode::CACHING), "caching-no"),
        (has(mode::NO_LOOP), "noloop"),
        (has(mode::BROKEN), "broken_redirect"),
    ];
    let shown = || flags.iter().filter(|(on, _)| *on);
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(shown().count());
    shown().for_each(|(_, flag)| ctx.reply.bulk(flag.as_bytes()));
    ctx.reply.bulk(b"redirect");
    ctx.reply.int(redirect(&ctx.client.shared));
    ctx.reply.bulk(b"prefixes");
    let prefixes = ctx.db.keyspace().tracking.prefixes(ctx.client.shared.id);
    ctx.reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| ctx.reply.bulk(prefix));
    Ok(())
}
