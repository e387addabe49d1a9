//! RDB files: an error or items, whose values decode or not and are transcoded to each version or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::file::{Item, ModuleTally, RdbReader, ReaderOptions};
use redrock_rdb::object::{Target, Transcoder, decode};

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
    let mut modules = ModuleTally::default();
    let mut transcoders = [10, 11, 12].map(|version| {
        Transcoder::new(Target {
            version,
            compress: true,
        })
    });
    loop {
        let entry = match reader.next_item() {
            Ok(Some(Item::Entry(entry))) => entry,
            Ok(Some(Item::ModuleKey(skipped))) => {
                modules.add_key(0, &skipped);
                continue;
            }
            Ok(Some(Item::ModuleAux(module))) => {
                modules.add_piece(&module);
                continue;
            }
            Ok(Some(_)) => continue,
            Ok(None) => break,
            Err(error) => {
                let _ = error.to_string();
                break;
            }
        };
        let _ = decode(entry.object_type, &entry.payload);
        for transcoder in &mut transcoders {
            let _ = transcoder.transcode(entry.object_type, &entry.payload, &mut Vec::new());
        }
    }
    let _ = modules.to_string();
}
