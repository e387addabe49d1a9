//! Keys that the filters have denied: a command that needs a new key looks for it more than once, and asking
//! the filters of all files takes longer than all else that it does.
//!
//! What was denied is absent until it is put. A put is registered ([`super::Tiering`]), and with it the
//! denial is forgotten.

use crate::keyspace::cold::key::TierKey;
use crate::keyspace::position::KeyHash;
use std::cell::RefCell;

/// Enough for the keys of most commands.
const PLACES: usize = 64;
/// Longer names are asked for again: they are not worth the memory.
const KEY_BYTES_MAX: usize = 512;

/// The last keys that were denied, each in the place that its position gives it.
#[derive(Debug)]
pub(super) struct Denied {
    places: RefCell<[Option<TierKey>; PLACES]>,
}

impl Default for Denied {
    fn default() -> Self {
        Self {
            places: RefCell::new([const { None }; PLACES]),
        }
    }
}

fn place(position: u64) -> usize {
    position as usize % PLACES
}

impl Denied {
    /// Whether a key was denied.
    pub(super) fn has(&self, generation: u32, hash: KeyHash, key: &[u8]) -> bool {
        let denied = &self.places.borrow()[place(hash.position())];
        let denied = denied.as_ref();
        denied.is_some_and(|denied| denied.key() == key && denied.generation() == generation)
    }

    /// A key was denied.
    pub(super) fn note(&self, key: TierKey) {
        if key.key().len() <= KEY_BYTES_MAX {
            let place = place(key.position());
            self.places.borrow_mut()[place] = Some(key);
        }
    }

    /// A key may be there from now on.
    pub(super) fn forget(&self, key: &TierKey) {
        let denied = &mut self.places.borrow_mut()[place(key.position())];
        denied.take_if(|denied| denied == key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::position::Positioner;

    #[test]
    fn what_was_denied_is_known_by_database_and_name_until_it_is_put() {
        let (denied, positioner) = (Denied::default(), Positioner::new((1, 2)));
        let names = [&b"a"[..], b"b"];
        let key = |generation, name: &[u8]| TierKey::new(generation, positioner.hash(name), name);
        let has = |generation, name: &[u8]| denied.has(generation, positioner.hash(name), name);
        denied.note(key(3, names[0]));
        assert!(has(3, names[0]) && !has(4, names[0]) && !has(3, names[1]));
        denied.forget(&key(4, names[0]));
        assert!(has(3, names[0]));
        denied.forget(&key(3, names[0]));
        assert!(!has(3, names[0]));
        // Of those that share a place the last one is known.
        (0..2000u32).for_each(|n| denied.note(key(3, n.to_string().as_bytes())));
        let known = (0..2000u32).filter(|n| has(3, n.to_string().as_bytes()));
        assert_eq!(known.count(), PLACES);
        let long = [b'x'; KEY_BYTES_MAX + 1];
        denied.note(key(3, &long));
        assert!(!has(3, &long));
    }
}
