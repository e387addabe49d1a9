//! MIGRATE: keys on their way to another server.
//!
//! Nothing is held while bytes travel: the keys are latched ([`crate::keyspace::latches`]), so
//! that they stand still while everybody else goes on, and the transfer is a task of the
//! services' runtime. What the target has taken is deleted, and the DEL appended, in one lock
//! hold at the end, with the latch still on: a key is deleted only if its value is the one that
//! was sent, because nothing could change it. See `docs/adr/0010-migrate-latches-its-keys.md`.
//!
//! Memory: one value after the other is encoded, from a shared reference, and what all transfers
//! hold encoded together is bounded ([`ENCODED_BYTES_MAX`], or the one value that is larger).

mod finish;
mod pool;
#[cfg(test)]
mod testing;
mod transfer;

use crate::server::Server;
use pool::Pool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What all transfers together may hold encoded, unless a single value is larger, bytes.
const ENCODED_BYTES_MAX: u32 = 64 << 20;

/// To a client whose keys' server became a replica meanwhile.
const DEMOTED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

/// What all transfers share.
#[derive(Debug)]
pub struct Migrations {
    /// Connections that were used lately.
    pub(crate) pool: Pool,
    /// One permit a byte that is encoded.
    encoded: Semaphore,
}

impl Default for Migrations {
    fn default() -> Self {
        Self {
            pool: Pool::default(),
            encoded: Semaphore::new(ENCODED_BYTES_MAX as usize),
        }
    }
}

/// What MIGRATE was asked for.
#[derive(Debug)]
pub struct Job {
    /// Whom to send to, as the client wrote it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database there.
    pub database: i64,
    /// For connecting, and for each piece that is written or read.
    pub timeout: Duration,
    /// The keys stay here.
    pub copy: bool,
    /// Keys that are there are overwritten.
    pub replace: bool,
    /// User (AUTH2) and password.
    pub login: Option<(Option<Vec<u8>>, Vec<u8>)>,
    /// The database here.
    pub source: usize,
    /// The keys, which exist and are latched; one may be named twice.
    pub keys: Vec<Vec<u8>>,
    /// [`crate::state::ServiceState::feed`] when they were latched.
    pub feed: u64,
}

/// Releases the keys of a job when it is dropped.
#[derive(Debug)]
pub struct Latch {
    server: Arc<Server>,
    job: Job,
}

impl Latch {
    /// The latch of a job whose keys were taken.
    pub fn new(server: Arc<Server>, job: Job) -> Self {
        Self { server, job }
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        let keys = self.job.keys.iter().map(Vec::as_slice);
        self.server.keyspace.lock().latches.release(keys);
    }
}

/// What became of a job: the offset behind what it appended (0: nothing), and the error that the
/// client gets.
#[derive(Debug)]
pub struct Done {
    /// Stream offset behind the DEL.
    pub offset: u64,
    /// An error line without its dash.
    pub result: Result<(), Vec<u8>>,
}

/// Sends the keys and deletes what the target took.
pub async fn run(latch: Latch) -> Done {
    let (server, job) = (&latch.server, &latch.job);
    let sent = transfer::send(server, job).await;
    if job.copy || sent.taken.is_empty() {
        return Done {
            offset: 0,
            result: sent.result,
        };
    }
    let keys: Vec<&[u8]> = sent
        .taken
        .iter()
        .filter_map(|at| job.keys.get(*at))
        .map(Vec::as_slice)
        .collect();
    match finish::delete(server, job, &keys).await {
        Ok(offset) => Done {
            offset,
            result: sent.result,
        },
        Err(error) => Done {
            offset: 0,
            result: Err(error),
        },
    }
}
