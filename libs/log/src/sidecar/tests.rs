use proptest::prelude::*;

use super::*;
use crate::fs::{Fs, OpenMode};
use crate::testing::PowerLossFs;

const SEGMENT: &str = "/d/s";

fn header() -> SidecarHeader {
    SidecarHeader {
        layout: SegmentLayout {
            start_offset: 1_000,
            prefix_bytes: 23,
        },
        database: 9,
        replid: [b'c'; 40],
        run_id: [b'd'; 40],
        epoch: 3,
        created_unix_ms: 4,
    }
}

fn written(parts: &[(&[u8], u64, bool)]) -> PowerLossFs {
    let fs = PowerLossFs::new("/d");
    let segment = fs.open(Path::new(SEGMENT), OpenMode::CreateNew).unwrap();
    let path = sidecar_path(Path::new(SEGMENT));
    let mut writer = SidecarWriter::create(&fs, &path, &header()).unwrap();
    for (bytes, unix_ms, synced) in parts {
        segment.write_all_at(bytes, writer.position()).unwrap();
        writer.note_written(bytes, *unix_ms);
        if *synced {
            let position = writer.begin_sync();
            writer.finish_sync(position, *unix_ms).unwrap();
        }
    }
    fs
}

fn reader(fs: &PowerLossFs) -> SidecarReader {
    SidecarReader::open(fs, Path::new(SEGMENT))
        .unwrap()
        .unwrap()
}

#[test]
fn the_header_reads_back() {
    let fs = written(&[]);
    assert_eq!(reader(&fs).header(), &header());
    assert_eq!(reader(&fs).summary().unwrap(), Summary::default());
}

#[test]
fn a_foreign_or_damaged_header_is_an_error_and_a_missing_file_is_none() {
    let fs = written(&[(b"abc", 10, true)]);
    assert!(
        SidecarReader::open(&fs, Path::new("/d/other"))
            .unwrap()
            .is_none()
    );
    let path = sidecar_path(Path::new(SEGMENT));
    fs.flip_bits(&path, 20, 1);
    assert!(SidecarReader::open(&fs, Path::new(SEGMENT)).is_err());
    fs.flip_bits(&path, 20, 1);
    fs.flip_bits(&path, 8, 2);
    let error = SidecarReader::open(&fs, Path::new(SEGMENT)).unwrap_err();
    assert!(matches!(error, SidecarError::Version { version: 3, .. }));
}

#[test]
fn a_sync_with_nothing_between_takes_one_record_and_a_long_write_one_per_64_kib() {
    let long = vec![7u8; 200_000];
    let fs = written(&[(b"abc", 10, true), (&long, 20, false)]);
    let summary = reader(&fs).summary().unwrap();
    assert_eq!(summary.records, 1 + 3);
    assert_eq!(summary.durable_position, 3);
    assert_eq!(summary.checked_position, 3 + 3 * CHECK_BYTES);
    assert_eq!(summary.last_unix_ms, 20);
}

#[test]
fn a_sync_overtaken_by_writes_declares_only_what_it_covered() {
    let fs = PowerLossFs::new("/d");
    let path = sidecar_path(Path::new(SEGMENT));
    let segment = fs.open(Path::new(SEGMENT), OpenMode::CreateNew).unwrap();
    let mut writer = SidecarWriter::create(&fs, &path, &header()).unwrap();
    let long = vec![7u8; 150_000];
    segment.write_all_at(b"abc", 0).unwrap();
    writer.note_written(b"abc", 1);
    let position = writer.begin_sync();
    segment.write_all_at(&long, 3).unwrap();
    writer.note_written(&long, 2);
    writer.finish_sync(position, 3).unwrap();
    let reader = reader(&fs);
    let summary = reader.summary().unwrap();
    assert_eq!(summary.durable_position, 3);
    assert_eq!(summary.checked_position, 3 + 2 * CHECK_BYTES);
    let checked = reader.verify(segment.as_ref()).unwrap();
    assert_eq!(checked.verified_position, summary.checked_position);
}

