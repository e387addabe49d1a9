//! Becoming a replica, taking over a master's data set, becoming a master again.

use crate::keyspace::{ExpireMode, Keyspace};
use crate::log::state::LogKind;
use crate::server::Server;
use crate::start::directory::random_id;
use crate::start::rdb::{self, RdbOptions};
use crate::state::{LinkState, MasterLink};
use anyhow::Context as _;
use redrock_proto::model::{LoadRdb, RunRef};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a load is, and whether it is still wanted.
#[derive(Debug, Default)]
pub struct LoadWatch {
    /// Bytes of the file read so far.
    pub read_bytes: AtomicU64,
    /// Nobody wants the result any more.
    pub cancelled: AtomicBool,
}

struct WatchedFile {
    file: std::fs::File,
    watch: Arc<LoadWatch>,
}

impl Read for WatchedFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.watch.cancelled.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("the load was cancelled"));
        }
        let count = self.file.read(buffer)?;
        self.watch
            .read_bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Loads a master's snapshot aside while the old data serves, then swaps it in and takes over the
/// master's history. On failure nothing has changed.
pub fn load_snapshot(
    server: &Server,
    run: RunRef,
    path: &Path,
    request: &LoadRdb,
    watch: &Arc<LoadWatch>,
) -> anyhow::Result<u64> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata().context("read the snapshot's length")?.len();
    anyhow::ensure!(
        length == request.bytes,
        "the snapshot has {length} bytes instead of {}",
        request.bytes
    );
    let _staging = server.staging.lock();
    let leftover = server.keyspace.lock().begin_staging();
    drop(leftover);
    let options = RdbOptions {
        staged: true,
        ..RdbOptions::default()
    };
    let source = WatchedFile {
        file,
        watch: watch.clone(),
    };
    let loaded = rdb::load(server, source, options);
    let facts = match loaded {
        Ok(facts) => facts,
        Err(error) => {
            let staged = server.keyspace.lock().drop_staged();
            drop(staged);
            return Err(error);
        }
    };
    // Our log told another history up to here.
    if let Err(error) = server.log.disable() {
        tracing::warn!(error, "the log could not be closed before the new data set");
    }
    let old = {
        let mut keyspace = server.keyspace.lock();
        touch_everything(&keyspace);
        keyspace.expire_mode = ExpireMode::Hide;
        server.log.set_identity(
            run.run_id.digits(),
            run.epoch,
            request.source.replid.digits(),
            None,
        );
        server.log.set_offset(request.source.offset);
        keyspace.swap_staged()
    };
    drop(old);
    if let Some(master) = &mut server.state.replication.lock().master {
        master.applied_offset = Some(request.source.offset);
    }
    Ok(facts.keys)
}

/// All watched keys may have changed.
pub fn touch_everything(keyspace: &Keyspace) {
    for db in 0..keyspace.database_count() {
        keyspace.watched.changed_database(db, |_, _| true);
    }
}

/// Becomes a replica of a master: keys expire only when it says so.
pub fn demote(server: &Server, host: &str, port: u16) {
    let mut keyspace = server.keyspace.lock();
    keyspace.expire_mode = ExpireMode::Hide;
    let mut replication = server.state.replication.lock();
    let same = replication
        .master
        .as_ref()
        .is_some_and(|m| m.host == host && m.port == port);
    if !same {
        replication.master = Some(MasterLink {
            host: host.to_owned(),
            port,
            state: LinkState::Connect,
            down_since_s: Some(crate::clock::unix_ms() / 1000),
            ..MasterLink::default()
        });
    }
}

/// Becomes a master with a history of its own that continues the former one; its id and offset.
pub fn promote(server: &Server, run: RunRef) -> ([u8; 40], u64) {
    let mut keyspace = server.keyspace.lock();
    let state = server.log.state();
    let offset = server.log.appended_offset();
    let was_replica = server.state.replication.lock().master.take().is_some();
    if !was_replica {
        return (state.replid, offset);
    }
    keyspace.expire_mode = ExpireMode::Delete;
    let replid = random_id();
    let offered = server.log.take_offer();
    match offered {
        // The new history begins with a segment of its own, as its sidecar names one id.
        Some(mut target) if state.kind != LogKind::None => {
            target.replid = Some(replid);
            let _switched = server.log.cut(Some(target));
        }
        _ => {
            let former = Some((state.replid, offset));
            server
                .log
                .set_identity(run.run_id.digits(), run.epoch, replid, former);
        }
    }
    server.log.force_select();
    (replid, offset)
}
