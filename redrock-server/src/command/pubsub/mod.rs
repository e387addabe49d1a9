//! Commands of the publish/subscribe family.

#[cfg(test)]
mod tests;

use super::table::{Group, Handler, Spec, flag};
use super::{Args, CommandError, CommandResult, Context};
use crate::pubsub::{self, Kind};

const LISTEN: u32 = flag::PUBSUB | flag::NOSCRIPT | flag::LOADING | flag::STALE;
const SEND: u32 = flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST | flag::MAY_REPLICATE;
const ASK: u32 = flag::PUBSUB | flag::LOADING | flag::STALE;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler).group(Group::Pubsub)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("psubscribe", -2, LISTEN, |ctx, args| {
        subscribe(ctx, args, Kind::Pattern)
    })
    .doc(
        "2.0.0",
        "Listens for messages published to channels that match one or more patterns.",
    ),
    spec("publish", 3, SEND, |ctx, args| {
        publish(ctx, args, Kind::Channel)
    })
    .doc("2.0.0", "Posts a message to a channel."),
    spec("pubsub", -2, 0, help)
        .sub(SUBCOMMANDS)
        .doc("2.8.0", "A container for Pub/Sub commands."),
    spec("punsubscribe", -1, LISTEN, |ctx, args| {
        unsubscribe(ctx, args, Kind::Pattern)
    })
    .doc(
        "2.0.0",
        "Stops listening to messages published to channels that match one or more patterns.",
    ),
    spec("spublish", 3, SEND, |ctx, args| {
        publish(ctx, args, Kind::Shard)
    })
    .doc("7.0.0", "Post a message to a shard channel"),
    spec("ssubscribe", -2, LISTEN, |ctx, args| {
        subscribe(ctx, args, Kind::Shard)
    })
    .doc("7.0.0", "Listens for messages published to shard channels."),
    spec("subscribe", -2, LISTEN, |ctx, args| {
        subscribe(ctx, args, Kind::Channel)
    })
    .doc("2.0.0", "Listens for messages published to channels."),
    spec("sunsubscribe", -1, LISTEN, |ctx, args| {
        unsubscribe(ctx, args, Kind::Shard)
    })
    .doc(
        "7.0.0",
        "Stops listening to messages posted to shard channels.",
    ),
    spec("unsubscribe", -1, LISTEN, |ctx, args| {
        unsubscribe(ctx, args, Kind::Channel)
    })
    .doc("2.0.0", "Stops listening to messages posted to channels."),
];

const SUBCOMMANDS: &[Spec] = &[
    spec("pubsub|channels", -2, ASK, |ctx, args| {
        channels(ctx, args, Kind::Channel)
    })
    .doc("2.8.0", "Returns the active channels."),
    spec("pubsub|help", 2, flag::LOADING | flag::STALE, help).doc(
        "6.2.0",
        "Returns helpful text about the different subcommands.",
    ),
    spec("pubsub|numpat", 2, ASK, numpat)
        .doc("2.8.0", "Returns a count of unique pattern subscriptions."),
    spec("pubsub|numsub", -2, ASK, |ctx, args| {
        numsub(ctx, args, Kind::Channel)
    })
    .doc("2.8.0", "Returns a count of subscribers to channels."),
    spec("pubsub|shardchannels", -2, ASK, |ctx, args| {
        channels(ctx, args, Kind::Shard)
    })
    .doc("7.0.0", "Returns the active shard channels."),
    spec("pubsub|shardnumsub", -2, ASK, |ctx, args| {
        numsub(ctx, args, Kind::Shard)
    })
    .doc(
        "7.0.0",
        "Returns the count of subscribers of shard channels.",
    ),
];

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Prints this help.",
];

/// The words of confirmations.
fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Channel => ("subscribe", "unsubscribe"),
        Kind::Pattern => ("psubscribe", "punsubscribe"),
        Kind::Shard => ("ssubscribe", "sunsubscribe"),
    }
}

