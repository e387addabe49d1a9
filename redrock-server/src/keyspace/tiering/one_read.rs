//! Reads of one key for one command that reads a string: by its own thread, or by the pool.
//!
//! Such a read is under way from the look that finds that it is needed. The pool hands what it has read to the
//! command and does not take the keyspace. The command runs again, and ends the read in the hold of the
//! keyspace in which it answers: what changed in between has made the read stale, and who came for the same
//! key waits for that end. So nothing is pinned, and nothing need come into memory ([`super::lend`]).
//!
//! A read that its command does not come to end (its client may not run it any more) is ended all the same.

use super::lend::Reader;
use super::loader::{Finished, Load, LoadResult, ReadValue};
use super::transit::InTransit;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::cold::{ColdError, ColdStore};
use crate::keyspace::expire::has_passed;
use crate::keyspace::hot::found::Found;
use crate::keyspace::position::KeyHash;
use crate::keyspace::tiering::direct::Watch;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::server::Server;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a command needs that reads one key.
#[derive(Debug)]
pub enum Need {
    /// Nothing: the value is in memory, or there is none.
    Nothing,
    /// The end of another read, or of the value's way to the tier.
    Others,
    /// This read, which is under way from now on.
    Read(Begun),
}

/// A read under way that has to be made.
#[derive(Debug)]
#[must_use = "others may wait for the key"]
pub struct Begun {
    key: TierKey,
    hash: KeyHash,
}

/// What was read.
type Outcome = Result<Option<ReadValue>, ColdError>;

/// A read that was made, and has to be ended.
#[derive(Debug)]
#[must_use = "others may wait for the key"]
pub struct OneRead {
    begun: Begun,
    outcome: Outcome,
    /// A large value counts until it has been taken.
    in_transit: Option<InTransit>,
}

impl Begun {
    /// Reads here and now, without the keyspace.
    pub fn run(self, server: &Server, store: &ColdStore) -> OneRead {
        let mut bytes = 0;
        let watch = Watch::begin();
        let outcome = store.get_as(&self.key, |record, expire| {
            bytes = record.len();
            ReadValue::decode(record, expire)
        });
        server.readers.direct.note_own(1, watch.waited(), bytes);
        self.done(outcome, None)
    }

    /// Has the pool read.
    pub fn hand_over(self, server: Arc<Server>) -> PoolRead {
        let (read, hand) = PoolRead::new(server.clone());
        server.readers.request_for(self, hand);
        read
    }

    /// The key.
    pub fn key(&self) -> &TierKey {
        &self.key
    }

    /// It was read.
    pub fn done(self, outcome: Outcome, in_transit: Option<InTransit>) -> OneRead {
        OneRead {
            begun: self,
            outcome,
            in_transit,
        }
    }

    /// Gives it up; who waits for the key looks again.
    pub fn abandon(self, keyspace: &mut Keyspace) {
        keyspace.abandon_load(&self.key);
    }
}

impl OneRead {
    /// Ends it for the command that runs in this hold of the keyspace: the value may be lent to it
    /// ([`Keyspace::has_lent`]).
    pub fn finish(self, keyspace: &mut Keyspace, reader: Reader) -> LoadResult {
        let Begun { key, hash } = self.begun;
        let finished = keyspace.finish_read_for_one((key, hash), self.outcome, reader);
        drop(self.in_transit);
        let result = finished.result().clone();
        // Seldom anybody.
        finished.wake();
        result
    }

    /// The key that was read, for tests.
    #[cfg(test)]
    pub fn key(&self) -> &[u8] {
        self.begun.key.key()
    }

    /// Ends it for nobody: others may wait for the key.
    pub fn give_up(self, keyspace: &mut Keyspace) -> Finished {
        keyspace.finish_read(&self.begun.key, self.outcome)
    }

    /// [`OneRead::give_up`] as soon as the script that holds the keyspace lets it.
    pub fn give_up_later(self, server: &Server) {
        server.now_or_later(move |keyspace| self.give_up(keyspace).wake());
    }
}

/// A read that somebody else makes: the pool, or the command's thread for several commands.
pub struct PoolRead {
    server: Arc<Server>,
    answer: oneshot::Receiver<OneRead>,
}

impl PoolRead {
    /// With what its maker hands it over by.
    pub(super) fn new(server: Arc<Server>) -> (Self, oneshot::Sender<OneRead>) {
        let (hand, answer) = oneshot::channel();
        (Self { server, answer }, hand)
    }

    /// What was read, to be ended; `None` when the server stops.
    pub async fn done(mut self) -> Option<OneRead> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for PoolRead {
    fn drop(&mut self) {
        // From here on its maker ends it, unless it had handed it over.
        self.answer.close();
        if let Ok(read) = self.answer.try_recv() {
            read.give_up_later(&self.server);
        }
    }
}

impl std::fmt::Debug for PoolRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolRead")
    }
}

impl Keyspace {
    /// What a command needs that reads one key, in one look. `reads_itself`: whether it would make the
    /// read that it needs.
    pub fn begin_read(
        &mut self,
        index: usize,
        key: &[u8],
        now_ms: i64,
        reads_itself: impl FnOnce() -> bool,
    ) -> Need {
        if self.tiering.is_none() {
            return Need::Nothing;
        }
        let hash = self.positioner.hash(key);
        let found = match self.databases.get(index) {
            Some(database) => database.table.find(hash, key),
            None => return Need::Nothing,
        };
        let is_unknown = found.is_none();
        match found {
            Some(Found::Value(_)) => return Need::Nothing,
            Some(Found::Stub(stub)) => {
                let expires = self.expire_mode != ExpireMode::Ignore;
                if expires && has_passed(stub.expire, now_ms) {
                    return Need::Nothing;
                }
                if stub.in_flight {
                    return Need::Others;
                }
            }
            None => {}
        }
        if is_unknown && !self.may_be_read(index, (hash, key), reads_itself) {
            return Need::Nothing;
        }
        let key = self.databases[index].tier_key(hash, key);
        let Some(tiering) = &mut self.tiering else {
            return Need::Nothing;
        };
        if tiering.loads.contains_key(&key) {
            return Need::Others;
        }
        tiering.stats.waits += 1;
        tiering.loads.insert(key.clone(), Load::alone());
        Need::Read(Begun { key, hash })
    }
}
