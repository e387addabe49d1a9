//! One key in memory: a single allocation of header, optional expiry, key and inline value.
//!
//! ```text
//! offset  size  field
//!      0     4  access: 24 bits of LRU or LFU data, 8 bits of flags and kind
//!      4     4  epoch of the last snapshot that has seen this entry
//!      8     4  key length in bytes
//!     12     4  24 bits of inline value length in bytes, for a stub the type in the low 4 bits;
//!               the top 8 bits are how hot the value is ([`Entry::heat`])
//!     16   0/8  expiry, unix ms, if the entry has one
//!      .     n  key
//!      .     m  value: inline string, 8 bytes of integer, or a pointer to a heap object; the stub
//!               of a hash with fields that expire has the time of the first of them
//! ```
//!
//! A 16-byte key with a 16-byte string is 48 bytes, exactly an allocator size class.
//!
//! Invariants: the header describes the allocation's size exactly (it is freed with it), so
//! key length, inline length, kind, the expiry flag and a stub's fields flag change only by
//! building a new entry.
//! A `Heap` entry owns one strong count of its object. A stub is an entry only on the way to its
//! end or to a new value, and in what a load brings: else it is packed ([`super::stubs`]).

mod standing;

pub use standing::HEAT_MAX;

use crate::value::{Object, ObjectType, ValueRef};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// Longest string kept inside the entry; longer ones are heap objects, so that growing an entry
/// never copies more than this.
pub const INLINE_BYTES_MAX: usize = 4096;

const HEADER_BYTES: usize = 16;
const ALIGN: usize = 8;

const KIND_MASK: u32 = 0b11;
const KIND_INT: u32 = 0;
const KIND_INLINE: u32 = 1;
const KIND_HEAP: u32 = 2;
const KIND_STUB: u32 = 3;
const FLAG_EXPIRE: u32 = 1 << 2;
const FLAG_DIRTY: u32 = 1 << 3;
const FLAG_IN_FLIGHT: u32 = 1 << 4;
const FLAG_PROBATION: u32 = 1 << 5;
const FLAG_FRESH: u32 = 1 << 6;
/// The value is a hash with fields that expire.
const FLAG_FIELDS: u32 = 1 << 7;
const ACCESS_SHIFT: u32 = 8;
/// Bits of the word at offset 12 below the heat.
const LENGTH_BITS: u32 = 24;

/// The value to build an entry from.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// An integer string.
    Int(i64),
    /// A string of at most [`INLINE_BYTES_MAX`] bytes.
    Inline(&'a [u8]),
    /// Any other value.
    Heap(Arc<Object>),
    /// No value: it is in the tier.
    Stub(ObjectType),
    /// No value: a hash in the tier of which the first field expires then, unix ms.
    TimedStub(i64),
}

impl NewValue<'_> {
    /// Whether it is a hash with fields that expire.
    pub fn has_timed_fields(&self) -> bool {
        match self {
            Self::Heap(object) => match &**object {
                Object::Hash(hash) => hash.earliest().is_some(),
                _ => false,
            },
            Self::TimedStub(_) => true,
            _ => false,
        }
    }
}

/// An owned key with its value or the stub of one. See the module's layout.
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its allocation and an `Arc<Object>`; `Object` is `Send + Sync`.
unsafe impl Send for Entry {}
// SAFETY: as above; all mutation goes through `&mut self`.
unsafe impl Sync for Entry {}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("expire", &self.expire())
            .field("dirty", &self.is_dirty())
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

fn layout(key_len: usize, has_expire: bool, value_len: usize) -> Layout {
    let size = HEADER_BYTES + if has_expire { 8 } else { 0 } + key_len + value_len;
    // A key and an inline value are each far below isize::MAX: the parser caps arguments.
    Layout::from_size_align(size, ALIGN).unwrap_or(Layout::new::<[u64; 2]>())
}

