//! `redis.register_function`, which a library calls while it is loaded.

use super::library::Function;
use super::metadata::check_name;
use crate::script::flags::Flags;
use crate::script::lua::{
    self, LUA_REGISTRYINDEX, LUA_TNIL, LUA_TNUMBER, LUA_TSTRING, lua_Debug, lua_State,
    lua_checkstack, lua_gettop, lua_insert, lua_isfunction, lua_isstring, lua_istable, lua_next,
    lua_pushnil, lua_rawgeti, lua_settop, lua_type, luaL_ref, luaL_unref,
};
use std::cell::Cell;
use std::ffi::c_int;
use std::time::Instant;

/// A library that is being loaded on this thread.
pub(super) struct Loading {
    /// What it has registered so far.
    pub(super) functions: Vec<Function>,
    /// When it has taken too long.
    pub(super) deadline: Option<Instant>,
}

thread_local! {
    static LOADING: Cell<*mut Loading> = const { Cell::new(std::ptr::null_mut()) };
}

fn loading<'a>() -> Option<&'a mut Loading> {
    // SAFETY: set by `during` to what outlives the time while it is set; used for one call.
    unsafe { LOADING.get().as_mut() }
}

/// Runs `work`, during which functions are registered in `loading`.
pub(super) fn during<R>(loading: &mut Loading, work: impl FnOnce() -> R) -> R {
    LOADING.set(loading);
    let result = work();
    LOADING.set(std::ptr::null_mut());
    result
}

const TIMEOUT: &[u8] = b"ERR FUNCTION LOAD timeout";

/// Lua's hook while a library is loaded.
pub(super) unsafe extern "C-unwind" fn look(state: *mut lua_State, _: *mut lua_Debug) {
    let over = loading().and_then(|loading| loading.deadline);
    if over.is_some_and(|deadline| Instant::now() > deadline) {
        // SAFETY: nothing here needs dropping. Each further instruction fails again.
        unsafe {
            lua::lua_sethook(state, Some(look), mlua::ffi::LUA_MASKCOUNT, 1);
            lua::raise(state, TIMEOUT);
        }
    }
}

/// What a call asks for. Plain data: texts are on Lua's stack.
#[derive(Default)]
struct Wanted<'a> {
    name: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    /// The callback's reference in the registry; 0: none.
    callback: c_int,
    flags: Flags,
}

/// `redis.register_function(name, callback)` or `redis.register_function{...}`
pub(super) unsafe extern "C-unwind" fn register_function(state: *mut lua_State) -> c_int {
    // SAFETY: a C function's own stack; `add` is over before anything is raised.
    unsafe {
        let Some(loading) = loading() else {
            lua::raise(
                state,
                b"ERR redis.register_function can only be called on FUNCTION LOAD command",
            );
        };
        let mut wanted = Wanted::default();
        let read = match lua_gettop(state) {
            1 => by_name(state, &mut wanted),
            2 => by_position(state, &mut wanted),
            _ => Err(&b"ERR wrong number of arguments to redis.register_function"[..]),
        };
        if let Err(text) = read.and_then(|()| add(loading, &wanted)) {
            if wanted.callback != 0 {
                luaL_unref(state, LUA_REGISTRYINDEX, wanted.callback);
            }
            lua::raise(state, text);
        }
    }
    0
}

