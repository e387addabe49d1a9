//! SLOWLOG.

use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context};

/// SLOWLOG and its subcommands.
pub(super) const SLOWLOG: Spec = Spec::new("slowlog", -2, 0, help)
    .group(Group::Server)
    .doc("2.2.12", "A container for slow log commands.")
    .sub(&[
        Spec::new(
            "slowlog|get",
            -2,
            flag::ADMIN | flag::LOADING | flag::STALE,
            get,
        )
        .group(Group::Server)
        .doc("2.2.12", "Returns the slow log's entries."),
        Spec::new("slowlog|help", 2, flag::LOADING | flag::STALE, help)
            .group(Group::Server)
            .doc("6.2.0", "Show helpful text about the different subcommands"),
        Spec::new(
            "slowlog|len",
            2,
            flag::ADMIN | flag::LOADING | flag::STALE,
            len,
        )
        .group(Group::Server)
        .doc("2.2.12", "Returns the number of entries in the slow log."),
        Spec::new(
            "slowlog|reset",
            2,
            flag::ADMIN | flag::LOADING | flag::STALE,
            reset,
        )
        .group(Group::Server)
        .doc("2.2.12", "Clears all entries from the slow log."),
    ]);

fn get(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    const RANGE: &str = "ERR count should be greater than or equal to -1";
    if args.len() > 3 {
        return Err(super::unknown_form("SLOWLOG", args));
    }
    let count = match args.get(2) {
        None => 10,
        Some(_) => args.int(2).map_err(|_| CommandError::fixed(RANGE))?,
    };
    let count = match count {
        -1 => usize::MAX,
        count => usize::try_from(count).map_err(|_| CommandError::fixed(RANGE))?,
    };
    let entries = ctx.server.slow_log.newest(count);
    ctx.reply.array(entries.len());
    for entry in entries {
        ctx.reply.array(6);
        ctx.reply.int(entry.id as i64);
        ctx.reply.int(entry.time_s);
        ctx.reply.int(entry.duration_us as i64);
        ctx.reply.array(entry.arguments.len());
        for argument in &entry.arguments {
            ctx.reply.bulk(argument);
        }
        ctx.reply.bulk(entry.addr.as_bytes());
        ctx.reply.bulk(&entry.name);
    }
    Ok(())
}

fn len(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.reply.len_int(ctx.server.slow_log.len());
    Ok(())
}

fn reset(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    ctx.server.slow_log.reset();
    ctx.reply.ok();
    Ok(())
}

fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    super::help(
        ctx,
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    )
}