impl Entry {
    /// Builds an entry: clean, epoch 0, access data 0.
    pub fn new(key: &[u8], value: NewValue<'_>, expire: Option<i64>) -> Self {
        let (kind, length_field, value_len) = match &value {
            NewValue::Int(_) => (KIND_INT, 8, 8),
            NewValue::Inline(bytes) => (KIND_INLINE, bytes.len(), bytes.len()),
            NewValue::Heap(_) => (KIND_HEAP, 8, 8),
            NewValue::Stub(kind) => (KIND_STUB, *kind as usize, 0),
            NewValue::TimedStub(_) => (KIND_STUB, ObjectType::Hash as usize, 8),
        };
        let layout = layout(key.len(), expire.is_some(), value_len);
        // SAFETY: the layout's size is at least the header's, so never zero.
        let raw = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(raw) else {
            handle_alloc_error(layout)
        };
        let mut flags = kind;
        if expire.is_some() {
            flags |= FLAG_EXPIRE;
        }
        if value.has_timed_fields() {
            flags |= FLAG_FIELDS;
        }
        let mut entry = Self(ptr);
        entry.write_u32(0, flags);
        entry.write_u32(4, 0);
        entry.write_u32(8, key.len() as u32);
        entry.write_u32(12, length_field as u32);
        let mut at = HEADER_BYTES;
        if let Some(ms) = expire {
            // SAFETY: the layout reserved 8 bytes behind the header for it.
            unsafe { ptr.as_ptr().add(at).cast::<i64>().write_unaligned(ms) };
            at += 8;
        }
        // SAFETY: the layout reserved `key.len()` bytes here, then `value_len` bytes.
        unsafe {
            ptr.as_ptr()
                .add(at)
                .copy_from_nonoverlapping(key.as_ptr(), key.len());
            let value_at = ptr.as_ptr().add(at + key.len());
            match value {
                NewValue::Int(n) | NewValue::TimedStub(n) => {
                    value_at.cast::<i64>().write_unaligned(n);
                }
                NewValue::Inline(b) => value_at.copy_from_nonoverlapping(b.as_ptr(), b.len()),
                NewValue::Heap(object) => {
                    value_at
                        .cast::<*const Object>()
                        .write_unaligned(Arc::into_raw(object));
                }
                NewValue::Stub(_) => {}
            }
        }
        entry
    }

    fn read_u32(&self, at: usize) -> u32 {
        // SAFETY: all header fields lie within the first 16 bytes, aligned to 4.
        unsafe { self.0.as_ptr().add(at).cast::<u32>().read() }
    }

    fn write_u32(&mut self, at: usize, value: u32) {
        // SAFETY: as in `read_u32`; `&mut self` makes it exclusive.
        unsafe { self.0.as_ptr().add(at).cast::<u32>().write(value) }
    }

    fn flags(&self) -> u32 {
        self.read_u32(0) & 0xff
    }

    fn set_flag(&mut self, flag: u32, on: bool) {
        let word = self.read_u32(0);
        self.write_u32(0, if on { word | flag } else { word & !flag });
    }

    fn kind(&self) -> u32 {
        self.flags() & KIND_MASK
    }

    fn key_len(&self) -> usize {
        self.read_u32(8) as usize
    }

    fn length_field(&self) -> u32 {
        self.read_u32(12) & ((1 << LENGTH_BITS) - 1)
    }

    fn key_at(&self) -> usize {
        HEADER_BYTES + if self.has_expire() { 8 } else { 0 }
    }

    fn value_len(&self) -> usize {
        match self.kind() {
            KIND_STUB if self.has_timed_fields() => 8,
            KIND_STUB => 0,
            _ => self.length_field() as usize,
        }
    }

    fn value_ptr(&self) -> *mut u8 {
        // SAFETY: the value starts within the allocation, or one past it when it is empty.
        unsafe { self.0.as_ptr().add(self.key_at() + self.key_len()) }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        // SAFETY: the layout holds `key_len` initialized bytes at `key_at`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(self.key_at()), self.key_len()) }
    }

    /// Whether the entry has an expiry.
    pub fn has_expire(&self) -> bool {
        self.flags() & FLAG_EXPIRE != 0
    }

    /// The expiry in unix ms.
    pub fn expire(&self) -> Option<i64> {
        // SAFETY: the flag says that 8 initialized bytes lie behind the header.
        self.has_expire().then(|| unsafe {
            self.0
                .as_ptr()
                .add(HEADER_BYTES)
                .cast::<i64>()
                .read_unaligned()
        })
    }

    /// Changes the expiry of an entry that has one.
    pub fn replace_expire(&mut self, ms: i64) {
        debug_assert!(self.has_expire());
        if self.has_expire() {
            // SAFETY: the flag says that 8 bytes lie behind the header.
            unsafe {
                self.0
                    .as_ptr()
                    .add(HEADER_BYTES)
                    .cast::<i64>()
                    .write_unaligned(ms)
            }
        }
    }

