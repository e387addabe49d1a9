//! XINFO.

use super::range::reply_entries;
use super::{quoting, reply_entry, reply_id, subcommand_syntax};
use crate::command::{Args, CommandError, CommandResult, Context, Reply};
use crate::value::stream::{Consumer, Entry, Group, ID_MAX, ID_MIN, Stream};

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Prints this help.",
];

/// Entries that FULL shows of each kind, if the client does not say.
const FULL_COUNT_DEFAULT: usize = 10;

/// `XINFO HELP`
pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(ctx, HELP);
    Ok(())
}

fn label(reply: &mut Reply<'_>, name: &str) {
    reply.bulk(name.as_bytes());
}

fn labelled_int(reply: &mut Reply<'_>, name: &str, value: i64) {
    label(reply, name);
    reply.int(value);
}

fn opt_int(reply: &mut Reply<'_>, value: Option<i64>) {
    match value {
        Some(n) => reply.int(n),
        None => reply.null(),
    }
}

/// `XINFO CONSUMERS key group`
pub(super) fn consumers(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, name) = (args.at(2), args.at(3));
    let now_ms = ctx.now_ms();
    let Some(stream) = ctx.db.read::<Stream>(key)? else {
        return Err(CommandError::NoSuchKey);
    };
    let Some(group) = stream.group(name) else {
        let text = "NOGROUP No such consumer group '{}' for key name '{}'";
        return Err(quoting(text, &[name, key]));
    };
    let reply = &mut ctx.reply;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        let since = |time_ms: i64| now_ms.saturating_sub(time_ms);
        reply.map(4);
        label(reply, "name");
        reply.bulk(consumer.name());
        labelled_int(reply, "pending", consumer.pending_count() as i64);
        labelled_int(reply, "idle", since(consumer.seen_time_ms).max(0));
        let inactive = match consumer.active_time_ms {
            -1 => -1,
            time_ms => since(time_ms),
        };
        labelled_int(reply, "inactive", inactive);
    }
    Ok(())
}

fn read_counters(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    label(reply, "entries-read");
    opt_int(reply, group.entries_read.map(|read| read as i64));
    label(reply, "lag");
    opt_int(reply, stream.lag(group.last_id, group.entries_read));
}

/// `XINFO GROUPS key`
pub(super) fn groups(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(stream) = ctx.db.read::<Stream>(args.at(2))? else {
        return Err(CommandError::NoSuchKey);
    };
    let reply = &mut ctx.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        label(reply, "name");
        reply.bulk(name);
        labelled_int(reply, "consumers", group.consumer_count() as i64);
        labelled_int(reply, "pending", group.pending_count() as i64);
        label(reply, "last-delivered-id");
        reply_id(reply, group.last_id);
        read_counters(reply, stream, group);
    }
    Ok(())
}

/// FULL and its count (0: all); `None` without FULL.
fn full_count(args: &Args<'_>) -> CommandResult<Option<usize>> {
    let wrong = || subcommand_syntax("XINFO", args.at(1));
    match args.len() {
        3 => Ok(None),
        4 if args.is(3, "full") => Ok(Some(FULL_COUNT_DEFAULT)),
        6 if args.is(3, "full") && args.is(4, "count") => {
            let count = usize::try_from(args.int(5)?);
            Ok(Some(count.unwrap_or(FULL_COUNT_DEFAULT)))
        }
        _ => Err(wrong()),
    }
}

/// `XINFO STREAM key [FULL [COUNT count]]`
pub(super) fn stream(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let Some(stream) = ctx.db.read::<Stream>(args.at(2))? else {
        return Err(CommandError::NoSuchKey);
    };
    let full = full_count(args)?;
    let meta = stream.meta();
    let reply = &mut ctx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    labelled_int(reply, "length", meta.length as i64);
    labelled_int(reply, "radix-tree-keys", stream.node_count() as i64);
    labelled_int(reply, "radix-tree-nodes", stream.radix_node_count() as i64);
    label(reply, "last-generated-id");
    reply_id(reply, meta.last_id);
    label(reply, "max-deleted-entry-id");
    reply_id(reply, meta.max_deleted_id);
    labelled_int(reply, "entries-added", meta.entries_added as i64);
    label(reply, "recorded-first-entry-id");
    reply_id(reply, meta.first_id);
    match full {
        None => ends(reply, stream),
        Some(count) => everything(reply, stream, if count == 0 { usize::MAX } else { count }),
    }
    Ok(())
}

fn ends(reply: &mut Reply<'_>, stream: &Stream) {
    labelled_int(reply, "groups", stream.groups().len() as i64);
    let end = |reply: &mut Reply<'_>, name: &str, entry: Option<Entry<'_>>| {
        label(reply, name);
        match entry {
            Some(entry) => reply_entry(reply, &entry),
            None => reply.null(),
        }
    };
    end(reply, "first-entry", stream.range(ID_MIN, ID_MAX).next());
    let last = stream.range_reversed(ID_MIN, ID_MAX).next();
    end(reply, "last-entry", last);
}

fn everything(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    label(reply, "entries");
    reply_entries(reply, stream.range(ID_MIN, ID_MAX), count);
    label(reply, "groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        label(reply, "name");
        reply.bulk(name);
        label(reply, "last-delivered-id");
        reply_id(reply, group.last_id);
        read_counters(reply, stream, group);
        labelled_int(reply, "pel-count", group.pending_count() as i64);
        label(reply, "pending");
        reply.array(group.pending_count().min(count));
        for (id, pending) in group.pending_from(ID_MIN).take(count) {
            reply.array(4);
            reply_id(reply, id);
            reply.bulk(group.name_of(pending));
            reply.int(pending.delivery_time_ms);
            reply.int(pending.delivery_count as i64);
        }
        label(reply, "consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            full_consumer(reply, group, consumer, count);
        }
    }
}

fn full_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    label(reply, "name");
    reply.bulk(consumer.name());
    labelled_int(reply, "seen-time", consumer.seen_time_ms);
    labelled_int(reply, "active-time", consumer.active_time_ms);
    labelled_int(reply, "pel-count", consumer.pending_count() as i64);
    label(reply, "pending");
    reply.array(consumer.pending_count().min(count));
    for id in consumer.pending_from(ID_MIN).take(count) {
        let pending = group.pending(id);
        reply.array(3);
        reply_id(reply, id);
        reply.int(pending.map_or(0, |pending| pending.delivery_time_ms));
        reply.int(pending.map_or(0, |pending| pending.delivery_count as i64));
    }
}
