//! From a parsed request to its reply: checks, residency, execution, propagation.
//!
//! The order of the checks is that of Redis's `processCommand`. Execution is one lock hold:
//! the command, the blocked clients that it makes ready, and the append of all effects to the
//! log, so that log order is serialization order.

mod checks;

use super::args::{Args, is_word};
use super::cross_protocol;
use super::effect::Effect;
use super::error::CommandError;
use super::reply::Reply;
use super::table::{Group, Spec, flag};
use super::{Context, registry, residency, transaction};
use crate::config::Config;
use crate::keyspace::db::Db;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::monitor;
use crate::net::client::{Client, OwnedCommand, ReplyMode};
use crate::server::Server;
use crate::tracking::mode;
use checks::{check, is_paused, memory_charge, queue, refuse_reply, reply_queued};
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
    // What others sent before comes before the reply.
    slot.iter().for_each(|client| client.take_pushes(out));
    let start = out.len();
    let outcome = execute_one(server, scratch, slot, argv, out);
    let Some(client) = slot.as_deref_mut() else {
        return outcome;
    };
    if matches!(outcome, Outcome::Done) {
        end_caching(client, argv);
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
    client.take_pushes(out);
    client.publish();
    outcome
}

/// `CLIENT CACHING` holds for one command, or for a whole transaction.
fn end_caching(client: &Client, argv: &[&[u8]]) {
    let modes = &client.shared.tracking;
    if modes.load(Ordering::Relaxed) & mode::CACHING == 0 || client.transaction.is_some() {
        return;
    }
    if !argv.first().is_some_and(|name| is_word(name, "client")) {
        modes.fetch_and(!mode::CACHING, Ordering::Relaxed);
    }
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
    let spec = match resolved.and_then(|spec| {
        match check(server, &config, client, spec, &args)
            .and_then(|()| server.make_room(&config, client, spec, memory_charge(argv)))
        {
            Ok(()) => Ok(spec),
            Err(error) => {
                server.stats.refused(spec);
                Err(error)
            }
        }
    }) {
        Ok(spec) => spec,
        Err(error) => {
            refuse(server, client, &args, is_exec, error, out);
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
        reply_queued(server, &config, client, out);
        return Outcome::Done;
    }
    let queued = client.transaction.as_ref().filter(|_| is_exec);
    let flags = spec.flags | queued.map_or(0, |transaction| transaction.flags);
    let charge = memory_charge(argv) + queued.map_or(0, |transaction| transaction.bytes as u64);
    if flags & flag::DENYOOM != 0 && !server.memory.admit(charge) {
        return Outcome::Retry(Wait::Memory);
    }
    let mut keyspace = server.keyspace.lock();
    if let Some(wait) = waits_under_lock(server, &keyspace, flags) {
        return Outcome::Retry(wait);
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

/// What a command with these flags waits for, seen with the keyspace held.
fn waits_under_lock(server: &Server, keyspace: &Keyspace, flags: u32) -> Option<Wait> {
    // Once more: who holds clients back relies on nothing running any more.
    if server.held.load(Ordering::Relaxed) {
        return Some(Wait::Released);
    }
    if flags & flag::WRITE == 0 {
        return None;
    }
    if server.is_read_only() {
        // The role has just changed; the gate says so the next time.
        return Some(Wait::Released);
    }
    let snapshot = keyspace.snapshot.as_ref()?;
    if snapshot.has_room() {
        return None;
    }
    snapshot.note_waiting_writer();
    Some(Wait::Snapshot)
}

/// Answers a request that does not come to run.
fn refuse(
    server: &Server,
    client: &mut Client,
    args: &Args<'_>,
    is_exec: bool,
    error: CommandError,
    out: &mut Vec<u8>,
) {
    client
        .shared
        .last_seen_ms
        .store(crate::clock::unix_ms(), Ordering::Relaxed);
    if cross_protocol::is_http(args.at(0)) {
        cross_protocol::warn(client);
        client.close_after_reply = true;
        return;
    }
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
    keyspace.tracking.set_caller(client.id());
    keyspace.limit_tracking(server, config.memory.tracking_keys_max);
    if client.reply_mode == ReplyMode::On {
        // What is told before the command runs goes before its reply.
        client.take_pushes(out);
    }
    let ran = run_command(
        server, config, scratch, client, spec, args, out, keyspace, now_us,
    );
    if let Some(wait) = ran {
        // Nothing but deletions by expiry can have happened.
        server.settle(&mut scratch.effect);
        end_hold(server, keyspace);
        return Outcome::Retry(wait);
    }
    let end = server.settle(&mut scratch.effect);
    if let (Some(end), Some(client)) = (end, slot.as_deref_mut()) {
        client.changed_offset = end;
    }
    if !keyspace.ready.is_empty() {
        super::blocked::serve(server, config, &mut scratch.effect, keyspace);
    }
    end_hold(server, keyspace);
    if let Some(deferred) = slot
        .as_deref_mut()
        .and_then(|client| client.deferred.take())
    {
        return Outcome::Deferred(deferred);
    }
    let Some(mut request) = slot.as_deref_mut().and_then(|client| client.block.take()) else {
        return Outcome::Done;
    };
    let deadline_ms = request.deadline_ms;
    if let Some(client) = slot.take() {
        client.shared.blocked.store(true, Ordering::Relaxed);
        client.publish();
        let again = request.again.take();
        let command = again.unwrap_or_else(|| OwnedCommand::new(args.all()));
        keyspace.blocked.park(client, command, request);
    }
    Outcome::Parked { deadline_ms }
}

/// The effects are in the log: who holds stale keys may know.
fn end_hold(server: &Server, keyspace: &mut Keyspace) {
    keyspace.tell_clients(server);
    keyspace.tracking.set_caller(0);
}

/// Runs a client's command and writes its reply; what it must wait for instead, if it must.
fn run_command(
    server: &Server,
    config: &Arc<Config>,
    scratch: &mut Scratch,
    client: &mut Client,
    spec: &'static Spec,
    args: &Args<'_>,
    out: &mut Vec<u8>,
    keyspace: &mut Keyspace,
    now_us: i64,
) -> Option<Wait> {
    let start = out.len();
    let limit = server.reply_limit(config, &client.shared, start);
    // CLIENT PAUSE: nothing expires, what has is hidden.
    let paused = server.state.pause.is_set() && keyspace.expire_mode == ExpireMode::Delete;
    if paused {
        keyspace.expire_mode = ExpireMode::Hide;
    }
    let db = Db::new(
        &mut *keyspace,
        server,
        &mut scratch.effect,
        client.db,
        now_us / 1000,
    );
    let reply = Reply::new(out, client.resp3).limited(limit.bytes);
    let mut ctx = Context {
        server,
        config,
        db,
        client,
        reply,
    };
    let wait = match call_at(&mut ctx, spec, args, now_us) {
        Ok(()) => None,
        Err(CommandError::Cold(db, key)) => Some(Wait::Load(vec![(db, key)])),
        Err(CommandError::Busy) => Some(Wait::Snapshot),
        Err(other) => {
            server.stats.error(&other);
            ctx.reply.error(&other.resp());
            None
        }
    };
    let over = ctx.reply.is_over();
    if paused {
        keyspace.expire_mode = ExpireMode::Delete;
    }
    if wait.is_some() || over {
        out.truncate(start);
    }
    if over && wait.is_none() {
        refuse_reply(server, client, limit, out);
    }
    wait
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
    if spec.has(flag::READONLY) && !again && ctx.db.keyspace().tracking.remembers() {
        remember_keys(ctx, spec, args);
    }
    if ctx.client.block.is_none() && !again {
        let duration_us = crate::clock::unix_us().saturating_sub(start_us).max(0) as u64;
        account(ctx, spec, args, duration_us, result.is_err());
    }
    result
}

/// The caller may keep what it has read. A script's commands count, not the script.
fn remember_keys(ctx: &mut Context<'_>, spec: &'static Spec, args: &Args<'_>) {
    if matches!(spec.name, "eval_ro" | "evalsha_ro" | "fcall_ro") || spec.has(flag::PUBSUB) {
        return;
    }
    let tracking = &mut ctx.db.keyspace().tracking;
    spec.keys.visit(args, |at| tracking.remember(args.at(at)));
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
