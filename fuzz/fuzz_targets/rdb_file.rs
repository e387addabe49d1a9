//! RDB files: an error or items, whose values decode or not and are transcoded or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};
use redrock_rdb::object::{Target, decode, transcode};

// The bytes as they are, so that the fixtures serve as seeds.
fuzz_target!(|bytes: &[u8]| {
    for normalize in [false, true] {
        read(bytes, normalize);
    }
});

fn read(bytes: &[u8], normalize: bool) {
    let options = ReaderOptions {
        normalize,
        verify_checksum: false,
        ..ReaderOptions::default()
    };
    let Ok(mut reader) = RdbReader::new(bytes, options) else {
        return;
    };
    while let Ok(Some(item)) = reader.next_item() {
        let Item::Entry(entry) = item else { continue };
        let _ = decode(entry.object_type, &entry.payload);
        let target = Target {
            version: 10,
            compress: true,
        };
        let _ = transcode(entry.object_type, &entry.payload, target, &mut Vec::new());
    }
}
