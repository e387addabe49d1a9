//! A command's reply as Lua values (`redisProtocolToLuaType` in Redis).

use super::lua::{
    self, lua_State, lua_checkstack, lua_createtable, lua_pushboolean, lua_pushnil, lua_pushnumber,
    lua_rawset, lua_rawseti, lua_setfield,
};
use mlua::ffi::luaL_error;
use std::ffi::CStr;

/// Where reading stands. Plain data: Lua may raise at any push.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The next line without its kind and its end.
    fn line(&mut self) -> (u8, &'a [u8]) {
        let end = memchr::memchr(b'\r', self.rest).unwrap_or(self.rest.len());
        let line = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(end + 2..).unwrap_or_default();
        match line.split_first() {
            Some((kind, text)) => (*kind, text),
            None => (b'_', &[]),
        }
    }

    /// So many bytes and a line end.
    fn body(&mut self, length: usize) -> &'a [u8] {
        let body = self.rest.get(..length).unwrap_or_default();
        self.rest = self.rest.get(length + 2..).unwrap_or_default();
        body
    }
}

fn number(text: &[u8]) -> i64 {
    redrock_rdb::number::parse_i64(text).unwrap_or(0)
}

fn double(text: &[u8]) -> f64 {
    match text {
        b"inf" => f64::INFINITY,
        b"-inf" => f64::NEG_INFINITY,
        b"nan" | b"-nan" => f64::NAN,
        text => crate::value::number::parse_double(text).unwrap_or(0.0),
    }
}

/// The text of an error as scripts see it: with a code, whatever it was.
fn with_code(text: &[u8]) -> (&'static [u8], &[u8]) {
    match memchr::memchr(b' ', text) {
        Some(_) => (b"", text),
        None => (b"ERR ", text),
    }
}

/// Pushes the reply that `resp` begins with. May raise.
///
/// # Safety
/// As [`lua::raise`]; `resp` outlives the call even if it raises.
pub(super) unsafe fn push(state: *mut lua_State, resp: &[u8]) {
    let mut cursor = Cursor { rest: resp };
    // SAFETY: as the caller grants.
    unsafe { push_next(state, &mut cursor) };
}

unsafe fn push_next(state: *mut lua_State, cursor: &mut Cursor<'_>) {
    // SAFETY: room for what one level pushes is made here; nothing needs dropping.
    unsafe {
        if lua_checkstack(state, 6) == 0 {
            luaL_error(
                state,
                c"lua stack limit reach when parsing redis.call reply".as_ptr(),
            );
        }
        let (kind, text) = cursor.line();
        match kind {
            b':' => lua_pushnumber(state, number(text) as f64),
            b'$' | b'*' if number(text) < 0 => lua_pushboolean(state, 0),
            b'$' => lua::push_bytes(state, cursor.body(number(text) as usize)),
            b'+' => push_field(state, c"ok", text),
            b'-' => push_error(state, text),
            b'*' | b'>' => push_array(state, cursor, number(text)),
            b'%' => push_map(state, cursor, number(text)),
            b'~' => push_set(state, cursor, number(text)),
            b'#' => lua_pushboolean(state, i32::from(text == b"t")),
            b',' => {
                lua_createtable(state, 0, 1);
                lua::set_number(state, c"double", double(text));
            }
            b'(' => push_field(state, c"big_number", text),
            b'=' => push_verbatim(state, cursor.body(number(text) as usize)),
            b'|' => {
                // Attributes are passed over.
                let top = lua::lua_gettop(state);
                for _ in 0..2 * number(text) {
                    push_next(state, cursor);
                    lua::lua_settop(state, top);
                }
                push_next(state, cursor);
            }
            _ => lua_pushnil(state),
        }
    }
}

unsafe fn push_field(state: *mut lua_State, name: &CStr, text: &[u8]) {
    // SAFETY: room was made.
    unsafe {
        lua_createtable(state, 0, 1);
        lua::set_text(state, name, text);
    }
}

/// An error that was counted when its command failed.
unsafe fn push_error(state: *mut lua_State, text: &[u8]) {
    let (code, text) = with_code(text);
    // SAFETY: room was made; joining is Lua's work, so that nothing needs dropping here.
    unsafe {
        lua_createtable(state, 0, 2);
        lua::push_bytes(state, code);
        lua::push_bytes(state, text);
        mlua::ffi::lua_concat(state, 2);
        lua_setfield(state, -2, c"err".as_ptr());
        lua_pushboolean(state, 1);
        lua_setfield(state, -2, c"ignore_error_stats_update".as_ptr());
    }
}

unsafe fn push_array(state: *mut lua_State, cursor: &mut Cursor<'_>, length: i64) {
    // SAFETY: room was made.
    unsafe {
        lua_createtable(state, length.clamp(0, 1 << 20) as i32, 0);
        for i in 1..=length {
            push_next(state, cursor);
            lua_rawseti(state, -2, i as mlua::ffi::lua_Integer);
        }
    }
}

unsafe fn push_map(state: *mut lua_State, cursor: &mut Cursor<'_>, length: i64) {
    // SAFETY: room was made. Keys are never nil or NaN in replies; Lua would raise, no more.
    unsafe {
        lua_createtable(state, 0, 1);
        lua_createtable(state, 0, length.clamp(0, 1 << 20) as i32);
        for _ in 0..length {
            push_next(state, cursor);
            push_next(state, cursor);
            lua_rawset(state, -3);
        }
        lua_setfield(state, -2, c"map".as_ptr());
    }
}

unsafe fn push_set(state: *mut lua_State, cursor: &mut Cursor<'_>, length: i64) {
    // SAFETY: as above.
    unsafe {
        lua_createtable(state, 0, 1);
        lua_createtable(state, 0, length.clamp(0, 1 << 20) as i32);
        for _ in 0..length {
            push_next(state, cursor);
            lua_pushboolean(state, 1);
            lua_rawset(state, -3);
        }
        lua_setfield(state, -2, c"set".as_ptr());
    }
}

unsafe fn push_verbatim(state: *mut lua_State, body: &[u8]) {
    // SAFETY: room was made.
    unsafe {
        lua_createtable(state, 0, 1);
        lua_createtable(state, 0, 2);
        lua::set_text(state, c"string", body.get(4..).unwrap_or_default());
        lua::set_text(state, c"format", body.get(..3).unwrap_or_default());
        lua_setfield(state, -2, c"verbatim_string".as_ptr());
    }
}
