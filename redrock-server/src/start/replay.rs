//! Running the commands of a log again.
//!
//! Commands run as a client's would, but nothing is propagated, nobody is told, and nothing
//! expires: a key past its time is there until the log deletes it, since later commands of the
//! log were run while it was. Commands of a transaction run when its EXEC has come; nobody sees the
//! data yet, so not under one lock hold.

use super::rdb::{CHECK_INTERVAL, check_stop, wait_for_room};
use super::transaction::Transaction;
use crate::command::effect::{Effect, write_command};
use crate::command::error::CommandError;
use crate::command::reply::Reply;
use crate::command::script::NO_SCRIPT;
use crate::command::table::{Spec, flag};
use crate::command::{Args, Context, dispatch, registry};
use crate::config::Config;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::net::client::{Client, ClientShared, OwnedCommand};
use crate::script::fiber;
use crate::server::Server;
use anyhow::{Context as _, bail};
use parking_lot::MutexGuard;
use redrock_log::scan::Command;
use redrock_rdb::number::parse_i64;
use smallvec::SmallVec;
use std::sync::Arc;

/// Commands that failed are named up to this many times.
const FAILURES_NAMED_MAX: u64 = 10;

/// A command that this server does not have: of a later version, or of a module.
#[derive(Debug, thiserror::Error)]
#[error("Unknown command '{0}'")]
pub struct UnknownCommand(String);

/// A script that a stream names by its digest, and whose text is not known here: what it changes
/// can't be told.
#[derive(Debug, thiserror::Error)]
#[error("the text of script {0} is not known here")]
pub struct UnknownScript(String);

/// Whether a command is but the frame of a transaction.
pub fn is_frame(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"multi") || name.eq_ignore_ascii_case(b"exec")
}

/// What a command is; an error if there is none of its name, or not with so many words.
fn resolve(args: &Args<'_>) -> anyhow::Result<&'static Spec> {
    let name = || String::from_utf8_lossy(args.at(0)).into_owned();
    match registry::resolve(args) {
        Ok(spec) if spec.arity_ok(args.len()) => Ok(spec),
        Ok(_) => bail!("wrong number of arguments for the command '{}'", name()),
        Err(_) => Err(UnknownCommand(name()).into()),
    }
}

/// See the module.
pub struct Replayer<'s> {
    server: &'s Server,
    config: Arc<Config>,
    client: Box<Client>,
    effect: Effect,
    out: Vec<u8>,
    /// What came since an open MULTI.
    transaction: Option<Transaction>,
    commands: u64,
    /// What all commands have changed so far.
    changes: u64,
    failures: u64,
    /// There are clients who listen to what is published.
    is_heard: bool,
}

impl<'s> Replayer<'s> {
    /// A session of its own, with database 0 selected.
    pub fn new(server: &'s Server) -> Self {
        let mut client = Box::new(Client::new(
            Arc::new(ClientShared::default()),
            "log:0".into(),
            "log:0".into(),
            crate::clock::unix_ms(),
        ));
        client.authenticated = true;
        client.deny_blocking = true;
        client.obeyed = true;
        client.no_touch = false;
        Self {
            server,
            config: server.config(),
            client,
            effect: Effect::default(),
            out: Vec::new(),
            transaction: None,
            commands: 0,
            changes: 0,
            failures: 0,
            is_heard: false,
        }
    }

    /// As [`Self::new`], for a stream that comes while clients are served: messages in it reach
    /// those who listen.
    pub fn heard(server: &'s Server) -> Self {
        Self {
            is_heard: true,
            ..Self::new(server)
        }
    }

    /// The next file: Redis loads each with a fresh client.
    pub fn begin_file(&mut self) {
        self.client.db = 0;
        self.transaction = None;
    }

    /// Selects a database.
    pub fn set_database(&mut self, db: usize) {
        self.client.db = db;
    }

    /// The selected database.
    pub fn database(&self) -> usize {
        self.client.db
    }

