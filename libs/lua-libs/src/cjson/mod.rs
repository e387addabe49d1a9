//! The library `cjson`: values as JSON.

mod config;
mod decode;
mod encode;
mod lexer;

use crate::stack::{Stack, c_function};
use std::ffi::c_int;

/// Pushes the library's table, with settings of its own.
pub(crate) fn push(stack: Stack) {
    stack.push_table();
    config::push(stack);
    for (name, function) in [
        (c"encode", c_function!(encode::encode)),
        (c"decode", c_function!(decode::decode)),
        (c"encode_sparse_array", c_function!(config::sparse_array)),
        (c"encode_max_depth", c_function!(config::encode_depth)),
        (c"decode_max_depth", c_function!(config::decode_depth)),
        (c"encode_number_precision", c_function!(config::precision)),
        (c"encode_keep_buffer", c_function!(config::keep_buffer)),
        (
            c"encode_invalid_numbers",
            c_function!(config::encode_invalid),
        ),
        (
            c"decode_invalid_numbers",
            c_function!(config::decode_invalid),
        ),
        (c"new", c_function!(new)),
    ] {
        // The settings are each function's upvalue.
        stack.push_copy(-1);
        stack.push_function(function, 1);
        stack.set_field_of(-3, name);
    }
    stack.pop(1);
    stack.push_null();
    stack.set_field(c"null");
    for (name, text) in [(c"_NAME", "cjson"), (c"_VERSION", "2.1.0")] {
        stack.push_bytes(text.as_bytes());
        stack.set_field(name);
    }
}

/// `new()`: the library again, with settings of its own.
fn new(stack: Stack) -> c_int {
    push(stack);
    1
}
