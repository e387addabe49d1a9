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
    assert_eq!(error.key.as_deref(), Some(&b"mykey"[..]));
    assert_eq!(error.offset, bytes.len() as u64);
    let text = error.to_string();
    assert!(
        text.contains("unknown string encoding") && text.contains("'mykey'"),
        "{text}"
    );
    let error = items_of(b"REDIS0010\xf6", ReaderOptions::default()).unwrap_err();
    assert!(matches!(error.kind, FileErrorKind::FunctionPreGa));
    let error = items_of(b"REDIS0010\x1e", ReaderOptions::default()).unwrap_err();
    assert!(matches!(
        error.kind,
        FileErrorKind::Object(ObjectError::UnknownType(30))
    ));
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
    assert!(matches!(&items[0], Item::ModuleAux { name } if name.len() == 9));
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
    assert_eq!(error.key.as_deref(), Some(&b"large"[..]));
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
