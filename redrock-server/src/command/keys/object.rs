//! OBJECT.

use super::{READ, one};
use crate::command::table::{KeySpec, Spec, acl, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::config::Policy;
use crate::value::ValueRef;

const KEY: KeySpec = KeySpec::Range {
    first: 2,
    last: 2,
    step: 1,
};

/// Integers below this are shared by all keys in Redis (`OBJ_SHARED_INTEGERS`).
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;

pub(super) const SUBCOMMANDS: &[Spec] = &[
    Spec::new("object|encoding", 3, READ, encoding)
        .keys(KEY)
        .acl(acl::KEYSPACE)
        .doc("2.2.3", "Returns the internal encoding of a Redis object."),
    one("object|freq", 3, READ, freq).keys(KEY).doc(
        "4.0.0",
        "Returns the logarithmic access frequency counter of a Redis object.",
    ),
    Spec::new("object|help", 2, flag::LOADING | flag::STALE, help)
        .acl(acl::KEYSPACE)
        .doc(
            "6.2.0",
            "Returns helpful text about the different subcommands.",
        ),
    one("object|idletime", 3, READ, idletime).keys(KEY).doc(
        "2.2.3",
        "Returns the time since the last access to a Redis object.",
    ),
    Spec::new("object|refcount", 3, READ, refcount)
        .keys(KEY)
        .acl(acl::KEYSPACE)
        .doc("2.2.3", "Returns the reference count of a value of a key."),
];

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
];

/// `OBJECT HELP`
pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.array(HELP.len());
    HELP.iter().for_each(|line| ctx.reply.simple(line));
    Ok(())
}

/// `OBJECT ENCODING key`
fn encoding(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    match ctx.db.encoding(args.at(2))? {
        Some(name) => ctx.reply.bulk(name.as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `OBJECT REFCOUNT key`: always 1 but for Redis's shared integers.
fn refcount(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    // Redis shares small integers unless each needs access data of its own.
    let memory = &ctx.config.memory;
    let shared = memory.bytes_max == 0
        || !matches!(
            memory.policy,
            Policy::AllKeysLru | Policy::AllKeysLfu | Policy::VolatileLru | Policy::VolatileLfu
        );
    match ctx.db.peek(args.at(2))? {
        Some(ValueRef::Int(n)) if shared && SHARED_INTEGERS.contains(&n) => {
            ctx.reply.int(i64::from(i32::MAX));
        }
        Some(_) => ctx.reply.int(1),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// `OBJECT IDLETIME key`
fn idletime(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    ctx.db.presence(key)?;
    let Some((idle_s, _)) = ctx.db.access(key) else {
        ctx.reply.null();
        return Ok(());
    };
    if ctx.db.keyspace().access.lfu {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    ctx.reply.int(i64::from(idle_s));
    Ok(())
}

/// `OBJECT FREQ key`
fn freq(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let key = args.at(2);
    ctx.db.presence(key)?;
    let Some((_, counter)) = ctx.db.access(key) else {
        ctx.reply.null();
        return Ok(());
    };
    if !ctx.db.keyspace().access.lfu {
        return Err(CommandError::fixed(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take \
             some time to adjust.",
        ));
    }
    ctx.reply.int(i64::from(counter));
    Ok(())
}