#[test]
fn the_time_index_finds_the_last_offset_reached() {
    let fs = written(&[(b"aaa", 100, true), (b"bb", 200, true), (b"c", 300, true)]);
    let reader = reader(&fs);
    assert_eq!(reader.offset_at(99).unwrap(), None);
    // Positions 3, 5 and 6 lie inside the 23 bytes of prefix: offset 1000.
    assert_eq!(reader.checkpoint_at(100).unwrap().unwrap().position, 3);
    assert_eq!(reader.checkpoint_at(299).unwrap().unwrap().position, 5);
    assert_eq!(reader.checkpoint_at(u64::MAX).unwrap().unwrap().position, 6);
    assert_eq!(reader.offset_at(300).unwrap(), Some(1000));
}

#[test]
fn times_are_those_of_writes_a_tenth_of_a_second_apart_at_most() {
    let fs = PowerLossFs::new("/d");
    let path = sidecar_path(Path::new(SEGMENT));
    fs.open(Path::new(SEGMENT), OpenMode::CreateNew).unwrap();
    let mut writer = SidecarWriter::create(&fs, &path, &header()).unwrap();
    for (bytes, unix_ms) in [("aa", 100), ("b", 199), ("cc", 200), ("d", 250), ("e", 900)] {
        writer.note_written(bytes.as_bytes(), unix_ms);
    }
    let position = writer.begin_sync();
    writer.finish_sync(position, 1000).unwrap();
    let mut found = Vec::new();
    let visit = |checkpoint: Checkpoint| {
        found.push((checkpoint.position, checkpoint.unix_ms));
        true
    };
    reader(&fs).each_checkpoint(visit).unwrap();
    assert_eq!(found, [(3, 199), (6, 250), (7, 900)]);
    assert_eq!(reader(&fs).summary().unwrap().durable_position, 7);
}

#[test]
fn bytes_of_a_former_run_get_the_time_of_their_file_or_else_of_the_sync() {
    for (modified_ms, expected_ms) in [(None, 700), (Some(500), 500)] {
        let fs = written(&[(b"aaa", 100, true)]);
        let segment = fs.open(Path::new(SEGMENT), OpenMode::ReadWrite).unwrap();
        segment.write_all_at(b"bb", 3).unwrap();
        let reader = reader(&fs);
        let resumed = SidecarWriter::resume(&fs, &reader, segment.as_ref(), 5, modified_ms);
        let mut writer = resumed.unwrap();
        let position = writer.begin_sync();
        writer.finish_sync(position, 700).unwrap();
        let reached = |at| reader.checkpoint_at(at).unwrap().unwrap().position;
        assert_eq!((reached(expected_ms - 1), reached(expected_ms)), (3, 5));
    }
}

#[test]
fn a_copy_of_the_beginning_claims_no_more_than_that() {
    let fs = written(&[(b"aa", 1, true), (b"bb", 2, true), (b"cc", 3, true)]);
    let copy = Path::new("/d/copy");
    copy_up_to(&fs, Path::new(SEGMENT), 5, copy).unwrap();
    let copied = SidecarReader::open(&fs, copy).unwrap().unwrap();
    let summary = copied.summary().unwrap();
    assert_eq!((summary.records, summary.durable_position), (2, 4));
    assert_eq!(reader(&fs).summary().unwrap().durable_position, 6);
    assert!(copy_up_to(&fs, Path::new(SEGMENT), 5, copy).is_err());
    copy_up_to(&fs, Path::new("/d/none"), 5, Path::new("/d/x")).unwrap();
}

