//! Set values.

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Set {}

impl Set {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of elements.
    #[expect(clippy::len_without_is_empty, reason = "an empty one never stays in the keyspace")]
    pub fn len(&self) -> usize {
        0
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        0
    }
}
