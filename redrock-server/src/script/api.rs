//! The functions of the global `redis` but for calls, and `pcall`.

use super::call;
use super::lua::{
    self, LUA_TNIL, LUA_TSTRING, lua_State, lua_createtable, lua_gettop, lua_insert, lua_isnumber,
    lua_istable, lua_pcall, lua_pushboolean, lua_pushvalue, lua_rawget, lua_remove, lua_replace,
    lua_setfield, lua_tonumber, lua_type,
};
use super::run;
use crate::acl;
use crate::command::registry;
use crate::config::LogLevel;
use smallvec::SmallVec;
use std::ffi::c_int;

/// `REDIS_VERSION_NUM` of [`crate::REDIS_VERSION`].
pub(super) const VERSION_NUMBER: f64 = 0x0007_0206 as f64;
/// `redis.set_repl`'s figures.
pub(super) const TO_LOG: f64 = 1.0;
pub(super) const TO_REPLICAS: f64 = 2.0;
const TO_ALL: i64 = 3;

/// `redis.log(level, ...)`
pub(super) unsafe extern "C-unwind" fn log(state: *mut lua_State) -> c_int {
    // SAFETY: a C function's own stack; raising calls come before anything that needs dropping.
    unsafe {
        let count = lua_gettop(state);
        if count < 2 {
            lua::raise(state, b"ERR redis.log() requires two arguments or more.");
        }
        if lua_isnumber(state, 1) == 0 {
            lua::raise(state, b"ERR First argument must be a number (log level).");
        }
        let level = lua_tonumber(state, 1);
        if !(-1.0 < level && level < 4.0) {
            lua::raise(state, b"ERR Invalid debug level.");
        }
        for at in 2..=count {
            // Numbers become strings in place, which may raise.
            lua::bytes(state, at);
        }
        write_log(state, level as i64, count);
    }
    0
}

/// Raises nothing: all arguments are strings or not shown.
unsafe fn write_log(state: *mut lua_State, level: i64, count: c_int) {
    let mut line = Vec::new();
    for at in 2..=count {
        // SAFETY: within the caller's stack.
        let text = unsafe {
            match lua_type(state, at) {
                LUA_TSTRING => lua::bytes(state, at),
                _ => None,
            }
        };
        if let Some(text) = text {
            if at > 2 {
                line.push(b' ');
            }
            line.extend_from_slice(text);
        }
    }
    let verbosity = run::current().map_or(LogLevel::Debug, |run| {
        run.is_seen = true;
        run.context().config.observation.log_level
    });
    let least = match verbosity {
        LogLevel::Debug => 0,
        LogLevel::Verbose => 1,
        LogLevel::Notice => 2,
        LogLevel::Warning => 3,
        LogLevel::Nothing => 4,
    };
    if level < least {
        return;
    }
    let line = String::from_utf8_lossy(&line);
    match level {
        0 => tracing::trace!("{line}"),
        1 => tracing::debug!("{line}"),
        2 => tracing::info!("{line}"),
        _ => tracing::warn!("{line}"),
    }
}

/// `redis.sha1hex(text)`
pub(super) unsafe extern "C-unwind" fn sha1hex(state: *mut lua_State) -> c_int {
    // SAFETY: as above; the digest is plain data.
    unsafe {
        if lua_gettop(state) != 1 {
            lua::raise(state, b"ERR wrong number of arguments");
        }
        let digest = super::cache::digest(lua::bytes(state, 1).unwrap_or_default());
        lua::push_bytes(state, &digest);
    }
    1
}

/// `redis.status_reply(text)`
pub(super) unsafe extern "C-unwind" fn status_reply(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        if lua_gettop(state) != 1 || lua_type(state, 1) != LUA_TSTRING {
            lua::push_error(state, b"ERR wrong number or type of arguments");
            return 1;
        }
        lua_createtable(state, 0, 1);
        lua_pushvalue(state, 1);
        lua_setfield(state, -2, c"ok".as_ptr());
    }
    1
}

/// `redis.error_reply(text)`: the text's first word is its code if there are more.
pub(super) unsafe extern "C-unwind" fn error_reply(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        if lua_gettop(state) != 1 || lua_type(state, 1) != LUA_TSTRING {
            lua::push_error(state, b"ERR wrong number or type of arguments");
            return 1;
        }
        let text = lua::bytes(state, 1).unwrap_or_default();
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let text = super::errors::trimmed(text);
        lua_createtable(state, 0, 1);
        if memchr::memchr(b' ', text).is_some() {
            lua::push_bytes(state, text);
        } else {
            lua::push_bytes(state, b"ERR ");
            lua::push_bytes(state, text);
            mlua::ffi::lua_concat(state, 2);
        }
        lua_setfield(state, -2, c"err".as_ptr());
    }
    1
}