#[test]
fn damage_counts_only_at_or_before_the_watermark() {
    let tail = vec![1u8; CHECK_BYTES as usize];
    let fs = written(&[(b"durable", 1, true), (&tail, 2, false)]);
    let segment = fs.open(Path::new(SEGMENT), OpenMode::ReadWrite).unwrap();
    let verify = || reader(&fs).verify(segment.as_ref()).unwrap();
    assert_eq!(verify().tail_mismatch, None);
    fs.flip_bits(Path::new(SEGMENT), 20, 1);
    let checked = verify();
    assert_eq!(checked.durable_damage, None);
    assert_eq!(checked.tail_mismatch.map(|range| range.from), Some(7));
    assert_eq!(checked.verified_position, 7);
    fs.flip_bits(Path::new(SEGMENT), 2, 1);
    let damage = DamagedRange { from: 0, to: 7 };
    assert_eq!(verify().durable_damage, Some(damage));
    fs.flip_bits(Path::new(SEGMENT), 2, 1);
    segment.set_len(6).unwrap();
    assert_eq!(
        verify().durable_damage,
        Some(damage),
        "a missing byte is damage"
    );
}

#[test]
fn a_torn_or_damaged_record_ends_the_records() {
    let path = sidecar_path(Path::new(SEGMENT));
    let fs = written(&[(b"a", 1, true), (b"b", 2, true), (b"c", 3, true)]);
    let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
    file.set_len(HEADER_BYTES as u64 + 2 * RECORD_BYTES as u64 + 31)
        .unwrap();
    let summary = reader(&fs).summary().unwrap();
    assert_eq!((summary.records, summary.bytes_ignored), (2, 31));
    assert_eq!(summary.durable_position, 2);
    fs.flip_bits(&path, HEADER_BYTES as u64 + 3, 0x80);
    assert_eq!(reader(&fs).summary().unwrap().durable_position, 0);
}

#[test]
fn claims_beyond_a_cut_are_taken_back() {
    let fs = written(&[(b"aa", 1, true), (b"bb", 2, true), (b"cc", 3, true)]);
    rewrite_up_to(&fs, Path::new(SEGMENT), 5).unwrap();
    let summary = reader(&fs).summary().unwrap();
    assert_eq!((summary.records, summary.durable_position), (2, 4));
    assert_eq!(reader(&fs).header(), &header());
}

proptest! {
    #[test]
    fn random_sidecar_bytes_never_panic_nor_claim(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let fs = written(&[]);
        let file = fs.open(&sidecar_path(Path::new(SEGMENT)), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&bytes, HEADER_BYTES as u64).unwrap();
        prop_assert_eq!(reader(&fs).summary().unwrap().durable_position, 0);
        file.write_all_at(&bytes, 0).unwrap();
        let _ = SidecarReader::open(&fs, Path::new(SEGMENT));
    }
}

#[test]
fn a_segment_is_not_begun_if_the_one_before_ends_elsewhere_or_its_prefix_is_torn() {
    // A prefix of 23 bytes at offset 1000, and a byte of the stream behind it.
    let bytes = [b'x'; 24];
    let unbegun = |count: usize, synced: bool, sequence: u64, former: Option<(u64, u64)>| {
        let fs = written(&[(&bytes[..count], 10, synced)]);
        let former = former.map(|(offset, sequence)| FormerEnd { offset, sequence });
        let found = reader(&fs).is_unbegun_at(&fs, Path::new(SEGMENT), sequence, former);
        found.unwrap()
    };
    // Where the one before ends, it was begun.
    assert!(!unbegun(23, true, 2, Some((1000, 1))));
    assert!(!unbegun(23, true, 2, None));
    // That one went on, or lost its last bytes.
    for end in [999, 1001] {
        assert!(unbegun(23, true, 2, Some((end, 1))), "{end}");
        assert!(!unbegun(24, true, 2, Some((end, 1))), "it has a byte");
    }
    assert!(!unbegun(23, true, 3, Some((999, 1))), "another one lacks");
    for former in [None, Some((1000, 1))] {
        assert!(unbegun(22, false, 2, former), "a torn prefix");
    }
    // What was durable is missing: that is no switch.
    let fs = written(&[(&bytes, 10, true)]);
    let file = fs.open(Path::new(SEGMENT), OpenMode::ReadWrite).unwrap();
    file.set_len(22).unwrap();
    let found = reader(&fs).is_unbegun_at(&fs, Path::new(SEGMENT), 2, None);
    assert!(!found.unwrap());
}
