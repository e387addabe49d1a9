//! Becoming a replica, taking over a master's data set, becoming a master again.

use super::history::Former;
use super::identity;
use crate::keyspace::watch::Held;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::log::state::LogKind;
use crate::server::Server;
use crate::services::again;
use crate::start::directory::random_id;
use crate::start::rdb::{self, RdbOptions};
use crate::state::{LinkState, MasterLink};
use anyhow::Context as _;
use redrock_log::StateFileError;
use redrock_proto::RpcError;
use redrock_proto::model::{ApplyBegin, LoadRdb};
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

struct WatchedFile<'s> {
    server: &'s Server,
    file: std::fs::File,
    watch: Arc<LoadWatch>,
}

impl<'s> WatchedFile<'s> {
    /// Opens a file that must have `bytes` bytes.
    fn open(
        server: &'s Server,
        path: &Path,
        bytes: u64,
        watch: &Arc<LoadWatch>,
    ) -> anyhow::Result<Self> {
        let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata().context("read the snapshot's length")?.len();
        anyhow::ensure!(
            length == bytes,
            "the snapshot has {length} bytes instead of {bytes}"
        );
        Ok(Self {
            server,
            file,
            watch: watch.clone(),
        })
    }
}

impl Read for WatchedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.watch.cancelled.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("the load was cancelled"));
        }
        let count = self.file.read(buffer)?;
        self.watch
            .read_bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        self.server.loading.add_bytes(count as u64);
        Ok(count)
    }
}

/// Loads a master's snapshot aside while the old data serves, then swaps it in and takes over the
/// master's history. On failure nothing has changed.
pub fn load_snapshot(
    server: &Server,
    path: &Path,
    request: &LoadRdb,
    watch: &Arc<LoadWatch>,
) -> anyhow::Result<u64> {
    let source = WatchedFile::open(server, path, request.bytes, watch)?;
    let _staging = server.staging.lock();
    let from = &request.source;
    let feed = feed_from(server, &from.master_host, from.master_port)?;
    let leftover = server.keyspace.lock().begin_staging();
    drop(leftover);
    let options = RdbOptions {
        staged: true,
        verify_checksum: request.verify_checksum,
        ..RdbOptions::default()
    };
    server.loading.count_anew(request.bytes);
    let loaded = rdb::load(server, source, options);
    let facts = match loaded {
        Ok(facts) => facts,
        Err(error) => {
            let staged = server.keyspace.lock().drop_staged();
            drop(staged);
            return Err(error);
        }
    };
    let source = &request.source;
    let old = {
        let mut keyspace = server.keyspace.lock();
        let is_wanted = server.is_replica() && server.state.feed.load(Ordering::Acquire) == feed;
        if !is_wanted {
            let staged = keyspace.drop_staged();
            drop(keyspace);
            drop(staged);
            again::keep_log(server);
            anyhow::bail!("the server does not follow this master any more");
        }
        server.state.feed.fetch_add(1, Ordering::AcqRel);
        // Our log told another history up to here. Not before it is sure that it ends: a server that has just
        // become a master needs it.
        server.log.abandon();
        server.log.set_own_changes(false);
        touch_everything(server, &mut keyspace);
        keyspace.set_role_expiry(ExpireMode::Hide);
        server
            .history
            .replace(source.replid.digits(), source.offset);
        server.log.set_replid(source.replid.digits(), None);
        server.log.set_offset(source.offset);
        server
            .log
            .select(facts.repl_stream_db.map_or(0, |db| db as usize));
        server.scripting.replace_libraries(facts.functions);
        // In the same hold: a moment later it may be another master's.
        if let Some(master) = &mut server.state.replication.lock().master {
            master.applied_offset = Some(source.offset);
            master.needs_snapshot = false;
            master.ask_as = None;
        }
        keyspace.swap_staged()
    };
    drop(old);
    server.report_log();
    again::keep_log(server);
    Ok(facts.keys)
}

/// The number of the feed in force, if our master is this one: whoever feeds us may not have heard yet
/// that it is another one, or none.
fn feed_from(server: &Server, host: &str, port: u16) -> Result<u64, RpcError> {
    let replication = server.state.replication.lock();
    match &replication.master {
        Some(master) if master.host == host && master.port == port => {
            Ok(server.state.feed.load(Ordering::Acquire))
        }
        Some(master) => Err(RpcError::invalid(format!(
            "the master is {}:{}, not {host}:{port}",
            master.host, master.port
        ))),
        None => Err(RpcError::invalid("a master follows nobody")),
    }
}

/// All watched and all tracked keys may have changed.
pub fn touch_everything(server: &Server, keyspace: &mut Keyspace) {
    for db in 0..keyspace.database_count() {
        let changed = |_: &[u8]| (Held::Value, Held::Value);
        keyspace.watched.changed_database(db, changed);
    }
    keyspace.tracking.flushed();
    keyspace.tell_clients(server);
}

/// Where a stream stands: its id and the offset.
pub type StreamEnd = ([u8; 40], u64);

