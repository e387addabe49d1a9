//! The element table of large hashes, sets and sorted sets: a hash table that grows and shrinks
//! one bucket at a time, can be scanned with a stateless cursor, and gives fair random elements.
//!
//! **Linear hashing.** With `2^level + split` buckets, an element's bucket is the low `level`
//! bits of its hash, or the low `level + 1` bits if that bucket is below `split`, which means that
//! it has been divided already. An insertion past the target load divides bucket `split`; a
//! removal below the low mark merges the last bucket back. So there is no rehash of the whole
//! table, never two tables in memory, and no pause that grows with the collection.
//!
//! **Scan cursor.** As in Redis, a cursor is a bucket number whose bits are counted from the top:
//! all elements whose bit-reversed hash is below the bit-reversed cursor have been returned.
//! That is a property of hashes, not of the table's size, so whatever is present during a whole
//! scan is returned, however the table changes meanwhile; and a value that went to disk and came
//! back continues where it was, since one secret keys all tables of the process.
//!
//! **Buckets** hold six elements with a byte of hash each, a cache line when elements are 8 bytes;
//! what exceeds that goes into a chained bucket. Invariant: a chain has no holes: only its last
//! bucket may be less than full.

mod bucket;
mod iter;

use super::random::select;
use bucket::Bucket;
use hashbrown::HashSet;
pub use iter::Iter;
use rand::random_range;
use siphasher::sip::SipHasher13;
use std::sync::OnceLock;

/// Buckets are allocated in segments of this many, so that growing never moves them.
const SEGMENT_BUCKETS: usize = 256;
/// A table grows above this many elements a bucket on average...
const LOAD_MAX: usize = 4;
/// ...and shrinks below 3/2, which leaves room between the two.
const LOAD_MIN_HALVES: usize = 3;

/// What a table can hold: something identified by a byte string.
pub trait Keyed {
    /// The bytes it is found by; they must not change while it is in a table.
    fn key(&self) -> &[u8];
    /// Bytes it holds on the heap.
    fn heap_bytes(&self) -> usize;
}

impl Keyed for super::thin::ThinBytes {
    #[inline]
    fn key(&self) -> &[u8] {
        self.as_bytes()
    }
    #[inline]
    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

impl Keyed for super::thin::Pair {
    #[inline]
    fn key(&self) -> &[u8] {
        self.field()
    }
    #[inline]
    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

/// A keyed hash of an element, the same in all tables of the process.
#[inline]
fn hash_of(key: &[u8]) -> u64 {
    static HASHER: OnceLock<SipHasher13> = OnceLock::new();
    HASHER
        .get_or_init(|| SipHasher13::new_with_keys(rand::random(), rand::random()))
        .hash(key)
}

/// The byte kept beside an element; bucket numbers come from the other end of the hash.
#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Table<T> {
    segments: Vec<Vec<Bucket<T>>>,
    level: u32,
    split: usize,
    len: usize,
    /// No chain has ever been longer since the table was made.
    chain_max: usize,
    /// Sum of the elements' `heap_bytes`.
    heap_bytes: usize,
}

impl<T: Keyed> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Keyed> Table<T> {
    /// An empty table of one bucket.
    pub fn new() -> Self {
        Self {
            segments: vec![vec![Bucket::EMPTY]],
            level: 0,
            split: 0,
            len: 0,
            chain_max: 0,
            heap_bytes: 0,
        }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, elements included: exact but for the allocator's rounding and chained
    /// buckets, which are estimated.
    pub fn memory_bytes(&self) -> usize {
        let buckets = self
            .segments
            .iter()
            .take(1)
            .map(Vec::capacity)
            .sum::<usize>()
            + self.segments.len().saturating_sub(1) * SEGMENT_BUCKETS;
        // About a tenth of the buckets chain, averaged over a round of growing.
        (buckets + self.bucket_count() / 10) * size_of::<Bucket<T>>()
            + self.segments.capacity() * size_of::<Vec<Bucket<T>>>()
            + self.heap_bytes
            // An allocation is rounded up by an eighth at most above 128 bytes, else to 16.
            + self.len * 4
    }

    #[inline]
    fn bucket_count(&self) -> usize {
        (1 << self.level) + self.split
    }

    #[inline]
    fn bucket_of(&self, hash: u64) -> usize {
        let low = hash as usize & ((1 << self.level) - 1);
        if low < self.split {
            hash as usize & ((2 << self.level) - 1)
        } else {
            low
        }
    }

    #[inline]
    fn bucket(&self, index: usize) -> Option<&Bucket<T>> {
        self.segments
            .get(index / SEGMENT_BUCKETS)?
            .get(index % SEGMENT_BUCKETS)
    }

    #[inline]
    fn bucket_mut(&mut self, index: usize) -> Option<&mut Bucket<T>> {
        self.segments
            .get_mut(index / SEGMENT_BUCKETS)?
            .get_mut(index % SEGMENT_BUCKETS)
    }

    /// The element with this key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&T> {
        let hash = hash_of(key);
        self.bucket(self.bucket_of(hash))?.find(tag_of(hash), key)
    }

