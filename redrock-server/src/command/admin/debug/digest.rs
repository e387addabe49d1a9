//! The digest of values and of the whole data set, as Redis 7.0 computes it (`debug.c`): equal
//! data gives equal digests on both, in whatever order it is stored.
//!
//! Unordered parts are XORed, ordered parts are chained. Scores are written with 17 significant
//! digits as in Redis 7.0, the oracle of our tests; 7.2 writes the shortest form instead.

use crate::value::ValueRef;
use crate::value::number::format_g17;
use crate::value::stream::{ID_MAX, ID_MIN};
use redrock_rdb::listpack::LpValue;
use sha1::{Digest as _, Sha1};

/// A digest under construction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest([u8; 20]);

impl Digest {
    /// Adds something unordered.
    pub(super) fn xor(&mut self, data: &[u8]) {
        let hash = Sha1::digest(data);
        for (byte, other) in self.0.iter_mut().zip(hash) {
            *byte ^= other;
        }
    }

    /// Adds something whose place matters.
    pub(super) fn mix(&mut self, data: &[u8]) {
        self.xor(data);
        let mut chained = [0; 20];
        chained.copy_from_slice(&Sha1::digest(self.0));
        self.0 = chained;
    }

    fn mix_item(&mut self, item: LpValue<'_>) {
        match item {
            LpValue::Int(n) => self.mix(itoa::Buffer::new().format(n).as_bytes()),
            LpValue::Str(bytes) => self.mix(bytes),
        }
    }

    fn xor_item(&mut self, item: LpValue<'_>) {
        match item {
            LpValue::Int(n) => self.xor(itoa::Buffer::new().format(n).as_bytes()),
            LpValue::Str(bytes) => self.xor(bytes),
        }
    }

    /// Adds a value with or without an expiry.
    pub(super) fn value(&mut self, value: ValueRef<'_>, has_expire: bool) {
        // Redis's numbers of types; a stream is 6 there.
        let kind: u32 = match value {
            ValueRef::Int(_) | ValueRef::Str(_) => 0,
            ValueRef::List(_) => 1,
            ValueRef::Set(_) => 2,
            ValueRef::ZSet(_) => 3,
            ValueRef::Hash(_) => 4,
            ValueRef::Stream(_) => 6,
        };
        self.mix(&kind.to_be_bytes());
        match value {
            ValueRef::Int(n) => self.mix(itoa::Buffer::new().format(n).as_bytes()),
            ValueRef::Str(bytes) => self.mix(bytes),
            ValueRef::List(list) => list.iter().for_each(|item| self.mix_item(item)),
            ValueRef::Set(set) => set.iter().for_each(|item| self.xor_item(item)),
            ValueRef::ZSet(zset) => {
                for (member, score) in zset.iter() {
                    let mut element = Self::default();
                    element.mix_item(member);
                    element.mix(format_g17(score).as_bytes());
                    self.xor(&element.0);
                }
            }
            ValueRef::Hash(hash) => match hash.timed_elements() {
                Some(elements) => elements.for_each(|element| self.field(element)),
                None => hash.iter().for_each(|(f, v)| self.field((f, v, None))),
            },
            ValueRef::Stream(stream) => {
                for entry in stream.range(ID_MIN, ID_MAX) {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.pairs() {
                        self.mix_item(field);
                        self.mix_item(value);
                    }
                }
            }
        }
        if has_expire {
            self.xor(b"!!expire!!");
        }
    }

    /// Adds a field of a hash, its value, and whether it expires.
    fn field(&mut self, (field, value, time): (LpValue<'_>, LpValue<'_>, Option<i64>)) {
        let mut element = Self::default();
        element.mix_item(field);
        element.mix_item(value);
        if time.is_some() {
            element.xor(b"!!hexpire!!");
        }
        self.xor(&element.0);
    }

    /// Adds a key with its value to the digest of a data set.
    pub(super) fn key(&mut self, key: &[u8], value: ValueRef<'_>, has_expire: bool) {
        let mut one = Self::default();
        one.mix(key);
        one.value(value, has_expire);
        self.xor(&one.0);
    }

    /// 40 hex digits.
    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Limits;
    use crate::value::zset::{AddRule, ZSet};

    fn of(value: ValueRef<'_>, has_expire: bool) -> String {
        let mut digest = Digest::default();
        digest.value(value, has_expire);
        digest.hex()
    }

    #[test]
    fn values_have_the_digests_of_redis() {
        // What redis-server 7.0.15 answers to DEBUG DIGEST-VALUE.
        let hello = "36b23a1456b2dce2c3ed252c456761301dba8060";
        assert_eq!(of(ValueRef::Str(b"hello"), false), hello);
        assert_eq!(
            of(ValueRef::Int(12345), true),
            "074a6e8892a0b0b4fcf085794cb69322c36c9d00"
        );
        let mut zset = ZSet::new();
        for (score, member) in [
            (0.1, "a"),
            (2.0, "b"),
            (f64::NEG_INFINITY, "c"),
            (1e300, "d"),
        ] {
            zset.add(
                score,
                member.as_bytes(),
                AddRule::default(),
                &Limits::default(),
            );
        }
        let digest = of(ValueRef::ZSet(&zset), false);
        assert_eq!(digest, "4914852ac44af7a2ab4c6adfb5781e17cdeb8240");
    }

    #[test]
    fn the_order_of_a_set_does_not_matter_that_of_a_list_does() {
        let limits = Limits::default();
        let set = |members: &[&str]| {
            let mut set = crate::value::set::Set::new();
            members
                .iter()
                .for_each(|m| assert!(set.add(m.as_bytes(), &limits)));
            of(ValueRef::Set(&set), false)
        };
        let list = |items: &[&[u8]]| {
            let mut list = crate::value::list::List::new();
            list.push(crate::value::list::End::Tail, items, &limits);
            of(ValueRef::List(&list), false)
        };
        assert_eq!(set(&["a", "b", "3"]), set(&["3", "b", "a"]));
        assert_ne!(list(&[b"a", b"b"]), list(&[b"b", b"a"]));
    }
}
