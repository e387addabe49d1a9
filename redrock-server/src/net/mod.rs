//! Network: listeners, workers, connections, clients.

pub mod acceptor;
pub mod bind;
pub mod client;
pub mod connection;
pub mod handover;
pub mod large_requests;
pub mod listener;
pub mod memory;
pub mod open_files;
pub mod parser;
pub mod stream;
pub mod worker;
