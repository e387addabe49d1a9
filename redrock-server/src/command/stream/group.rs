//! XGROUP.

use super::{id, peek, quoting, subcommand_syntax};
use crate::command::args::is_word;
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::notify::Class;
use crate::value::stream::{ID_MIN, Stream, StreamId};

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Prints this help.",
];

const NO_KEY: CommandError = CommandError::fixed(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
     the MKSTREAM option to create an empty stream automatically.",
);

/// `XGROUP HELP`
pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(ctx, HELP);
    Ok(())
}

/// What follows the id.
#[derive(Default)]
struct Options {
    make_stream: bool,
    entries_read: Option<u64>,
}

fn options(args: &Args<'_>, creates: bool) -> CommandResult<Options> {
    let mut found = Options::default();
    let mut at = 5;
    while at < args.len() {
        if creates && is_word(args.at(at), "mkstream") {
            found.make_stream = true;
            at += 1;
        } else if at + 1 < args.len() && is_word(args.at(at), "entriesread") {
            let count = args.int(at + 1)?;
            if count < -1 {
                return Err(CommandError::fixed(
                    "ERR value for ENTRIESREAD must be positive or -1",
                ));
            }
            found.entries_read = u64::try_from(count).ok();
            at += 2;
        } else {
            return Err(subcommand_syntax("XGROUP", args.at(1)));
        }
    }
    Ok(found)
}

/// Whether there is such a group in the stream, which must be there.
fn has_group(ctx: &mut Context<'_>, key: &[u8], group: &[u8]) -> CommandResult<bool> {
    let stream = peek(ctx, key)?.ok_or(NO_KEY)?;
    Ok(stream.group(group).is_some())
}

/// As [`has_group`], where there must be one.
fn need_group(ctx: &mut Context<'_>, key: &[u8], group: &[u8]) -> CommandResult {
    if has_group(ctx, key, group)? {
        return Ok(());
    }
    let text = "NOGROUP No such consumer group '{}' for key name '{}'";
    Err(quoting(text, &[group, key]))
}

/// Counts a change of a group. Groups are no part of what WATCH and client-side caches look at.
fn changed(ctx: &mut Context<'_>, key: &[u8], event: &'static str) {
    ctx.db.effect.dirty += 1;
    ctx.notify(key, Class::STREAM, event);
}

/// `XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]`
pub(super) fn create(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = options(args, true)?;
    let (key, name) = (args.at(2), args.at(3));
    let stream = peek(ctx, key)?;
    let exists = stream.is_some();
    let last_id = stream.map_or(ID_MIN, |stream| stream.meta().last_id);
    if !exists && !options.make_stream {
        return Err(NO_KEY);
    }
    if args.len() > 8 {
        return Err(subcommand_syntax("XGROUP", args.at(1)));
    }
    let last_id = match id::c_text(args.at(4)) {
        b"$" => last_id,
        _ => id::strict(args.at(4), 0)?,
    };
    let stream = match exists {
        true => ctx.db.write::<Stream>(key)?.ok_or(NO_KEY)?,
        false => ctx.db.write_or_create::<Stream>(key)?,
    };
    let created = stream.create_group(name, last_id, options.entries_read);
    if !exists {
        ctx.db.signal_if_awaited(key);
        ctx.db.signal(key);
    }
    if !created {
        return Err(CommandError::fixed(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    ctx.reply.ok();
    changed(ctx, key, "xgroup-create");
    Ok(())
}

/// `XGROUP SETID key group id|$ [ENTRIESREAD entries-read]`
pub(super) fn setid(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let options = options(args, false)?;
    let (key, name) = (args.at(2), args.at(3));
    need_group(ctx, key, name)?;
    if args.len() != 5 && args.len() != 7 {
        return Err(subcommand_syntax("XGROUP", args.at(1)));
    }
    let given: Option<StreamId> = match id::c_text(args.at(4)) {
        b"$" => None,
        _ => Some(id::any(args.at(4), 0)?),
    };
    if let Some(stream) = ctx.db.write::<Stream>(key)? {
        let last_id = given.unwrap_or(stream.meta().last_id);
        if let Some(group) = stream.group_mut(name) {
            group.last_id = last_id;
            group.entries_read = options.entries_read;
        }
    }
    ctx.reply.ok();
    changed(ctx, key, "xgroup-setid");
    Ok(())
}

/// `XGROUP DESTROY key group`
pub(super) fn destroy(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, name) = (args.at(2), args.at(3));
    if !has_group(ctx, key, name)? {
        ctx.reply.int(0);
        return Ok(());
    }
    if let Some(stream) = ctx.db.write::<Stream>(key)? {
        stream.remove_group(name);
    }
    ctx.reply.int(1);
    changed(ctx, key, "xgroup-destroy");
    // Its waiting consumers are told that it is gone.
    ctx.db.signal_if_awaited(key);
    Ok(())
}

/// `XGROUP CREATECONSUMER key group consumer`
pub(super) fn createconsumer(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.at(2), args.at(3), args.at(4));
    need_group(ctx, key, name)?;
    let now_ms = ctx.now_ms();
    let group = ctx.db.write::<Stream>(key)?.and_then(|s| s.group_mut(name));
    let created = group.is_some_and(|group| {
        let is_new = group.find_consumer(consumer).is_none();
        if is_new {
            group.create_consumer(consumer, now_ms);
        }
        is_new
    });
    if created {
        super::claim::consumer_created(ctx, key);
    }
    ctx.reply.int(i64::from(created));
    Ok(())
}

/// `XGROUP DELCONSUMER key group consumer`
pub(super) fn delconsumer(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let (key, name, consumer) = (args.at(2), args.at(3), args.at(4));
    need_group(ctx, key, name)?;
    let group = ctx.db.write::<Stream>(key)?.and_then(|s| s.group_mut(name));
    let removed = group.and_then(|group| group.remove_consumer(consumer));
    if removed.is_some() {
        changed(ctx, key, "xgroup-delconsumer");
    }
    ctx.reply.len_int(removed.unwrap_or(0));
    Ok(())
}
