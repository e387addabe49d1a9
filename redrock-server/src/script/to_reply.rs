//! A Lua value as a reply (`luaReplyToRedisReply` in Redis).

use super::errors;
use super::lua::{
    self, LUA_TBOOLEAN, LUA_TNIL, LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_State, lua_checkstack,
    lua_next, lua_pop, lua_pushnil, lua_pushvalue, lua_rawget, lua_rawgeti, lua_toboolean,
    lua_tonumber, lua_type,
};
use super::run::Run;
use crate::command::reply::Reply;
use std::ffi::CStr;

/// A number as a C program on this machine converts it.
fn truncated(number: f64) -> i64 {
    // −2^63 is what the processor gives for everything that does not fit.
    if number.is_nan() || number >= 9_223_372_036_854_775_808.0 {
        i64::MIN
    } else {
        number as i64
    }
}

/// Writes the value on top of the stack and takes it off. May raise.
///
/// # Safety
/// As [`lua::raise`]: all that is owned is in `run` and behind its context.
pub(super) unsafe fn write(state: *mut lua_State, run: &mut Run, reply: &mut Reply<'_>) {
    // SAFETY: as the caller grants; room for one level is made here.
    unsafe {
        if lua_checkstack(state, 4) == 0 {
            errors::write_counted(run, reply, b"ERR reached lua stack limit");
            lua_pop(state, 1);
            return;
        }
        match lua_type(state, -1) {
            LUA_TSTRING => reply.bulk(lua::bytes(state, -1).unwrap_or_default()),
            LUA_TNUMBER => reply.int(truncated(lua_tonumber(state, -1))),
            LUA_TBOOLEAN => {
                let value = lua_toboolean(state, -1) != 0;
                match (run.resp3, value) {
                    (true, _) => reply.boolean(value),
                    (false, true) => reply.int(1),
                    (false, false) => reply.null(),
                }
            }
            LUA_TTABLE => write_table(state, run, reply),
            _ => reply.null(),
        }
        lua_pop(state, 1);
    }
}

/// Pushes a field of the table on top, if it is of that type.
unsafe fn field(state: *mut lua_State, name: &CStr, wanted: i32) -> bool {
    // SAFETY: room was made by `write`.
    unsafe {
        lua::push_bytes(state, name.to_bytes());
        lua_rawget(state, -2);
        let found = lua_type(state, -1) == wanted;
        if !found {
            lua_pop(state, 1);
        }
        found
    }
}

/// As far as a C program reads it.
fn until_nul(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// Writes a table; it stays on the stack.
unsafe fn write_table(state: *mut lua_State, run: &mut Run, reply: &mut Reply<'_>) {
    // SAFETY: as `write`.
    unsafe {
        if field(state, c"err", LUA_TSTRING) {
            lua_pop(state, 1);
            errors::write_table_on_top(state, run, reply);
        } else if field(state, c"ok", LUA_TSTRING) {
            reply.status(until_nul(lua::bytes(state, -1).unwrap_or_default()));
            lua_pop(state, 1);
        } else if field(state, c"double", LUA_TNUMBER) {
            reply.double(lua_tonumber(state, -1));
            lua_pop(state, 1);
        } else if field(state, c"big_number", LUA_TSTRING) {
            reply.big_number_text(lua::bytes(state, -1).unwrap_or_default());
            lua_pop(state, 1);
        } else if write_verbatim(state, reply) {
        } else if field(state, c"map", LUA_TTABLE) {
            let start = reply.deferred();
            let mut length = 0;
            lua_pushnil(state);
            while lua_next(state, -2) != 0 {
                lua_pushvalue(state, -2);
                write(state, run, reply);
                write(state, run, reply);
                length += 1;
            }
            reply.finish_map(start, length);
            lua_pop(state, 1);
        } else if field(state, c"set", LUA_TTABLE) {
            let start = reply.deferred();
            let mut length = 0;
            lua_pushnil(state);
            while lua_next(state, -2) != 0 {
                lua_pop(state, 1);
                lua_pushvalue(state, -1);
                write(state, run, reply);
                length += 1;
            }
            reply.finish_set(start, length);
            lua_pop(state, 1);
        } else {
            write_array(state, run, reply);
        }
    }
}

unsafe fn write_array(state: *mut lua_State, run: &mut Run, reply: &mut Reply<'_>) {
    // SAFETY: as `write`.
    unsafe {
        let start = reply.deferred();
        let mut length = 0;
        loop {
            lua_rawgeti(state, -1, length as mlua::ffi::lua_Integer + 1);
            if lua_type(state, -1) == LUA_TNIL || reply.is_over() {
                lua_pop(state, 1);
                break;
            }
            write(state, run, reply);
            length += 1;
        }
        reply.finish_array(start, length);
    }
}

/// Writes a verbatim string if the table on top is one.
unsafe fn write_verbatim(state: *mut lua_State, reply: &mut Reply<'_>) -> bool {
    // SAFETY: as `write`.
    unsafe {
        if !field(state, c"verbatim_string", LUA_TTABLE) {
            return false;
        }
        let mut written = false;
        if field(state, c"format", LUA_TSTRING) {
            let format = lua::bytes(state, -1).unwrap_or_default();
            lua_pushvalue(state, -2);
            if field(state, c"string", LUA_TSTRING) {
                reply.verbatim_bytes(lua::bytes(state, -1).unwrap_or_default(), format);
                lua_pop(state, 1);
                written = true;
            }
            lua_pop(state, 2);
        }
        lua_pop(state, 1);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::truncated;

    #[test]
    fn numbers_lose_their_fraction_and_what_does_not_fit_is_the_least() {
        for (number, integer) in [
            (3.99, 3),
            (-3.99, -3),
            (1e300, i64::MIN),
            (-1e300, i64::MIN),
            (f64::NAN, i64::MIN),
        ] {
            assert_eq!(truncated(number), integer);
        }
    }
}
