//! Commands: what they may touch while they run, and how their effects leave.
//!
//! A command file parses arguments and calls [`crate::value`] and [`crate::keyspace`]; it names
//! no RocksDB, socket or gRPC. A command runs to completion under the keyspace locks.
//!
//! **Order inside a command:** read everything it needs first (a cold key makes the lookup fail
//! with [`CommandError::Cold`] and the whole command runs again later), then change, then call
//! [`Context::changed`] for each key changed, then reply.

pub mod admin;
pub mod args;
pub mod blocked;
pub mod connection;
pub mod cross_protocol;
pub mod dispatch;
pub mod effect;
pub mod error;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod keys;
pub mod latched;
pub mod list;
pub mod pubsub;
pub mod registry;
pub mod rename;
pub mod reply;
pub mod residency;
pub mod rock;
pub mod script;
pub mod set;
pub mod stream;
pub mod string;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod transaction;
pub mod zset;

pub use args::Args;
pub use error::{CommandError, CommandResult};
pub use reply::Reply;

use crate::config::Config;
use crate::keyspace::db::Db;
use crate::net::client::Client;
use crate::notify::Class;
use crate::server::Server;

/// All that a running command may touch.
pub struct Context<'a> {
    /// Shared services: statistics, publish/subscribe, log, companions.
    pub server: &'a Server,
    /// The configuration in force when the command started.
    pub config: &'a Config,
    /// The selected database, its shards locked.
    pub db: Db<'a>,
    /// The calling client.
    pub client: &'a mut Client,
    /// Where the reply goes.
    pub reply: Reply<'a>,
}

impl Context<'_> {
    /// The time all parts of this command (or of the whole EXEC) agree on, unix ms.
    pub fn now_ms(&self) -> i64 {
        self.db.now_ms()
    }

    /// Selects another database for the client and for the rest of the command (SELECT inside an
    /// EXEC); false if there is none of that number.
    pub fn select(&mut self, index: usize) -> bool {
        let selected = self.db.select(index);
        if selected {
            self.client.db = index;
        }
        selected
    }

    /// A key was changed: wakes WATCHers, invalidates client-side caches, publishes the keyspace
    /// event, and counts one change (`server.dirty++`).
    pub fn changed(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.db.changed(key, class, event);
    }

    /// Publishes a keyspace event without counting a change.
    pub fn notify(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.db.notify(key, class, event);
    }

    /// Propagates `command` instead of the client's own words. May be called several times: all
    /// are propagated in order, as one transaction.
    pub fn propagate(&mut self, command: &[&[u8]]) {
        let db = self.db.index();
        self.db.effect.replace(db, command);
    }

    /// Propagates nothing for this command though it changed data (its effects were written some
    /// other way).
    pub fn propagate_nothing(&mut self) {
        self.db.effect.suppress();
    }
}
