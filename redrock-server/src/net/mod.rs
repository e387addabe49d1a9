//! Network: listeners, connections, clients.
pub mod client;
