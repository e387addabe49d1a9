use super::*;
use crate::file::{EntryMeta, RdbWriter, WriterOptions};
use crate::object::{Object, encode};
use std::io::Write;

fn items_of(bytes: &[u8], options: ReaderOptions) -> Result<Vec<Item>, FileError> {
    let mut reader = RdbReader::new(bytes, options)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

fn key_of(error: &FileError) -> Option<&[u8]> {
    error.entry.as_ref().map(|entry| &entry.key[..])
}

fn payload_of(object: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    object.encode(&mut out);
    out
}

/// A file with one of everything that the writer has.
fn sample(options: WriterOptions) -> Vec<u8> {
    let mut writer = RdbWriter::new(Vec::new(), options).unwrap();
    writer.aux(b"redis-ver", b"7.0.15").unwrap();
    writer.aux(b"redis-bits", b"64").unwrap();
    writer
        .function(b"#!lua name=lib\nredis.register_function('f', function() end)")
        .unwrap();
    writer.select_db(3).unwrap();
    writer.resize_db(3, 1).unwrap();
    let string = payload_of(&Object::String(b"12".to_vec()));
    let meta = EntryMeta {
        expire_at_ms: Some(-5),
        idle_secs: Some(70_000),
        frequency: None,
    };
    writer.entry(b"key", &meta, types::STRING, &string).unwrap();
    let meta = EntryMeta {
        expire_at_ms: None,
        idle_secs: None,
        frequency: Some(255),
    };
    writer.entry(b"100", &meta, types::STRING, &string).unwrap();
    let large = payload_of(&Object::String(vec![b'x'; 300_000]));
    writer
        .entry_start(b"large", &EntryMeta::default(), types::STRING)
        .unwrap();
    for piece in large.chunks(70_001) {
        writer.entry_bytes(piece).unwrap();
    }
    let bytes_before = writer.bytes();
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(written.bytes, bytes_before + 9);
    assert_eq!(written.entries, 3);
    assert_eq!(written.checksum == 0, !options.checksum);
    bytes
}

#[test]
fn what_is_written_is_read() {
    for version in 10..=12 {
        for checksum in [false, true] {
            let bytes = sample(WriterOptions { version, checksum });
            let items = items_of(&bytes, ReaderOptions::default()).unwrap();
            assert_eq!(items.len(), 8);
            assert_eq!(
                items[1],
                Item::Aux {
                    key: b"redis-bits".to_vec(),
                    value: b"64".to_vec()
                }
            );
            assert!(matches!(&items[2], Item::Function(code) if code.starts_with(b"#!lua")));
            assert_eq!(items[3], Item::SelectDb(3));
            assert_eq!(
                items[4],
                Item::ResizeDb {
                    keys: 3,
                    expires: 1
                }
            );
            let entry = Entry {
                key: b"key".to_vec(),
                object_type: types::STRING,
                payload: vec![0xc0, 12],
                expire_at_ms: Some(-5),
                idle_secs: Some(70_000),
                frequency: None,
            };
            assert_eq!(items[5], Item::Entry(entry.clone()));
            // Attributes belong to one entry only.
            let (expire_at_ms, idle_secs, key) = (None, None, b"100".to_vec());
            let entry = Entry {
                key,
                expire_at_ms,
                idle_secs,
                frequency: Some(255),
                ..entry
            };
            assert_eq!(items[6], Item::Entry(entry));
            assert!(matches!(&items[7], Item::Entry(entry) if entry.payload.len() > 300_000));
        }
    }
}

#[test]
fn every_cut_is_an_unexpected_end() {
    let bytes = sample(WriterOptions::default());
    for cut in (9..300).chain(bytes.len() - 300..bytes.len()) {
        let error = items_of(&bytes[..cut], ReaderOptions::default()).unwrap_err();
        assert!(
            matches!(error.kind, FileErrorKind::Truncated),
            "{cut}: {error}"
        );
        assert!(error.offset <= cut as u64);
    }
    for cut in 0..5 {
        let error = items_of(&bytes[..cut], ReaderOptions::default()).unwrap_err();
        assert!(
            matches!(error.kind, FileErrorKind::BadMagic),
            "{cut}: {error}"
        );
    }
}

#[test]
fn a_damaged_byte_is_found_and_only_then() {
    let mut bytes = sample(WriterOptions::default());
    let at = bytes.len() - 1000;
    bytes[at] ^= 1;
    let error = items_of(&bytes, ReaderOptions::default()).unwrap_err();
    assert!(
        matches!(error.kind, FileErrorKind::Checksum { .. }),
        "{error}"
    );
    let unchecked = ReaderOptions {
        verify_checksum: false,
        ..ReaderOptions::default()
    };
    assert!(items_of(&bytes, unchecked).is_ok());
}

#[test]
fn versions_out_of_range_are_refused() {
    for header in ["REDIS0000", "REDIS0013", "REDIS9999", "REDISabcd"] {
        let error = items_of(header.as_bytes(), ReaderOptions::default()).unwrap_err();
        assert!(
            matches!(error.kind, FileErrorKind::BadVersion(_)),
            "{error}"
        );
    }
    let text = |header: &[u8]| {
        let error = items_of(header, ReaderOptions::default()).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        text(b"REDIS0013"),
        "Can't handle RDB format version 0013: 1 to 12 are read (RDB offset 9)"
    );
    assert!(text(b"VALKEY080").starts_with("Can't handle Valkey's RDB format version 080: "));
    assert!(text(b"VALKEX080").starts_with("Wrong signature"));
    assert!(text(b"VALK").starts_with("Wrong signature"));
    // Before version 5 there is no checksum.
    let items = items_of(
        b"REDIS0001\xfe\x00\x00\x01a\x01b\xff",
        ReaderOptions::default(),
    );
    assert_eq!(items.unwrap().len(), 2);
    assert!(
        RdbWriter::new(
            Vec::new(),
            WriterOptions {
                version: 9,
                checksum: true
            }
        )
        .is_err()
    );
}

#[test]
fn the_end_is_told_exactly_when_something_follows() {
    let mut bytes = sample(WriterOptions::default());
    let end = bytes.len();
    bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let error = items_of(&bytes, ReaderOptions::default()).unwrap_err();
    assert!(matches!(error.kind, FileErrorKind::Trailing), "{error}");
    let options = ReaderOptions {
        allow_trailing: true,
        ..ReaderOptions::default()
    };
    let mut reader = RdbReader::new(&bytes[..], options).unwrap();
    while reader.next_item().unwrap().is_some() {}
    assert_eq!(reader.offset(), end as u64);
    let (rest, buffered) = reader.into_parts();
    assert_eq!([&buffered[..], rest].concat(), &bytes[end..]);
}

#[test]
fn errors_name_offset_and_key() {
    let mut bytes = b"REDIS0010\xfe\x00\x02\x05mykey".to_vec();
    bytes.extend_from_slice(b"\x02\xc7");
    let error = items_of(&bytes, ReaderOptions::default()).unwrap_err();
    assert_eq!(key_of(&error), Some(&b"mykey"[..]));
    assert_eq!(error.offset, bytes.len() as u64);
    let text = error.to_string();
    assert!(
        text.contains("unknown string encoding")
            && text.ends_with("(RDB offset 20, key 'mykey' in database 0 at offset 11)"),
        "{text}"
    );
    let error = items_of(b"REDIS0010\xf6", ReaderOptions::default()).unwrap_err();
    assert!(matches!(error.kind, FileErrorKind::FunctionPreGa));
}

#[test]
fn what_later_versions_added_is_refused_with_key_and_offset() {
    let failed = |bytes: &[u8]| items_of(bytes, ReaderOptions::default()).unwrap_err();
    // Streams of Redis 8.2 and later, and whatever follows; 8 was never given to a type.
    for code in [8, 26, 27, 33, UNKNOWN_TYPE_MAX] {
        let mut bytes = b"REDIS0012\xfe\x03".to_vec();
        bytes.extend_from_slice(&[code, 5]);
        bytes.extend_from_slice(b"mykey\x01\x02\xff");
        let error = failed(&bytes);
        let text = error.to_string();
        assert_eq!(
            text,
            format!(
                "unknown RDB type {code}: a newer version wrote it, or it is damaged (RDB offset 18, \
                 key 'mykey' in database 3 at offset 11)"
            )
        );
        assert!(matches!(
            error.kind,
            FileErrorKind::Object(ObjectError::UnknownType(found)) if found == code
        ));
    }
    // A key that is none does not hide what was wrong.
    for rest in [
        &b""[..],
        b"\x09short",
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc7",
        b"\x80\x00\x02\x00\x00",
    ] {
        let error = failed(&[b"REDIS0012\x1a", rest].concat());
        assert!(error.entry.is_none(), "{error}");
        assert!(
            error.to_string().starts_with("unknown RDB type 26"),
            "{error}"
        );
    }
    // Data of keys in Redis 8.6, slots in Valkey 9.
    for code in [UNKNOWN_TYPE_MAX + 1, 243] {
        let error = failed(&[b"REDIS0012", &[code, 1, b'k', 0][..]].concat());
        assert!(matches!(error.kind, FileErrorKind::UnknownOpcode(found) if found == code));
        let end = "it is damaged (RDB offset 10)";
        assert!(error.to_string().ends_with(end), "{error}");
    }
}

#[test]
fn expiry_and_usage_belong_to_the_next_entry_whatever_stands_between() {
    let mut bytes = b"REDIS0012\xf8\x07\xfd\x02\x00\x00\x00".to_vec();
    bytes.extend_from_slice(b"\xfa\x01a\x01b\xfe\x02\xfb\x01\x01\xf4\x01\x02\x03\xf9\x09");
    bytes.extend_from_slice(b"\x00\x01k\x01v\x00\x01l\x01v");
    // The later of two expiries holds, and -1 is none.
    bytes.extend_from_slice(b"\xfd\x02\x00\x00\x00\xfc");
    bytes.extend_from_slice(&(-1i64).to_le_bytes());
    bytes.extend_from_slice(b"\x00\x01m\x01v");
    // What a skipped key had is nobody else's.
    bytes.extend_from_slice(b"\xfd\x02\x00\x00\x00\x07\x01n\x01\x00\x00\x01o\x01v");
    bytes.extend_from_slice(b"\xfd\x02\x00\x00\x00\x02\x01p\x00\x00\x01q\x01v\xff");
    bytes.extend_from_slice(&[0; 8]);
    let items = items_of(&bytes, ReaderOptions::default()).unwrap();
    let entries: Vec<&Entry> = items
        .iter()
        .filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            _ => None,
        })
        .collect();
    let keys: Vec<&[u8]> = entries.iter().map(|entry| &entry.key[..]).collect();
    assert_eq!(keys, [b"k", b"l", b"m", b"o", b"q"]);
    assert_eq!(
        (
            entries[0].expire_at_ms,
            entries[0].idle_secs,
            entries[0].frequency
        ),
        (Some(2000), Some(7), Some(9))
    );
    for entry in &entries[1..] {
        assert_eq!(
            (entry.expire_at_ms, entry.idle_secs, entry.frequency),
            (None, None, None)
        );
    }
}

