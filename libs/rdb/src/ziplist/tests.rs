use super::*;
use proptest::prelude::*;

/// Writes ziplists as old Redis did, for the tests alone.
fn build(values: &[LpValue<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let mut last = HEADER_BYTES;
    let mut previous = 0u32;
    for value in values {
        last = bytes.len();
        match u8::try_from(previous) {
            Ok(small) if small < BIG_SIZE => bytes.push(small),
            _ => {
                bytes.push(BIG_SIZE);
                bytes.extend_from_slice(&previous.to_le_bytes());
            }
        }
        match *value {
            LpValue::Str(text) => {
                let len = text.len();
                match len {
                    0..=0x3F => bytes.push(len as u8),
                    0x40..=0x3FFF => bytes.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
                    _ => {
                        bytes.push(0x80);
                        bytes.extend_from_slice(&(len as u32).to_be_bytes());
                    }
                }
                bytes.extend_from_slice(text);
            }
            LpValue::Int(value) => {
                let raw = value.to_le_bytes();
                let (tag, width) = match value {
                    0..=12 => (0xF1 + value as u8, 0),
                    -0x80..=0x7F => (0xFE, 1),
                    -0x8000..=0x7FFF => (0xC0, 2),
                    -0x80_0000..=0x7F_FFFF => (0xF0, 3),
                    -0x8000_0000..=0x7FFF_FFFF => (0xD0, 4),
                    _ => (0xE0, 8),
                };
                bytes.push(tag);
                bytes.extend_from_slice(&raw[..width]);
            }
        }
        previous = (bytes.len() - last) as u32;
    }
    bytes.push(END);
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    bytes[4..8].copy_from_slice(&(last as u32).to_le_bytes());
    bytes[8..10].copy_from_slice(&(values.len() as u16).to_le_bytes());
    bytes
}

#[test]
fn the_documented_example_is_read() {
    // From the head of Redis's ziplist.c: "2", "5", "Hello World".
    let mut bytes = b"\x1c\0\0\0\x0e\0\0\0\x03\0\x00\xf3\x02\xf6\x02\x0bHello World\xff".to_vec();
    let list = ZipList::from_bytes(&bytes).expect("valid");
    assert_eq!(list.len(), 3);
    let expected = [
        LpValue::Int(2),
        LpValue::Int(5),
        LpValue::Str(b"Hello World"),
    ];
    assert!(list.iter().eq(expected));
    assert!(list.to_listpack().iter().eq(expected));
    bytes[12] = 3;
    assert_eq!(
        ZipList::from_bytes(&bytes).expect_err("size"),
        Corrupt::new("ziplist sizes don't chain", 12)
    );
}

#[test]
fn a_ziplist_of_redis_2_4_is_read() {
    // The key list_zipped of tests/assets/encodings.rdb.
    let bytes =
        b"0\0\0\0%\0\0\0\x08\0\0\xc0\x01\0\x04\xc0\x02\0\x04\xc0\x03\0\x04\x01a\x03\x01b\x03\x01c\
        \x03\xd0\xa0\x86\x01\0\x06\xe0\0\xbc\xa0e\x01\0\0\0\xff";
    let list = ZipList::from_bytes(bytes).expect("valid");
    let texts: Vec<_> = list.iter().map(|value| value.to_vec()).collect();
    assert_eq!(
        texts,
        [
            &b"1"[..],
            b"2",
            b"3",
            b"a",
            b"b",
            b"c",
            b"100000",
            b"6000000000"
        ]
    );
    let listpack = list.to_listpack();
    assert!(listpack.iter().eq(list.iter()));
    assert_eq!(listpack, texts.iter().collect());
}

#[test]
fn malformed_blobs_are_refused() {
    let cases: [(&[u8], &str); 7] = [
        (b"\x0a\0\0\0\x0a\0\0\0\0\0", "ziplist without end mark"),
        (
            b"\x0b\0\0\0\x0a\0\0\0\0\0",
            "ziplist length differs from its header",
        ),
        (b"\x0b\0\0\0\x0a\0\0\0\0", "ziplist shorter than its header"),
        (
            b"\x0d\0\0\0\x0a\0\0\0\x01\0\0\xc1\xff",
            "unknown ziplist encoding",
        ),
        (
            b"\x0d\0\0\0\x0a\0\0\0\x01\0\0\x3f\xff",
            "ziplist entry beyond the end",
        ),
        (
            b"\x0d\0\0\0\x0b\0\0\0\x01\0\0\xf1\xff",
            "ziplist tail differs from its header",
        ),
        (
            b"\x0d\0\0\0\x0a\0\0\0\x02\0\0\xf1\xff",
            "ziplist count differs from its header",
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(ZipList::from_bytes(bytes).expect_err(reason).reason, reason);
    }
}

#[derive(Debug, Clone)]
enum Value {
    Int(i64),
    Str(Vec<u8>),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (any::<i64>(), 0u32..64).prop_map(|(value, shift)| Value::Int(value >> shift)),
        (-3i64..20).prop_map(Value::Int),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Str),
        (16_380usize..16_390).prop_map(|len| Value::Str(vec![b'x'; len])),
    ]
}

fn borrow(values: &[Value]) -> Vec<LpValue<'_>> {
    values
        .iter()
        .map(|value| match value {
            Value::Int(value) => LpValue::Int(*value),
            Value::Str(text) => LpValue::Str(text),
        })
        .collect()
}

proptest! {
    #[test]
    fn what_old_servers_wrote_is_read(values in proptest::collection::vec(value(), 0..12)) {
        let values = borrow(&values);
        let bytes = build(&values);
        let list = ZipList::from_bytes(&bytes).expect("valid");
        prop_assert_eq!(list.len(), values.len());
        prop_assert!(list.iter().eq(values.iter().copied()));
        prop_assert!(list.to_listpack().iter().eq(values.iter().copied()));
    }

    #[test]
    fn mutated_ziplists_are_read_or_refused(
        values in proptest::collection::vec(value(), 0..8),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in 0usize..4,
    ) {
        let mut bytes = build(&borrow(&values));
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(list) = ZipList::from_bytes(&bytes) {
            prop_assert_eq!(list.iter().count(), list.len());
            prop_assert_eq!(list.to_listpack().len(), list.len());
        }
    }
}
