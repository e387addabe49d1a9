//! What the manifest names stays in line with what the server says, whatever is in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{manifest_of, real_with_log};
use redrock_log::fs::RealFs;
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
