//! Segments of the effect log: the scan ends where a command is not whole, and a scan of what it
//! keeps ends clean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_log::fs::{Fs as _, FsFile, OpenMode};
use redrock_log::scan::{ScanEnd, ScanLimits, SegmentScanner, Step, StopReason};
use redrock_log::testing::PowerLossFs;
use std::path::Path;

fn scan(file: &dyn FsFile) -> Option<ScanEnd> {
    let mut scanner = SegmentScanner::new(file, 0, ScanLimits::default()).ok()?;
    loop {
        if let Step::End(end) = scanner.next_step().ok()? {
            return Some(end);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let fs = PowerLossFs::new("/d");
    let Ok(file) = fs.open(Path::new("/d/log"), OpenMode::CreateNew) else {
        return;
    };
    if file.write_all_at(bytes, 0).is_err() {
        return;
    }
    let Some(end) = scan(file.as_ref()) else {
        return;
    };
    assert!(end.safe_position <= end.position);
    assert!(end.position <= bytes.len() as u64);
    if file.set_len(end.safe_position).is_ok() {
        let kept = scan(file.as_ref());
        assert!(kept.is_none_or(|kept| kept.reason == StopReason::End));
    }
});
