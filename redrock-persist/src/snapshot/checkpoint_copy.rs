//! The cold part of a snapshot: from a RocksDB checkpoint into the RDB file.
//!
//! Tier keys are `generation (u32 BE) | position (6 bytes BE) | key` in the column family
//! `default`, values are the RDB type byte and the payload; `expires` holds 8 bytes of unix ms
//! (BE) under the same key, and behind them (or behind one byte 0, if the key has no expiry) 8
//! bytes for the first field of a hash to expire, which the value tells as well. Both are read in
//! order, side by side, so neither is looked up.
//!
//! Invariants: reading is read-only, checks every block's checksum and keeps nothing in a cache
//! (a few megabytes of blocks and readahead, whatever the size of the tier); a record that can't
//! be read or a count that is off fails the snapshot, naming key or database.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redrock_proto::RpcError;
use redrock_proto::model::Database;
use redrock_rdb::file::EntryMeta;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRawIterator, Options, ReadOptions,
};

use super::pace::Pacer;
use super::rdb_file::{EntryHeader, RdbFile, damaged};
use crate::error::Result;
use crate::progress::ActionProgress;

const VALUES: &str = "default";
const EXPIRES: &str = "expires";
/// Bytes of a tier key before the client's key.
const PREFIX_BYTES: usize = 10;
const CACHE_BYTES: usize = 4 << 20;
/// Each file that is read at the moment has a buffer of this size: one of each level, and all of level
/// zero, which may be dozens.
const READAHEAD_BYTES: usize = 256 << 10;
/// The same for the family of times, whose records are small.
const READAHEAD_TIMES_BYTES: usize = 64 << 10;
/// The longest sleep in one piece, so that an abort is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A database and the number of its keys that are in the checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColdDatabase {
    pub database: Database,
    pub keys: u64,
}

/// What the copy is part of.
pub(super) struct CopyContext<'a> {
    pub rdb: &'a mut RdbFile,
    pub pacer: Pacer,
    pub progress: &'a ActionProgress,
    pub cancelled: &'a AtomicBool,
}

/// Copies all records of `databases` from the checkpoint at `path`.
pub(super) fn copy_checkpoint(
    path: &Path,
    databases: &[ColdDatabase],
    context: &mut CopyContext<'_>,
) -> Result<()> {
    let database = open(path)?;
    for cold in databases {
        copy_database(&database, cold, context)?;
    }
    Ok(())
}

/// Opens a checkpoint, read-only.
pub fn open(path: &Path) -> Result<DB> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_paranoid_checks(true);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_keep_log_file_num(1);
    let families = [VALUES, EXPIRES].map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
    DB::open_cf_descriptors_read_only(&options, path, families, false)
        .map_err(|error| storage_error("open the checkpoint", &error))
}

fn copy_database(db: &DB, cold: &ColdDatabase, context: &mut CopyContext<'_>) -> Result<()> {
    let generation = cold.database.generation;
    let mut values = iterator(db, VALUES, generation)?;
    let mut expires = iterator(db, EXPIRES, generation)?;
    let mut found = 0_u64;
    let mut last_key = Vec::new();
    let mut orphan: Option<Vec<u8>> = None;
    while let Some((tier_key, record)) = values.item() {
        if context.cancelled.load(Ordering::Relaxed) {
            return Err(RpcError::cancelled("the snapshot was aborted"));
        }
        let key = tier_key
            .get(PREFIX_BYTES..)
            .ok_or_else(|| RpcError::corrupt("the checkpoint holds a malformed key"))?;
        let expire_at_ms = expiry_of(&mut expires, tier_key, &mut orphan)?;
        let mut header = EntryHeader {
            database: cold.database.index,
            key,
            meta: EntryMeta {
                expire_at_ms,
                ..EntryMeta::default()
            },
            object_type: 0,
        };
        let (object_type, payload) = record
            .split_first()
            .ok_or_else(|| damaged(&header, "it is empty"))?;
        header.object_type = *object_type;
        context.rdb.value(&header, payload)?;
        found += 1;
        last_key.clear();
        last_key.extend_from_slice(key);
        count(context, record.len() as u64 + key.len() as u64);
        values.advance();
    }
    for walk in [&values, &expires] {
        walk.check().map_err(|mut error| {
            // RocksDB doesn't name the record that it can't read: its neighbour leads there.
            let key = last_key.escape_ascii();
            error.message = format!("{} (behind key '{key}')", error.message);
            error
        })?;
    }
    if found == cold.keys {
        return Ok(());
    }
    let hint = orphan.map_or(String::new(), |key| {
        format!("; key '{}' has an expiry and no value", key.escape_ascii())
    });
    Err(RpcError::corrupt(format!(
        "database {}: the checkpoint holds {found} records where {} were due{hint}",
        cold.database.index, cold.keys
    )))
}