#[test]
fn an_order_that_no_server_writes_is_read() {
    let mut bytes = b"REDIS0011".to_vec();
    // A key before any database, databases backwards and again, functions and fields behind keys.
    bytes.extend_from_slice(b"\x00\x01a\x01v\xfe\x09\x00\x01b\x01v\xfe\x01\xfe\x02\x00\x01c\x01v");
    bytes.extend_from_slice(b"\xfa\x01x\x01y\xf5\x01f\xfe\x09\x00\x01d\x01v\xfb\x05\x05\xff");
    bytes.extend_from_slice(&[0; 8]);
    let mut reader = RdbReader::new(&bytes[..], ReaderOptions::default()).unwrap();
    let mut found = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Entry(entry) = item {
            let place = reader.place_of(&entry.key);
            assert_eq!(bytes[place.offset as usize + 2], entry.key[0]);
            found.push((place.database, entry.key));
        }
    }
    let key = |key: &[u8; 1]| key.to_vec();
    assert_eq!(
        found,
        [
            (0, key(b"a")),
            (9, key(b"b")),
            (2, key(b"c")),
            (9, key(b"d"))
        ]
    );
}

/// A module's value with every kind of field; the string has `string_bytes`.
fn module_value(id: u64, string_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::length(&mut bytes, id);
    bytes.extend_from_slice(
        b"\x01\x07\x02\x81\xff\xff\xff\xff\xff\xff\xff\xff\x03abcd\x04abcdefgh\x05",
    );
    encode::string(&mut bytes, &vec![b'm'; string_bytes]);
    bytes.extend_from_slice(b"\x05\xc3\x02\x09ab\x05\xc0\x07\x00");
    bytes
}

