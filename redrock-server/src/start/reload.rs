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
    // A master's snapshot waits: the log's commands are not for its data.
    let staging = server.staging.try_lock();
    let _staging = staging.context("a master's snapshot is being loaded")?;
    server.log.flush();
    let files = Again::find(server, path)?;
    let garbage = {
        let mut keyspace = server.keyspace.lock();
        for db in 0..keyspace.database_count() {
            keyspace.flush(db, true);
        }
        keyspace.tracking.flushed();
        keyspace.tell_clients(server);
        server.scripting.flush_libraries(true);
        // Until the end of the log only what it says deletes anything, whatever our role is then.
        keyspace.expire_mode = ExpireMode::Ignore;
        keyspace.garbage.take()
    };
    server.reclaimer.dispose(garbage);
    server.loading.count_anew(0);
    let loaded = files.load();
    server.keyspace.lock().follow_role();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::testing::new_server;
    use crate::replication::follow;
    use std::fmt::Write as _;

    /// A data directory with a log that takes a while to be read.
    fn logged() -> tempfile::TempDir {
        const COMMANDS: usize = 100_000;
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("appendonlydir");
        std::fs::create_dir(&directory).unwrap();
        let manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
        std::fs::write(directory.join("appendonly.aof.manifest"), manifest).unwrap();
        let mut log = String::from("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
        for n in 0..COMMANDS {
            write!(log, "*3\r\n$3\r\nSET\r\n$6\r\n{n:06}\r\n$1\r\nv\r\n").unwrap();
        }
        std::fs::write(directory.join("appendonly.aof.1.incr.aof"), log).unwrap();
        folder
    }

    #[test]
    fn who_becomes_a_replica_while_its_log_is_loaded_is_one_afterwards() {
        let folder = logged();
        let server = Arc::new(new_server());
        let mode = || server.keyspace.lock().expire_mode;
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| log(&server, folder.path()));
            loop {
                let mut keyspace = server.keyspace.lock();
                if keyspace.expire_mode == ExpireMode::Ignore {
                    follow::demote(&server, &mut keyspace, "a", 1);
                    // What the log says next applies to what was there.
                    assert_eq!(keyspace.expire_mode, ExpireMode::Ignore);
                    break;
                }
                drop(keyspace);
                assert!(
                    !loading.is_finished(),
                    "the load was too quick to show anything"
                );
                std::thread::yield_now();
            }
            loading.join().unwrap().unwrap();
        });
        assert_eq!(mode(), ExpireMode::Hide);
        follow::promote(&server).unwrap();
        assert_eq!(mode(), ExpireMode::Delete);
    }

    #[test]
    fn a_log_is_not_loaded_into_a_master_s_snapshot() {
        let folder = logged();
        let server = Arc::new(new_server());
        let staging = server.staging.lock();
        let refused = log(&server, folder.path()).unwrap_err();
        assert!(refused.to_string().contains("is being loaded"), "{refused}");
        drop(staging);
        assert!(
            server
                .keyspace
                .lock()
                .database(0)
                .is_some_and(|db| db.keys == 0)
        );
        log(&server, folder.path()).unwrap();
    }
}
