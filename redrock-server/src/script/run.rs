//! One script's run: what the functions that Lua calls must know, and the hook that looks at the
//! clock.

use super::lua::{self, lua_Debug, lua_State};
use super::random::Random;
use super::{Busy, fiber};
use crate::command::dispatch::Wait;
use crate::command::{Args, Context};
use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// Instructions between two looks at the clock, as in Redis.
const INSTRUCTIONS_PER_LOOK: c_int = 100_000;
/// How often a script is run again for what it did not declare; then it reads that under the locks.
const RESTARTS_MAX: u32 = 8;
/// What a killed script fails with.
const KILLED: &[u8] = b"ERR Script killed by user with SCRIPT KILL...";

/// Why a run ends before the script does. No `pcall` catches that: each further instruction fails
/// again.
pub enum Stop {
    /// Something must be waited for outside the locks; then the script runs once more.
    Wait(Wait),
    /// SCRIPT KILL.
    Killed,
    /// The server ends.
    Ending,
    /// A command panicked.
    Panic(Box<dyn Any + Send>),
}

/// What a script is allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// No commands that write.
    pub read_only: bool,
    /// Commands that need memory, whatever is left.
    pub any_memory: bool,
}

/// See the module.
pub struct Run {
    /// The command that the script is. Used only by functions that Lua calls, one at a time, while
    /// the command itself waits for Lua.
    context: *mut Context<'static>,
    /// Its arguments.
    arguments: *const Args<'static>,
    random: *mut Random,
    /// The state that the script began in; coroutines have their own.
    main: *mut lua_State,
    /// The last inner command's reply.
    pub reply: Vec<u8>,
    /// The text of an error that is about to be raised or answered.
    pub error: Vec<u8>,
    /// The error was counted before.
    pub error_is_counted: bool,
    /// `redis.setresp(3)`
    pub resp3: bool,
    /// `redis.set_repl`: effects are logged.
    pub is_logged: bool,
    /// What it may do.
    pub allowed: Allowed,
    /// It has run a command that may write.
    pub has_written: bool,
    /// Somebody has seen something of it: it can't run again.
    pub is_seen: bool,
    /// Memory was short when it started.
    pub out_of_memory: bool,
    /// The database that it has selected.
    pub db: usize,
    /// Set once the run must end.
    pub stop: Option<Stop>,
    /// EVAL, not FCALL.
    pub is_eval: bool,
    /// Digest or name of the function.
    pub name: String,
    started: Instant,
    started_unix_us: i64,
    busy_after: Duration,
    is_busy: bool,
}

thread_local! {
    static CURRENT: Cell<*mut Run> = const { Cell::new(std::ptr::null_mut()) };
    static RANDOM: Cell<*mut Random> = const { Cell::new(std::ptr::null_mut()) };
}

/// The generator of the code that runs on this thread.
pub(super) fn random<'a>() -> Option<&'a mut Random> {
    // SAFETY: set for as long as code runs (`with_random`), and each use is one call long.
    unsafe { RANDOM.get().as_mut() }
}

/// When the script that runs on this thread was started, unix microseconds.
pub fn started_unix_us() -> Option<i64> {
    current().map(|run| run.started_unix_us)
}

/// The script that runs on this thread.
pub(super) fn current<'a>() -> Option<&'a mut Run> {
    // SAFETY: `Run::enter` sets it to a run that outlives the time during which it is set. Functions
    // that Lua calls do not nest while they hold the reference: none of them runs Lua code with it.
    unsafe { CURRENT.get().as_mut() }
}

impl Run {
    /// A run of the command in `context`.
    pub fn new(
        context: &mut Context<'_>,
        args: &Args<'_>,
        random: &mut Random,
        main: *mut lua_State,
        is_eval: bool,
        name: String,
    ) -> Self {
        let (db, busy_ms) = (context.db.index(), context.config.busy_ms);
        // What is running can't be stopped: in EXEC, or if MONITOR clients see each step.
        let is_seen = context.db.blocking_reads
            || !context.server.monitors.is_empty()
            || context.client.script_restarts >= RESTARTS_MAX;
        Self {
            is_seen,
            out_of_memory: context.client.out_of_memory,
            db,
            context: std::ptr::from_mut(context).cast(),
            arguments: std::ptr::from_ref(args).cast(),
            random,
            main,
            reply: Vec::new(),
            error: Vec::new(),
            error_is_counted: false,
            resp3: false,
            is_logged: true,
            allowed: Allowed::default(),
            has_written: false,
            stop: None,
            is_eval,
            name,
            started: Instant::now(),
            started_unix_us: crate::clock::unix_us(),
            busy_after: Duration::from_millis(busy_ms),
            is_busy: false,
        }
    }

