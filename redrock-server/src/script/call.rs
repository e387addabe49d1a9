//! `redis.call` and `redis.pcall`: a command of a script.
//!
//! The order of the checks is that of Redis's `scriptCall`. A command of an *unseen* script (see
//! [`super`]) that needs what is not in memory stops the script: what it needs is loaded outside the
//! locks, and the script runs again from its start. Later that is not possible any more: then cold
//! values are read under the locks.

use super::lua::{
    self, LUA_TNUMBER, LUA_TSTRING, lua_State, lua_error, lua_gettop, lua_settop, lua_tonumber,
    lua_type,
};
use super::run::{self, Run, Stop};
use super::{errors, from_reply};
use crate::acl;
use crate::command::args::Args;
use crate::command::dispatch::{self, Wait};
use crate::command::error::CommandError;
use crate::command::reply::Reply;
use crate::command::table::{KeySpec, Spec, flag};
use crate::command::{Context, registry, residency};
use smallvec::SmallVec;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

pub(super) const NO_ARGUMENT: &[u8] =
    b"ERR Please specify at least one argument for this redis lib call";
pub(super) const WRONG_ARGUMENT: &[u8] =
    b"ERR Lua redis lib command arguments must be strings or integers";

/// An argument that was a number, as text.
pub(super) type NumberText = SmallVec<[u8; 32]>;

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    /// Its reply is in `run.reply`.
    Replied,
    /// It was refused, which has been counted; why is in `run.error`.
    Refused,
    /// It was no command; why is in `run.error`.
    Misused,
    /// The run must end: `run.stop`.
    Stopped,
}

/// `redis.call`
pub(super) unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    // SAFETY: a C function's own stack.
    unsafe { command(state, true) }
}

/// `redis.pcall`
pub(super) unsafe extern "C-unwind" fn protected_call(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe { command(state, false) }
}

unsafe fn command(state: *mut lua_State, raises: bool) -> c_int {
    let Some(run) = run::current() else {
        // SAFETY: nothing here needs dropping.
        unsafe {
            lua::raise(
                state,
                b"ERR redis.call/pcall can only be called inside a script invocation",
            )
        };
    };
    // SAFETY: `execute` is over before anything may raise; `run` outlives Lua.
    unsafe {
        run::raise_if_stopped(state, run);
        let called = execute(state, run);
        lua_settop(state, 0);
        let failed = match called {
            Called::Replied => {
                let failed = run.reply.first() == Some(&b'-');
                from_reply::push(state, &run.reply);
                if run.reply.capacity() > REPLY_BYTES_KEPT {
                    run.reply = Vec::new();
                }
                failed
            }
            Called::Misused => {
                lua::push_error(state, &run.error);
                true
            }
            Called::Refused => {
                lua::push_error(state, &run.error);
                lua::lua_pushboolean(state, 1);
                lua::lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
                true
            }
            Called::Stopped => {
                run::raise_if_stopped(state, run);
                return 0;
            }
        };
        if failed && raises {
            lua_error(state);
        }
        1
    }
}

/// A buffer for replies that grew larger is given back.
const REPLY_BYTES_KEPT: usize = 64 << 10;

/// The arguments on Lua's stack, as they are: nothing is converted there. `None` if one is neither a
/// string nor a number.
pub(super) unsafe fn arguments(
    state: *mut lua_State,
    numbers: &mut SmallVec<[NumberText; 4]>,
) -> Option<SmallVec<[&[u8]; 8]>> {
    let mut argv = SmallVec::new();
    // SAFETY: indexes up to the top; strings live as long as they are on the stack.
    unsafe {
        let count = lua_gettop(state);
        for at in 1..=count {
            if lua_type(state, at) == LUA_TNUMBER {
                numbers.push(number_text(lua_tonumber(state, at)));
            }
        }
        let mut numbers = numbers.iter();
        for at in 1..=count {
            argv.push(match lua_type(state, at) {
                LUA_TNUMBER => numbers.next()?.as_slice(),
                LUA_TSTRING => lua::bytes(state, at)?,
                _ => return None,
            });
        }
    }
    Some(argv)
}

/// A number as an argument: an integer where it is one.
fn number_text(number: f64) -> NumberText {
    let integer = number as i64;
    if integer as f64 == number && integer.unsigned_abs() < 1 << 62 {
        NumberText::from_slice(itoa::Buffer::new().format(integer).as_bytes())
    } else {
        NumberText::from_slice(crate::value::number::double_text(number).as_bytes())
    }
}

