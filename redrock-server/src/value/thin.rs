//! Byte strings behind one pointer: the elements of large collections.
//!
//! ```text
//! ThinBytes ──▶ length (1 to 9 bytes, 7 bits each, low first) | bytes
//! ```
//!
//! A `Box<[u8]>` is 16 bytes in the table that holds it; this is 8, and the length costs one byte
//! for most elements. [`Pair`] puts a field and its value into one such allocation.
//!
//! Invariant: the length in front of the bytes describes the allocation exactly (it is freed with
//! it), so it never changes during the allocation's life.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Longest form of a length.
const LENGTH_BYTES_MAX: usize = 10;

/// An owned byte string of fixed length, 8 bytes wide; `Option` of it is too.
pub struct ThinBytes(NonNull<u8>);

// SAFETY: it owns its allocation of plain bytes, and changes it through `&mut self` only.
unsafe impl Send for ThinBytes {}
// SAFETY: as above.
unsafe impl Sync for ThinBytes {}

/// Writes `n` in groups of 7 bits, low first; returns the bytes written.
fn write_length(mut n: usize, out: &mut [u8; LENGTH_BYTES_MAX]) -> usize {
    let mut at = 0;
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        out[at] = if n == 0 { low } else { low | 0x80 };
        at += 1;
        if n == 0 {
            return at;
        }
    }
}

/// Number of bytes that [`write_length`] writes.
fn length_bytes(n: usize) -> usize {
    let bits = (usize::BITS - (n | 1).leading_zeros()) as usize;
    bits.div_ceil(7)
}

/// Reads a length from the start of `bytes`: the length, and the bytes it took.
fn read_length(bytes: &[u8]) -> (usize, usize) {
    let mut n = 0;
    for (at, &byte) in bytes.iter().enumerate().take(LENGTH_BYTES_MAX) {
        n |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (n, at + 1);
        }
    }
    (n, bytes.len().min(LENGTH_BYTES_MAX))
}

impl ThinBytes {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self::concat([bytes])
    }

    /// A copy of several parts behind one another.
    fn concat<const N: usize>(parts: [&[u8]; N]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut head = [0; LENGTH_BYTES_MAX];
        let head_len = write_length(len, &mut head);
        let layout = Self::layout(head_len + len);
        // SAFETY: the layout is never of size zero: the length takes at least one byte.
        let Some(ptr) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation has exactly room for the length and all parts.
        unsafe {
            ptr.as_ptr()
                .copy_from_nonoverlapping(head.as_ptr(), head_len);
            let mut at = head_len;
            for part in parts {
                ptr.as_ptr()
                    .add(at)
                    .copy_from_nonoverlapping(part.as_ptr(), part.len());
                at += part.len();
            }
        }
        Self(ptr)
    }

    fn layout(size: usize) -> Layout {
        // Sizes are sums of lengths of live slices, so they are below isize::MAX.
        Layout::from_size_align(size, 1).unwrap_or(Layout::new::<u8>())
    }

    /// The length of the bytes, and of the length in front of them.
    #[inline]
    fn lengths(&self) -> (usize, usize) {
        // SAFETY: an allocation starts with a complete length, whose last byte is the first
        // one without the top bit.
        unsafe {
            let first = *self.0.as_ptr();
            if first & 0x80 == 0 {
                return (usize::from(first), 1);
            }
            let mut n = usize::from(first & 0x7f);
            let mut at = 1;
            loop {
                let byte = *self.0.as_ptr().add(at);
                n |= usize::from(byte & 0x7f) << (7 * at);
                at += 1;
                if byte & 0x80 == 0 {
                    return (n, at);
                }
            }
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let (len, head_len) = self.lengths();
        // SAFETY: the allocation holds `len` initialised bytes behind the length.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(head_len), len) }
    }

    /// The bytes, for overwriting.
    fn as_mut_bytes(&mut self) -> &mut [u8] {
        let (len, head_len) = self.lengths();
        // SAFETY: as in `as_bytes`; `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().add(head_len), len) }
    }

    /// Bytes asked of the allocator.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        let (len, head_len) = self.lengths();
        len + head_len
    }
}

impl Drop for ThinBytes {
    fn drop(&mut self) {
        let size = self.heap_bytes();
        // SAFETY: allocated in `concat` with this very size and alignment.
        unsafe { dealloc(self.0.as_ptr(), Self::layout(size)) }
    }
}

impl Clone for ThinBytes {
    fn clone(&self) -> Self {
        Self::new(self.as_bytes())
    }
}

impl std::fmt::Debug for ThinBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A field and its value in one allocation: `field length | field | value`.
#[derive(Clone)]
pub struct Pair(ThinBytes);

impl Pair {
    /// A copy of both.
    pub fn new(field: &[u8], value: &[u8]) -> Self {
        let mut head = [0; LENGTH_BYTES_MAX];
        let head_len = write_length(field.len(), &mut head);
        Self(ThinBytes::concat([
            head.get(..head_len).unwrap_or_default(),
            field,
            value,
        ]))
    }

    /// Field and value.
    #[inline]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.0.as_bytes();
        let (len, head_len) = read_length(bytes);
        bytes
            .get(head_len..)
            .unwrap_or_default()
            .split_at_checked(len)
            .unwrap_or_default()
    }

    /// The field.
    #[inline]
    pub fn field(&self) -> &[u8] {
        self.parts().0
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// Replaces the value; in place if the length stays.
    pub fn set_value(&mut self, value: &[u8]) {
        let (field, old) = self.parts();
        if old.len() == value.len() {
            let at = length_bytes(field.len()) + field.len();
            if let Some(place) = self.0.as_mut_bytes().get_mut(at..) {
                place.copy_from_slice(value);
            }
        } else {
            *self = Self::new(field, value);
        }
    }

    /// Bytes asked of the allocator.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (field, value) = self.parts();
        let (field, value) = (
            String::from_utf8_lossy(field),
            String::from_utf8_lossy(value),
        );
        write!(f, "{field:?}: {value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_around_each_step_read_back() {
        for len in [
            0, 1, 126, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152,
        ] {
            let bytes = vec![7_u8; len];
            let thin = ThinBytes::new(&bytes);
            assert_eq!(thin.as_bytes(), bytes);
            assert_eq!(thin.heap_bytes(), len + length_bytes(len));
            assert_eq!(thin.clone().as_bytes(), bytes);
        }
    }

    #[test]
    fn an_optional_element_is_one_word() {
        assert_eq!(size_of::<Option<ThinBytes>>(), 8);
        assert_eq!(size_of::<Option<Pair>>(), 8);
    }

    #[test]
    fn a_value_is_replaced_by_one_of_any_length() {
        for field_len in [0, 5, 127, 128, 300] {
            let field = vec![b'f'; field_len];
            let mut pair = Pair::new(&field, b"old");
            assert_eq!(pair.parts(), (field.as_slice(), b"old".as_slice()));
            for value in [
                b"new".as_slice(),
                b"",
                b"longer than before",
                &[1; 1000],
                &[2; 1000],
            ] {
                pair.set_value(value);
                assert_eq!(pair.parts(), (field.as_slice(), value));
            }
        }
    }
}
