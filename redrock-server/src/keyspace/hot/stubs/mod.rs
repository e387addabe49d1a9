//! The stubs of a segment, packed: of a key whose value is in the tier only its name, type, times
//! and access data.
//!
//! All records lie in one allocation, bucket behind bucket; which bucket a key is in follows from
//! low bits of its hash (its place among the segments follows from high ones). A record is
//!
//! ```text
//! size  field
//!    1  flags: the type in the low 3 bits
//!    1  tag: eight more bits of the hash, so that few keys are compared
//!    3  access: LRU or LFU data
//! 1..5  key length in bytes, LEB128
//!  0/8  expiry, unix ms, if the key has one
//!  0/8  when the first field of a hash expires, unix ms, if any does
//!    n  key
//! ```
//!
//! so that a stub costs about 7 bytes beside key and expiry, and the rest of its share of an
//! allocation whose sizes are those of the allocator's classes, 12 to 25 % apart.
//!
//! Adding and removing move what lies behind: some KiB, as a segment is split by bytes too
//! ([`Stubs::is_large`]). There are no holes.
//!
//! Invariants: a stub is clean (I6), so it needs neither epoch nor dirty flag; `starts` has a power of
//! two of elements in ascending order, the first of them 0, or none where there are no stubs; records
//! end where the bytes do.

#[cfg(test)]
mod tests;

use crate::keyspace::position::KeyHash;
use crate::value::ObjectType;
use std::ops::Range;

/// Keys longer than this have no stub: they leave memory with their values.
pub const STUB_KEY_BYTES_MAX: usize = 64 << 10;

const TYPE_MASK: u8 = 0b111;
const FLAG_EXPIRE: u8 = 1 << 3;
const FLAG_FIELDS: u8 = 1 << 4;
const FLAG_IN_FLIGHT: u8 = 1 << 5;

/// Flags, tag and access data.
const HEAD_BYTES: usize = 5;
const TIME_BYTES: usize = 8;
/// Stubs in a bucket past which, on average, there are to be more buckets.
const BUCKET_MAX: usize = 6;
/// What they are then to have.
const BUCKET_GOOD: usize = 4;
/// Bytes and stubs past which a segment is split.
const LARGE_BYTES: usize = 64 << 10;
const LARGE_STUBS_MIN: usize = 16;

/// What is known of a key whose value is in the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stub<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// The type of its value.
    pub object_type: ObjectType,
    /// Its expiry, unix ms.
    pub expire: Option<i64>,
    /// When the first field of a hash expires, unix ms.
    pub fields: Option<i64>,
    /// 24 bits of LRU clock or LFU counter.
    pub access: u32,
    /// The put of its value is queued and not applied yet: the tier can't be read for it.
    pub in_flight: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Stubs {
    bytes: Vec<u8>,
    /// Where each bucket begins.
    starts: Box<[u32]>,
    count: usize,
}

/// Where a record and its parts are.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    times_at: usize,
    key_at: usize,
    end: usize,
    flags: u8,
    tag: u8,
}

fn tag_of(hash: KeyHash) -> u8 {
    (hash.bits() >> 8) as u8
}

/// The allocator's size class for so many bytes: what is asked for below it is lost.
fn size_class(bytes: usize) -> usize {
    let spacing = bytes.max(128).next_power_of_two() / 8;
    bytes.next_multiple_of(spacing)
}

/// The record at `at`; `None` at the end.
#[inline]
fn place(bytes: &[u8], at: usize) -> Option<Place> {
    let record = bytes.get(at..)?;
    let (head, rest) = record.split_at_checked(HEAD_BYTES)?;
    let (flags, tag) = (head[0], head[1]);
    let (mut length, mut width) = (0, 0);
    for &byte in rest {
        length |= usize::from(byte & 0x7f) << (7 * width);
        width += 1;
        if byte < 0x80 {
            break;
        }
    }
    let times = usize::from(flags & FLAG_EXPIRE != 0) + usize::from(flags & FLAG_FIELDS != 0);
    let times_at = at + HEAD_BYTES + width;
    let key_at = times_at + times * TIME_BYTES;
    Some(Place {
        at,
        times_at,
        key_at,
        end: key_at + length,
        flags,
        tag,
    })
}

