use super::*;
use crate::fs::{Fs, RealFs};
use crate::scan::{
    ScanEnd, ScanLimits, SegmentScanner, Step, TailContext, TailDecision, decide_tail,
    truncate_tail,
};
use crate::sidecar::has_stream_bytes;
use crate::testing::{CrashMode, PowerLossFs, TestRandom};

const SEGMENT: &str = "/d/appendonly.aof.1.incr.aof";

fn start(offset: u64) -> SegmentStart {
    SegmentStart {
        start_offset: offset,
        database: 3,
        replid: [b'a'; 40],
        run_id: [b'b'; 40],
        epoch: 7,
    }
}

fn set(number: u64, len: usize) -> Vec<u8> {
    let value = vec![b'v'; len];
    let mut bytes = format!("*3\r\n$3\r\nSET\r\n$8\r\n{number:08}\r\n${len}\r\n").into_bytes();
    bytes.extend(value);
    bytes.extend(b"\r\n");
    bytes
}

fn verify(fs: &dyn Fs) -> Verification {
    let reader = SidecarReader::open(fs, Path::new(SEGMENT))
        .unwrap()
        .unwrap();
    let file = fs.open(Path::new(SEGMENT), OpenMode::Read).unwrap();
    reader.verify(file.as_ref()).unwrap()
}

fn scan(fs: &dyn Fs) -> ScanEnd {
    let file = fs.open(Path::new(SEGMENT), OpenMode::Read).unwrap();
    let mut scanner = SegmentScanner::new(file.as_ref(), 0, ScanLimits::default()).unwrap();
    loop {
        if let Step::End(end) = scanner.next_step().unwrap() {
            return end;
        }
    }
}

fn recover(fs: &dyn Fs) -> SegmentWriter {
    let (checked, end) = (verify(fs), scan(fs));
    let context = TailContext {
        file_name: "s",
        verification: Some(&checked),
        followed_by_data: false,
        load_truncated: true,
    };
    match decide_tail(&end, context) {
        TailDecision::Clean => {}
        TailDecision::TruncateAt { position, .. } => {
            truncate_tail(fs, Path::new(SEGMENT), position, 1).unwrap();
        }
        refused => panic!("{refused:?}"),
    }
    SegmentWriter::resume(fs, Path::new(SEGMENT), &checked).unwrap()
}

#[test]
fn offsets_exclude_the_prefix_and_a_sync_covers_what_was_written() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(1000), 5).unwrap();
    assert_eq!(writer.offset(), 1000);
    assert!(!has_stream_bytes(&fs, Path::new(SEGMENT)).unwrap());
    let syncer = writer.syncer();
    let bytes = set(1, 10);
    let end = writer.write(&bytes, 6).unwrap();
    assert_eq!(end, 1000 + bytes.len() as u64);
    assert_eq!(syncer.durable_offset(), 1000);
    assert!(syncer.is_dirty());
    assert_eq!(syncer.sync(7).unwrap(), end);
    assert!(!syncer.is_dirty());
    let checked = verify(&fs);
    assert_eq!(checked.durable_position, writer.position());
    assert_eq!(checked.verified_position, writer.position());
    assert!(has_stream_bytes(&fs, Path::new(SEGMENT)).unwrap());
    assert!(!has_stream_bytes(&fs, Path::new("/d/missing")).unwrap());
    assert!(SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).is_err());
}

#[test]
fn a_full_disk_leaves_whole_writes_and_the_writer_goes_on_when_there_is_room() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    writer.write(&set(1, 10), 6).unwrap();
    let kept = writer.position();
    fs.set_capacity_bytes(Some(kept + 128 + 32 + 5));
    match writer.write(&set(2, 100), 6) {
        Err(WriteError::NoSpace { kept_offset, .. }) => {
            assert_eq!(kept_offset, writer.offset());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs.content(Path::new(SEGMENT)).unwrap().len() as u64, kept);
    fs.set_capacity_bytes(None);
    writer.write(&set(2, 100), 6).unwrap();
    writer.finish(8).unwrap();
    let checked = verify(&fs);
    assert_eq!(checked.durable_position, checked.segment_bytes);
}

