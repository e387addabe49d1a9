//! The log over a file system that loses power, fills up and fails.

use super::*;
use crate::command::effect::Effect;
use crate::log::state::LogKind;
use redrock_log::testing::{CrashMode, PowerLossFs};
use redrock_log::writer::SegmentStart;
use rotation::{Offered, SwitchTarget};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

const ONE: &str = "/d/appendonly.aof.1.incr.aof";
const TWO: &str = "/d/appendonly.aof.2.incr.aof";

fn begin(fs: &PowerLossFs, start_offset: u64) -> OpenSegment {
    let start = SegmentStart {
        start_offset,
        database: 0,
        replid: [b'a'; 40],
        run_id: [b'b'; 40],
        epoch: 1,
    };
    OpenSegment {
        segment: SegmentWriter::begin(fs, Path::new(ONE), &start, 1).unwrap(),
        sequence: 1,
        kind: LogKind::AppendOnly,
        replid: [b'a'; 40],
        database: 0,
    }
}

fn log(fs: &PowerLossFs) -> EffectLog {
    let log = EffectLog::new(Arc::new(fs.clone()));
    log.open(begin(fs, 100));
    log
}

fn set(log: &EffectLog, db: usize, key: &str) {
    let mut effect = Effect::default();
    effect.replace(db, &[b"SET", key.as_bytes(), b"v"]);
    log.append_effect(&mut effect);
    assert_eq!(effect.count(), 0);
}

fn stream(fs: &PowerLossFs, path: &str) -> String {
    String::from_utf8(fs.content(Path::new(path)).unwrap_or_default()).unwrap()
}

fn set_text(key: &str) -> String {
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$1\r\nv\r\n", key.len())
}

const SELECT_0: &str = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
const SELECT_3: &str = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";

#[derive(Default)]
struct Counting {
    advanced: AtomicUsize,
    fatal: AtomicUsize,
}

impl LogObserver for Counting {
    fn advanced(&self) {
        self.advanced.fetch_add(1, Ordering::Relaxed);
    }
    fn fatal(&self, _reason: &str) {
        self.fatal.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn one_write_takes_all_that_was_appended_and_offsets_follow() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    assert_eq!(log.flush(), FlushPoint::Written);
    set(&log, 0, "a");
    set(&log, 3, "b");
    assert!(log.has_unwritten());
    let operations = fs.operations();
    assert_eq!(log.flush(), FlushPoint::Written);
    // One more dates what was written before, where that is 100 ms ago.
    assert!((1..=2).contains(&(fs.operations() - operations)));
    let expected = [&set_text("a"), SELECT_3, &set_text("b")].concat();
    assert_eq!(stream(&fs, ONE), [SELECT_0, &expected].concat());
    assert_eq!(log.written_offset(), 100 + expected.len() as u64);
    assert_eq!(log.written_offset(), log.appended_offset());
    assert_eq!(log.durable_offset(), 100);
    assert!(log.sync_now());
    assert_eq!(log.durable_offset(), log.appended_offset());
}

#[test]
fn several_effects_of_one_command_are_one_transaction() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    let mut effect = Effect::default();
    effect.before(0, &[b"DEL", b"x"]);
    effect.replace(0, &[b"SET", b"x", b"v"]);
    log.append_effect(&mut effect);
    log.flush();
    let text = stream(&fs, ONE);
    assert!(
        text.contains("MULTI") && text.ends_with("EXEC\r\n"),
        "{text}"
    );
}

#[test]
fn under_always_replies_wait_for_the_group_commit() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    let observer = Arc::new(Counting::default());
    log.observe(observer.clone());
    log.set_policy(FsyncPolicy::Always);
    set(&log, 0, "a");
    let end = log.appended_offset();
    assert_eq!(
        log.flush(),
        FlushPoint::Durable {
            appended: end,
            durable: 100
        }
    );
    let before = observer.advanced.load(Ordering::Relaxed);
    assert!(log.sync_now());
    assert_eq!(observer.advanced.load(Ordering::Relaxed), before + 1);
    assert_eq!(
        log.flush(),
        FlushPoint::Durable {
            appended: end,
            durable: end
        }
    );
    fs.crash(CrashMode::Scattered { seed: 1 });
    assert!(stream(&fs, ONE).ends_with(&set_text("a")));
}

