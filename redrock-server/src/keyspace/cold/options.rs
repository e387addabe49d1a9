//! RocksDB as the spill tier: every option and why, in one place (DESIGN 7).
//!
//! The tier is no durable state: it is wiped at start and rebuilt from base and log. So there is
//! no write-ahead log; `atomic_flush` keeps the column families at one point, which is what a
//! checkpoint for a snapshot needs. All memory that scales (blocks, index and filter partitions,
//! memtables) is charged to one cache of a fixed size.

use librocksdb_sys as ffi;
use rocksdb::{
    AsRawPtr as _, BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor,
    DBCompressionType, Options, WriteBufferManager,
};

/// Values: RDB type byte and payload by tier key.
pub const VALUES: &str = "default";
/// Expiry of a cold key, 8 bytes of unix ms by tier key, beside its value.
pub const EXPIRES: &str = "expires";
/// `time | tier key` of every record in `expires`; entries of older times are dropped when met.
pub const EXPIRE_INDEX: &str = "expire_index";

/// Files at level zero that are compacted at once.
const LEVEL_ZERO_FILES: i32 = 10;
/// With so many, writes wait for compaction.
pub const LEVEL_ZERO_STOP: u64 = 36;
const LEVEL_BASE_BYTES_MIN: u64 = 64 << 20;

/// What the tier may use; derived from `maxmemory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdBudget {
    /// Block cache, with index, filters and memtables charged to it, bytes.
    pub cache_bytes: usize,
    /// Share of it for memtables, bytes.
    pub memtable_bytes: usize,
}

impl ColdBudget {
    /// Half of the cache for memtables.
    pub fn for_cache(cache_bytes: u64) -> Self {
        let cache_bytes = cache_bytes as usize;
        Self {
            cache_bytes,
            memtable_bytes: (cache_bytes / 2).min(256 << 20),
        }
    }
}

/// Memtables of all column families together, charged to the cache.
pub fn memtables(budget: ColdBudget, cache: &Cache) -> WriteBufferManager {
    WriteBufferManager::new_write_buffer_manager_with_cache(
        budget.memtable_bytes,
        true,
        cache.clone(),
    )
}

/// Options of the database as a whole.
pub fn database(memtables: &WriteBufferManager) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    // What background work fails with is an error; which stop the database: `listener`.
    options.set_paranoid_checks(true);
    // One flush and one compaction at a time: memory for compaction stays small, and on small
    // machines the foreground keeps its cores.
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    options.set_write_buffer_manager(memtables);
    // Table readers hold memory each; 256 files of 32 MB and more are plenty at once.
    options.set_max_open_files(256);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_bytes_per_sync(1 << 20);
    options.set_compaction_readahead_size(256 << 10);
    // No rate limiter: the auto-tuned one falls to a twentieth of its rate once it has held nothing back for
    // ten seconds, and then takes minutes to rise while level zero fills up and writers wait.
    options.set_avoid_unnecessary_blocking_io(true);
    close_without_flush(&mut options);
    options
}

/// What is in memtables when the tier is closed is of no use to anybody, and a flush then would wait for
/// a disk that fails until it is back.
fn close_without_flush(options: &mut Options) {
    // SAFETY: the options are alive.
    unsafe { ffi::rocksdb_options_set_avoid_flush_during_shutdown(options.as_raw_ptr(), 1) };
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(4 << 10);
    table.set_format_version(5);
    // Partitioned index and filters live in the cache, so that their memory is bounded; only
    // the top level is pinned.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(false);
    // One absent key in a hundred costs a read. Ribbon filters take 7 bits a key for that where Bloom's
    // take 10, but four times as long to make and twice to ask: not for the short-lived files of level zero.
    table.set_hybrid_ribbon_filter(10.0, 1);
    table.set_optimize_filters_for_memory(true);
    table
}

/// A memtable's size, bytes.
pub fn write_buffer_bytes(budget: ColdBudget, family: &str) -> usize {
    match family {
        VALUES => (budget.memtable_bytes / 3).max(1 << 20),
        _ => (budget.memtable_bytes / 12).max(512 << 10),
    }
}

fn family(budget: ColdBudget, cache: &Cache) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(&table(cache));
    options.set_compression_type(DBCompressionType::Lz4);
    let buffer_bytes = write_buffer_bytes(budget, VALUES);
    options.set_write_buffer_size(buffer_bytes);
    // Whether a new key is in the tier is asked of each memtable: a filter costs less than the way
    // through a skip list, most of which is not in the processor's cache.
    options.set_memtable_prefix_bloom_ratio(0.04);
    options.set_memtable_whole_key_filtering(true);
    // How much memory they take is the write buffer manager's to bound. By number they are not,
    // so that a flush which failed can be asked for again without one more stopping writes.
    options.set_max_write_buffer_number(64);
    // The applier does not wait inside a write, so slowing down by small sleeps is not for it:
    // it is stopped, outside RocksDB, where the slowdown would end.
    options.set_level_zero_slowdown_writes_trigger(LEVEL_ZERO_STOP as i32);
    options.set_level_zero_stop_writes_trigger(LEVEL_ZERO_STOP as i32);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_min_write_buffer_number_to_merge(1);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(32 << 20);
    // Small memtables make small files: many of them at a time go down into a level of about their
    // size, instead of few into a large one. Of data ten times the memory that halves what compaction
    // writes; a read asks up to ten filters more.
    options.set_level_zero_file_num_compaction_trigger(LEVEL_ZERO_FILES);
    let level_zero_bytes = buffer_bytes as u64 * LEVEL_ZERO_FILES as u64;
    options.set_max_bytes_for_level_base(level_zero_bytes.max(LEVEL_BASE_BYTES_MIN));
    options
}

/// The column families with their options.
pub fn families(budget: ColdBudget, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
    let mut values = family(budget, cache);
    // Large values go to blob files: compaction then moves their keys only.
    values.set_enable_blob_files(true);
    values.set_min_blob_size(16 << 10);
    values.set_blob_file_size(64 << 20);
    values.set_blob_compression_type(DBCompressionType::Lz4);
    values.set_enable_blob_gc(true);
    values.set_blob_gc_age_cutoff(0.25);
    let mut small = family(budget, cache);
    small.set_write_buffer_size(write_buffer_bytes(budget, EXPIRES));
    vec![
        ColumnFamilyDescriptor::new(VALUES, values),
        ColumnFamilyDescriptor::new(EXPIRES, small.clone()),
        ColumnFamilyDescriptor::new(EXPIRE_INDEX, small),
    ]
}
