//! From the server's stream and checkpoint to RDB files that Redis loads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::dataset::{Record, make_checkpoint, read_rdb};
use common::redis::Redis;
use common::server::{Fault, eventually};
use common::{real_world, world};
use redrock_log::testing::{CrashMode, PowerLossFs};
use redrock_persist::jobs::Queueing;
use redrock_proto::ErrorCode;
use redrock_rdb::listpack::ListPack;
use redrock_rdb::object::{Object, decode, types};

/// Every type of value, in two databases, with and without expiry, small and large.
fn fill(redis: &mut Redis) {
    for database in [0, 5] {
        redis.line(&format!("SELECT {database}"));
        for index in 0..150 {
            redis.line(&format!("SET s{index} value-{index}"));
            redis.line(&format!("SADD set{index} a{index} b{index} 17"));
            redis.line(&format!("HSET hash{index} f {index} g x"));
            redis.line(&format!("RPUSH list{index} 1 2 three {index}"));
            redis.line(&format!("ZADD zset{index} 1.5 m{index} 3 n"));
            redis.line(&format!("SADD ints{index} {index} 99999"));
            redis.line(&format!("XADD stream{index} 1-{} f v{index}", index + 1));
            redis.line(&format!("XGROUP CREATE stream{index} group 0"));
            redis.line(&format!(
                "XREADGROUP GROUP group ann STREAMS stream{index} >"
            ));
            if index % 3 == 0 {
                redis.line(&format!(
                    "PEXPIREAT s{index} {}",
                    4_000_000_000_000_u64 + index
                ));
                redis.line(&format!(
                    "PEXPIREAT hash{index} {}",
                    4_100_000_000_000_u64 + index
                ));
            }
        }
        let long = "abcdefghij".repeat(60_000);
        redis.call(&["SET", "long", &long]);
        redis.call(&["SET", "long-cold", &long]);
        for part in 0..40 {
            let words: Vec<String> = (0..400)
                .map(|index| format!("member-{part}-{index}-{}", "x".repeat(20)))
                .collect();
            let mut command = vec!["SADD".to_owned(), "large-set".to_owned()];
            command.extend(words.iter().cloned());
            redis.call(&command);
            for word in words.iter().take(50) {
                redis.call(&["XADD", "large-stream", "*", "field", &word.repeat(6)]);
            }
        }
        redis.line("XGROUP CREATE large-stream group 0");
        redis.line("XREADGROUP GROUP group bob COUNT 500 STREAMS large-stream >");
    }
}

