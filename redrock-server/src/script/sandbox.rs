//! What scripts see: the globals of Redis's sandbox, which no script can change.

use super::lua::{
    self, LUA_GLOBALSINDEX, LUA_REGISTRYINDEX, LUA_TSTRING, LUA_TTABLE, lua_CFunction, lua_State,
    lua_checkstack, lua_createtable, lua_enablereadonlytable, lua_getfield, lua_getmetatable,
    lua_isreadonlytable, lua_next, lua_pop, lua_pushcfunction, lua_pushnil, lua_pushvalue,
    lua_rawset, lua_setfield, lua_setglobal, lua_setmetatable, lua_type,
};
use super::{api, call, errors, random};
use crate::command::error::CommandError;
use mlua::{Lua, LuaOptions, StdLib};
use std::ffi::CStr;

/// Globals that stay; all others are removed.
const GLOBALS: &[&[u8]] = &[
    b"string",
    b"cjson",
    b"bit",
    b"cmsgpack",
    b"math",
    b"table",
    b"struct",
    b"redis",
    b"xpcall",
    b"tostring",
    b"getfenv",
    b"setmetatable",
    b"next",
    b"assert",
    b"tonumber",
    b"rawequal",
    b"collectgarbage",
    b"getmetatable",
    b"rawset",
    b"pcall",
    b"coroutine",
    b"type",
    b"_G",
    b"select",
    b"unpack",
    b"gcinfo",
    b"pairs",
    b"rawget",
    b"loadstring",
    b"ipairs",
    b"_VERSION",
    b"setfenv",
    b"load",
    b"error",
    b"newproxy",
];

/// Where the error handler is kept, in the registry.
pub(super) const HANDLER: &CStr = c"redrock.handler";
/// Where the globals are kept: a script may give its state others.
pub(super) const REAL_GLOBALS: &CStr = c"redrock.globals";

/// `redis.` functions of scripts and functions alike.
const FUNCTIONS: &[(&CStr, lua_CFunction)] = &[
    (c"call", call::call),
    (c"pcall", call::protected_call),
    (c"setresp", api::setresp),
    (c"sha1hex", api::sha1hex),
    (c"error_reply", api::error_reply),
    (c"status_reply", api::status_reply),
    (c"set_repl", api::set_repl),
    (c"acl_check_cmd", api::acl_check),
];

/// Those of scripts only.
const SCRIPT_FUNCTIONS: &[(&CStr, lua_CFunction)] = &[
    (c"breakpoint", api::breakpoint),
    (c"debug", api::debug),
    (c"replicate_commands", api::replicate_commands),
];

const NUMBERS: &[(&CStr, f64)] = &[
    (c"REPL_NONE", 0.0),
    (c"REPL_AOF", api::TO_LOG),
    (c"REPL_SLAVE", api::TO_REPLICAS),
    (c"REPL_REPLICA", api::TO_REPLICAS),
    (c"REPL_ALL", api::TO_LOG + api::TO_REPLICAS),
];

/// What `redis` has of log and version also while a library is loaded.
const LOG_NUMBERS: &[(&CStr, f64)] = &[
    (c"LOG_DEBUG", 0.0),
    (c"LOG_VERBOSE", 1.0),
    (c"LOG_NOTICE", 2.0),
    (c"LOG_WARNING", 3.0),
    (c"REDIS_VERSION_NUM", api::VERSION_NUMBER),
];

/// A Lua state for scripts (`true`) or functions, not protected yet.
pub(super) fn open(for_scripts: bool) -> Result<(Lua, *mut lua_State), CommandError> {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
    let options = LuaOptions::new().catch_rust_panics(false);
    let lua = Lua::new_with(libraries, options).map_err(failed)?;
    redrock_lua_libs::open(&lua).map_err(failed)?;
    let mut state = std::ptr::null_mut();
    // SAFETY: the closure owns nothing and calls only functions of this module, which own nothing.
    unsafe {
        lua.exec_raw::<()>((), |main| {
            state = main;
            add_globals(main, for_scripts);
        })
        .map_err(failed)?;
    }
    Ok((lua, state))
}

fn failed(error: mlua::Error) -> CommandError {
    CommandError::text(format!("ERR Lua can't be started: {error}"))
}

