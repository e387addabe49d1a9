//! The stack of a running C function: the few calls of Lua's C interface that the libraries need,
//! as methods.
//!
//! A `Stack` is made only from the state that Lua hands to a C function (or to a protected call)
//! and lives no longer than that call. Indices come from this crate's code, never from a script,
//! and are right by construction; that is what makes the methods safe to call. Methods that take
//! room on the stack need it: Lua gives every C function 20 slots, more after [`Stack::grow`].
//!
//! Methods that say "raises" may leave by a long jump.

use crate::message::Message;
use mlua::ffi;
use std::ffi::{CStr, c_int, c_void};
use std::fmt;

/// As many slots as a C function may have on Lua's stack (`LUAI_MAXCSTACK`).
pub(crate) const SLOTS_MAX: c_int = 8000;

/// The stack of the running C function.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    state: *mut ffi::lua_State,
}

/// Makes a C function of a `fn(Stack) -> c_int` that returns its number of results.
macro_rules! c_function {
    ($body:path) => {{
        unsafe extern "C-unwind" fn entry(state: *mut mlua::ffi::lua_State) -> std::ffi::c_int {
            // SAFETY: Lua calls this with a live state.
            $body(unsafe { $crate::stack::Stack::new(state) })
        }
        entry as mlua::ffi::lua_CFunction
    }};
}
pub(crate) use c_function;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No argument there.
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

impl Kind {
    /// Lua's name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no value",
            Self::Nil => "nil",
            Self::Boolean => "boolean",
            Self::LightUserdata | Self::Userdata => "userdata",
            Self::Number => "number",
            Self::String => "string",
            Self::Table => "table",
            Self::Function => "function",
            Self::Thread => "thread",
        }
    }
}

// SAFETY of every block below: `state` is live, this is its thread, and the indices are valid
// (see the head of the file).
#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, at the head of the file"
)]
impl Stack {
    /// # Safety
    /// `state` is live and was handed to the C function that runs now.
    pub(crate) unsafe fn new(state: *mut ffi::lua_State) -> Self {
        Self { state }
    }

    /// How many slots the function uses.
    pub(crate) fn top(self) -> c_int {
        unsafe { ffi::lua_gettop(self.state) }
    }

    pub(crate) fn set_top(self, slots: c_int) {
        unsafe { ffi::lua_settop(self.state, slots) }
    }

    pub(crate) fn pop(self, slots: c_int) {
        unsafe { ffi::lua_settop(self.state, -slots - 1) }
    }

    /// Moves the top value to `index`, shifting those above.
    pub(crate) fn insert(self, index: c_int) {
        unsafe { ffi::lua_insert(self.state, index) }
    }

    /// Pops the top value into the slot `index`.
    pub(crate) fn replace(self, index: c_int) {
        unsafe { ffi::lua_replace(self.state, index) }
    }

    pub(crate) fn kind(self, index: c_int) -> Kind {
        match unsafe { ffi::lua_type(self.state, index) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            ffi::LUA_TUSERDATA => Kind::Userdata,
            ffi::LUA_TTHREAD => Kind::Thread,
            _ => Kind::None,
        }
    }

    /// Whether the value is a number or a string that reads as one.
    pub(crate) fn is_numeric(self, index: c_int) -> bool {
        unsafe { ffi::lua_isnumber(self.state, index) != 0 }
    }

    /// The number, a string read as one, or 0.
    pub(crate) fn number(self, index: c_int) -> f64 {
        unsafe { ffi::lua_tonumber(self.state, index) }
    }

    pub(crate) fn boolean(self, index: c_int) -> bool {
        unsafe { ffi::lua_toboolean(self.state, index) != 0 }
    }

    /// The address in a userdata of either kind, null for other values.
    pub(crate) fn address(self, index: c_int) -> *mut c_void {
        unsafe { ffi::lua_touserdata(self.state, index) }
    }

    /// The block of memory that is the function's first upvalue.
    pub(crate) fn upvalue_block(self) -> *mut c_void {
        self.address(ffi::lua_upvalueindex(1))
    }

    /// The bytes of a string.
    ///
    /// # Safety
    /// The value is a string, and stays on the stack while the bytes are used.
    pub(crate) unsafe fn bytes<'a>(self, index: c_int) -> &'a [u8] {
        unsafe {
            let mut length = 0;
            let start = ffi::lua_tolstring(self.state, index, &mut length);
            if start.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(start.cast(), length)
        }
    }

    /// The argument as bytes; a number becomes a string in its slot. Raises.
    ///
    /// # Safety
    /// The value stays on the stack while the bytes are used.
    pub(crate) unsafe fn check_bytes<'a>(self, argument: c_int) -> &'a [u8] {
        unsafe {
            let mut length = 0;
            let start = ffi::luaL_checklstring(self.state, argument, &mut length);
            std::slice::from_raw_parts(start.cast(), length)
        }
    }

    /// The argument as bytes up to its first zero byte. Raises.
    ///
    /// # Safety
    /// The value stays on the stack while the bytes are used.
    pub(crate) unsafe fn check_text<'a>(self, argument: c_int) -> &'a CStr {
        unsafe { CStr::from_ptr(ffi::luaL_checkstring(self.state, argument)) }
    }

    /// The argument as a number. Raises.
    pub(crate) fn check_number(self, argument: c_int) -> f64 {
        unsafe { ffi::luaL_checknumber(self.state, argument) }
    }

    /// The argument as an integer, or `default` where there is none. Raises.
    pub(crate) fn optional_integer(self, argument: c_int, default: i64) -> i64 {
        match self.kind(argument) {
            Kind::None | Kind::Nil => default,
            _ => crate::number::to_i64(self.check_number(argument)),
        }
    }