    /// Commands replayed so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Runs a command, or keeps it until EXEC.
    pub fn command(&mut self, command: &Command<'_>) -> anyhow::Result<()> {
        let argv: SmallVec<[&[u8]; 8]> = command.arguments().collect();
        self.server.loading.add_bytes(command.end - command.start);
        self.commands += 1;
        if self.commands.is_multiple_of(CHECK_INTERVAL) {
            self.server
                .keyspace
                .lock()
                .access
                .set_clock(crate::clock::unix_ms());
            check_stop(self.server)?;
        }
        let name = argv.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"multi") {
            self.transaction = Some(Transaction::default());
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"exec") {
            let transaction = self.transaction.take().unwrap_or_default();
            return transaction.each(&mut |argv, _| self.run_alone(argv));
        }
        let Some(open) = &mut self.transaction else {
            return self.run_alone(&argv);
        };
        let mut raw = Vec::new();
        write_command(&mut raw, &argv);
        open.push(Some(OwnedCommand::new(&argv)), &raw);
        if let Err(error) = open.relieve(&self.config.dir) {
            tracing::warn!(%error, "a large transaction of the log stays in memory");
        }
        Ok(())
    }

    /// Runs one command under a lock hold of its own.
    fn run_alone(&mut self, argv: &[&[u8]]) -> anyhow::Result<()> {
        self.wait_for_memory(argv)?;
        let mut keyspace = self.server.keyspace.lock();
        let result = self.run(&mut keyspace, argv);
        self.release(keyspace);
        result
    }

    /// Releases the lock, then frees what was removed under it.
    fn release(&self, mut keyspace: MutexGuard<'_, Keyspace>) {
        // Nobody waits yet.
        keyspace.ready.clear();
        keyspace.tell_clients(self.server);
        let garbage = keyspace.garbage.take();
        drop(keyspace);
        self.server.send_broadcasts();
        self.server.reclaimer.dispose(garbage);
    }

    /// Waits until a command may use memory.
    pub fn wait_for_memory(&self, argv: &[&[u8]]) -> anyhow::Result<()> {
        let bytes: usize = argv.iter().map(|arg| arg.len() + 32).sum();
        wait_for_room(self.server, bytes as u64).map(|_| ())
    }

    /// Runs one command under locks that the caller holds, who also serves or forgets
    /// `keyspace.ready`.
    pub fn run(&mut self, keyspace: &mut Keyspace, argv: &[&[u8]]) -> anyhow::Result<()> {
        let args = Args::new(argv);
        let name = String::from_utf8_lossy(args.at(0)).into_owned();
        if name.eq_ignore_ascii_case("select") {
            return self.select(args.at(1));
        }
        let spec = resolve(&args)?;
        if !spec.has(flag::WRITE) && !self.runs_though_no_write(spec) {
            return Ok(());
        }
        let reads_failed = |keyspace: &Keyspace| {
            keyspace
                .tiering
                .as_ref()
                .map_or(0, |tiering| tiering.stats.failed_reads)
        };
        let before = reads_failed(keyspace);
        let result = self.call(keyspace, spec, &args);
        self.changes += self.effect.dirty;
        let unreadable = reads_failed(keyspace) != before;
        match result {
            // What it has changed so far goes with the server, and belongs to no place of the stream.
            Err(_) if spec.has(flag::SCRIPT) && self.server.fate.is_stopping() => {
                self.changes += 1;
                check_stop(self.server)?;
            }
            Err(error) if error == NO_SCRIPT => self.unknown_script(args.at(1))?,
            Err(error) => self.failed(&name, &error, unreadable)?,
            Ok(()) if spec.has(flag::SCRIPT) => self.script_ended(&name, unreadable)?,
            Ok(()) => {}
        }
        self.effect.clear();
        self.out.clear();
        Ok(())
    }

    /// PING and REPLCONF GETACK keep a stream going, PUBLISH has no one to reach at a start. But
    /// PFCOUNT has written the cardinality that it computed, and Redis before 7 writes scripts
    /// themselves, not what they did (before 5 always, later with `lua-replicate-commands no`).
    fn runs_though_no_write(&self, spec: &Spec) -> bool {
        match spec.name {
            "pfcount" | "eval" | "evalsha" | "fcall" => true,
            "script|load" | "script|flush" => true,
            "publish" | "spublish" => self.is_heard,
            _ => false,
        }
    }

    /// What all commands run so far have changed, be it that the last one failed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a command can be run at all: one that is known, with as many words as it takes; a
    /// database that there is.
    pub fn check(&self, argv: &[&[u8]]) -> anyhow::Result<()> {
        let args = Args::new(argv);
        if args.at(0).eq_ignore_ascii_case(b"select") {
            return self.database_named(args.at(1)).map(|_| ());
        }
        resolve(&args).map(|_| ())
    }

    fn select(&mut self, text: &[u8]) -> anyhow::Result<()> {
        self.client.db = self.database_named(text)?;
        Ok(())
    }

    fn database_named(&self, text: &[u8]) -> anyhow::Result<usize> {
        let count = self.config.databases;
        let index = parse_i64(text)
            .and_then(|db| usize::try_from(db).ok())
            .filter(|db| *db < count);
        index.with_context(|| {
            let text = String::from_utf8_lossy(text);
            format!("SELECT {text}: the server is configured to handle {count} databases")
        })
    }

    fn call(
        &mut self,
        keyspace: &mut Keyspace,
        spec: &'static Spec,
        args: &Args<'_>,
    ) -> Result<(), CommandError> {
        let now_ms = crate::clock::unix_ms();
        let mut db = Db::new(
            keyspace,
            self.server,
            &mut self.effect,
            self.client.db,
            now_ms,
        );
        // Nothing else runs that could be held up.
        db.blocking_reads = true;
        let reply = Reply::new(&mut self.out, false);
        let mut ctx = Context {
            server: self.server,
            config: &self.config,
            db,
            client: &mut self.client,
            reply,
        };
        let result = match spec.has(flag::SCRIPT) {
            true => fiber::on_large_stack(|| dispatch::call(&mut ctx, spec, args)),
            false => dispatch::call(&mut ctx, spec, args),
        };
        self.client.block = None;
        result
    }

    /// A script answers with the error of a command that it did not catch, and has run up to there.
    fn script_ended(&mut self, name: &str, unreadable: bool) -> anyhow::Result<()> {
        let text = self.out.strip_prefix(b"-").map(<[u8]>::to_vec);
        match text {
            Some(text) => self.failed(name, &CommandError::Bytes(text), unreadable),
            None if unreadable => bail!("command '{name}': a value could not be read"),
            None => Ok(()),
        }
    }

    /// A master's stream can't be followed then. A log is replayed all the same, as Redis does: there
    /// may be no other way to what it has.
    fn unknown_script(&mut self, digest: &[u8]) -> anyhow::Result<()> {
        let digest = String::from_utf8_lossy(digest).into_owned();
        if self.is_heard {
            return Err(UnknownScript(digest).into());
        }
        self.failures += 1;
        if self.failures <= FAILURES_NAMED_MAX {
            tracing::error!(
                digest,
                "the log runs a script whose text neither it nor the files before it have: what that \
                 has changed is missing. Compare the data with a backup or another replica's"
            );
        }
        Ok(())
    }

    /// As Redis, a command that fails is passed over: it had failed, or had changed nothing, when
    /// it was written. But a value that can't be read is no such failure.
    fn failed(&mut self, name: &str, error: &CommandError, unreadable: bool) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(&error.resp()).into_owned();
        if unreadable {
            bail!("command '{name}': {text}");
        }
        self.failures += 1;
        if self.failures <= FAILURES_NAMED_MAX {
            tracing::warn!(command = name, error = text, "a command of the log failed");
        }
        Ok(())
    }
}
