//! The error of every compact-encoding decoder.

/// Bytes that are not what their encoding promises.
///
/// `reason` is a static text, so that a decoder fed with garbage never
/// allocates for its complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Corrupt {
    /// What was found wrong.
    pub reason: &'static str,
    /// Offset in bytes from the start of the blob.
    pub offset: usize,
}

impl Corrupt {
    /// A complaint about the byte at `offset`.
    pub const fn new(reason: &'static str, offset: usize) -> Self {
        Self { reason, offset }
    }
}
