//! From a data directory to a server that serves.
//!
//! Order: lock and epoch ([`directory`]), port, tier folder, then [`recover`]: the log if it is
//! enabled, else the dump, else nothing. Clients get `-LOADING` meanwhile. A start as master
//! mints a new replication id; the former one stays valid up to the recovered offset.

pub mod append_only;
pub mod directory;
pub mod fate;
pub mod progress;
pub mod rdb;
pub mod reload;
pub mod replay;
pub mod replicas_log;
mod report;

use crate::config::{Config, Fsync};
use crate::keyspace::ExpireMode;
use crate::log::state::LogKind;
use crate::log::sync::FsyncPolicy;
use crate::log::{LogObserver, OpenSegment};
use crate::server::Server;
use anyhow::{Context as _, bail};
use directory::{DataDirectory, random_id};
use redrock_log::ballast::Ballast;
use redrock_log::fs::OpenMode;
use redrock_log::history::ReplicationState;
use redrock_log::writer::SegmentStart;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Disk space kept in reserve so that a full disk lets the work at hand finish.
const BALLAST_BYTES: u64 = 4 << 20;
/// Name of the file that holds it, in the append-only directory.
const BALLAST_NAME: &str = "redrock.ballast";

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

/// Loads the data and opens the log. On success the server serves; an error is for the operator,
/// and nothing may be served.
pub fn recover(server: &Arc<Server>, data: &DataDirectory) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = server.config();
    {
        let mut keyspace = server.keyspace.lock();
        keyspace.expire_mode = ExpireMode::Ignore;
        keyspace.access.set_clock(crate::clock::unix_ms());
    }
    server
        .log
        .observe(Arc::new(Observer(Arc::downgrade(server))));
    server.log.set_policy(fsync_policy(&config));
    let mut recovered = None;
    let loaded = if config.append_only.enabled {
        append_only::load(server, data)?
    } else {
        let plan = replicas_log::plan(data, &config)?;
        let facts = load_dump(server, data, &config, plan.is_some())?;
        recovered = replicas_log::replay(server, data, plan, facts.as_ref())?;
        None
    };
    replicas_log::clean_up(data, recovered.as_ref())?;
    begin_stream(server, data, &config, loaded, recovered)?;
    let mut keyspace = server.keyspace.lock();
    keyspace.expire_mode = ExpireMode::Delete;
    let keys: u64 = (0..keyspace.database_count())
        .filter_map(|db| keyspace.database(db))
        .map(|database| database.keys)
        .sum();
    drop(keyspace);
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(keys, "Data loaded: {seconds:.3} seconds");
    server.report_log();
    server.loading.end();
    Ok(())
}

/// AOF off: the dump, if there is one. `continued` tells that a log is replayed over it.
fn load_dump(
    server: &Arc<Server>,
    data: &DataDirectory,
    config: &Config,
    continued: bool,
) -> anyhow::Result<Option<rdb::RdbFacts>> {
    let path = data.path.join(&config.snapshot.file_name);
    if !data.fs.exists(&path)? {
        return Ok(None);
    }
    let named = || format!("RDB file {}", path.display());
    let file = data.fs.open(&path, OpenMode::Read).with_context(named)?;
    let bytes = file.len().with_context(named)?;
    server.loading.set_total(bytes);
    refuse_what_does_not_fit(config, bytes)?;
    let started = Instant::now();
    let options = rdb::RdbOptions {
        // Commands of a log count on keys that were there when they ran.
        drop_expired: !continued,
        allow_trailing: true,
        ..rdb::RdbOptions::default()
    };
    let source = rdb::CountingReader::new(file, server);
    let facts = rdb::load(server, source, options).with_context(named)?;
    tracing::info!(
        "Done loading RDB, keys loaded: {}, keys expired: {}.",
        facts.keys,
        facts.expired
    );
    tracing::info!(
        "DB loaded from disk: {:.3} seconds",
        started.elapsed().as_secs_f64()
    );
    Ok(Some(facts))
}

