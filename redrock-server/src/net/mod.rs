//! Network: listeners, workers, connections, clients.

pub mod acceptor;
pub mod bind;
pub mod client;
pub mod client_shared;
pub mod connection;
pub mod handover;
pub mod large_requests;
pub mod listener;
pub mod memory;
pub mod open_files;
pub mod parser;
pub mod stream;
pub mod tls;
pub mod worker;