fn add(loading: &mut Loading, wanted: &Wanted<'_>) -> Result<(), &'static [u8]> {
    let name = wanted.name.unwrap_or_default();
    if check_name(name).is_err() {
        return Err(
            b"ERR Library names can only contain letters, numbers, or underscores(_) and must be \
              at least one character long",
        );
    }
    if loading.functions.iter().any(|known| known.name == name) {
        return Err(b"ERR Function already exists in the library");
    }
    loading.functions.push(Function {
        name: name.to_vec(),
        description: wanted.description.map(<[u8]>::to_vec),
        flags: wanted.flags,
        reference: wanted.callback,
    });
    Ok(())
}

type Read = Result<(), &'static [u8]>;

unsafe fn by_position(state: *mut lua_State, wanted: &mut Wanted<'_>) -> Read {
    // SAFETY: two arguments.
    unsafe {
        if lua_isstring(state, 1) == 0 {
            return Err(b"ERR first argument to redis.register_function must be a string");
        }
        wanted.name = lua::bytes(state, 1);
        if lua_isfunction(state, 2) == 0 {
            return Err(b"ERR second argument to redis.register_function must be a function");
        }
        wanted.callback = luaL_ref(state, LUA_REGISTRYINDEX);
    }
    Ok(())
}

unsafe fn by_name(state: *mut lua_State, wanted: &mut Wanted<'_>) -> Read {
    // SAFETY: one argument. Values are left on the stack, where their texts are alive, with room.
    unsafe {
        if lua_istable(state, 1) == 0 {
            return Err(
                b"ERR calling redis.register_function with a single argument is only applicable to \
                  Lua table (representing named arguments).",
            );
        }
        lua_pushnil(state);
        while lua_next(state, 1) != 0 {
            match lua_type(state, -2) {
                LUA_TSTRING => field(state, wanted)?,
                LUA_TNUMBER => return Err(UNKNOWN_ARGUMENT),
                _ => {
                    return Err(
                        b"ERR named argument key given to redis.register_function is not a string",
                    );
                }
            }
            // The value stays below its name, which leads to the next.
            lua_insert(state, -2);
            if lua_checkstack(state, 8) == 0 {
                return Err(UNKNOWN_ARGUMENT);
            }
        }
    }
    if wanted.name.is_none() {
        return Err(b"ERR redis.register_function must get a function name argument");
    }
    if wanted.callback == 0 {
        return Err(b"ERR redis.register_function must get a callback argument");
    }
    Ok(())
}

const UNKNOWN_ARGUMENT: &[u8] = b"ERR unknown argument given to redis.register_function";

/// Reads one named argument; its value is on top, its name below.
unsafe fn field(state: *mut lua_State, wanted: &mut Wanted<'_>) -> Read {
    // SAFETY: as the caller, who leaves the value on the stack.
    unsafe {
        let name = lua::bytes(state, -2).unwrap_or_default();
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        let text = || lua::bytes(state, -1);
        if is("function_name") {
            wanted.name = Some(text().ok_or(
                &b"ERR function_name argument given to redis.register_function must be a string"[..],
            )?);
        } else if is("description") {
            wanted.description = Some(text().ok_or(
                &b"ERR description argument given to redis.register_function must be a string"[..],
            )?);
        } else if is("callback") {
            if lua_isfunction(state, -1) == 0 {
                return Err(
                    b"ERR callback argument given to redis.register_function must be a function",
                );
            }
            lua::lua_pushvalue(state, -1);
            let before =
                std::mem::replace(&mut wanted.callback, luaL_ref(state, LUA_REGISTRYINDEX));
            if before != 0 {
                luaL_unref(state, LUA_REGISTRYINDEX, before);
            }
        } else if is("flags") {
            if lua_istable(state, -1) == 0 {
                return Err(
                    b"ERR flags argument to redis.register_function must be a table representing \
                      function flags",
                );
            }
            wanted.flags = flags(state).ok_or(&b"ERR unknown flag given"[..])?;
        } else {
            return Err(UNKNOWN_ARGUMENT);
        }
    }
    Ok(())
}

/// The flags in the table on top, which stays.
unsafe fn flags(state: *mut lua_State) -> Option<Flags> {
    // SAFETY: as the caller.
    unsafe {
        let top = lua_gettop(state);
        let mut flags = Flags::default();
        for at in 1.. {
            lua_rawgeti(state, top, at);
            if lua_type(state, -1) == LUA_TNIL {
                break;
            }
            let flag = match lua_type(state, -1) {
                LUA_TSTRING => Flags::named_in_any_case(lua::bytes(state, -1).unwrap_or_default()),
                _ => None,
            };
            flags = flags.with(flag?);
            lua_settop(state, top);
        }
        lua_settop(state, top);
        Some(flags)
    }
}
