//! A bucket of the element table, with the buckets chained to it.

use super::Keyed;

/// Elements in a bucket before it chains.
pub(super) const SLOTS: usize = 6;

#[derive(Debug, Clone)]
pub(super) struct Bucket<T> {
    tags: [u8; SLOTS],
    pub(super) count: u8,
    pub(super) slots: [Option<T>; SLOTS],
    pub(super) next: Option<Box<Bucket<T>>>,
}

impl<T: Keyed> Bucket<T> {
    pub(super) const EMPTY: Self = Self {
        tags: [0; SLOTS],
        count: 0,
        slots: [const { None }; SLOTS],
        next: None,
    };

    #[inline]
    pub(super) fn find(&self, tag: u8, key: &[u8]) -> Option<&T> {
        let mut bucket = self;
        loop {
            for (slot, &slot_tag) in bucket.slots.iter().zip(&bucket.tags) {
                if slot_tag == tag
                    && let Some(element) = slot
                    && element.key() == key
                {
                    return Some(element);
                }
            }
            bucket = bucket.next.as_deref()?;
        }
    }

    #[inline]
    pub(super) fn find_mut(&mut self, tag: u8, key: &[u8]) -> Option<&mut T> {
        let mut bucket = self;
        loop {
            let at = bucket.position(tag, key);
            if let Some(at) = at {
                return bucket.slots.get_mut(at)?.as_mut();
            }
            bucket = bucket.next.as_deref_mut()?;
        }
    }

    /// The slot of an element in this very bucket.
    #[inline]
    fn position(&self, tag: u8, key: &[u8]) -> Option<usize> {
        self.slots
            .iter()
            .zip(&self.tags)
            .position(|(slot, &slot_tag)| {
                slot_tag == tag && slot.as_ref().is_some_and(|element| element.key() == key)
            })
    }

    /// Adds an element at the end of the chain; returns the chain's new length.
    pub(super) fn push(&mut self, tag: u8, element: T) -> usize {
        let mut bucket = self;
        let mut before = 0;
        while usize::from(bucket.count) == SLOTS {
            before += SLOTS;
            bucket = bucket.next.get_or_insert_with(|| Box::new(Self::EMPTY));
        }
        let at = usize::from(bucket.count);
        if let (Some(slot), Some(slot_tag)) = (bucket.slots.get_mut(at), bucket.tags.get_mut(at)) {
            *slot = Some(element);
            *slot_tag = tag;
            bucket.count += 1;
        }
        before + at + 1
    }

    /// Takes the last element of the chain, and frees the chained bucket that it leaves empty.
    pub(super) fn pop(&mut self) -> Option<(u8, T)> {
        if let Some(next) = &mut self.next {
            let popped = next.pop();
            if next.count == 0 {
                self.next = None;
            }
            return popped;
        }
        let at = usize::from(self.count.checked_sub(1)?);
        self.count -= 1;
        Some((self.tags.get(at).copied()?, self.slots.get_mut(at)?.take()?))
    }

    /// Takes an element out and fills its place with the chain's last one.
    pub(super) fn take(&mut self, tag: u8, key: &[u8]) -> Option<T> {
        // The chain's last element is taken first: it is either the one wanted or its successor.
        self.find(tag, key)?;
        let (last_tag, last) = self.pop()?;
        if last_tag == tag && last.key() == key {
            return Some(last);
        }
        let mut bucket = self;
        loop {
            if let Some(at) = bucket.position(tag, key) {
                *bucket.tags.get_mut(at)? = last_tag;
                return bucket.slots.get_mut(at)?.replace(last);
            }
            bucket = bucket.next.as_deref_mut()?;
        }
    }

    /// Number of elements of the chain.
    pub(super) fn chain_len(&self) -> usize {
        let mut len = usize::from(self.count);
        let mut bucket = self;
        while let Some(next) = &bucket.next {
            bucket = next;
            len += usize::from(bucket.count);
        }
        len
    }

    /// Element `index` of the chain.
    pub(super) fn nth(&self, mut index: usize) -> Option<&T> {
        let mut bucket = self;
        while index >= SLOTS {
            index -= SLOTS;
            bucket = bucket.next.as_deref()?;
        }
        bucket.slots.get(index)?.as_ref()
    }

    pub(super) fn for_each<'a>(&'a self, visit: &mut impl FnMut(&'a T)) {
        let mut bucket = self;
        loop {
            bucket.slots.iter().flatten().for_each(&mut *visit);
            match &bucket.next {
                Some(next) => bucket = next,
                None => return,
            }
        }
    }
}