#[test]
fn a_failed_sync_is_never_retried() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    let syncer = writer.syncer();
    writer.write(&set(1, 10), 6).unwrap();
    fs.fail_after(0, libc::EIO);
    assert!(matches!(syncer.sync(7), Err(SyncError::Failed(_))));
    assert!(matches!(syncer.sync(8), Err(SyncError::FailedBefore)));
    assert!(matches!(writer.write(b"x", 9), Err(WriteError::SyncFailed)));
    let at_hand = set(2, 10);
    let end = writer.write_undurable(&at_hand, 9).unwrap();
    assert_eq!(end, (set(1, 10).len() + at_hand.len()) as u64);
    assert!(matches!(syncer.sync(10), Err(SyncError::FailedBefore)));
    assert!(syncer.has_failed());
    assert_eq!(syncer.durable_offset(), 0);
}

/// Pages of a failed sync are clean for who comes next, too.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_durable_after_a_restart() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    let syncer = writer.syncer();
    writer.write(&set(1, 10), 6).unwrap();
    syncer.sync(6).unwrap();
    writer.write(&set(2, 600_000), 7).unwrap();
    fs.fail_after(0, libc::EIO);
    assert!(syncer.sync(7).is_err());
    drop((writer, syncer));

    let mut writer = recover(&fs);
    let end = writer.offset();
    assert_eq!(writer.syncer().sync(8).unwrap(), end);
    writer.write(&set(3, 10), 9).unwrap();
    let end = writer.syncer().sync(9).unwrap();
    fs.crash(CrashMode::DropAll);
    assert_eq!(scan(&fs).position, recover(&fs).position());
    assert_eq!(recover(&fs).offset(), end);
}

#[test]
fn a_write_that_cannot_be_cut_back_stops_the_writer() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    fs.fail_after(0, libc::EIO);
    fs.fail_after(1, libc::EIO);
    assert!(matches!(
        writer.write(b"x", 6),
        Err(WriteError::TailUnknown)
    ));
    assert!(matches!(
        writer.write(b"x", 6),
        Err(WriteError::TailUnknown)
    ));
}

/// What overflowed into a file that can be read once only.
struct OnceReadable {
    bytes: Vec<u8>,
    reads: std::cell::Cell<u32>,
}

impl Source for OnceReadable {
    fn visit(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.reads.set(self.reads.get() + 1);
        let (first, rest) = self.bytes.split_at(20);
        take(first)?;
        if self.reads.get() > 1 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        take(rest)
    }
}

#[test]
fn bytes_that_can_not_be_read_again_for_their_checksum_stop_the_writer() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    let kept = writer.write(&set(1, 10), 6).unwrap();
    let syncer = writer.syncer();
    assert_eq!(syncer.sync(6).unwrap(), kept);
    let source = OnceReadable {
        bytes: set(2, 100),
        reads: std::cell::Cell::new(0),
    };
    let refused = writer.write(&source, 7);
    assert!(matches!(refused, Err(WriteError::TailUnknown)));
    assert_eq!((source.reads.get(), writer.offset()), (2, kept));
    assert!(matches!(
        writer.write(&set(3, 10), 7),
        Err(WriteError::TailUnknown)
    ));
    // Nothing is claimed of what was not acknowledged, and a restart goes on behind whole commands.
    drop(syncer);
    drop(writer);
    let mut writer = recover(&fs);
    writer.write(&set(4, 10), 8).unwrap();
    writer.finish(9).unwrap();
    let checked = verify(&fs);
    assert_eq!(checked.durable_position, checked.segment_bytes);
    assert_eq!(checked.verified_position, checked.segment_bytes);
}

#[test]
fn sidecar_records_lost_to_a_full_disk_leave_no_hole_in_the_checksums() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    let syncer = writer.syncer();
    for round in 0..40u64 {
        // The record's write is the operation behind the segment's write or sync.
        if round % 3 == 0 {
            fs.fail_after(1, libc::ENOSPC);
        }
        writer.write(&set(round, 30_000), round).unwrap();
        fs.clear_faults();
        if round % 5 == 0 {
            fs.fail_after(1, libc::ENOSPC);
            syncer.sync(round).unwrap();
            fs.clear_faults();
        }
    }
    writer.finish(99).unwrap();
    let checked = verify(&fs);
    assert_eq!(checked.verified_position, checked.segment_bytes);
    assert_eq!(checked.durable_position, checked.segment_bytes);
    assert!(checked.tail_mismatch.is_none());
}

#[test]
fn a_flipped_bit_before_the_watermark_refuses_the_resume() {
    let fs = PowerLossFs::new("/d");
    let mut writer = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(0), 5).unwrap();
    writer.write(&set(1, 200_000), 6).unwrap();
    writer.finish(7).unwrap();
    assert!(fs.flip_bits(Path::new(SEGMENT), 100_000, 1));
    let checked = verify(&fs);
    let damage = checked.durable_damage.unwrap();
    assert!(damage.from <= 100_000 && 100_000 < damage.to);
    assert!(SegmentWriter::resume(&fs, Path::new(SEGMENT), &checked).is_err());
}

