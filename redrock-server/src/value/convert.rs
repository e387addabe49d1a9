//! Collections as libs/rdb decodes them, turned into the forms that commands work on.

use super::hash::Hash;
use super::set::Set;
use super::zset::ZSet;
use super::{Limits, Object};
use redrock_rdb::object::{self, ObjectError};

/// Converts a decoded collection.
pub fn collection(decoded: object::Object, limits: &Limits) -> Result<Object, ObjectError> {
    match decoded {
        object::Object::String(bytes) => Ok(Object::Raw(bytes)),
        object::Object::ZSetListpack(pack) => Ok(Object::ZSet(ZSet::from_pack(pack, limits)?)),
        object::Object::ZSet(mut elements) => {
            Ok(Object::ZSet(ZSet::from_elements(&mut elements, limits)?))
        }
        object::Object::HashListpack(pack) => hash(Hash::from_listpack(pack, limits)),
        object::Object::Hash(pairs) => hash(Hash::from_pairs(pairs, limits)),
        object::Object::HashTtl(fields) => hash(Hash::from_timed_fields(fields, limits)),
        object::Object::SetIntset(ints) => set(Set::from_intset(ints, limits)),
        object::Object::SetListpack(pack) => set(Set::from_listpack(pack, limits)),
        object::Object::Set(members) => set(Set::from_members(members.into_iter(), limits)),
        object::Object::List(_) | object::Object::Stream(_) => Err(ObjectError::EmptyKey),
    }
}

/// The decoder has checked for repeated elements: what is refused here is empty.
fn hash(hash: Option<Hash>) -> Result<Object, ObjectError> {
    hash.map(Object::Hash).ok_or(ObjectError::EmptyKey)
}

fn set(set: Option<Set>) -> Result<Object, ObjectError> {
    set.map(Object::Set).ok_or(ObjectError::EmptyKey)
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Decoded, decode_payload, encode};
    use super::*;
    use std::sync::Arc;

    fn round_trip(object: &Object, limits: &Limits) -> Arc<Object> {
        let mut record = Vec::new();
        encode(object.as_value_ref(), &mut record);
        match decode_payload(record[0], &record[1..], limits) {
            Ok(Decoded::Heap(object)) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hashes_of_every_encoding_survive_a_round_trip() {
        let limits = Limits {
            hash_listpack_entries_max: 128,
            ..Limits::default()
        };
        for (count, encoding) in [(1, "listpack"), (128, "listpack"), (129, "hashtable")] {
            let pairs: Vec<_> = (0..count)
                .map(|n| (format!("f{n}"), format!("{n}")))
                .collect();
            let built = Hash::from_pairs(pairs_of(&pairs), &limits).expect("not empty");
            let object = round_trip(&Object::Hash(built), &limits);
            let Object::Hash(again) = &*object else {
                panic!("{object:?}")
            };
            assert_eq!((again.encoding(), again.len()), (encoding, count));
            for (field, value) in &pairs {
                let found = again.get(field.as_bytes()).expect("is there");
                assert!(found.eq_bytes(value.as_bytes()));
            }
        }
    }

    fn pairs_of(pairs: &[(String, String)]) -> std::collections::BTreeMap<&str, &str> {
        pairs
            .iter()
            .map(|(field, value)| (field.as_str(), value.as_str()))
            .collect()
    }

    #[test]
    fn sets_of_every_encoding_survive_a_round_trip() {
        let limits = Limits::default();
        let cases = [
            ("", 512, "intset"),
            ("m", 128, "listpack"),
            ("m", 600, "hashtable"),
        ];
        for (prefix, count, encoding) in cases {
            let members: Vec<_> = (0..count).map(|n| format!("{prefix}{n}")).collect();
            let built = Set::from_members(members.iter(), &limits).expect("not empty");
            let object = round_trip(&Object::Set(built), &limits);
            let Object::Set(again) = &*object else {
                panic!("{object:?}")
            };
            assert_eq!((again.encoding(), again.len()), (encoding, count));
            assert!(
                members
                    .iter()
                    .all(|member| again.contains(member.as_bytes()))
            );
        }
    }
}
