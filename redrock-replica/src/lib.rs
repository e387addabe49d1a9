//! The replication agent: links to replicas and to a master.
//!
//! - `master`: peers that said PSYNC or SYNC on the server's port; their
//!   sockets are handed over, bases and log segments are sent from files.
//! - `follow`: our own master; its snapshot and stream are spooled to disk,
//!   the server reads them from there.
//! - [`app`] puts it together; `service` is the door for the server;
//!   `failover` hands our role to a replica.
//!
//! Invariants: no replica's pending bytes are kept in memory; nothing in the
//! data directory is renamed or removed without the epoch check (I8); the
//! server serves on whether or not this process lives (I2).

pub mod app;
pub mod config;
mod context;
mod failover;
mod follow;
mod framing;
mod master;
mod service;
mod snapshot_id;
mod socket;
mod watchers;
