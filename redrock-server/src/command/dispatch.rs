//! From a parsed request to its reply: checks, residency, execution, propagation.
//!
//! The order of the checks is that of Redis's `processCommand`. Execution is one lock hold:
//! the command, the blocked clients that it makes ready, and the append of all effects to the
//! log, so that log order is serialization order.

mod after;
mod call;
mod checks;
mod resident;
mod scratch;
pub mod scripts;

use super::args::Args;
use super::cross_protocol;
use super::error::CommandError;
use super::reply::Reply;
use super::table::{Spec, flag};
use super::{Context, registry};
use crate::config::Config;
use crate::keyspace::db::Db;
use crate::keyspace::tiering::one_read::{OneRead, PoolRead};
use crate::keyspace::{ExpireMode, Keyspace};
use crate::net::client::{Client, OwnedCommand, ReplyMode};
use crate::server::Server;
use after::settle;
pub use call::call;
use call::call_at;
use checks::{
    check, is_paused, memory_charge, queue, refuse_reply, reply_queued, waits_for_memory,
};
pub use scratch::Scratch;
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
    /// Its script runs for too long: it is paused on this thread and has the client with it;
    /// [`scripts::resume`] goes on.
    Running,
}

/// What a command waits for before it can run.
#[derive(Debug)]
pub enum Wait {
    /// Nothing: run it again at once.
    Nothing,
    /// These keys (database, key) must be read from disk.
    Load(Vec<(usize, Vec<u8>)>),
    /// The key that it reads is being read, for it alone; see [`execute_with`].
    Read(PoolRead),
    /// Memory: values must leave first.
    Memory,
    /// The tier's queue: it is far behind.
    Tier,
    /// So long: memory grows faster than the tier takes values.
    Pace(std::time::Duration),
    /// A snapshot's buffer of old values is full, or a large value is being copied.
    Snapshot,
    /// The end of CLIENT PAUSE.
    Unpaused,
    /// The end of SAVE.
    Released,
    /// The end of a busy script.
    Script,
    /// A key is on its way to another server (MIGRATE).
    Latched(tokio::sync::watch::Receiver<u64>),
}

/// A reply that is made outside the locks while its client waits: complete RESP.
pub struct Deferred(pub Pin<Box<dyn Future<Output = Vec<u8>> + Send>>);

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

/// A request that has passed the checks, and what it runs with.
struct Request<'a> {
    server: &'a Server,
    config: &'a Arc<Config>,
    scratch: &'a mut Scratch,
    /// Its client. Goes if the command blocks.
    slot: &'a mut Option<Box<Client>>,
    spec: &'static Spec,
    /// What it is, what its script says of itself, and what it has queued.
    flags: u32,
    args: &'a Args<'a>,
    out: &'a mut Vec<u8>,
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
    settle(&outcome, client, argv, start, out);
    server.note_client(&client.shared);
    outcome
}

/// Runs a request again, with what was read for it.
pub fn execute_with(
    server: &Server,
    scratch: &mut Scratch,
    slot: &mut Option<Box<Client>>,
    argv: &[&[u8]],
    out: &mut Vec<u8>,
    read: Option<OneRead>,
) -> Outcome {
    scratch.read = read;
    let outcome = execute(server, scratch, slot, argv, out);
    // It was refused, or has to wait for something else.
    let left = scratch.read.take();
    left.into_iter().for_each(|read| read.give_up_later(server));
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
    let spec = match resolved {
        Ok(spec) => spec,
        Err(error) => {
            refuse(server, client, &args, is_exec, error, out);
            return Outcome::Done;
        }
    };
    // What a script says of itself takes the place of what its command is.
    let said = spec
        .has(flag::SCRIPT)
        .then(|| scripts::effective(server, spec, &args));
    let as_said = said.as_ref().unwrap_or(spec);
    let charge = memory_charge(argv);
    let checked = admit(server, &config, client, (spec, as_said), &args, charge);
    if let Err(error) = checked {
        server.stats.refused(spec);
        refuse(server, client, &args, is_exec, error, out);
        return Outcome::Done;
    }
    if server.held.load(Ordering::Acquire) {
        return Outcome::Retry(Wait::Released);
    }
    if server.state.pause.is_set() && is_paused(server, client, as_said) {
        return Outcome::Retry(Wait::Unpaused);
    }
    if queue(&config, client, spec, as_said.flags, argv) {
        reply_queued(server, &config, client, out);
        return Outcome::Done;
    }
    if server.scripting.is_busy() {
        return match scripts::run_beside(server, &config, client, spec, &args, out) {
            true => Outcome::Done,
            false => Outcome::Retry(Wait::Script),
        };
    }
    let request = Request {
        server,
        config: &config,
        flags: as_said.flags,
        scratch,
        slot,
        spec,
        args: &args,
        out,
    };
    run(request, charge)
}

