//! Active expiry of keys that have no entry in memory, by the tier's expiry index: on time, and
//! without reading values.

use super::loader::Load;
use crate::command::effect::Effect;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdStore};
use crate::keyspace::db::Db;
use crate::keyspace::hot::entry::{Entry, NewValue};
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
enum Due {
    /// The keyspace must be told: the key may be on disk only.
    Ask,
    /// An entry in memory has that very expiry: active expiry in memory deletes it.
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
            while !server.is_stopping() {
                let full = match round(&server, &store) {
                    Ok(found) => found == DUE_MAX,
                    Err(error) => {
                        tracing::warn!(%error, "active expiry of cold keys failed");
                        false
                    }
                };
                if !full {
                    std::thread::sleep(PAUSE);
                }
            }
        })
}

/// One round; the number of index entries that were due.
fn round(server: &Server, store: &ColdStore) -> Result<usize, ColdError> {
    let now_ms = crate::clock::unix_ms();
    if server.keyspace.lock().expire_mode != ExpireMode::Delete
        || !server.expiry.enabled.load(Ordering::Relaxed)
        || server.state.pause.is_set()
        || server.log.refuses_writes()
    {
        return Ok(0);
    }
    let due = store.due(now_ms, DUE_MAX)?;
    let mut progressed = 0;
    for (time, key) in &due {
        let state = server.keyspace.lock().begin_cold_expiry(*time, key);
        match state {
            Due::Hot => {}
            Due::Stale => {
                progressed += 1;
                server.keyspace.lock().forget_due(*time, key);
            }
            Due::Ask => {
                progressed += 1;
                let current = store.expire_of(key)?;
                finish(server, *time, key, current == Some(*time), now_ms);
            }
        }
    }
    // Entries that wait for the queue or for expiry in memory stay: not a reason to spin.
    Ok(if progressed == due.len() {
        due.len()
    } else {
        0
    })
}

/// Deletes the key if what was read is still so.
fn finish(server: &Server, time: i64, key: &TierKey, is_due: bool, now_ms: i64) {
    let mut effect = Effect::default();
    let mut keyspace = server.keyspace.lock();
    let Some(index) = keyspace.end_cold_expiry(time, key, is_due) else {
        return;
    };
    let mut db = Db::new(&mut keyspace, server, &mut effect, index, now_ms);
    db.expire_if_due(key.key());
    server.log.append_effect(&mut effect);
    keyspace.tell_clients(server);
}

impl Keyspace {
    fn begin_cold_expiry(&mut self, time: i64, key: &TierKey) -> Due {
        let Some(index) = self.database_of(key.generation()) else {
            return Due::Stale;
        };
        let hash = self.positioner.hash(key.key());
        let Some(tiering) = &mut self.tiering else {
            return Due::Hot;
        };
        match self.databases[index].table.find(hash, key.key()) {
            Some(entry) if entry.expire() == Some(time) => Due::Hot,
            // The queue may still hold the change that makes the index entry go.
            _ if tiering.pending.contains_key(key) => Due::Hot,
            Some(_) => Due::Stale,
            None if tiering.loads.contains_key(key) => Due::Hot,
            None => {
                // Any change of the key from here on makes what is read now out of date.
                tiering.loads.insert(key.clone(), Load::for_expiry());
                Due::Ask
            }
        }
    }

    /// The database to delete the key from; it has a stub then, which the deletion removes.
    fn end_cold_expiry(&mut self, time: i64, key: &TierKey, is_due: bool) -> Option<usize> {
        let load = self.tiering.as_mut()?.loads.remove(key)?;
        let stale = load.is_stale();
        load.wake();
        let index = self.database_of(key.generation())?;
        let hash = self.positioner.hash(key.key());
        if stale || self.databases[index].table.find(hash, key.key()).is_some() {
            return None;
        }
        if !is_due {
            self.forget_due(time, key);
            return None;
        }
        // The type does not matter: the entry goes at once.
        let stub = NewValue::Stub(ObjectType::String);
        let mut entry = Entry::new(key.key(), stub, Some(time));
        entry.set_epoch(self.epoch);
        self.databases[index].table.insert(hash, entry);
        Some(index)
    }

    fn forget_due(&mut self, time: i64, key: &TierKey) {
        if let Some(tiering) = &self.tiering {
            let op = super::fifo::TierOp::ForgetDue {
                time,
                key: key.clone(),
            };
            tiering.queue.push(op);
        }
    }
}
