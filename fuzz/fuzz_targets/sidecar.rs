//! Sidecars of segments: whatever became of what was written, they give an error or a verification
//! within the segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_log::fs::{Fs as _, FsFile, OpenMode};
use redrock_log::sidecar::{SidecarReader, sidecar_path};
use redrock_log::testing::PowerLossFs;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use std::path::Path;

/// What befalls a file: bytes that change, and a new length.
type Damage = (Vec<(u16, u8)>, Option<u16>);

fuzz_target!(|input: (Vec<(u16, bool)>, Damage, Damage)| {
    let (writes, segment_damage, sidecar_damage) = input;
    let fs = PowerLossFs::new("/d");
    let path = Path::new("/d/appendonly.aof.1.incr.aof");
    let start = SegmentStart {
        start_offset: 1000,
        database: 3,
        replid: [b'a'; 40],
        run_id: [b'b'; 40],
        epoch: 1,
    };
    let Ok(mut writer) = SegmentWriter::begin(&fs, path, &start, 1) else {
        return;
    };
    for (at, (bytes, syncs)) in writes.into_iter().take(40).enumerate() {
        let now = at as u64 + 2;
        let _ = writer.write(&vec![b'x'; usize::from(bytes)], now);
        if syncs {
            let _ = writer.syncer().sync(now);
        }
    }
    let written = writer.position();
    drop(writer);
    for (path, damage) in [
        (path.to_owned(), segment_damage),
        (sidecar_path(path), sidecar_damage),
    ] {
        let Ok(file) = fs.open(&path, OpenMode::ReadWrite) else {
            return;
        };
        befall(file.as_ref(), damage);
    }
    let Ok(Some(reader)) = SidecarReader::open(&fs, path) else {
        return;
    };
    let _ = reader.summary();
    let _ = reader.checkpoint_at(u64::MAX / 2);
    let Ok(segment) = fs.open(path, OpenMode::Read) else {
        return;
    };
    if let Ok(found) = reader.verify(segment.as_ref()) {
        let bytes = segment.len().unwrap_or(0);
        assert!(found.verified_position <= bytes && found.verified_position <= written);
    }
});

fn befall(file: &dyn FsFile, (changes, cut): Damage) {
    let bytes = file.len().unwrap_or(0);
    for (at, value) in changes {
        if u64::from(at) < bytes {
            let _ = file.write_all_at(&[value], u64::from(at));
        }
    }
    if let Some(cut) = cut {
        let _ = file.set_len(bytes.min(u64::from(cut)));
    }
}
