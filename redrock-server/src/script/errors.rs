//! Errors of scripts: Lua's become tables that name source and line, tables become replies.

use super::lua::{
    self, LUA_TBOOLEAN, LUA_TSTRING, LUA_TTABLE, lua_Debug, lua_State, lua_call, lua_createtable,
    lua_getfield, lua_getinfo, lua_getstack, lua_insert, lua_isstring, lua_istable, lua_pop,
    lua_pushnumber, lua_pushvalue, lua_remove, lua_setfield, lua_settop, lua_toboolean, lua_type,
};
use super::run::Run;
use crate::command::error::CommandError;
use crate::command::reply::Reply;
use mlua::ffi::{lua_concat, lua_pushstring, lua_rawget, lua_upvalueindex};
use std::ffi::{CStr, c_int};

/// Pushes the function that makes a table of every error; what it is called with last is on top of
/// the stack where the state's own `tostring` is. May raise.
///
/// # Safety
/// As [`lua::raise`].
pub(super) unsafe fn push_handler(state: *mut lua_State) {
    // SAFETY: as the caller grants.
    unsafe {
        lua_getfield(state, lua::LUA_GLOBALSINDEX, c"tostring".as_ptr());
        lua::lua_pushcclosure(state, handle, 1);
    }
}

/// The handler: `{err = 'ERR ...', source = ..., line = ...}`, of the function that failed, or of the
/// one that called it if that is not Lua's.
unsafe extern "C-unwind" fn handle(state: *mut lua_State) -> c_int {
    // SAFETY: a C function's own stack; nothing here needs dropping when Lua raises.
    unsafe {
        lua_settop(state, 1);
        if !lua_istable_(state) {
            lua::push_bytes(state, b"ERR ");
            lua_pushvalue(state, lua_upvalueindex(1));
            lua_pushvalue(state, 1);
            lua_call(state, 1, 1);
            if lua_isstring(state, -1) == 0 {
                lua_pop(state, 1);
                lua::push_bytes(state, b"?");
            }
            lua_concat(state, 2);
            lua_createtable(state, 0, 3);
            lua_insert(state, -2);
            lua_setfield(state, -2, c"err".as_ptr());
            lua_remove(state, 1);
        }
        let mut info: lua_Debug = std::mem::zeroed();
        let mut found = at_level(state, 1, &mut info);
        if found && CStr::from_ptr(info.what).to_bytes() == b"C" {
            found = at_level(state, 2, &mut info);
        }
        if found {
            lua_pushstring(state, info.source);
            lua_setfield(state, 1, c"source".as_ptr());
            lua_pushnumber(state, f64::from(info.currentline));
            lua_setfield(state, 1, c"line".as_ptr());
        }
        1
    }
}

unsafe fn lua_istable_(state: *mut lua_State) -> bool {
    // SAFETY: the handler's own argument.
    unsafe { lua_istable(state, 1) != 0 }
}

unsafe fn at_level(state: *mut lua_State, level: c_int, info: &mut lua_Debug) -> bool {
    // SAFETY: the level is looked up just before it is described.
    unsafe {
        lua_getstack(state, level, info) == 1 && lua_getinfo(state, c"Sl".as_ptr(), info) != 0
    }
}

/// Pushes a field of the error on top if it is a string (or a number).
unsafe fn text_field<'a>(state: *mut lua_State, name: &CStr) -> Option<&'a [u8]> {
    // SAFETY: the value on top is a table; what is pushed stays.
    unsafe {
        lua::push_bytes(state, name.to_bytes());
        lua_rawget(state, -2);
        lua::bytes(state, -1)
    }
}

unsafe fn is_counted(state: *mut lua_State) -> bool {
    // SAFETY: as above.
    unsafe {
        lua::push_bytes(state, b"ignore_error_stats_update");
        lua_rawget(state, -2);
        let counted = lua_type(state, -1) == LUA_TBOOLEAN && lua_toboolean(state, -1) != 0;
        lua_pop(state, 1);
        counted
    }
}

/// Keeps what the error on top says in `run.error`; takes it off. May raise.
///
/// # Safety
/// As [`lua::raise`].
pub(super) unsafe fn keep(state: *mut lua_State, run: &mut Run) {
    // SAFETY: as the caller grants; `run` owns what is kept.
    unsafe {
        let top = lua::lua_gettop(state);
        run.error.clear();
        run.error_is_counted = false;
        if lua_type(state, -1) != LUA_TTABLE {
            let text = match lua_type(state, -1) {
                LUA_TSTRING => lua::bytes(state, -1).unwrap_or_default(),
                _ => b"execution failure",
            };
            run.error.extend_from_slice(b"ERR Error running script ");
            run.error.extend_from_slice(run.name.as_bytes());
            run.error.extend_from_slice(b", ");
            run.error.extend_from_slice(text.get(..100).unwrap_or(text));
        } else {
            run.error_is_counted = is_counted(state);
            lua::lua_checkstack(state, 4);
            let text = text_field(state, c"err").unwrap_or(b"(null)");
            run.error.extend_from_slice(text);
            lua_pop(state, 1);
            let source = text_field(state, c"source");
            lua_pushvalue(state, top);
            let line = text_field(state, c"line");
            if let (Some(source), Some(line)) = (source, line) {
                run.error.extend_from_slice(b" script: ");
                run.error.extend_from_slice(run.name.as_bytes());
                run.error.extend_from_slice(b", on ");
                run.error.extend_from_slice(source);
                run.error.push(b':');
                run.error.extend_from_slice(line);
                run.error.push(b'.');
            }
        }
        lua_settop(state, top - 1);
    }
}

/// Writes the error table on top as a reply; it stays. May raise.
///
/// # Safety
/// As [`lua::raise`].
pub(super) unsafe fn write_table_on_top(
    state: *mut lua_State,
    run: &mut Run,
    reply: &mut Reply<'_>,
) {
    // SAFETY: room for one value was made by the caller.
    unsafe {
        let counted = is_counted(state);
        let text = text_field(state, c"err").unwrap_or_default();
        if counted {
            reply.error(trimmed(text));
        } else {
            write_counted(run, reply, text);
        }
        lua_pop(state, 1);
    }
}

/// Counts an error and writes it as a reply.
pub(super) fn write_counted(run: &Run, reply: &mut Reply<'_>, text: &[u8]) {
    let text = trimmed(text);
    let error = CommandError::Bytes(text.to_vec());
    run.context().server.stats.error(&error);
    reply.error(text);
}

/// Without line ends behind it, and as far as a C program reads it.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    let last = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    text.get(..last.map_or(0, |last| last + 1))
        .unwrap_or_default()
}
