//! The Lua states and what was compiled in them.
//!
//! There is one state for scripts and one for functions, as in Redis, made when first used. Each may
//! use so much memory ([`bytes_max`]); what does not get any fails with Lua's `not enough memory`.

use super::cache::{CachedScript, ScriptDigest};
use super::flags::{self, Flags};
use super::lua::{
    self, LUA_GLOBALSINDEX, LUA_REGISTRYINDEX, lua_State, lua_createtable, lua_enablereadonlytable,
    lua_getfield, lua_insert, lua_pcall, lua_pushvalue, lua_rawgeti, lua_rawseti, lua_replace,
    lua_setfield, lua_settop,
};
use super::random::Random;
use super::run::{Run, Stop};
use super::{errors, prepare, sandbox, to_reply};
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::config::Config;
use hashbrown::HashMap;
use mlua::Lua;
use std::ffi::c_int;
use std::sync::atomic::Ordering;

/// Runs between two steps of Lua's garbage collector, and the size of the step, as in Redis.
const RUNS_PER_COLLECTION: u32 = 50;
const COLLECTION_STEP: c_int = 50;
/// Least memory that a state may use.
const STATE_BYTES_MIN: u64 = 32 << 20;

/// A state.
pub(super) struct Vm {
    lua: Lua,
    /// Its main thread. Lives as long as `lua`.
    pub(super) main: *mut lua_State,
    limit_bytes: u64,
    runs: u32,
}

/// See the module.
#[derive(Default)]
pub struct Engine {
    scripts: Option<Scripts>,
    pub(super) functions: Option<Vm>,
    pub(super) random: Random,
}

struct Scripts {
    vm: Vm,
    /// What was compiled of the cache, as references in the registry.
    compiled: HashMap<ScriptDigest, c_int>,
    /// The cache's generation that they belong to.
    generation: u64,
}

// SAFETY: a Lua state belongs to no thread. All of it, and all handles to it, are in here; who owns it
// has it to itself.
unsafe impl Send for Vm {}

// SAFETY: as above. All of it, and all handles to it, are in here; who uses it
// has the engine to itself (`Scripting::engine`).
unsafe impl Send for Engine {}

/// What one state may use, bytes: an eighth of `maxmemory`, of the machine's memory without one.
fn bytes_max(config: &Config) -> u64 {
    match config.memory.bytes_max {
        0 => crate::memory::stats::system_total() as u64 / 8,
        bound => (bound / 8).max(STATE_BYTES_MIN),
    }
}

impl Vm {
    pub(super) fn new((lua, main): (Lua, *mut lua_State)) -> Self {
        Self {
            lua,
            main,
            limit_bytes: 0,
            runs: 0,
        }
    }

    /// Bytes in use.
    pub(super) fn memory_bytes(&self) -> usize {
        self.lua.used_memory()
    }

    /// Limits the memory to what is allowed now.
    pub(super) fn limit(&mut self, config: &Config) {
        let limit = bytes_max(config);
        if limit != self.limit_bytes && self.lua.set_memory_limit(limit as usize).is_ok() {
            self.limit_bytes = limit;
        }
    }

    /// Collects a little garbage now and then, and all of it where that was much.
    pub(super) fn collect(&mut self) {
        self.runs += 1;
        let is_much = self.memory_bytes() as u64 > self.limit_bytes / 2;
        if self.runs >= RUNS_PER_COLLECTION || is_much {
            self.runs = 0;
            let how = match is_much {
                true => mlua::ffi::LUA_GCCOLLECT,
                false => mlua::ffi::LUA_GCSTEP,
            };
            let mut step = |state: *mut lua_State| {
                // SAFETY: a C function's stack.
                unsafe { mlua::ffi::lua_gc(state, how, COLLECTION_STEP) };
            };
            // SAFETY: the state is idle. Finalizers may fail, with which nobody is concerned.
            let _ = unsafe { lua::protected(self.main, &mut step) };
        }
    }
}

/// What to run, and with what.
pub struct Call<'a> {
    /// Digest, or name of the function.
    pub name: String,
    /// What it says of itself.
    pub flags: Flags,
    /// By a command that only reads.
    pub read_only: bool,
    /// Its keys.
    pub keys: &'a [&'a [u8]],
    /// Its other arguments.
    pub args: &'a [&'a [u8]],
}

impl Engine {
    /// Drops the state of scripts. `later`: its memory is freed by another thread.
    pub fn forget_scripts(&mut self, later: bool) {
        let vm = self.scripts.take().map(|scripts| scripts.vm);
        if later {
            super::function::free_later(vm);
        }
    }