    /// Whether the value is a hash with fields that expire.
    pub fn has_timed_fields(&self) -> bool {
        self.flags() & FLAG_FIELDS != 0
    }

    /// Notes whether the hash in memory has fields that expire. A stub's never change.
    pub fn set_timed_fields(&mut self, on: bool) {
        if self.kind() == KIND_HEAP {
            self.set_flag(FLAG_FIELDS, on);
        }
    }

    /// When the first field of a hash expires, unix ms; known for stubs too.
    pub fn field_time(&self) -> Option<i64> {
        if !self.has_timed_fields() {
            return None;
        }
        match self.value() {
            Some(ValueRef::Hash(hash)) => hash.earliest(),
            Some(_) => None,
            // SAFETY: the stub of a hash with fields that expire has 8 value bytes.
            None => Some(unsafe { self.value_ptr().cast::<i64>().read_unaligned() }),
        }
    }

    /// The first time at which there is something to delete here: the key, or a field of a value
    /// in memory; `i64::MAX` if there never is.
    pub fn due_ms(&self) -> i64 {
        let key = self.expire().unwrap_or(i64::MAX);
        let field = (!self.is_stub()).then(|| self.field_time()).flatten();
        field.map_or(key, |field| key.min(field))
    }

    /// Whether the value is in the tier only.
    pub fn is_stub(&self) -> bool {
        self.kind() == KIND_STUB
    }

    /// Whether the value is known to no tier record (see I6).
    pub fn is_dirty(&self) -> bool {
        self.flags() & FLAG_DIRTY != 0
    }

    /// Marks the entry dirty or clean.
    pub fn set_dirty(&mut self, dirty: bool) {
        self.set_flag(FLAG_DIRTY, dirty);
    }

    /// Whether a put of this value is queued and not applied yet, so that it must stay in memory.
    pub fn is_in_flight(&self) -> bool {
        self.flags() & FLAG_IN_FLIGHT != 0
    }

    /// Marks a queued put.
    pub fn set_in_flight(&mut self, on: bool) {
        self.set_flag(FLAG_IN_FLIGHT, on);
    }

    /// 24 bits of LRU clock or LFU counter.
    pub fn access(&self) -> u32 {
        self.read_u32(0) >> ACCESS_SHIFT
    }

    /// Sets the 24 bits of access data.
    pub fn set_access(&mut self, access: u32) {
        let flags = self.flags();
        self.write_u32(0, access << ACCESS_SHIFT | flags);
    }

    /// Epoch of the last snapshot that has seen this entry.
    pub fn epoch(&self) -> u32 {
        self.read_u32(4)
    }

    /// Stamps the entry.
    pub fn set_epoch(&mut self, epoch: u32) {
        self.write_u32(4, epoch);
    }

    /// The same key and value with another expiry; keeps flags, access data and epoch.
    pub fn with_expire(&self, expire: Option<i64>) -> Self {
        let value = match self.kind() {
            KIND_HEAP => match self.share() {
                Some(object) => NewValue::Heap(object),
                None => NewValue::Inline(b""),
            },
            _ => match self.value() {
                Some(ValueRef::Int(n)) => NewValue::Int(n),
                Some(ValueRef::Str(bytes)) => NewValue::Inline(bytes),
                _ => NewValue::Inline(b""),
            },
        };
        let mut entry = Self::new(self.key(), value, expire);
        entry.inherit(self);
        entry
    }

    /// Takes over access data, heat, flags of state and epoch of the entry that this one replaces.
    pub fn inherit(&mut self, old: &Self) {
        const KEPT: u32 = FLAG_DIRTY | FLAG_IN_FLIGHT | FLAG_PROBATION | FLAG_FRESH;
        let word = self.flags() & !KEPT | old.flags() & KEPT | old.access() << ACCESS_SHIFT;
        self.write_u32(0, word);
        self.set_heat(old.heat());
        self.set_epoch(old.epoch());
    }

    /// The type, known for stubs too.
    pub fn object_type(&self) -> ObjectType {
        match self.value() {
            Some(value) => value.object_type(),
            None => ObjectType::from_index(self.length_field()),
        }
    }