/// Reads the arguments and runs the command. Raises nothing.
unsafe fn execute(state: *mut lua_State, run: &mut Run) -> Called {
    let mut numbers = SmallVec::new();
    // SAFETY: the caller's stack is not touched before the arguments are done with.
    let argv = unsafe { arguments(state, &mut numbers) };
    let argv = match argv {
        Some(argv) if argv.is_empty() => {
            return usage(run, NO_ARGUMENT);
        }
        Some(argv) => argv,
        None => {
            return usage(run, WRONG_ARGUMENT);
        }
    };
    // A panic must not unwind through Lua.
    let called = catch_unwind(AssertUnwindSafe(|| run_command(run, &argv)));
    let stop = match called {
        Ok(Ok(called)) => return called,
        Ok(Err(stop)) => stop,
        Err(panic) => Stop::Panic(panic),
    };
    run.stop(state, stop);
    Called::Stopped
}

/// A call that is no command: as in Redis the error is not counted here.
fn usage(run: &mut Run, text: &[u8]) -> Called {
    run.error = text.to_vec();
    Called::Misused
}

fn refuse(run: &mut Run, spec: Option<&Spec>, error: CommandError) -> Called {
    let stats = &run.context().server.stats;
    stats.error(&error);
    if let Some(spec) = spec {
        stats.refused(spec);
    }
    run.error = error.resp().into_owned();
    Called::Refused
}

/// All that can refuse a command of a script; `None` if nothing does.
fn refusal(run: &mut Run, spec: &'static Spec, args: &Args<'_>) -> Option<CommandError> {
    let context = run.context();
    let server = context.server;
    if !spec.arity_ok(args.len()) {
        return Some(CommandError::fixed(
            "ERR Wrong number of args calling Redis command from script",
        ));
    }
    if spec.has(flag::NOSCRIPT) && !server.scripting.may_run_all.load(Ordering::Relaxed) {
        return Some(CommandError::fixed(
            "ERR This Redis command is not allowed from script",
        ));
    }
    if server.is_stale() && !spec.has(flag::STALE) && !context.client.obeyed {
        return Some(CommandError::fixed(
            "ERR Can not execute the command on a stale replica",
        ));
    }
    let context_of_log = acl::log::Context::Lua;
    let (config, client) = (context.config, &*context.client);
    if let Some(denial) = acl::check::denial(server, config, client, spec, args, context_of_log) {
        // Who reads ACL LOG sees it.
        run.is_seen = true;
        let text = denial.text(client.account.name(), spec, args, false);
        let text = [b"ERR ACL failure in script: ", text.as_slice()].concat();
        return Some(CommandError::Bytes(text));
    }
    let writes = spec.has(flag::WRITE);
    if run.allowed.read_only && (writes || spec.has(flag::MAY_REPLICATE)) {
        return Some(CommandError::fixed(
            "ERR Write commands are not allowed from read-only scripts.",
        ));
    }
    if writes && !run.has_written && !client.obeyed {
        let read_only = server.is_read_only().then_some(CommandError::fixed(
            "READONLY You can't write against a read only replica.",
        ));
        if let Some(error) = read_only.or_else(|| server.gate(spec).err()) {
            return Some(error);
        }
    }
    let short = run.out_of_memory && !run.allowed.any_memory && !run.has_written;
    if short && spec.has(flag::DENYOOM) && !client.obeyed {
        return Some(CommandError::fixed(
            "OOM command not allowed when used memory > 'maxmemory'.",
        ));
    }
    None
}

