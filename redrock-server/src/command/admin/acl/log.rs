//! ACL LOG.

use crate::acl::log::Entry;
use crate::command::{Args, CommandResult, Context};

/// Entries that are shown if no number is given.
const SHOWN: i64 = 10;

/// `ACL LOG [count | RESET]`
pub(super) fn log(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let count = match args.len() {
        2 => SHOWN,
        3 if args.is(2, "reset") => {
            ctx.server.acl.log.lock().clear();
            ctx.reply.ok();
            return Ok(());
        }
        3 => args.int(2)?.max(0),
        _ => return Err(super::unknown_form("ACL", args)),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let entries: Vec<Entry> = ctx.server.acl.log.lock().newest(count).cloned().collect();
    ctx.reply.array(entries.len());
    for entry in entries {
        write(ctx, &entry);
    }
    Ok(())
}

fn write(ctx: &mut Context<'_>, entry: &Entry) {
    let age_ms = ctx.now_ms().saturating_sub(entry.updated_ms).max(0);
    let reply = &mut ctx.reply;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    reply.map(10);
    reply.bulk(b"count");
    reply.int(number(entry.count));
    for (name, text) in [
        ("reason", entry.reason.word().as_bytes()),
        ("context", entry.context.word().as_bytes()),
        ("object", &entry.object),
        ("username", &entry.user),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text);
    }
    reply.bulk(b"age-seconds");
    reply.double(age_ms as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(&entry.client);
    for (name, value) in [
        ("entry-id", number(entry.id)),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value);
    }
}
