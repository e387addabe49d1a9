//! What can be wrong with an encoded object.

use crate::error::Corrupt;

/// Why a value can't be read, or can't be written for a target.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bytes end before the value does.
    #[error("value ends early at byte {offset}")]
    Truncated {
        /// Offset in bytes from the start of the value.
        offset: usize,
    },
    /// The bytes are not what their encoding promises.
    #[error("corrupt value: {0}")]
    Corrupt(#[from] Corrupt),
    /// A type byte that no known version writes.
    #[error("unknown RDB type {0}: a newer version wrote it, or it is damaged")]
    UnknownType(u8),
    /// The module format of release candidates, which Redis refuses too.
    #[error(
        "pre-release module format not supported: a release candidate of Redis 4.0 wrote it, and \
         Redis 4.0 itself does not read it"
    )]
    ModulePreGa,
    /// A value that only the named module can read.
    #[error("value belongs to the module type '{name}', which is not available")]
    Module {
        /// The module type's name of nine characters.
        name: String,
    },
    /// A collection without elements. Redis skips such a key in a file and
    /// refuses it in RESTORE.
    #[error("collection without elements")]
    EmptyKey,
    /// The value needs a newer RDB version than the target has.
    #[error("RDB type {object_type} does not exist in RDB version {version}")]
    NotInVersion {
        /// The type byte that would be needed.
        object_type: u8,
        /// The target's version.
        version: u16,
    },
    /// The value is larger than its reader allows.
    #[error("value exceeds {bytes_max} bytes")]
    TooLarge {
        /// The reader's limit in bytes.
        bytes_max: usize,
    },
    /// The reader failed.
    #[error("read value: {0}")]
    Io(#[from] std::io::Error),
}

impl ObjectError {
    pub(crate) fn corrupt(reason: &'static str, offset: usize) -> Self {
        Self::Corrupt(Corrupt::new(reason, offset))
    }
}
