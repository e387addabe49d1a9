//! Reading an RDB into the keyspace: a dump, the base of a log, a master's snapshot.

use crate::command::CommandError;
use crate::command::effect::Effect;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::keyspace::expire::has_passed;
use crate::keyspace::field_expiry;
use crate::keyspace::load::{LoadOutcome, PreparedEntry};
use crate::keyspace::tiering::health::Health;
use crate::script::function::vm::Staged;
use crate::server::Server;
use anyhow::{Context as _, bail};
use redrock_log::fs::FsFile;
use redrock_rdb::file::{Entry, Item, RdbReader, ReaderOptions};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a load may wait for memory without any progress.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(120);
/// The same while the tier takes nothing.
const CLOSED_WAIT_MAX: Duration = Duration::from_secs(10);
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// Entries between looks at the clock, for progress and for stopping.
pub(super) const CHECK_INTERVAL: u64 = 1024;

/// How to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct RdbOptions {
    /// Keys past their time are left out: a master's lone RDB. Otherwise they stay until a DEL.
    pub drop_expired: bool,
    /// Load into the staged databases instead of the live ones.
    pub staged: bool,
    /// More may follow the RDB, as commands in an append-only file.
    pub allow_trailing: bool,
    /// A key that is there already gets the file's value instead of failing the load.
    pub replace: bool,
}

/// What an RDB said about itself.
#[derive(Debug, Default)]
pub struct RdbFacts {
    /// Where it ends in the file.
    pub end: u64,
    /// Memory of the server that wrote it, bytes (`used-mem`).
    pub used_memory_bytes: Option<u64>,
    /// `repl-id`
    pub repl_id: Option<Vec<u8>>,
    /// `repl-offset`
    pub repl_offset: Option<u64>,
    /// `repl-stream-db`
    pub repl_stream_db: Option<u32>,
    /// The file's functions: with a staged load they are to take their place with the keys.
    pub functions: Staged,
    /// Keys stored.
    pub keys: u64,
    /// Keys left out because they had expired.
    pub expired: u64,
}

/// Reads a file from a position on, counting what was read as loaded.
#[derive(Debug)]
pub struct CountingReader<'s> {
    file: Arc<dyn FsFile>,
    position: u64,
    server: &'s Server,
}

impl<'s> CountingReader<'s> {
    /// From the start of a file.
    pub fn new(file: Arc<dyn FsFile>, server: &'s Server) -> Self {
        Self {
            file,
            position: 0,
            server,
        }
    }
}

impl Read for CountingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        self.server.loading.add_bytes(count as u64);
        Ok(count)
    }
}

/// Loads everything that `source` holds.
pub fn load(server: &Server, source: impl Read, options: RdbOptions) -> anyhow::Result<RdbFacts> {
    let config = server.config();
    let reader_options = ReaderOptions {
        verify_checksum: config.snapshot.checksum,
        allow_trailing: options.allow_trailing,
        ..ReaderOptions::default()
    };
    let mut reader = RdbReader::new(source, reader_options)?;
    let mut load = Load {
        server,
        limits: config.limits,
        options,
        index: 0,
        now_ms: crate::clock::unix_ms(),
        facts: RdbFacts::default(),
        seen: 0,
    };
    load.select(0)?;
    while let Some(item) = reader.next_item()? {
        load.item(item)?;
    }
    load.facts.end = reader.offset();
    if options.staged {
        // A start looks when the log has been replayed, too.
        let hashes = server.keyspace.lock().timed_hashes_staged();
        field_expiry::check(hashes, config.snapshot.rdb_version)
            .map_err(|why| anyhow::anyhow!("the data of the file can't be kept: {why}"))?;
    } else {
        let functions = std::mem::take(&mut load.facts.functions);
        let _keyspace = server.keyspace.lock();
        server
            .scripting
            .add_libraries(&config, functions, options.replace)
            .map_err(|error| unloadable(&error))?;
    }
    wait_for_queue(server)?;
    Ok(load.facts)
}

fn unloadable(error: &CommandError) -> anyhow::Error {
    let text = String::from_utf8_lossy(&error.resp()).into_owned();
    anyhow::anyhow!("a function library can't be loaded: {text}")
}

struct Load<'s> {
    server: &'s Server,
    limits: crate::value::Limits,
    options: RdbOptions,
    /// Index of the selected database in the keyspace.
    index: usize,
    now_ms: i64,
    facts: RdbFacts,
    seen: u64,
}

