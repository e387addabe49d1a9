//! The server's gRPC services, one file each. Wire types stop here.

pub mod load;
pub mod snapshot;

use crate::server::Server;
use redrock_proto::model::RunRef;
use std::sync::Arc;

/// What every service needs.
#[derive(Clone)]
pub struct Shared {
    /// The server.
    pub server: Arc<Server>,
    /// This run, which requests must name.
    pub run: RunRef,
    /// The data directory, which paths in messages are relative to.
    pub data_dir: std::path::PathBuf,
}
