//! From a data directory to a server that serves.

pub mod progress;