impl Load<'_> {
    fn item(&mut self, item: Item) -> anyhow::Result<()> {
        match item {
            Item::SelectDb(db) => return self.select(db),
            Item::ResizeDb { .. } => {}
            Item::Aux { key, value } => self.aux(&key, value),
            Item::Function(code) => return self.library(&code),
            Item::ModuleAux { name } => {
                tracing::warn!(module = name, "module data in the RDB is left out");
            }
            Item::EmptyKey(key) => {
                let key = String::from_utf8_lossy(&key);
                tracing::warn!("skipping empty key: {key}");
            }
            Item::Entry(entry) => return self.entry(entry),
        }
        Ok(())
    }

    fn library(&mut self, code: &[u8]) -> anyhow::Result<()> {
        let config = self.server.config();
        let functions = &mut self.facts.functions;
        let added = functions.add(&config, code, self.options.replace);
        added.map_err(|error| unloadable(&error))
    }

    fn select(&mut self, db: u64) -> anyhow::Result<()> {
        let keyspace = self.server.keyspace.lock();
        let count = keyspace.database_count();
        let live = usize::try_from(db).ok().filter(|db| *db < count);
        let index = match live {
            Some(db) if self.options.staged => keyspace.staged_index(db),
            other => other,
        };
        let Some(index) = index else {
            bail!(
                "FATAL: Data file was created with a Redis server configured to handle more than \
                 {count} databases. Exiting"
            );
        };
        self.index = index;
        Ok(())
    }

    fn aux(&mut self, key: &[u8], value: Vec<u8>) {
        let text = String::from_utf8_lossy(&value).into_owned();
        match key {
            b"redis-ver" => tracing::info!("Loading RDB produced by version {text}"),
            b"used-mem" => self.facts.used_memory_bytes = text.parse().ok(),
            b"repl-id" => self.facts.repl_id = Some(value),
            b"repl-offset" => self.facts.repl_offset = text.parse().ok(),
            b"repl-stream-db" => self.facts.repl_stream_db = text.parse().ok(),
            _ => {}
        }
    }

    fn entry(&mut self, entry: Entry) -> anyhow::Result<()> {
        self.seen += 1;
        if self.seen.is_multiple_of(CHECK_INTERVAL) {
            self.now_ms = crate::clock::unix_ms();
            self.server.keyspace.lock().access.set_clock(self.now_ms);
            check_stop(self.server)?;
        }
        if self.options.drop_expired && has_passed(entry.expire_at_ms, self.now_ms) {
            self.facts.expired += 1;
            self.server.loading.add_expired();
            return Ok(());
        }
        let key_text =
            |key: &[u8]| String::from_utf8_lossy(key.get(..256).unwrap_or(key)).into_owned();
        let to_tier = wait_for_room(self.server, (entry.payload.len() + entry.key.len()) as u64)?;
        let key = entry.key.clone();
        let prepared = PreparedEntry::new(entry, &self.limits, to_tier)
            .with_context(|| format!("value of key '{}'", key_text(&key)))?;
        let outcome = {
            let mut keyspace = self.server.keyspace.lock();
            if self.options.replace {
                self.make_way(&mut keyspace, &key)
                    .with_context(|| format!("key '{}'", key_text(&key)))?;
            }
            keyspace.load_entry(self.index, prepared)
        };
        match outcome {
            Ok(LoadOutcome::Stored) => {
                self.facts.keys += 1;
                self.server.loading.add_key();
                Ok(())
            }
            Ok(LoadOutcome::Duplicate) => {
                bail!(
                    "RDB has duplicated key '{}' in DB {}",
                    key_text(&key),
                    self.index
                )
            }
            Err(error) => bail!("key '{}': {error}", key_text(&key)),
        }
    }
}

impl Load<'_> {
    /// Removes a key that the file replaces. Nobody is told, as Redis tells nobody of a load.
    fn make_way(&self, keyspace: &mut Keyspace, key: &[u8]) -> anyhow::Result<()> {
        let mut effect = Effect::default();
        let mut db = Db::new(keyspace, self.server, &mut effect, self.index, self.now_ms);
        db.blocking_reads = true;
        match db.remove(key) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{}", String::from_utf8_lossy(&error.resp())),
        }
    }
}

/// An error once the server is told to end.
pub(super) fn check_stop(server: &Server) -> anyhow::Result<()> {
    server.loading.log_progress();
    if server.fate.is_stopping() {
        bail!("the load was interrupted");
    }
    Ok(())
}

/// Waits until `bytes` more may be in memory. True: they should go to the tier.
pub(super) fn wait_for_room(server: &Server, bytes: u64) -> anyhow::Result<bool> {
    let mut began = None;
    loop {
        if server.memory.is_load_free() {
            return Ok(false);
        }
        let admitted = server.memory.admit(bytes) && !server.memory.tier_is_behind();
        let (pressure, queue_has_room) = server.keyspace.lock().load_pressure();
        if admitted && (queue_has_room || !pressure) {
            return Ok(pressure);
        }
        let begun = *began.get_or_insert_with(Instant::now);
        let closed = server.memory.tier_health().and_then(Health::refusal);
        if let Some(reason) = closed.filter(|_| begun.elapsed() > CLOSED_WAIT_MAX) {
            bail!("the data does not fit: {reason}");
        }
        if begun.elapsed() > ROOM_WAIT_MAX {
            bail!(
                "the data does not fit: no memory became free for {ROOM_WAIT_MAX:?}, raise maxmemory"
            );
        }
        check_stop(server)?;
        std::thread::sleep(ROOM_PAUSE);
    }
}

/// Waits until the tier has what was sent there, so that reads find it. Where memory may be passed the
/// load sends nothing there itself, and a tier that can't be written is none of its business.
fn wait_for_queue(server: &Server) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let (busy, failure) = match &server.keyspace.lock().tiering {
            Some(tiering) => (tiering.queue.bytes() > 0, tiering.queue.failure()),
            None => (false, None),
        };
        if failure.is_some() && server.memory.is_load_free() {
            return Ok(());
        }
        if let Some(error) = failure.filter(|_| began.elapsed() > CLOSED_WAIT_MAX) {
            bail!("the tier can't be written: {error}");
        }
        if !busy {
            return Ok(());
        }
        check_stop(server)?;
        std::thread::sleep(ROOM_PAUSE);
    }
}
