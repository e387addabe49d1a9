//! Going on with a tier that holds keys already: a warm start.
//!
//! The keys of the kept checkpoint have no entry in memory, as others that have left it
//! ([`super::tiering`]): a database only has to know how many there are. What was dirty at the cut is
//! loaded from the file's head as any entry, and the counts of the cut are true again.

use super::cold::warm::WarmStart;
use super::position::Positioner;
use super::{Database, Keyspace};

impl Keyspace {
    /// The secret of the keys' positions.
    pub fn positioner(&self) -> Positioner {
        self.positioner
    }

    /// The tier holds what `start` says. Called before the first key; an error leaves all as it was.
    pub fn restore_cold(&mut self, start: &WarmStart) -> Result<(), String> {
        let beyond = start.databases.iter().find(|d| d.index >= self.live);
        if let Some(beyond) = beyond {
            return Err(format!("it holds keys of database {}", beyond.index));
        }
        let used = start.databases.iter().map(|d| d.generation).max();
        let mut next = used.map_or(0, |used| used.saturating_add(1));
        for database in &mut self.databases {
            *database = Database::new(next, self.positioner, &self.field_expiry);
            next = next.saturating_add(1);
        }
        self.next_generation = next;
        for warm in &start.databases {
            let database = &mut self.databases[warm.index];
            database.generation = warm.generation;
            database.keys = warm.cold;
        }
        Ok(())
    }

    /// The dirty part has been loaded: what it left uncounted is counted.
    pub fn complete_cold(&mut self, start: &WarmStart) -> Result<(), String> {
        for warm in &start.databases {
            let database = &mut self.databases[warm.index];
            if database.keys != warm.keys {
                return Err(format!(
                    "database {} has {} keys where {} were counted",
                    warm.index, database.keys, warm.keys
                ));
            }
            database.expires = warm.expires;
            database.add_timed(warm.timed.saturating_sub(database.timed));
        }
        Ok(())
    }
}