/// `redis.setresp(2 or 3)`
pub(super) unsafe extern "C-unwind" fn setresp(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        let Some(run) = run::current() else {
            lua::raise(state, OUTSIDE);
        };
        if lua_gettop(state) != 1 {
            lua::raise(state, b"ERR redis.setresp() requires one argument.");
        }
        match lua_tonumber(state, 1) as i64 {
            2 => run.resp3 = false,
            3 => run.resp3 = true,
            _ => lua::raise(state, b"ERR RESP version must be 2 or 3."),
        }
    }
    0
}

/// Outside of a script: while a library is loaded.
const OUTSIDE: &[u8] = b"ERR can only be called inside a script invocation";

/// `redis.set_repl(flags)`: here log and replicas get the same stream, so that it is all or nothing.
pub(super) unsafe extern "C-unwind" fn set_repl(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        let Some(run) = run::current() else {
            lua::raise(state, OUTSIDE);
        };
        if lua_gettop(state) != 1 {
            lua::raise(state, b"ERR redis.set_repl() requires one argument.");
        }
        let flags = lua_tonumber(state, 1) as i64;
        if flags & !TO_ALL != 0 {
            lua::raise(
                state,
                b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            );
        }
        run.is_logged = flags != 0;
    }
    0
}

/// `redis.acl_check_cmd(command, ...)`
pub(super) unsafe extern "C-unwind" fn acl_check(state: *mut lua_State) -> c_int {
    // SAFETY: as above; `may_run` raises nothing.
    unsafe {
        let Some(run) = run::current() else {
            lua::raise(state, OUTSIDE);
        };
        match may_run(state, run) {
            Ok(may) => lua_pushboolean(state, i32::from(may)),
            Err(text) => lua::raise(state, text),
        }
    }
    1
}

unsafe fn may_run(state: *mut lua_State, run: &run::Run) -> Result<bool, &'static [u8]> {
    let mut numbers = SmallVec::new();
    // SAFETY: the caller's stack.
    let argv = unsafe { call::arguments(state, &mut numbers) };
    let argv = argv.ok_or(call::WRONG_ARGUMENT)?;
    if argv.is_empty() {
        return Err(call::NO_ARGUMENT);
    }
    let args = crate::command::Args::new(&argv);
    let spec = registry::resolve(&args)
        .map_err(|_| &b"ERR Invalid command passed to redis.acl_check_cmd()"[..])?;
    let account = &run.context().client.account;
    Ok(!account.is_restricted() || acl::check::check(&account.user(), spec, &args).is_ok())
}

/// `redis.breakpoint()`: there is no debugger.
pub(super) unsafe extern "C-unwind" fn breakpoint(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe { lua_pushboolean(state, 0) };
    1
}

/// `redis.debug(...)`
pub(super) unsafe extern "C-unwind" fn debug(_state: *mut lua_State) -> c_int {
    0
}

/// `redis.replicate_commands()`: as they are always.
pub(super) unsafe extern "C-unwind" fn replicate_commands(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe { lua_pushboolean(state, 1) };
    1
}

/// The global `pcall`: an error that is a table comes out as its text, as before Redis 7.
pub(super) unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        mlua::ffi::luaL_checkany(state, 1);
        let count = lua_gettop(state);
        lua_pushboolean(state, 1);
        lua_insert(state, 1);
        if lua_pcall(state, count - 1, lua::LUA_MULTRET, 0) == 0 {
            return lua_gettop(state);
        }
        if let Some(run) = run::current() {
            run::raise_if_stopped(state, run);
        }
        lua_remove(state, 1);
        if lua_istable(state, -1) != 0 {
            lua::push_bytes(state, b"err");
            lua_rawget(state, -2);
            if lua_type(state, -1) == LUA_TNIL || lua::bytes(state, -1).is_none() {
                lua::lua_pop(state, 1);
            } else {
                lua_replace(state, -2);
            }
        }
        lua_pushboolean(state, 0);
        lua_insert(state, 1);
        lua_gettop(state)
    }
}

/// `__index` of the globals.
pub(super) unsafe extern "C-unwind" fn missing_global(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe {
        if lua_gettop(state) != 2 {
            mlua::ffi::luaL_error(
                state,
                c"Wrong number of arguments to luaProtectedTableError".as_ptr(),
            );
        }
        let Some(_) = lua::bytes(state, 2) else {
            return mlua::ffi::luaL_error(
                state,
                c"Second argument to luaProtectedTableError must be a string or number".as_ptr(),
            );
        };
        let name = mlua::ffi::lua_tolstring(state, 2, std::ptr::null_mut());
        mlua::ffi::luaL_error(
            state,
            c"Script attempted to access nonexistent global variable '%s'".as_ptr(),
            name,
        )
    }
}