/// Runs a request that takes so many bytes, in a fiber if it may run a script.
fn run(mut request: Request<'_>, charge: u64) -> Outcome {
    let Request { server, spec, .. } = request;
    let Some(client) = request.slot.as_deref_mut() else {
        return Outcome::Done;
    };
    let queued = client.transaction.as_ref();
    let queued = queued.filter(|_| spec.name == "exec");
    request.flags |= queued.map_or(0, |transaction| transaction.flags);
    let charge = charge + queued.map_or(0, |transaction| transaction.bytes as u64);
    if let Some(wait) = waits_for_memory(server, client, request.flags, charge) {
        return Outcome::Retry(wait);
    }
    if !scripts::may_run(client, spec) {
        return run_unless_busy(request);
    }
    client.out_of_memory = server.is_out_of_memory(request.config);
    scripts::run(request)
}

/// Whether a command may run now: `specs` is what it is, and what it is as its script says.
fn admit(
    server: &Server,
    config: &Arc<Config>,
    client: &mut Client,
    (spec, as_said): (&'static Spec, &Spec),
    args: &Args<'_>,
    charge: u64,
) -> super::CommandResult {
    check(server, config, client, spec, as_said, args)?;
    if !spec.has(flag::ALLOW_BUSY)
        && let Some(error) = server.scripting.busy_error()
    {
        return Err(error);
    }
    if server.scripting.is_busy() {
        return Ok(());
    }
    server.make_room(config, client, as_said, charge)
}

/// Takes the keyspace and runs the command, unless a script has become busy meanwhile.
fn run_unless_busy(mut request: Request<'_>) -> Outcome {
    let server = request.server;
    let mut keyspace = match resident::take(&mut request) {
        Ok(keyspace) => keyspace,
        Err(outcome) => return outcome,
    };
    let outcome = run_locked(&mut request, &mut keyspace);
    let garbage = keyspace.garbage.take();
    let lent = keyspace.take_lent();
    drop(keyspace);
    drop(lent);
    server.scripting.wake_waiting();
    if !garbage.is_empty() {
        server.reclaimer.dispose(garbage);
    }
    outcome
}

/// What a command with these flags waits for, seen with the keyspace held.
pub(crate) fn waits_under_lock(server: &Server, keyspace: &Keyspace, flags: u32) -> Option<Wait> {
    // Once more: who holds clients back relies on nothing running any more.
    if server.held.load(Ordering::Relaxed) {
        return Some(Wait::Released);
    }
    if flags & flag::WRITE == 0 {
        return None;
    }
    if server.is_read_only() || server.lacks_log() {
        // The role has just changed, or the log was left; the gate says so the next time.
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
        abort_exec(server, client, args.all(), error)
    } else {
        error
    };
    if let Some(transaction) = &mut client.transaction {
        transaction.failed = true;
    }
    server.stats.error(&error);
    Reply::new(out, client.resp3).error(&error.resp());
}

fn run_locked(request: &mut Request<'_>, keyspace: &mut Keyspace) -> Outcome {
    let Request {
        server,
        config,
        scratch,
        slot,
        spec,
        args,
        out,
        ..
    } = request;
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
        after::take_back(server, &mut scratch.effect);
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
    let paused = server.state.pause.is_on() && keyspace.expire_mode == ExpireMode::Delete;
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
        Err(CommandError::Busy) => Some(ctx.client.wait.take().unwrap_or(Wait::Snapshot)),
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

/// What EXEC answers when it is refused before it runs: the transaction is over. As in Redis also
/// when there was none.
fn abort_exec(
    server: &Server,
    client: &mut Client,
    argv: &[&[u8]],
    error: CommandError,
) -> CommandError {
    client.transaction = None;
    client.watch_dirty.store(false, Ordering::Relaxed);
    server.unwatch(std::mem::take(&mut client.watched), client.shared.id);
    // MULTI was shown: now it is clear that the transaction is over.
    if !server.monitors.is_empty() {
        server.monitors.feed(server, client, client.db, argv);
    }
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
        abort_exec(server, client, argv, error)
    } else {
        error
    };
    server.stats.error(&error);
    error
}
