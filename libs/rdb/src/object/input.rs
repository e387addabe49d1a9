//! Reading the primitives of the RDB format: lengths and strings.
//!
//! One walker (`walk.rs`) knows how values are laid out. It drives an
//! [`Input`], and what becomes of the bytes is the input's affair: skipped
//! ([`Cursor`]), collected from a reader, or rewritten into another form.

use std::borrow::Cow;

use super::error::ObjectError;
use crate::lzf;
use crate::number::{IntBuf, format_i64};

pub(crate) const ENCODING_INT8: u8 = 0;
pub(crate) const ENCODING_INT16: u8 = 1;
pub(crate) const ENCODING_INT32: u8 = 2;
pub(crate) const ENCODING_LZF: u8 = 3;

/// What the length prefix of a string says.
pub(crate) enum Length {
    Plain(u64),
    Encoded(u8),
}

/// A source of value bytes. Every method consumes what it reads.
pub(crate) trait Input {
    /// Offset in bytes of what is read next, for error texts.
    fn offset(&self) -> usize;

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError>;

    fn skip(&mut self, count: u64) -> Result<(), ObjectError>;

    #[inline]
    fn byte(&mut self) -> Result<u8, ObjectError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn length_or_encoding(&mut self) -> Result<Length, ObjectError> {
        let at = self.offset();
        let first = self.byte()?;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(first)),
            (1, _) => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            (2, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return Err(ObjectError::corrupt("unknown length encoding", at)),
            _ => Length::Encoded(first & 0x3f),
        })
    }

    /// A length, or any other unsigned number stored as one.
    #[inline]
    fn length(&mut self) -> Result<u64, ObjectError> {
        let at = self.offset();
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(ObjectError::corrupt("encoding in place of a length", at)),
        }
    }

    fn string(&mut self) -> Result<(), ObjectError> {
        let at = self.offset();
        match self.length_or_encoding()? {
            Length::Plain(length) => self.skip(length),
            Length::Encoded(ENCODING_INT8) => self.skip(1),
            Length::Encoded(ENCODING_INT16) => self.skip(2),
            Length::Encoded(ENCODING_INT32) => self.skip(4),
            Length::Encoded(ENCODING_LZF) => {
                let compressed = self.length()?;
                self.length()?;
                self.skip(compressed)
            }
            Length::Encoded(_) => Err(ObjectError::corrupt("unknown string encoding", at)),
        }
    }

    /// Seen and, in the newest streams, active time of a consumer. One method,
    /// since a rewriter adds or drops the second.
    fn consumer_times(&mut self, has_active: bool) -> Result<(), ObjectError> {
        self.skip(if has_active { 16 } else { 8 })
    }
}

/// A string as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StringRef<'a> {
    /// The bytes of length prefix and content.
    pub(crate) encoded: &'a [u8],
    pub(crate) body: Body<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    Raw(&'a [u8]),
    Int(i64),
    Lzf { compressed: &'a [u8], len: usize },
}

impl<'a> StringRef<'a> {
    /// The content, decompressed or spelt out where necessary.
    pub(crate) fn content(&self) -> Result<Cow<'a, [u8]>, ObjectError> {
        match self.body {
            Body::Raw(bytes) => Ok(Cow::Borrowed(bytes)),
            Body::Int(value) => Ok(Cow::Owned(
                format_i64(value, &mut IntBuf::default()).to_vec(),
            )),
            Body::Lzf { compressed, len } => Ok(Cow::Owned(lzf::decompress(compressed, len)?)),
        }
    }
}

/// A value in memory, read from front to back.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether an LZF string was passed.
    pub(crate) saw_compressed: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            saw_compressed: false,
        }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn slice(&self, from: usize) -> &'a [u8] {
        self.bytes.get(from..self.at).unwrap_or(&[])
    }

    #[inline]
    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8], ObjectError> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count))
            .and_then(|end| self.bytes.get(self.at..end));
        match taken {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(ObjectError::Truncated {
                offset: self.bytes.len(),
            }),
        }
    }

    /// The next string, not yet decompressed.
    #[inline]
    pub(crate) fn string_ref(&mut self) -> Result<StringRef<'a>, ObjectError> {
        let from = self.at;
        let body = match self.length_or_encoding()? {
            Length::Plain(length) => Body::Raw(self.take(length)?),
            Length::Encoded(ENCODING_INT8) => {
                Body::Int(i64::from(i8::from_le_bytes(self.array()?)))
            }
            Length::Encoded(ENCODING_INT16) => {
                Body::Int(i64::from(i16::from_le_bytes(self.array()?)))
            }
            Length::Encoded(ENCODING_INT32) => {
                Body::Int(i64::from(i32::from_le_bytes(self.array()?)))
            }
            Length::Encoded(ENCODING_LZF) => {
                let compressed_len = self.length()?;
                let len = self.length()?;
                let compressed = self.take(compressed_len)?;
                self.saw_compressed = true;
                let len = usize::try_from(len)
                    .map_err(|_| ObjectError::corrupt("LZF string too long", from))?;
                Body::Lzf { compressed, len }
            }
            Length::Encoded(_) => {
                return Err(ObjectError::corrupt("unknown string encoding", from));
            }
        };
        Ok(StringRef {
            encoded: self.slice(from),
            body,
        })
    }

    /// The next string's content.
    #[inline]
    pub(crate) fn content(&mut self) -> Result<Cow<'a, [u8]>, ObjectError> {
        self.string_ref()?.content()
    }

    pub(crate) fn time_ms(&mut self) -> Result<i64, ObjectError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Everything must have been read.
    pub(crate) fn finish(&self) -> Result<(), ObjectError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(ObjectError::corrupt("bytes after the value", self.at))
        }
    }

    /// A capacity for `count` elements that a few bytes of input can't inflate;
    /// beyond it the vector grows as elements arrive.
    pub(crate) fn capacity_for(&self, count: u64) -> usize {
        usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.remaining())
            .min(1024)
    }
}

impl Input for Cursor<'_> {
    fn offset(&self) -> usize {
        self.at
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ObjectError> {
        match self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
        {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(ObjectError::Truncated {
                offset: self.bytes.len(),
            }),
        }
    }

    #[inline]
    fn skip(&mut self, count: u64) -> Result<(), ObjectError> {
        self.take(count).map(|_| ())
    }

    fn string(&mut self) -> Result<(), ObjectError> {
        self.string_ref().map(|_| ())
    }
}
