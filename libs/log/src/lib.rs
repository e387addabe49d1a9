//! Everything about the files of the effect log that more than one daemon touches.
//!
//! The server appends and fsyncs segments, the persister keeps the manifest and the bases,
//! the replica agent feeds peers from the same segments: formats, naming, durability order
//! and recovery rules live here once. `docs/formats/log.md` has the formats byte by byte.
//!
//! Invariants:
//! - nothing here claims more than is durable: a sidecar's durable record is written only
//!   after `fdatasync` of the segment returned, a rename only after the file was synced;
//! - a segment is a valid Redis increment at every whole write;
//! - no panic and no unbounded memory on any content of the data directory;
//! - no runtime, no threads, no clocks of its own: callers pass the time in.

pub mod backlog;
pub mod ballast;
mod checked_file;
pub mod epoch;
pub mod failpoint;
pub mod fs;
pub mod history;
pub mod manifest;
pub mod scan;
pub mod segment;
pub mod sidecar;
pub mod testing;
pub mod writer;

pub use checked_file::StateFileError;