impl Stubs {
    /// Number of stubs.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes allocated, without those of this value.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes.capacity() + size_of_val(&*self.starts)
    }

    /// Whether there are so many bytes that moving them takes long.
    pub fn is_large(&self) -> bool {
        self.bytes.len() > LARGE_BYTES && self.count >= LARGE_STUBS_MIN
    }

    fn bucket(&self, hash: KeyHash) -> usize {
        hash.bits() as usize & self.starts.len().saturating_sub(1)
    }

    fn range(&self, bucket: usize) -> Range<usize> {
        let border = |bucket: usize| self.starts.get(bucket).map(|&start| start as usize);
        let end = border(bucket + 1).unwrap_or(self.bytes.len());
        border(bucket).unwrap_or(end)..end
    }

    fn places(&self, range: Range<usize>) -> impl Iterator<Item = Place> {
        let bytes = self.bytes.get(..range.end).unwrap_or_default();
        let first = place(bytes, range.start);
        std::iter::successors(first, move |last| place(bytes, last.end))
    }

    #[inline]
    fn locate(&self, hash: KeyHash, key: &[u8]) -> Option<Place> {
        let tag = tag_of(hash);
        self.places(self.range(self.bucket(hash)))
            .find(|place| place.tag == tag && self.bytes.get(place.key_at..place.end) == Some(key))
    }

    fn time(&self, at: usize) -> Option<i64> {
        let bytes = self.bytes.get(at..at + TIME_BYTES)?;
        bytes.try_into().ok().map(i64::from_le_bytes)
    }

    fn read(&self, place: Place) -> Stub<'_> {
        let (has_expire, has_fields) = (
            place.flags & FLAG_EXPIRE != 0,
            place.flags & FLAG_FIELDS != 0,
        );
        let access = self.bytes.get(place.at + 2..place.at + HEAD_BYTES);
        let access = access.unwrap_or_default().iter().rev();
        let fields_at = place.key_at - TIME_BYTES * usize::from(has_fields);
        Stub {
            key: self.bytes.get(place.key_at..place.end).unwrap_or_default(),
            object_type: ObjectType::from_index((place.flags & TYPE_MASK).into()),
            expire: has_expire.then(|| self.time(place.times_at)).flatten(),
            fields: has_fields.then(|| self.time(fields_at)).flatten(),
            access: access.fold(0, |all, &byte| all << 8 | u32::from(byte)),
            in_flight: place.flags & FLAG_IN_FLIGHT != 0,
        }
    }

    /// The stub of a key.
    pub fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Stub<'_>> {
        self.locate(hash, key).map(move |place| self.read(place))
    }

    /// The stubs of which the key has this hash.
    pub fn with_hash(
        &self,
        hash: KeyHash,
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> impl Iterator<Item = Stub<'_>> {
        let tag = tag_of(hash);
        self.places(self.range(self.bucket(hash)))
            .filter(move |place| place.tag == tag)
            .map(move |place| self.read(place))
            .filter(move |stub| hasher(stub.key) == hash)
    }

    /// All stubs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Stub<'_>> {
        self.places(0..self.bytes.len())
            .map(move |place| self.read(place))
    }

    /// Adds the stub of a key that has none.
    pub fn insert(&mut self, hash: KeyHash, stub: &Stub<'_>, hasher: impl Fn(&[u8]) -> KeyHash) {
        if self.count >= BUCKET_MAX * self.starts.len() {
            let all = self.places(0..self.bytes.len());
            let all = all.map(|place| (hasher(self.read(place).key), place.at..place.end));
            let all = all.collect();
            *self = Self::build(&self.bytes, all);
        }
        let mut head = [0; HEAD_BYTES + 5 + 2 * TIME_BYTES];
        let head = write_head(&mut head, hash, stub);
        let bucket = self.bucket(hash);
        let (at, end) = (self.range(bucket).end, self.bytes.len());
        let added = head.len() + stub.key.len();
        if end + added > self.bytes.capacity() {
            self.bytes.reserve_exact(size_class(end + added) - end);
        }
        self.bytes.resize(end + added, 0);
        self.bytes.copy_within(at..end, at + added);
        let (head_end, key_end) = (at + head.len(), at + added);
        self.bytes[at..head_end].copy_from_slice(head);
        self.bytes[head_end..key_end].copy_from_slice(stub.key);
        for start in self.starts.iter_mut().skip(bucket + 1) {
            *start += added as u32;
        }
        self.count += 1;
    }

    /// Removes a key's stub; its bytes.
    pub fn remove(&mut self, hash: KeyHash, key: &[u8]) -> Option<usize> {
        let Place { at, end, .. } = self.locate(hash, key)?;
        self.bytes.drain(at..end);
        let bucket = self.bucket(hash);
        for start in self.starts.iter_mut().skip(bucket + 1) {
            *start -= (end - at) as u32;
        }
        self.count -= 1;
        if self.count == 0 {
            *self = Self::default();
            return Some(end - at);
        }
        // Some room is left, so that a stub that comes and goes copies nothing.
        let enough = size_class(self.bytes.len() + self.bytes.len() / 8);
        if enough < self.bytes.capacity() {
            self.bytes.shrink_to(enough);
        }
        Some(end - at)
    }

    /// Sets or removes a stub's expiry; false if there is no stub.
    pub fn set_expire(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        expire: Option<i64>,
        hasher: impl Fn(&[u8]) -> KeyHash,
    ) -> bool {
        let Some(place) = self.locate(hash, key) else {
            return false;
        };
        if (place.flags & FLAG_EXPIRE != 0) != expire.is_some() {
            let Stub {
                object_type,
                fields,
                access,
                in_flight,
                ..
            } = self.read(place);
            self.remove(hash, key);
            let stub = Stub {
                key,
                object_type,
                expire,
                fields,
                access,
                in_flight,
            };
            self.insert(hash, &stub, hasher);
        } else if let Some(ms) = expire {
            let room = place.times_at..place.times_at + TIME_BYTES;
            self.bytes[room].copy_from_slice(&ms.to_le_bytes());
        }
        true
    }

    /// Sets a stub's 24 bits of access data; false if there is no stub.
    pub fn set_access(&mut self, hash: KeyHash, key: &[u8], access: u32) -> bool {
        let found = self.locate(hash, key);
        if let Some(place) = found {
            let room = place.at + 2..place.at + HEAD_BYTES;
            self.bytes[room].copy_from_slice(&access.to_le_bytes()[..3]);
        }
        found.is_some()
    }

    /// The put of a stub's value is applied; false if there is no stub.
    pub fn end_flight(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        let found = self.locate(hash, key);
        if let Some(place) = found {
            self.bytes[place.at] = place.flags & !FLAG_IN_FLIGHT;
        }
        found.is_some()
    }

    /// Divides the stubs: those of which the hash `is_high` come second.
    pub fn split(
        &self,
        hasher: impl Fn(&[u8]) -> KeyHash,
        is_high: impl Fn(KeyHash) -> bool,
    ) -> (Self, Self) {
        let all = self.places(0..self.bytes.len());
        let all = all.map(|place| (hasher(self.read(place).key), place.at..place.end));
        let (high, low): (Vec<_>, Vec<_>) = all.partition(|(hash, _)| is_high(*hash));
        let half = |records: Vec<_>| match records.is_empty() {
            true => Self::default(),
            false => Self::build(&self.bytes, records),
        };
        (half(low), half(high))
    }

    /// Packs some of the records of `source`.
    fn build(source: &[u8], mut records: Vec<(KeyHash, Range<usize>)>) -> Self {
        let buckets = (records.len() / BUCKET_GOOD).max(1).next_power_of_two();
        let bucket = |hash: KeyHash| hash.bits() as usize & (buckets - 1);
        records.sort_unstable_by_key(|(hash, _)| bucket(*hash));
        let total: usize = records.iter().map(|(_, range)| range.len()).sum();
        let mut bytes = Vec::with_capacity(size_class(total));
        let mut starts = Vec::with_capacity(buckets);
        for (hash, range) in &records {
            while starts.len() <= bucket(*hash) {
                starts.push(bytes.len() as u32);
            }
            bytes.extend_from_slice(&source[range.clone()]);
        }
        starts.resize(buckets, bytes.len() as u32);
        Self {
            bytes,
            starts: starts.into_boxed_slice(),
            count: records.len(),
        }
    }
}

/// What stands before the key.
fn write_head<'b>(
    room: &'b mut [u8; HEAD_BYTES + 5 + 2 * TIME_BYTES],
    hash: KeyHash,
    stub: &Stub<'_>,
) -> &'b [u8] {
    let mut flags = stub.object_type as u8;
    for (flag, on) in [
        (FLAG_EXPIRE, stub.expire.is_some()),
        (FLAG_FIELDS, stub.fields.is_some()),
        (FLAG_IN_FLIGHT, stub.in_flight),
    ] {
        flags |= if on { flag } else { 0 };
    }
    (room[0], room[1]) = (flags, tag_of(hash));
    room[2..HEAD_BYTES].copy_from_slice(&stub.access.to_le_bytes()[..3]);
    let (mut at, mut length) = (HEAD_BYTES, stub.key.len());
    while length >= 0x80 {
        room[at] = length as u8 | 0x80;
        length >>= 7;
        at += 1;
    }
    room[at] = length as u8;
    at += 1;
    for ms in [stub.expire, stub.fields].into_iter().flatten() {
        room[at..at + TIME_BYTES].copy_from_slice(&ms.to_le_bytes());
        at += TIME_BYTES;
    }
    &room[..at]
}
