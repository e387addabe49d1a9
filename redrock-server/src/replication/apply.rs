//! Applying our master's stream (DESIGN 8).
//!
//! The agent writes what it receives to spool files; this reads them. Each command runs and its
//! very bytes are appended to our log under one lock hold, so that our stream is our master's,
//! byte for byte, and chains inherit its offsets. A transaction is one lock hold; one that is
//! larger than a mebibyte waits for its EXEC in a file. One that can't be run as a whole does not
//! begin; one that fails in its middle all the same is not to be run again: our place in the
//! stream is lost then, and the next link brings a full sync. So it is with a script of an old
//! master of which we do not have the text.

use super::follow;
use crate::command::args::is_word;
use crate::command::effect::Effect;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::net::client::OwnedCommand;
use crate::server::Server;
use crate::services::again;
use crate::start::rdb::NotNow;
use crate::start::replay::{Replayer, UnknownScript, is_frame};
use crate::start::transaction::{Transaction, parse};
use anyhow::{anyhow, bail};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module.
pub struct Applier<'s> {
    server: &'s Server,
    replayer: Replayer<'s>,
    buffer: Vec<u8>,
    /// What came since an open MULTI.
    transaction: Option<Transaction>,
    /// End of what was applied and appended.
    applied_offset: u64,
    /// Ours among the feeds; see [`crate::state::ServiceState::feed`].
    feed: u64,
}

fn is_ping(command: &OwnedCommand) -> bool {
    let argv = command.argv();
    argv.first().is_some_and(|name| is_word(name, "ping"))
}

impl<'s> Applier<'s> {
    /// Goes on at `offset` with database `db` selected, as long as `feed` is the one in force.
    pub fn new(server: &'s Server, offset: u64, db: usize, feed: u64) -> Self {
        let mut replayer = Replayer::heard(server);
        replayer.set_database(db);
        Self {
            server,
            replayer,
            buffer: Vec::new(),
            transaction: None,
            applied_offset: offset,
            feed,
        }
    }

    /// End of what was applied.
    pub fn applied_offset(&self) -> u64 {
        self.applied_offset
    }

    /// End of what was fed, complete command or not.
    pub fn received_offset(&self) -> u64 {
        let open = self.transaction.as_ref().map_or(0, Transaction::bytes);
        self.applied_offset + open + self.buffer.len() as u64
    }

