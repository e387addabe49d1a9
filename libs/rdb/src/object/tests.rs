use proptest::collection::{hash_map, hash_set, vec};
use proptest::prelude::*;

use super::*;
use crate::object::stream::{
    StreamConsumer, StreamGroup, StreamId, StreamMeta, StreamNode, StreamPending,
};

/// Strings of every kind: numbers, short, compressible, random.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        (-70_000i32..70_000).prop_map(|value| value.to_string().into_bytes()),
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 20usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn pairs(max: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    hash_map(text(), text(), 1..max).prop_map(|map| map.into_iter().collect())
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("not a number", |score| !score.is_nan()),
        Just(f64::INFINITY),
        (-100i32..100).prop_map(f64::from),
    ]
}

fn listpack_of<T: AsRef<[u8]>>(elements: impl IntoIterator<Item = T>) -> ListPack {
    elements.into_iter().collect()
}

fn stream_id() -> impl Strategy<Value = StreamId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| StreamId { ms, seq })
}

/// A node of one entry for each pair, all with their own field, half of them
/// marked deleted.
fn stream_node(master_id: StreamId, entries: &[(Vec<u8>, Vec<u8>)]) -> StreamNode {
    let deleted = entries.len() / 2;
    let mut listpack = ListPack::new();
    listpack.push_back_int((entries.len() - deleted) as i64);
    listpack.push_back_int(deleted as i64);
    listpack.push_back_int(1);
    listpack.push_back(b"field");
    listpack.push_back_int(0);
    for (index, (field, value)) in entries.iter().enumerate() {
        let same_fields = index % 3 == 0;
        let flags = i64::from(index < deleted) | i64::from(same_fields) << 1;
        listpack.push_back_int(flags);
        listpack.push_back_int(0);
        listpack.push_back_int(index as i64);
        if same_fields {
            listpack.push_back(value);
            listpack.push_back_int(4);
        } else {
            listpack.push_back_int(1);
            listpack.push_back(field);
            listpack.push_back(value);
            listpack.push_back_int(6);
        }
    }
    StreamNode {
        master_id,
        entries: listpack,
    }
}

fn group() -> impl Strategy<Value = StreamGroup> {
    let entry = (any::<i64>(), 0u64..1000, 0usize..3);
    let pending = hash_map(stream_id(), entry, 0..12);
    (
        text(),
        stream_id(),
        proptest::option::of(0u64..1 << 62),
        pending,
    )
        .prop_map(|(name, last_id, entries_read, pending)| {
            let mut consumers: Vec<StreamConsumer> = (0..3)
                .map(|index| StreamConsumer {
                    name: format!("consumer-{index}").into_bytes(),
                    seen_time_ms: 1_700_000_000_000 + index,
                    active_time_ms: index - 1,
                    pending: Vec::new(),
                })
                .collect();
            let mut all = Vec::new();
            for (id, (delivery_time_ms, delivery_count, owner)) in pending {
                all.push(StreamPending {
                    id,
                    delivery_time_ms,
                    delivery_count,
                });
                consumers[owner].pending.push(id);
            }
            all.sort_by_key(|pending| pending.id);
            for consumer in &mut consumers {
                consumer.pending.sort();
            }
            StreamGroup {
                name,
                last_id,
                entries_read,
                pending: all,
                consumers,
            }
        })
}

fn stream_object() -> impl Strategy<Value = Object> {
    let nodes = hash_map(stream_id(), pairs(6), 1..5);
    let ids = (stream_id(), stream_id(), stream_id());
    (nodes, ids, any::<u64>(), any::<u64>(), vec(group(), 0..3)).prop_map(
        |(nodes, (last_id, first_id, max_deleted_id), length, entries_added, mut groups)| {
            let mut nodes: Vec<StreamNode> = nodes
                .iter()
                .map(|(&id, entries)| stream_node(id, entries))
                .collect();
            nodes.sort_by_key(|node| node.master_id);
            groups.sort_by(|a, b| a.name.cmp(&b.name));
            groups.dedup_by(|a, b| a.name == b.name);
            let meta = StreamMeta {
                length,
                last_id,
                first_id,
                max_deleted_id,
                entries_added,
            };
            Object::Stream(StreamObject {
                nodes,
                meta,
                groups,
            })
        },
    )
}

