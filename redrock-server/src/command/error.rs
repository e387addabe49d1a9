//! What a command can fail with, and the exact bytes Redis answers.

use std::borrow::Cow;

/// A failed command. `Display` is not implemented on purpose: errors leave through
/// [`CommandError::resp`] only, so that their text is the literal one clients match on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// `-WRONGTYPE ...`
    WrongType,
    /// `-ERR syntax error`
    Syntax,
    /// `-ERR value is not an integer or out of range`
    NotInteger,
    /// `-ERR value is not a valid float`
    NotFloat,
    /// `-ERR index out of range`
    OutOfRange,
    /// `-ERR no such key`
    NoSuchKey,
    /// `-ERR wrong number of arguments for 'x' command`
    Arity(String),
    /// Any other complete error text, code included (`ERR ...`).
    Text(Cow<'static, str>),
    /// As `Text`, when it repeats bytes of the request that need not be UTF-8.
    Bytes(Vec<u8>),
    /// The command read a key whose value is on disk and was not made resident beforehand.
    /// Never reaches a client: the dispatcher loads the key and runs the command again, which
    /// is why a command must read all it needs before its first change. The database's
    /// number and the key.
    Cold(usize, Vec<u8>),
    /// The command would change a large value that a snapshot is still reading. Never reaches a
    /// client either: the command runs again when the snapshot has read on.
    Busy,
}

/// Result of a command that writes its reply itself.
pub type CommandResult<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// An error with a fixed text, code included.
    pub const fn fixed(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// An error with a computed text, code included.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// `-TIERERR`: what a command needs of the tier can't be read, or is damaged.
    pub fn tier(what: impl std::fmt::Display) -> Self {
        Self::text(format!("TIERERR {what}"))
    }

    /// The error line without the leading `-` and the line end.
    pub fn resp(&self) -> Cow<'_, [u8]> {
        let fixed: &'static str = match self {
            Self::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::Syntax => "ERR syntax error",
            Self::NotInteger => "ERR value is not an integer or out of range",
            Self::NotFloat => "ERR value is not a valid float",
            Self::OutOfRange => "ERR index out of range",
            Self::NoSuchKey => "ERR no such key",
            Self::Cold(..) => "TRYAGAIN the value is being read from disk",
            Self::Busy => "TRYAGAIN the value is being saved",
            Self::Arity(name) => {
                return Cow::Owned(
                    format!("ERR wrong number of arguments for '{name}' command").into_bytes(),
                );
            }
            Self::Text(text) => return Cow::Borrowed(text.as_bytes()),
            Self::Bytes(bytes) => return Cow::Borrowed(bytes),
        };
        Cow::Borrowed(fixed.as_bytes())
    }
}
