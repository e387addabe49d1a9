//! Sets of options, by their number in the table.

use super::table::OPTIONS;

const WORDS: usize = OPTIONS.len().div_ceil(64);

/// A set of options; a copy is a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OptionSet([u64; WORDS]);

impl OptionSet {
    /// Every option.
    pub fn all() -> Self {
        let mut all = Self::default();
        (0..OPTIONS.len()).for_each(|index| all.insert(index));
        all
    }

    /// Adds option number `index`.
    pub fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Whether option number `index` is in it.
    pub fn contains(&self, index: usize) -> bool {
        let word = self.0.get(index / 64);
        word.is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// What is in both.
    pub fn common(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, theirs) in both.0.iter_mut().zip(other.0) {
            *word &= theirs;
        }
        both
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(number * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for OptionSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut set = Self::default();
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: OptionSet = [3, 64, 70].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 70]);
        assert!(set.contains(64) && !set.contains(65) && !set.contains(9999));
        let other: OptionSet = [1, 70].into_iter().collect();
        assert_eq!(set.common(&other).iter().collect::<Vec<_>>(), [70]);
        assert!(set.common(&[4].into_iter().collect()).is_empty());
        assert_eq!(OptionSet::all().iter().count(), OPTIONS.len());
    }
}