fn object() -> impl Strategy<Value = Object> {
    let intset = hash_set(any::<i64>(), 1..50);
    let members = || hash_set(text(), 1..30);
    let scored = || hash_map(text(), score(), 1..30);
    let ttl = hash_map(text(), (text(), proptest::option::of(1u64..1 << 47)), 1..30);
    prop_oneof![
        text().prop_map(Object::String),
        vec(text(), 1..60).prop_map(|elements| {
            let mut builder = ListBuilder::new();
            elements.iter().for_each(|element| builder.push(element));
            Object::List(builder.finish())
        }),
        vec(any::<u8>(), 1..40).prop_map(|element| Object::List(vec![ListNode::Plain(element)])),
        intset.prop_map(|integers| Object::SetIntset(integers.into_iter().collect())),
        members().prop_map(|members| Object::SetListpack(listpack_of(members))),
        members().prop_map(|members| Object::Set(members.into_iter().collect())),
        scored().prop_map(|members| {
            let flat = members
                .into_iter()
                .flat_map(|(m, s)| [m, format!("{s:e}").into_bytes()]);
            Object::ZSetListpack(listpack_of(flat))
        }),
        scored().prop_map(|members| Object::ZSet(members.into_iter().collect())),
        pairs(30).prop_map(|pairs| {
            Object::HashListpack(listpack_of(pairs.into_iter().flat_map(|(f, v)| [f, v])))
        }),
        pairs(30).prop_map(Object::Hash),
        ttl.prop_map(|fields| {
            let fields = fields
                .into_iter()
                .map(|(field, (value, at))| (field, value, at));
            Object::HashTtl(fields.collect())
        }),
        stream_object(),
    ]
}

fn encoded(object: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    object.encode(&mut out);
    out
}

