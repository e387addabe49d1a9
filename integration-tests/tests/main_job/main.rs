//! The main job, end to end: more data than memory, within the bound (I7), in every phase.
//!
//! Small by default; `RR_SCALE=100`, as `make soak` sets it, gives the full sizes: 3.5 million keys,
//! twenty times `maxmemory 200mb`. Each row prints one line: sizes, peaks, limit, verdict.

mod master;
mod replica;
mod rows;
mod writers;