/// Becomes a replica of a master: keys expire only when it says so. Where our stream stands, and
/// the id that the master may know it by: `None` if its changes were not counted, so that nobody
/// may go on from there.
///
/// A start as a master gives the stream an id that nobody knows before a replica attaches. While
/// nothing was appended under it either, the id before tells as much: a master that took our
/// place knows that one.
pub fn demote(
    server: &Server,
    keyspace: &mut Keyspace,
    host: &str,
    port: u16,
) -> Option<StreamEnd> {
    keyspace.set_role_expiry(ExpireMode::Hide);
    let mut replication = server.state.replication.lock();
    let same = replication
        .master
        .as_ref()
        .is_some_and(|m| m.host == host && m.port == port);
    let state = server.log.state();
    let offset = server.log.appended_offset();
    let is_counted = replication.master.is_some() || state.kind != LogKind::None;
    let is_own = replication.master.is_none() && replication.replica_seen_ms.is_none();
    let earlier = server.history.present().id_of_byte_before(offset);
    let ask_as = match &replication.master {
        Some(link) => link.ask_as,
        None => (is_own && is_counted && earlier != state.replid).then_some(earlier),
    };
    if !same {
        server.disconnect_blocked(keyspace);
        server.state.feed.fetch_add(1, Ordering::AcqRel);
        replication.master = Some(MasterLink {
            host: host.to_owned(),
            port,
            state: LinkState::Connect,
            down_since_s: Some(crate::clock::unix_ms() / 1000),
            applied_offset: is_counted.then_some(offset),
            ask_as,
            ..MasterLink::default()
        });
    }
    drop(replication);
    server.log.set_following(true);
    server.refresh_gates();
    if !is_counted {
        // Not from an answer to the agent either, should it ask later.
        let replid = random_id();
        server.history.replace(replid, offset);
        server.log.set_replid(replid, None);
    }
    is_counted.then_some((ask_as.unwrap_or(state.replid), offset))
}

/// The data set is none that our master's stream has: its changes were made in part, or there are others.
/// Nobody may go on from here, and we ourselves from a snapshot only. Called with the keyspace held;
/// [`again::keep_log`] is to be called without.
pub fn lose_place(server: &Server) {
    server.log.abandon();
    let replid = random_id();
    server.history.replace(replid, server.log.appended_offset());
    server.log.set_replid(replid, None);
    if let Some(master) = &mut server.state.replication.lock().master {
        master.applied_offset = None;
        master.ask_as = None;
        master.needs_snapshot = true;
    }
}

/// Becomes a master with a history of its own that continues the former one; its id and offset.
/// An error leaves a replica.
///
/// If clients of the replica changed its data (`replica-read-only no`), neither the log nor who followed us
/// knows of that, and what comes may build upon it. So nobody goes on from the former history then, the log
/// begins anew with a base, and no write is taken before it is there ([`Server::lacks_log`]).
pub fn promote(server: &Server) -> Result<([u8; 40], u64), StateFileError> {
    let present = || (server.log.state().replid, server.log.appended_offset());
    Ok(promote_if(server, || true)?.unwrap_or_else(present))
}

/// As [`promote`], if it is still wanted then; else nothing changes, and it is `None`.
pub fn promote_if(
    server: &Server,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<StreamEnd>, StateFileError> {
    let replid = random_id();
    let mut wanted = true;
    let mut begun_anew = None;
    let promoted = identity::change(server, replid, Former::Keep, |keyspace, offset| {
        wanted = is_wanted();
        if !wanted || server.state.replication.lock().master.take().is_none() {
            return false;
        }
        server.state.feed.fetch_add(1, Ordering::AcqRel);
        keyspace.set_role_expiry(ExpireMode::Delete);
        server.log.set_following(false);
        server.log.force_select();
        if server.log.has_own_changes() {
            lose_place(server);
            server.log.set_own_changes(false);
            begun_anew = Some((server.log.state().replid, offset));
        }
        // Before anybody writes: the log may not be there yet.
        server.refresh_gates();
        begun_anew.is_none()
    })?;
    if begun_anew.is_some() {
        tracing::warn!(
            "clients of this replica had changed its data: it becomes a master with a history and a \
             log that begin anew, and its replicas take a full sync"
        );
        server.report_log();
        again::keep_log(server);
    }
    let end = match (begun_anew, promoted) {
        (Some(end), _) => end,
        (None, Some(offset)) => (replid, offset),
        // A master already.
        (None, None) => (server.log.state().replid, server.log.appended_offset()),
    };
    Ok(wanted.then_some(end))
}

/// Our master's stream goes on where and under the id that `begin` says: takes the id over. The number
/// of the feed that may apply it, and the database that is selected there.
pub fn adopt(server: &Server, begin: &ApplyBegin) -> Result<(u64, usize), RpcError> {
    let (replid, start_offset) = (begin.replid.digits(), begin.start_offset);
    let is_ours = || {
        feed_from(server, &begin.master_host, begin.master_port)?;
        let replication = server.state.replication.lock();
        match &replication.master {
            Some(master) if master.needs_snapshot => {
                Err(RpcError::invalid("only a full sync is of use"))
            }
            _ => Ok(()),
        }
    };
    is_ours()?;
    let refused = |at: u64| {
        RpcError::invalid(format!(
            "the stream must start at {at}, not at {start_offset}"
        ))
    };
    if server.log.state().replid != replid {
        let stands = |_: &mut Keyspace, offset| offset == start_offset && is_ours().is_ok();
        let changed = identity::change(server, replid, Former::Keep, stands)
            .map_err(|error| RpcError::internal(format!("store the new id: {error}")))?;
        if changed.is_none() {
            return Err(refused(server.log.appended_offset()));
        }
        tracing::info!(
            offset = start_offset,
            "the master goes on under another replication id"
        );
    }
    let keyspace = server.keyspace.lock();
    let offset = server.log.appended_offset();
    if offset != start_offset || server.log.state().replid != replid {
        return Err(refused(offset));
    }
    is_ours()?;
    let feed = server.state.feed.fetch_add(1, Ordering::AcqRel) + 1;
    if let Some(master) = &mut server.state.replication.lock().master {
        master.ask_as = None;
    }
    let database = server.log.stream_database();
    drop(keyspace);
    if let Err(error) = server.history.note_copy(|| server.is_replica()) {
        tracing::warn!(%error, "after a restart replicas may have to wait for what the master has");
    }
    Ok((feed, database))
}

#[cfg(test)]
mod tests;
