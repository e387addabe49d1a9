//! How many keys a snapshot says that it holds, and how many it held.
//!
//! A checksum tells that a file arrived as it was written, not that all of it was written. Redis
//! and we name the keys of each database before its first one; a sender that does not is believed.

use std::collections::BTreeSet;

/// A snapshot that holds more or less than it says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot says that it has {announced} keys, but holds {found}")]
pub(super) struct WrongCount {
    announced: u64,
    found: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KeyCount {
    announced: u64,
    found: u64,
    /// Databases of which the keys were named.
    sized: BTreeSet<u64>,
    database: u64,
    is_sized: bool,
    /// A key came in a database of which the keys were not named.
    is_partial: bool,
}

impl KeyCount {
    /// What follows is in this database, which may come several times.
    pub(super) fn select(&mut self, database: u64) {
        self.database = database;
        self.is_sized = self.sized.contains(&database);
    }

    /// The selected database has so many keys.
    pub(super) fn announce(&mut self, keys: u64) {
        if self.sized.insert(self.database) {
            self.announced = self.announced.saturating_add(keys);
        }
        self.is_sized = true;
    }

    /// A key came, whether it is taken or left out.
    pub(super) fn add(&mut self) {
        self.found += 1;
        self.is_partial |= !self.is_sized;
    }

    /// All keys have come.
    pub(super) fn check(&self) -> Result<(), WrongCount> {
        let (announced, found) = (self.announced, self.found);
        if self.is_partial || announced == found {
            return Ok(());
        }
        Err(WrongCount { announced, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a snapshot of databases, each with what it names and what it has, counts to.
    fn count(databases: &[(u64, Option<u64>, u64)]) -> Result<(), WrongCount> {
        let mut count = KeyCount::default();
        for (database, announced, keys) in databases {
            count.select(*database);
            if let Some(announced) = announced {
                count.announce(*announced);
            }
            (0..*keys).for_each(|_| count.add());
        }
        count.check()
    }

    #[test]
    fn all_named_keys_must_come_in_however_many_parts() {
        assert_eq!(count(&[]), Ok(()));
        assert_eq!(count(&[(0, Some(3), 3), (5, Some(1), 1)]), Ok(()));
        assert_eq!(
            count(&[(0, Some(3), 1), (5, Some(1), 1), (0, None, 2)]),
            Ok(())
        );
        let wrong = |announced, found| Err(WrongCount { announced, found });
        assert_eq!(count(&[(0, Some(3), 2)]), wrong(3, 2));
        assert_eq!(count(&[(0, Some(3), 4)]), wrong(3, 4));
        assert_eq!(count(&[(0, Some(3), 0), (1, Some(0), 0)]), wrong(3, 0));
    }

    #[test]
    fn a_sender_that_names_no_numbers_is_believed() {
        assert_eq!(count(&[(0, None, 3)]), Ok(()));
        assert_eq!(count(&[(0, Some(9), 3), (1, None, 1)]), Ok(()));
    }
}
