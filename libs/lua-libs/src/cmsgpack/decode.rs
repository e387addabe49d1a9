//! MessagePack to values.
//!
//! Lengths in the data are never believed: a table grows by the elements that are there. Nesting
//! ends where Lua's stack does.

use crate::frames::Frames;
use crate::stack::Stack;
use std::ffi::c_int;

/// Why data can't be read.
enum Failure {
    Missing,
    Format,
}

/// A table that is being filled.
#[derive(Clone, Copy)]
struct Open {
    /// Elements or pairs to come.
    left: u32,
    /// What the next value is.
    next: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// The element of this index, which is on the stack.
    Element(u32),
    Key,
    Value,
}

/// One value as its head tells.
enum Head<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    String(&'a [u8]),
    Array(u32),
    Map(u32),
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The bytes behind the code, which go with it: missing ones leave the code where it is.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let bytes = self
            .rest
            .get(1..)
            .and_then(<[u8]>::first_chunk)
            .ok_or(Failure::Missing)?;
        self.skip(1 + N);
        Ok(*bytes)
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn string(&mut self, length: usize) -> Result<Head<'a>, Failure> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Failure::Missing)?;
        self.rest = rest;
        Ok(Head::String(bytes))
    }

    fn number<const N: usize>(&mut self, read: fn([u8; N]) -> f64) -> Result<Head<'a>, Failure> {
        Ok(Head::Number(read(self.fixed()?)))
    }

    fn length_16(&mut self) -> Result<u32, Failure> {
        Ok(u32::from(u16::from_be_bytes(self.fixed()?)))
    }

    fn length_32(&mut self) -> Result<u32, Failure> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// Takes a code with nothing behind it that belongs to it.
    fn short(&mut self, head: Head<'a>) -> Result<Head<'a>, Failure> {
        self.skip(1);
        Ok(head)
    }

    fn head(&mut self, code: u8) -> Result<Head<'a>, Failure> {
        match code {
            0x00..=0x7f => self.short(Head::Number(f64::from(code))),
            0x80..=0x8f => self.short(Head::Map(u32::from(code & 0xf))),
            0x90..=0x9f => self.short(Head::Array(u32::from(code & 0xf))),
            0xa0..=0xbf => {
                self.skip(1);
                self.string(usize::from(code & 0x1f))
            }
            0xc0 => self.short(Head::Nil),
            0xc2 | 0xc3 => self.short(Head::Boolean(code == 0xc3)),
            0xca => self.number(|bytes| f64::from(f32::from_be_bytes(bytes))),
            0xcb => self.number(f64::from_be_bytes),
            0xcc => self.number(|[byte]| f64::from(byte)),
            0xcd => self.number(|bytes| f64::from(u16::from_be_bytes(bytes))),
            0xce => self.number(|bytes| f64::from(u32::from_be_bytes(bytes))),
            // Unsigned ones of 64 bits are read as signed, as Redis does.
            0xcf | 0xd3 => self.number(|bytes| i64::from_be_bytes(bytes) as f64),
            0xd0 => self.number(|bytes| f64::from(i8::from_be_bytes(bytes))),
            0xd1 => self.number(|bytes| f64::from(i16::from_be_bytes(bytes))),
            0xd2 => self.number(|bytes| f64::from(i32::from_be_bytes(bytes))),
            0xd9 => {
                let [length] = self.fixed()?;
                self.string(usize::from(length))
            }
            0xda => {
                let length = self.length_16()?;
                self.string(length as usize)
            }
            0xdb => {
                let length = self.length_32()?;
                self.string(length as usize)
            }
            0xdc => Ok(Head::Array(self.length_16()?)),
            0xdd => Ok(Head::Array(self.length_32()?)),
            0xde => Ok(Head::Map(self.length_16()?)),
            0xdf => Ok(Head::Map(self.length_32()?)),
            0xe0..=0xff => self.short(Head::Number(f64::from(code as i8))),
            _ => Err(Failure::Format),
        }
    }
}