/// The expiry that stands beside a value, moving `expires` up to it.
fn expiry_of(
    expires: &mut Walk<'_>,
    tier_key: &[u8],
    orphan: &mut Option<Vec<u8>>,
) -> Result<Option<i64>> {
    while let Some((expires_key, bytes)) = expires.item() {
        match expires_key.cmp(tier_key) {
            std::cmp::Ordering::Greater => return Ok(None),
            std::cmp::Ordering::Equal => {
                let expire_at_ms = key_expiry(bytes).ok_or_else(|| {
                    RpcError::corrupt(format!(
                        "the expiry of key '{}' is damaged",
                        tier_key
                            .get(PREFIX_BYTES..)
                            .unwrap_or_default()
                            .escape_ascii()
                    ))
                })?;
                expires.advance();
                return Ok(expire_at_ms);
            }
            std::cmp::Ordering::Less => {
                orphan.get_or_insert_with(|| {
                    expires_key.get(PREFIX_BYTES..).unwrap_or_default().to_vec()
                });
                expires.advance();
            }
        }
    }
    Ok(None)
}

/// The key's own time in a record of times; `None` if it is damaged.
fn key_expiry(bytes: &[u8]) -> Option<Option<i64>> {
    if let ([0, ..], 9) = (bytes, bytes.len()) {
        return Some(None);
    }
    let (key, fields) = bytes.split_at_checked(8)?;
    let key = key.try_into().ok().map(i64::from_be_bytes);
    matches!(fields.len(), 0 | 8).then_some(key)
}

/// Counts a record and waits as the rate wants.
fn count(context: &mut CopyContext<'_>, bytes: u64) {
    context.progress.copied(bytes);
    context
        .progress
        .written(context.rdb.bytes(), context.rdb.entries());
    let mut wait = context.pacer.charge(bytes, Instant::now);
    while !wait.is_zero() && !context.cancelled.load(Ordering::Relaxed) {
        let step = wait.min(SLEEP_MAX);
        std::thread::sleep(step);
        wait -= step;
    }
}

/// One column family's records of a generation, in order.
struct Walk<'a> {
    iterator: DBRawIterator<'a>,
}

impl Walk<'_> {
    fn item(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn advance(&mut self) {
        self.iterator.next();
    }

    /// An iterator that met an error looks as one at its end.
    fn check(&self) -> Result<()> {
        self.iterator
            .status()
            .map_err(|error| storage_error("read the checkpoint", &error))
    }
}

/// How its records are read.
pub fn read_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options.set_readahead_size(READAHEAD_BYTES);
    options
}

fn iterator<'a>(db: &'a DB, family: &str, generation: u32) -> Result<Walk<'a>> {
    let handle = db
        .cf_handle(family)
        .ok_or_else(|| RpcError::corrupt(format!("the checkpoint has no family {family}")))?;
    let mut options = read_options();
    if family != VALUES {
        options.set_readahead_size(READAHEAD_TIMES_BYTES);
    }
    if let Some(next) = generation.checked_add(1) {
        options.set_iterate_upper_bound(next.to_be_bytes().to_vec());
    }
    let mut iterator = db.raw_iterator_cf_opt(handle, options);
    iterator.seek(generation.to_be_bytes());
    Ok(Walk { iterator })
}

fn storage_error(action: &str, error: &rocksdb::Error) -> RpcError {
    let text = format!("{action}: {error}");
    match error.kind() {
        rocksdb::ErrorKind::Corruption => RpcError::corrupt(text)
            .with_hint("the tier's disk is damaged; the file was not replaced"),
        _ => RpcError::internal(text),
    }
}
