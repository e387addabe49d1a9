//! A plain LRU cache of a number of keys, to compare with.

/// No neighbour.
const NONE: u32 = u32::MAX;

/// See the module.
pub(crate) struct Lru {
    /// Neighbours by key, the one used before and the one used after; equal to itself: not there.
    links: Vec<(u32, u32)>,
    newest: u32,
    oldest: u32,
    count: u64,
    count_max: u64,
}

impl Lru {
    /// For key numbers below `keys`.
    pub(crate) fn new(keys: u64, count_max: u64) -> Self {
        Self {
            links: (0..keys as u32).map(|key| (key, key)).collect(),
            newest: NONE,
            oldest: NONE,
            count: 0,
            count_max,
        }
    }

    /// Uses a key; whether it was there.
    pub(crate) fn touch(&mut self, key: u64) -> bool {
        let key = key as u32;
        let found = self.links[key as usize] != (key, key);
        if found {
            self.remove(key);
        } else if self.count == self.count_max {
            self.remove(self.oldest);
        }
        self.links[key as usize] = (self.newest, NONE);
        match self.newest {
            NONE => self.oldest = key,
            newest => self.links[newest as usize].1 = key,
        }
        self.newest = key;
        self.count += 1;
        found
    }

    fn remove(&mut self, key: u32) {
        let (before, after) = std::mem::replace(&mut self.links[key as usize], (key, key));
        match before {
            NONE => self.oldest = after,
            before => self.links[before as usize].1 = after,
        }
        match after {
            NONE => self.newest = before,
            after => self.links[after as usize].0 = before,
        }
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut lru = Lru::new(5, 2);
        let found: Vec<bool> = [0, 1, 0, 2, 1, 2, 0].map(|key| lru.touch(key)).into();
        assert_eq!(found, [false, false, true, false, false, true, false]);
    }
}
