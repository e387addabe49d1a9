//! Reading an RDB into the keyspace: a dump, the base of a log, a master's snapshot.

use super::key_count::KeyCount;
use crate::command::CommandError;
use crate::command::effect::Effect;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::keyspace::expire::has_passed;
use crate::keyspace::field_expiry;
use crate::keyspace::load::{LoadOutcome, PreparedEntry};
use crate::keyspace::tiering::health::Health;
use crate::script::function::vm::Staged;
use crate::script::kept;
use crate::server::Server;
use anyhow::{Context as _, bail};
use redrock_log::fs::FsFile;
use redrock_rdb::file::{
    Entry, EntryPlace, Item, KeyText, ModuleKey, ModuleTally, RdbReader, ReaderOptions,
};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a load may wait for memory without any progress.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(120);
/// The same while the tier takes nothing.
const CLOSED_WAIT_MAX: Duration = Duration::from_secs(10);
const ROOM_PAUSE: Duration = Duration::from_millis(1);
/// Keys left out that are named one by one, as many as Redis names; all are counted.
const NAMED_MAX: u64 = 10;
/// Entries between looks at the clock, for progress and for stopping.
pub(super) const CHECK_INTERVAL: u64 = 1024;

/// Why a load ends though nothing is wrong with what is loaded: the same may succeed later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotNow(String);

impl NotNow {
    /// The server is told to end.
    pub fn stopping() -> Self {
        Self("the server is shutting down".to_owned())
    }

    /// Whether this is the cause of an error.
    pub fn is_cause_of(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| cause.is::<Self>())
    }
}

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
    /// Only so many bytes from the file's first one on, which end with an item.
    pub head_bytes: Option<u64>,
    /// Compare the checksum, whatever `rdbchecksum` says.
    pub verify_checksum: bool,
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
    /// Keys left out because their collections were empty.
    pub empty: u64,
    /// What was left out because it is modules' own.
    pub modules: ModuleTally,
}

