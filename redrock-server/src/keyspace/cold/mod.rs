//! The cold tier: values in RocksDB. Knows nothing of hot entries, commands or snapshots' rules.
//!
//! Never durable state: [`ColdStore::open`] wipes what is there, and what [`ColdStore::open_warm`]
//! goes on with is in the RDB file as well. Only the queue's one applier thread writes; any thread
//! reads.

mod folder;
mod generations;
pub mod key;
pub mod listener;
pub mod options;
mod repair;
mod scan;
mod times;
pub mod warm;

pub use folder::MARKER;
pub use repair::Space;
pub use scan::{ColdSnapshot, ScannedRecord};
pub use times::{DueIndex, Times};

use crate::keyspace::tiering::transit::LARGE_BYTES;
use key::{TierKey, position_prefix, split};
use listener::Background;
use options::{ColdBudget, EXPIRE_INDEX, EXPIRES, VALUES};
use rocksdb::{
    BoundColumnFamily, Cache, DBWithThreadMode, IteratorMode, MultiThreaded, ReadOptions,
    WriteBatch, WriteBufferManager, WriteOptions, checkpoint::Checkpoint,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

type Database = DBWithThreadMode<MultiThreaded>;

/// A failure of the tier.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// RocksDB's own error.
    #[error("{action}: {source}")]
    Storage {
        /// What was attempted.
        action: &'static str,
        /// RocksDB's error.
        source: rocksdb::Error,
    },
    /// The folder isn't ours to wipe.
    #[error(
        "the tier folder {0} is not empty and has no {MARKER} file of ours: it may hold \
         something else. Point rockdbdir at an empty folder"
    )]
    Foreign(PathBuf),
    /// A file operation failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A column family is missing.
    #[error("the tier has no column family {0}")]
    NoFamily(&'static str),
    /// Files could not be rewritten.
    #[error("compact the tier: {0}")]
    Compaction(String),
    /// Memtables could not be written to files.
    #[error("flush the tier: {0}")]
    Flush(String),
}

impl ColdError {
    /// Whether RocksDB wants its writer to wait: for a flush, or for compaction.
    pub fn is_stall(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if source.kind() == rocksdb::ErrorKind::Incomplete)
    }

    /// Whether bytes on disk are not those that were written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if source.kind() == rocksdb::ErrorKind::Corruption)
    }
}

const DATABASE_DIR: &str = "db";

/// What was read for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdValue {
    /// RDB type byte and payload.
    pub record: Vec<u8>,
    /// Expiry, unix ms.
    pub expire: Option<i64>,
}

fn owned(record: &[u8], expire: Option<i64>) -> ColdValue {
    ColdValue {
        record: record.to_vec(),
        expire,
    }
}

/// Counters for INFO and tests.
#[derive(Debug, Default)]
pub struct ColdStats {
    /// Keys looked up with disk reads allowed.
    pub reads: AtomicU64,
    /// Lookups of several keys at once.
    pub batches: AtomicU64,
    /// Filter questions (no disk read).
    pub filter_checks: AtomicU64,
    /// Records written.
    pub puts: AtomicU64,
    /// Records deleted.
    pub deletes: AtomicU64,
    /// Bytes of records written, before compression.
    pub put_bytes: AtomicU64,
}

/// See the module.
pub struct ColdStore {
    db: Database,
    path: PathBuf,
    cache: Cache,
    memtables: WriteBufferManager,
    memtable_bytes: AtomicUsize,
    background: Arc<Background>,
    /// Whether compaction in the background is on.
    compacts: AtomicBool,
    /// For keys looked up, made once.
    read: ReadOptions,
    /// Where RocksDB's own counters are.
    #[cfg(test)]
    options: rocksdb::Options,
    /// Whether any record ever had times beside it: else there is nothing to look up.
    timed: AtomicBool,
    /// Bytes of the largest record that ever was put: many of them may not fit into memory together.
    largest_bytes: AtomicUsize,
    /// Counters.
    pub stats: ColdStats,
}

