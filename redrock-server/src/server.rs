//! What all parts of the running server share.

use crate::config::Config;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Counters that INFO shows; see Redis's INFO for their meaning.
#[derive(Debug, Default)]
pub struct Stats {
    /// `total_connections_received`
    pub connections: AtomicU64,
    /// `total_commands_processed`
    pub commands: AtomicU64,
    /// `rejected_connections`
    pub rejected: AtomicU64,
    /// `total_net_input_bytes`
    pub input_bytes: AtomicU64,
    /// `total_net_output_bytes`
    pub output_bytes: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// 40 hex digits, new at every start.
    pub run_id: String,
    /// When the server started, unix ms.
    pub started_ms: i64,
    /// Statistics.
    pub stats: Stats,
    /// The configuration in force.
    pub config: parking_lot::RwLock<Arc<Config>>,
}