    /// The command that the script is.
    pub(super) fn context<'a>(&self) -> &'a mut Context<'a> {
        // SAFETY: the context lives in the frame of the command, which waits for Lua and does not
        // touch it; see the field.
        unsafe { &mut *self.context.cast() }
    }

    fn arguments(&self) -> &[&[u8]] {
        // SAFETY: they live as long as the command, which waits for Lua.
        unsafe { (*self.arguments).all() }
    }

    /// Runs `work`, which runs Lua, as this run.
    pub fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let hooked = !self.busy_after.is_zero();
        let before = CURRENT.replace(self);
        let random = RANDOM.replace(self.random);
        if hooked {
            // SAFETY: the state is the engine's, which the caller holds.
            unsafe { lua::lua_sethook(self.main, Some(look), MASK_COUNT, INSTRUCTIONS_PER_LOOK) };
        }
        let result = work();
        // SAFETY: as above.
        unsafe { lua::lua_sethook(self.main, None, 0, 0) };
        CURRENT.set(before);
        RANDOM.set(random);
        if self.is_busy {
            let context = self.context();
            context.server.scripting.end_busy(context.db.keyspace());
        }
        result
    }

    /// Ends the run as soon as Lua executes anything more.
    pub(super) fn stop(&mut self, state: *mut lua_State, stop: Stop) {
        self.stop.get_or_insert(stop);
        for state in [state, self.main] {
            // SAFETY: both states are alive: one runs, the other waits for it.
            unsafe { lua::lua_sethook(state, Some(look), MASK_COUNT, 1) };
        }
    }

    /// It has run, or is about to run, a command that may write.
    pub(super) fn note_written(&mut self) {
        self.has_written = true;
        if self.is_busy {
            let written = &self.context().server.scripting.has_written;
            written.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// Looks at the clock; stands aside if the run takes too long. Why it must end, if it must.
    fn interrupt(&mut self) -> Option<Stop> {
        let elapsed = self.started.elapsed();
        if !self.is_busy && elapsed < self.busy_after {
            return None;
        }
        let context = self.context();
        let scripting = &context.server.scripting;
        if !self.is_busy {
            self.is_busy = true;
            let kill = if self.is_eval {
                "SCRIPT KILL"
            } else {
                "FUNCTION KILL"
            };
            tracing::warn!(
                "Slow script detected: still in execution after {} milliseconds. You can try \
                 killing the script using the {kill} command. Script name is: {}.",
                elapsed.as_millis(),
                self.name
            );
            let busy = Busy {
                is_eval: self.is_eval,
                name: self.name.clone(),
                command: self.arguments().iter().map(|arg| arg.to_vec()).collect(),
                since: self.started,
                obeyed: context.client.obeyed,
            };
            scripting.begin_busy(busy, self.has_written);
        }
        fiber::pause();
        if context.server.fate.is_stopping() {
            Some(Stop::Ending)
        } else if scripting.is_killed() {
            Some(Stop::Killed)
        } else {
            None
        }
    }
}

const MASK_COUNT: c_int = mlua::ffi::LUA_MASKCOUNT;

/// Lua's hook.
unsafe extern "C-unwind" fn look(state: *mut lua_State, _: *mut lua_Debug) {
    let Some(run) = current() else {
        return;
    };
    if run.stop.is_none() {
        let Some(stop) = run.interrupt() else {
            return;
        };
        if matches!(stop, Stop::Killed) {
            tracing::info!("Lua script killed by user with SCRIPT KILL.");
        }
        run.stop(state, stop);
    }
    // SAFETY: nothing here needs dropping; a hook has room on the stack.
    unsafe { lua::raise(state, KILLED) };
}

/// Fails again what is called after the run was stopped.
///
/// # Safety
/// As [`lua::raise`].
pub(super) unsafe fn raise_if_stopped(state: *mut lua_State, run: &Run) {
    if run.stop.is_some() {
        // SAFETY: as the caller grants.
        unsafe { lua::raise(state, KILLED) };
    }
}
