//! Turns tiering on at start: opens the tier and starts its threads.

use super::fifo::{self, TierQueue};
use super::{Tiering, cold_expiry, governor, health, reader};
use crate::config::budget::Budget;
use crate::config::{Config, Memory};
use crate::keyspace::cold::ColdStore;
use crate::keyspace::cold::options::ColdBudget;
use crate::keyspace::cold::warm::WarmStart;
use crate::keyspace::locks::give_way;
use crate::server::Server;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

const QUEUE_BYTES_MIN: u64 = 2 << 20;
const QUEUE_BYTES_MAX: u64 = 32 << 20;
/// How long the applier waits for the lock at a time. Who has it for longer may wait for the next batch.
const LOCK_STEP: Duration = Duration::from_millis(1);

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
            let dropped = keyspace.take_some_applied();
            give_way(keyspace);
            // Dropping entries takes its time.
            drop(dropped);
        } else if !queue.is_empty() || server.is_stopping() {
            return;
        }
    }
}

/// Opens the tier in the configured folder and starts governor, applier and readers, if the
/// feature is on and they have not been started. Called with lock and port held, because the folder
/// is wiped, and not under the keyspace's lock. Keys that are there already are dirty, as all are
/// without a tier. `warm` is what the tier may go on with, before the first key; it is returned if it
/// does.
pub fn start(
    server: &Arc<Server>,
    memory: &Memory,
    warm: Option<WarmStart>,
) -> anyhow::Result<Option<WarmStart>> {
    if !memory.tiering || server.memory.has_tier() {
        return Ok(None);
    }
    server.memory.set_limits(memory);
    let budget = Budget::new(memory.bytes_max);
    let cold_budget = ColdBudget::for_cache(budget.tier_cache);
    let (store, warm) = open(server, memory, cold_budget, warm)?;
    let store = Arc::new(store);
    let queue = Arc::new(TierQueue::new(queue_bytes_max(memory.bytes_max)));
    server.memory.set_tier(queue.clone());
    server
        .keyspace
        .lock()
        .enable_tiering(Tiering::new(store.clone(), queue.clone(), budget.hot()));
    let applied_to = server.clone();
    let told = queue.clone();
    let watch = health::Watch::new(store.clone(), queue.clone());
    health::spawn(server.clone(), watch).context("start the tier's watch")?;
    fifo::spawn_applier(queue, store.clone(), move |applied| {
        told.note_applied(applied);
        tell(&applied_to, &told);
    })
    .context("start the tier's writer")?;
    reader::start(server, &store).context("start the tier's readers")?;
    cold_expiry::spawn(server.clone(), store.clone()).context("start cold expiry")?;
    governor::spawn(server.clone()).context("start the governor")?;
    tracing::info!(folder = %memory.tier_dir.display(), "tiering is on: {budget}");
    Ok(warm)
}

/// Opens the tier, with what it held if that can be gone on with.
fn open(
    server: &Server,
    memory: &Memory,
    budget: ColdBudget,
    warm: Option<WarmStart>,
) -> anyhow::Result<(ColdStore, Option<WarmStart>)> {
    if let Some(warm) = warm {
        let opened = ColdStore::open_warm(&memory.tier_dir, budget, &warm);
        let restored = opened.map_err(|error| error.to_string()).and_then(|store| {
            server.keyspace.lock().restore_cold(&warm)?;
            Ok(store)
        });
        match restored {
            Ok(store) => return Ok((store, Some(warm))),
            Err(why) => {
                tracing::warn!("The tier's kept checkpoint can't be used, all is loaded: {why}");
            }
        }
    }
    let store = ColdStore::open(&memory.tier_dir, budget).context("open the tier")?;
    Ok((store, None))
}

/// Bytes of puts on their way to the tier.
fn queue_bytes_max(maxmemory_bytes: u64) -> usize {
    (maxmemory_bytes / 64).clamp(QUEUE_BYTES_MIN, QUEUE_BYTES_MAX) as usize
}

/// Fits what scales with `maxmemory` to another bound. Not under locks. The rest asks for the bound
/// when it needs it: clients, snapshots, scripts.
pub fn resize(server: &Server, maxmemory_bytes: u64) {
    let budget = Budget::new(maxmemory_bytes);
    let store = {
        let mut keyspace = server.keyspace.lock();
        let Some(tiering) = &mut keyspace.tiering else {
            return;
        };
        tiering.set_hot_bytes(budget.hot());
        tiering
            .queue
            .set_bytes_max(queue_bytes_max(maxmemory_bytes));
        tiering.cold.clone()
    };
    if let Err(error) = store.resize(ColdBudget::for_cache(budget.tier_cache)) {
        tracing::warn!(%error, "the tier's memory could not be changed");
    }
    tracing::info!("memory is shared anew: {budget}");
}
