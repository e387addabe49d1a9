//! The RDB codec: bytes in, values out.
//!
//! Pure and allocation-capped: no sockets, clocks or files. Every decoder
//! accepts any input without panicking and checks every length against the
//! bytes that are really there.

// Compact encodings, which small hot collections use as they are.
mod capacity;
pub mod crc64;
pub mod error;
pub mod intset;
pub mod listpack;
pub mod lzf;
pub mod number;
pub mod ziplist;
pub mod zipmap;

// Values, and what carries them.
pub mod dump;
pub mod file;
pub mod functions;
pub mod object;