    fn scripts(&mut self, context: &Context<'_>) -> Result<&mut Scripts, CommandError> {
        let generation = context.server.scripting.cache.generation();
        if self
            .scripts
            .as_ref()
            .is_none_or(|scripts| scripts.generation != generation)
        {
            self.scripts = Some(Scripts {
                vm: Vm::new(sandbox::for_scripts()?),
                compiled: HashMap::new(),
                generation,
            });
        }
        match &mut self.scripts {
            Some(scripts) => {
                scripts.vm.limit(context.config);
                Ok(scripts)
            }
            None => Err(CommandError::fixed("ERR Lua can't be started")),
        }
    }

    /// Compiles a script and puts it into the cache, if it is not there.
    pub fn load_script(
        &mut self,
        context: &Context<'_>,
        digest: &ScriptDigest,
        source: &[u8],
    ) -> CommandResult {
        let cache = &context.server.scripting.cache;
        if cache.contains(digest) {
            return Ok(());
        }
        let (flags, first_line_bytes) = flags::of_script(source)?;
        let script = CachedScript {
            source: source.into(),
            flags,
            first_line_bytes,
        };
        self.scripts(context)?.compile(digest, &script)?;
        cache.add(*digest, script);
        Ok(())
    }

    /// Runs a script of the cache and writes its reply.
    pub fn run_script(
        &mut self,
        context: &mut Context<'_>,
        all: &Args<'_>,
        digest: &ScriptDigest,
        script: &CachedScript,
        call: Call<'_>,
    ) -> CommandResult {
        prepare::check(context, call.flags, call.read_only)?;
        let scripts = self.scripts(context)?;
        let function = scripts.compile(digest, script)?;
        let main = scripts.vm.main;
        let before = self.random;
        let mut run = Run::new(context, all, &mut self.random, main, true, call.name);
        prepare::allow(&mut run, call.flags, call.read_only);
        let job = Job {
            function,
            keys: call.keys,
            args: call.args,
            as_globals: true,
        };
        let result = run_job(context, main, &mut run, &job);
        if context.client.wait.is_some() {
            // The same numbers again.
            self.random = before;
        }
        if let Some(scripts) = &mut self.scripts {
            scripts.vm.collect();
            let bytes = scripts.vm.memory_bytes();
            let [scripts, _] = &context.server.scripting.state_bytes;
            scripts.store(bytes, Ordering::Relaxed);
        }
        result
    }
}

impl Scripts {
    /// The compiled script, as a reference in the registry.
    fn compile(
        &mut self,
        digest: &ScriptDigest,
        script: &CachedScript,
    ) -> Result<c_int, CommandError> {
        if let Some(reference) = self.compiled.get(digest) {
            return Ok(*reference);
        }
        let code = script.source.get(script.first_line_bytes..);
        let code = code.unwrap_or_default();
        let reference = load(self.vm.main, code, c"@user_script").map_err(|text| {
            let text = errors::trimmed(&text);
            CommandError::Bytes([b"ERR Error compiling script (new function): ", text].concat())
        })?;
        self.compiled.insert(*digest, reference);
        Ok(reference)
    }
}

/// Compiles source text; the function's reference in the registry.
pub(super) fn load(
    main: *mut lua_State,
    source: &[u8],
    name: &std::ffi::CStr,
) -> Result<c_int, Vec<u8>> {
    let mut loaded = Ok(0);
    let mut work = |state: *mut lua_State| {
        // SAFETY: a C function's stack. The text of an error is kept outside of this frame.
        unsafe {
            loaded = lua::load(state, source, name).map(|()| 0);
            if let Ok(reference) = &mut loaded {
                *reference = lua::luaL_ref(state, LUA_REGISTRYINDEX);
            }
        }
    };
    // SAFETY: the engine is ours; the work borrows all that it uses.
    unsafe { lua::protected(main, &mut work)? };
    loaded
}

/// A function to call. Plain data.
pub(super) struct Job<'a> {
    pub(super) function: c_int,
    pub(super) keys: &'a [&'a [u8]],
    pub(super) args: &'a [&'a [u8]],
    /// Keys and arguments are the globals `KEYS` and `ARGV`, not arguments.
    pub(super) as_globals: bool,
}