/// What a target before version 11 makes of an object.
fn as_in_version_10(object: &Object) -> Object {
    match object.clone() {
        Object::SetListpack(members) => {
            Object::Set(members.iter().map(|member| member.to_vec()).collect())
        }
        Object::Stream(mut stream) => {
            for consumer in stream
                .groups
                .iter_mut()
                .flat_map(|group| &mut group.consumers)
            {
                consumer.active_time_ms = consumer.seen_time_ms;
            }
            Object::Stream(stream)
        }
        same => same,
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(object in object()) {
        let payload = encoded(&object);
        prop_assert_eq!(&decode(object.object_type(), &payload).unwrap(), &object);
        prop_assert_eq!(walk(object.object_type(), &payload).unwrap(), payload.len());
        let normal = normalize(object.object_type(), &payload).unwrap();
        prop_assert!(matches!(normal.payload, std::borrow::Cow::Borrowed(_)));
        prop_assert_eq!(normal.object_type, object.object_type());
    }

    #[test]
    fn a_walk_stops_at_the_end_and_a_copy_takes_no_more(object in object(), tail: Vec<u8>) {
        let payload = encoded(&object);
        let joined = [&payload[..], &tail[..]].concat();
        prop_assert_eq!(walk(object.object_type(), &joined).unwrap(), payload.len());
        let mut rest = &joined[..];
        let mut copy = Vec::new();
        copy_value(&mut rest, object.object_type(), &mut copy, payload.len()).unwrap();
        prop_assert_eq!(copy, payload.clone());
        prop_assert_eq!(rest, &tail[..]);
        let mut copy = Vec::new();
        let short = copy_value(&mut &payload[..], object.object_type(), &mut copy, payload.len() - 1);
        prop_assert!(matches!(short, Err(ObjectError::TooLarge { .. })), "{:?}", short);
    }

    #[test]
    fn a_cut_value_is_truncated(object in object(), at: prop::sample::Index) {
        let payload = encoded(&object);
        let cut = &payload[..at.index(payload.len())];
        let walked = walk(object.object_type(), cut);
        prop_assert!(matches!(walked, Err(ObjectError::Truncated { .. })), "{:?}", walked);
        let copied = copy_value(&mut &cut[..], object.object_type(), &mut Vec::new(), usize::MAX);
        prop_assert!(matches!(copied, Err(ObjectError::Truncated { .. })), "{:?}", copied);
        prop_assert!(decode(object.object_type(), cut).is_err());
    }

    #[test]
    fn transcoding_keeps_the_value(object in object(), version in 10u16..=12, compress: bool) {
        let payload = encoded(&object);
        let target = Target { version, compress };
        let mut out = b"before".to_vec();
        let result = transcode(object.object_type(), &payload, target, &mut out);
        if matches!(object, Object::HashTtl(_)) && version < 12 {
            let not_in_version = matches!(result, Err(ObjectError::NotInVersion { .. }));
            prop_assert!(not_in_version, "{:?}", result);
            prop_assert_eq!(out, b"before");
            return Ok(());
        }
        let transcoded = result.unwrap();
        let written = &out[6..];
        prop_assert!(types::version_of(transcoded.object_type) <= version);
        prop_assert_eq!(walk(transcoded.object_type, written).unwrap(), written.len());
        let back = decode(transcoded.object_type, written).unwrap();
        let expected = if version == 10 { as_in_version_10(&object) } else { object.clone() };
        prop_assert_eq!(&back, &expected);
        if transcoded.copied {
            prop_assert_eq!(written, &payload[..]);
            prop_assert_eq!(transcoded.object_type, object.object_type());
        }
        if compress {
            // Decompressing gives the superset form back, byte for byte where
            // the version holds the type.
            let normal = normalize(transcoded.object_type, written).unwrap();
            if normal.object_type == object.object_type() && version > 10 {
                prop_assert_eq!(&normal.payload[..], &payload[..]);
            }
        } else if Transcoder::new(target).copies(object.object_type()) {
            prop_assert!(transcoded.copied);
        }
    }

    #[test]
    fn random_bytes_never_panic(object_type in 0u8..=30, payload in vec(any::<u8>(), 0..300)) {
        let _ = decode(object_type, &payload);
        let _ = normalize(object_type, &payload);
        let _ = walk(object_type, &payload);
        let target = Target { version: 10, compress: true };
        let _ = transcode(object_type, &payload, target, &mut Vec::new());
    }

    #[test]
    fn damaged_values_never_panic(
        object in object(),
        other_type in proptest::option::of(0u8..=30),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut payload = encoded(&object);
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let object_type = other_type.unwrap_or(object.object_type());
        let walked = walk(object_type, &payload);
        // What decodes has sound structure and encodes to itself.
        if let Ok(decoded) = decode(object_type, &payload) {
            prop_assert_eq!(walked.unwrap(), payload.len());
            let again = encoded(&decoded);
            prop_assert_eq!(&decode(decoded.object_type(), &again).unwrap(), &decoded);
            let normal = normalize(object_type, &payload).unwrap();
            prop_assert_eq!(&decode(normal.object_type, &normal.payload).unwrap(), &decoded);
        }
        let target = Target { version: 10, compress: true };
        let _ = transcode(object_type, &payload, target, &mut Vec::new());
    }
}

fn reject(object_type: u8, payload: &[u8]) -> String {
    decode(object_type, payload)
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn duplicates_are_refused_in_every_encoding() {
    let blob = |elements: &[&str]| {
        let mut out = Vec::new();
        encode::blob(&mut out, listpack_of(elements).as_bytes());
        out
    };
    let mut set = Vec::new();
    encode::set(&mut set, 2, ["a", "a"].iter());
    let mut hash = Vec::new();
    encode::hash(&mut hash, 2, [("a", "1"), ("a", "2")].into_iter());
    let mut zset = Vec::new();
    encode::zset(&mut zset, 2, [("a", 1.0), ("a", 2.0)].into_iter());
    let mut ttl = Vec::new();
    encode::hash_ttl(
        &mut ttl,
        2,
        None,
        [("a", "1", None), ("a", "2", None)].into_iter(),
    );
    for (object_type, payload) in [
        (types::SET, set),
        (types::HASH, hash),
        (types::ZSET_2, zset),
        (types::HASH_METADATA, ttl),
        (types::SET_LISTPACK, blob(&["a", "7", "7"])),
        (types::HASH_LISTPACK, blob(&["a", "1", "a", "2"])),
        (types::ZSET_LISTPACK, blob(&["a", "1", "a", "2"])),
        (
            types::HASH_LISTPACK_EX_PRE_GA,
            blob(&["a", "1", "0", "a", "2", "0"]),
        ),
    ] {
        let text = reject(object_type, &payload);
        assert!(text.contains("duplicate element"), "{object_type}: {text}");
    }
    // Fields are unique, values are not.
    assert!(decode(types::HASH_LISTPACK, &blob(&["a", "1", "b", "1"])).is_ok());
    assert!(reject(types::HASH_LISTPACK, &blob(&["a", "1", "b"])).contains("incomplete"));
}

#[test]
fn empty_collections_are_told_apart_from_damage() {
    let mut empty_listpack = Vec::new();
    encode::blob(&mut empty_listpack, ListPack::new().as_bytes());
    let mut list = vec![1, encode::NODE_PACKED as u8];
    list.extend_from_slice(&empty_listpack);
    for (object_type, payload) in [
        (types::SET, vec![0]),
        (types::HASH, vec![0]),
        (types::ZSET_2, vec![0]),
        (types::LIST, vec![0]),
        (types::LIST_QUICKLIST_2, vec![0]),
        (types::LIST_QUICKLIST_2, list),
        (types::SET_LISTPACK, empty_listpack.clone()),
        (types::HASH_LISTPACK, empty_listpack.clone()),
        (types::ZSET_LISTPACK, empty_listpack),
    ] {
        let decoded = decode(object_type, &payload);
        assert!(
            matches!(decoded, Err(ObjectError::EmptyKey)),
            "{object_type}: {decoded:?}"
        );
        let normal = normalize(object_type, &payload);
        assert!(
            matches!(normal, Err(ObjectError::EmptyKey)),
            "{object_type}: {normal:?}"
        );
    }
}

#[test]
fn scores_that_are_no_numbers_are_refused() {
    let mut zset = Vec::new();
    encode::zset(&mut zset, 1, [("a", f64::NAN)].into_iter());
    assert!(reject(types::ZSET_2, &zset).contains("not a number"));
    assert!(reject(types::ZSET, b"\x01\x01a\xfd").contains("not a number"));
    assert!(reject(types::ZSET, b"\x01\x01a\x03x.5").contains("not a number"));
    let decoded = decode(types::ZSET, b"\x02\x01a\xff\x01b\x041.25").unwrap();
    let expected = vec![(b"a".to_vec(), f64::NEG_INFINITY), (b"b".to_vec(), 1.25)];
    assert_eq!(decoded, Object::ZSet(expected));
}

#[test]
fn a_false_count_allocates_nothing_to_speak_of() {
    // A count of 2^60 and an LZF string of stated 2^40 bytes.
    let mut set = Vec::new();
    encode::length(&mut set, 1 << 60);
    assert!(matches!(
        decode(types::SET, &set),
        Err(ObjectError::Truncated { .. })
    ));
    let mut string = vec![0xc3, 1];
    encode::length(&mut string, 1 << 40);
    string.push(0);
    assert!(decode(types::STRING, &string).is_err());
    assert!(normalize(types::STRING, &string).is_err());
}

#[test]
fn module_values_are_skipped_and_named() {
    // "testmod01" in six bits a character, version 3, then every field type.
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = b"testmod01".iter().fold(0u64, |id, byte| {
        id << 6 | ALPHABET.iter().position(|letter| letter == byte).unwrap() as u64
    }) << 10
        | 3;
    let mut payload = Vec::new();
    encode::length(&mut payload, id);
    payload.extend_from_slice(b"\x02\x05\x01\x06\x03ffff\x04dddddddd\x05\x03abc\x00");
    assert_eq!(walk(types::MODULE_2, &payload).unwrap(), payload.len());
    assert!(reject(types::MODULE_2, &payload).contains("'testmod01'"));
    assert!(normalize(types::MODULE_2, &payload).is_ok());
    assert!(matches!(
        decode(types::MODULE_PRE_GA, &[]),
        Err(ObjectError::ModulePreGa)
    ));
    assert!(matches!(decode(8, &[]), Err(ObjectError::UnknownType(8))));
}

#[test]
fn older_streams_get_what_redis_estimates() {
    let entries = [
        (b"f".to_vec(), b"v".to_vec()),
        (b"f".to_vec(), b"w".to_vec()),
    ];
    let master = StreamId { ms: 100, seq: 5 };
    let node = stream_node(master, &entries);
    let mut payload = Vec::new();
    encode::length(&mut payload, 1);
    encode::blob(&mut payload, &master.to_bytes());
    encode::blob(&mut payload, node.entries.as_bytes());
    // One live entry, the second: 100-6, which is the last one too. One group
    // that has read all and has a pending entry of consumer "c".
    for number in [1, 100, 6, 1] {
        encode::length(&mut payload, number);
    }
    payload.extend_from_slice(b"\x01g");
    for number in [100, 6, 1] {
        encode::length(&mut payload, number);
    }
    payload.extend_from_slice(&StreamId { ms: 100, seq: 6 }.to_bytes());
    payload.extend_from_slice(&77i64.to_le_bytes());
    payload.extend_from_slice(b"\x02\x01\x01c");
    payload.extend_from_slice(&88i64.to_le_bytes());
    encode::length(&mut payload, 1);
    payload.extend_from_slice(&StreamId { ms: 100, seq: 6 }.to_bytes());

    let Object::Stream(stream) = decode(types::STREAM_LISTPACKS, &payload).unwrap() else {
        panic!("not a stream");
    };
    let last = StreamId { ms: 100, seq: 6 };
    let meta = StreamMeta {
        length: 1,
        last_id: last,
        first_id: last,
        max_deleted_id: StreamId::default(),
        entries_added: 1,
    };
    assert_eq!(stream.meta, meta);
    assert_eq!(stream.groups[0].entries_read, Some(1));
    assert_eq!(stream.groups[0].consumers[0].active_time_ms, 88);
    assert_eq!(stream.groups[0].pending[0].delivery_count, 2);
    let normal = normalize(types::STREAM_LISTPACKS, &payload).unwrap();
    assert_eq!(normal.object_type, types::STREAM_LISTPACKS_3);
    assert_eq!(
        decode(normal.object_type, &normal.payload).unwrap(),
        Object::Stream(stream)
    );
}
