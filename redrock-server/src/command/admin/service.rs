//! ROLE, LASTSAVE, SHUTDOWN: the server as a service.

use super::super::args::is_word;
use crate::command::table::{Group, Spec, acl, flag};
use crate::command::{Args, CommandError, CommandResult, Context};
use crate::net::client::BlockRequest;
use crate::state::ShutdownRequest;

/// ROLE.
pub(super) const ROLE: Spec = Spec::new(
    "role",
    1,
    flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::FAST,
    role,
)
.group(Group::Server)
.acl(acl::DANGEROUS)
.doc("2.8.12", "Returns the replication role.");

/// LASTSAVE.
pub(super) const LASTSAVE: Spec = Spec::new(
    "lastsave",
    1,
    flag::LOADING | flag::STALE | flag::FAST,
    lastsave,
)
.group(Group::Server)
.acl(acl::DANGEROUS)
.doc(
    "1.0.0",
    "Returns the Unix timestamp of the last successful save to disk.",
);

/// SHUTDOWN.
pub(super) const SHUTDOWN: Spec = Spec::new(
    "shutdown",
    -1,
    flag::ADMIN | flag::NOSCRIPT | flag::LOADING | flag::STALE | flag::NO_MULTI | flag::ALLOW_BUSY,
    shutdown,
)
.group(Group::Server)
.doc(
    "1.0.0",
    "Synchronously saves the database(s) to disk and shuts down the Redis server.",
);

fn role(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let state = &ctx.server.state;
    let replication = state.replication.lock().clone();
    let Some(link) = replication.master else {
        let online: Vec<_> = replication
            .replicas
            .iter()
            .filter(|r| r.state == "online")
            .collect();
        ctx.reply.array(3);
        ctx.reply.bulk(b"master");
        ctx.reply.int(ctx.server.log.appended_offset() as i64);
        ctx.reply.array(online.len());
        for replica in online {
            ctx.reply.array(3);
            ctx.reply.bulk(replica.ip.as_bytes());
            ctx.reply.bulk_int(replica.port.into());
            ctx.reply.bulk_int(replica.offset as i64);
        }
        return Ok(());
    };
    ctx.reply.array(5);
    ctx.reply.bulk(b"slave");
    ctx.reply.bulk(link.host.as_bytes());
    ctx.reply.int(link.port.into());
    ctx.reply.bulk(link.state.word().as_bytes());
    ctx.reply
        .int(link.applied_offset.map_or(-1, |offset| offset as i64));
    Ok(())
}

fn lastsave(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let last_save_s = ctx.server.state.snapshot.lock().last_save_s;
    ctx.reply.int(last_save_s);
    Ok(())
}

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]. The client waits: it gets no reply when the
/// server goes, and an error when it stays after all.
fn shutdown(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    let mut request = ShutdownRequest::default();
    let mut abort = false;
    for word in args.from(1) {
        match () {
            () if is_word(word, "nosave") => request.nosave = true,
            () if is_word(word, "save") => request.save = true,
            () if is_word(word, "now") => request.now = true,
            () if is_word(word, "force") => request.force = true,
            () if is_word(word, "abort") => abort = true,
            () => return Err(CommandError::Syntax),
        }
    }
    if (abort && request != ShutdownRequest::default()) || (request.save && request.nosave) {
        return Err(CommandError::Syntax);
    }
    let shutdown = &ctx.server.state.shutdown;
    if abort {
        if !shutdown.abort() {
            return Err(CommandError::fixed("ERR No shutdown in progress."));
        }
        tracing::info!("Shutdown manually aborted.");
        let waiting = std::mem::take(&mut *shutdown.waiting.lock());
        for id in waiting {
            ctx.server
                .unblock_client(id, ctx.db.keyspace(), Some(FAILED));
        }
        ctx.reply.ok();
        return Ok(());
    }
    if ctx.client.deny_blocking && !request.now {
        return Err(CommandError::fixed(
            "ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client",
        ));
    }
    if !request.nosave
        && let Some(busy) = ctx.server.scripting.busy_error()
    {
        return Err(busy);
    }
    if ctx.client.deny_blocking {
        ctx.reply.ok();
    } else {
        shutdown.waiting.lock().push(ctx.client.id());
        ctx.client.block = Some(BlockRequest {
            keys: Vec::new(),
            deadline_ms: None,
            on_timeout: |reply| reply.error(FAILED.as_bytes()),
            wants: crate::value::ObjectType::String,
            or_gone: false,
            again: None,
        });
    }
    shutdown.request(request);
    Ok(())
}

/// What waiting clients get when the server stays.
const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
