//! From a data directory to a server that serves.
//!
//! Order: a look that touches nothing, port, lock ([`directory`]), tier folder, then [`recover`]:
//! the log if it is enabled, else the dump, else nothing; then the epoch, the companions, and the
//! [`stream`] goes on from there. Clients get `-LOADING` meanwhile.

pub mod append_only;
pub mod directory;
mod estimate;
pub mod fate;
mod key_count;
mod last_segment;
mod manifest_trouble;
pub mod progress;
pub mod rdb;
pub mod reload;
pub mod replay;
pub mod replicas_log;
mod report;
mod stream;
pub mod transaction;
pub mod warm;

use crate::config::{Config, Fsync};
use crate::keyspace::cold::warm::WarmStart;
use crate::keyspace::{ExpireMode, field_expiry};
use crate::log::LogObserver;
use crate::log::sync::FsyncPolicy;
use crate::replication::identity::lose_count_of_a_log_that_ended;
use crate::server::Server;
use anyhow::Context as _;
use directory::DataDirectory;
use estimate::{Extent, refuse_what_does_not_fit};
use redrock_daemon::error_text::whole;
use redrock_log::fs::OpenMode;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Tells workers and the server's end of what the log reports.
struct Observer(Weak<Server>);

impl LogObserver for Observer {
    fn advanced(&self) {
        if let Some(server) = self.0.upgrade() {
            for mailbox in server.mailboxes() {
                mailbox.durable_advanced();
            }
        }
    }
    fn synced(&self, took_ms: u64) {
        if let Some(server) = self.0.upgrade() {
            server.latency.record("aof-fsync-always", took_ms);
        }
    }

    fn given_up(&self) {
        let Some(server) = self.0.upgrade() else {
            return;
        };
        // Elsewhere: who writes the log may hold the keyspace.
        if let Some(services) = server.services.get() {
            let handle = services.handle.clone();
            handle.spawn_blocking(move || lose_count_of_a_log_that_ended(&server));
        }
    }

    fn fatal(&self, reason: &str) {
        if let Some(server) = self.0.upgrade() {
            server.fate.fail(reason);
        }
    }
}

/// The log's policy for `appendfsync`.
pub fn fsync_policy(config: &Config) -> FsyncPolicy {
    match config.append_only.fsync {
        Fsync::EverySecond => FsyncPolicy::EverySecond,
        Fsync::Always => FsyncPolicy::Always,
        Fsync::No => FsyncPolicy::No,
    }
}

/// Until [`recover`] is done expired keys stay: the log's commands apply to what was there when they ran.
pub fn expire_nothing(server: &Server) {
    server.keyspace.lock().expire_mode = ExpireMode::Ignore;
}

/// Loads the data and opens the log. On success the server serves; an error is for the operator,
/// and nothing may be served.
///
/// `warm`: what the tier holds already, which is then not loaded.
pub fn recover(
    server: &Arc<Server>,
    data: &DataDirectory,
    warm: Option<&WarmStart>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = server.config();
    expire_nothing(server);
    let now_ms = crate::clock::unix_ms();
    server.keyspace.lock().access.set_clock(now_ms);
    server
        .log
        .observe(Arc::new(Observer(Arc::downgrade(server))));
    server.log.set_policy(fsync_policy(&config));
    let mut recovered = None;
    let mut dump = None;
    let loaded = if config.append_only.enabled {
        append_only::load(server, data, warm)?
    } else {
        let plan = replicas_log::plan(data, &config)?;
        let facts = load_dump(server, data, &config, plan.is_some(), warm)?;
        let planned = plan.is_some();
        recovered = replicas_log::replay(server, data, plan, facts.as_ref())?;
        // A log that was replayed in part only leaves data of no known place in the stream.
        dump = facts.filter(|_| !planned || recovered.is_some());
        None
    };
    check_field_expiry(server, &config)?;
    data.begin()?;
    replicas_log::clean_up(data, recovered.as_ref())?;
    let found = stream::Found {
        loaded,
        recovered,
        dump,
    };
    stream::begin(server, data, &config, found)?;
    let mut keyspace = server.keyspace.lock();
    // A replica's keys go by its master's word alone.
    keyspace.set_role_expiry(match server.is_replica() {
        true => ExpireMode::Hide,
        false => ExpireMode::Delete,
    });
    keyspace.follow_role();
    let keys: u64 = (0..keyspace.database_count())
        .filter_map(|db| keyspace.database(db))
        .map(|database| database.keys)
        .sum();
    drop(keyspace);
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(keys, "Data loaded: {seconds:.3} seconds");
    server.report_log();
    // Not before: a start that fails leaves no trace of them.
    if let Some(services) = server.services.get() {
        services.start_companions(&config);
    }
    server.loading.end();
    server.refresh_gates();
    Ok(())
}

/// What has been loaded must be such that it can be saved again.
fn check_field_expiry(server: &Server, config: &Config) -> anyhow::Result<()> {
    let hashes = server.keyspace.lock().timed_hashes();
    field_expiry::check(hashes, config.snapshot.rdb_version)
        .map_err(|why| anyhow::anyhow!("Fatal error loading the DB: {why}"))
}

/// AOF off: the dump, if there is one. `continued` tells that a log is replayed over it.
fn load_dump(
    server: &Arc<Server>,
    data: &DataDirectory,
    config: &Config,
    continued: bool,
    warm: Option<&WarmStart>,
) -> anyhow::Result<Option<rdb::RdbFacts>> {
    let path = data.path.join(&config.snapshot.file_name);
    if !data.fs.exists(&path)? {
        return Ok(None);
    }
    let named = || format!("RDB file {}", path.display());
    let file = data.fs.open(&path, OpenMode::Read).with_context(named)?;
    let bytes = file.len().with_context(named)?;
    let warm = warm.filter(|warm| data.path.join(&warm.file) == path);
    let head_bytes = warm.map(|warm| warm.dirty_bytes);
    server.loading.set_total(head_bytes.unwrap_or(bytes));
    refuse_what_does_not_fit(config, data.fs.as_ref(), &path, Extent::Whole)?;
    let started = Instant::now();
    let options = rdb::RdbOptions {
        // Commands of a log count on keys that were there when they ran.
        // What the tier holds goes when its time is looked at, and so does all then.
        drop_expired: !continued && !server.is_replica() && warm.is_none(),
        allow_trailing: true,
        head_bytes,
        ..rdb::RdbOptions::default()
    };
    let source = rdb::CountingReader::new(file, server);
    let facts = rdb::load(server, source, options).map_err(|error| damaged(&error, &path, "it"))?;
    if let Some(warm) = warm {
        warm::complete(server, warm)?;
    }
    tracing::info!("{}", facts.line());
    tracing::info!(
        "DB loaded from disk: {:.3} seconds",
        started.elapsed().as_secs_f64()
    );
    Ok(Some(facts))
}

/// The error for an RDB that can't be loaded, with the way out: what to restore or move away.
fn damaged(error: &anyhow::Error, path: &Path, whole_of: &str) -> anyhow::Error {
    let (error, path) = (whole(error.as_ref()), path.display());
    anyhow::anyhow!(
        "Fatal error loading the DB: RDB file {path}: {error}. What to do: `redrock-persist check \
         {path}` tells how much of it is sound; restore {whole_of} from a backup or a replica, or \
         move {whole_of} away to start without the data"
    )
}
