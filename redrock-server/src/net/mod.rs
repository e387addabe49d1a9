//! Network: listeners, workers, connections, clients.

pub mod client;
pub mod connection;
pub mod listener;
pub mod parser;
pub mod stream;
pub mod worker;