    /// Takes more of the stream and applies all complete commands. An error means that the
    /// stream can't be followed any further.
    pub fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let consumed = parse(&buffer, |argv, raw| self.command(argv, raw))?;
        self.buffer = buffer;
        self.buffer.drain(..consumed);
        Ok(())
    }

    fn command(&mut self, argv: &[&[u8]], raw: &[u8]) -> anyhow::Result<()> {
        let name = argv.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"multi") {
            let transaction = self.transaction.insert(Transaction::default());
            transaction.push(None, raw);
            return Ok(());
        }
        let command = (!argv.is_empty()).then(|| OwnedCommand::new(argv));
        let Some(open) = &mut self.transaction else {
            let mut alone = Transaction::default();
            alone.push(command, raw);
            return self.run(alone);
        };
        if name.eq_ignore_ascii_case(b"exec") {
            let mut whole = std::mem::take(open);
            self.transaction = None;
            whole.push(None, raw);
            return self.run(whole);
        }
        open.push(command, raw);
        if let Err(error) = open.relieve(&self.server.config().dir) {
            tracing::warn!(%error, "a large transaction of the master stays in memory");
        }
        Ok(())
    }

    /// Runs commands and appends their bytes under one lock hold.
    fn run(&mut self, transaction: Transaction) -> anyhow::Result<()> {
        transaction.each(&mut |argv, _| match argv {
            [] => Ok(()),
            _ => self.replayer.check(argv),
        })?;
        for command in transaction.in_memory() {
            self.replayer.wait_for_memory(&command.argv())?;
        }
        self.wait_for_log()?;
        if transaction.is_large() || !transaction.in_memory().iter().all(is_ping) {
            self.wait_unpaused()?;
        }
        let mut keyspace = self.lock_when_released()?;
        if self.is_superseded() {
            bail!("the stream is no longer followed");
        }
        // A command of the master applies to what is there, expired or not: the master's DEL
        // comes in its own place.
        let mode = std::mem::replace(&mut keyspace.expire_mode, ExpireMode::Ignore);
        let before = self.replayer.changes();
        let ran = self.run_all(&mut keyspace, &transaction);
        keyspace.expire_mode = mode;
        // Clients of a replica wait for streams too (XREAD), those of a writable one for lists.
        let mut own = Effect::default();
        keyspace.serve_blocked(self.server, &mut own);
        self.server.log.append_effect(&mut own);
        let is_half = ran.is_err() && self.replayer.changes() != before;
        let lacks_script = |error: &anyhow::Error| error.is::<UnknownScript>();
        let is_lost = is_half || ran.as_ref().is_err_and(lacks_script);
        if ran.is_err() && !is_lost {
            // The next link brings it once more, and with it what it publishes.
            crate::pubsub::forget_held(self.server);
        }
        let applied = match ran {
            Ok(()) => {
                self.append(transaction);
                Ok(())
            }
            Err(error) if is_lost => {
                follow::lose_place(self.server);
                // Whatever the cause: it is not to be tried again from here.
                let what = match is_half {
                    true => "a part of a change was made",
                    false => "a change can't be made",
                };
                Err(anyhow!("{what}, a full sync is due: {error:#}"))
            }
            Err(error) => Err(error),
        };
        keyspace.tell_clients(self.server);
        drop(keyspace);
        self.server.send_broadcasts();
        if is_lost {
            self.server.report_log();
            again::keep_log(self.server);
        }
        applied
    }

    fn run_all(
        &mut self,
        keyspace: &mut Keyspace,
        transaction: &Transaction,
    ) -> anyhow::Result<()> {
        transaction.each(&mut |argv, spooled_bytes| {
            self.server.memory.charge(spooled_bytes);
            self.run_one(keyspace, argv)
        })
    }

    /// A command of the master runs whether there is room or not.
    fn run_one(&mut self, keyspace: &mut Keyspace, argv: &[&[u8]]) -> anyhow::Result<()> {
        let name = argv.first().copied().unwrap_or_default();
        if argv.is_empty() || is_frame(name) {
            return Ok(());
        }
        self.server.relieve(keyspace);
        self.replayer.run(keyspace, argv)
    }

    /// Waits until our own log can be written, which else would take the stream into memory. What
    /// comes meanwhile stays in the spool, and behind that with the master. Where such errors are
    /// to be ignored the log is left instead, and begun anew once there is room.
    fn wait_for_log(&self) -> anyhow::Result<()> {
        /// How soon it is seen that the log can be written.
        const LOOK: Duration = Duration::from_millis(50);
        while self.server.log.refuses_writes() && !self.is_superseded() {
            if self.server.fate.is_stopping() {
                bail!(NotNow::stopping());
            }
            if self.server.config().replication.ignore_disk_errors {
                self.leave_log();
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn leave_log(&self) {
        let server = self.server;
        {
            let _keyspace = server.keyspace.lock();
            server.log.abandon();
            server.history.end_log();
        }
        tracing::warn!(
            "the append only file can't be written and is left, since \
             replica-ignore-disk-write-errors is on: a restart before there is room again goes on \
             from where it ends"
        );
        server.report_log();
        again::keep_log(server);
    }

    /// Waits for the end of CLIENT PAUSE, which holds back our master's changes as everybody's.
    fn wait_unpaused(&self) -> anyhow::Result<()> {
        /// How soon a stop or another feed is noticed.
        const LOOK: Duration = Duration::from_millis(100);
        let pause = &self.server.state.pause;
        while pause.is_on() && !self.is_superseded() {
            if self.server.fate.is_stopping() {
                bail!(NotNow::stopping());
            }
            let Some(services) = self.server.services.get() else {
                break;
            };
            let left_ms = pause.end_ms().saturating_sub(crate::clock::unix_ms());
            let left = Duration::from_millis(left_ms.max(1) as u64).min(LOOK);
            services.handle.block_on(async {
                let _ = tokio::time::timeout(left, pause.lifted.notified()).await;
            });
        }
        Ok(())
    }

    /// The keyspace, once clients are not held back: a save or a reload lets nothing in, as in a
    /// server with one thread.
    fn lock_when_released(&self) -> anyhow::Result<MutexGuard<'s, Keyspace>> {
        loop {
            let keyspace = self.server.keyspace.lock();
            if !self.server.held.load(Ordering::Acquire) {
                return Ok(keyspace);
            }
            drop(keyspace);
            if self.server.fate.is_stopping() {
                bail!(NotNow::stopping());
            }
            if let Some(services) = self.server.services.get() {
                // The main thread drives this; ours is made for waiting.
                services.handle.block_on(services.wait_released());
            }
        }
    }

    /// Whether another feed, another role or another data set has taken this one's place.
    pub fn is_superseded(&self) -> bool {
        self.server.state.feed.load(Ordering::Acquire) != self.feed
    }

    fn append(&mut self, transaction: Transaction) {
        self.applied_offset += transaction.bytes();
        let log = &self.server.log;
        match transaction.into_bytes() {
            (Some(overflow), rest) => log.append_overflow(overflow, &rest),
            (None, bytes) => log.append_raw(&bytes, None),
        }
        log.select(self.replayer.database());
        // With nobody to write for, the offset is all there is.
        log.set_offset(self.applied_offset);
    }
}
