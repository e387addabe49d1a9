//! ROCKSTAT, ROCK REPORT, PURGEROCKSDB: where values are, and tidying up.

use super::{later, require_tier};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::keyspace::tiering::census::{self, Census};
use std::fmt::Write as _;

/// `ROCKSTAT`: lines as in INFO.
pub(super) fn statistics(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let mut text = String::from("# Rock\r\n");
    if let Some(tiering) = &ctx.db.keyspace().tiering {
        let stats = &tiering.stats;
        let lines = [
            ("spilled_values", stats.spilled),
            ("dropped_values", stats.dropped),
            ("dropped_stubs", stats.stubs_dropped),
            ("loaded_values", stats.loaded),
            ("lent_values", stats.lent),
            ("waiting_commands", stats.waits),
            ("blocking_reads", stats.blocking_reads),
            ("slowed_writes", ctx.server.memory.pace.slowed()),
            ("queue_bytes", tiering.queue.bytes() as u64),
            ("cache_bytes", tiering.cold.cache_bytes() as u64),
            ("disk_bytes", tiering.cold.disk_bytes()),
        ];
        for (name, value) in lines {
            // Writing to a string never fails.
            let _ = write!(text, "{name}:{value}\r\n");
        }
        let health = &tiering.queue.health;
        let report = health.report();
        let _ = write!(text, "state:{}\r\n", report.state.word());
        let _ = write!(text, "state_since:{}\r\n", report.since_ms / 1000);
        let _ = write!(text, "state_reason:{}\r\n", one_line(&report.reason));
        for (name, value) in health.figures() {
            let _ = write!(text, "{name}:{value}\r\n");
        }
        let last = health.last_read_error();
        let _ = write!(text, "last_read_error:{}\r\n", one_line(&last));
    }
    ctx.reply.verbatim(text.as_bytes(), "txt");
    Ok(())
}

/// A text as the value of a field.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// `ROCK REPORT`: names and figures in turn (a map in RESP3).
pub(super) fn report(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let server = ctx.server.handle()?;
    let work = tokio::task::spawn_blocking(move || census::take(&server));
    later(ctx, work, |reply, taken| {
        let Ok(Census {
            keys, hot, dirty, ..
        }) = taken
        else {
            return reply.error(b"ERR the report was interrupted");
        };
        let on_disk = keys.saturating_sub(hot);
        let share = if keys == 0 {
            0.0
        } else {
            on_disk as f64 / keys as f64 * 100.0
        };
        reply.map(5);
        for (name, count) in [
            ("keys", keys),
            ("in_memory", hot),
            ("not_on_disk", dirty),
            ("on_disk", on_disk),
        ] {
            reply.bulk(name.as_bytes());
            reply.int(i64::try_from(count).unwrap_or(i64::MAX));
        }
        reply.bulk(b"on_disk_percent");
        reply.bulk(format!("{share:.2}").as_bytes());
    })
}

/// `PURGEROCKSDB`: OK when the files are rewritten without what is obsolete.
pub(super) fn purge(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    require_tier(ctx)?;
    let cold = ctx
        .db
        .keyspace()
        .tiering
        .as_ref()
        .map(|tiering| tiering.cold.clone());
    let work = tokio::task::spawn_blocking(move || cold.map(|cold| cold.compact()));
    later(ctx, work, |reply, done| match done {
        Ok(Some(Err(error))) => reply.error(&CommandError::tier(error).resp()),
        Ok(_) => reply.ok(),
        Err(_) => reply.error(b"ERR the purge was interrupted"),
    })
}

pub(super) fn help(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    const LINES: [&str; 5] = [
        "ROCK <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "REPORT",
        "    Return how many keys have their value on disk.",
        "HELP",
        "    Prints this help.",
    ];
    ctx.reply.array(LINES.len());
    for line in LINES {
        ctx.reply.simple(line);
    }
    Ok(())
}
