//! Configuration: redis.conf syntax, command line, environment, CONFIG GET/SET/REWRITE.

use crate::value::Limits;

/// The configuration in force. Immutable: CONFIG SET makes a new one.
#[derive(Debug, Clone)]
pub struct Config {
    /// Encoding thresholds.
    pub limits: Limits,
    /// `databases`
    pub databases: usize,
    /// `port`
    pub port: u16,
    /// `proto-max-bulk-len`
    pub proto_bulk_bytes_max: usize,
    /// Worker threads.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            databases: 16,
            port: 6379,
            proto_bulk_bytes_max: 512 << 20,
            workers: 1,
        }
    }
}
