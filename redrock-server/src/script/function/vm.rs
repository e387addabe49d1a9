//! The Lua state that functions live in, and loading a library there.

use super::library::{Libraries, Library};
use super::metadata;
use super::register::{self, Loading};
use crate::command::error::{CommandError, CommandResult};
use crate::command::{Args, Context};
use crate::config::Config;
use crate::script::engine::{Call, Engine, Job, Vm, run_job};
use crate::script::lua::{
    self, LUA_GLOBALSINDEX, LUA_REGISTRYINDEX, lua_State, lua_createtable, lua_enablereadonlytable,
    lua_getfield, lua_getmetatable, lua_pcall, lua_pop, lua_pushvalue, lua_rawgeti, lua_replace,
    lua_setfield, lua_setmetatable, luaL_unref,
};
use crate::script::run::Run;
use crate::script::{errors, prepare, sandbox};
use bytes::Bytes;
use std::ffi::{CStr, c_int};
use std::time::{Duration, Instant};

const INSTRUCTIONS_PER_LOOK: c_int = 100_000;

/// What functions see, and what libraries see while they are loaded.
const GLOBALS: &CStr = c"redrock.functions";
const LOAD_GLOBALS: &CStr = c"redrock.loading";

/// The state, with its globals behind an empty table whose metatable is all that changes.
fn open() -> Result<Vm, CommandError> {
    let (lua, main) = sandbox::open(false)?;
    let vm = Vm::new((lua, main));
    // SAFETY: the closure owns nothing, and neither does what it calls.
    unsafe { lua::protected(main, &mut |state: *mut lua_State| set_up(state)) }
        .map_err(|text| CommandError::Bytes([b"ERR Lua can't be started: ", &text[..]].concat()))?;
    Ok(vm)
}

unsafe fn set_up(state: *mut lua_State) {
    // SAFETY: in protected mode, with room on the stack.
    unsafe {
        lua_createtable(state, 0, 1);
        lua_createtable(state, 0, 8);
        lua::set_function(state, c"register_function", register::register_function);
        sandbox::add_log(state);
        sandbox::refuse_unknown(state);
        lua_setfield(state, -2, c"redis".as_ptr());
        sandbox::refuse_unknown(state);
        sandbox::protect(state);
        lua_setfield(state, LUA_REGISTRYINDEX, LOAD_GLOBALS.as_ptr());
        lua_pushvalue(state, LUA_GLOBALSINDEX);
        sandbox::refuse_unknown(state);
        sandbox::protect(state);
        lua_setfield(state, LUA_REGISTRYINDEX, GLOBALS.as_ptr());
        lua_createtable(state, 0, 0);
        lua_createtable(state, 0, 1);
        lua_pushvalue(state, LUA_GLOBALSINDEX);
        lua_setfield(state, -2, c"__index".as_ptr());
        lua_enablereadonlytable(state, -1, 1);
        lua_setmetatable(state, -2);
        lua_enablereadonlytable(state, -1, 1);
        lua_pushvalue(state, -1);
        lua_setfield(state, LUA_REGISTRYINDEX, sandbox::REAL_GLOBALS.as_ptr());
        lua_replace(state, LUA_GLOBALSINDEX);
    }
}

/// Lets code see what is in the registry under this name.
unsafe fn show(state: *mut lua_State, name: &CStr) {
    // SAFETY: as `set_up`.
    unsafe {
        lua_getfield(state, LUA_REGISTRYINDEX, sandbox::REAL_GLOBALS.as_ptr());
        lua_pushvalue(state, -1);
        lua_replace(state, LUA_GLOBALSINDEX);
        lua_getmetatable(state, -1);
        lua_enablereadonlytable(state, -1, 0);
        lua_getfield(state, LUA_REGISTRYINDEX, name.as_ptr());
        lua_setfield(state, -2, c"__index".as_ptr());
        lua_enablereadonlytable(state, -1, 1);
        lua_pop(state, 2);
    }
}

/// Forgets the functions of libraries that are gone.
pub(super) fn forget<'a>(vm: Option<&Vm>, gone: impl Iterator<Item = &'a Library>) {
    let Some(vm) = vm else {
        return;
    };
    for function in gone.flat_map(|library| &library.functions) {
        // SAFETY: the engine is ours. A slot of the registry becomes free, which takes no memory.
        unsafe { luaL_unref(vm.main, LUA_REGISTRYINDEX, function.reference) };
    }
}

fn compile_error(text: &[u8]) -> CommandError {
    let text = errors::trimmed(text);
    CommandError::Bytes([b"ERR Error compiling function: ", text].concat())
}

/// Libraries in a Lua state of their own: those of a data set that is being loaded.
#[derive(Default)]
pub struct Staged {
    pub(super) vm: Option<Vm>,
    /// What is known of them.
    pub libraries: Libraries,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged")
            .field("libraries", &self.libraries)
            .finish_non_exhaustive()
    }
}

