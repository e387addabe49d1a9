//! Lua's C interface: the few functions of it that scripts need, and what they must observe.
//!
//! **Lua raises errors by `longjmp`.** It passes Rust frames without running destructors, so no
//! frame between a raising call and the protected call around it may own anything: raising
//! functions get plain pointers and slices, and what they produce goes into [`super::run::Run`].
//! Every call here that may raise says so.

pub use mlua::ffi::{
    LUA_GLOBALSINDEX, LUA_MULTRET, LUA_REGISTRYINDEX, LUA_TBOOLEAN, LUA_TFUNCTION, LUA_TNIL,
    LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_CFunction, lua_Debug, lua_State, lua_call,
    lua_checkstack, lua_createtable, lua_error, lua_getfield, lua_getinfo, lua_getmetatable,
    lua_getstack, lua_gettop, lua_insert, lua_isfunction, lua_isnumber, lua_isstring, lua_istable,
    lua_next, lua_pcall, lua_pop, lua_pushboolean, lua_pushcclosure, lua_pushcfunction,
    lua_pushnil, lua_pushnumber, lua_pushvalue, lua_rawget, lua_rawgeti, lua_rawset, lua_rawseti,
    lua_remove, lua_replace, lua_setfield, lua_setglobal, lua_sethook, lua_setmetatable,
    lua_settop, lua_toboolean, lua_tonumber, lua_touserdata, lua_type, luaL_ref, luaL_unref,
};
use mlua::ffi::{lua_pushlstring, lua_tolstring, luaL_loadbuffer};
use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C-unwind" {
    /// Makes a table read-only or not. Not in stock Lua: see libs/lua-src.
    pub fn lua_enablereadonlytable(state: *mut lua_State, index: c_int, enabled: c_int);
    /// Whether a table is read-only.
    pub fn lua_isreadonlytable(state: *mut lua_State, index: c_int) -> c_int;
    fn lua_cpcall(state: *mut lua_State, function: lua_CFunction, data: *mut c_void) -> c_int;
}

/// A string's bytes; they live as long as the value stays on the stack. A number's, too, which may
/// raise for want of memory.
///
/// # Safety
/// `index` is a valid index of `state`'s stack.
pub unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    let mut length = 0;
    // SAFETY: the caller's index is valid; the length is written if there is a string.
    unsafe {
        let start = lua_tolstring(state, index, &raw mut length);
        if start.is_null() {
            return None;
        }
        Some(std::slice::from_raw_parts(start.cast(), length))
    }
}

/// Pushes a string. May raise for want of memory.
///
/// # Safety
/// There is room on the stack.
pub unsafe fn push_bytes(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: Lua copies so many bytes.
    unsafe { lua_pushlstring(state, bytes.as_ptr().cast(), bytes.len()) };
}

/// Sets a field of the table on top of the stack to a string. May raise.
///
/// # Safety
/// A table is on top, and there is room for one more.
pub unsafe fn set_text(state: *mut lua_State, name: &CStr, text: &[u8]) {
    // SAFETY: as the caller grants.
    unsafe {
        push_bytes(state, text);
        lua_setfield(state, -2, name.as_ptr());
    }
}

/// Sets a field of the table on top of the stack to a function. May raise.
///
/// # Safety
/// As [`set_text`].
pub unsafe fn set_function(state: *mut lua_State, name: &CStr, function: lua_CFunction) {
    // SAFETY: as the caller grants.
    unsafe {
        lua_pushcfunction(state, function);
        lua_setfield(state, -2, name.as_ptr());
    }
}

/// Sets a field of the table on top of the stack to a number. May raise.
///
/// # Safety
/// As [`set_text`].
pub unsafe fn set_number(state: *mut lua_State, name: &CStr, number: f64) {
    // SAFETY: as the caller grants.
    unsafe {
        lua_pushnumber(state, number);
        lua_setfield(state, -2, name.as_ptr());
    }
}

/// Pushes Redis's table for an error, `{err = text}`. May raise for want of memory.
///
/// # Safety
/// There is room for two values.
pub unsafe fn push_error(state: *mut lua_State, text: &[u8]) {
    // SAFETY: as the caller grants.
    unsafe {
        lua_createtable(state, 0, 2);
        set_text(state, c"err", text);
    }
}

/// Raises Redis's table for an error.
///
/// # Safety
/// The caller's frame owns nothing; see the module.
pub unsafe fn raise(state: *mut lua_State, text: &[u8]) -> ! {
    // SAFETY: every C function has room for twenty values.
    unsafe {
        push_error(state, text);
        lua_error(state)
    }
}

/// Compiles source text and pushes the function. The error is Lua's text, which may be none for want
/// of memory. Raises nothing.
///
/// # Safety
/// There is room for one value.
pub unsafe fn load(state: *mut lua_State, source: &[u8], name: &CStr) -> Result<(), Vec<u8>> {
    let start = source.as_ptr().cast::<c_char>();
    // SAFETY: Lua reads so many bytes, and leaves one value.
    unsafe {
        if luaL_loadbuffer(state, start, source.len(), name.as_ptr()) == 0 {
            return Ok(());
        }
        let text = bytes(state, -1).unwrap_or_default().to_vec();
        lua_pop(state, 1);
        Err(text)
    }
}

/// Runs `work` so that what it raises ends here, as Lua's text. The stack is as before.
///
/// # Safety
/// `work` owns nothing that needs dropping, and neither do the functions that it calls while they
/// call what may raise.
pub unsafe fn protected<F: FnMut(*mut lua_State)>(
    state: *mut lua_State,
    work: &mut F,
) -> Result<(), Vec<u8>> {
    unsafe extern "C-unwind" fn enter<F: FnMut(*mut lua_State)>(state: *mut lua_State) -> c_int {
        // SAFETY: `protected` passes a pointer to its caller's work, which outlives the call.
        unsafe { (*lua_touserdata(state, 1).cast::<F>())(state) };
        0
    }
    // SAFETY: the work is borrowed for as long as the call takes.
    unsafe {
        let top = lua_gettop(state);
        let failed = lua_cpcall(state, enter::<F>, (&raw mut *work).cast()) != 0;
        let result = match failed {
            false => Ok(()),
            true => Err(match lua_type(state, -1) {
                LUA_TSTRING => bytes(state, -1).unwrap_or_default().to_vec(),
                _ => b"execution failure".to_vec(),
            }),
        };
        lua_settop(state, top);
        result
    }
}
