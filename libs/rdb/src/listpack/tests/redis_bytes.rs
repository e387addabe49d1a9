//! The same edits as in Redis 7.0.15 give the same bytes: payloads of its DUMP,
//! in full where they are small, by their checksum where they are not.

use crate::crc64::crc64;
use crate::intset::IntSet;
use crate::listpack::ListPack;

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
