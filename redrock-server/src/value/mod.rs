//! Data types and their operations: no IO, no keys, no clients.
//!
//! Each collection holds the encodings of Redis 7.2 and converts between them at Redis's
//! thresholds, so that `OBJECT ENCODING` agrees; small ones are the very listpack or intset bytes
//! of RDB (I3). [`Object`] is what a hot entry points to; short strings and integers live in the
//! entry itself.

pub mod codec;
pub mod convert;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod list;
pub mod number;
pub mod random;
pub mod set;
pub mod stream;
pub mod table;
pub mod thin;
pub mod zset;

use hash::Hash;
use list::List;
use set::Set;
use stream::Stream;
use zset::ZSet;

/// Encoding thresholds, Redis's `*-max-*` options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `hash-max-listpack-entries`
    pub hash_listpack_entries_max: usize,
    /// `hash-max-listpack-value`, bytes
    pub hash_listpack_value_bytes_max: usize,
    /// `list-max-listpack-size`: positive entries, or −1..−5 for 4 to 64 KiB a node
    pub list_listpack_size: i64,
    /// `list-compress-depth` (accepted; nodes stay uncompressed, cold lists are compressed on disk)
    pub list_compress_depth: usize,
    /// `set-max-intset-entries`
    pub set_intset_entries_max: usize,
    /// `set-max-listpack-entries`
    pub set_listpack_entries_max: usize,
    /// `set-max-listpack-value`, bytes
    pub set_listpack_value_bytes_max: usize,
    /// `zset-max-listpack-entries`
    pub zset_listpack_entries_max: usize,
    /// `zset-max-listpack-value`, bytes
    pub zset_listpack_value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hash_listpack_entries_max: 512,
            hash_listpack_value_bytes_max: 64,
            list_listpack_size: -2,
            list_compress_depth: 0,
            set_intset_entries_max: 512,
            set_listpack_entries_max: 128,
            set_listpack_value_bytes_max: 64,
            zset_listpack_entries_max: 128,
            zset_listpack_value_bytes_max: 64,
        }
    }
}

/// The types of values, with Redis's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ObjectType {
    /// `string`
    String = 0,
    /// `list`
    List = 1,
    /// `set`
    Set = 2,
    /// `zset`
    ZSet = 3,
    /// `hash`
    Hash = 4,
    /// `stream`
    Stream = 5,
}

impl ObjectType {
    /// The reverse of `as u32`; anything unknown is a string.
    pub fn from_index(index: u32) -> Self {
        match index {
            1 => Self::List,
            2 => Self::Set,
            3 => Self::ZSet,
            4 => Self::Hash,
            5 => Self::Stream,
            _ => Self::String,
        }
    }

    /// The name that TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::ZSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }
}

/// A value on the heap.
#[derive(Debug, Clone)]
pub enum Object {
    /// A string too long for its entry, or one that grows.
    Raw(Vec<u8>),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    ZSet(ZSet),
    /// A hash.
    Hash(Hash),
    /// A stream.
    Stream(Stream),
}

/// A borrowed value, wherever it lives.
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a> {
    /// An integer string.
    Int(i64),
    /// A string.
    Str(&'a [u8]),
    /// A list.
    List(&'a List),
    /// A set.
    Set(&'a Set),
    /// A sorted set.
    ZSet(&'a ZSet),
    /// A hash.
    Hash(&'a Hash),
    /// A stream.
    Stream(&'a Stream),
}

impl Object {
    /// A borrowed view.
    pub fn as_value_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Raw(bytes) => ValueRef::Str(bytes),
            Self::List(list) => ValueRef::List(list),
            Self::Set(set) => ValueRef::Set(set),
            Self::ZSet(zset) => ValueRef::ZSet(zset),
            Self::Hash(hash) => ValueRef::Hash(hash),
            Self::Stream(stream) => ValueRef::Stream(stream),
        }
    }

    /// Bytes on the heap, an estimate for large collections (as MEMORY USAGE samples).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + 16
            + match self {
                Self::Raw(bytes) => bytes.capacity(),
                Self::List(list) => list.memory_bytes(),
                Self::Set(set) => set.memory_bytes(),
                Self::ZSet(zset) => zset.memory_bytes(),
                Self::Hash(hash) => hash.memory_bytes(),
                Self::Stream(stream) => stream.memory_bytes(),
            }
    }
}

impl ValueRef<'_> {
    /// The encoding that OBJECT ENCODING answers, but for short strings: whether they are `embstr`
    /// depends on where they live.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Str(_) => "raw",
            Self::List(list) => list.encoding(),
            Self::Set(set) => set.encoding(),
            Self::ZSet(zset) => zset.encoding(),
            Self::Hash(hash) => hash.encoding(),
            Self::Stream(_) => "stream",
        }
    }

    /// The type.
    pub fn object_type(&self) -> ObjectType {
        match self {
            Self::Int(_) | Self::Str(_) => ObjectType::String,
            Self::List(_) => ObjectType::List,
            Self::Set(_) => ObjectType::Set,
            Self::ZSet(_) => ObjectType::ZSet,
            Self::Hash(_) => ObjectType::Hash,
            Self::Stream(_) => ObjectType::Stream,
        }
    }
}
