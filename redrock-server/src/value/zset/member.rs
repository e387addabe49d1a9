//! A member's bytes in 16 bytes: short ones inline, longer ones in one exact allocation.
//!
//! Most members are short names and ids; keeping up to 15 bytes in the slot saves an allocation
//! of at least 16 bytes and a cache miss per comparison.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Longest member kept inline, bytes.
const INLINE_MAX: usize = 15;
/// Value of the last byte when the bytes are on the heap; inline it is the length.
const HEAP: u8 = 0xff;

#[derive(Clone, Copy)]
#[repr(C)]
struct Heap {
    start: *mut u8,
    /// Little endian: seven bytes of length, then [`HEAP`].
    len_and_tag: u64,
}

/// Owned bytes. See the module.
#[repr(C)]
pub(super) union Member {
    inline: [u8; 16],
    heap: Heap,
}

// SAFETY: a member owns its bytes exclusively, like `Box<[u8]>`; nothing in it is shared or
// changed through a shared reference.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl Member {
    /// An empty one, which owns nothing.
    pub(super) const EMPTY: Self = Self { inline: [0; 16] };

    /// Copies `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let len = bytes.len();
        if len <= INLINE_MAX {
            let mut inline = [0; 16];
            inline[..len].copy_from_slice(bytes);
            inline[INLINE_MAX] = len as u8;
            return Self { inline };
        }
        let Ok(layout) = Layout::array::<u8>(len) else {
            handle_alloc_error(Layout::new::<u8>())
        };
        // SAFETY: the layout is not of size zero, `len` being above `INLINE_MAX`.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: `start` is a fresh allocation of `len` bytes, so it can't overlap `bytes`.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), len) };
        let mut meta = (len as u64).to_le_bytes();
        meta[7] = HEAP;
        Self {
            heap: Heap {
                start,
                len_and_tag: u64::from_ne_bytes(meta),
            },
        }
    }

    fn tag(&self) -> u8 {
        // SAFETY: all 16 bytes of both variants are always initialized.
        unsafe { self.inline[INLINE_MAX] }
    }

    fn on_heap(&self) -> Option<(*mut u8, usize)> {
        if self.tag() != HEAP {
            return None;
        }
        // SAFETY: the tag says that `new` filled in the heap variant.
        let heap = unsafe { self.heap };
        let mut meta = heap.len_and_tag.to_ne_bytes();
        meta[7] = 0;
        Some((heap.start, u64::from_le_bytes(meta) as usize))
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self.on_heap() {
            // SAFETY: `new` allocated and filled `len` bytes at `start`, freed only by `drop`.
            Some((start, len)) => unsafe { std::slice::from_raw_parts(start, len) },
            // SAFETY: the tag says inline; all bytes of it are initialized.
            None => unsafe { &self.inline[..usize::from(self.tag()).min(INLINE_MAX)] },
        }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.on_heap().map_or(0, |(_, len)| len)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some((start, len)) = self.on_heap() {
            // SAFETY: `new` allocated this with the same layout, and nobody else owns it.
            unsafe { dealloc(start, Layout::from_size_align_unchecked(len, 1)) };
        }
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        Self::new(self.as_bytes())
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::Member;

    #[test]
    fn keeps_bytes_of_any_length_and_clones_them() {
        assert_eq!(size_of::<Member>(), 16);
        for len in [0, 1, 14, 15, 16, 17, 255, 256, 65_536] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8 | 0x80).collect();
            let member = Member::new(&bytes);
            let copy = member.clone();
            assert_eq!(member.as_bytes(), bytes);
            assert_eq!(member.heap_bytes(), if len <= 15 { 0 } else { len });
            drop(member);
            assert_eq!(copy.as_bytes(), bytes);
        }
    }
}
