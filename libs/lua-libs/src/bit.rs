//! The library `bit`: operations on the low 32 bits of numbers, results signed.

use crate::stack::{Kind, Stack, c_function};
use std::ffi::c_int;

/// Pushes the library's table.
pub(crate) fn push(stack: Stack) {
    stack.push_table();
    for (name, function) in [
        (c"tobit", c_function!(to_bit)),
        (c"bnot", c_function!(not)),
        (c"band", c_function!(and)),
        (c"bor", c_function!(or)),
        (c"bxor", c_function!(xor)),
        (c"lshift", c_function!(shift_left)),
        (c"rshift", c_function!(shift_right)),
        (c"arshift", c_function!(shift_right_signed)),
        (c"rol", c_function!(rotate_left)),
        (c"ror", c_function!(rotate_right)),
        (c"bswap", c_function!(swap_bytes)),
        (c"tohex", c_function!(to_hex)),
    ] {
        stack.push_function(function, 0);
        stack.set_field(name);
    }
}

/// An argument's bits. Raises if it is no number.
fn argument(stack: Stack, index: c_int) -> u32 {
    // 2^52 + 2^51: after the addition the integer stands in the low bits, rounded to even, and
    // numbers too large for that give the bits that the original gives.
    let bits = (stack.number(index) + 6_755_399_441_055_744.0).to_bits() as u32;
    if bits == 0 && !stack.is_numeric(index) {
        stack.raise_argument(
            index,
            format_args!("number expected, got {}", stack.kind(index).name()),
        );
    }
    bits
}

fn give(stack: Stack, bits: u32) -> c_int {
    stack.push_number(f64::from(bits as i32));
    1
}

fn to_bit(stack: Stack) -> c_int {
    give(stack, argument(stack, 1))
}

fn not(stack: Stack) -> c_int {
    give(stack, !argument(stack, 1))
}

fn swap_bytes(stack: Stack) -> c_int {
    give(stack, argument(stack, 1).swap_bytes())
}

/// Joins all arguments; the last is looked at after the first, which matters for errors.
fn join(stack: Stack, with: fn(u32, u32) -> u32) -> c_int {
    let mut bits = argument(stack, 1);
    let mut index = stack.top();
    while index > 1 {
        bits = with(bits, argument(stack, index));
        index -= 1;
    }
    give(stack, bits)
}

fn and(stack: Stack) -> c_int {
    join(stack, |left, right| left & right)
}

fn or(stack: Stack) -> c_int {
    join(stack, |left, right| left | right)
}

fn xor(stack: Stack) -> c_int {
    join(stack, |left, right| left ^ right)
}

/// Shifts by the low five bits of the second argument.
fn shift(stack: Stack, by: fn(u32, u32) -> u32) -> c_int {
    let bits = argument(stack, 1);
    let count = argument(stack, 2) & 31;
    give(stack, by(bits, count))
}

fn shift_left(stack: Stack) -> c_int {
    shift(stack, u32::wrapping_shl)
}

fn shift_right(stack: Stack) -> c_int {
    shift(stack, u32::wrapping_shr)
}

fn shift_right_signed(stack: Stack) -> c_int {
    shift(stack, |bits, count| {
        (bits as i32).wrapping_shr(count) as u32
    })
}

fn rotate_left(stack: Stack) -> c_int {
    shift(stack, u32::rotate_left)
}

fn rotate_right(stack: Stack) -> c_int {
    shift(stack, u32::rotate_right)
}

/// The low digits, as many as the second argument says; upper case if it is negative.
fn to_hex(stack: Stack) -> c_int {
    let mut bits = argument(stack, 1);
    let count = match stack.kind(2) {
        Kind::None => 8,
        _ => argument(stack, 2) as i32,
    };
    let digits = if count < 0 {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    };
    let mut text = [0; 8];
    let length = count.unsigned_abs().min(8) as usize;
    for place in text.iter_mut().take(length).rev() {
        *place = digits.get((bits & 15) as usize).copied().unwrap_or(b'0');
        bits >>= 4;
    }
    stack.push_bytes(text.get(..length).unwrap_or_default());
    1
}
