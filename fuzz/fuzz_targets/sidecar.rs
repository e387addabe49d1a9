//! Sidecars of segments: any bytes give an error or a verification within the segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_log::fs::{Fs as _, OpenMode};
use redrock_log::sidecar::{SidecarReader, sidecar_path};
use redrock_log::testing::PowerLossFs;
use std::path::Path;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (segment_bytes, bytes) = input;
    let fs = PowerLossFs::new("/d");
    let path = Path::new("/d/appendonly.aof.1.incr.aof");
    let (Ok(segment), Ok(sidecar)) = (
        fs.open(path, OpenMode::CreateNew),
        fs.open(&sidecar_path(path), OpenMode::CreateNew),
    ) else {
        return;
    };
    if segment.write_all_at(segment_bytes, 0).is_err() || sidecar.write_all_at(bytes, 0).is_err() {
        return;
    }
    let Ok(Some(reader)) = SidecarReader::open(&fs, path) else {
        return;
    };
    let _ = reader.summary();
    let _ = reader.checkpoint_at(u64::MAX / 2);
    if let Ok(found) = reader.verify(segment.as_ref()) {
        assert!(found.verified_position <= segment_bytes.len() as u64);
    }
});