/// The state that EVAL uses.
pub(super) fn for_scripts() -> Result<(Lua, *mut lua_State), CommandError> {
    let (lua, state) = open(true)?;
    // SAFETY: as above.
    unsafe {
        lua.exec_raw::<()>((), |main| {
            lua_pushvalue(main, LUA_GLOBALSINDEX);
            refuse_unknown(main);
            protect(main);
            lua_setfield(main, LUA_REGISTRYINDEX, REAL_GLOBALS.as_ptr());
        })
        .map_err(failed)?;
    }
    Ok((lua, state))
}

/// How much a step of Lua's garbage collector does for each byte that was asked for, percent. With
/// Lua's 200 a cycle takes some hundred allocations, however large: strings of 100 KB came to dozens
/// of megabytes of garbage, which a bounded state hasn't got.
const COLLECTOR_SPEED_PERCENT: std::ffi::c_int = 2000;

unsafe fn add_globals(state: *mut lua_State, for_scripts: bool) {
    // SAFETY: the caller runs in protected mode and owns nothing.
    unsafe {
        mlua::ffi::lua_gc(state, mlua::ffi::LUA_GCSETSTEPMUL, COLLECTOR_SPEED_PERCENT);
        lua_createtable(state, 0, 32);
        for (name, function) in FUNCTIONS {
            lua::set_function(state, name, *function);
        }
        for (name, function) in SCRIPT_FUNCTIONS.iter().filter(|_| for_scripts) {
            lua::set_function(state, name, *function);
        }
        for (name, number) in NUMBERS {
            lua::set_number(state, name, *number);
        }
        add_log(state);
        lua_setglobal(state, c"redis".as_ptr());
        lua_pushcfunction(state, api::pcall);
        lua_setglobal(state, c"pcall".as_ptr());
        lua_getfield(state, LUA_GLOBALSINDEX, c"math".as_ptr());
        lua::set_function(state, c"random", random::random);
        lua::set_function(state, c"randomseed", random::random_seed);
        lua_pop(state, 1);
        errors::push_handler(state);
        lua_setfield(state, LUA_REGISTRYINDEX, HANDLER.as_ptr());
        remove_unknown(state);
        if for_scripts {
            lua_getfield(state, LUA_REGISTRYINDEX, HANDLER.as_ptr());
            lua_setglobal(state, c"__redis__err__handler".as_ptr());
        }
    }
}

/// Adds `log`, its levels, and the version to the table on top.
pub(super) unsafe fn add_log(state: *mut lua_State) {
    // SAFETY: as `add_globals`.
    unsafe {
        lua::set_function(state, c"log", api::log);
        for (name, number) in LOG_NUMBERS {
            lua::set_number(state, name, *number);
        }
        lua::set_text(state, c"REDIS_VERSION", crate::REDIS_VERSION.as_bytes());
    }
}

unsafe fn remove_unknown(state: *mut lua_State) {
    // SAFETY: as `add_globals`; clearing a field while going through a table is allowed.
    unsafe {
        lua_pushnil(state);
        while lua_next(state, LUA_GLOBALSINDEX) != 0 {
            lua_pop(state, 1);
            let known = lua_type(state, -1) == LUA_TSTRING
                && lua::bytes(state, -1).is_some_and(|name| GLOBALS.contains(&name));
            if !known {
                lua_pushvalue(state, -1);
                lua_pushnil(state);
                lua_rawset(state, LUA_GLOBALSINDEX);
            }
        }
    }
}

/// Gives the table on top a metatable that refuses names which it lacks.
pub(super) unsafe fn refuse_unknown(state: *mut lua_State) {
    // SAFETY: as `add_globals`.
    unsafe {
        lua_createtable(state, 0, 1);
        lua::set_function(state, c"__index", api::missing_global);
        lua_setmetatable(state, -2);
    }
}

/// Makes the table on top read-only, and all tables that can be reached from it.
pub(super) unsafe fn protect(state: *mut lua_State) {
    // SAFETY: as `add_globals`; a read-only table is not entered again, so that this ends.
    unsafe {
        if lua_isreadonlytable(state, -1) != 0 {
            return;
        }
        lua_enablereadonlytable(state, -1, 1);
        lua_checkstack(state, 4);
        lua_pushnil(state);
        while lua_next(state, -2) != 0 {
            if lua_type(state, -1) == LUA_TTABLE {
                protect(state);
            }
            lua_pop(state, 1);
        }
        if lua_getmetatable(state, -1) != 0 {
            protect(state);
            lua_pop(state, 1);
        }
        // All strings share one.
        lua::push_bytes(state, b"");
        if lua_getmetatable(state, -1) != 0 {
            protect(state);
            lua_pop(state, 1);
        }
        lua_pop(state, 1);
    }
}