/// Pushes the next value of the data with all that is in it.
fn value(stack: Stack, data: &mut Cursor<'_>) -> Result<(), Failure> {
    let mut tables: Frames<Open> = Frames::new();
    loop {
        let code = *data.rest.first().ok_or(Failure::Missing)?;
        stack.grow_or_raise(
            1,
            0,
            "too many return values at once; use unpack_one or unpack_limit instead.",
        );
        let mut opened = false;
        match data.head(code)? {
            Head::Nil => stack.push_nil(),
            Head::Boolean(value) => stack.push_boolean(value),
            Head::Number(number) => stack.push_number(number),
            Head::String(bytes) => stack.push_bytes(bytes),
            Head::Array(left) => {
                stack.push_table();
                stack.grow_or_raise(1, 0, "in function mp_decode_to_lua_array");
                opened = tables.push(Open {
                    left,
                    next: Place::Element(1),
                });
            }
            Head::Map(left) => {
                stack.push_table();
                opened = tables.push(Open {
                    left,
                    next: Place::Key,
                });
            }
        }
        if !close(stack, &mut tables, !opened) {
            return Ok(());
        }
    }
}

/// Puts the value on top, if it is `complete`, into the table below it, and the table into the
/// next once it is full; says whether a value is still to come.
fn close(stack: Stack, tables: &mut Frames<Open>, mut complete: bool) -> bool {
    while let Some(table) = tables.last() {
        if complete {
            match table.next {
                Place::Key => table.next = Place::Value,
                Place::Value => {
                    stack.set_entry(-3);
                    table.next = Place::Key;
                    table.left = table.left.saturating_sub(1);
                }
                Place::Element(index) => {
                    stack.set_entry(-3);
                    table.next = Place::Element(index.wrapping_add(1));
                    table.left = table.left.saturating_sub(1);
                }
            }
        }
        match table.next {
            Place::Value => return true,
            _ if table.left == 0 => {
                tables.pop();
                complete = true;
            }
            Place::Element(index) => {
                stack.push_number(f64::from(index as i32));
                return true;
            }
            Place::Key => return true,
        }
    }
    false
}

/// Reads at most `limit` values from an offset, all if both are 0; then no offset is returned.
fn unpack_some(stack: Stack, limit: i64, offset: i64) -> c_int {
    let all = limit == 0 && offset == 0;
    // SAFETY: the argument stays in its slot.
    let bytes = unsafe { stack.check_bytes(1) };
    if offset < 0 || limit < 0 {
        // The limit that is named is the length, as in Redis.
        stack.raise(format_args!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            offset as i32,
            bytes.len() as i32
        ));
    }
    let Some(rest) = bytes.get(offset as usize..) else {
        stack.raise(format_args!(
            "Start offset {} greater than input length {}.",
            offset as i32,
            bytes.len() as i32
        ));
    };
    let limit = if all { i64::from(i32::MAX) } else { limit };
    let mut data = Cursor { rest };
    let mut count = 0;
    while !data.rest.is_empty() && i64::from(count) < limit {
        match value(stack, &mut data) {
            Ok(()) => count += 1,
            Err(Failure::Missing) => stack.raise(format_args!("Missing bytes in input.")),
            Err(Failure::Format) => stack.raise(format_args!("Bad data format in input.")),
        }
    }
    if !all {
        stack.grow_or_raise(1, 0, "in function mp_unpack_full");
        let next = match data.rest.len() {
            0 => -1,
            left => bytes.len().wrapping_sub(left) as i64,
        };
        stack.push_number(next as f64);
        stack.insert(2);
        count += 1;
    }
    count
}

/// `unpack(data)`: all values.
pub(super) fn unpack(stack: Stack) -> c_int {
    unpack_some(stack, 0, 0)
}

/// `unpack_one(data [, offset])`: the offset of the next value, or -1, and the value.
pub(super) fn unpack_one(stack: Stack) -> c_int {
    let offset = stack.optional_integer(2, 0);
    stack.set_top(stack.top().min(1));
    unpack_some(stack, 1, offset)
}

/// `unpack_limit(data, limit [, offset])`: the offset of the next value, or -1, and the values.
pub(super) fn unpack_limit(stack: Stack) -> c_int {
    let limit = crate::number::to_i64(stack.check_number(2));
    let offset = stack.optional_integer(3, 0);
    stack.set_top(stack.top().min(1));
    unpack_some(stack, limit, offset)
}