/// Small sets as Redis 7.2 keeps them, which version 10 does not know.
fn with_listpack_sets(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        if let Ok(Object::Set(members)) = decode(record.object_type, &record.payload)
            && members.len() < 10
        {
            let mut listpack = ListPack::new();
            for member in &members {
                listpack.push_back(member);
            }
            record.payload.clear();
            Object::SetListpack(listpack).encode(&mut record.payload);
            record.object_type = types::SET_LISTPACK;
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_and_cold_records_become_a_file_that_redis_loads_with_the_same_digest() {
    let source_folder = tempfile::tempdir().unwrap();
    let Some(mut source) = Redis::start(source_folder.path(), &[]) else {
        return;
    };
    fill(&mut source);
    source.line("SAVE");
    let digest = source.digest();
    let dump = std::fs::read(source_folder.path().join("dump.rdb")).unwrap();
    let records = with_listpack_sets(read_rdb(&dump));
    assert!(
        records.iter().any(|record| record.payload.len() > 300_000
            && record.object_type == types::STREAM_LISTPACKS_3)
    );

    for (compress, checksum) in [("yes", "yes"), ("no", "no")] {
        let tier = tempfile::tempdir().unwrap();
        let checkpoint = tier.path().join("checkpoint");
        // Two of three are cold, in an order of their own; hot ones change databases often.
        let (mut hot, mut cold) = (Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let keep_cold = index % 3 != 0 && record.key != b"long";
            let target = if keep_cold { &mut cold } else { &mut hot };
            target.push(record.clone());
        }
        hot.sort_by(|a, b| a.key.cmp(&b.key));
        make_checkpoint(&tier.path().join("db"), &cold, &checkpoint);
        let world = real_world(|_, fake| {
            fake.set(&[("rdbcompression", compress), ("rdbchecksum", checksum)]);
            fake.change(|state| {
                state.hot = hot.clone();
                state.cold = cold.clone();
                state.checkpoint = Some(checkpoint.clone());
            });
        });
        let job = world.session.save(false, Queueing::Refuse).unwrap();
        let outcome = job.finished().await.unwrap();
        assert_eq!(outcome.keys, records.len() as u64);
        assert_eq!(outcome.path, "dump.rdb");
        assert!(outcome.records_transcoded > 0 && outcome.records_copied > 0);
        assert_eq!(world.fake.state.lock().released, [true]);
        let path = world.folder.path().join("dump.rdb");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), outcome.bytes);

        let loaded_folder = tempfile::tempdir().unwrap();
        std::fs::copy(&path, loaded_folder.path().join("dump.rdb")).unwrap();
        let mut loaded = Redis::start(loaded_folder.path(), &[]).unwrap();
        assert_eq!(loaded.digest(), digest, "compress {compress}");
        loaded.line("SELECT 5");
        assert_eq!(loaded.line("PEXPIRETIME hash3"), "4100000000003");
        assert_eq!(loaded.line("PEXPIRETIME hash4"), "-1");
        let status = redrock_persist::files::status(&world.session);
        assert!(status.last_save.unwrap().succeeded);
    }
}