#[test]
fn the_ballast_lets_the_work_at_hand_finish_on_a_full_disk_and_writes_come_back() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    let ballast = Ballast::open(&fs, Path::new("/d/ballast"), 1000).unwrap();
    log.set_ballast(ballast);
    assert!(!log.refuses_writes());
    let used = fs.content(Path::new(ONE)).unwrap().len() as u64 + 128 + 1000;
    fs.set_capacity_bytes(Some(used + 5));
    set(&log, 0, "a");
    assert_eq!(log.flush(), FlushPoint::Written);
    assert!(log.refuses_writes());
    assert_eq!(
        log.refusal_text().unwrap(),
        "MISCONF Errors writing to the AOF file: No space left on device"
    );
    log.probe();
    assert!(log.refuses_writes(), "the ballast does not fit");
    fs.set_capacity_bytes(None);
    log.probe();
    assert!(!log.refuses_writes());
    set(&log, 0, "b");
    assert_eq!(log.flush(), FlushPoint::Written);
    assert!(stream(&fs, ONE).ends_with(&[set_text("a"), set_text("b")].concat()));
}

#[test]
fn a_log_that_is_left_keeps_what_it_has_and_holds_nobody_up() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    set(&log, 0, "a");
    assert_eq!(log.flush(), FlushPoint::Written);
    let before = stream(&fs, ONE);
    fs.set_capacity_bytes(Some(0));
    set(&log, 0, "b");
    log.flush();
    assert!(log.refuses_writes() && log.has_unwritten());
    log.abandon();
    assert!(!log.refuses_writes() && !log.has_unwritten() && !log.is_on());
    assert_eq!(log.flush(), FlushPoint::Written);
    assert_eq!(stream(&fs, ONE), before);
}

#[test]
fn without_any_room_replies_wait_and_the_file_ends_at_a_whole_record() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    set(&log, 0, "a");
    log.flush();
    let kept = stream(&fs, ONE);
    fs.set_capacity_bytes(Some(kept.len() as u64 + 128 + 7));
    set(&log, 0, "b");
    let point = FlushPoint::Durable {
        appended: log.appended_offset(),
        durable: log.written_offset(),
    };
    assert_eq!(log.flush(), point);
    assert!(log.refuses_writes());
    assert_eq!(stream(&fs, ONE), kept);
    fs.set_capacity_bytes(None);
    log.probe();
    assert_eq!(log.flush(), FlushPoint::Written);
    assert_eq!(stream(&fs, ONE), [kept, set_text("b")].concat());
}

#[test]
fn a_failed_fsync_is_sticky_until_a_base_lands_and_stops_the_server_under_always() {
    for policy in [FsyncPolicy::EverySecond, FsyncPolicy::Always] {
        let fs = PowerLossFs::new("/d");
        let log = log(&fs);
        let observer = Arc::new(Counting::default());
        log.observe(observer.clone());
        log.set_policy(policy);
        set(&log, 0, "a");
        log.flush();
        fs.fail_after(0, libc::EIO);
        assert!(!log.sync_now());
        assert!(log.refuses_writes());
        let stopped = observer.fatal.load(Ordering::Relaxed) > 0;
        assert_eq!(stopped, policy == FsyncPolicy::Always);
        if stopped {
            continue;
        }
        log.probe();
        log.base_landed();
        assert!(
            log.refuses_writes(),
            "the segment is still the one that failed"
        );
        let target = SwitchTarget {
            sequence: 2,
            path: TWO.into(),
            kind: LogKind::AppendOnly,
            replid: None,
        };
        let cut = log.cut(Some(target));
        log.flush_switch();
        assert_eq!(cut.switched.unwrap().try_recv().unwrap(), Ok(()));
        assert!(log.refuses_writes());
        log.base_landed();
        assert!(!log.refuses_writes());
        set(&log, 0, "b");
        assert_eq!(log.flush(), FlushPoint::Written);
        assert!(log.sync_now());
    }
}

