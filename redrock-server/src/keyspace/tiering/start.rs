//! Turns tiering on at start: opens the tier and starts its threads.

use super::fifo::{self, TierQueue};
use super::{Tiering, cold_expiry, governor, health, reader};
use crate::config::Config;
use crate::config::budget::Budget;
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::options::ColdBudget;
use crate::server::Server;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// Threads that read cold values: enough to keep a disk busy, and each holds one batch only.
const READER_THREADS: usize = 4;
/// Bytes of puts on their way to the tier.
const QUEUE_BYTES_MIN: u64 = 2 << 20;
const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// How long the applier waits for the lock at a time.
const LOCK_STEP: Duration = Duration::from_millis(10);

/// Whether [`start`] may have the tier's folder. Touches nothing.
pub fn inspect(config: &Config) -> anyhow::Result<()> {
    if config.memory.tiering {
        ColdStore::inspect(&config.memory.tier_dir).context("open the tier")?;
    }
    Ok(())
}

/// Tells the keyspace what was written, unless somebody who holds it for long (a script) does, or
/// there is more to write first.
fn tell(server: &Server, queue: &TierQueue) {
    while queue.has_applied() {
        if let Some(mut keyspace) = server.keyspace.try_lock_for(LOCK_STEP) {
            let dropped = keyspace.take_applied();
            drop(keyspace);
            // Dropping entries takes its time.
            drop(dropped);
        } else if !queue.is_empty() || server.is_stopping() {
            return;
        }
    }
}

/// Opens the tier in the configured folder and starts governor, applier and readers, if the
/// feature is on. Called before the first key, with lock and port held: the folder is wiped.
pub fn start(server: &Arc<Server>) -> anyhow::Result<()> {
    let config = server.config();
    let memory = &config.memory;
    if !memory.tiering {
        return Ok(());
    }
    server.memory.set_bound(memory.bytes_max);
    let budget = Budget::new(memory.bytes_max);
    let cold_budget = ColdBudget::for_cache(budget.tier_cache);
    let store = Arc::new(ColdStore::open(&memory.tier_dir, cold_budget).context("open the tier")?);
    let queue_bytes = (memory.bytes_max / 64).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX);
    let queue = Arc::new(TierQueue::new(queue_bytes as usize));
    server.memory.set_tier(queue.clone());
    server
        .keyspace
        .lock()
        .enable_tiering(Tiering::new(store.clone(), queue.clone(), budget.hot()));
    let applied_to = server.clone();
    let told = queue.clone();
    let memtable_bytes = cold_budget.memtable_bytes as u64;
    let watch = health::Watch::new(store.clone(), queue.clone(), memtable_bytes);
    health::spawn(server.clone(), watch).context("start the tier's watch")?;
    fifo::spawn_applier(queue, store.clone(), move |applied| {
        told.note_applied(applied);
        tell(&applied_to, &told);
    })
    .context("start the tier's writer")?;
    for index in 0..READER_THREADS {
        reader::spawn(server.clone(), store.clone(), index).context("start a tier reader")?;
    }
    cold_expiry::spawn(server.clone(), store.clone()).context("start cold expiry")?;
    governor::spawn(server.clone()).context("start the governor")?;
    tracing::info!(
        maxmemory_bytes = memory.bytes_max,
        tier_cache_bytes = budget.tier_cache,
        hot_bytes = budget.hot(),
        folder = %memory.tier_dir.display(),
        "tiering is on"
    );
    Ok(())
}