fn few_records() -> Vec<Record> {
    (0..20)
        .map(|index| Record::string(0, &format!("k{index}"), b"value"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_that_fails_leaves_the_old_file_and_no_litter() {
    for (fault, code) in [
        (Fault::Refuse, ErrorCode::Busy),
        (Fault::FailAfterCut, ErrorCode::Internal),
        (Fault::WrongCount, ErrorCode::Corrupt),
    ] {
        let world = real_world(|folder, fake| {
            std::fs::write(folder.join("dump.rdb"), "precious").unwrap();
            fake.change(|state| {
                state.hot = few_records();
                state.fault = fault;
            });
        });
        let job = world.session.save(true, Queueing::Refuse).unwrap();
        let error = job.finished().await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        let content = std::fs::read_to_string(world.folder.path().join("dump.rdb")).unwrap();
        assert_eq!(content, "precious");
        let names = std::fs::read_dir(world.folder.path()).unwrap();
        let litter = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with("temp-"));
        assert_eq!(litter, None, "{fault:?}");
        let status = redrock_persist::files::status(&world.session);
        let last = status.last_save.unwrap();
        assert!(!last.succeeded && last.error == error.message);
    }
}

/// What a save under which the power goes at the `point`th operation of the files leaves; true if
/// the save came to its end before that.
async fn save_with_power_loss(point: u64, mode: CrashMode) -> bool {
    let data_dir = Path::new("/d");
    let fs = PowerLossFs::new(data_dir);
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder, Arc::new(fs.clone()), data_dir, |_, fake| {
        fake.change(|state| state.hot = few_records());
    });
    fs.lose_power_after(point);
    let saved = world.session.save(false, Queueing::Refuse).unwrap();
    let saved = saved.finished().await;
    let completed = !fs.power_is_lost();
    assert!(!completed || saved.is_ok(), "{saved:?}");
    fs.crash(mode);
    let content = fs.content(&data_dir.join("dump.rdb"));
    let what = format!("power lost at operation {point}, {mode:?}: {saved:?}");
    match content {
        Some(content) => assert_eq!(read_rdb(&content).len(), few_records().len(), "{what}"),
        None => assert!(saved.is_err(), "{what}: the dump is lost"),
    }
    completed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_was_answered_survives_a_power_loss_and_no_half_file_is_ever_left() {
    let mut point = 0;
    loop {
        let mut completed = true;
        for mode in [
            CrashMode::DropAll,
            CrashMode::KeepAll,
            CrashMode::TornPrefix { seed: point },
            CrashMode::Scattered { seed: point },
        ] {
            completed &= save_with_power_loss(point, mode).await;
        }
        if completed {
            break;
        }
        point += 1;
    }
    assert!(point > 3, "only {point} operations: is it saved at all?");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cold_value_or_a_missing_one_fails_the_save_and_is_named() {
    let tier = tempfile::tempdir().unwrap();
    let checkpoint = tier.path().join("checkpoint");
    let mut cold = few_records();
    // A string that claims to be longer than it is.
    cold[7].payload = vec![0x40, 0xff, b'x'];
    make_checkpoint(&tier.path().join("db"), &cold, &checkpoint);
    let world = real_world(|_, fake| {
        fake.change(|state| {
            state.cold = cold.clone();
            state.checkpoint = Some(checkpoint.clone());
        });
    });
    let job = world.session.save(false, Queueing::Refuse).unwrap();
    let error = job.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Corrupt);
    assert!(error.message.contains("'k7'"), "{error}");
    assert!(!world.folder.path().join("dump.rdb").exists());
    assert_eq!(world.fake.state.lock().released, [false]);

    world.fake.set(&[("rdbcompression", "no")]);
    world
        .fake
        .change(|state| state.cold.push(Record::string(0, "lost", b"x")));
    eventually("the setting arrives", || {
        let settings = world.session.settings.borrow();
        settings
            .as_ref()
            .is_some_and(|settings| !settings.rdb_compression)
    })
    .await;
    let job = world.session.save(false, Queueing::Refuse).unwrap();
    let error = job.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Corrupt);
    assert!(error.message.contains("20 records where 21"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_copy_renews_its_lease_and_ends_when_the_lease_is_lost_or_it_is_aborted() {
    let tier = tempfile::tempdir().unwrap();
    let checkpoint = tier.path().join("checkpoint");
    let cold: Vec<Record> = (0..200)
        .map(|index| Record::string(0, &format!("k{index}"), &[b'v'; 100]))
        .collect();
    make_checkpoint(&tier.path().join("db"), &cold, &checkpoint);
    let world = real_world(|_, fake| {
        // About 10 seconds of copying.
        fake.set(&[("snapshot-rate", "2000")]);
        fake.change(|state| {
            state.cold = cold;
            state.checkpoint = Some(checkpoint);
        });
    });
    let job = world.session.save(false, Queueing::Refuse).unwrap();
    let fake = world.fake.clone();
    eventually("the lease is renewed", || fake.state.lock().reports >= 2).await;
    assert!(!job.progress.is_before_cut());
    assert!(job.progress.message().keys_done > 0);
    world.session.jobs.abort(None);
    let error = job.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);

    world.fake.change(|state| state.fault = Fault::LoseLease);
    let job = world.session.save(false, Queueing::Refuse).unwrap();
    let error = job.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");
    assert!(job.progress.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_can_be_given_up_and_a_save_point_fires_by_itself() {
    let world = real_world(|_, fake| {
        fake.change(|state| {
            state.hot = few_records();
            state.fault = Fault::Silent;
        });
    });
    for fault in [Fault::Silent, Fault::HangAfterCut] {
        world.fake.change(|state| state.fault = fault);
        let job = world.session.save(false, Queueing::Refuse).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.session.jobs.abort(None).len(), 1);
        let error = job.finished().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
    }
    // Failed attempts hold the save point back; a success lets it go on.
    world.fake.change(|state| state.fault = Fault::None);
    let job = world.session.save(false, Queueing::Refuse).unwrap();
    job.finished().await.unwrap();
    world.fake.change(|state| state.log.changes_since_save = 5);
    world.fake.set(&[("save", "1 5")]);
    let takes = world.fake.state.lock().takes;
    let fake = world.fake.clone();
    eventually("the save point", || fake.state.lock().takes > takes).await;
}
