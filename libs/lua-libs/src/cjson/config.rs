//! The settings of one `cjson` table, and the functions that change them. Each of these takes new
//! values, nil for "as it is", and returns what is then set.

use crate::number::to_i64;
use crate::stack::{Kind, Stack};
use std::ffi::{c_char, c_int};

/// The settings; plain values in a block of Lua's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    /// 1: tables that would be too sparse arrays become objects, instead of an error.
    pub(super) sparse_convert: c_int,
    /// An array is too sparse with fewer than one element in so many places; 0: never.
    pub(super) sparse_ratio: c_int,
    /// Up to this greatest index no array is too sparse.
    pub(super) sparse_safe: c_int,
    pub(super) encode_max_depth: c_int,
    pub(super) decode_max_depth: c_int,
    /// What infinite and invalid numbers become: 0 an error, 1 themselves, 2 null.
    pub(super) encode_invalid_numbers: c_int,
    /// 1: numbers that JSON does not know are read.
    pub(super) decode_invalid_numbers: c_int,
    /// Kept for scripts that set it; buffers are Lua's here.
    keep_buffer: c_int,
    /// Digits of numbers, 1 to 14.
    pub(super) precision: c_int,
}

const DEFAULT: Config = Config {
    sparse_convert: 0,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_max_depth: 1000,
    decode_max_depth: 1000,
    encode_invalid_numbers: 0,
    decode_invalid_numbers: 1,
    keep_buffer: 1,
    precision: 14,
};

/// Pushes a block with the default settings.
pub(super) fn push(stack: Stack) {
    let block = stack.push_block(size_of::<Config>());
    // SAFETY: the block is as large as the settings, and Lua aligns it for any type.
    unsafe { block.cast::<Config>().write(DEFAULT) };
}

/// The settings of the running function.
pub(super) fn of(stack: Stack) -> Config {
    // SAFETY: the first upvalue of every function of the library is a block that `push` filled,
    // and a script has no way to change an upvalue of a C function.
    unsafe { stack.upvalue_block().cast::<Config>().read() }
}

fn store(stack: Stack, config: Config) {
    // SAFETY: as in `of`.
    unsafe { stack.upvalue_block().cast::<Config>().write(config) };
}

/// Raises when there are more arguments; those that are missing become nil.
fn arguments(stack: Stack, count: c_int) {
    if stack.top() > count {
        stack.raise_argument(count + 1, format_args!("found too many arguments"));
    }
    stack.set_top(count);
}

/// Takes an integer from an argument and pushes what is then set.
fn integer(
    stack: Stack,
    argument: c_int,
    (smallest, greatest): (c_int, c_int),
    setting: fn(&mut Config) -> &mut c_int,
) {
    let mut config = of(stack);
    if stack.kind(argument) != Kind::Nil {
        // The low 32 bits count.
        let value = to_i64(stack.check_number(argument)) as c_int;
        if !(smallest..=greatest).contains(&value) {
            // The argument is always called the first, as in Redis.
            stack.raise_argument(
                1,
                format_args!("expected integer between {smallest} and {greatest}"),
            );
        }
        *setting(&mut config) = value;
        store(stack, config);
    }
    stack.push_number(f64::from(*setting(&mut config)));
}

/// Option texts; the list ends with null.
struct Options<const N: usize>([*const c_char; N]);

// SAFETY: the pointers are to constants.
unsafe impl<const N: usize> Sync for Options<N> {}

static OFF_ON: Options<3> = Options([c"off".as_ptr(), c"on".as_ptr(), std::ptr::null()]);
static OFF_ON_NULL: Options<4> = Options([
    c"off".as_ptr(),
    c"on".as_ptr(),
    c"null".as_ptr(),
    std::ptr::null(),
]);

/// Takes a boolean or an option's name from an argument and pushes what is then set.
fn choice<const N: usize>(
    stack: Stack,
    argument: c_int,
    options: &'static Options<N>,
    setting: fn(&mut Config) -> &mut c_int,
) {
    let mut config = of(stack);
    match stack.kind(argument) {
        Kind::Nil => {}
        Kind::Boolean => *setting(&mut config) = c_int::from(stack.boolean(argument)),
        _ => {
            // SAFETY: the lists end with null.
            *setting(&mut config) = unsafe { stack.check_option(argument, options.0.as_ptr()) };
        }
    }
    store(stack, config);
    match *setting(&mut config) {
        2 => stack.push_bytes(b"null"),
        value => stack.push_boolean(value == 1),
    }
}

pub(super) fn sparse_array(stack: Stack) -> c_int {
    arguments(stack, 3);
    choice(stack, 1, &OFF_ON, |config| &mut config.sparse_convert);
    integer(stack, 2, (0, c_int::MAX), |config| &mut config.sparse_ratio);
    integer(stack, 3, (0, c_int::MAX), |config| &mut config.sparse_safe);
    3
}

pub(super) fn encode_depth(stack: Stack) -> c_int {
    arguments(stack, 1);
    integer(stack, 1, (1, c_int::MAX), |config| {
        &mut config.encode_max_depth
    });
    1
}

pub(super) fn decode_depth(stack: Stack) -> c_int {
    arguments(stack, 1);
    integer(stack, 1, (1, c_int::MAX), |config| {
        &mut config.decode_max_depth
    });
    1
}

pub(super) fn precision(stack: Stack) -> c_int {
    arguments(stack, 1);
    integer(stack, 1, (1, 14), |config| &mut config.precision);
    1
}

pub(super) fn keep_buffer(stack: Stack) -> c_int {
    arguments(stack, 1);
    choice(stack, 1, &OFF_ON, |config| &mut config.keep_buffer);
    1
}

pub(super) fn encode_invalid(stack: Stack) -> c_int {
    arguments(stack, 1);
    choice(stack, 1, &OFF_ON_NULL, |config| {
        &mut config.encode_invalid_numbers
    });
    1
}

pub(super) fn decode_invalid(stack: Stack) -> c_int {
    arguments(stack, 1);
    choice(stack, 1, &OFF_ON, |config| {
        &mut config.decode_invalid_numbers
    });
    1
}
