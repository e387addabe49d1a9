//! The append-only log's files: rewrites, turning the log on, retention, power loss.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::dataset::Record;
use common::redis::Redis;
use common::server::{Fault, eventually};
use common::{DIR, manifest_of, real_with_log, real_world, with_log, world};
use redrock_log::fs::{Fs, RealFs};
use redrock_log::manifest;
use redrock_log::testing::{CrashMode, PowerLossFs};
use redrock_persist::aof::keeper::Keeper;
use redrock_persist::aof::retention::{Pinned, removable};
use redrock_persist::base::{Wanted, get};
use redrock_persist::check::{Verdict, check_path};
use redrock_persist::progress::ActionProgress;
use redrock_proto::ErrorCode;
use redrock_proto::model::LogKind;

fn names_in(path: &Path) -> BTreeSet<String> {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Starts Redis on a copy of the folder and reads all keys.
fn keys_in_redis(data_dir: &Path) -> Option<BTreeSet<String>> {
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join(DIR);
    std::fs::create_dir(&target).unwrap();
    for name in names_in(&data_dir.join(DIR)) {
        std::fs::copy(data_dir.join(DIR).join(&name), target.join(&name)).unwrap();
    }
    let mut redis = Redis::start(copy.path(), &["--appendonly", "yes"])?;
    let keys = redis.line("KEYS *");
    Some(keys.split_whitespace().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_leaves_one_base_and_the_segment_behind_it_and_redis_starts_from_them() {
    let world = real_with_log();
    let data_dir = world.folder.path().to_owned();
    for index in 0..10 {
        assert!(world.fake.append_set(&format!("k{index}")));
    }
    for round in 1..=2 {
        let job = world.session.rewrite(false).unwrap();
        let outcome = job.finished().await.unwrap();
        assert_eq!(
            outcome.path,
            format!("appendonlydir/appendonly.aof.{round}.base.rdb")
        );
        assert!(world.fake.append_set(&format!("later{round}")));
    }
    let manifest = manifest_of(&RealFs, &data_dir);
    assert!(manifest.history.is_empty());
    assert_eq!(manifest.incr.len(), 1);
    let last = manifest.incr.last().unwrap();
    assert_eq!(last.sequence, 3);
    let expected: BTreeSet<String> = [
        "appendonly.aof.2.base.rdb",
        "appendonly.aof.3.incr.aof",
        "appendonly.aof.3.incr.aof.meta",
        "appendonly.aof.manifest",
        manifest::RESERVE_NAME,
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(names_in(&data_dir.join(DIR)), expected);
    let state = world.fake.state.lock();
    assert_eq!(state.released, [true, true]);
    let listed = state.listed.last().unwrap();
    assert_eq!(listed.segments.len(), 1);
    assert_eq!(last.start_offset, Some(listed.oldest_offset));
    let acknowledged: BTreeSet<String> = state.acknowledged.iter().cloned().collect();
    drop(state);
    for report in check_path(&RealFs, &data_dir, &ActionProgress::new()) {
        assert_eq!(report.verdict, Verdict::Sound, "{}", report.path.display());
    }
    if let Some(keys) = keys_in_redis(&data_dir) {
        assert_eq!(keys, acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cut_unlists_the_segment_and_a_failed_one_keeps_it() {
    let world = real_with_log();
    let data_dir = world.folder.path().to_owned();
    world.fake.append_set("before");
    world.fake.change(|state| state.fault = Fault::Refuse);
    let job = world.session.rewrite(false).unwrap();
    assert_eq!(job.finished().await.unwrap_err().code, ErrorCode::Busy);
    let listed = |data_dir: &Path| -> Vec<i64> {
        let manifest = manifest_of(&RealFs, data_dir);
        manifest.incr.iter().map(|entry| entry.sequence).collect()
    };
    assert_eq!(listed(&data_dir), [1]);

    world.fake.change(|state| state.fault = Fault::FailAfterCut);
    let job = world.session.rewrite(false).unwrap();
    assert_eq!(job.finished().await.unwrap_err().code, ErrorCode::Internal);
    // The offer of number 2 was replaced, so its empty file is gone.
    assert_eq!(listed(&data_dir), [1, 3]);
    assert!(
        !data_dir
            .join(DIR)
            .join("appendonly.aof.2.incr.aof")
            .exists()
    );
    assert!(manifest_of(&RealFs, &data_dir).base.is_none());
    assert_eq!(world.session.rewrite_failures().count, 2);
    if let Some(keys) = keys_in_redis(&data_dir) {
        assert_eq!(keys, ["before", "after-cut-1"].map(str::to_owned).into());
    }
    world.fake.change(|state| state.fault = Fault::None);
    let job = world.session.rewrite(false).unwrap();
    job.finished().await.unwrap();
    assert_eq!(listed(&data_dir), [4]);
    assert_eq!(world.session.rewrite_failures().count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn turning_the_log_on_never_continues_an_old_one_across_a_gap() {
    let world = real_world(|folder, fake| {
        with_log(&RealFs, folder, fake);
        fake.append_set("old");
        fake.end_log();
        fake.change(|state| state.hot = vec![Record::string(0, "present", b"x")]);
    });
    let data_dir = world.folder.path().to_owned();
    world.fake.change(|state| state.fault = Fault::FailAfterCut);
    let job = world.session.rewrite(true).unwrap();
    job.finished().await.unwrap_err();
    let manifest = manifest_of(&RealFs, &data_dir);
    assert_eq!(
        manifest.incr.len(),
        1,
        "the failed segment is in no manifest"
    );
    world.fake.end_log();

    world.fake.change(|state| {
        state.fault = Fault::None;
        state.hot.truncate(1);
    });
    let job = world.session.rewrite(true).unwrap();
    job.finished().await.unwrap();
    let manifest = manifest_of(&RealFs, &data_dir);
    assert!(manifest.base.is_some() && manifest.incr.len() == 1);
    if let Some(keys) = keys_in_redis(&data_dir) {
        let expected = ["present", "after-cut-2"].map(str::to_owned);
        assert_eq!(keys, expected.into());
    }
    // The marker of the failed attempt lets the next start remove its segment.
    world.stop.cancel();
    let keeper = Keeper::open(world.session.source.dir.clone(), DIR, "appendonly.aof").unwrap();
    keeper.clean_up(Some(3)).unwrap();
    let names = names_in(&data_dir.join(DIR));
    assert!(
        !names.iter().any(|name| name.starts_with("temp")),
        "{names:?}"
    );
    assert!(!names.contains("appendonly.aof.2.incr.aof"), "{names:?}");
    assert!(names.contains("appendonly.aof.3.incr.aof"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_log_off_a_rewrite_makes_a_base_alone() {
    let world = real_world(|_, fake| {
        fake.change(|state| state.hot = vec![Record::string(0, "a", b"x")]);
    });
    let job = world.session.rewrite(false).unwrap();
    job.finished().await.unwrap();
    let manifest = manifest_of(&RealFs, world.folder.path());
    assert!(manifest.base.is_some() && manifest.incr.is_empty());
    assert_eq!(world.fake.state.lock().log.kind, LogKind::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_shared_and_its_files_stay_while_they_are_pinned() {
    let world = real_with_log();
    let data_dir = world.folder.path().to_owned();
    world.fake.append_set("a");
    let wanted = |holder: &str| Wanted {
        holder: holder.into(),
        rdb_version_max: 10,
        fresh: false,
        lease: Duration::from_secs(60),
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    let (one, two) = tokio::join!(
        get(&world.session, wanted("one"), &sender),
        get(&world.session, wanted("two"), &sender)
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.path, two.path);
    assert_eq!(world.fake.state.lock().takes, 1, "one snapshot for both");
    assert_eq!(one.segments.len(), 1);
    assert_eq!(one.segments[0].start_offset, one.offset);

    world
        .session
        .rewrite(false)
        .unwrap()
        .finished()
        .await
        .unwrap();
    let pinned = one.path.resolve(&data_dir);
    assert!(pinned.exists(), "pinned by two holders");
    assert_eq!(manifest_of(&RealFs, &data_dir).history.len(), 2);
    let files = redrock_persist::files::list(&world.session, Default::default()).unwrap();
    let holders: Vec<String> = files
        .files
        .iter()
        .flat_map(|f| f.pinned_by.clone())
        .collect();
    assert!(holders.contains(&"one".to_owned()), "{holders:?}");

    let keeper = world.session.keeper().await.unwrap();
    let settings = world.session.settings().await.unwrap();
    for (holder, exists) in [("one", true), ("two", false)] {
        world.session.pins.lock().unpin(holder);
        world.session.unpinned(&keeper, &settings).await;
        assert_eq!(pinned.exists(), exists, "{holder}");
    }
    assert!(manifest_of(&RealFs, &data_dir).history.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_starts_a_rewrite_and_an_orphan_of_a_former_run_changes_nothing() {
    let world = real_with_log();
    let data_dir = world.folder.path().to_owned();
    for index in 0..100 {
        world.fake.append_set(&format!("k{index}"));
    }
    world.session.keeper().await.unwrap();
    world.fake.set(&[
        ("auto-aof-rewrite-min-size", "100"),
        ("auto-aof-rewrite-percentage", "1"),
    ]);
    for index in 100..200 {
        world.fake.append_set(&format!("k{index}"));
    }
    eventually("the automatic rewrite", || {
        manifest_of(&RealFs, &data_dir).base.is_some()
    })
    .await;
    world.fake.set(&[("auto-aof-rewrite-percentage", "0")]);
    eventually("it is over", || !world.session.jobs.busy()).await;

    // Another run takes the directory over.
    let before = names_in(&data_dir.join(DIR));
    redrock_log::epoch::begin_run(&RealFs, &data_dir, [b'c'; 40]).unwrap();
    let error = world
        .session
        .rewrite(false)
        .unwrap()
        .finished()
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StaleEpoch, "{error}");
    let after = names_in(&data_dir.join(DIR));
    let base = |names: &BTreeSet<String>| -> Vec<String> {
        names
            .iter()
            .filter(|name| name.contains("base"))
            .cloned()
            .collect()
    };
    assert_eq!(base(&before), base(&after));
    let save = world
        .session
        .save(false, redrock_persist::jobs::Queueing::Refuse)
        .unwrap();
    assert_eq!(
        save.finished().await.unwrap_err().code,
        ErrorCode::StaleEpoch
    );
    assert!(!data_dir.join("dump.rdb").exists());
}

/// After a crash: the manifest's files are whole and hold everything acknowledged.
fn assert_nothing_lost(fs: &PowerLossFs, data_dir: &Path, acknowledged: &[String], what: &str) {
    let manifest = manifest_of(fs, data_dir);
    let mut found = BTreeSet::new();
    for entry in manifest.files_to_load() {
        let path = data_dir.join(DIR).join(&entry.name);
        let content = fs
            .content(&path)
            .unwrap_or_else(|| panic!("{what}: {} is listed and missing", entry.name));
        if entry.name.ends_with(".base.rdb") {
            for record in common::dataset::read_rdb(&content) {
                found.insert(String::from_utf8(record.key).unwrap());
            }
        } else {
            let text = String::from_utf8_lossy(&content).into_owned();
            let words: Vec<&str> = text.split("\r\n").collect();
            for pair in words.windows(3).filter(|pair| pair[0] == "SET") {
                found.insert(pair[2].to_owned());
            }
        }
    }
    for key in acknowledged {
        assert!(found.contains(key), "{what}: {key} is lost");
    }
}

/// One rewrite during which the power goes at the `point`th operation of the files.
async fn rewrite_with_power_loss(point: u64, mode: CrashMode, enable: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = PathBuf::from("/d");
    let fs = PowerLossFs::new(&data_dir);
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let world = world(folder, Arc::clone(&shared), &data_dir, |data_dir, fake| {
        with_log(&fs, data_dir, fake);
        for index in 0..3 {
            assert!(fake.append_set(&format!("k{index}")));
        }
        if enable {
            fake.end_log();
            fake.change(|state| state.acknowledged.clear());
        }
    });
    world.session.keeper().await.unwrap();
    // The start offset of the first segment is noted before the count begins.
    let fake = world.fake.clone();
    if !enable {
        eventually("the segments are told", || {
            !fake.state.lock().listed.is_empty()
        })
        .await;
    }
    fs.lose_power_after(point);
    let result = world.session.rewrite(enable).unwrap().finished().await;
    world.fake.append_set("last");
    world.stop.cancel();
    let completed = !fs.power_is_lost();
    assert!(
        !completed || result.is_ok(),
        "it failed with the power on: {result:?}"
    );
    fs.crash(mode);
    let what = format!("power lost at operation {point}, {mode:?}, enable {enable}: {result:?}");
    let acknowledged = world.fake.state.lock().acknowledged.clone();
    if !enable || result.is_ok() {
        assert_nothing_lost(&fs, &data_dir, &acknowledged, &what);
    } else {
        // What was logged for an enabling that failed must not join the old log.
        let manifest = manifest_of(&fs, &data_dir);
        let stale = manifest.base.is_none() && manifest.incr.len() > 1;
        assert!(!stale, "{what}");
    }
    // The next start cleans up and finds a set that it can go on from.
    let mut run_id = [b'0'; 40];
    run_id[0] = b'1';
    let epoch = redrock_log::epoch::begin_run(&fs, &data_dir, run_id).unwrap();
    let guard = redrock_log::epoch::EpochGuard::new(Arc::clone(&shared), &data_dir, epoch);
    let dir = redrock_persist::data_dir::DataDir::new(shared, &data_dir, guard);
    let keeper = Keeper::open(dir, DIR, "appendonly.aof").unwrap();
    keeper.clean_up(None).unwrap();
    keeper
        .delete_history(|files| removable(files, &Pinned::default()))
        .unwrap();
    let manifest = keeper.manifest().unwrap();
    assert!(manifest.history.is_empty());
    if !enable || result.is_ok() {
        assert_nothing_lost(
            &fs,
            &data_dir,
            &acknowledged,
            &format!("{what}, cleaned up"),
        );
    }
    let listed: BTreeSet<String> = manifest
        .files_to_load()
        .map(|entry| entry.name.clone())
        .collect();
    for name in fs.list(&data_dir.join(DIR)).unwrap() {
        let name = name.into_string().unwrap();
        let known = listed.contains(name.strip_suffix(".meta").unwrap_or(&name))
            || ["appendonly.aof.manifest", manifest::RESERVE_NAME].contains(&name.as_str());
        // Unlisted segments with data are for people to judge.
        assert!(
            known || name.contains(".incr.aof"),
            "{what}: {name} is left"
        );
    }
    completed
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_at_any_operation_of_a_rewrite_loses_nothing() {
    let began = Instant::now();
    for enable in [false, true] {
        let mut point = 0;
        loop {
            let mut completed = true;
            for mode in [
                CrashMode::DropAll,
                CrashMode::KeepAll,
                CrashMode::TornPrefix { seed: point },
                CrashMode::Scattered { seed: point },
            ] {
                completed &= rewrite_with_power_loss(point, mode, enable).await;
            }
            if completed {
                break;
            }
            point += 1;
        }
        assert!(
            point > 15,
            "only {point} operations: is the rewrite done at all?"
        );
        eprintln!("enable {enable}: {point} points in {:?}", began.elapsed());
    }
}
