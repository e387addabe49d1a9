//! A read by the thread of the command that needs it.
//!
//! It is under way as one of the pool is: whoever needs the same key meanwhile waits for it, and a
//! change of the key makes it stale.

use super::Watch;
use crate::keyspace::Keyspace;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdStore};
use crate::keyspace::tiering::loader::{LoadResult, ReadValue};
use crate::server::Server;
use std::sync::Arc;

/// See the module. It must be finished: others may wait for it.
#[must_use = "who waits for the keys must be woken"]
pub struct DirectRead {
    store: Arc<ColdStore>,
    keys: Vec<TierKey>,
    values: Vec<Result<Option<ReadValue>, ColdError>>,
}

impl DirectRead {
    /// Begins to read all of these keys (database, key); `None` where the pool does that.
    pub fn begin(
        server: &Server,
        keyspace: &mut Keyspace,
        missing: &[(usize, Vec<u8>)],
    ) -> Option<Self> {
        if !server.readers.direct.is_open(missing.len()) {
            return None;
        }
        let store = keyspace.tiering.as_ref()?.cold.clone();
        let keys = keyspace.begin_reads(missing)?;
        Some(Self {
            store,
            keys,
            values: Vec::new(),
        })
    }

    /// Reads, without the keyspace.
    pub fn run(&mut self, server: &Server) {
        let mut bytes_max = 0;
        let mut take = |record: &[u8], expire: Option<i64>| {
            bytes_max = bytes_max.max(record.len());
            ReadValue::decode(record, expire)
        };
        let watch = Watch::begin();
        self.values = self.store.read_many(self.keys.iter(), &mut take);
        let waited = watch.waited();
        let keys = self.keys.len();
        server.readers.direct.note_own(keys, waited, bytes_max);
    }

    /// Puts what was read into memory; the error is that of the first key that has one.
    pub fn finish(self, keyspace: &mut Keyspace) -> LoadResult {
        let mut result = Ok(());
        for (key, value) in self.keys.iter().zip(self.values) {
            let finished = keyspace.finish_read(key, value);
            if result.is_ok() {
                result = finished.result().clone();
            }
            // Seldom anybody.
            finished.wake();
        }
        result
    }

    /// As [`DirectRead::finish`] as soon as the script that holds the keyspace lets it: others may wait
    /// for the values.
    pub fn finish_later(self, server: &Server) {
        server.now_or_later(move |keyspace| {
            // The command runs again, and meets the error itself.
            let _ = self.finish(keyspace);
        });
    }
}
