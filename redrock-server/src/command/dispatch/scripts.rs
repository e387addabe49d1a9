//! Commands that may run a script: they have a fiber of their own (see [`crate::script::fiber`]), and
//! while one of them is busy others get little more than an error.

use super::{Outcome, Request, Scratch, run_unless_busy};
use crate::command::Context;
use crate::command::args::Args;
use crate::command::effect::Effect;
use crate::command::reply::Reply;
use crate::command::table::{Spec, flag};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::keyspace::position::Positioner;
use crate::net::client::{Client, OwnedCommand};
use crate::script::cache::parse_digest;
use crate::script::fiber::{self, Finished, State};
use crate::script::flags;
use crate::server::Server;
use std::sync::Arc;

/// All that a command in a fiber works with: its own, since it may outlast its caller's frame.
pub struct Work {
    server: Arc<Server>,
    config: Arc<Config>,
    scratch: Scratch,
    slot: Option<Box<Client>>,
    spec: &'static Spec,
    flags: u32,
    command: OwnedCommand,
    out: Vec<u8>,
}

/// The record of a command as its script makes it.
pub(super) fn effective(server: &Server, spec: &'static Spec, args: &Args<'_>) -> Spec {
    let said = match spec.name {
        "eval" | "eval_ro" => flags::of_script(args.at(1)).ok().map(|(flags, _)| flags),
        "evalsha" | "evalsha_ro" => {
            parse_digest(args.at(1)).and_then(|digest| server.scripting.cache.flags(&digest))
        }
        "fcall" | "fcall_ro" => {
            let libraries = server.scripting.libraries.read();
            libraries.function(args.at(1)).map(|found| found.flags)
        }
        _ => None,
    };
    said.map_or(*spec, |flags| flags.apply(spec))
}

/// Whether a command, or one that EXEC runs, may run a script.
pub(super) fn may_run(client: &Client, spec: &Spec) -> bool {
    let queued = client
        .transaction
        .as_ref()
        .filter(|_| spec.name == "exec")
        .map_or(0, |transaction| transaction.flags);
    (spec.flags | queued) & flag::SCRIPT != 0
}

/// Runs a command in a fiber.
pub(super) fn run(request: Request<'_>) -> Outcome {
    let Ok(server) = request.server.handle() else {
        // A server without a handle has no connections: a test's.
        return run_unless_busy(request);
    };
    let Request {
        config,
        scratch,
        slot,
        spec,
        flags,
        args,
        out,
        ..
    } = request;
    let work = Box::new(Work {
        server,
        config: config.clone(),
        scratch: std::mem::take(scratch),
        slot: slot.take(),
        spec,
        flags,
        command: OwnedCommand::new(args.all()),
        out: Vec::new(),
    });
    match fiber::start(work, run_work) {
        Ok(State::Finished(finished)) => {
            let Finished { outcome, work } = *finished;
            *scratch = work.scratch;
            *slot = work.slot;
            append(out, work.out);
            outcome
        }
        Ok(State::Paused) => Outcome::Running,
        Err(work) => {
            *scratch = work.scratch;
            *slot = work.slot;
            Reply::new(out, false).error(b"ERR not enough memory for a script");
            Outcome::Done
        }
    }
}

fn run_work(work: &mut Work) -> Outcome {
    let argv = work.command.argv();
    run_unless_busy(Request {
        server: &work.server,
        config: &work.config,
        scratch: &mut work.scratch,
        slot: &mut work.slot,
        spec: work.spec,
        flags: work.flags,
        args: &Args::new(&argv),
        out: &mut work.out,
    })
}

fn append(out: &mut Vec<u8>, mut more: Vec<u8>) {
    if out.is_empty() {
        *out = more;
    } else {
        out.append(&mut more);
    }
}

/// The end of a command that was busy.
pub struct Ended {
    /// What became of it; a retry is to be done with `command`.
    pub outcome: Outcome,
    /// Its client, unless that waits for a key now.
    pub client: Option<Box<Client>>,
    /// Its reply.
    pub reply: Vec<u8>,
    /// Its words.
    pub command: OwnedCommand,
}

/// Goes on with the busy command of the calling thread; `None` if it is not at its end.
pub fn resume() -> Option<Ended> {
    let State::Finished(finished) = fiber::resume() else {
        return None;
    };
    let Finished { outcome, work } = *finished;
    let mut reply = work.out;
    let mut client = work.slot;
    if let Some(client) = &mut client {
        super::settle(&outcome, client, &work.command.argv(), 0, &mut reply);
    }
    Some(Ended {
        outcome,
        client,
        reply,
        command: work.command,
    })
}

/// Runs a command that may run while a script is busy: on an empty keyspace, because the real one is
/// the script's. False if it needs the real one.
pub(super) fn run_beside(
    server: &Server,
    config: &Config,
    client: &mut Client,
    spec: &'static Spec,
    args: &Args<'_>,
    out: &mut Vec<u8>,
) -> bool {
    if !client.watched.is_empty() || spec.name == "watch" {
        return false;
    }
    let mut keyspace = Keyspace::new(config.databases.max(1), Positioner::new((0, 0)));
    let mut effect = Effect::default();
    let now_ms = crate::clock::unix_ms();
    let db = Db::new(&mut keyspace, server, &mut effect, client.db, now_ms);
    let mut context = Context {
        server,
        config,
        db,
        reply: Reply::new(out, client.resp3),
        client,
    };
    if let Err(error) = super::call(&mut context, spec, args) {
        server.stats.error(&error);
        context.reply.error(&error.resp());
    }
    // SHUTDOWN's client waits for the end, which comes.
    context.client.block = None;
    true
}
