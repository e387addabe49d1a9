//! RESTORE's payloads: what is accepted encodes again to something that gives the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::dump::verify_without_checksum;
use redrock_rdb::object::{decode, normalize};

fuzz_target!(|payload: &[u8]| {
    let Ok((object_type, body)) = verify_without_checksum(payload) else {
        return;
    };
    let Ok(normal) = normalize(object_type, body) else {
        return;
    };
    let Ok(object) = decode(normal.object_type, &normal.payload) else {
        return;
    };
    let mut encoded = Vec::new();
    object.encode(&mut encoded);
    let Ok(again) = decode(object.object_type(), &encoded) else {
        panic!("what we encode we don't decode");
    };
    let mut twice = Vec::new();
    again.encode(&mut twice);
    assert_eq!(encoded, twice);
});