#[test]
fn a_switch_splits_the_stream_at_the_cut_and_the_old_segment_is_durable_first() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    assert_eq!(
        log.offer(1, ONE.into(), LogKind::AppendOnly),
        Offered::InUse
    );
    assert_eq!(
        log.offer(1, TWO.into(), LogKind::AppendOnly),
        Offered::Refused(2)
    );
    assert_eq!(
        log.offer(2, TWO.into(), LogKind::AppendOnly),
        Offered::Accepted
    );
    set(&log, 3, "a");
    let mut target = log.take_offer().unwrap();
    target.replid = Some([b'c'; 40]);
    let mut cut = log.cut(Some(target));
    assert_eq!((cut.offset, cut.database), (log.appended_offset(), 3));
    assert_eq!(cut.replid, [b'c'; 40]);
    set(&log, 3, "b");
    set(&log, 0, "c");
    assert!(cut.switched.as_mut().unwrap().try_recv().is_err());
    assert_eq!(log.flush(), FlushPoint::Written);
    assert_eq!(cut.switched.unwrap().try_recv().unwrap(), Ok(()));
    assert_eq!(
        stream(&fs, ONE),
        [SELECT_0, SELECT_3, &set_text("a")].concat()
    );
    let second = [SELECT_3, &set_text("b"), SELECT_0, &set_text("c")].concat();
    assert_eq!(stream(&fs, TWO), second);
    let state = log.state();
    let segment = state.segment.unwrap();
    assert_eq!((segment.sequence, segment.start_offset), (2, cut.offset));
    assert_eq!(state.former, None, "the stream began anew");
    assert_eq!(state.replid, [b'c'; 40]);
    fs.crash(CrashMode::Scattered { seed: 2 });
    assert!(stream(&fs, ONE).ends_with(&set_text("a")));
}

