//! Active expiry of fields of hashes whose value is not in memory.
//!
//! The tier's index tells when the first field of each expires, so no value is read before there
//! is something to delete in it. Then it must be: it comes into memory as for a command, and what
//! is over goes. As many as memory takes: they are charged like a client's writes.

use super::cold_expiry::{Due, end_failed, may_expire};
use crate::command::effect::Effect;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdStore, ColdValue, DueIndex};
use crate::keyspace::db::Db;
use crate::server::Server;

/// Index entries looked at in one round.
const DUE_MAX: usize = 64;
/// Fields deleted in the lock hold that brings a value; active expiry in memory does the rest.
const DELETIONS_MAX: usize = 32;

/// One round; whether there may be more to do at once.
pub(super) fn round(server: &Server, store: &ColdStore, now_ms: i64) -> Result<bool, ColdError> {
    let due = store.due(DueIndex::Fields, now_ms, DUE_MAX)?;
    let mut progressed = 0;
    for (time, key) in &due {
        let state = server.keyspace.lock().begin_cold_fields(*time, key);
        match state {
            Due::Hot => {}
            Due::Stale => {
                progressed += 1;
                let mut keyspace = server.keyspace.lock();
                keyspace.forget_due(DueIndex::Fields, *time, key);
            }
            Due::Ask => {
                let Some(value) = end_failed(server, key, store.get(key)) else {
                    continue;
                };
                let bytes = value.as_ref().map_or(0, |value| 2 * value.record.len());
                if !server.memory.admit(bytes as u64) {
                    server.keyspace.lock().abandon_load(key);
                    return Ok(false);
                }
                progressed += 1;
                finish(server, *time, key, value, now_ms);
            }
        }
    }
    Ok(progressed == due.len() && due.len() == DUE_MAX)
}

/// Brings the value into memory, if what was read is still so, and deletes what is over.
fn finish(server: &Server, time: i64, key: &TierKey, value: Option<ColdValue>, now_ms: i64) {
    let mut effect = Effect::default();
    let mut keyspace = server.keyspace.lock();
    if !may_expire(server, &keyspace) {
        keyspace.abandon_load(key);
        return;
    }
    let absent = value.is_none();
    keyspace.finish_load(key, Ok(value)).wake();
    let Some(index) = keyspace.database_of(key.generation()) else {
        return;
    };
    let mut db = Db::new(&mut keyspace, server, &mut effect, index, now_ms);
    db.touch = false;
    // A large hash that a snapshot is reading waits for active expiry in memory.
    let deleted = db.expire_fields(key.key(), DELETIONS_MAX).unwrap_or(0);
    keyspace.serve_blocked(server, &mut effect);
    server.log.append_effect(&mut effect);
    if deleted == 0 && absent {
        // The key went otherwise; so may the entry.
        keyspace.forget_due(DueIndex::Fields, time, key);
    }
    keyspace.tell_clients(server);
    let garbage = keyspace.garbage.take();
    drop(keyspace);
    server.reclaimer.dispose(garbage);
}

impl Keyspace {
    fn begin_cold_fields(&mut self, time: i64, key: &TierKey) -> Due {
        let Some(index) = self.database_of(key.generation()) else {
            return Due::Stale;
        };
        let hash = self.positioner.hash(key.key());
        let Some(tiering) = &mut self.tiering else {
            return Due::Hot;
        };
        let wait = index >= self.live
            // The queue may still hold the change that makes the index entry go.
            || tiering.pending.contains_key(key)
            || tiering.loads.contains_key(key);
        if wait {
            return Due::Hot;
        }
        match self.databases[index].table.find(hash, key.key()) {
            Some(found) if found.field_time() != Some(time) => Due::Stale,
            Some(found) if !found.is_stub() => Due::Hot,
            _ => {
                tiering.begin_expiry_read(key);
                Due::Ask
            }
        }
    }
}
