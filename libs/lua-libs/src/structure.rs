//! The library `struct`: values packed into bytes by a format, and back.
//!
//! A format is a row of options: `<` and `>` choose the byte order, `!n` the greatest alignment,
//! `b B h H l L T i[n] I[n]` are integers, `f d` floats, `s` a string that ends with zero, `c[n]`
//! a string of given length, `x` a byte of padding. It ends at a zero byte.

use crate::buffer::Buffer;
use crate::message::Message;
use crate::number::{to_i64, to_u64};
use crate::stack::{Stack, c_function};
use std::ffi::{CStr, c_int};

/// The widest integer, in bytes; what is beyond eight is zero.
const INTEGER_BYTES_MAX: i32 = 32;

/// Pushes the library's table.
pub(crate) fn push(stack: Stack) {
    stack.push_table();
    for (name, function) in [
        (c"pack", c_function!(pack)),
        (c"unpack", c_function!(unpack)),
        (c"size", c_function!(size)),
    ] {
        stack.push_function(function, 0);
        stack.set_field(name);
    }
}

/// A format being read, and what its options have set.
struct Format<'a> {
    stack: Stack,
    rest: &'a [u8],
    little_endian: bool,
    align: i32,
}

impl<'a> Format<'a> {
    fn new(stack: Stack, text: &'a CStr) -> Self {
        Self {
            stack,
            rest: text.to_bytes(),
            little_endian: cfg!(target_endian = "little"),
            align: 1,
        }
    }

    /// The next option and its size in bytes; 0 for options that have none. Raises.
    fn next(&mut self) -> Option<(u8, usize)> {
        let (&option, rest) = self.rest.split_first()?;
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'f' => 4,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'c' => self.number(1),
            b'i' | b'I' => {
                let size = self.number(4);
                if size > INTEGER_BYTES_MAX {
                    self.stack.raise(format_args!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    ));
                }
                size
            }
            _ => 0,
        };
        Some((option, size as usize))
    }

    /// The digits that follow, or the default if there are none. Raises.
    fn number(&mut self, default: i32) -> i32 {
        let mut value = None;
        while let Some((&digit, rest)) = self.rest.split_first()
            && digit.is_ascii_digit()
        {
            let next = value
                .unwrap_or(0i32)
                .checked_mul(10)
                .and_then(|value| value.checked_add(i32::from(digit - b'0')));
            if next.is_none() {
                self.stack.raise(format_args!("integral size overflow"));
            }
            value = next;
            self.rest = rest;
        }
        value.unwrap_or(default)
    }

    /// How many bytes of padding a value needs at a position.
    fn padding(&self, position: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        // Sizes that are no power of two give what the mask gives.
        let size = size.min(self.align as usize);
        let mask = size.wrapping_sub(1);
        size.wrapping_sub(position & mask) & mask
    }

    /// Takes an option that has no size. Raises for one that is none.
    fn control(&mut self, option: u8) {
        match option {
            b' ' => {}
            b'>' => self.little_endian = false,
            b'<' => self.little_endian = true,
            b'!' => {
                let align = self.number(8);
                if align <= 0 || align & (align - 1) != 0 {
                    self.stack
                        .raise(format_args!("alignment {align} is not a power of 2"));
                }
                self.align = align;
            }
            _ => {
                let mut message = Message::new();
                message.push(b"invalid format option '");
                message.push(&[option]);
                message.push(b"'");
                self.stack.raise_argument_message(1, &message);
            }
        }
    }

    /// Puts bytes of lowest value first into the format's order, or back.
    fn order<const N: usize>(&self, mut bytes: [u8; N]) -> [u8; N] {
        if !self.little_endian {
            bytes.reverse();
        }
        bytes
    }
}

fn pack(stack: Stack) -> c_int {
    // SAFETY: the argument stays in its slot.
    let mut format = Format::new(stack, unsafe { stack.check_text(1) });
    let mut argument = 2;
    let mut total = 0usize;
    // An argument that is missing is nil, as if this were behind the last one.
    stack.push_nil();
    let mut out = Buffer::new(stack);
    while let Some((option, mut size)) = format.next() {
        let padding = format.padding(total, option, size);
        total = total.wrapping_add(padding);
        for _ in 0..padding {
            out.push(0);
        }
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                put_integer(&format, &mut out, stack.check_number(argument), size);
                argument += 1;
            }
            b'x' => out.push(0),
            b'f' => {
                let value = stack.check_number(argument) as f32;
                out.extend(&format.order(value.to_le_bytes()));
                argument += 1;
            }
            b'd' => {
                let value = stack.check_number(argument);
                out.extend(&format.order(value.to_le_bytes()));
                argument += 1;
            }
            b'c' | b's' => {
                // SAFETY: the argument stays in its slot.
                let bytes = unsafe { stack.check_bytes(argument) };
                argument += 1;
                if size == 0 {
                    size = bytes.len();
                }
                let Some(bytes) = bytes.get(..size) else {
                    // The number is that of the next argument, as in Redis.
                    stack.raise_argument(argument, format_args!("string too short"));
                };
                out.extend(bytes);
                if option == b's' {
                    out.push(0);
                    size += 1;
                }
            }
            _ => format.control(option),
        }
        total = total.wrapping_add(size);
    }
    out.push_string();
    1
}

