//! Bytes that grow: short ones in the frame, long ones in a block that a slot of Lua's stack
//! holds. Lua's memory limit and its collector count them, and an error frees them.

use crate::stack::Stack;
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// As long as a result may be: no string of Redis is longer. A few nested tables that name each
/// other twice would otherwise fill any memory.
pub(crate) const BYTES_MAX: usize = 512 << 20;

/// What fits without a block.
const INLINE_BYTES: usize = 1024;

/// Bytes of one call.
pub(crate) struct Buffer {
    stack: Stack,
    slot: c_int,
    inline: [MaybeUninit<u8>; INLINE_BYTES],
    /// Null as long as `inline` is enough.
    block: *mut u8,
    capacity: usize,
    length: usize,
}

impl Buffer {
    /// An empty buffer, which pushes its slot onto the stack.
    pub(crate) fn new(stack: Stack) -> Self {
        stack.push_nil();
        Self::with_slot(stack, stack.top())
    }

    /// An empty buffer with a slot that is there and holds nothing.
    pub(crate) fn with_slot(stack: Stack, slot: c_int) -> Self {
        Self {
            stack,
            slot,
            inline: [const { MaybeUninit::uninit() }; INLINE_BYTES],
            block: std::ptr::null_mut(),
            capacity: INLINE_BYTES,
            length: 0,
        }
    }

    fn start(&mut self) -> *mut u8 {
        if self.block.is_null() {
            self.inline.as_mut_ptr().cast()
        } else {
            self.block
        }
    }

    /// Raises when the bytes get too many or memory is short.
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// Raises when the bytes get too many or memory is short.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if bytes.len() > self.capacity - self.length {
            self.grow(bytes.len());
        }
        // SAFETY: there is room for the bytes, and a script's string can't lie in it.
        unsafe {
            let end = self.start().add(self.length);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        }
        self.length += bytes.len();
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.length.saturating_add(more);
        if needed > BYTES_MAX {
            self.stack
                .raise(format_args!("result is longer than {BYTES_MAX} bytes"));
        }
        let capacity = needed.max(self.capacity * 2).min(BYTES_MAX);
        // One slot for a moment. If the function has all it may have, the stack's reserve is
        // enough for it.
        self.stack.grow(1, 0);
        let block = self.stack.push_block(capacity);
        // SAFETY: the block is new and has more room than there are bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.start(), block, self.length) };
        self.stack.replace(self.slot);
        self.block = block;
        self.capacity = capacity;
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    pub(crate) fn bytes(&mut self) -> &[u8] {
        // SAFETY: as many bytes were written.
        unsafe { std::slice::from_raw_parts(self.start(), self.length) }
    }

    /// Pushes the bytes as a string. Raises when memory is short.
    pub(crate) fn push_string(&mut self) {
        let stack = self.stack;
        stack.push_bytes(self.bytes());
    }
}