/// With the feature off all data must fit into memory: better refused than killed half-way.
fn refuse_what_does_not_fit(config: &Config, file_bytes: u64) -> anyhow::Result<()> {
    if config.memory.tiering || config.snapshot.load_anyway {
        return Ok(());
    }
    let Some(free) = crate::memory::available_bytes() else {
        return Ok(());
    };
    if file_bytes > free {
        bail!(
            "the data set needs at least {file_bytes} bytes of memory and {free} bytes are free: \
             turn tiering on (maxmemory and enable-rocksdb-feature yes), or set load-anyway yes"
        );
    }
    Ok(())
}

/// Gives the stream its identity, makes that durable, and opens the log.
fn begin_stream(
    server: &Arc<Server>,
    data: &DataDirectory,
    config: &Config,
    loaded: Option<append_only::LoadedLog>,
    recovered: Option<replicas_log::Recovered>,
) -> anyhow::Result<()> {
    let fs = data.fs.as_ref();
    let replid = random_id();
    let state = next_state(data, loaded.as_ref(), recovered.as_ref(), replid)?;
    state.store(fs, &data.path, &|| Ok(()))?;
    let former = state
        .former()
        .next()
        .map(|former| (former.replid, former.valid_to_offset));
    let epoch = data.epoch;
    server
        .log
        .set_identity(epoch.run_id, epoch.number, replid, former);
    server.log.set_offset(state.offset);
    if let Some(recovered) = recovered {
        return go_on_for_replicas(server, data, &recovered, replid);
    }
    if !config.append_only.enabled {
        return Ok(());
    }
    if loaded.is_none() && data.is_file(&data.path.join(&config.snapshot.file_name)) {
        tracing::warn!(
            file = config.snapshot.file_name,
            "appendonly is on and there is no append only file: the RDB file is not loaded, as in Redis"
        );
    }
    let start = SegmentStart {
        start_offset: state.offset,
        database: loaded.as_ref().map_or(0, |loaded| loaded.database as u32),
        replid,
        run_id: epoch.run_id,
        epoch: epoch.number,
    };
    let opened = append_only::open(config, data, loaded, &start)?;
    server.log.open(OpenSegment {
        segment: opened.segment,
        sequence: opened.sequence,
        kind: LogKind::AppendOnly,
        replid,
        database: opened.database,
    });
    // What was replayed is durable before anyone is told so.
    if !server.log.sync_now() {
        bail!("fsync of the append only file failed");
    }
    let path = data.log_directory(config).join(BALLAST_NAME);
    server
        .log
        .set_ballast(Ballast::open(fs, &path, BALLAST_BYTES).context("disk space reserve")?);
    Ok(())
}

/// AOF off, with a log for replicas that was replayed: they find its continuation.
fn go_on_for_replicas(
    server: &Arc<Server>,
    data: &DataDirectory,
    recovered: &replicas_log::Recovered,
    replid: redrock_log::sidecar::HexId,
) -> anyhow::Result<()> {
    let start = SegmentStart {
        start_offset: recovered.offset,
        database: u32::try_from(recovered.database).unwrap_or(0),
        replid,
        run_id: data.epoch.run_id,
        epoch: data.epoch.number,
    };
    server.log.open(OpenSegment {
        segment: replicas_log::begin(data, recovered, &start)?,
        sequence: recovered.sequence.unsigned_abs(),
        kind: LogKind::Replication,
        replid,
        database: recovered.database,
    });
    Ok(())
}

/// The history of the stream that begins under a new id.
fn next_state(
    data: &DataDirectory,
    loaded: Option<&append_only::LoadedLog>,
    recovered: Option<&replicas_log::Recovered>,
    replid: redrock_log::sidecar::HexId,
) -> anyhow::Result<ReplicationState> {
    let end = loaded.and_then(|loaded| loaded.end);
    Ok(match (recovered, end) {
        (Some(recovered), _) => {
            let mut state = recovered.state.clone();
            state.change_id(replid, recovered.offset);
            state
        }
        (None, Some((offset, former))) => {
            let stored = ReplicationState::load(data.fs.as_ref(), &data.path)?;
            let mut state = stored.unwrap_or_else(|| ReplicationState::new(former, offset, 0));
            state.snapshot = None;
            state.change_id(replid, offset);
            state
        }
        // Without a log of ours nobody can go on from what was before.
        (None, None) => ReplicationState::new(replid, 0, 0),
    })
}
