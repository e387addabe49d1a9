//! What the manifest names stays in line with what the server says, whatever is in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::server::eventually;
use common::{DIR, manifest_of, real_with_log};
use redrock_log::fs::RealFs;
use redrock_log::history::{Histories, LogOrigin, ReplicationState};
use redrock_log::manifest::{self, Names};
use redrock_proto::ErrorCode;

#[tokio::test(flavor = "multi_thread")]
async fn a_base_alone_never_replaces_a_log_that_is_on_at_the_cut() {
    let world = real_with_log();
    world.fake.append_set("logged");
    world.fake.deny_log();
    let job = world.session.rewrite(false).unwrap();
    let error = job.finished().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled, "{error}");
    let manifest = manifest_of(&RealFs, world.folder.path());
    assert!(manifest.base.is_none() && manifest.history.is_empty());
    assert_eq!(manifest.incr.len(), 1, "{manifest:?}");
    assert_eq!(world.fake.state.lock().released, [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_could_not_be_listed_is_listed_once_that_is_possible() {
    let world = real_with_log();
    let directory = world.folder.path().join(DIR);
    world.session.keeper().await.unwrap();
    let told = || world.fake.state.lock().listed.len();
    eventually("the first look at the files", || told() > 0).await;
    // No manifest can be written where its temporary name is a folder.
    let names = Names::default();
    let obstacle = directory.join(manifest::temporary_manifest_name(&names));
    std::fs::create_dir(&obstacle).unwrap();
    let before = told();
    assert!(world.fake.begin_log(2, &directory.join(names.incr(2))));
    eventually("a look that fails", || told() > before).await;
    let listed = || manifest_of(&RealFs, world.folder.path()).incr.len();
    assert_eq!(listed(), 1);
    std::fs::remove_dir(&obstacle).unwrap();
    eventually("the segment in the manifest", || listed() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_keep_replaced_segments_of_their_own_stream_only() {
    for (sequence, kept) in [(1, 1), (2, 0)] {
        let world = real_with_log();
        world.fake.append_set("a");
        // A full sync has begun another log with the second segment, at a lower offset.
        let replid = world.fake.state.lock().log.replid.digits();
        let mut state = ReplicationState::new(replid, 0, 0);
        state.origin = LogOrigin {
            sequence,
            offset: 0,
        };
        let histories = Histories::new(state);
        let folder = world.folder.path();
        histories.store(&RealFs, folder, &|| Ok(())).unwrap();
        let (lease, now) = (Duration::from_secs(60), Instant::now());
        let pinned =
            world
                .session
                .pins
                .lock()
                .pin("replica-1", BTreeSet::new(), Some(0), lease, now);
        pinned.unwrap();
        let job = world.session.rewrite(false).unwrap();
        job.finished().await.unwrap();
        let history = manifest_of(&RealFs, folder).history;
        assert_eq!(history.len(), kept, "{history:?}");
    }
}