impl Staged {
    /// Loads a library, whose code may take its time.
    pub fn add(&mut self, config: &Config, source: &[u8], replace: bool) -> CommandResult {
        let vm = &mut self.vm;
        let library = load_library(vm, &self.libraries, config, source, replace, None)?;
        if let Some(old) = self.libraries.add(library)? {
            forget(self.vm.as_ref(), std::iter::once(&old));
        }
        Ok(())
    }
}

/// Loads a library into a state beside those in `present`, without adding it there. `wait`: how long
/// its code may run.
pub(super) fn load_library(
    vm: &mut Option<Vm>,
    present: &Libraries,
    config: &Config,
    source: &[u8],
    replace: bool,
    wait: Option<Duration>,
) -> CommandResult<Library> {
    let metadata = metadata::parse(source)?;
    if !replace && present.get(&metadata.name).is_some() {
        let text = [b"ERR Library '", &metadata.name[..], b"' already exists"].concat();
        return Err(CommandError::Bytes(text));
    }
    let vm = match vm {
        Some(vm) => vm,
        None => vm.insert(open()?),
    };
    vm.limit(config);
    let mut loading = Loading {
        functions: Vec::new(),
        deadline: wait.map(|wait| Instant::now() + wait),
    };
    let code = source.get(metadata.first_line_bytes..).unwrap_or_default();
    let loaded = register::during(&mut loading, || run_code(vm.main, code));
    let library = Library {
        name: metadata.name,
        source: Bytes::copy_from_slice(source),
        functions: loading.functions,
    };
    let checked = match library.functions.is_empty() {
        _ if loaded.is_err() => loaded,
        true => Err(CommandError::fixed("ERR No functions registered")),
        false => present.check(&library),
    };
    match checked {
        Ok(()) => Ok(library),
        Err(error) => {
            forget(Some(vm), std::iter::once(&library));
            Err(error)
        }
    }
}

impl Engine {
    /// Runs a function and writes its reply.
    pub fn run_function(
        &mut self,
        context: &mut Context<'_>,
        all: &Args<'_>,
        reference: c_int,
        call: Call<'_>,
    ) -> CommandResult {
        prepare::check(context, call.flags, call.read_only)?;
        let Some(vm) = &mut self.functions else {
            return Err(super::NOT_FOUND);
        };
        vm.limit(context.config);
        let main = vm.main;
        let before = self.random;
        let mut run = Run::new(context, all, &mut self.random, main, false, call.name);
        prepare::allow(&mut run, call.flags, call.read_only);
        let job = Job {
            function: reference,
            keys: call.keys,
            args: call.args,
            as_globals: false,
        };
        let result = run_job(context, main, &mut run, &job);
        if context.client.wait.is_some() {
            self.random = before;
        }
        if let Some(vm) = &mut self.functions {
            vm.collect();
        }
        context.server.scripting.count_function_bytes(self);
        result
    }

    /// Bytes of the state of functions.
    pub(super) fn function_bytes(&self) -> usize {
        self.functions.as_ref().map_or(0, Vm::memory_bytes)
    }
}

/// Compiles a library's code and runs it, so that it registers its functions.
fn run_code(main: *mut lua_State, code: &[u8]) -> CommandResult {
    let reference = crate::script::engine::load(main, code, c"@user_function")
        .map_err(|text| compile_error(&text))?;
    let mut failure: Option<Vec<u8>> = None;
    let mut work = |state: *mut lua_State| {
        // SAFETY: a C function's stack; the text of an error is kept outside of this frame.
        unsafe {
            lua::lua_settop(state, 0);
            show(state, LOAD_GLOBALS);
            lua::lua_sethook(
                state,
                Some(register::look),
                mlua::ffi::LUA_MASKCOUNT,
                INSTRUCTIONS_PER_LOOK,
            );
            lua_rawgeti(state, LUA_REGISTRYINDEX, reference.into());
            let failed = lua_pcall(state, 0, 0, 0) != 0;
            lua::lua_sethook(state, None, 0, 0);
            if failed {
                let text = match lua::lua_istable(state, -1) != 0 {
                    true => {
                        lua::push_bytes(state, b"err");
                        mlua::ffi::lua_rawget(state, -2);
                        lua::bytes(state, -1).unwrap_or(b"(null)")
                    }
                    false => lua::bytes(state, -1).unwrap_or(b"execution failure"),
                };
                let coded = match lua::lua_istable(state, 1) != 0 {
                    true => text.to_vec(),
                    false => [b"ERR ", text].concat(),
                };
                failure = Some(coded);
            }
            show(state, GLOBALS);
        }
    };
    // SAFETY: the work borrows all that it uses.
    let ended = unsafe { lua::protected(main, &mut work) };
    // SAFETY: the engine is ours.
    unsafe {
        lua::lua_sethook(main, None, 0, 0);
        luaL_unref(main, LUA_REGISTRYINDEX, reference);
    }
    let failure = failure.or(ended.err());
    match failure {
        None => Ok(()),
        Some(text) => {
            let text = errors::trimmed(&text);
            Err(CommandError::Bytes(
                [b"ERR Error registering functions: ", text].concat(),
            ))
        }
    }
}