/// Runs a command in the script's context; `Err`: the run must end.
fn run_command(run: &mut Run, argv: &[&[u8]]) -> Result<Called, Stop> {
    let args = Args::new(argv);
    let Ok(spec) = registry::resolve(&args) else {
        let error = CommandError::fixed("ERR Unknown Redis command called from script");
        return Ok(refuse(run, None, error));
    };
    if let Some(error) = refusal(run, spec, &args) {
        return Ok(refuse(run, Some(spec), error));
    }
    if !run.is_seen {
        what_is_missing(run, spec, &args)?;
    } else if let Some(error) = finds_no_room(run, spec, &args) {
        return Ok(refuse(run, Some(spec), error));
    }
    if spec.has(flag::WRITE) {
        run.note_written();
    }
    let result = in_context(run, spec, &args);
    match result {
        Err(CommandError::Cold(db, key)) => {
            run.has_written = false;
            return Err(Stop::Wait(Wait::Load(vec![(db, key)])));
        }
        Err(CommandError::Busy) => {
            run.has_written = false;
            return Err(Stop::Wait(Wait::Snapshot));
        }
        Err(error) => {
            run.context().server.stats.error(&error);
            run.reply.clear();
            Reply::new(&mut run.reply, run.resp3).error(errors::trimmed(&error.resp()));
        }
        Ok(()) => {}
    }
    if spec.has(flag::WRITE | flag::MAY_REPLICATE) {
        run.is_seen = true;
    }
    Ok(Called::Replied)
}

/// What a command of a script is charged for its arguments.
fn charge(args: &Args<'_>) -> u64 {
    64 + args.all().iter().map(|arg| arg.len() as u64).sum::<u64>()
}

/// A script that has been seen can't wait outside the locks: what it has written moves to disk while
/// it has the lock. An error if that makes no room.
fn finds_no_room(run: &mut Run, spec: &'static Spec, args: &Args<'_>) -> Option<CommandError> {
    if !spec.has(flag::WRITE) {
        return None;
    }
    let any_memory = run.allowed.any_memory;
    let context = run.context();
    let server = context.server;
    server
        .log
        .relieve_effect(context.db.effect, &context.config.dir);
    server.await_tier(context.db.keyspace());
    if !spec.has(flag::DENYOOM) || server.memory.admit(charge(args)) {
        return None;
    }
    let found = server.relieve(context.db.keyspace());
    let may_fail = !any_memory && !context.client.obeyed;
    (!found && may_fail).then_some(CommandError::fixed(
        "OOM command not allowed when used memory > 'maxmemory'.",
    ))
}

/// Stops an unseen script for what its next command needs.
fn what_is_missing(run: &Run, spec: &'static Spec, args: &Args<'_>) -> Result<(), Stop> {
    let context = run.context();
    if spec.has(flag::WRITE) && context.server.memory.tier_is_behind() {
        return Err(Stop::Wait(Wait::Tier));
    }
    if spec.has(flag::DENYOOM) {
        let charge = charge(args);
        if !context.server.memory.admit(charge) && !context.client.obeyed {
            return Err(Stop::Wait(Wait::Memory));
        }
    }
    let keyspace = context.db.keyspace();
    if spec.has(flag::WRITE)
        && let Some(snapshot) = &keyspace.snapshot
        && !snapshot.has_room()
    {
        snapshot.note_waiting_writer();
        return Err(Stop::Wait(Wait::Snapshot));
    }
    let missing = residency::missing_of(keyspace, run.db, spec, args);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Stop::Wait(Wait::Load(missing)))
    }
}

/// Runs the command's function on the script's database, with the reply into `run.reply`.
fn in_context(run: &mut Run, spec: &'static Spec, args: &Args<'_>) -> Result<(), CommandError> {
    let outer = run.context();
    run.reply.clear();
    let mark = outer.db.effect.mark();
    let mut db = outer.db.other(run.db);
    // What no record tells the keys of reads them where it stands.
    db.blocking_reads = run.is_seen || matches!(spec.keys, KeySpec::None);
    let client = &mut *outer.client;
    (client.db, client.resp3) = (run.db, run.resp3);
    let mut context = Context {
        server: outer.server,
        config: outer.config,
        db,
        client,
        reply: Reply::new(&mut run.reply, run.resp3),
    };
    let result = dispatch::call(&mut context, spec, args);
    run.db = context.client.db;
    let late = context.client.deferred.take().is_some();
    context.client.block = None;
    if !run.is_logged {
        outer.db.effect.forget_since(mark);
    }
    if late {
        // Its reply is made outside the locks.
        return Err(CommandError::fixed(
            "ERR This Redis command is not allowed from script",
        ));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::number_text;

    #[test]
    fn numbers_are_written_as_integers_where_they_are_some() {
        for (number, text) in [
            (3.0, "3"),
            (-0.0, "0"),
            (1e15, "1000000000000000"),
            (0.1, "0.1"),
            (1e300, "1e+300"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number_text(number).as_slice(), text.as_bytes());
        }
    }
}
