//! The layout of every value type, in one place: what follows what.
//!
//! A walk checks structure (lengths against what is there, known encodings)
//! and not content: no string is decompressed, no blob looked into.

use std::io::{ErrorKind, Read};

use super::error::ObjectError;
use super::input::{Cursor, Input};
use super::types;

/// The largest step in bytes by which a value read from a stream grows.
const READ_STEP_BYTES: u64 = 64 * 1024;

const MODULE_EOF: u64 = 0;
const MODULE_SINT: u64 = 1;
const MODULE_UINT: u64 = 2;
const MODULE_FLOAT: u64 = 3;
const MODULE_DOUBLE: u64 = 4;
const MODULE_STRING: u64 = 5;

/// Length in bytes of the value of type `object_type` at the start of `bytes`,
/// which may go on after it.
pub fn walk(object_type: u8, bytes: &[u8]) -> Result<usize, ObjectError> {
    let mut cursor = Cursor::new(bytes);
    walk_value(&mut cursor, object_type)?;
    Ok(cursor.offset())
}

/// Reads one value of type `object_type` and appends its bytes, as they are,
/// to `out`.
///
/// `out` grows as bytes arrive, by at most 64 KiB ahead of them. More than
/// `bytes_max` for this value is an error. The reader should be buffered. A
/// reader that ends early gives [`ObjectError::Truncated`].
pub fn copy_value<R: Read>(
    reader: &mut R,
    object_type: u8,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), ObjectError> {
    let start = out.len();
    walk_value(
        &mut Collector {
            reader,
            out,
            start,
            bytes_max,
        },
        object_type,
    )
}

/// Reads one RDB string the way [`copy_value`] reads a value.
pub(crate) fn copy_string<R: Read>(
    reader: &mut R,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), ObjectError> {
    let start = out.len();
    Collector {
        reader,
        out,
        start,
        bytes_max,
    }
    .string()
}

/// Reads one RDB length the way [`copy_value`] reads a value.
pub(crate) fn copy_length<R: Read>(reader: &mut R, out: &mut Vec<u8>) -> Result<u64, ObjectError> {
    let start = out.len();
    Collector {
        reader,
        out,
        start,
        bytes_max: usize::MAX,
    }
    .length()
}

/// The name of a module type, as its 54 upper bits spell it.
pub fn module_name(id: u64) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .rev()
        .map(|index| {
            let digit = (id >> (10 + 6 * index)) & 63;
            char::from(ALPHABET.get(digit as usize).copied().unwrap_or(b'?'))
        })
        .collect()
}

/// Drives `input` over one value.
pub(crate) fn walk_value<I: Input>(input: &mut I, object_type: u8) -> Result<(), ObjectError> {
    match object_type {
        types::STRING
        | types::HASH_ZIPMAP..=types::HASH_ZIPLIST
        | types::HASH_LISTPACK
        | types::ZSET_LISTPACK
        | types::SET_LISTPACK
        | types::HASH_LISTPACK_EX_PRE_GA => input.string(),
        types::HASH_LISTPACK_EX => {
            input.skip(8)?;
            input.string()
        }
        types::LIST | types::SET | types::LIST_QUICKLIST => each(input, |input| input.string()),
        types::HASH => each(input, |input| {
            input.string()?;
            input.string()
        }),
        types::ZSET => each(input, |input| {
            input.string()?;
            walk_text_double(input)
        }),
        types::ZSET_2 => each(input, |input| {
            input.string()?;
            input.skip(8)
        }),
        types::LIST_QUICKLIST_2 => each(input, |input| {
            input.length()?;
            input.string()
        }),
        types::HASH_METADATA | types::HASH_METADATA_PRE_GA => {
            if object_type == types::HASH_METADATA {
                input.skip(8)?;
            }
            each(input, |input| {
                input.length()?;
                input.string()?;
                input.string()
            })
        }
        types::STREAM_LISTPACKS | types::STREAM_LISTPACKS_2 | types::STREAM_LISTPACKS_3 => {
            walk_stream(input, object_type)
        }
        types::MODULE_2 => {
            input.length()?;
            walk_module_fields(input)
        }
        types::MODULE_PRE_GA => Err(ObjectError::ModulePreGa),
        unknown => Err(ObjectError::UnknownType(unknown)),
    }
}

