//! The persister: owns manifest, bases and retention; turns snapshots into RDB files.
//!
//! - [`run`] wires the daemon up; `main` only parses arguments.
//! - [`session`] is the work for one run of the server: its link, its files, its jobs.
//! - [`snapshot`] makes RDB files from the server's stream and checkpoint.
//! - [`aof`] keeps the manifest and rewrites the append-only log.
//! - [`check`] verifies files without any daemon.
//!
//! Invariants:
//! - no rename or unlink in the data directory without the epoch check (I8), see [`data_dir`];
//! - a job that fails leaves the files that were valid before it valid;
//! - memory does not grow with the data set: values pass in pieces, every queue is short.

pub mod aof;
pub mod args;
pub mod backup;
pub mod base;
pub mod check;
pub mod console;
pub mod data_dir;
pub mod error;
pub mod files;
pub mod jobs;
pub mod link;
pub mod moment;
pub mod pins;
pub mod place;
pub mod progress;
pub mod rdb_head;
pub mod replicas;
pub mod restore;
pub mod run;
pub mod service;
pub mod session;
pub mod settings;
pub mod snapshot;
