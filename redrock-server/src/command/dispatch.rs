//! From a parsed request to its reply: checks, residency, execution, propagation.
//!
//! The order of the checks is that of Redis's `processCommand`. Execution is one lock hold:
//! the command, the blocked clients that it makes ready, and the append of all effects to the
//! log, so that log order is serialization order.

use super::args::Args;
use super::effect::Effect;
use super::error::CommandError;
use super::reply::Reply;
use super::table::{Group, Spec, flag};
use super::{Context, registry, residency, transaction};
use crate::config::{Allowed, Config};
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::monitor;
use crate::net::client::{Client, OwnedCommand, ReplyMode};
use crate::net::memory::ReplyLimit;
use crate::server::Server;
use crate::state::PauseMode;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// The end of CLIENT PAUSE.
    Unpaused,
    /// The end of SAVE.
    Released,
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
    let start = out.len();
    let outcome = execute_one(server, scratch, slot, argv, out);
    let Some(client) = slot.as_deref_mut() else {
        return outcome;
    };
    if matches!(outcome, Outcome::Done) {
        match client.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => out.truncate(start),
            ReplyMode::SkipNext => client.reply_mode = ReplyMode::Skip,
            ReplyMode::Skip => {
                out.truncate(start);
                client.reply_mode = ReplyMode::On;
            }
        }
    }
    client.publish();
    outcome
}

fn execute_one(
    server: &Server,
    scratch: &mut Scratch,
    slot: &mut Option<Box<Client>>,
    argv: &[&[u8]],
    out: &mut Vec<u8>,
) -> Outcome {
    let args = Args::new(argv);
    let config = scratch.config(server).clone();
    let Some(client) = slot.as_deref_mut() else {
        return Outcome::Done;
    };
    let resolved = registry::resolve(&args);
    let is_exec = resolved.as_ref().is_ok_and(|spec| spec.name == "exec");
    if let Ok(spec) = &resolved {
        client
            .shared
            .last_command
            .store(spec.index + 1, Ordering::Relaxed);
    }
    let spec = match resolved.and_then(|spec| match check(server, &config, client, spec, &args) {
        Ok(()) => Ok(spec),
        Err(error) => {
            server.stats.refused(spec);
            Err(error)
        }
    }) {
        Ok(spec) => spec,
        Err(error) => {
            client
                .shared
                .last_seen_ms
                .store(crate::clock::unix_ms(), Ordering::Relaxed);
            let error = if is_exec {
                abort_exec(server, client, error)
            } else {
                error
            };
            if let Some(transaction) = &mut client.transaction {
                transaction.failed = true;
            }
            server.stats.error(&error);
            Reply::new(out, client.resp3).error(&error.resp());
            return Outcome::Done;
        }
    };
    if server.held.load(Ordering::Acquire) {
        return Outcome::Retry(Wait::Released);
    }
    if server.state.pause.is_set() && is_paused(server, client, spec) {
        return Outcome::Retry(Wait::Unpaused);
    }
    if queue(&config, client, spec, argv) {
        Reply::new(out, client.resp3).simple("QUEUED");
        return Outcome::Done;
    }
    let queued = client.transaction.as_ref().filter(|_| is_exec);
    let flags = spec.flags | queued.map_or(0, |transaction| transaction.flags);
    let charge = memory_charge(argv) + queued.map_or(0, |transaction| transaction.bytes as u64);
    if flags & flag::DENYOOM != 0 && !server.memory.admit(charge) {
        return Outcome::Retry(Wait::Memory);
    }
    let mut keyspace = server.keyspace.lock();
    // Once more under the lock: who holds clients back relies on nothing running any more.
    if server.held.load(Ordering::Relaxed) {
        return Outcome::Retry(Wait::Released);
    }
    if flags & flag::WRITE != 0
        && let Some(snapshot) = &keyspace.snapshot
        && !snapshot.has_room()
    {
        return Outcome::Retry(Wait::Snapshot);
    }
    let missing = residency::missing(&keyspace, client, spec, &args);
    if !missing.is_empty() {
        return Outcome::Retry(Wait::Load(missing));
    }
    let outcome = run_locked(
        server,
        &config,
        scratch,
        slot,
        spec,
        &args,
        out,
        &mut keyspace,
    );
    let garbage = keyspace.garbage.take();
    drop(keyspace);
    if !garbage.is_empty() {
        server.reclaimer.dispose(garbage);
    }
    outcome
}

/// What becomes of a client whose command's reply is too long. What the command changed stays.
fn refuse_reply(
    server: &Server,
    slot: &mut Option<Box<Client>>,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) {
    out.shrink_to(64 << 10);
    let Some(client) = slot.as_deref_mut() else {
        return;
    };
    if limit.closes {
        server.close_for_output(&client.shared, limit.bytes as u64);
        return;
    }
    let error = CommandError::text(server.client_memory.refusal("the reply"));
    server.stats.error(&error);
    Reply::new(out, client.resp3).error(&error.resp());
}

