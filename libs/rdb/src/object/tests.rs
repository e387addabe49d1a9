use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::object::stream::{StreamConsumer, StreamGroup, StreamId, StreamMeta, StreamPending};
use generate::{listpack_of, object, stream_node};

mod generate;

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

/// Whether some field of a hash expires.
fn has_times(object: &Object) -> bool {
    matches!(object, Object::HashTtl(fields) if fields.iter().any(|(_, _, time)| time.is_some()))
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
        if has_times(&object) && version < 12 {
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
        let expected = match &object {
            Object::HashTtl(fields) if version < 12 => {
                let pairs = fields.iter().map(|(field, value, _)| (field.clone(), value.clone()));
                Object::Hash(pairs.collect())
            }
            _ if version == 10 => as_in_version_10(&object),
            _ => object.clone(),
        };
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
    fn a_string_is_kept_or_written_as_transcoding_has_it(
        text in prop_oneof![vec(any::<u8>(), 0..300), vec(0u8..3, 0..300)],
        compress: bool,
    ) {
        let mut plain = Vec::new();
        super::encode::string(&mut plain, &text);
        let mut compressed = Vec::new();
        let with = Target { version: 10, compress: true };
        transcode(types::STRING, &plain, with, &mut compressed).unwrap();
        let target = Target { version: 10, compress };
        for payload in [plain, compressed] {
            let mut expected = b"before".to_vec();
            let transcoded = transcode(types::STRING, &payload, target, &mut expected).unwrap();
            let mut out = b"before".to_vec();
            let kept = Transcoder::new(target).keeps_string(&payload, &mut out).unwrap();
            prop_assert_eq!(kept, transcoded.copied);
            if kept {
                prop_assert_eq!(&out, b"before");
                out.extend_from_slice(&payload);
            }
            prop_assert_eq!(out, expected);
        }
        let cut = Transcoder::new(target).keeps_string(&[5, b'a'], &mut Vec::new());
        prop_assert!(cut.is_err());
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

/// A ziplist of strings of at most 63 bytes each.
fn ziplist(elements: &[&str]) -> Vec<u8> {
    let mut entries = Vec::new();
    let (mut previous_len, mut last_at) = (0, 10);
    for element in elements {
        last_at = 10 + entries.len();
        entries.extend_from_slice(&[previous_len, element.len() as u8]);
        entries.extend_from_slice(element.as_bytes());
        previous_len = element.len() as u8 + 2;
    }
    let mut bytes = (11 + entries.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(last_at as u32).to_le_bytes());
    bytes.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&entries);
    bytes.push(0xff);
    bytes
}

#[test]
fn lists_of_ziplists_become_lists_of_listpacks() {
    let mut payload = vec![3];
    encode::blob(&mut payload, &ziplist(&["a", "12"]));
    encode::blob(&mut payload, &ziplist(&[]));
    encode::blob(&mut payload, &ziplist(&["b"]));
    let nodes = vec![
        ListNode::Packed(listpack_of(["a", "12"])),
        ListNode::Packed(listpack_of(["b"])),
    ];
    assert_eq!(
        decode(types::LIST_QUICKLIST, &payload).unwrap(),
        Object::List(nodes.clone())
    );
    let normal = normalize(types::LIST_QUICKLIST, &payload).unwrap();
    assert_eq!(normal.object_type, types::LIST_QUICKLIST_2);
    assert_eq!(
        decode(normal.object_type, &normal.payload).unwrap(),
        Object::List(nodes)
    );
}

#[test]
fn fields_with_expiry_are_read_in_all_four_encodings() {
    let far = 1u64 << 41;
    let expected = Object::HashTtl(vec![
        (b"a".to_vec(), b"1".to_vec(), Some(far)),
        (b"b".to_vec(), b"2".to_vec(), Some(far + 9)),
        (b"c".to_vec(), b"3".to_vec(), None),
    ]);
    let texts = [far.to_string(), (far + 9).to_string()];
    let elements = ["a", "1", &texts[0], "b", "2", &texts[1], "c", "3", "0"];
    let mut small = Vec::new();
    encode::blob(&mut small, listpack_of(elements).as_bytes());
    let small_with_minimum = [&far.to_le_bytes()[..], &small].concat();
    let mut absolute = vec![3];
    for (expire_ms, pair) in [
        (far, b"\x01a\x011"),
        (far + 9, b"\x01b\x012"),
        (0, b"\x01c\x013"),
    ] {
        encode::length(&mut absolute, expire_ms);
        absolute.extend_from_slice(pair);
    }
    for (object_type, payload) in [
        (types::HASH_LISTPACK_EX_PRE_GA, small),
        (types::HASH_LISTPACK_EX, small_with_minimum),
        (types::HASH_METADATA_PRE_GA, absolute),
        (types::HASH_METADATA, encoded(&expected)),
    ] {
        assert_eq!(
            decode(object_type, &payload).unwrap(),
            expected,
            "{object_type}"
        );
        let normal = normalize(object_type, &payload).unwrap();
        assert!(types::is_superset_type(normal.object_type));
        assert_eq!(
            decode(normal.object_type, &normal.payload).unwrap(),
            expected
        );
    }
}

#[test]
fn stream_groups_are_checked_as_redis_does() {
    let id = StreamId { ms: 1, seq: 1 };
    let pending = StreamPending {
        id,
        delivery_time_ms: 1,
        delivery_count: 1,
    };
    let consumer = |name: &str, pending: Vec<StreamId>| StreamConsumer {
        name: name.into(),
        pending,
        ..StreamConsumer::default()
    };
    let group = |pending: Vec<StreamPending>, consumers: Vec<StreamConsumer>| {
        let group = StreamGroup {
            name: b"g".to_vec(),
            pending,
            consumers,
            ..Default::default()
        };
        encoded(&Object::Stream(StreamObject {
            groups: vec![group],
            ..Default::default()
        }))
    };
    let good = group(
        vec![pending],
        vec![consumer("a", vec![id]), consumer("b", vec![])],
    );
    assert!(decode(types::STREAM_LISTPACKS_3, &good).is_ok());
    for (payload, reason) in [
        (
            group(vec![pending], vec![consumer("a", vec![])]),
            "without consumer",
        ),
        (
            group(vec![], vec![consumer("a", vec![id])]),
            "not pending in its group",
        ),
        (
            group(vec![pending, pending], vec![consumer("a", vec![id])]),
            "duplicate pending",
        ),
        (
            group(vec![], vec![consumer("a", vec![]), consumer("a", vec![])]),
            "duplicate consumer",
        ),
        (
            group(
                vec![pending],
                vec![consumer("a", vec![id]), consumer("b", vec![id])],
            ),
            "of two consumers",
        ),
    ] {
        let text = reject(types::STREAM_LISTPACKS_3, &payload);
        assert!(text.contains(reason), "{text}");
    }
}
