//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! Commands between MULTI and EXEC are queued by the dispatcher. EXEC runs them under its one
//! lock hold; their effects leave as one transaction. The dispatcher has made all their keys
//! resident before; what they did not declare is read under the lock, because a transaction that
//! has changed something can't be run again.

#[cfg(test)]
mod tests;

use super::dispatch::Deferred;
use super::table::{Group, Handler, KeySpec, Spec, acl as category, flag};
use super::{Args, CommandError, CommandResult, Context, dispatch};
use crate::acl::{self, check::Denial};
use crate::keyspace::Keyspace;
use crate::net::client::{Client, Transaction};
use std::sync::atomic::Ordering;

const OPEN: u32 = flag::NOSCRIPT | flag::LOADING | flag::STALE;
const LIGHT: u32 = OPEN | flag::FAST | flag::ALLOW_BUSY;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::Transactions)
        .acl(category::TRANSACTION)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("discard", 1, LIGHT, discard_command).doc("2.0.0", "Discards a transaction."),
    spec("exec", 1, OPEN | flag::SKIP_SLOWLOG, exec)
        .doc("1.2.0", "Executes all commands in a transaction."),
    spec("multi", 1, LIGHT, multi).doc("1.2.0", "Starts a transaction."),
    spec("unwatch", 1, LIGHT, unwatch).doc("2.2.0", "Forgets about watched keys of a transaction."),
    spec("watch", -2, LIGHT, watch)
        .keys(KeySpec::ALL)
        .presence()
        .doc(
            "2.2.0",
            "Monitors changes to keys to determine the execution of a transaction.",
        ),
];

/// Ends a client's transaction and its watches.
pub fn discard(client: &mut Client, keyspace: &mut Keyspace) {
    client.transaction = None;
    forget_watches(client, keyspace);
}

fn forget_watches(client: &mut Client, keyspace: &mut Keyspace) {
    for (db, key) in client.watched.drain(..) {
        keyspace.watched.unwatch(db, &key, client.shared.id);
    }
    client.watch_dirty.store(false, Ordering::Relaxed);
}

/// `MULTI`
fn multi(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    if ctx.client.transaction.is_some() {
        return Err(CommandError::fixed("ERR MULTI calls can not be nested"));
    }
    ctx.client.transaction = Some(Transaction::default());
    ctx.reply.ok();
    Ok(())
}

/// `DISCARD`
fn discard_command(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    if ctx.client.transaction.is_none() {
        return Err(CommandError::fixed("ERR DISCARD without MULTI"));
    }
    discard(ctx.client, ctx.db.keyspace());
    ctx.reply.ok();
    Ok(())
}

