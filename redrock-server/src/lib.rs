//! redrock-server: speaks RESP, owns the keyspace with its hot tier (RAM) and cold tier (RocksDB),
//! and the effect log. See ARCHITECTURE.md.

/// The Redis version whose behaviour and commands the server offers.
pub const REDIS_VERSION: &str = "7.2.6";

pub mod acl;
pub mod app;
mod banner;
pub mod clock;
pub mod command;
pub mod companions;
pub mod config;
pub mod daemonize;
pub mod grpc;
pub mod info;
pub mod keyspace;
mod keyspace_access;
pub mod latency;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod migrate;
pub mod monitor;
pub mod net;
pub mod notify;
pub mod priority;
pub mod process_title;
pub mod pubsub;
pub mod replication;
pub mod script;
pub mod server;
pub mod services;
pub mod slowlog;
pub mod start;
pub mod state;
pub mod stats;
pub mod tracking;
pub mod unnamed_file;
pub mod value;
pub mod waits;
