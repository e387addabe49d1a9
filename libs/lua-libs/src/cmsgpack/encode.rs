//! Values to MessagePack.
//!
//! A number that is an integer is written as the shortest integer, another as the shortest float
//! without loss. A table with the keys 1 to n and no other is an array (also the empty one), any
//! other a map. What has no form (functions, threads) is nil, and so is a table inside
//! [`NESTING_MAX`] others, which ends circles.

use crate::buffer::Buffer;
use crate::number::{to_i32, to_i64};
use crate::stack::{Kind, Stack};
use std::ffi::c_int;

/// How many tables may be in each other.
const NESTING_MAX: u32 = 16;

struct Encoder {
    stack: Stack,
    out: Buffer,
    /// Slots that Redis's function does not have, less those that only it has.
    hidden: c_int,
}

/// Packs all arguments, one behind the other.
pub(super) fn pack(stack: Stack) -> c_int {
    let arguments = stack.top();
    if arguments == 0 {
        stack.raise_argument(0, format_args!("MessagePack pack needs input."));
    }
    if !stack.grow(arguments, 0) {
        stack.raise_argument(0, format_args!("Too many arguments for MessagePack pack."));
    }
    let mut encoder = Encoder {
        stack,
        out: Buffer::new(stack),
        hidden: 1,
    };
    for argument in 1..=arguments {
        encoder.grow(1, "in function mp_check");
        stack.push_copy(argument);
        encoder.value(0);
        // Redis's function leaves a string for each argument on the stack.
        encoder.hidden -= 1;
    }
    encoder.out.push_string();
    1
}

impl Encoder {
    fn grow(&self, slots: c_int, place: &str) {
        self.stack.grow_or_raise(slots, self.hidden, place);
    }

    /// Writes and pops the top value.
    fn value(&mut self, level: u32) {
        let stack = self.stack;
        match stack.kind(-1) {
            Kind::String => {
                // SAFETY: the string stays on the stack until it is written.
                let bytes = unsafe { stack.bytes(-1) };
                self.header(bytes.len(), &STRING);
                self.out.extend(bytes);
            }
            Kind::Boolean => self.out.push(if stack.boolean(-1) { 0xc3 } else { 0xc2 }),
            Kind::Number => self.number(stack.number(-1)),
            Kind::Table if level < NESTING_MAX => {
                if self.is_array() {
                    self.array(level);
                } else {
                    self.map(level);
                }
            }
            _ => self.out.push(0xc0),
        }
        stack.pop(1);
    }

    fn number(&mut self, number: f64) {
        let integer = to_i64(number);
        if number.is_finite() && integer as f64 == number {
            self.integer(integer);
        } else if f64::from(number as f32) == number {
            self.out.push(0xca);
            self.out.extend(&(number as f32).to_be_bytes());
        } else {
            self.out.push(0xcb);
            self.out.extend(&number.to_be_bytes());
        }
    }

    fn integer(&mut self, integer: i64) {
        let (code, bytes) = match integer {
            -32..=127 => (None, 1),
            128..=0xff => (Some(0xcc), 1),
            0x100..=0xffff => (Some(0xcd), 2),
            0x1_0000..=0xffff_ffff => (Some(0xce), 4),
            0x1_0000_0000.. => (Some(0xcf), 8),
            -0x80..=-33 => (Some(0xd0), 1),
            -0x8000..=-0x81 => (Some(0xd1), 2),
            -0x8000_0000..=-0x8001 => (Some(0xd2), 4),
            _ => (Some(0xd3), 8),
        };
        if let Some(code) = code {
            self.out.push(code);
        }
        self.low_bytes(integer as u64, bytes);
    }

    fn low_bytes(&mut self, value: u64, count: usize) {
        let bytes = value.to_be_bytes();
        self.out.extend(bytes.get(8 - count..).unwrap_or_default());
    }

    fn header(&mut self, length: usize, form: &Form) {
        if length <= form.short_max {
            self.out.push(form.short | length as u8);
            return;
        }
        let (code, bytes) = match length {
            0..=0xff if form.byte.is_some() => (form.byte.unwrap_or_default(), 1),
            0..=0xffff => (form.word, 2),
            _ => (form.word + 1, 4),
        };
        self.out.push(code);
        self.low_bytes(length as u64, bytes);
    }

    /// Whether the table on top has the keys 1 to n and no other.
    fn is_array(&self) -> bool {
        let stack = self.stack;
        self.grow(2, "in function table_is_an_array");
        let table = stack.top();
        let (mut count, mut greatest) = (0i32, 0i32);
        stack.push_nil();
        while stack.next(table) {
            stack.pop(1);
            let key = match stack.kind(-1) {
                Kind::Number => stack.number(-1),
                _ => 0.0,
            };
            let integer = to_i32(key);
            // Also false for keys that are no number.
            if !(key > 0.0 && f64::from(integer) == key) {
                stack.set_top(table);
                return false;
            }
            greatest = greatest.max(integer);
            count = count.wrapping_add(1);
        }
        count == greatest
    }

    fn array(&mut self, level: u32) {
        let length = self.stack.length(-1);
        self.header(length, &ARRAY);
        self.grow(1, "in function mp_encode_lua_table_as_array");
        for index in 1..=length {
            self.stack.element(-1, index as c_int);
            self.value(level + 1);
        }
    }

    fn map(&mut self, level: u32) {
        let stack = self.stack;
        self.grow(3, "in function mp_encode_lua_table_as_map");
        let table = stack.top();
        let mut length = 0;
        stack.push_nil();
        while stack.next(table) {
            stack.pop(1);
            length += 1;
        }
        self.header(length, &MAP);
        stack.push_nil();
        while stack.next(table) {
            stack.push_copy(-2);
            self.value(level + 1);
            self.value(level + 1);
        }
    }
}

/// How the length of a kind of value is written.
struct Form {
    /// The code of short ones, which holds the length itself.
    short: u8,
    short_max: usize,
    /// The code before a length of one byte, for kinds that have it.
    byte: Option<u8>,
    /// The code before a length of two bytes; that for four is the next.
    word: u8,
}

const STRING: Form = Form {
    short: 0xa0,
    short_max: 31,
    byte: Some(0xd9),
    word: 0xda,
};
const ARRAY: Form = Form {
    short: 0x90,
    short_max: 15,
    byte: None,
    word: 0xdc,
};
const MAP: Form = Form {
    short: 0x80,
    short_max: 15,
    byte: None,
    word: 0xde,
};
