//! Replication between us and a real Redis 7.0, both ways, the append-only log on.
//!
//! Data are compared by DEBUG DIGEST, which both compute alike. Links are cut by a small proxy
//! between the two.

mod answers;
mod backlog;
mod bad_masters;
mod blocked;
mod broken_log;
mod durable;
mod failover;
mod fields;
mod fleets;
mod full_disk;
mod link;
mod master;
mod messages;
mod no_log;
mod old_scripts;
mod options;
mod password;
mod promoted;
mod replica;
mod resume;
mod returns;
mod roles;
mod sentinel;
mod three;
mod writable;
