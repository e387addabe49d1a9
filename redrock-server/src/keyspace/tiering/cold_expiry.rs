//! Active expiry of keys that have no entry in memory, by the tier's expiry index: on time, and
//! without reading values. [`super::cold_fields`] does the same for fields of hashes.

use super::cold_fields;
use crate::command::effect::Effect;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdStore, DueIndex, Times};
use crate::keyspace::db::Db;
use crate::keyspace::hot::stubs::Stub;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::server::Server;
use crate::value::ObjectType;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Index entries looked at in one round.
const DUE_MAX: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a due index entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::keyspace) enum Due {
    /// The keyspace must be told: the key may be on disk only.
    Ask,
    /// An entry in memory has that very time: active expiry in memory does the rest.
    Hot,
    /// It says what is no longer true.
    Stale,
}

/// Starts the thread.
pub fn spawn(
    server: Arc<Server>,
    store: Arc<ColdStore>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("cold-expiry".into())
        .spawn(move || {
            let mut failing = false;
            while !server.is_stopping() {
                let round = round(&server, &store);
                if let Err(error) = &round
                    && !failing
                {
                    tracing::warn!(%error, "active expiry of cold keys fails, going on trying");
                }
                failing = round.is_err();
                let full = round.unwrap_or(false);
                if !full {
                    std::thread::sleep(PAUSE);
                }
            }
        })
}

/// One round; whether there may be more to do at once.
fn round(server: &Server, store: &ColdStore) -> Result<bool, ColdError> {
    if !may_expire(server, &server.keyspace.lock()) {
        return Ok(false);
    }
    let now_ms = crate::clock::unix_ms();
    let keys = keys_round(server, store, now_ms)?;
    Ok(cold_fields::round(server, store, now_ms)? || keys)
}

/// Whether this server deletes what has expired at the moment. Asked again in the lock hold that
/// deletes: a read of the disk, in which much may change, lies in between.
pub(super) fn may_expire(server: &Server, keyspace: &Keyspace) -> bool {
    keyspace.expire_mode == ExpireMode::Delete
        && server.expiry.enabled.load(Ordering::Relaxed)
        && !server.state.pause.is_on()
        && !server.log.refuses_writes()
        // Deletions that the tier has not taken yet would pile up.
        && !server.memory.tier_is_behind()
}

fn keys_round(server: &Server, store: &ColdStore, now_ms: i64) -> Result<bool, ColdError> {
    let due = store.due(DueIndex::Keys, now_ms, DUE_MAX)?;
    let mut progressed = 0;
    for (time, key) in &due {
        let state = server.keyspace.lock().begin_cold_expiry(*time, key);
        match state {
            Due::Hot => {}
            Due::Stale => {
                progressed += 1;
                let mut keyspace = server.keyspace.lock();
                keyspace.forget_due(DueIndex::Keys, *time, key);
            }
            Due::Ask => {
                let read = store.times_of(key);
                if let Some(current) = end_failed(server, key, read) {
                    progressed += 1;
                    finish(server, *time, key, current, now_ms);
                }
            }
        }
    }
    // Entries that wait for the queue or for expiry in memory stay: not a reason to spin.
    Ok(progressed == due.len() && due.len() == DUE_MAX)
}

/// What was read. A read that failed is over for who waits for it, and counted: one damaged
/// record does not keep the others from expiring.
pub(super) fn end_failed<T>(
    server: &Server,
    key: &TierKey,
    read: Result<T, ColdError>,
) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            let mut keyspace = server.keyspace.lock();
            keyspace.abandon_load(key);
            keyspace.note_unreadable(key, &error);
            None
        }
    }
}

/// Deletes the key if what was read is still so.
fn finish(server: &Server, time: i64, key: &TierKey, current: Times, now_ms: i64) {
    let mut effect = Effect::default();
    let mut keyspace = server.keyspace.lock();
    if !may_expire(server, &keyspace) {
        // A pause has begun since, or it has become a replica, or its log can't be written.
        keyspace.abandon_load(key);
        return;
    }
    let Some(index) = keyspace.end_cold_expiry(time, key, current) else {
        return;
    };
    let mut db = Db::new(&mut keyspace, server, &mut effect, index, now_ms);
    db.expire_if_due(key.key());
    keyspace.serve_blocked(server, &mut effect);
    server.log.append_effect(&mut effect);
    keyspace.tell_clients(server);
}

impl Keyspace {
    pub(in crate::keyspace) fn begin_cold_expiry(&mut self, time: i64, key: &TierKey) -> Due {
        let Some(index) = self.database_of(key.generation()) else {
            return Due::Stale;
        };
        if index >= self.live {
            // Of a load under way.
            return Due::Hot;
        }
        let hash = self.positioner.hash(key.key());
        let Some(tiering) = &mut self.tiering else {
            return Due::Hot;
        };
        match self.databases[index].table.find(hash, key.key()) {
            Some(found) if found.expire() == Some(time) => Due::Hot,
            // The queue may still hold the change that makes the index entry go.
            _ if tiering.pending.contains_key(key) => Due::Hot,
            Some(_) => Due::Stale,
            None if tiering.loads.contains_key(key) => Due::Hot,
            None => {
                // Any change of the key from here on makes what is read now out of date.
                tiering.begin_expiry_read(key);
                Due::Ask
            }
        }
    }

    /// The database to delete the key from; it has a stub then, which the deletion removes.
    pub(in crate::keyspace) fn end_cold_expiry(
        &mut self,
        time: i64,
        key: &TierKey,
        current: Times,
    ) -> Option<usize> {
        let stale = self.abandon_load(key)?;
        let index = self.database_of(key.generation())?;
        let hash = self.positioner.hash(key.key());
        if stale || self.databases[index].table.find(hash, key.key()).is_some() {
            return None;
        }
        if current.key != Some(time) {
            self.forget_due(DueIndex::Keys, time, key);
            return None;
        }
        let stub = Stub {
            key: key.key(),
            // It does not matter: the stub goes at once.
            object_type: ObjectType::String,
            expire: Some(time),
            fields: current.fields,
            access: 0,
            in_flight: false,
        };
        self.databases[index].table.insert_stub(hash, &stub);
        Some(index)
    }

    /// Ends a read for expiry, whose result nobody gets; whether it would be out of date.
    pub(super) fn abandon_load(&mut self, key: &TierKey) -> Option<bool> {
        let load = self.tiering.as_mut()?.loads.remove(key)?;
        let stale = load.is_stale();
        load.wake();
        Some(stale)
    }

    pub(in crate::keyspace) fn forget_due(&mut self, part: DueIndex, time: i64, key: &TierKey) {
        if let Some(tiering) = &self.tiering {
            let key = key.clone();
            let op = super::fifo::TierOp::ForgetDue { part, time, key };
            tiering.queue.push(op);
        }
    }
}

#[cfg(test)]
mod tests;