/// Messages that came before the confirmation leave before it. Not within EXEC, whose reply is
/// one element.
fn take_messages(ctx: &mut Context<'_>) {
    if !ctx.client.deny_blocking {
        let messages = std::mem::take(&mut *ctx.client.shared.outbox.lock());
        ctx.reply.raw(&messages);
    }
}

fn confirm(ctx: &mut Context<'_>, word: &str, name: Option<&[u8]>, kind: Kind) {
    let count = match kind {
        Kind::Shard => ctx.client.shard_channels.len(),
        _ => ctx.client.subscription_count(),
    };
    ctx.reply.push(3);
    ctx.reply.bulk(word.as_bytes());
    ctx.reply.opt_bulk(name);
    ctx.reply.len_int(count);
}

/// `SUBSCRIBE`, `PSUBSCRIBE`, `SSUBSCRIBE`
fn subscribe(ctx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> CommandResult {
    // EXEC allows all but shard channels, as it always has.
    if ctx.client.deny_blocking && kind == Kind::Shard {
        return Err(CommandError::fixed(
            "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client",
        ));
    }
    take_messages(ctx);
    for name in args.from(1) {
        ctx.server.pubsub.subscribe(kind, name, ctx.client);
        confirm(ctx, words(kind).0, Some(name), kind);
    }
    Ok(())
}

/// `UNSUBSCRIBE`, `PUNSUBSCRIBE`, `SUNSUBSCRIBE`: without names from all.
fn unsubscribe(ctx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> CommandResult {
    let word = words(kind).1;
    let names: Vec<Vec<u8>> = match args.len() {
        1 => kind.of(ctx.client).iter().cloned().collect(),
        _ => args.from(1).iter().map(|name| name.to_vec()).collect(),
    };
    if names.is_empty() {
        confirm(ctx, word, None, kind);
    }
    for name in names {
        ctx.server.pubsub.unsubscribe(kind, &name, ctx.client);
        take_messages(ctx);
        confirm(ctx, word, Some(&name), kind);
    }
    Ok(())
}

/// `PUBLISH channel message`, `SPUBLISH shardchannel message`
fn publish(ctx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> CommandResult {
    let receivers = pubsub::publish(ctx.server, kind, args.at(1), args.at(2));
    // For replicas only, those that are away for a while included: a message is no data.
    let (now_ms, ttl_s) = (ctx.now_ms(), ctx.config.replication.backlog_ttl_s);
    let replication = ctx.server.state.replication.lock();
    let is_followed = replication.master.is_none() && replication.is_followed(now_ms, ttl_s);
    drop(replication);
    if is_followed {
        ctx.propagate(args.all());
    }
    ctx.reply.len_int(receivers);
    Ok(())
}

/// `PUBSUB CHANNELS [pattern]`, `PUBSUB SHARDCHANNELS [pattern]`
fn channels(ctx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> CommandResult {
    if args.len() > 3 {
        return Err(wrong_subcommand(args));
    }
    let names = ctx.server.pubsub.names(kind, args.get(2));
    ctx.reply.array(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name));
    Ok(())
}

/// `PUBSUB NUMSUB [channel ...]`, `PUBSUB SHARDNUMSUB [shardchannel ...]`
fn numsub(ctx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> CommandResult {
    let names = args.from(2);
    ctx.reply.array(2 * names.len());
    for name in names {
        ctx.reply.bulk(name);
        ctx.reply.len_int(ctx.server.pubsub.subscribers(kind, name));
    }
    Ok(())
}

/// `PUBSUB NUMPAT`
fn numpat(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.len_int(ctx.server.pubsub.len(Kind::Pattern));
    Ok(())
}

/// `PUBSUB HELP`
fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.array(HELP.len());
    HELP.iter().for_each(|line| ctx.reply.simple(line));
    Ok(())
}

/// Redis's answer to a subcommand with arguments that it does not take.
fn wrong_subcommand(args: &Args<'_>) -> CommandError {
    let shown: Vec<u8> = args.at(1).iter().copied().take(128).collect();
    CommandError::Bytes(
        [
            b"ERR unknown subcommand or wrong number of arguments for '",
            &shown[..],
            b"'. Try PUBSUB HELP.",
        ]
        .concat(),
    )
}