/// Whatever fails, and whenever the power goes: the second segment has bytes of the stream only
/// if the first one is whole, since a replay never crosses a gap.
#[test]
fn a_fault_at_any_step_of_a_switch_leaves_no_gap() {
    for fault in [false, true] {
        for point in 0..16 {
            for seed in 0..8 {
                let fs = PowerLossFs::new("/d");
                let log = log(&fs);
                set(&log, 0, "a");
                log.flush();
                log.offer(2, TWO.into(), LogKind::AppendOnly);
                log.cut(log.take_offer());
                set(&log, 0, "b");
                match fault {
                    true => fs.fail_after(point, libc::EIO),
                    false => fs.lose_power_after(point),
                }
                log.flush();
                log.flush();
                fs.crash(CrashMode::Scattered { seed });
                let gap = stream(&fs, TWO).len() > SELECT_0.len()
                    && !stream(&fs, ONE).ends_with(&set_text("a"));
                assert!(!gap, "fault {fault}, point {point}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_switch_that_fails_leaves_the_old_segment_in_use() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    let taken = fs
        .open(Path::new(TWO), redrock_log::fs::OpenMode::CreateKeep)
        .unwrap();
    taken.write_all_at(b"x", 0).unwrap();
    assert_eq!(
        log.offer(2, TWO.into(), LogKind::AppendOnly),
        Offered::Accepted
    );
    set(&log, 0, "a");
    let cut = log.cut(log.take_offer());
    set(&log, 0, "b");
    assert_eq!(log.flush(), FlushPoint::Written);
    assert!(cut.switched.unwrap().try_recv().unwrap().is_err());
    assert!(stream(&fs, ONE).ends_with(&[set_text("a"), set_text("b")].concat()));
}

#[test]
fn the_log_can_be_turned_off_and_on() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    set(&log, 0, "a");
    log.disable();
    let end = log.appended_offset();
    set(&log, 0, "lost");
    assert_eq!(
        (log.appended_offset(), log.flush()),
        (end, FlushPoint::Written)
    );
    assert!(stream(&fs, ONE).ends_with(&set_text("a")));
    let target = SwitchTarget {
        sequence: 2,
        path: TWO.into(),
        kind: LogKind::Replication,
        replid: None,
    };
    let cut = log.cut(Some(target));
    assert_eq!(cut.offset, end);
    set(&log, 0, "b");
    assert_eq!(log.flush(), FlushPoint::Written);
    assert_eq!(stream(&fs, TWO), [SELECT_0, &set_text("b")].concat());
    assert_eq!(log.state().kind, LogKind::Replication);
}

#[test]
fn concurrent_writers_never_return_before_their_bytes_are_written() {
    let fs = PowerLossFs::new("/d");
    let log = Arc::new(log(&fs));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let log = log.clone();
            let fs = fs.clone();
            std::thread::spawn(move || {
                for round in 0..200 {
                    let key = format!("{thread}-{round}");
                    set(&log, 0, &key);
                    assert_eq!(log.flush(), FlushPoint::Written);
                    if round % 50 == 0 {
                        assert!(stream(&fs, ONE).contains(&set_text(&key)));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let total = (log.appended_offset() - 100) as usize + SELECT_0.len();
    assert_eq!(stream(&fs, ONE).len(), total);
    log.close().unwrap();
    assert_eq!(log.durable_offset(), log.appended_offset());
}

#[test]
fn watchers_see_the_newest_state() {
    let fs = PowerLossFs::new("/d");
    let log = log(&fs);
    let mut watcher = log.subscribe();
    assert_eq!(watcher.borrow_and_update().written_offset, 100);
    set(&log, 0, "a");
    log.flush();
    assert!(watcher.has_changed().unwrap());
    assert_eq!(
        watcher.borrow_and_update().written_offset,
        log.appended_offset()
    );
    log.sync_now();
    assert_eq!(
        watcher.borrow_and_update().durable_offset,
        log.appended_offset()
    );
}

/// For how long, at most, anything was written and not durable while the sync thread was at work,
/// and how much later than meant things happened.
fn oldest_not_durable(fs: &PowerLossFs) -> (Duration, Duration) {
    let log = Arc::new(log(fs));
    let syncing = std::thread::spawn({
        let log = log.clone();
        move || log.run_sync()
    });
    let (began, step) = (Instant::now(), Duration::from_millis(5));
    let (mut oldest, mut late, mut last) = (Duration::ZERO, Duration::ZERO, began);
    let mut written = VecDeque::new();
    while last - began < Duration::from_millis(3300) {
        set(&log, 0, "a");
        assert_eq!(log.flush(), FlushPoint::Written);
        let now = Instant::now();
        written.push_back((now, log.written_offset()));
        let durable = log.durable_offset();
        while written.front().is_some_and(|(_, end)| *end <= durable) {
            written.pop_front();
        }
        if let Some((at, _)) = written.front() {
            oldest = oldest.max(now - *at);
        }
        late = late.max((now - last).saturating_sub(step));
        last = now;
        std::thread::sleep(step);
    }
    log.stop_syncing();
    syncing.join().unwrap();
    assert_eq!(log.delayed_syncs(), 0);
    (oldest, late)
}

#[test]
fn what_was_written_a_second_before_is_durable_under_everysec() {
    for sync_ms in [0, 250] {
        let fs = PowerLossFs::new("/d");
        fs.set_sync_time(Duration::from_millis(sync_ms));
        let (oldest, late) = oldest_not_durable(&fs);
        // What keeps this thread from running keeps the other one too.
        let max = Duration::from_millis(1010) + late * 2;
        assert!(oldest <= max, "{oldest:?}, late by {late:?}");
        // Each second, not all the time.
        assert!(oldest >= Duration::from_millis(450), "{oldest:?}");
    }
}

#[test]
fn a_writer_waits_two_seconds_behind_the_last_sync_and_goes_on_after_the_next() {
    let fs = PowerLossFs::new("/d");
    let log = Arc::new(log(&fs));
    let (began, written) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (log, written, stop) = (log.clone(), written.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                set(&log, 0, "a");
                assert_eq!(log.flush(), FlushPoint::Written);
                written.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let wait_for = |what: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(Instant::now() < deadline, "it does not come about");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(&|| log.delayed_syncs() > 0);
    assert!(began.elapsed() > Duration::from_millis(1950));
    let stalled = written.load(Ordering::Relaxed);
    assert!(stalled > 0, "nobody waits before");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(written.load(Ordering::Relaxed), stalled);
    // Nothing of the two seconds is lost to the next sync.
    let end = log.written_offset();
    assert!(log.sync_now());
    assert!(log.durable_offset() >= end);
    wait_for(&|| written.load(Ordering::Relaxed) > stalled + 10);
    assert_eq!(log.delayed_syncs(), 1);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}