#[test]
fn values_of_modules_are_skipped_and_named_whatever_their_size() {
    let id = 0xb5e9_ebf9_9f5d_2000 | 3;
    for string_bytes in [0, 100, 511, 513, 70_000, 300_000] {
        let mut bytes = b"REDIS0009\xfe\x04\xf9\x01\x07\x03doc".to_vec();
        let value = module_value(id, string_bytes);
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(b"\x00\x01k\x01v\xff");
        bytes.extend_from_slice(&[0; 8]);
        // The limit is for what is held.
        let options = ReaderOptions {
            value_bytes_max: 64,
            ..ReaderOptions::default()
        };
        let items = items_of(&bytes, options).unwrap();
        let Item::ModuleKey(skipped) = &items[1] else {
            panic!("{:?}", items[1])
        };
        assert_eq!(skipped.key, b"doc");
        assert_eq!(skipped.bytes, value.len() as u64);
        assert_eq!((skipped.module.name.len(), skipped.module.version), (9, 3));
        assert!(matches!(&items[2], Item::Entry(entry) if entry.key == b"k"));
        // Damage and every cut is the error of that key.
        for cut in (15..15 + value.len()).step_by(1 + string_bytes / 50) {
            let error = items_of(&bytes[..cut], options).unwrap_err();
            assert!(matches!(error.kind, FileErrorKind::Truncated), "{error}");
            assert_eq!(key_of(&error), (cut >= 18).then_some(&b"doc"[..]), "{cut}");
        }
        let last = 18 + value.len() - 1;
        bytes[last] = 6;
        let error = items_of(&bytes, options).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("corrupt value: unknown module opcode")
        );
        assert_eq!(key_of(&error), Some(&b"doc"[..]));
    }
    let error = items_of(b"REDIS0009\x06\x01k\x00", ReaderOptions::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("pre-release module format"),
        "{error}"
    );
    assert_eq!(key_of(&error), Some(&b"k"[..]));
}

