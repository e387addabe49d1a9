//! RDB files between versions: those of other servers loaded, ours read by others, what can't be read refused.
//!
//! The files are in `fixtures/rdb/servers`, with what the servers that saved them answered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod loads;
mod modules;
mod payloads;
mod refusals;
mod replies;
mod saves;
