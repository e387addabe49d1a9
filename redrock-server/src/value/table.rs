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

use super::random::select;
use hashbrown::HashSet;
use rand::random_range;
use siphasher::sip::SipHasher13;
use std::sync::OnceLock;

/// Elements in a bucket before it chains.
const SLOTS: usize = 6;
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

#[derive(Debug, Clone)]
struct Bucket<T> {
    tags: [u8; SLOTS],
    count: u8,
    slots: [Option<T>; SLOTS],
    next: Option<Box<Bucket<T>>>,
}

impl<T: Keyed> Bucket<T> {
    const EMPTY: Self = Self {
        tags: [0; SLOTS],
        count: 0,
        slots: [const { None }; SLOTS],
        next: None,
    };

    #[inline]
    fn find(&self, tag: u8, key: &[u8]) -> Option<&T> {
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
    fn find_mut(&mut self, tag: u8, key: &[u8]) -> Option<&mut T> {
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
    fn push(&mut self, tag: u8, element: T) -> usize {
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
    fn pop(&mut self) -> Option<(u8, T)> {
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
    fn take(&mut self, tag: u8, key: &[u8]) -> Option<T> {
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
    fn chain_len(&self) -> usize {
        let mut len = usize::from(self.count);
        let mut bucket = self;
        while let Some(next) = &bucket.next {
            bucket = next;
            len += usize::from(bucket.count);
        }
        len
    }

    /// Element `index` of the chain.
    fn nth(&self, mut index: usize) -> Option<&T> {
        let mut bucket = self;
        while index >= SLOTS {
            index -= SLOTS;
            bucket = bucket.next.as_deref()?;
        }
        bucket.slots.get(index)?.as_ref()
    }

    fn for_each<'a>(&'a self, visit: &mut impl FnMut(&'a T)) {
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

/// See [`Table::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    segments: std::slice::Iter<'a, Vec<Bucket<T>>>,
    buckets: std::slice::Iter<'a, Bucket<T>>,
    bucket: Option<&'a Bucket<T>>,
    slot: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(bucket) = self.bucket {
                if self.slot < usize::from(bucket.count) {
                    let element = bucket.slots.get(self.slot)?.as_ref();
                    self.slot += 1;
                    return element;
                }
                self.slot = 0;
                self.bucket = bucket.next.as_deref();
            } else if let Some(bucket) = self.buckets.next() {
                self.bucket = Some(bucket);
            } else {
                self.buckets = self.segments.next()?.iter();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::thin::ThinBytes;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn key(n: u32) -> Vec<u8> {
        n.to_string().into_bytes()
    }

    fn insert(table: &mut Table<ThinBytes>, n: u32) -> bool {
        let key = key(n);
        table.insert_with(&key, || ThinBytes::new(&key))
    }

    fn check(table: &Table<ThinBytes>) {
        let mut total = 0;
        let mut heap_bytes = 0;
        for index in 0..table.bucket_count() {
            let bucket = table.bucket(index).expect("every bucket is there");
            total += bucket.chain_len();
            assert!(bucket.chain_len() <= table.chain_max);
            bucket.for_each(&mut |element: &ThinBytes| {
                assert_eq!(table.bucket_of(hash_of(element.key())), index);
                heap_bytes += element.heap_bytes();
            });
            let mut chain = Some(bucket);
            while let Some(bucket) = chain {
                assert!(bucket.next.is_none() || usize::from(bucket.count) == SLOTS);
                chain = bucket.next.as_deref();
                assert!(chain.is_none_or(|bucket| bucket.count > 0));
            }
        }
        assert_eq!(total, table.len());
        assert_eq!(heap_bytes, table.heap_bytes);
        assert_eq!(table.iter().count(), table.len());
    }

    #[test]
    fn a_bucket_of_thin_elements_is_one_cache_line() {
        assert_eq!(size_of::<Bucket<ThinBytes>>(), 64);
    }

    #[test]
    fn growing_and_shrinking_keep_every_element_findable() {
        let mut table = Table::new();
        for n in 0..5000 {
            assert!(insert(&mut table, n));
            assert!(!insert(&mut table, n));
        }
        check(&table);
        assert!(table.bucket_count() * LOAD_MAX >= 5000);
        for n in 0..5000 {
            assert!(table.contains(&key(n)));
            assert_eq!(table.remove(&key(n)).expect("is there").as_bytes(), key(n));
            assert!(table.remove(&key(n)).is_none());
            if n % 500 == 0 {
                check(&table);
            }
        }
        assert!(table.is_empty());
        assert_eq!((table.bucket_count(), table.heap_bytes), (1, 0));
        assert!(table.random().is_none());
    }

    #[test]
    fn random_elements_are_evenly_spread() {
        let mut table = Table::new();
        (0..100).for_each(|n| assert!(insert(&mut table, n)));
        let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for _ in 0..100_000 {
            let element = table.random().expect("not empty");
            *seen.entry(element.as_bytes().to_vec()).or_default() += 1;
        }
        assert_eq!(seen.len(), 100);
        // 1000 expected each, standard deviation 31.5: seven of them either way.
        for (element, count) in seen {
            assert!(
                (780..1220).contains(&count),
                "{element:?} came {count} times"
            );
        }
    }

    #[test]
    fn a_scan_step_visits_about_as_many_as_asked() {
        let mut table = Table::new();
        (0..10_000).for_each(|n| assert!(insert(&mut table, n)));
        let mut steps = 0;
        let mut cursor = 0;
        loop {
            let mut visited = 0;
            cursor = table.scan(cursor, 100, |_| visited += 1);
            assert!(visited < 100 + 30, "a step visited {visited}");
            steps += 1;
            if cursor == 0 {
                break;
            }
        }
        assert!((70..=101).contains(&steps), "{steps} steps");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        Remove(u32),
        InsertMany(u32),
        RemoveMany(u32),
        Scan(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..400_u32).prop_map(Step::Insert),
            (0..400_u32).prop_map(Step::Remove),
            (0..2000_u32).prop_map(Step::InsertMany),
            (0..2000_u32).prop_map(Step::RemoveMany),
            (1..40_usize).prop_map(Step::Scan),
        ]
    }

    proptest! {
        #[test]
        fn a_scan_returns_what_was_there_all_the_time(steps in prop::collection::vec(step(), 1..60)) {
            let mut table = Table::new();
            let mut model: BTreeSet<Vec<u8>> = BTreeSet::new();
            let mut cursor = 0;
            let mut constant: BTreeSet<Vec<u8>> = BTreeSet::new();
            let mut returned: BTreeSet<Vec<u8>> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(n) => prop_assert_eq!(insert(&mut table, n), model.insert(key(n))),
                    Step::Remove(n) => {
                        prop_assert_eq!(table.remove(&key(n)).is_some(), model.remove(&key(n)));
                        constant.remove(&key(n));
                    }
                    Step::InsertMany(from) => for n in from..from + 300 {
                        prop_assert_eq!(insert(&mut table, n), model.insert(key(n)));
                    },
                    Step::RemoveMany(from) => for n in from..from + 300 {
                        prop_assert_eq!(table.remove(&key(n)).is_some(), model.remove(&key(n)));
                        constant.remove(&key(n));
                    },
                    Step::Scan(count) => {
                        if cursor == 0 {
                            constant.clone_from(&model);
                            returned.clear();
                        }
                        cursor = table.scan(cursor, count, |element: &ThinBytes| {
                            returned.insert(element.as_bytes().to_vec());
                        });
                        if cursor == 0 {
                            prop_assert!(constant.is_subset(&returned));
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
            check(&table);
            while cursor != 0 {
                cursor = table.scan(cursor, 7, |element: &ThinBytes| {
                    returned.insert(element.as_bytes().to_vec());
                });
                if cursor == 0 {
                    prop_assert!(constant.is_subset(&returned));
                }
            }
            let all: BTreeSet<Vec<u8>> = table.iter().map(|e| e.as_bytes().to_vec()).collect();
            prop_assert_eq!(all, model);
        }
    }
}
