//! The command itself, and what is kept of it: statistics, the slow log, MONITOR, the caller's
//! cache.

use crate::command::table::{Group, Spec, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::memory::thread;
use crate::monitor;
use crate::server::Server;

/// Runs one command in a context; collects its effects. EXEC and scripts call it for each
/// command of theirs. The error, if any, is the caller's to write.
pub fn call(ctx: &mut Context<'_>, spec: &'static Spec, args: &Args<'_>) -> CommandResult {
    call_at(ctx, spec, args, crate::clock::unix_us())
}

/// [`call`] by a caller that has just read the clock.
pub(super) fn call_at(
    ctx: &mut Context<'_>,
    spec: &'static Spec,
    args: &Args<'_>,
    start_us: i64,
) -> CommandResult {
    let dirty_before = ctx.db.effect.dirty;
    ctx.db.touch = !ctx.client.no_touch;
    let start = ctx.reply.len();
    let memory_before = charges(ctx.server, spec).then(thread::net_bytes);
    let result = (spec.handler)(ctx, args);
    if let Some(before) = memory_before {
        charge_more(ctx.server, args, thread::grown_since(before));
    }
    // The error of a script may have been counted where it arose: it is its reply then.
    let failed = result.is_err() || (spec.has(flag::SCRIPT) && ctx.reply.is_error_at(start));
    let db = ctx.db.index();
    ctx.db.effect.finish_command(db, args.all(), dirty_before);
    // A command that blocks, or that must be run again, is counted when it has run for good.
    let again = matches!(result, Err(CommandError::Cold(..) | CommandError::Busy));
    if spec.has(flag::READONLY) && !again && ctx.db.keyspace().tracking.remembers() {
        remember_keys(ctx, spec, args);
    }
    if ctx.client.block.is_none() && !again {
        let duration_us = crate::clock::unix_us().saturating_sub(start_us).max(0) as u64;
        account(ctx, spec, args, duration_us, failed);
    }
    // What blocks is shown at once, and not again when it is served.
    if !again && !ctx.client.reprocessing && !ctx.server.monitors.is_empty() {
        ctx.server.monitors.show(ctx, spec, args);
    }
    result
}

/// Growth that a command is charged for its arguments, be it a little more.
const GROWTH_EXPECTED_BYTES: u64 = 4096;

/// Whether what a command allocates is counted. The commands of a script count, not the script.
fn charges(server: &Server, spec: &Spec) -> bool {
    spec.has(flag::DENYOOM) && !spec.has(flag::SCRIPT) && server.memory.is_bounded()
}

/// A command that made memory grow by more than it brought (COPY, SUNIONSTORE): those after it wait.
fn charge_more(server: &Server, args: &Args<'_>, grown: u64) {
    if grown > GROWTH_EXPECTED_BYTES {
        let brought: u64 = args.all().iter().map(|arg| arg.len() as u64).sum();
        server.memory.charge(grown.saturating_sub(brought));
    }
}

/// The caller may keep what it has read. A script's commands count, not the script.
fn remember_keys(ctx: &mut Context<'_>, spec: &'static Spec, args: &Args<'_>) {
    if matches!(spec.name, "eval_ro" | "evalsha_ro" | "fcall_ro") || spec.has(flag::PUBSUB) {
        return;
    }
    let tracking = &mut ctx.db.keyspace().tracking;
    spec.keys.visit(args, |at| tracking.remember(args.at(at)));
}

/// Counts a command that ran; slow log, latency monitor, MONITOR.
fn account(ctx: &Context<'_>, spec: &'static Spec, args: &Args<'_>, usec: u64, failed: bool) {
    let server = ctx.server;
    // What a command has configured holds for itself.
    let changed = (spec.name == "config|set").then(|| server.config());
    let options = &changed.as_deref().unwrap_or(ctx.config).observation;
    server
        .stats
        .executed(spec, usec, failed, options.latency_tracking);
    if options.latency_ms_min > 0 && usec >= 1000 {
        let event = if spec.has(flag::FAST) {
            "fast-command"
        } else {
            "command"
        };
        server.latency.record(event, usec / 1000);
    }
    let slow = u64::try_from(options.slow_us_min).is_ok_and(|min| usec >= min);
    if slow && !spec.has(flag::SKIP_SLOWLOG) {
        let shown = monitor::redacted(spec, args.all());
        let client = (&*ctx.client.shared.addr, &*ctx.client.name);
        server
            .slow_log
            .push(&shown, usec, client, options.slow_entries_max);
    }
    if spec.group == Group::Connection {
        ctx.client.publish_identity();
    }
}