    /// The place of the argument, a string, in a list that ends with null. Raises.
    ///
    /// # Safety
    /// The list ends with null.
    pub(crate) unsafe fn check_option(
        self,
        argument: c_int,
        options: *const *const std::ffi::c_char,
    ) -> c_int {
        unsafe { ffi::luaL_checkoption(self.state, argument, std::ptr::null(), options) }
    }

    pub(crate) fn push_nil(self) {
        unsafe { ffi::lua_pushnil(self.state) }
    }

    pub(crate) fn push_number(self, number: f64) {
        unsafe { ffi::lua_pushnumber(self.state, number) }
    }

    pub(crate) fn push_boolean(self, value: bool) {
        unsafe { ffi::lua_pushboolean(self.state, c_int::from(value)) }
    }

    /// Pushes what stands for JSON's null: a light userdata of address 0.
    pub(crate) fn push_null(self) {
        unsafe { ffi::lua_pushlightuserdata(self.state, std::ptr::null_mut()) }
    }

    /// Raises when memory is short.
    pub(crate) fn push_bytes(self, bytes: &[u8]) {
        unsafe { ffi::lua_pushlstring_(self.state, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Pushes a copy of the value at `index`.
    pub(crate) fn push_copy(self, index: c_int) {
        unsafe { ffi::lua_pushvalue(self.state, index) }
    }

    /// Raises when memory is short.
    pub(crate) fn push_table(self) {
        unsafe { ffi::lua_createtable(self.state, 0, 0) }
    }

    /// Pushes a block of memory that Lua collects when no slot holds it. Raises when memory is
    /// short.
    pub(crate) fn push_block(self, size_bytes: usize) -> *mut u8 {
        unsafe { ffi::lua_newuserdata(self.state, size_bytes).cast() }
    }

    /// Pushes a function over the top `upvalues` values, which it pops. Raises when memory is
    /// short.
    pub(crate) fn push_function(self, function: ffi::lua_CFunction, upvalues: c_int) {
        unsafe { ffi::lua_pushcclosure(self.state, function, upvalues) }
    }

    /// Pops a value into a field of the table below it. Raises.
    pub(crate) fn set_field(self, name: &CStr) {
        self.set_field_of(-2, name);
    }

    /// Pops a value into a field of the table at `table`. Raises.
    pub(crate) fn set_field_of(self, table: c_int, name: &CStr) {
        unsafe { ffi::lua_setfield(self.state, table, name.as_ptr()) }
    }

    /// Pops a value into a global. Raises.
    pub(crate) fn set_global(self, name: &CStr) {
        unsafe { ffi::lua_setglobal(self.state, name.as_ptr()) }
    }

    /// Pops a key and pushes the next one and its value, or nothing at the table's end. Raises
    /// when a finalizer took the key out.
    pub(crate) fn next(self, table: c_int) -> bool {
        unsafe { ffi::lua_next(self.state, table) != 0 }
    }

    /// Pushes the element of the table at `table`.
    pub(crate) fn element(self, table: c_int, index: c_int) {
        unsafe { ffi::lua_rawgeti_(self.state, table, index) }
    }

    /// Pops a value into the element of the table at `table`. Raises when memory is short.
    pub(crate) fn set_element(self, table: c_int, index: c_int) {
        unsafe { ffi::lua_rawseti_(self.state, table, index) }
    }

    /// Pops a value and the key below it into the table at `table`. Raises for a key that is nil
    /// or not a number.
    pub(crate) fn set_entry(self, table: c_int) {
        unsafe { ffi::lua_rawset(self.state, table) }
    }

    /// The length of the table, by Lua's rule.
    pub(crate) fn length(self, table: c_int) -> usize {
        unsafe { ffi::lua_objlen(self.state, table) }
    }

    /// Makes room for `slots` more, unless the function would get more than [`SLOTS_MAX`]. Raises
    /// when memory is short.
    ///
    /// `hidden` says how many slots the function uses that Redis's does not: they don't count, so
    /// that the limit is met at the same value. Where the limit is met within the hidden slots,
    /// these take from the 5 slots that every stack keeps in reserve.
    pub(crate) fn grow(self, slots: c_int, hidden: c_int) -> bool {
        if self.top() - hidden + slots > SLOTS_MAX {
            return false;
        }
        unsafe {
            ffi::lua_checkstack(self.state, slots) != 0
                || ffi::lua_checkstack(self.state, slots - hidden.max(0)) != 0
        }
    }

    /// As [`Stack::grow`]; raises when it says no.
    pub(crate) fn grow_or_raise(self, slots: c_int, hidden: c_int, place: &str) {
        if !self.grow(slots, hidden) {
            self.raise(format_args!("stack overflow ({place})"));
        }
    }

    /// Raises an error with the position of the function's caller in front.
    pub(crate) fn raise(self, text: fmt::Arguments<'_>) -> ! {
        let message = Message::of(text);
        unsafe {
            // The text is in the frame; an empty stack has room for what the call pushes.
            self.set_top(0);
            ffi::luaL_error(self.state, c"%s".as_ptr(), message.text().as_ptr());
            // Not reached: the call above does not return.
            ffi::lua_error(self.state)
        }
    }

    /// Raises "bad argument #...".
    pub(crate) fn raise_argument(self, argument: c_int, text: fmt::Arguments<'_>) -> ! {
        self.raise_argument_message(argument, &Message::of(text))
    }

    /// As [`Stack::raise_argument`], for texts that may not be UTF-8.
    pub(crate) fn raise_argument_message(self, argument: c_int, message: &Message) -> ! {
        unsafe {
            self.set_top(0);
            ffi::luaL_argerror(self.state, argument, message.text().as_ptr());
            // Not reached: the call above does not return.
            ffi::lua_error(self.state)
        }
    }
}
