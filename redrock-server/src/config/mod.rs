//! Configuration: redis.conf syntax, command line, environment, CONFIG GET/SET/REWRITE.

use crate::value::Limits;

/// The configuration in force. Immutable: CONFIG SET makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Encoding thresholds.
    pub limits: Limits,
    /// `databases`
    pub databases: usize,
}