#[test]
fn slot_hints_module_data_and_empty_keys_do_not_stop_a_load() {
    let mut bytes = b"REDIS0012\xf4\x01\x02\x03".to_vec();
    // Module data: id, when, one string, end.
    bytes.push(opcode::MODULE_AUX);
    encode::length(&mut bytes, 1 << 62);
    bytes.extend_from_slice(b"\x02\x01\x05\x02hi\x00");
    bytes.extend_from_slice(b"\x02\x01s\x00\x00\x01k\x01v\xff");
    bytes.extend_from_slice(&[0; 8]);
    let items = items_of(&bytes, ReaderOptions::default()).unwrap();
    assert!(matches!(&items[0], Item::ModuleAux(module) if module.name.len() == 9));
    assert_eq!(items[1], Item::EmptyKey(b"s".to_vec()));
    assert!(matches!(&items[2], Item::Entry(entry) if entry.key == b"k"));
}

#[test]
fn a_value_beyond_the_limit_is_refused_before_it_is_read() {
    let bytes = sample(WriterOptions::default());
    let options = ReaderOptions {
        value_bytes_max: 1000,
        ..ReaderOptions::default()
    };
    let error = items_of(&bytes, options).unwrap_err();
    assert_eq!(key_of(&error), Some(&b"large"[..]));
    assert!(matches!(
        error.kind,
        FileErrorKind::Object(ObjectError::TooLarge { bytes_max: 1000 })
    ));
}

#[test]
fn old_expiries_are_seconds() {
    let items = items_of(
        b"REDIS0003\xfd\x02\x00\x00\x00\x00\x01k\x01v\xff",
        Default::default(),
    );
    assert!(matches!(&items.unwrap()[0], Item::Entry(entry) if entry.expire_at_ms == Some(2000)));
}

#[test]
fn the_writer_refuses_types_that_its_version_lacks() {
    let mut writer = RdbWriter::new(std::io::sink(), WriterOptions::default()).unwrap();
    for object_type in [
        types::SET_LISTPACK,
        types::STREAM_LISTPACKS_3,
        types::HASH_METADATA,
        8,
    ] {
        assert!(
            writer
                .entry(b"k", &EntryMeta::default(), object_type, b"")
                .is_err()
        );
    }
    assert_eq!(writer.entries(), 0);
}

/// A sink whose writes fail at once.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("no space"))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_sink_fails_the_file() {
    let writer = RdbWriter::new(Broken, WriterOptions::default()).unwrap();
    assert!(writer.finish().is_err());
}

proptest::proptest! {
    #[test]
    fn damaged_files_never_panic(
        damage in proptest::collection::vec((9usize..400, proptest::prelude::any::<u8>()), 1..8),
        cut in proptest::option::of(9usize..400),
        tail: Vec<u8>,
        normalize: bool,
    ) {
        let mut bytes = sample(WriterOptions::default());
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
            bytes.extend_from_slice(&tail);
        }
        let options = ReaderOptions { normalize, verify_checksum: false, ..Default::default() };
        if let Err(error) = items_of(&bytes, options) {
            proptest::prop_assert!(error.offset <= bytes.len() as u64);
        }
    }
}
