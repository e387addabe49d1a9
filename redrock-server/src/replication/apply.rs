//! Applying our master's stream (DESIGN 8).
//!
//! The agent writes what it receives to spool files; this reads them. Each command runs and its
//! very bytes are appended to our log under one lock hold, so that our stream is our master's,
//! byte for byte, and chains inherit its offsets. A transaction is one lock hold.

use crate::command::args::is_word;
use crate::command::effect::Effect;
use crate::keyspace::{ExpireMode, Keyspace};
use crate::net::client::OwnedCommand;
use crate::net::parser::{Parser, RequestLimits, Step};
use crate::server::Server;
use crate::start::replay::Replayer;
use anyhow::bail;
use parking_lot::MutexGuard;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a master may send in one argument: its own limits were checked when the client sent it.
const BULK_BYTES_MAX: usize = 1 << 30;

/// See the module.
pub struct Applier<'s> {
    server: &'s Server,
    replayer: Replayer<'s>,
    parser: Parser,
    buffer: Vec<u8>,
    /// Commands since an open MULTI, and all its bytes.
    transaction: Option<(Vec<OwnedCommand>, Vec<u8>)>,
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
        let mut replayer = Replayer::new(server);
        replayer.set_database(db);
        Self {
            server,
            replayer,
            parser: Parser::default(),
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
        let open = self
            .transaction
            .as_ref()
            .map_or(0, |(_, bytes)| bytes.len());
        self.applied_offset + (open + self.buffer.len()) as u64
    }

    /// Takes more of the stream and applies all complete commands. An error means that the
    /// stream can't be followed any further.
    pub fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut consumed = 0;
        let limits = RequestLimits {
            bulk_bytes_max: BULK_BYTES_MAX,
            request_bytes_max: usize::MAX,
            authenticated: true,
        };
        loop {
            let rest = buffer.get(consumed..).unwrap_or_default();
            match self.parser.next(rest, limits) {
                Step::Command { consumed: used } => {
                    let mut argv: SmallVec<[&[u8]; 8]> = SmallVec::new();
                    self.parser.arguments(rest, &mut argv);
                    let command = OwnedCommand::new(&argv);
                    drop(argv);
                    self.command(command, rest.get(..used).unwrap_or_default())?;
                    consumed += used;
                }
                // A lone newline is a sign of life; it counts as part of the stream.
                Step::Empty { consumed: used } => {
                    self.run(&[], rest.get(..used).unwrap_or_default())?;
                    consumed += used;
                }
                Step::Incomplete { .. } | Step::TooLarge { .. } => break,
                Step::Error(text) => {
                    let text = String::from_utf8_lossy(&text);
                    bail!("the master's stream is not RESP: {text}")
                }
            }
            self.parser.reset();
        }
        self.parser.reset();
        self.buffer = buffer;
        self.buffer.drain(..consumed);
        Ok(())
    }

    fn command(&mut self, command: OwnedCommand, raw: &[u8]) -> anyhow::Result<()> {
        let argv = command.argv();
        let name = argv.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"multi") {
            self.transaction = Some((Vec::new(), raw.to_vec()));
            return Ok(());
        }
        if let Some((commands, bytes)) = &mut self.transaction {
            bytes.extend_from_slice(raw);
            if !name.eq_ignore_ascii_case(b"exec") {
                commands.push(command);
                return Ok(());
            }
            let Some((commands, bytes)) = self.transaction.take() else {
                return Ok(());
            };
            return self.run(&commands, &bytes);
        }
        self.run(std::slice::from_ref(&command), raw)
    }

    /// Runs commands and appends their bytes under one lock hold.
    fn run(&mut self, commands: &[OwnedCommand], raw: &[u8]) -> anyhow::Result<()> {
        for command in commands {
            self.replayer.wait_for_memory(&command.argv())?;
        }
        if !commands.iter().all(is_ping) {
            self.wait_unpaused()?;
        }
        let mut keyspace = self.lock_when_released()?;
        if self.is_superseded() {
            bail!("the stream is no longer followed");
        }
        // A command of the master applies to what is there, expired or not: the master's DEL
        // comes in its own place.
        let mode = std::mem::replace(&mut keyspace.expire_mode, ExpireMode::Ignore);
        let ran = commands
            .iter()
            .try_for_each(|c| self.replayer.run(&mut keyspace, &c.argv()));
        keyspace.expire_mode = mode;
        // Clients of a replica wait for streams too (XREAD).
        keyspace.serve_blocked(self.server, &mut Effect::default());
        let applied = ran.map(|()| self.append(raw));
        keyspace.tell_clients(self.server);
        drop(keyspace);
        self.server.send_broadcasts();
        applied
    }

    /// Waits for the end of CLIENT PAUSE, which holds back our master's changes as everybody's.
    fn wait_unpaused(&self) -> anyhow::Result<()> {
        /// How soon a stop or another feed is noticed.
        const LOOK: Duration = Duration::from_millis(100);
        let pause = &self.server.state.pause;
        while pause.is_on() && !self.is_superseded() {
            if self.server.fate.is_stopping() {
                bail!("the server is shutting down");
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
                bail!("the server is shutting down");
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

    fn append(&mut self, raw: &[u8]) {
        self.applied_offset += raw.len() as u64;
        let log = &self.server.log;
        log.append_raw(raw, None);
        log.select(self.replayer.database());
        // With nobody to write for, the offset is all there is.
        log.set_offset(self.applied_offset);
    }
}