/// Random writes, syncs and a crash at a random operation: whatever was reported durable
/// is there, the watermark never claims more than the disk holds, recovery always finds a
/// way, and the log can be continued and crash again.
#[test]
fn every_durable_claim_holds_after_a_crash_at_any_point() {
    for seed in 0..600u64 {
        let mut random = TestRandom::new(seed);
        let fs = PowerLossFs::new("/d");
        let path = Path::new(SEGMENT);
        let mut writer = SegmentWriter::begin(&fs, path, &start(500), 1).unwrap();
        let mut written: Vec<u8> = Vec::new();
        for life in 0..3 {
            fs.lose_power_after(random.below(60));
            let syncer = writer.syncer();
            let mut durable = syncer.durable_offset();
            for step in 0..40u64 {
                let len = if random.below(8) == 0 {
                    90_000
                } else {
                    random.below(200)
                };
                let bytes = set(step, len as usize);
                if writer.write(&bytes, step).is_err() {
                    break;
                }
                written.extend(&bytes);
                if random.below(3) == 0 {
                    match syncer.sync(step) {
                        Ok(offset) => durable = offset,
                        Err(_) => break,
                    }
                }
            }
            drop(writer);
            let mode_seed = random.next_u64();
            fs.crash(match random.below(4) {
                0 => CrashMode::DropAll,
                1 => CrashMode::KeepAll,
                2 => CrashMode::TornPrefix { seed: mode_seed },
                _ => CrashMode::Scattered { seed: mode_seed },
            });
            let note = format!("seed {seed} life {life}");
            let checked = verify(&fs);
            assert!(checked.durable_damage.is_none(), "{note}: {checked:?}");
            writer = recover(&fs);
            let prefix = writer.layout().prefix_bytes as usize;
            let content = fs.content(path).unwrap();
            let durable_bytes = (durable - 500) as usize;
            assert!(content.len() - prefix >= durable_bytes, "{note}");
            assert_eq!(
                &content[prefix..prefix + durable_bytes],
                &written[..durable_bytes],
                "{note}"
            );
            let end = scan(&fs);
            assert_eq!(end.safe_position, content.len() as u64, "{note}");
            writer.syncer().sync(99).unwrap();
            written = content[prefix..].to_vec();
        }
    }
}

#[test]
fn beginning_a_segment_survives_a_power_loss_at_every_step() {
    for point in 0..8 {
        for seed in 0..40 {
            let fs = PowerLossFs::new("/d");
            fs.lose_power_after(point);
            let begun = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(9), 1);
            fs.crash(CrashMode::Scattered { seed });
            let exists = fs.exists(Path::new(SEGMENT)).unwrap();
            assert!(exists || begun.is_err(), "point {point} seed {seed}");
            let has_bytes = exists && !fs.content(Path::new(SEGMENT)).unwrap().is_empty();
            if has_bytes {
                let writer = recover(&fs);
                assert_eq!(writer.offset(), 9);
            } else {
                SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(9), 1).unwrap();
            }
        }
    }
}

#[test]
fn syncing_from_another_thread_keeps_the_checksums_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("appendonly.aof.1.incr.aof");
    let mut writer = SegmentWriter::begin(&RealFs, &path, &start(0), 1).unwrap();
    let syncer = writer.syncer();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                syncer.sync(2).unwrap();
            }
        });
        for number in 0..3000 {
            writer.write(&set(number, 700), 1).unwrap();
        }
        stop.store(true, Ordering::Release);
    });
    let end = writer.finish(3).unwrap();
    let reader = SidecarReader::open(&RealFs, &path).unwrap().unwrap();
    let file = RealFs.open(&path, OpenMode::Read).unwrap();
    let checked = reader.verify(file.as_ref()).unwrap();
    assert_eq!(checked.verified_position, checked.segment_bytes);
    assert_eq!(
        reader.header().layout.offset_at(checked.durable_position),
        end
    );
}

