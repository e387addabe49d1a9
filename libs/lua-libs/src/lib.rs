//! The libraries that Redis gives to Lua scripts beside the standard ones: `cjson`, `cmsgpack`,
//! `struct` and `bit`, with the results, the bytes and the error texts of Redis 7.2.
//!
//! Every function is a raw C function of Lua 5.1, so that an error is a plain Lua string with the
//! script's position in front ("user_script:1: ..."), as scripts that call `pcall` expect.
//!
//! Invariants:
//! - A Lua error is a long jump over the frames of this crate. No value in these frames has a
//!   destructor: memory belongs to Lua (its collector and its limit count it) or lies in the
//!   frame.
//! - Nothing panics, whatever a script passes, and no function calls itself deeper than
//!   `cmsgpack`'s 16 levels: nesting is kept in a [`frames::Frames`].
//! - The collector may run a script's finalizer inside any allocation, and that may call the same
//!   function again. A call therefore shares no buffer with another.
//! - A result is at most [`buffer::BYTES_MAX`] bytes; Redis has no such limit and would be killed.

mod bit;
mod buffer;
mod cjson;
mod cmsgpack;
mod frames;
mod message;
mod number;
mod stack;
mod structure;

use stack::Stack;

/// Sets the globals `cjson`, `cmsgpack`, `struct` and `bit`.
///
/// # Errors
/// When Lua's memory limit does not leave room for the four tables.
pub fn open(lua: &mlua::Lua) -> mlua::Result<()> {
    // SAFETY: the closure runs in a protected call of a live state, keeps nothing of the stack
    // after it and has nothing to drop.
    unsafe {
        lua.exec_raw::<()>((), |state| {
            let stack = Stack::new(state);
            for (name, push) in [
                (c"cjson", cjson::push as fn(Stack)),
                (c"cmsgpack", cmsgpack::push),
                (c"struct", structure::push),
                (c"bit", bit::push),
            ] {
                push(stack);
                stack.set_global(name);
            }
        })
    }
}
