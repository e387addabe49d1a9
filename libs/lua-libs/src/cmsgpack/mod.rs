//! The library `cmsgpack`: values as MessagePack.

mod decode;
mod encode;

use crate::stack::{Stack, c_function};

/// Pushes the library's table.
pub(crate) fn push(stack: Stack) {
    stack.push_table();
    for (name, function) in [
        (c"pack", c_function!(encode::pack)),
        (c"unpack", c_function!(decode::unpack)),
        (c"unpack_one", c_function!(decode::unpack_one)),
        (c"unpack_limit", c_function!(decode::unpack_limit)),
    ] {
        stack.push_function(function, 0);
        stack.set_field(name);
    }
    for (name, text) in [
        (c"_NAME", "cmsgpack"),
        (c"_VERSION", "lua-cmsgpack 0.4.0"),
        (c"_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        (c"_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        stack.push_bytes(text.as_bytes());
        stack.set_field(name);
    }
}
