//! The append-only log's files: manifest, bases, rewrites, retention.

pub mod keeper;
pub mod retention;
pub mod rewrite;
pub mod schedule;
pub mod segments;
