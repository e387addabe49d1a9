//! An element as it is stored: integers stay integers until text is asked for.

use std::cmp::Ordering;

use crate::number::{IntBuf, format_i64, parse_i64, text_len_i64};

/// One element, borrowed from the blob that holds it.
///
/// Integers compare equal to the string that spells them: which of the two is
/// stored is an encoding detail that no client can see.
#[derive(Debug, Clone, Copy)]
pub enum LpValue<'a> {
    /// Stored as an integer.
    Int(i64),
    /// Stored as a string.
    Str(&'a [u8]),
}

impl<'a> LpValue<'a> {
    /// Whether the element's text is `text`. Allocates nothing.
    #[inline]
    pub fn eq_bytes(&self, text: &[u8]) -> bool {
        match *self {
            Self::Int(value) => parse_i64(text) == Some(value),
            Self::Str(bytes) => bytes == text,
        }
    }

    /// Order of the element's text against `text`, as `memcmp` and then length.
    pub fn cmp_bytes(&self, text: &[u8]) -> Ordering {
        self.bytes(&mut IntBuf::default()).cmp(text)
    }

    /// The element's text; an integer is spelt out into `buf`.
    #[inline]
    pub fn bytes<'b>(&self, buf: &'b mut IntBuf) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Self::Int(value) => format_i64(value, buf),
            Self::Str(bytes) => bytes,
        }
    }

    /// The element as an integer, also when it is stored as a string that
    /// spells one canonically.
    #[inline]
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Str(bytes) => parse_i64(bytes),
        }
    }

    /// The element's text in a vector of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes(&mut IntBuf::default()).to_vec()
    }

    /// Appends the element's text to `out`.
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes(&mut IntBuf::default()));
    }

    /// Length in bytes of the element's text.
    #[inline]
    pub fn len(&self) -> usize {
        match *self {
            Self::Int(value) => text_len_i64(value),
            Self::Str(bytes) => bytes.len(),
        }
    }

    /// Whether the element is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl PartialEq for LpValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Int(value), Self::Str(text)) | (Self::Str(text), Self::Int(value)) => {
                parse_i64(text) == Some(value)
            }
        }
    }
}

impl Eq for LpValue<'_> {}