    /// The value, or `None` for a stub.
    pub fn value(&self) -> Option<ValueRef<'_>> {
        match self.kind() {
            KIND_INT => {
                // SAFETY: an Int entry has 8 value bytes.
                Some(ValueRef::Int(unsafe {
                    self.value_ptr().cast::<i64>().read_unaligned()
                }))
            }
            KIND_INLINE => Some(ValueRef::Str(self.inline())),
            KIND_HEAP => {
                // SAFETY: a Heap entry holds a pointer from `Arc::into_raw` whose count it owns.
                let object = unsafe { &*self.heap_ptr() };
                Some(object.as_value_ref())
            }
            _ => None,
        }
    }

    fn inline(&self) -> &[u8] {
        // SAFETY: an Inline entry has `value_len` initialized bytes at `value_ptr`.
        unsafe { std::slice::from_raw_parts(self.value_ptr(), self.value_len()) }
    }

    fn heap_ptr(&self) -> *const Object {
        // SAFETY: called for Heap entries only, which have 8 value bytes.
        unsafe { self.value_ptr().cast::<*const Object>().read_unaligned() }
    }

    /// The inline string's bytes, for edits that keep its length.
    pub fn inline_mut(&mut self) -> Option<&mut [u8]> {
        (self.kind() == KIND_INLINE).then(|| {
            let (ptr, len) = (self.value_ptr(), self.value_len());
            // SAFETY: as in `inline`, exclusive through `&mut self`.
            unsafe { std::slice::from_raw_parts_mut(ptr, len) }
        })
    }

    /// Overwrites an integer in place; false if the entry holds none.
    pub fn replace_int(&mut self, n: i64) -> bool {
        if self.kind() != KIND_INT {
            return false;
        }
        // SAFETY: an Int entry has 8 value bytes.
        unsafe { self.value_ptr().cast::<i64>().write_unaligned(n) };
        true
    }

    /// A new reference to the heap object, for a reader that works without the lock.
    pub fn share(&self) -> Option<Arc<Object>> {
        (self.kind() == KIND_HEAP).then(|| {
            let ptr = self.heap_ptr();
            // SAFETY: the pointer came from `Arc::into_raw`; the entry keeps its own count.
            unsafe {
                Arc::increment_strong_count(ptr);
                Arc::from_raw(ptr)
            }
        })
    }

    /// The heap object for editing; `None` when there is none or a reader still shares it.
    pub fn object_mut(&mut self) -> Option<&mut Object> {
        if self.kind() != KIND_HEAP {
            return None;
        }
        let ptr = self.heap_ptr();
        // SAFETY: the pointer came from `Arc::into_raw`. The temporary Arc is not dropped. A
        // count of one means that this entry is the only owner, and `&mut self` that nobody can
        // clone it meanwhile; no weak references are ever made.
        unsafe {
            let mut arc = std::mem::ManuallyDrop::new(Arc::from_raw(ptr));
            Arc::get_mut(&mut arc).map(|object| &mut *std::ptr::from_mut(object))
        }
    }

    /// Whether a reader without the lock still uses the heap object.
    pub fn is_shared(&self) -> bool {
        self.kind() == KIND_HEAP && {
            // SAFETY: the pointer came from `Arc::into_raw`; the temporary is not dropped.
            let arc = unsafe { std::mem::ManuallyDrop::new(Arc::from_raw(self.heap_ptr())) };
            Arc::strong_count(&arc) > 1
        }
    }

    /// Bytes of the entry's own allocation.
    pub fn allocation_bytes(&self) -> usize {
        self.key_at() + self.key_len() + self.value_len()
    }

    /// Bytes of the entry and of what it points to (an estimate for collections).
    pub fn memory_bytes(&self) -> usize {
        let heap = match self.kind() {
            // SAFETY: a Heap entry holds a pointer from `Arc::into_raw` whose count it owns.
            KIND_HEAP => unsafe { &*self.heap_ptr() }.memory_bytes(),
            _ => 0,
        };
        self.allocation_bytes() + heap
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = layout(self.key_len(), self.has_expire(), self.value_len());
        if self.kind() == KIND_HEAP {
            // SAFETY: the entry owns this count.
            drop(unsafe { Arc::from_raw(self.heap_ptr()) });
        }
        // SAFETY: allocated with the same layout, which follows from unchanged header fields.
        unsafe { dealloc(self.0.as_ptr(), layout) };
    }
}