impl std::fmt::Debug for ColdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn storage(action: &'static str) -> impl FnOnce(rocksdb::Error) -> ColdError {
    move |source| ColdError::Storage { action, source }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ColdError {
    let path = path.to_owned();
    move |source| ColdError::Io {
        action,
        path,
        source,
    }
}

impl ColdStore {
    /// Whether [`ColdStore::open`] may have this folder. Touches nothing.
    pub fn inspect(path: &Path) -> Result<(), ColdError> {
        folder::inspect(path)
    }

    /// Opens an empty tier in `path`, wiping what an earlier run left there.
    pub fn open(path: &Path, budget: ColdBudget) -> Result<Self, ColdError> {
        folder::prepare(path, None)?;
        Self::open_there(path, budget)
    }

    /// Opens a tier that holds what the kept checkpoint does, and leaves that as it is.
    pub fn open_warm(
        path: &Path,
        budget: ColdBudget,
        start: &warm::WarmStart,
    ) -> Result<Self, ColdError> {
        folder::prepare(path, Some(warm::FOLDER))?;
        warm::link(path, start)?;
        let store = Self::open_there(path, budget)?;
        store.timed.store(start.timed, Ordering::Relaxed);
        let largest_bytes = start.largest_bytes();
        store.largest_bytes.store(largest_bytes, Ordering::Relaxed);
        // What was flushed just before the cut may still have been there.
        store.drop_generations_but(start.databases.iter().map(|d| d.generation).collect())?;
        Ok(store)
    }

    fn open_there(path: &Path, budget: ColdBudget) -> Result<Self, ColdError> {
        let cache = Cache::new_hyper_clock_cache(budget.cache_bytes, 4 << 10);
        let background = Arc::new(Background::default());
        let memtables = options::memtables(budget, &cache);
        let mut options = options::database(&memtables);
        background.listen(&mut options);
        #[cfg(test)]
        options.enable_statistics();
        let db = Database::open_cf_descriptors(
            &options,
            path.join(DATABASE_DIR),
            options::families(budget, &cache),
        )
        .map_err(storage("open the tier"))?;
        Ok(Self {
            db,
            path: path.to_owned(),
            cache,
            memtables,
            memtable_bytes: AtomicUsize::new(budget.memtable_bytes),
            background,
            compacts: AtomicBool::new(true),
            read: ReadOptions::default(),
            #[cfg(test)]
            options,
            timed: AtomicBool::new(false),
            largest_bytes: AtomicUsize::new(0),
            stats: ColdStats::default(),
        })
    }

    fn family(&self, name: &'static str) -> Result<Arc<BoundColumnFamily<'_>>, ColdError> {
        self.db.cf_handle(name).ok_or(ColdError::NoFamily(name))
    }

    /// Keys that RocksDB was asked for, one by one, in multi-gets and by iterators, filters included.
    #[cfg(test)]
    pub fn rocksdb_reads(&self) -> u64 {
        use rocksdb::statistics::Ticker;
        let tickers = [
            Ticker::NumberKeysRead,
            Ticker::NumberMultigetKeysRead,
            Ticker::NumberDbSeek,
        ];
        let count = |ticker| self.options.get_ticker_count(ticker);
        tickers.into_iter().map(count).sum()
    }

    /// Whether a key may be there, by the filters in memory alone: false is certain. Errs
    /// towards true.
    pub fn may_contain(&self, key: &TierKey) -> bool {
        self.stats.filter_checks.fetch_add(1, Ordering::Relaxed);
        match self.family(VALUES) {
            Ok(family) => self.db.key_may_exist_cf(&family, key.as_bytes()),
            Err(_) => true,
        }
    }

    /// Whether any record may have times beside it.
    pub fn has_times(&self) -> bool {
        self.timed.load(Ordering::Relaxed)
    }

    /// Whether a record may be large ([`LARGE_BYTES`]).
    pub fn has_large_records(&self) -> bool {
        self.largest_bytes() >= LARGE_BYTES
    }

    /// No record is larger, bytes; `usize::MAX` if that is not known.
    pub fn largest_bytes(&self) -> usize {
        self.largest_bytes.load(Ordering::Relaxed)
    }

    /// Reads one key.
    pub fn get(&self, key: &TierKey) -> Result<Option<ColdValue>, ColdError> {
        self.get_as(key, owned)
    }

    /// Reads one key: what `take` makes of its record and expiry.
    pub fn get_as<T>(
        &self,
        key: &TierKey,
        take: impl FnOnce(&[u8], Option<i64>) -> T,
    ) -> Result<Option<T>, ColdError> {
        self.stats.reads.fetch_add(1, Ordering::Relaxed);
        // `VALUES` is the default family: no need to look it up by its name.
        let record = self.db.get_pinned_opt(key.as_bytes(), &self.read);
        let Some(record) = record.map_err(storage("read the tier"))? else {
            return Ok(None);
        };
        Ok(Some(take(&record, self.times_of(key)?.key)))
    }

    /// Reads several keys with their expiries, in the order given.
    pub fn get_many(&self, keys: &[TierKey]) -> Result<Vec<Option<ColdValue>>, ColdError> {
        self.read_many(keys.iter(), owned).into_iter().collect()
    }

    /// Reads several keys, in the order given: what `take` makes of each record and its key's expiry. A record
    /// that can't be read does not fail the others.
    pub fn read_many<'k, T>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k TierKey> + Clone,
        mut take: impl FnMut(&[u8], Option<i64>) -> T,
    ) -> Vec<Result<Option<T>, ColdError>> {
        if keys.len() == 1 {
            // What a multi-get sets up is for many.
            return keys.map(|key| self.get_as(key, &mut take)).collect();
        }
        let Some(values) = self.db.cf_handle(VALUES) else {
            return keys.map(|_| Err(ColdError::NoFamily(VALUES))).collect();
        };
        self.stats
            .reads
            .fetch_add(keys.len() as u64, Ordering::Relaxed);
        self.stats.batches.fetch_add(1, Ordering::Relaxed);
        let bytes = keys.clone().map(TierKey::as_bytes);
        let records = self
            .db
            .batched_multi_get_cf_opt(&values, bytes, false, &self.read);
        let taken = keys.zip(records).map(|(key, record)| {
            let Some(record) = record.map_err(storage("read the tier"))? else {
                return Ok(None);
            };
            Ok(Some(take(&record, self.times_of(key)?.key)))
        });
        taken.collect()
    }

    /// Applies one batch without a write-ahead log. Fails rather than waits where RocksDB wants
    /// to hold the writer up ([`ColdError::is_stall`]): what it waits for may need us.
    pub fn apply(&self, batch: ColdBatch) -> Result<(), ColdError> {
        self.write(batch.batch)?;
        let stats = &self.stats;
        stats.puts.fetch_add(batch.puts, Ordering::Relaxed);
        stats.deletes.fetch_add(batch.deletes, Ordering::Relaxed);
        stats
            .put_bytes
            .fetch_add(batch.put_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, batch: WriteBatch) -> Result<(), ColdError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_no_slowdown(true);
        self.db
            .write_opt(batch, &options)
            .map_err(storage("write the tier"))
    }

    /// An empty batch.
    pub fn batch(&self) -> ColdBatch {
        ColdBatch {
            batch: WriteBatch::default(),
            puts: 0,
            deletes: 0,
            put_bytes: 0,
        }
    }

    /// Adds a record to a batch.
    pub fn put(
        &self,
        batch: &mut ColdBatch,
        key: &TierKey,
        record: &[u8],
        times: Times,
    ) -> Result<(), ColdError> {
        let values = self.family(VALUES)?;
        batch.batch.put_cf(&values, key.as_bytes(), record);
        batch.puts += 1;
        batch.put_bytes += record.len() as u64;
        let largest_bytes = &self.largest_bytes;
        largest_bytes.fetch_max(record.len(), Ordering::Relaxed);
        self.set_times(batch, key, Times::default(), times)
    }

    /// Adds a deletion to a batch; `times` are those that the record had.
    pub fn delete(
        &self,
        batch: &mut ColdBatch,
        key: &TierKey,
        times: Times,
    ) -> Result<(), ColdError> {
        batch.batch.delete_cf(&self.family(VALUES)?, key.as_bytes());
        batch.deletes += 1;
        self.set_times(batch, key, times, Times::default())
    }

    /// Keys of a generation from a position on, in order, at most about `max` but never part of
    /// a position. The end position is where to go on, `None` at the end.
    pub fn scan_keys(
        &self,
        generation: u32,
        from: u64,
        max: usize,
    ) -> Result<(Vec<(u64, Vec<u8>)>, Option<u64>), ColdError> {
        let values = self.family(VALUES)?;
        let mut read = ReadOptions::default();
        if let Some(next) = generation.checked_add(1) {
            read.set_iterate_upper_bound(position_prefix(next, 0).to_vec());
        }
        read.fill_cache(false);
        let start = position_prefix(generation, from);
        let mode = IteratorMode::From(&start, rocksdb::Direction::Forward);
        let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
        for item in self.db.iterator_cf_opt(&values, read, mode) {
            let (bytes, _) = item.map_err(storage("scan the tier"))?;
            let Some((_, position, key)) = split(&bytes) else {
                continue;
            };
            if out.len() >= max && out.last().is_some_and(|(last, _)| *last != position) {
                return Ok((out, Some(position)));
            }
            out.push((position, key.to_vec()));
        }
        Ok((out, None))
    }

    /// Makes a checkpoint (hard links) of everything applied so far. For the applier, behind whose back
    /// nothing is written.
    pub fn checkpoint(&self, path: &Path) -> Result<(), ColdError> {
        // The checkpoint's own flush would wait until it succeeds.
        self.flush()?;
        const WITHOUT_FLUSH: u64 = u64::MAX;
        let checkpoint = Checkpoint::new(&self.db).map_err(storage("prepare a checkpoint"))?;
        checkpoint
            .create_checkpoint_with_log_size(path, WITHOUT_FLUSH)
            .map_err(storage("make a checkpoint"))
    }

    /// Where a snapshot's checkpoint goes: on the same file system, for hard links.
    pub fn checkpoint_path(&self, id: u64) -> PathBuf {
        self.path.join(format!("checkpoint-{id}"))
    }

    /// The tier's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes on disk, roughly.
    pub fn disk_bytes(&self) -> u64 {
        [VALUES, EXPIRES, EXPIRE_INDEX]
            .into_iter()
            .filter_map(|name| {
                let family = self.db.cf_handle(name)?;
                let tables = self
                    .db
                    .property_int_value_cf(&family, "rocksdb.total-sst-files-size");
                let blobs = self
                    .db
                    .property_int_value_cf(&family, "rocksdb.total-blob-file-size");
                Some(tables.ok().flatten().unwrap_or(0) + blobs.ok().flatten().unwrap_or(0))
            })
            .sum()
    }

    /// Changes what the tier may use, while it is in use. The cache's table has room for as many blocks
    /// as at the start: less takes effect as a whole, more up to somewhat less than twice.
    pub fn resize(&self, budget: ColdBudget) -> Result<(), ColdError> {
        self.memtable_bytes
            .store(budget.memtable_bytes, Ordering::Relaxed);
        self.cache.clone().set_capacity(budget.cache_bytes);
        self.memtables.set_buffer_size(budget.memtable_bytes);
        for name in [VALUES, EXPIRES, EXPIRE_INDEX] {
            let bytes = options::write_buffer_bytes(budget, name).to_string();
            self.set_option(name, "write_buffer_size", &bytes)?;
        }
        Ok(())
    }

    /// What memtables may take, bytes.
    pub fn memtable_bytes(&self) -> u64 {
        self.memtable_bytes.load(Ordering::Relaxed) as u64
    }

    /// Bytes of the block cache in use, memtables included.
    pub fn cache_bytes(&self) -> usize {
        self.cache.get_usage()
    }
}

/// Changes to be applied together.
pub struct ColdBatch {
    batch: WriteBatch,
    puts: u64,
    deletes: u64,
    put_bytes: u64,
}

impl ColdBatch {
    /// Bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

#[cfg(test)]
mod tests;