/// A synced but open transaction (a replica's stream) is cut although it lies before the
/// watermark: the sidecar's claims must go first, durably.
#[test]
fn a_synced_open_transaction_is_cut_without_looking_like_damage_afterwards() {
    for point in 0..14 {
        for seed in 0..24 {
            let fs = PowerLossFs::new("/d");
            let path = Path::new(SEGMENT);
            let mut writer = SegmentWriter::begin(&fs, path, &start(0), 1).unwrap();
            writer.write(&set(1, 10), 1).unwrap();
            writer.syncer().sync(1).unwrap();
            let kept = writer.position();
            writer.write(b"*1\r\n$5\r\nMULTI\r\n", 2).unwrap();
            writer.syncer().sync(2).unwrap();
            drop(writer);
            let end = scan(&fs);
            assert_eq!(end.safe_position, kept);
            fs.lose_power_after(point);
            let done = truncate_tail(&fs, path, kept, 1);
            fs.crash(match seed {
                0 => CrashMode::DropAll,
                seed => CrashMode::Scattered { seed },
            });
            let len = fs.content(path).unwrap().len() as u64;
            assert!(len == kept || done.is_err(), "point {point} seed {seed}");
            let writer = recover(&fs);
            assert_eq!(writer.position(), kept, "point {point} seed {seed}");
            writer.finish(3).unwrap();
            assert_eq!(verify(&fs).durable_position, kept);
        }
    }
}

#[test]
fn records_behind_a_damaged_one_do_not_come_back_to_life() {
    let fs = PowerLossFs::new("/d");
    let path = Path::new(SEGMENT);
    let mut writer = SegmentWriter::begin(&fs, path, &start(0), 1).unwrap();
    let syncer = writer.syncer();
    for number in 0..4 {
        writer.write(&set(number, 10), number).unwrap();
        syncer.sync(number).unwrap();
    }
    drop((writer, syncer));
    let second_record = (crate::sidecar::HEADER_BYTES + crate::sidecar::RECORD_BYTES) as u64;
    assert!(fs.flip_bits(&sidecar_path(path), second_record, 1));
    // The segment lost its end as well: what is written anew is shorter than it was, so
    // that the old third record would lie ahead of the new second one.
    let first_end = (select_prefix(3).len() + set(0, 10).len()) as u64;
    let file = fs.open(path, OpenMode::ReadWrite).unwrap();
    file.set_len(first_end).unwrap();
    let mut writer = recover(&fs);
    writer.write(&set(9, 1), 9).unwrap();
    writer.syncer().sync(9).unwrap();
    let reader = SidecarReader::open(&fs, path).unwrap().unwrap();
    assert_eq!(reader.summary().unwrap().records, 2);
    let checked = verify(&fs);
    assert_eq!(checked.durable_position, checked.segment_bytes);
    assert_eq!(checked.verified_position, checked.segment_bytes);
}

/// Whatever fails or whenever the power goes while a segment is begun: what is left is none, and can be
/// begun again.
#[test]
fn an_interrupted_beginning_leaves_no_segment_and_can_be_made_again() {
    let begin =
        |fs: &PowerLossFs, offset| SegmentWriter::begin(fs, Path::new(SEGMENT), &start(offset), 1);
    let steps = {
        let fs = PowerLossFs::new("/d");
        begin(&fs, 100).unwrap();
        fs.operations()
    };
    for step in 0..steps {
        let fs = PowerLossFs::new("/d");
        fs.fail_after(step, 28);
        begin(&fs, 100).unwrap_err();
        let left = SidecarReader::open(&fs, Path::new(SEGMENT)).unwrap();
        assert!(left.is_none(), "step {step}");
        assert!(!has_stream_bytes(&fs, Path::new(SEGMENT)).unwrap());
        assert_eq!(begin(&fs, 200).unwrap().offset(), 200);
        for seed in 0..8 {
            let fs = PowerLossFs::new("/d");
            fs.lose_power_after(step);
            begin(&fs, 100).unwrap_err();
            fs.crash(CrashMode::Scattered { seed });
            SidecarReader::open(&fs, Path::new(SEGMENT)).unwrap();
            assert!(!has_stream_bytes(&fs, Path::new(SEGMENT)).unwrap());
        }
    }
}

/// A sidecar with records is never taken for the rest of an interrupted beginning.
#[test]
fn a_damaged_sidecar_beside_an_emptied_segment_is_damage() {
    let fs = PowerLossFs::new("/d");
    let mut segment = SegmentWriter::begin(&fs, Path::new(SEGMENT), &start(100), 1).unwrap();
    segment.write(&set(1, 10), 2).unwrap();
    segment.syncer().sync(3).unwrap();
    let sidecar = sidecar_path(Path::new(SEGMENT));
    fs.flip_bits(&sidecar, 20, 1);
    let file = fs.open(Path::new(SEGMENT), OpenMode::ReadWrite).unwrap();
    file.set_len(0).unwrap();
    SidecarReader::open(&fs, Path::new(SEGMENT)).unwrap_err();
}