impl RdbFacts {
    /// For the log, in Redis's words.
    pub fn line(&self) -> String {
        let Self {
            keys,
            expired,
            empty,
            ..
        } = self;
        let mut line = format!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}");
        if *empty > 0 {
            line.push_str(&format!(", empty keys skipped: {empty}"));
        }
        line + "."
    }
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
        verify_checksum: config.snapshot.checksum || options.verify_checksum,
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
        tally: KeyCount::default(),
        seen: 0,
        place: reader.place_of(b""),
    };
    load.select(0)?;
    let head_bytes = options.head_bytes.unwrap_or(u64::MAX);
    while reader.offset() < head_bytes
        && let Some(item) = reader.next_item()?
    {
        load.place = reader.place_of(b"");
        load.item(item)?;
    }
    load.facts.end = reader.offset();
    server.loading.set_modules(&load.facts.modules);
    report_modules(&load.facts.modules);
    if options.staged {
        load.tally.check()?;
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

/// Says what of the file is nobody's here. Redis does not start without the modules.
fn report_modules(modules: &ModuleTally) {
    if modules.is_empty() {
        return;
    }
    let keys = modules.keys();
    tracing::warn!(
        "{keys} keys of modules were left out of the RDB, which no file written from now on will \
         have: keep the file if they matter ({modules})"
    );
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
    /// The file's keys, taken or not.
    tally: KeyCount,
    seen: u64,
    /// Where the item is, for errors.
    place: EntryPlace,
}

impl Load<'_> {
    fn item(&mut self, item: Item) -> anyhow::Result<()> {
        match item {
            Item::SelectDb(db) => return self.select(db),
            Item::ResizeDb { keys, .. } => self.tally.announce(keys),
            Item::Aux { key, value } => self.aux(&key, value),
            Item::Function(code) => return self.library(&code),
            Item::ModuleAux(module) => self.facts.modules.add_piece(&module),
            Item::ModuleKey(skipped) => return self.module_key(&skipped),
            Item::EmptyKey(key) => {
                self.tally.add();
                self.empty_key(key);
            }
            Item::Entry(entry) => return self.entry(entry),
        }
        Ok(())
    }

    fn empty_key(&mut self, key: Vec<u8>) {
        self.facts.empty += 1;
        if self.facts.empty <= NAMED_MAX {
            tracing::info!("skipping empty {}", self.at(key));
        }
    }

    fn module_key(&mut self, skipped: &ModuleKey) -> anyhow::Result<()> {
        self.tally.add();
        let modules = &mut self.facts.modules;
        modules.add_key(self.place.database, skipped);
        if modules.keys() <= NAMED_MAX {
            let module = &skipped.module;
            tracing::info!(
                "leaving out {}: of module type {module}",
                self.at(skipped.key.clone())
            );
        }
        self.count()
    }

    /// Where the item with this key is.
    fn at(&self, key: Vec<u8>) -> EntryPlace {
        EntryPlace {
            key,
            ..self.place.clone()
        }
    }

    /// Between entries, now and then: the clock, progress, and whether to stop.
    fn count(&mut self) -> anyhow::Result<()> {
        self.seen += 1;
        if self.seen.is_multiple_of(CHECK_INTERVAL) {
            self.now_ms = crate::clock::unix_ms();
            self.server.keyspace.lock().access.set_clock(self.now_ms);
            check_stop(self.server)?;
        }
        Ok(())
    }

    fn library(&mut self, code: &[u8]) -> anyhow::Result<()> {
        let config = self.server.config();
        let functions = &mut self.facts.functions;
        let added = functions.add(&config, code, self.options.replace);
        added.map_err(|error| {
            unloadable(&error).context(format!("RDB offset {}", self.place.offset))
        })
    }

    fn select(&mut self, db: u64) -> anyhow::Result<()> {
        self.tally.select(db);
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
                 {count} databases. Exiting (database {db} at RDB offset {})",
                self.place.offset
            );
        };
        self.index = index;
        Ok(())
    }

    fn aux(&mut self, key: &[u8], value: Vec<u8>) {
        let text = String::from_utf8_lossy(&value).into_owned();
        match key {
            b"redis-ver" | b"valkey-ver" => {
                tracing::info!("Loading RDB produced by version {text}")
            }
            b"ctime" => {
                let now_s = self.now_ms / 1000;
                let age = now_s.saturating_sub(text.parse().unwrap_or(now_s)).max(0);
                tracing::info!("RDB age {age} seconds");
            }
            b"used-mem" => self.used_memory(text.parse().ok()),
            b"repl-id" => self.facts.repl_id = Some(value),
            b"repl-offset" => self.facts.repl_offset = text.parse().ok(),
            b"repl-stream-db" => self.facts.repl_stream_db = text.parse().ok(),
            // Of Redis before 7 and our own, for EVALSHA in what follows the file.
            _ if key == kept::FIELD.as_bytes() => {
                let restored = self.server.scripting.cache.restore(&value);
                if let Err(error) = restored {
                    let error = String::from_utf8_lossy(&error.resp()).into_owned();
                    tracing::warn!(error, "a script in the RDB file can't be used");
                }
            }
            // For people to read, by Redis's convention.
            [b'%', ..] => tracing::info!("RDB {}: {}", KeyText(key), KeyText(&value)),
            _ => {}
        }
    }

    fn used_memory(&mut self, bytes: Option<u64>) {
        self.facts.used_memory_bytes = bytes;
        if let Some(bytes) = bytes {
            self.server.loading.set_used_memory(bytes);
            let megabytes = bytes as f64 / f64::from(1 << 20);
            tracing::info!("RDB memory usage when created {megabytes:.2} Mb");
        }
    }

    fn entry(&mut self, entry: Entry) -> anyhow::Result<()> {
        self.tally.add();
        self.count()?;
        if self.options.drop_expired && has_passed(entry.expire_at_ms, self.now_ms) {
            self.facts.expired += 1;
            self.server.loading.add_expired();
            return Ok(());
        }
        let to_tier = wait_for_room(self.server, (entry.payload.len() + entry.key.len()) as u64)?;
        let key = entry.key.clone();
        let prepared = PreparedEntry::new(entry, &self.limits, to_tier)
            .map_err(|error| anyhow::anyhow!("{error} ({})", self.at(key.clone())))?;
        let outcome = {
            let mut keyspace = self.server.keyspace.lock();
            if self.options.replace {
                self.make_way(&mut keyspace, &key)
                    .with_context(|| self.at(key.clone()).to_string())?;
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
                // Redis's words, and where.
                let (key, place) = (KeyText(&key), &self.place);
                bail!(
                    "RDB has duplicated key {key} in DB {} (RDB offset {})",
                    place.database,
                    place.offset
                )
            }
            Err(error) => bail!("{}: {error}", self.at(key)),
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
        bail!(NotNow("the load was interrupted".to_owned()));
    }
    Ok(())
}

/// Waits until `bytes` more may be in memory. True: they should go to the tier.
pub(super) fn wait_for_room(server: &Server, bytes: u64) -> anyhow::Result<bool> {
    let mut began = None;
    loop {
        if server.memory.is_load_free() {
            // But it counts for who writes afterwards, before the next measurement.
            server.memory.charge(bytes);
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
            bail!(NotNow(format!("the data does not fit: {reason}")));
        }
        if begun.elapsed() > ROOM_WAIT_MAX {
            bail!(NotNow(format!(
                "the data does not fit: no memory became free for {ROOM_WAIT_MAX:?}, raise maxmemory"
            )));
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
            bail!(NotNow(format!("the tier can't be written: {error}")));
        }
        if !busy {
            return Ok(());
        }
        check_stop(server)?;
        std::thread::sleep(ROOM_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::keyspace::position::Positioner;

    #[test]
    fn what_a_load_takes_without_asking_counts_for_who_writes_next() -> anyhow::Result<()> {
        let keyspace = Keyspace::new(1, Positioner::new((1, 2)));
        let server = Server::new(Config::default(), keyspace, "0".repeat(40), 1);
        let mut memory = Config::default().memory;
        memory.bytes_max = 1 << 20;
        server.memory.set_limits(&memory);
        server.memory.free_loads();
        assert!(!wait_for_room(&server, 1 << 20)?);
        assert!(!server.memory.admit(1));
        Ok(())
    }
}
