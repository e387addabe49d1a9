//! Waiting outside the locks for what a command needs, with a bound on how long.

use crate::command::dispatch::Wait;
use crate::command::error::CommandError;
use crate::keyspace::cold::key::TierKey;
use crate::keyspace::tiering::health::Health;
use crate::keyspace::tiering::loader::Join;
use crate::keyspace::tiering::one_read::{OneRead, PoolRead};
use crate::keyspace::tiering::turns::Turn;
use crate::server::Server;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one command waits for a tier that takes nothing before it fails.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(10);
/// The same while the tier has taken nothing for longer than that.
const MEMORY_WAIT_CLOSED_MAX: Duration = Duration::from_secs(1);
/// How many such times one command waits while the tier takes what others bring.
const MEMORY_WAITS_MAX: u32 = 6;
/// How often a command may find its keys gone again from memory.
const LOADS_MAX: u32 = 64;

const SHUTTING_DOWN: CommandError = CommandError::fixed("ERR the server is shutting down");

/// What one command has waited for so far.
#[derive(Debug, Default)]
pub struct WaitBudget {
    memory_deadline: Option<Instant>,
    /// Its place among those who wait for memory.
    memory_turn: Option<Turn>,
    /// How far making room had come when the wait began or the last deadline passed.
    progress: Option<u64>,
    memory_waits: u32,
    loads: u32,
}

impl WaitBudget {
    /// Whether a command whose deadline has passed waits for another one: room is being made.
    fn may_wait_on(&mut self, progress: u64) -> bool {
        let before = self.progress.replace(progress);
        self.memory_waits += 1;
        self.memory_deadline = None;
        before.is_some_and(|before| before < progress) && self.memory_waits < MEMORY_WAITS_MAX
    }

    /// Counts a wait for values.
    fn count_load(&mut self) -> Result<(), CommandError> {
        self.loads += 1;
        if self.loads > LOADS_MAX {
            return Err(CommandError::fixed(
                "ERR the values that this command needs do not stay in memory, raise maxmemory",
            ));
        }
        Ok(())
    }

    /// Waits for what the pool reads for the command.
    pub async fn wait_for_read(&mut self, read: PoolRead) -> Result<OneRead, CommandError> {
        self.count_load()?;
        let read = read.done().await;
        read.ok_or(SHUTTING_DOWN)
    }
}

/// Keeps loaded keys in memory until the command that waited for them has run.
#[derive(Debug)]
pub struct Pins {
    server: Arc<Server>,
    keys: Vec<TierKey>,
}

impl Pins {
    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let keys = std::mem::take(&mut self.keys);
            self.server.now_or_later(move |keyspace| {
                for key in &keys {
                    keyspace.unpin_tier(key);
                }
            });
        }
    }
}

impl Server {
    /// Waits until the command may be tried again; the error is its reply.
    pub async fn wait_for(
        self: Arc<Self>,
        wait: Wait,
        budget: &mut WaitBudget,
    ) -> Result<Pins, CommandError> {
        match wait {
            Wait::Nothing | Wait::Unpaused => {}
            Wait::Script => self.scripting.wait_idle().await,
            Wait::Released => {
                if let Some(services) = self.services.get() {
                    services.wait_released().await;
                }
            }
            Wait::Load(keys) => {
                budget.count_load()?;
                return self.load_keys(keys).await;
            }
            // Not for who called: it comes into memory.
            Wait::Read(read) => {
                if let Some(read) = read.done().await {
                    read.give_up_later(&self);
                }
            }
            Wait::Pace(wait) => tokio::time::sleep(wait).await,
            Wait::Memory => {
                let limit = self.memory_wait();
                budget
                    .progress
                    .get_or_insert_with(|| self.memory.progress());
                let deadline = *budget
                    .memory_deadline
                    .get_or_insert_with(|| Instant::now() + limit);
                let left = deadline.saturating_duration_since(Instant::now());
                let turn = *budget.memory_turn.get_or_insert_with(|| self.memory.turn());
                // Half of the time tiering may make the room; then keys go, where they may.
                let patient = left.saturating_sub(limit / 2);
                let mut has_room = self.memory.wait_for_room(patient, turn).await;
                if !has_room {
                    self.memory.press();
                    has_room = self.memory.wait_for_room(left - patient, turn).await;
                }
                if !has_room && !budget.may_wait_on(self.memory.progress()) {
                    return Err(self.refusal_of_memory());
                }
            }
            // An error means that the keyspace, and with it the server, is gone.
            Wait::Latched(mut released) => drop(released.changed().await),
            Wait::Snapshot | Wait::Tier => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        Ok(Pins {
            server: self,
            keys: Vec::new(),
        })
    }

    /// How long a command waits for memory. Not as long where others have waited so long before
    /// in vain for a tier that takes nothing.
    fn memory_wait(&self) -> Duration {
        match self.memory.tier_health().map(Health::closed_for) {
            Some(closed) if closed > MEMORY_WAIT_MAX => MEMORY_WAIT_CLOSED_MAX,
            _ => MEMORY_WAIT_MAX,
        }
    }

    fn refusal_of_memory(&self) -> CommandError {
        match self.memory.tier_health().and_then(Health::refusal) {
            Some(text) => CommandError::text(text),
            None => CommandError::fixed("OOM command not allowed when used memory > 'maxmemory'."),
        }
    }

    /// Brings keys into memory and pins them.
    async fn load_keys(self: Arc<Self>, keys: Vec<(usize, Vec<u8>)>) -> Result<Pins, CommandError> {
        let (mut waiting, mut reads) = (Vec::new(), Vec::new());
        let mut pinned = Vec::with_capacity(keys.len());
        {
            let mut keyspace = self.keyspace_when_idle().await;
            for (db, key) in &keys {
                pinned.push(keyspace.tier_key(*db, key));
                if let Join::Wait { done, start } = keyspace.join_load(*db, key) {
                    reads.extend(start);
                    waiting.push(done);
                }
            }
        }
        self.readers.request(reads);
        // Made before the first await: a connection that goes away meanwhile unpins.
        let pins = Pins {
            server: self,
            keys: pinned,
        };
        for done in waiting {
            match done.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(CommandError::tier(error)),
                Err(_) => return Err(SHUTTING_DOWN),
            }
        }
        Ok(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_tier_that_makes_room_waits_on_but_not_for_ever() {
        let mut budget = WaitBudget {
            progress: Some(1000),
            ..WaitBudget::default()
        };
        for wait in 1..MEMORY_WAITS_MAX {
            assert!(budget.may_wait_on(1000 + u64::from(wait)));
        }
        assert!(!budget.may_wait_on(u64::MAX));
    }

    #[test]
    fn who_waits_for_a_tier_that_takes_nothing_is_refused() {
        let mut budget = WaitBudget {
            progress: Some(1000),
            ..WaitBudget::default()
        };
        assert!(!budget.may_wait_on(1000));
    }
}