/// Calls a function as a run, and writes its reply.
pub(super) fn run_job(
    context: &mut Context<'_>,
    main: *mut lua_State,
    run: &mut Run,
    job: &Job<'_>,
) -> CommandResult {
    let client_state = (context.client.db, context.client.resp3);
    let denied = std::mem::replace(&mut context.client.deny_blocking, true);
    context.client.in_script = true;
    let start = context.reply.len();
    let mut raised = false;
    let running: *mut Run = run;
    let work = || {
        // SAFETY: `enter` does not use the run while this runs. `execute` owns nothing.
        unsafe {
            lua::protected(main, &mut |state: *mut lua_State| {
                raised = execute(state, &mut *running, job);
            })
        }
    };
    let ended = run.enter(work);
    (context.client.db, context.client.resp3) = client_state;
    context.client.deny_blocking = denied;
    context.client.in_script = false;
    // Its commands have been propagated each by itself.
    context.propagate_nothing();
    if raised || ended.is_err() || run.stop.is_some() {
        context.reply.truncate(start);
    }
    if let Err(text) = ended {
        // Outside of the function: there was no memory for its arguments or for its reply.
        let name = run.name.as_bytes();
        run.error = [b"ERR Error running script ", name, b", ", text.as_slice()].concat();
        (raised, run.error_is_counted) = (true, false);
    }
    finish(context, run, raised)
}

/// The end of a run as the command's result.
fn finish(context: &mut Context<'_>, run: &mut Run, raised: bool) -> CommandResult {
    let restarts = std::mem::take(&mut context.client.script_restarts);
    match run.stop.take() {
        Some(Stop::Panic(panic)) => std::panic::resume_unwind(panic),
        Some(Stop::Wait(wait)) => {
            context.client.wait = Some(wait);
            context.client.script_restarts = restarts + 1;
            return Err(CommandError::Busy);
        }
        Some(Stop::Ending) => {
            // The server goes without it: nothing of it may be in the log.
            context.db.effect.clear();
            return Err(CommandError::fixed("ERR the server is shutting down"));
        }
        Some(Stop::Killed) | None => {}
    }
    if !raised {
        return Ok(());
    }
    let text = errors::trimmed(&run.error);
    if run.error_is_counted {
        context.reply.error(text);
        return Ok(());
    }
    Err(CommandError::Bytes(text.to_vec()))
}

/// Calls the function and writes its reply; true if it failed, with the text in `run.error`. May
/// raise.
unsafe fn execute(state: *mut lua_State, run: &mut Run, job: &Job<'_>) -> bool {
    // SAFETY: a C function's stack; nothing here needs dropping.
    unsafe {
        lua_settop(state, 0);
        // A script may have given its state or its own function other globals.
        lua_getfield(state, LUA_REGISTRYINDEX, sandbox::REAL_GLOBALS.as_ptr());
        lua_pushvalue(state, -1);
        lua_replace(state, LUA_GLOBALSINDEX);
        lua_getfield(state, LUA_REGISTRYINDEX, sandbox::HANDLER.as_ptr());
        lua_insert(state, 1);
        lua_rawgeti(state, LUA_REGISTRYINDEX, job.function.into());
        if job.as_globals {
            lua_pushvalue(state, 2);
            mlua::ffi::lua_setfenv(state, -2);
        }
        push_all(state, job.keys);
        if job.as_globals {
            set_global(state, c"KEYS");
        }
        push_all(state, job.args);
        if job.as_globals {
            set_global(state, c"ARGV");
        }
        let count = if job.as_globals { 0 } else { 2 };
        if lua_pcall(state, count, 1, 1) != 0 {
            errors::keep(state, run);
            return true;
        }
        let reply = &mut run.context().reply;
        to_reply::write(state, run, reply);
        lua_settop(state, 0);
        false
    }
}

unsafe fn push_all(state: *mut lua_State, texts: &[&[u8]]) {
    // SAFETY: as `execute`.
    unsafe {
        lua_createtable(state, c_int::try_from(texts.len()).unwrap_or(0), 0);
        for (i, text) in texts.iter().enumerate() {
            lua::push_bytes(state, text);
            lua_rawseti(state, -2, i as mlua::ffi::lua_Integer + 1);
        }
    }
}

/// Sets a global of the protected table below to what is on top.
unsafe fn set_global(state: *mut lua_State, name: &std::ffi::CStr) {
    // SAFETY: the globals are at index 2.
    unsafe {
        lua_enablereadonlytable(state, 2, 0);
        lua_setfield(state, 2, name.as_ptr());
        lua_enablereadonlytable(state, 2, 1);
    }
}
