//! The running server's files read back into it: DEBUG RELOAD and DEBUG LOADAOF.
//!
//! Nothing may be executed meanwhile: the caller holds clients and the master's stream back. What
//! is loaded is propagated to nobody, as in Redis.

use super::append_only::Again;
use super::rdb::{self, CountingReader, RdbOptions};
use crate::keyspace::ExpireMode;
use crate::replication::follow::touch_everything;
use crate::server::Server;
use anyhow::Context as _;
use redrock_log::fs::{Fs as _, OpenMode, RealFs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What becomes of the data in memory when an RDB is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdbReload {
    /// They go. Without that the file's keys are added to them.
    pub flush: bool,
    /// A key that is there already gets the file's value; without that it is an error.
    pub merge: bool,
}

/// Loads the RDB file of the data directory `path`. With [`RdbReload::flush`] an error leaves
/// the data as they were; else what was loaded before it stays.
pub fn dump(server: &Server, path: &Path, how: RdbReload) -> anyhow::Result<()> {
    let staging = server.staging.try_lock();
    let _staging = staging.context("a master's snapshot is being loaded")?;
    let path = path.join(&server.config().snapshot.file_name);
    let named = || format!("RDB file {}", path.display());
    let file = RealFs.open(&path, OpenMode::Read).with_context(named)?;
    server.loading.count_anew(file.len().with_context(named)?);
    if how.flush {
        let leftover = server.keyspace.lock().begin_staging();
        drop(leftover);
    }
    let options = RdbOptions {
        drop_expired: !server.is_replica(),
        allow_trailing: true,
        staged: how.flush,
        replace: how.merge,
        ..RdbOptions::default()
    };
    let loaded = rdb::load(server, CountingReader::new(file, server), options).with_context(named);
    let mut keyspace = server.keyspace.lock();
    let old = match &loaded {
        _ if !how.flush => Vec::new(),
        Ok(_) => {
            touch_everything(server, &mut keyspace);
            keyspace.swap_staged()
        }
        Err(_) => keyspace.drop_staged(),
    };
    let facts = loaded.map(|facts| {
        if how.flush {
            server.scripting.replace_libraries(facts.functions);
        }
    });
    drop(keyspace);
    drop(old);
    facts
}

/// Loads the append-only files of the data directory `path` in place of the data, also while the
/// log is off: BGREWRITEAOF makes a base then too. Once that has
/// begun there is no way back: an error ends the server, as in Redis, and the next start
/// recovers from the same files.
pub fn log(server: &Arc<Server>, path: &Path) -> anyhow::Result<()> {
    server.log.flush();
    let files = Again::find(server, path)?;
    let (mode, garbage) = {
        let mut keyspace = server.keyspace.lock();
        for db in 0..keyspace.database_count() {
            keyspace.flush(db, true);
        }
        keyspace.tracking.flushed();
        keyspace.tell_clients(server);
        server.scripting.flush_libraries(true);
        // Until the end of the log only what it says deletes anything.
        let mode = std::mem::replace(&mut keyspace.expire_mode, ExpireMode::Ignore);
        (mode, keyspace.garbage.take())
    };
    server.reclaimer.dispose(garbage);
    server.loading.count_anew(0);
    let loaded = files.load();
    server.keyspace.lock().expire_mode = mode;
    if let Err(error) = &loaded {
        server.fate.fail(format!("DEBUG LOADAOF: {error:#}"));
    }
    let changes = server.state.changes.load(Ordering::Acquire);
    server
        .state
        .changes_at_save
        .store(changes, Ordering::Release);
    loaded
}