    /// Whether there is an element with this key.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Changes the element with this key, if there is one; its key must stay.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let hash = hash_of(key);
        let index = self.bucket_of(hash);
        let element = self.bucket_mut(index)?.find_mut(tag_of(hash), key)?;
        let before = element.heap_bytes();
        let result = change(element);
        let after = element.heap_bytes();
        debug_assert!(
            element.key() == key,
            "an element's key changed in its table"
        );
        self.heap_bytes = self.heap_bytes + after - before;
        Some(result)
    }

    /// Adds the element that `make` makes for `key` unless there is one; true if added.
    pub fn insert_with(&mut self, key: &[u8], make: impl FnOnce() -> T) -> bool {
        let hash = hash_of(key);
        let index = self.bucket_of(hash);
        if self
            .bucket(index)
            .is_none_or(|bucket| bucket.find(tag_of(hash), key).is_some())
        {
            return false;
        }
        self.add(hash, make());
        true
    }

    /// Changes the element with this key or adds the one that `make` makes; true if added.
    pub fn upsert(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T),
        make: impl FnOnce() -> T,
    ) -> bool {
        let hash = hash_of(key);
        let index = self.bucket_of(hash);
        if let Some(element) = self
            .bucket_mut(index)
            .and_then(|bucket| bucket.find_mut(tag_of(hash), key))
        {
            let before = element.heap_bytes();
            change(element);
            let after = element.heap_bytes();
            self.heap_bytes = self.heap_bytes + after - before;
            return false;
        }
        self.add(hash, make());
        true
    }

    /// Adds an element whose key is known to be absent.
    fn add(&mut self, hash: u64, element: T) {
        let heap_bytes = element.heap_bytes();
        let index = self.bucket_of(hash);
        if let Some(bucket) = self.bucket_mut(index) {
            let chain_len = bucket.push(tag_of(hash), element);
            self.chain_max = self.chain_max.max(chain_len);
            self.len += 1;
            self.heap_bytes += heap_bytes;
        }
        if self.len > self.bucket_count() * LOAD_MAX {
            self.grow();
        }
    }

    /// Takes out the element with this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        let hash = hash_of(key);
        let index = self.bucket_of(hash);
        let element = self.bucket_mut(index)?.take(tag_of(hash), key)?;
        self.len -= 1;
        self.heap_bytes -= element.heap_bytes();
        if 2 * self.len < self.bucket_count() * LOAD_MIN_HALVES {
            self.shrink();
        }
        Some(element)
    }

    /// Divides bucket `split` in two.
    fn grow(&mut self) {
        let low = self.split;
        let high = low + (1 << self.level);
        match self.segments.last_mut() {
            // The first segment grows like any vector, so that small tables stay small.
            Some(segment) if segment.len() < SEGMENT_BUCKETS => segment.push(Bucket::EMPTY),
            _ => {
                let mut segment = Vec::with_capacity(SEGMENT_BUCKETS);
                segment.push(Bucket::EMPTY);
                self.segments.push(segment);
            }
        }
        self.split += 1;
        if self.split == 1 << self.level {
            self.level += 1;
            self.split = 0;
        }
        let Some(bucket) = self.bucket_mut(low) else {
            return;
        };
        let mut whole = std::mem::replace(bucket, Bucket::EMPTY);
        while let Some((tag, element)) = whole.pop() {
            let home = self.bucket_of(hash_of(element.key()));
            debug_assert!(
                home == low || home == high,
                "an element left its bucket's pair"
            );
            if let Some(bucket) = self.bucket_mut(home) {
                bucket.push(tag, element);
            }
        }
    }

    /// Merges the last bucket into the one that it was divided from.
    fn shrink(&mut self) {
        if self.bucket_count() <= 1 {
            return;
        }
        if self.split == 0 {
            self.level -= 1;
            self.split = 1 << self.level;
        }
        self.split -= 1;
        let low = self.split;
        let Some(segment) = self.segments.last_mut() else {
            return;
        };
        let Some(mut last) = segment.pop() else {
            return;
        };
        if segment.is_empty() {
            self.segments.pop();
        } else if self.segments.len() == 1
            && let Some(segment) = self.segments.first_mut()
            && segment.len() * 4 <= segment.capacity()
        {
            segment.shrink_to(segment.len() * 2);
        }
        let mut chain_max = self.chain_max;
        let Some(bucket) = self.bucket_mut(low) else {
            return;
        };
        while let Some((tag, element)) = last.pop() {
            chain_max = chain_max.max(bucket.push(tag, element));
        }
        self.chain_max = chain_max;
    }

    /// All elements, in the order of their buckets.
    pub fn iter(&self) -> Iter<'_, T> {
        let mut segments = self.segments.iter();
        let buckets = segments
            .next()
            .map(|segment| segment.iter())
            .unwrap_or_default();
        Iter {
            segments,
            buckets,
            bucket: None,
            slot: 0,
        }
    }

    /// A random element, each with the same probability.
    ///
    /// Picks a place at random among as many as the longest chain times the buckets, until it
    /// finds one taken: a handful of tries, since the load is bounded from below.
    pub fn random(&self) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        let buckets = self.bucket_count();
        loop {
            let place = random_range(0..buckets * self.chain_max.max(1));
            let found = self.bucket(place / self.chain_max.max(1))?;
            if let Some(element) = found.nth(place % self.chain_max.max(1)) {
                return Some(element);
            }
        }
    }

    /// Visits `count` different random elements, or all if there are no more. Which ones is
    /// random; the order is not.
    pub fn random_distinct<'a>(&'a self, count: usize, mut visit: impl FnMut(&'a T)) {
        // Drawing again and again wears on as fewer are left: Redis changes over here too.
        if count > self.len / 3 {
            select(self.iter(), self.len, count, visit);
            return;
        }
        let mut drawn = HashSet::with_capacity(count);
        while drawn.len() < count {
            let Some(element) = self.random() else { return };
            if drawn.insert(std::ptr::from_ref(element)) {
                visit(element);
            }
        }
    }

    /// One step of a scan: visits the elements of one or more buckets, at least `count` elements
    /// unless that takes more than `10 * count` buckets, and returns the cursor to go on with,
    /// which is 0 at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(&'a T)) -> u64 {
        let mut cursor = cursor;
        let mut visited = 0;
        for _ in 0..=count.saturating_mul(10) {
            let low_mask = (1_u64 << self.level) - 1;
            let low = cursor & low_mask;
            let mask = if (low as usize) < self.split {
                (2_u64 << self.level) - 1
            } else {
                low_mask
            };
            if let Some(bucket) = self.bucket((cursor & mask) as usize) {
                visited += bucket.chain_len();
                bucket.for_each(&mut visit);
            }
            // Counts up the masked bits from the top one down.
            cursor = (cursor | !mask)
                .reverse_bits()
                .wrapping_add(1)
                .reverse_bits();
            if cursor == 0 || visited >= count {
                break;
            }
        }
        cursor
    }
}

impl<T: Keyed> Extend<T> for Table<T> {
    /// Adds elements; one whose key is there already is dropped.
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            let hash = hash_of(element.key());
            let index = self.bucket_of(hash);
            let found = self
                .bucket(index)
                .and_then(|b| b.find(tag_of(hash), element.key()));
            if found.is_none() {
                self.add(hash, element);
            }
        }
    }
}

#[cfg(test)]
mod tests;