fn put_integer(format: &Format<'_>, out: &mut Buffer, number: f64, size: usize) {
    let value = if number < 0.0 {
        to_i64(number) as u64
    } else {
        to_u64(number)
    };
    let mut bytes = [0; INTEGER_BYTES_MAX as usize];
    for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
        *to = from;
    }
    if let Some(bytes) = bytes.get_mut(..size) {
        if !format.little_endian {
            bytes.reverse();
        }
        out.extend(bytes);
    }
}

fn get_integer(format: &Format<'_>, bytes: &[u8], signed: bool) -> f64 {
    let step = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    let mut value = if format.little_endian {
        bytes.iter().rev().fold(0, step)
    } else {
        bytes.iter().fold(0, step)
    };
    if !signed {
        return value as f64;
    }
    // For sizes of 0 and above 8 the distance leaves the word; processors take it modulo 64.
    let bits = (bytes.len() as u32).wrapping_mul(8).wrapping_sub(1);
    let mask = u64::MAX.wrapping_shl(bits);
    if value & mask != 0 {
        value |= mask;
    }
    value as i64 as f64
}

/// The first bytes as an array, if there are enough.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

fn unpack(stack: Stack) -> c_int {
    // SAFETY: the arguments stay in their slots.
    let (text, data) = unsafe { (stack.check_text(1), stack.check_bytes(2)) };
    let mut format = Format::new(stack, text);
    let position = stack.optional_integer(3, 1);
    if position == 0 {
        stack.raise_argument(3, format_args!("offset must be 1 or greater"));
    }
    // A negative one wraps to beyond the data.
    let mut position = (position as usize).wrapping_sub(1);
    let mut results = 0;
    while let Some((option, mut size)) = format.next() {
        position = position.wrapping_add(format.padding(position, option, size));
        let mut bytes = take(stack, data, position, size);
        stack.grow_or_raise(2, 0, "too many results");
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = option.is_ascii_lowercase();
                stack.push_number(get_integer(&format, bytes, signed));
                results += 1;
            }
            b'x' => {}
            b'f' => {
                let value = f32::from_le_bytes(format.order(array(bytes)));
                stack.push_number(f64::from(value));
                results += 1;
            }
            b'd' => {
                stack.push_number(f64::from_le_bytes(format.order(array(bytes))));
                results += 1;
            }
            b'c' => {
                if size == 0 {
                    if results == 0 || !stack.is_numeric(-1) {
                        stack.raise(format_args!("format 'c0' needs a previous size"));
                    }
                    size = to_u64(stack.number(-1)) as usize;
                    stack.pop(1);
                    results -= 1;
                    bytes = take(stack, data, position, size);
                }
                stack.push_bytes(bytes);
                results += 1;
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let Some(end) = rest.iter().position(|byte| *byte == 0) else {
                    stack.raise(format_args!("unfinished string in data"));
                };
                size = end + 1;
                stack.push_bytes(rest.get(..end).unwrap_or_default());
                results += 1;
            }
            _ => format.control(option),
        }
        position = position.wrapping_add(size);
    }
    stack.push_number(position.wrapping_add(1) as i64 as f64);
    results + 1
}

/// A part of the data. Raises if it is not all there.
fn take(stack: Stack, data: &[u8], position: usize, size: usize) -> &[u8] {
    let part = position
        .checked_add(size)
        .and_then(|end| data.get(position..end));
    let Some(part) = part else {
        stack.raise_argument(2, format_args!("data string too short"));
    };
    part
}

fn size(stack: Stack) -> c_int {
    // SAFETY: the argument stays in its slot.
    let mut format = Format::new(stack, unsafe { stack.check_text(1) });
    let mut position = 0usize;
    while let Some((option, size)) = format.next() {
        position = position.wrapping_add(format.padding(position, option, size));
        if option == b's' || (option == b'c' && size == 0) {
            let name = if option == b's' { "s" } else { "c0" };
            stack.raise_argument(1, format_args!("option '{name}' has no fixed size"));
        }
        // Letters that are no option count as nothing here.
        if !option.is_ascii_alphanumeric() {
            format.control(option);
        }
        position = position.wrapping_add(size);
    }
    stack.push_number(position as i64 as f64);
    1
}
