//! INFO, MONITOR, TIME, LOLWUT.

use crate::REDIS_VERSION;
use crate::command::table::{Group, Spec, acl, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::info::{self, Facts};

/// INFO.
pub(super) const INFO: Spec = Spec::new("info", -1, flag::LOADING | flag::STALE, info)
    .group(Group::Server)
    .acl(acl::DANGEROUS)
    .doc(
        "1.0.0",
        "Returns information and statistics about the server.",
    );

/// MONITOR.
pub(super) const MONITOR: Spec = Spec::new(
    "monitor",
    1,
    flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE,
    monitor,
)
.group(Group::Server)
.doc(
    "1.0.0",
    "Listens for all requests received by the server in real-time.",
);

/// TIME.
pub(super) const TIME: Spec = Spec::new("time", 1, flag::LOADING | flag::STALE | flag::FAST, time)
    .group(Group::Server)
    .doc("2.6.0", "Returns the server time.");

/// LOLWUT.
pub(super) const LOLWUT: Spec = Spec::new("lolwut", -1, flag::READONLY | flag::FAST, lolwut)
    .group(Group::Server)
    .doc("5.0.0", "Displays computer art and the Redis version");

fn info(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let facts = Facts {
        server: ctx.server,
        config: ctx.config,
        keyspace: ctx.db.keyspace(),
        now_us: crate::clock::unix_us(),
    };
    let text = info::text(&facts, args.from(1));
    ctx.reply.verbatim(text.as_bytes(), "txt");
    Ok(())
}

fn monitor(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    if ctx.client.deny_blocking {
        return Err(CommandError::fixed(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    // Who does so already gets no reply, as in Redis.
    if ctx.server.monitors.add(&ctx.client.shared) {
        ctx.reply.ok();
    }
    Ok(())
}

fn time(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    // In a script time stands still, as in Redis 7.2.
    let now_us = crate::script::run::started_unix_us().unwrap_or_else(crate::clock::unix_us);
    ctx.reply.array(2);
    ctx.reply.bulk_int(now_us / 1_000_000);
    ctx.reply.bulk_int(now_us % 1_000_000);
    Ok(())
}

/// Redis draws a picture here; we draw a small rock.
fn lolwut(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if args.is(1, "version") {
        args.int(2)?;
    }
    let text = format!(
        "      ____\n   __/    \\__\n  /  .    .  \\\n_/____________\\_\n\nRedis ver. {REDIS_VERSION}\n"
    );
    ctx.reply.verbatim(text.as_bytes(), "txt");
    Ok(())
}
