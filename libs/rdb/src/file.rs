//! RDB files, read and written as streams.
//!
//! `REDISnnnn`, then opcodes and entries, `EOF`, and since version 5 a CRC-64
//! of everything before it (zero: not computed).

mod modules;
mod reader;
mod source;
mod writer;

pub use modules::{ModuleKey, ModuleTally, ModuleType};
pub use reader::{Entry, Item, RdbReader, ReaderOptions};
pub use writer::{EntryMeta, RdbWriter, WriterOptions, Written};

use crate::object::ObjectError;

/// The oldest version that is read.
pub const VERSION_MIN: u16 = 1;
/// The newest version that is read and written.
pub const VERSION_MAX: u16 = 12;
/// The oldest version that is written: Redis 7.0's.
pub const VERSION_WRITTEN_MIN: u16 = 10;

pub(crate) const MAGIC: &[u8; 5] = b"REDIS";
/// How files of Valkey 9 and later begin; three digits follow.
pub(crate) const MAGIC_VALKEY: &[u8; 6] = b"VALKEY";
/// The first version with a checksum.
pub(crate) const VERSION_CHECKSUM_MIN: u16 = 5;

/// The opcodes between entries, with Redis's names (`rdb.h`).
pub(crate) mod opcode {
    pub(crate) const SLOT_INFO: u8 = 244;
    pub(crate) const FUNCTION2: u8 = 245;
    pub(crate) const FUNCTION_PRE_GA: u8 = 246;
    pub(crate) const MODULE_AUX: u8 = 247;
    pub(crate) const IDLE: u8 = 248;
    pub(crate) const FREQ: u8 = 249;
    pub(crate) const AUX: u8 = 250;
    pub(crate) const RESIZEDB: u8 = 251;
    pub(crate) const EXPIRETIME_MS: u8 = 252;
    pub(crate) const EXPIRETIME: u8 = 253;
    pub(crate) const SELECTDB: u8 = 254;
    pub(crate) const EOF: u8 = 255;
}

/// A failure while reading, with its place.
#[derive(Debug, thiserror::Error)]
#[error("{kind} (RDB offset {offset}{})", PlaceText(.entry.as_deref()))]
pub struct FileError {
    /// What went wrong.
    #[source]
    pub kind: FileErrorKind,
    /// Offset in bytes from the start of the file up to which it was read.
    pub offset: u64,
    /// The entry that was being read.
    pub entry: Option<Box<EntryPlace>>,
}

/// Where an entry is, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlace {
    /// Its database.
    pub database: u64,
    /// Offset in bytes from the start of the file of its type byte.
    pub offset: u64,
    /// Its key.
    pub key: Vec<u8>,
}

impl std::fmt::Display for EntryPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, database) = (KeyText(&self.key), self.database);
        write!(
            formatter,
            "key {key} in database {database} at offset {}",
            self.offset
        )
    }
}

/// A key for people to read: in quotes, with what can't be shown escaped, and cut, since a key can
/// have 512 MB.
pub struct KeyText<'a>(pub &'a [u8]);

impl std::fmt::Display for KeyText<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.get(..256).unwrap_or(self.0);
        let dots = if shown.len() < self.0.len() {
            "..."
        } else {
            ""
        };
        write!(formatter, "'{}'{dots}", shown.escape_ascii())
    }
}

/// What went wrong while reading.
#[derive(Debug, thiserror::Error)]
pub enum FileErrorKind {
    /// The reader failed.
    #[error("read RDB: {0}")]
    Io(#[source] std::io::Error),
    /// The file ends before its end mark.
    #[error("Unexpected EOF reading RDB file")]
    Truncated,
    /// The file does not begin as an RDB file.
    #[error("Wrong signature trying to load DB from file")]
    BadMagic,
    /// A version that is not known.
    #[error("Can't handle RDB format version {0}: {VERSION_MIN} to {VERSION_MAX} are read")]
    BadVersion(String),
    /// A file in Valkey's own format.
    #[error(
        "Can't handle Valkey's RDB format version {0}: versions {VERSION_MIN} to {VERSION_MAX} of \
         Redis are read, which Valkey writes up to version 8"
    )]
    Valkey(String),
    /// Content and checksum differ.
    #[error("Wrong RDB checksum expected: ({computed:016x}) but got ({found:016x})")]
    Checksum {
        /// The checksum in the file.
        found: u64,
        /// The checksum of what was read.
        computed: u64,
    },
    /// A value, key or field can't be read.
    #[error(transparent)]
    Object(ObjectError),
    /// An opcode that no known version writes.
    #[error("unknown RDB opcode {0}: a newer version wrote it, or it is damaged")]
    UnknownOpcode(u8),
    /// The function format of release candidates, which Redis refuses too.
    #[error(
        "pre-release function format not supported: a release candidate of Redis 7.0 wrote it, \
         and Redis 7.0 itself does not read it"
    )]
    FunctionPreGa,
    /// Something follows the end of the file.
    #[error("bytes after the end of the RDB")]
    Trailing,
}

struct PlaceText<'a>(Option<&'a EntryPlace>);

impl std::fmt::Display for PlaceText<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(place) => write!(formatter, ", {place}"),
        }
    }
}
