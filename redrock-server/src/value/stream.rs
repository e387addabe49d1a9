//! Streams, kept as their RDB encoding until the stream commands arrive: they load, save, tier
//! and replicate whole.

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// RDB type byte of the encoding (`stream_listpacks*`).
    pub type_byte: u8,
    /// The encoded value.
    pub payload: Vec<u8>,
}

impl Stream {
    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.payload.capacity()
    }
}