/// `WATCH key [key ...]`
fn watch(ctx: &mut Context<'_>, args: &Args<'_>) -> CommandResult {
    if ctx.client.transaction.is_some() {
        return Err(CommandError::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    // One key that changed is enough: no more need be watched.
    if !ctx.client.watch_dirty.load(Ordering::Relaxed) {
        let db = ctx.db.index();
        for key in args.from(1) {
            let expired = ctx.db.has_expired(key);
            let (client, keyspace) = (&mut *ctx.client, ctx.db.keyspace());
            let id = client.shared.id;
            if keyspace
                .watched
                .watch(db, key, id, &client.watch_dirty, expired)
            {
                client.watched.push((db, key.to_vec()));
            }
        }
    }
    ctx.reply.ok();
    Ok(())
}

/// `UNWATCH`
fn unwatch(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    forget_watches(ctx.client, ctx.db.keyspace());
    ctx.reply.ok();
    Ok(())
}

/// Whether a watched key has expired since it is watched.
fn watched_expired(ctx: &mut Context<'_>) -> bool {
    let id = ctx.client.shared.id;
    ctx.client.watched.iter().any(|(index, key)| {
        let db = ctx.db.other(*index);
        db.has_expired(key) && !ctx.db.keyspace().watched.had_expired(*index, key, id)
    })
}

/// `EXEC`
fn exec(ctx: &mut Context<'_>, _args: &Args<'_>) -> CommandResult {
    let expired = watched_expired(ctx);
    let Some(transaction) = ctx.client.transaction.take() else {
        return Err(CommandError::fixed("ERR EXEC without MULTI"));
    };
    let changed = expired || ctx.client.watch_dirty.load(Ordering::Relaxed);
    forget_watches(ctx.client, ctx.db.keyspace());
    if transaction.failed {
        return Err(CommandError::fixed(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    if changed {
        ctx.reply.null_array();
        return Ok(());
    }
    let denied = std::mem::replace(&mut ctx.client.deny_blocking, true);
    let blocking = std::mem::replace(&mut ctx.db.blocking_reads, true);
    let start = ctx.reply.len();
    let mut late = Vec::new();
    ctx.reply.array(transaction.commands.len());
    for (command, spec) in transaction.commands.iter().zip(&transaction.specs) {
        run_queued(ctx, spec, &Args::new(&command.argv()), &mut late);
    }
    if !late.is_empty() {
        let reply = ctx.reply.take_from(start);
        ctx.client.deferred = Some(Deferred(Box::pin(complete(reply, start, late))));
    }
    ctx.client.deny_blocking = denied;
    ctx.db.blocking_reads = blocking;
    // The queued commands have been propagated each by itself.
    ctx.propagate_nothing();
    Ok(())
}

/// A reply that is made after EXEC, and where in the output it belongs.
type LateReply = (usize, Deferred);

/// The rules may have changed since the command was queued, even by this transaction.
fn still_allowed(ctx: &Context<'_>, spec: &'static Spec, args: &Args<'_>) -> CommandResult {
    let context = acl::log::Context::Multi;
    let denial = acl::check::denial(ctx.server, ctx.config, ctx.client, spec, args, context);
    let why = match denial {
        None => return Ok(()),
        Some(Denial::Command) => "no permission to execute the command or subcommand",
        Some(Denial::Key(_)) => "no permission to touch the specified keys",
        Some(Denial::Channel(_)) => {
            "no permission to access one of the channels used as argument to the command"
        }
    };
    Err(CommandError::text(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC \
         call. This command is no longer allowed for the following reason: {why}"
    )))
}

/// What EXEC has written so far moves to disk where memory is short: it can't wait outside the locks.
fn find_room(ctx: &mut Context<'_>, spec: &'static Spec) -> CommandResult {
    let server = ctx.server;
    server.log.relieve_effect(ctx.db.effect, &ctx.config.dir);
    if spec.has(flag::WRITE) {
        server.await_tier(ctx.db.keyspace());
    }
    if !spec.has(flag::DENYOOM) || server.relieve(ctx.db.keyspace()) || ctx.client.obeyed {
        return Ok(());
    }
    Err(CommandError::fixed(
        "OOM command not allowed when used memory > 'maxmemory'.",
    ))
}

/// One command of a transaction; its error is its reply. What works outside the locks (Sentinel
/// promotes with REPLICAOF and CONFIG REWRITE in a transaction) comes right after the rest, in
/// the order of the queue.
fn run_queued(
    ctx: &mut Context<'_>,
    spec: &'static Spec,
    args: &Args<'_>,
    late: &mut Vec<LateReply>,
) {
    let start = ctx.reply.len();
    let result = still_allowed(ctx, spec, args)
        .and_then(|()| find_room(ctx, spec))
        .and_then(|()| dispatch::call(ctx, spec, args));
    if let Some(deferred) = ctx.client.deferred.take() {
        ctx.reply.truncate(start);
        late.push((start, deferred));
        return;
    }
    if let Err(error) = result {
        ctx.server.stats.error(&error);
        ctx.reply.error(&error.resp());
    }
}

/// EXEC's reply, which began at `start` of the output, with the late ones put in their places.
async fn complete(reply: Vec<u8>, start: usize, late: Vec<LateReply>) -> Vec<u8> {
    let mut whole = Vec::with_capacity(reply.len());
    let mut done = 0;
    for (place, deferred) in late {
        let upto = place.saturating_sub(start);
        whole.extend_from_slice(reply.get(done..upto).unwrap_or_default());
        whole.extend(deferred.0.await);
        done = upto;
    }
    whole.extend_from_slice(reply.get(done..).unwrap_or_default());
    whole
}