/// Queues a command of a transaction; false if it is not one.
fn queue(config: &Config, client: &mut Client, spec: &'static Spec, argv: &[&[u8]]) -> bool {
    const AT_ONCE: [&str; 6] = ["exec", "discard", "multi", "watch", "quit", "reset"];
    let Some(transaction) = &mut client.transaction else {
        return false;
    };
    if AT_ONCE.contains(&spec.name) {
        return false;
    }
    // What will not run anyway takes no memory.
    if !transaction.failed && !client.watch_dirty.load(Ordering::Relaxed) {
        transaction.push(spec, argv);
    }
    if transaction.bytes > config.network.query_buffer_bytes_max {
        tracing::warn!(
            client = client.shared.id,
            "transaction beyond client-query-buffer-limit"
        );
        client.close_after_reply = true;
    }
    true
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
    let Some(client) = slot.as_deref_mut() else {
        return Outcome::Done;
    };
    let now_us = crate::clock::unix_us();
    let now_ms = now_us / 1000;
    client.shared.last_seen_ms.store(now_ms, Ordering::Relaxed);
    let start = out.len();
    let mut wait = None;
    let limit = server.reply_limit(config, &client.shared, start);
    let over;
    {
        let db = Db::new(keyspace, server, &mut scratch.effect, client.db, now_ms);
        let reply = Reply::new(out, client.resp3).limited(limit.bytes);
        let mut ctx = Context {
            server,
            config,
            db,
            client,
            reply,
        };
        if let Err(error) = call_at(&mut ctx, spec, args, now_us) {
            match error {
                CommandError::Cold(db, key) => wait = Some(Wait::Load(vec![(db, key)])),
                CommandError::Busy => wait = Some(Wait::Snapshot),
                other => {
                    server.stats.error(&other);
                    ctx.reply.error(&other.resp());
                }
            }
        }
        over = ctx.reply.is_over();
    }
    if over {
        out.truncate(start);
        refuse_reply(server, slot, limit, out);
    }
    if let Some(wait) = wait {
        out.truncate(start);
        scratch.effect.clear();
        return Outcome::Retry(wait);
    }
    if !keyspace.ready.is_empty() {
        super::blocked::serve(server, config, &mut scratch.effect, keyspace, now_ms);
    }
    if scratch.effect.dirty > 0 {
        server
            .state
            .changes
            .fetch_add(scratch.effect.dirty, Ordering::Relaxed);
    }
    let appends = scratch.effect.count() > 0;
    server.log.append_effect(&mut scratch.effect);
    if appends && let Some(client) = slot.as_deref_mut() {
        client.changed_offset = server.log.appended_offset();
    }
    if let Some(deferred) = slot
        .as_deref_mut()
        .and_then(|client| client.deferred.take())
    {
        return Outcome::Deferred(deferred);
    }
    let Some(request) = slot.as_deref_mut().and_then(|client| client.block.take()) else {
        return Outcome::Done;
    };
    let deadline_ms = request.deadline_ms;
    if let Some(client) = slot.take() {
        client.shared.blocked.store(true, Ordering::Relaxed);
        client.publish();
        keyspace
            .blocked
            .park(client, OwnedCommand::new(args.all()), request);
    }
    Outcome::Parked { deadline_ms }
}

/// Runs one command in a context; collects its effects. EXEC and scripts call it for each
/// command of theirs. The error, if any, is the caller's to write.
pub fn call(ctx: &mut Context<'_>, spec: &'static Spec, args: &Args<'_>) -> super::CommandResult {
    call_at(ctx, spec, args, crate::clock::unix_us())
}

/// [`call`] by a caller that has just read the clock.
fn call_at(
    ctx: &mut Context<'_>,
    spec: &'static Spec,
    args: &Args<'_>,
    start_us: i64,
) -> super::CommandResult {
    let dirty_before = ctx.db.effect.dirty;
    ctx.db.touch = !ctx.client.no_touch;
    let result = (spec.handler)(ctx, args);
    let db = ctx.db.index();
    ctx.db.effect.finish_command(db, args.all(), dirty_before);
    // A command that blocks, or that must be run again, is counted when it has run for good.
    let again = matches!(result, Err(CommandError::Cold(..) | CommandError::Busy));
    if ctx.client.block.is_none() && !again {
        let duration_us = crate::clock::unix_us().saturating_sub(start_us).max(0) as u64;
        account(ctx, spec, args, duration_us, result.is_err());
    }
    result
}

