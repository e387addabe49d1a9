//! Values to JSON.
//!
//! A table whose keys are all positive integers is an array up to the greatest one, with nulls in
//! between; any other, and the empty one, is an object.

use super::config::{self, Config};
use crate::buffer::Buffer;
use crate::frames::Frames;
use crate::number::{self, to_i32};
use crate::stack::{Kind, Stack};
use std::ffi::c_int;

/// The buffer's slot.
const HIDDEN: c_int = 1;

/// A table that is being written; it is on the stack, with the key and the value at hand.
#[derive(Clone, Copy)]
enum Open {
    /// The element that comes next, and the last one.
    Array { next: u32, last: u32 },
    /// Whether an entry has been written.
    Object { started: bool },
}

struct Encoder {
    stack: Stack,
    config: Config,
    out: Buffer,
    tables: Frames<Open>,
}

/// `encode(value)`.
pub(super) fn encode(stack: Stack) -> c_int {
    if stack.top() != 1 {
        stack.raise_argument(1, format_args!("expected 1 argument"));
    }
    // The buffer's slot goes below the value, which is then on top as in Redis's function.
    stack.push_nil();
    stack.insert(1);
    let mut encoder = Encoder {
        stack,
        config: config::of(stack),
        out: Buffer::with_slot(stack, 1),
        tables: Frames::new(),
    };
    encoder.value();
    while encoder.advance() {
        encoder.value();
    }
    encoder.out.push_string();
    1
}

impl Encoder {
    /// Raises for the value at `index`.
    fn refuse(&self, index: c_int, reason: &str) -> ! {
        let name = self.stack.kind(index).name();
        self.stack
            .raise(format_args!("Cannot serialise {name}: {reason}"));
    }

    /// Writes the value on top, or opens it if it is a table.
    fn value(&mut self) {
        let stack = self.stack;
        match stack.kind(-1) {
            Kind::String => self.string(-1),
            Kind::Number => self.number(-1),
            Kind::Boolean if stack.boolean(-1) => self.out.extend(b"true"),
            Kind::Boolean => self.out.extend(b"false"),
            Kind::Nil => self.out.extend(b"null"),
            Kind::LightUserdata if stack.address(-1).is_null() => self.out.extend(b"null"),
            Kind::Table => self.open(),
            _ => self.refuse(-1, "type not supported"),
        }
    }

    fn open(&mut self) {
        let depth = self.tables.depth() + 1;
        let allowed = depth <= self.config.encode_max_depth as usize && self.stack.grow(3, HIDDEN);
        let table = match allowed.then(|| self.array_length()) {
            Some(last @ 1..) => Open::Array {
                next: 1,
                last: last as u32,
            },
            _ => Open::Object { started: false },
        };
        if !allowed || !self.tables.push(table) {
            self.stack.raise(format_args!(
                "Cannot serialise, excessive nesting ({depth})"
            ));
        }
        match table {
            Open::Array { .. } => self.out.push(b'['),
            Open::Object { .. } => {
                self.out.push(b'{');
                self.stack.push_nil();
            }
        }
    }

    /// Goes on after a value in the innermost table, and closes those that end; says whether
    /// another value is on top now.
    fn advance(&mut self) -> bool {
        let stack = self.stack;
        while let Some(table) = self.tables.last() {
            match *table {
                Open::Array { next, last } => {
                    if next > 1 {
                        stack.pop(1);
                    }
                    if next <= last {
                        *table = Open::Array {
                            next: next.wrapping_add(1),
                            last,
                        };
                        if next > 1 {
                            self.out.push(b',');
                        }
                        stack.element(-1, next as c_int);
                        return true;
                    }
                    self.out.push(b']');
                }
                Open::Object { started } => {
                    *table = Open::Object { started: true };
                    if started {
                        stack.pop(1);
                    }
                    if stack.next(-2) {
                        if started {
                            self.out.push(b',');
                        }
                        self.key();
                        return true;
                    }
                    self.out.push(b'}');
                }
            }
            self.tables.pop();
        }
        false
    }

    /// Writes the key below the value on top.
    fn key(&mut self) {
        match self.stack.kind(-2) {
            Kind::Number => {
                self.out.push(b'"');
                self.number(-2);
                self.out.extend(b"\":");
            }
            Kind::String => {
                self.string(-2);
                self.out.push(b':');
            }
            _ => self.refuse(-2, "table key must be a number or string"),
        }
    }

    /// The greatest index if the table on top is an array, else 0 or less.
    fn array_length(&self) -> i32 {
        let stack = self.stack;
        let (mut greatest, mut count) = (0i32, 0i32);
        stack.push_nil();
        while stack.next(-2) {
            let key = match stack.kind(-2) {
                Kind::Number => stack.number(-2),
                _ => 0.0,
            };
            if key < 1.0 || key.floor() != key {
                stack.pop(2);
                return -1;
            }
            if key > f64::from(greatest) {
                greatest = to_i32(key);
            }
            count = count.wrapping_add(1);
            stack.pop(1);
        }
        let config = &self.config;
        if config.sparse_ratio > 0
            && greatest > count.wrapping_mul(config.sparse_ratio)
            && greatest > config.sparse_safe
        {
            if config.sparse_convert == 0 {
                self.refuse(-1, "excessively sparse array");
            }
            return -1;
        }
        greatest
    }

    fn number(&mut self, index: c_int) {
        let number = self.stack.number(index);
        if !number.is_finite() {
            match self.config.encode_invalid_numbers {
                0 => self.refuse(index, "must not be NaN or Inf"),
                // The sign of an invalid number is not written.
                1 if number.is_nan() => return self.out.extend(b"nan"),
                1 => {}
                _ => return self.out.extend(b"null"),
            }
        }
        let mut text = [0; number::TEXT_BYTES_MAX];
        let text = number::format(number, self.config.precision, &mut text);
        self.out.extend(text);
    }

    fn string(&mut self, index: c_int) {
        // SAFETY: the string stays on the stack until it is written.
        let bytes = unsafe { self.stack.bytes(index) };
        self.out.push(b'"');
        let mut rest = bytes;
        while let Some(plain) = rest.iter().position(|byte| is_escaped(*byte)) {
            let (before, after) = rest.split_at(plain);
            self.out.extend(before);
            let Some((&byte, after)) = after.split_first() else {
                break;
            };
            self.escape(byte);
            rest = after;
        }
        self.out.extend(rest);
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            b'"' | b'/' | b'\\' => byte,
            _ => {
                let digit = |value: u8| match value {
                    0..=9 => b'0' + value,
                    _ => b'a' + (value - 10),
                };
                let text = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)];
                return self.out.extend(&text);
            }
        };
        self.out.extend(&[b'\\', short]);
    }
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'/' | b'\\' | 0x7f)
}