/// A count and as many elements. Every element takes a byte at least, so a
/// false count ends with the input.
fn each<I: Input>(
    input: &mut I,
    mut element: impl FnMut(&mut I) -> Result<(), ObjectError>,
) -> Result<(), ObjectError> {
    for _ in 0..input.length()? {
        element(input)?;
    }
    Ok(())
}

fn walk_text_double<I: Input>(input: &mut I) -> Result<(), ObjectError> {
    match input.byte()? {
        253..=255 => Ok(()),
        length => input.skip(u64::from(length)),
    }
}

fn walk_stream<I: Input>(input: &mut I, object_type: u8) -> Result<(), ObjectError> {
    each(input, |input| {
        input.string()?;
        input.string()
    })?;
    // Length and last id; later first id, largest deleted id, entries added.
    let counters = if object_type == types::STREAM_LISTPACKS {
        3
    } else {
        8
    };
    for _ in 0..counters {
        input.length()?;
    }
    each(input, |input| {
        input.string()?;
        // Last id, and since 7.0 the entries read.
        let counters = if object_type == types::STREAM_LISTPACKS {
            2
        } else {
            3
        };
        for _ in 0..counters {
            input.length()?;
        }
        each(input, |input| {
            // Id and delivery time, then the delivery count.
            input.skip(24)?;
            input.length().map(|_| ())
        })?;
        each(input, |input| {
            input.string()?;
            input.consumer_times(object_type == types::STREAM_LISTPACKS_3)?;
            each(input, |input| input.skip(16))
        })
    })
}

pub(crate) fn walk_module_fields<I: Input>(input: &mut I) -> Result<(), ObjectError> {
    loop {
        let at = input.offset();
        match input.length()? {
            MODULE_EOF => return Ok(()),
            MODULE_SINT | MODULE_UINT => {
                input.length()?;
            }
            MODULE_FLOAT => input.skip(4)?,
            MODULE_DOUBLE => input.skip(8)?,
            MODULE_STRING => input.string()?,
            _ => return Err(ObjectError::corrupt("unknown module opcode", at)),
        }
    }
}

/// Keeps everything that the walk reads.
struct Collector<'r, R> {
    reader: &'r mut R,
    out: &'r mut Vec<u8>,
    start: usize,
    bytes_max: usize,
}

impl<R: Read> Collector<'_, R> {
    fn check_room(&self, count: u64) -> Result<(), ObjectError> {
        let left = self.bytes_max.saturating_sub(self.offset());
        if u64::try_from(left).is_ok_and(|left| count > left) {
            return Err(ObjectError::TooLarge {
                bytes_max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn read_error(&self, error: std::io::Error) -> ObjectError {
        match error.kind() {
            ErrorKind::UnexpectedEof => ObjectError::Truncated {
                offset: self.offset(),
            },
            _ => ObjectError::Io(error),
        }
    }
}

impl<R: Read> Input for Collector<'_, R> {
    fn offset(&self) -> usize {
        self.out.len() - self.start
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        self.check_room(N as u64)?;
        let mut array = [0; N];
        self.reader
            .read_exact(&mut array)
            .map_err(|error| self.read_error(error))?;
        self.out.extend_from_slice(&array);
        Ok(array)
    }

    fn skip(&mut self, count: u64) -> Result<(), ObjectError> {
        self.check_room(count)?;
        let mut left = count;
        while left > 0 {
            let step = left.min(READ_STEP_BYTES) as usize;
            let from = self.out.len();
            self.out.resize(from + step, 0);
            let target = self.out.get_mut(from..).unwrap_or_default();
            if let Err(error) = self.reader.read_exact(target) {
                self.out.truncate(from);
                return Err(self.read_error(error));
            }
            left -= step as u64;
        }
        Ok(())
    }
}