/// What EXEC answers when it is refused before it runs: the transaction is over. As in Redis also
/// when there was none.
fn abort_exec(server: &Server, client: &mut Client, error: CommandError) -> CommandError {
    transaction::discard(client, &mut server.keyspace.lock());
    let text = error.resp();
    let reason = text.strip_prefix(b"ERR ").unwrap_or(&text);
    CommandError::Bytes([b"EXECABORT Transaction discarded because of: ", reason].concat())
}

/// What a command answers that can't have what it waited for.
pub fn gave_up(
    server: &Server,
    client: &mut Client,
    argv: &[&[u8]],
    error: CommandError,
) -> CommandError {
    let is_exec = registry::resolve(&Args::new(argv)).is_ok_and(|spec| spec.name == "exec");
    let error = if is_exec {
        abort_exec(server, client, error)
    } else {
        error
    };
    server.stats.error(&error);
    error
}

/// Counts a command that ran; slow log, latency monitor, MONITOR.
fn account(ctx: &Context<'_>, spec: &'static Spec, args: &Args<'_>, usec: u64, failed: bool) {
    let server = ctx.server;
    let options = &ctx.config.observation;
    server
        .stats
        .executed(spec, usec, failed, options.latency_tracking);
    if options.latency_ms_min > 0 && usec >= 1000 {
        let event = if spec.has(flag::FAST) {
            "fast-command"
        } else {
            "command"
        };
        server
            .latency
            .record(event, usec / 1000, options.latency_ms_min);
    }
    let slow = u64::try_from(options.slow_us_min).is_ok_and(|min| usec >= min);
    if slow && !spec.has(flag::SKIP_SLOWLOG) {
        let shown = monitor::redacted(spec, args.all());
        let client = (&*ctx.client.shared.addr, &*ctx.client.name);
        server
            .slow_log
            .push(&shown, usec, client, options.slow_entries_max);
    }
    if !server.monitors.is_empty() && !spec.has(flag::SKIP_MONITOR | flag::ADMIN) {
        let shown = monitor::redacted(spec, args.all());
        server
            .monitors
            .feed(server, ctx.client, ctx.db.index(), &shown);
    }
    if spec.group == Group::Connection {
        ctx.client.publish_identity();
    }
}

/// Whether CLIENT PAUSE holds a command back.
fn is_paused(server: &Server, client: &Client, spec: &'static Spec) -> bool {
    const MAY_WRITE: u32 = flag::WRITE | flag::MAY_REPLICATE;
    match server.state.pause.mode(crate::clock::unix_ms()) {
        PauseMode::None => false,
        PauseMode::All => true,
        PauseMode::Write => {
            spec.has(MAY_WRITE)
                || spec.name == "exec"
                    && client.transaction.as_ref().is_some_and(|transaction| {
                        transaction.commands.iter().any(|command| {
                            registry::resolve(&Args::new(&command.argv()))
                                .is_ok_and(|spec| spec.has(MAY_WRITE))
                        })
                    })
        }
    }
}

/// Whether this client may run a protected command (`enable-debug-command`). Modules don't exist
/// here, so MODULE is never allowed.
fn is_allowed(config: &Config, client: &Client, spec: &'static Spec) -> bool {
    spec.name == "debug"
        && match config.security.debug_command {
            Allowed::No => false,
            Allowed::Yes => true,
            Allowed::Local => client.is_local(),
        }
}

/// What a command may allocate, roughly: its arguments and an entry.
fn memory_charge(argv: &[&[u8]]) -> u64 {
    64 + argv.iter().map(|arg| arg.len() as u64).sum::<u64>()
}

/// All that can refuse a command before it runs.
fn check(
    server: &Server,
    config: &Config,
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
    if spec.has(flag::PROTECTED) && !is_allowed(config, client, spec) {
        let name = spec.name.split('|').next().unwrap_or_default();
        return Err(CommandError::text(format!(
            "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
            name.to_ascii_uppercase()
        )));
    }
    if client.transaction.is_some() && spec.has(flag::NO_MULTI) {
        return Err(CommandError::fixed(
            "ERR Command not allowed inside a transaction",
        ));
    }
    if !client.resp3
        && client.subscription_count() + client.shard_channels.len() > 0
        && !matches!(
            spec.name,
            "subscribe"
                | "unsubscribe"
                | "psubscribe"
                | "punsubscribe"
                | "ssubscribe"
                | "sunsubscribe"
                | "ping"
                | "quit"
                | "reset"
        )
    {
        return Err(CommandError::text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            spec.name
        )));
    }
    if spec.name == "exec"
        && let Some(transaction) = &client.transaction
    {
        transaction
            .specs
            .iter()
            .try_for_each(|spec| server.gate(spec))?;
    }
    server.gate(spec)
}
