//! From a parsed request to its reply: checks, residency, execution, propagation.
//!
//! The order of the checks is that of Redis's `processCommand`. Execution is one lock hold:
//! the command, the blocked clients that it makes ready, and the append of all effects to the
//! log, so that log order is serialization order.

use super::args::Args;
use super::effect::Effect;
use super::error::CommandError;
use super::reply::Reply;
use super::table::{Spec, flag};
use super::{Context, registry};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::net::client::{Client, OwnedCommand};
use crate::server::Server;
use std::pin::Pin;
use std::sync::Arc;

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Its reply, if it has one, is in the output buffer.
    Done,
    /// It waits for a key; the client now belongs to the keyspace's table of blocked clients.
    Parked {
        /// When to give up, unix ms.
        deadline_ms: Option<i64>,
    },
    /// It could not run yet; wait for this outside the locks and run it again.
    Retry(Wait),
    /// Its reply comes later.
    Deferred(Deferred),
}

/// What a command waits for before it can run.
#[derive(Debug)]
pub enum Wait {
    /// Nothing: run it again at once.
    Nothing,
    /// These keys (database, key) must be read from disk.
    Load(Vec<(usize, Vec<u8>)>),
    /// Memory: values must leave first.
    Memory,
    /// A snapshot's buffer of old values is full, or a large value is being copied.
    Snapshot,
}

/// A reply that is made outside the locks while its client waits: complete RESP.
pub struct Deferred(pub Pin<Box<dyn Future<Output = Vec<u8>> + Send>>);

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

/// A worker's own state for running commands, reused from command to command.
#[derive(Debug, Default)]
pub struct Scratch {
    effect: Effect,
    config: Option<Arc<Config>>,
    config_version: u64,
}

impl Scratch {
    /// The configuration in force; a load and a compare while it does not change.
    pub fn config(&mut self, server: &Server) -> &Arc<Config> {
        let version = server.config_version();
        if self.config_version != version {
            self.config = None;
            self.config_version = version;
        }
        self.config.get_or_insert_with(|| server.config())
    }
}

/// Runs one request of the client in `slot`, which stays there unless the command blocks.
pub fn execute(
    server: &Server,
    scratch: &mut Scratch,
    slot: &mut Option<Box<Client>>,
    argv: &[&[u8]],
    out: &mut Vec<u8>,
) -> Outcome {
    let args = Args::new(argv);
    let config = scratch.config(server).clone();
    let Some(client) = slot.as_deref_mut() else { return Outcome::Done };
    let spec = match registry::resolve(&args)
        .and_then(|spec| check(server, &config, client, spec, &args).map(|()| spec))
    {
        Ok(spec) => spec,
        Err(error) => {
            if let Some(transaction) = &mut client.transaction {
                transaction.failed = true;
            }
            server.stats.error(&error);
            Reply::new(out, client.resp3).error(&error.resp());
            return Outcome::Done;
        }
    };
    if let Some(transaction) = &mut client.transaction
        && !matches!(spec.name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
    {
        transaction.commands.push(OwnedCommand::new(argv));
        Reply::new(out, client.resp3).simple("QUEUED");
        return Outcome::Done;
    }
    if spec.has(flag::DENYOOM) && !server.memory.admit(memory_charge(argv)) {
        return Outcome::Retry(Wait::Memory);
    }
    let mut keyspace = server.keyspace.lock();
    if spec.has(flag::WRITE)
        && let Some(snapshot) = &keyspace.snapshot
        && !snapshot.has_room()
    {
        return Outcome::Retry(Wait::Snapshot);
    }
    run_locked(server, &config, scratch, slot, spec, &args, out, &mut keyspace)
}

fn run_locked(
    server: &Server,
    config: &Arc<Config>,
    scratch: &mut Scratch,
    slot: &mut Option<Box<Client>>,
    spec: &'static Spec,
    args: &Args<'_>,
    out: &mut Vec<u8>,
    keyspace: &mut Keyspace,
) -> Outcome {
    let Some(client) = slot.as_deref_mut() else { return Outcome::Done };
    let now_ms = crate::clock::unix_ms();
    let start = out.len();
    let mut wait = None;
    {
        let db = Db::new(keyspace, server, &mut scratch.effect, client.db, now_ms);
        let reply = Reply::new(out, client.resp3);
        let mut ctx = Context { server, config, db, client, reply };
        if let Err(error) = call(&mut ctx, spec, args) {
            match error {
                CommandError::Cold(key) => wait = Some(Wait::Load(vec![(ctx.client.db, key)])),
                CommandError::Busy => wait = Some(Wait::Snapshot),
                other => {
                    server.stats.error(&other);
                    ctx.reply.error(&other.resp());
                }
            }
        }
    }
    if let Some(wait) = wait {
        out.truncate(start);
        scratch.effect.clear();
        return Outcome::Retry(wait);
    }
    if !keyspace.ready.is_empty() {
        super::blocked::serve(server, config, &mut scratch.effect, keyspace, now_ms);
    }
    server.log.append_effect(&mut scratch.effect);
    if let Some(deferred) = slot.as_deref_mut().and_then(|client| client.deferred.take()) {
        return Outcome::Deferred(deferred);
    }
    let Some(request) = slot.as_deref_mut().and_then(|client| client.block.take()) else {
        return Outcome::Done;
    };
    let deadline_ms = request.deadline_ms;
    if let Some(client) = slot.take() {
        keyspace.blocked.park(client, OwnedCommand::new(args.all()), request);
    }
    Outcome::Parked { deadline_ms }
}

/// Runs one command in a context; collects its effects. EXEC and scripts call it for each
/// command of theirs. The error, if any, is the caller's to write.
pub fn call(ctx: &mut Context<'_>, spec: &'static Spec, args: &Args<'_>) -> super::CommandResult {
    let dirty_before = ctx.db.effect.dirty;
    ctx.db.touch = !ctx.client.no_touch;
    let result = (spec.handler)(ctx, args);
    let db = ctx.db.index();
    ctx.db.effect.finish_command(db, args.all(), dirty_before);
    result
}

/// What a command may allocate, roughly: its arguments and an entry.
fn memory_charge(argv: &[&[u8]]) -> u64 {
    64 + argv.iter().map(|arg| arg.len() as u64).sum::<u64>()
}

/// All that can refuse a command before it runs.
fn check(
    server: &Server,
    _config: &Config,
    client: &Client,
    spec: &'static Spec,
    args: &Args<'_>,
) -> Result<(), CommandError> {
    if !spec.arity_ok(args.len()) || (!spec.subcommands.is_empty() && args.len() < 2) {
        return Err(CommandError::Arity(spec.name.to_owned()));
    }
    if !client.authenticated && !spec.has(flag::NO_AUTH) {
        return Err(CommandError::fixed("NOAUTH Authentication required."));
    }
    if client.transaction.is_some() && spec.has(flag::NO_MULTI) {
        return Err(CommandError::fixed("ERR Command not allowed inside a transaction"));
    }
    if !client.resp3
        && client.subscription_count() + client.shard_channels.len() > 0
        && !matches!(
            spec.name,
            "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe"
                | "sunsubscribe" | "ping" | "quit" | "reset"
        )
    {
        return Err(CommandError::text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        )));
    }
    server.gate(spec)
}
