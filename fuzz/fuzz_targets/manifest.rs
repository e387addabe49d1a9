//! Manifests: what is accepted is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_log::manifest::{format, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = parse(bytes) else {
        return;
    };
    let text = format(&manifest);
    if text.is_empty() {
        return;
    }
    match parse(text.as_bytes()) {
        Ok(again) => assert_eq!(again, manifest),
        Err(error) => panic!("what we write we don't read: {error}"),
    }
});
