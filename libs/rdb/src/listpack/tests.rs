use super::*;
use crate::crc64::crc64;
use crate::intset::IntSet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn texts(listpack: &ListPack) -> Vec<Vec<u8>> {
    listpack.iter().map(|value| value.to_vec()).collect()
}

/// What DUMP of Redis 7.0.15 holds between the type byte and the version.
fn blob_of_dump<'a>(dump: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    let body = dump.strip_prefix(prefix).expect("prefix");
    let (body, footer) = body.split_at(body.len() - 10);
    assert_eq!(footer[..2], [10, 0], "RDB version");
    let checksum = crc64(0, &dump[..dump.len() - 8]);
    assert_eq!(footer[2..], checksum.to_le_bytes(), "checksum");
    body
}

/// The checksum of a DUMP payload around `blob`, whose length is written in
/// the form Redis chooses.
fn dump_checksum(type_byte: u8, blob: &[u8]) -> u64 {
    let mut dump = vec![type_byte];
    match blob.len() {
        len @ 0..=0x3F => dump.push(len as u8),
        len @ 0x40..=0x3FFF => dump.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        len => {
            dump.push(0x80);
            dump.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    dump.extend_from_slice(blob);
    dump.extend_from_slice(&[10, 0]);
    crc64(0, &dump).swap_bytes()
}

/// RPUSH of numbers at every encoding limit and of what only looks like one.
const LIST_DUMP: &[u8] = b"\x12\x01\x02A\x00\x00\x01\x00\x00\x16\x00\x85hello\x06\x7f\x01\xc0\x80\x02\xdf\xff\x02\xd0\x00\x02\xcf\xff\x02\xf1\x00\x10\x03\xf1\xff\xef\x03\xf1\xff\x7f\x03\xf2\xff\x7f\xff\x04\xf2\xff\xff\x7f\x04\xf3\xff\xff\x7f\xff\x05\xf3\xff\xff\xff\x7f\x05\xf4\xff\xff\xff\x7f\xff\xff\xff\xff\x09\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09\x939223372036854775808\x14\x83007\x04\x82-0\x03\x80\x01\xbfaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@\xe0@bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbB\xff\x0a\x00\xa7\xb3)\xffM'u\x17";

/// The same list after edits at the head, in the middle and at the tail.
const EDITED_DUMP: &[u8] = b"\x12\x01\x02@\x84\x84\x00\x00\x00\x15\x00\x81x\x02\x85hello\x06\xf4\x00\x0e\xfa\xd5\xfe\xff\xff\xff\x09\x7f\x01\xc0\x80\x02\xdf\xff\x02\xd0\x00\x02\xcf\xff\x02\xf1\x00\x10\x03\xf1\xff\xef\x03\xf1\xff\x7f\x03\xf2\xff\x7f\xff\x04\xf2\xff\xff\x7f\x04\xf3\xff\xff\x7f\xff\x05\xf3\xff\xff\xff\x7f\x05\xf4\xff\xff\xff\x7f\xff\xff\xff\xff\x09\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09\x939223372036854775808\x14\x82-0\x03\x80\x01\xff\x0a\x00$\xa3\x17\x83]\xbd\x1cK";

#[test]
fn a_list_edited_as_in_redis_has_the_bytes_of_redis() {
    let (a, b) = ("a".repeat(63), "b".repeat(64));
    let elements = [
        "hello",
        "127",
        "128",
        "-1",
        "-4096",
        "4095",
        "4096",
        "-4097",
        "32767",
        "-32769",
        "8388607",
        "-8388609",
        "2147483647",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "007",
        "-0",
        "",
        &a,
        &b,
    ];
    let mut list: ListPack = elements.iter().collect();
    assert_eq!(
        list.as_bytes(),
        blob_of_dump(LIST_DUMP, b"\x12\x01\x02A\x00")
    );
    assert!(
        list.iter()
            .map(|value| value.to_vec())
            .eq(elements.map(|e| e.as_bytes().to_vec()))
    );

    list.push_front(b"0");
    let hello = list
        .find(list.first().expect("head"), b"hello", 0)
        .expect("hello");
    let x = list.insert_before(hello, b"x");
    let hello = list.next(x).expect("hello");
    let inserted = list.insert_after(hello, b"70000");
    assert_eq!(list.seek(3), Some(inserted));
    list.replace(inserted, b"-5000000000");
    let found = list.find(inserted, b"007", 0).expect("007");
    let next = list.remove(found).expect("next");
    assert!(list.value(next).eq_bytes(b"-0"));
    list.remove_range(-2, 2);
    list.remove_range(0, 1);
    assert_eq!(
        list.as_bytes(),
        blob_of_dump(EDITED_DUMP, b"\x12\x01\x02@\x84")
    );
}

#[test]
fn a_hash_edited_as_in_redis_has_the_bytes_of_redis() {
    let before = b"\x10==\x00\x00\x00\x0a\x00\x84name\x05\x83Ada\x04\x83age\x04$\x01\x85score\x06\x84-7.5\x05\x82id\x03\xf4\xcb\x04\xfbq\x1f\x01\x00\x00\x09\x85empty\x06\x80\x01\xff\x0a\x00;\x90R1\x80\x96\x91Y";
    let after = b"\x10..\x00\x00\x00\x08\x00\x84name\x05\x0c\x01\x83age\x04\xc0\x88\x02\x82id\x03\xf4\xcb\x04\xfbq\x1f\x01\x00\x00\x09\x85empty\x06\x80\x01\xff\x0a\x00(9Y\xdfItQF";
    let mut hash: ListPack = [
        "name",
        "Ada",
        "age",
        "36",
        "score",
        "-7.5",
        "id",
        "1234567890123",
        "empty",
        "",
    ]
    .into_iter()
    .collect();
    assert_eq!(hash.as_bytes(), blob_of_dump(before, b"\x10="));
    let value_of = |hash: &ListPack, field: &[u8]| {
        let field = hash
            .find(hash.first().expect("head"), field, 1)
            .expect("field");
        hash.next(field).expect("value")
    };
    let age = value_of(&hash, b"age");
    hash.replace_int(age, 136);
    let score = value_of(&hash, b"score");
    let score = hash.prev(score).expect("field");
    hash.remove_from(score, 2);
    let name = value_of(&hash, b"name");
    hash.replace(name, b"12");
    assert_eq!(hash.as_bytes(), blob_of_dump(after, b"\x10."));
}

#[test]
fn sorted_sets_and_sets_have_the_bytes_of_redis() {
    let zset = b"\x11!!\x00\x00\x00\x08\x00\x81c\x02\x84-inf\x05\x81a\x02\x01\x01\x81b\x02\x832.5\x04\x07\x01\x0a\x01\xff\x0a\x00^\xeb%\xf7@?\xa9\x06";
    let built: ListPack = ["c", "-inf", "a", "1", "b", "2.5", "7", "10"]
        .into_iter()
        .collect();
    assert_eq!(built.as_bytes(), blob_of_dump(zset, b"\x11!"));

    let s16 = b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\xff\xff\x03\x00,\x01\x0a\x00\xdc\xfbg\xd5\xa2\x95\x1e\xde";
    let s32 = b"\x0b\x1c\x04\x00\x00\x00\x05\x00\x00\x00\x90\xee\xfe\xff\xff\xff\xff\xff\x03\x00\x00\x00,\x01\x00\x00p\x11\x01\x00\x0a\x00#\x1e\xd2\xac>k\xa8}";
    let s64 = b"\x0b0\x08\x00\x00\x00\x05\x00\x00\x00\x90\xee\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00\x00\x00\x00\x00,\x01\x00\x00\x00\x00\x00\x00p\x11\x01\x00\x00\x00\x00\x00\x0a\x003\xcc\xb6\xe7\xe8\xe73V";
    let mut set: IntSet = [3, -1, 300].into_iter().collect();
    assert_eq!(set.as_bytes(), blob_of_dump(s16, b"\x0b\x0e"));
    set.insert(70_000);
    set.insert(-70_000);
    assert_eq!(set.as_bytes(), blob_of_dump(s32, b"\x0b\x1c"));
    set.insert(1 << 40);
    set.remove(1 << 40);
    assert_eq!(set.as_bytes(), blob_of_dump(s64, b"\x0b0"));
}

#[test]
fn every_integer_width_has_the_bytes_of_redis() {
    let mut hash = ListPack::new();
    for shift in 0..63 {
        let power = 1i128 << shift;
        let around = [power - 1, power, -power, -power - 1, -power + 1];
        // For the power 1 the last one would be a field for the second time.
        for value in &around[..if shift == 0 { 4 } else { 5 }] {
            hash.push_back(format!("i{shift}:{value}").as_bytes());
            hash.push_back(value.to_string().as_bytes());
        }
    }
    hash.push_back(b"last");
    hash.push_back(b"-9223372036854775808");
    assert_eq!(dump_checksum(0x10, hash.as_bytes()), 0x2d81_c07c_125c_1f5b);
}

#[test]
fn every_string_and_backlen_width_has_the_bytes_of_redis() {
    let mut hash = ListPack::new();
    for len in [
        0, 1, 20, 21, 31, 32, 62, 63, 64, 65, 125, 126, 127, 128, 4094, 4095, 4096, 4097, 16376,
        16377, 16378, 16379, 16380, 16381, 16382, 16383, 16384, 16385, 2097144, 2097145, 2097146,
        2097147, 2097150, 2097151, 2097152,
    ] {
        hash.push_back(format!("f{len}").as_bytes());
        hash.push_back(&vec![b'v'; len]);
    }
    assert_eq!(dump_checksum(0x10, hash.as_bytes()), 0x718b_7b5f_55c8_486e);
    assert_eq!(
        ListPack::from_bytes(hash.as_bytes().to_vec()).as_ref(),
        Ok(&hash)
    );
    assert!(hash.iter().rev().count() == 70);
}

#[test]
fn a_count_beyond_the_header_is_unknown_as_in_redis() {
    let mut hash = ListPack::new();
    for i in 0..40_000 {
        hash.push_back(format!("f{i}").as_bytes());
        hash.push_back_int(i);
    }
    assert_eq!(dump_checksum(0x10, hash.as_bytes()), 0x713b_64e9_9e36_7184);
    assert_eq!(hash.len(), 80_000);
    assert!(
        hash.seek(79_999)
            .is_some_and(|pos| hash.value(pos).eq_bytes(b"39999"))
    );
    assert_eq!(hash.seek(80_000), None);
    assert_eq!(hash.seek(-80_001), None);
    assert_eq!(hash.seek(-80_000), hash.first());
    let tail = hash.split_off(hash.seek(79_980).expect("split"));
    assert_eq!((hash.len(), tail.len()), (79_980, 20));
    assert_eq!(dump_checksum(0x10, tail.as_bytes()), 0x0077_896b_0f24_b451);
    hash.remove_range(10, 79_970);
    assert_eq!(hash.len(), 10);
}

#[test]
fn malformed_blobs_are_refused_with_the_place() {
    let cases: [(&[u8], &str); 11] = [
        (b"\x07\0\0\0\0\0", "listpack shorter than its header"),
        (
            b"\x08\0\0\0\0\0\xff",
            "listpack length differs from its header",
        ),
        (b"\x07\0\0\0\0\0\x00", "listpack without end mark"),
        (
            b"\x09\0\0\0\0\0\x05\x01\xff",
            "listpack count differs from its header",
        ),
        (
            b"\x09\0\0\0\x01\0\x05\x02\xff",
            "listpack backlen differs from its entry",
        ),
        (
            b"\x09\0\0\0\x01\0\xf5\x01\xff",
            "unknown or cut listpack encoding",
        ),
        (
            b"\x09\0\0\0\x01\0\xff\x01\xff",
            "unknown or cut listpack encoding",
        ),
        (
            b"\x08\0\0\0\x01\0\xe0\xff",
            "unknown or cut listpack encoding",
        ),
        (b"\x08\0\0\0\x01\0\x05\xff", "listpack entry beyond the end"),
        (
            b"\x09\0\0\0\x01\0\x82a\xff",
            "listpack entry beyond the end",
        ),
        (
            b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff",
            "listpack entry beyond the end",
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(
            ListPack::from_bytes(bytes.to_vec())
                .expect_err(reason)
                .reason,
            reason
        );
    }
    // The longest backlen that fits a count of 65535 entries is still checked.
    let unknown = b"\x09\0\0\0\xff\xff\x05\x01\xff";
    assert_eq!(
        ListPack::from_bytes(unknown.to_vec()).map(|lp| lp.len()),
        Ok(1)
    );
}

#[test]
fn uncommon_encodings_of_other_writers_still_compare_by_text() {
    // The integer 5 in two bytes, and the string "5".
    let bytes = b"\x0d\0\0\0\x02\0\xc0\x05\x02\x815\x02\xff".to_vec();
    let listpack = ListPack::from_bytes(bytes).expect("valid");
    let first = listpack
        .find(listpack.first().expect("head"), b"5", 0)
        .expect("first");
    assert_eq!(Some(first), listpack.first());
    let second = listpack.find(listpack.next(first).expect("next"), b"5", 0);
    assert_eq!(second, listpack.last());
    assert_eq!(
        listpack.value(first),
        listpack.value(second.expect("second"))
    );
    assert_eq!(
        listpack
            .iter()
            .map(|value| value.as_int())
            .collect::<Vec<_>>(),
        [Some(5); 2]
    );
}

#[test]
fn removing_gives_memory_back() {
    let mut listpack: ListPack = (0..1000).map(|i| format!("element {i}")).collect();
    let full = listpack.capacity();
    assert!(full < listpack.byte_len() * 5 / 4 + 64);
    listpack.remove_range(5, 1000);
    assert!(listpack.capacity() < 256, "{}", listpack.capacity());
    listpack.clear();
    assert_eq!(listpack, ListPack::new());
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<i64>(), 0u32..64).prop_map(|(v, shift)| (v >> shift).to_string().into_bytes()),
        4 => vec(prop_oneof![Just(b'0'), Just(b'-'), any::<u8>()], 0..6),
        2 => vec(any::<u8>(), 55..140),
        1 => (4090usize..4100).prop_map(|len| vec![b'x'; len]),
        1 => (16_370usize..16_390).prop_map(|len| vec![b'y'; len]),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(Index, Vec<u8>),
    InsertAfter(Index, Vec<u8>),
    Replace(Index, Vec<u8>),
    ReplaceInt(Index, i64),
    Remove(Index),
    RemoveRange(Index, bool, usize),
    SplitAndMerge(Index, bool),
    Find(Index, Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => element().prop_map(Edit::PushBack),
        3 => element().prop_map(Edit::PushFront),
        2 => (at(), element()).prop_map(|(i, e)| Edit::InsertBefore(i, e)),
        2 => (at(), element()).prop_map(|(i, e)| Edit::InsertAfter(i, e)),
        2 => (at(), element()).prop_map(|(i, e)| Edit::Replace(i, e)),
        1 => (at(), any::<i64>()).prop_map(|(i, v)| Edit::ReplaceInt(i, v)),
        2 => at().prop_map(Edit::Remove),
        1 => (at(), any::<bool>(), 0usize..5).prop_map(|(i, tail, n)| Edit::RemoveRange(i, tail, n)),
        1 => (at(), any::<bool>()).prop_map(|(i, back)| Edit::SplitAndMerge(i, back)),
        2 => (at(), at(), 0usize..3).prop_map(|(i, j, skip)| Edit::Find(i, j, skip)),
    ]
}

/// Does `edit` to both; the element edits need one to stand at.
fn apply(edit: Edit, model: &mut Vec<Vec<u8>>, listpack: &mut ListPack) {
    let len = model.len();
    let place = |index: Index, listpack: &ListPack| {
        let i = index.index(len);
        (i, listpack.seek(i as i64).expect("in range"))
    };
    match edit {
        Edit::PushBack(element) => {
            let pos = listpack.push_back(&element);
            assert_eq!(Some(pos), listpack.last());
            model.push(element);
        }
        Edit::PushFront(element) => {
            listpack.push_front(&element);
            model.insert(0, element);
        }
        _ if len == 0 => {}
        Edit::InsertBefore(index, element) => {
            let (i, pos) = place(index, listpack);
            let pos = listpack.insert_before(pos, &element);
            assert!(listpack.value(pos).eq_bytes(&element));
            model.insert(i, element);
        }
        Edit::InsertAfter(index, element) => {
            let (i, pos) = place(index, listpack);
            let pos = listpack.insert_after(pos, &element);
            assert!(listpack.value(pos).eq_bytes(&element));
            model.insert(i + 1, element);
        }
        Edit::Replace(index, element) => {
            let (i, pos) = place(index, listpack);
            listpack.replace(pos, &element);
            model[i] = element;
        }
        Edit::ReplaceInt(index, value) => {
            let (i, pos) = place(index, listpack);
            listpack.replace_int(pos, value);
            model[i] = value.to_string().into_bytes();
        }
        Edit::Remove(index) => {
            let (i, pos) = place(index, listpack);
            let next = listpack.remove(pos);
            model.remove(i);
            assert_eq!(
                next.map(|pos| listpack.value(pos).to_vec()).as_ref(),
                model.get(i)
            );
        }
        Edit::RemoveRange(index, from_tail, count) => {
            let i = index.index(len);
            let at = if from_tail {
                i as i64 - len as i64
            } else {
                i as i64
            };
            listpack.remove_range(at, count);
            model.drain(i..(i + count).min(len));
        }
        Edit::SplitAndMerge(index, swap) => {
            let (i, pos) = place(index, listpack);
            let tail = listpack.split_off(pos);
            assert_eq!((listpack.len(), tail.len()), (i, len - i));
            let head = std::mem::take(listpack);
            *listpack = if swap {
                ListPack::merge(tail, head)
            } else {
                ListPack::merge(head, tail)
            };
            if swap {
                model.rotate_left(i);
            }
        }
        Edit::Find(start, needle, skip) => {
            let (i, pos) = place(start, listpack);
            let needle = model[needle.index(len)].clone();
            let expected = (i..len).step_by(skip + 1).find(|&j| model[j] == needle);
            let found = listpack.find(pos, &needle, skip);
            assert_eq!(found, expected.and_then(|j| listpack.seek(j as i64)));
        }
    }
}

proptest! {
    #[test]
    fn edits_do_what_they_do_to_a_plain_vector(edits in vec(edit(), 0..60)) {
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut listpack = ListPack::new();
        for edit in edits {
            apply(edit, &mut model, &mut listpack);
            prop_assert_eq!(listpack.len(), model.len());
            prop_assert_eq!(listpack.is_empty(), model.is_empty());
        }
        prop_assert_eq!(&texts(&listpack), &model);
        let mut reversed: Vec<_> = listpack.iter().rev().map(|value| value.to_vec()).collect();
        reversed.reverse();
        prop_assert_eq!(&reversed, &model);
        for (i, element) in model.iter().enumerate() {
            let pos = listpack.seek(i as i64);
            prop_assert_eq!(pos, listpack.seek(i as i64 - model.len() as i64));
            let value = listpack.value(pos.expect("in range"));
            prop_assert!(value.eq_bytes(element));
            prop_assert_eq!(value.len(), element.len());
        }
        // However it came about, it is what building it at once gives.
        let built: ListPack = model.iter().collect();
        prop_assert_eq!(&built, &listpack);
        prop_assert_eq!(ListPack::from_bytes(listpack.clone().into_bytes()), Ok(listpack));
    }

    #[test]
    fn both_ends_of_an_iterator_meet(elements in vec(element(), 0..12), turns in vec(any::<bool>(), 12)) {
        let listpack: ListPack = elements.iter().collect();
        let mut left: std::collections::VecDeque<_> = elements.iter().cloned().collect();
        let mut iter = listpack.iter();
        for back in turns {
            let (value, expected) = if back {
                (iter.next_back(), left.pop_back())
            } else {
                (iter.next(), left.pop_front())
            };
            prop_assert_eq!(value.map(|value| value.to_vec()), expected);
        }
        prop_assert!(iter.next().is_none() && iter.next_back().is_none());
    }

    #[test]
    fn mutated_blobs_are_read_or_refused(
        elements in vec(element(), 0..8),
        flips in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in 0usize..4,
    ) {
        let mut bytes = elements.iter().collect::<ListPack>().into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        // Even unchecked, reading ends and doesn't panic.
        let unchecked = ListPackRef::from_trusted(&bytes);
        let _ = (unchecked.iter().count(), unchecked.iter().rev().count(), unchecked.len());
        let _ = (unchecked.seek(-3), unchecked.seek(3));
        if let Some(first) = unchecked.first() {
            let _ = unchecked.find(first, b"no such", 1);
        }
        if let Ok(mut listpack) = ListPack::from_bytes(bytes) {
            let count = listpack.iter().count();
            prop_assert_eq!(listpack.len(), count);
            prop_assert_eq!(listpack.iter().rev().count(), count);
            if let Some(last) = listpack.last() {
                listpack.remove(last);
                prop_assert_eq!(listpack.len(), count - 1);
                prop_assert!(ListPack::from_bytes(listpack.into_bytes()).is_ok());
            }
        }
    }
}
