//! What REPLICAOF says to an agent that missed something.

use crate::link::{companions_up, fill, link_is, same_data, start};
use anyhow::Context as _;
use redrock_integration_tests::process::Kind;
use redrock_log::epoch::read_epoch;
use redrock_log::fs::RealFs;
use redrock_proto::client::{Timeouts, replica_client};
use redrock_proto::v1;
use std::path::Path;

/// The run that a server's folder tells.
fn run_of(folder: &Path) -> anyhow::Result<Option<v1::RunRef>> {
    let epoch = read_epoch(&RealFs, folder)?.context("an epoch")?;
    Ok(Some(v1::RunRef {
        run_id: String::from_utf8(epoch.run_id.to_vec())?,
        epoch: epoch.number,
    }))
}

#[test]
fn replicaof_to_the_same_master_asks_an_agent_that_follows_nobody() -> anyhow::Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [theirs, ours] = [folders[0].path(), folders[1].path()];
    let server = start(Kind::RedRock, theirs, &[])?;
    let follower = start(Kind::RedRock, ours, &[])?;
    let (mut master, mut replica) = (server.client()?, follower.client()?);
    companions_up(&mut master)?;
    companions_up(&mut replica)?;
    fill(&mut master, "key", 0..100, 100)?;
    let replicaof = format!("REPLICAOF 127.0.0.1 {}", server.port);
    replica.ok(&replicaof)?;
    link_is(&mut replica, "up")?;

    let runtime = tokio::runtime::Runtime::new()?;
    let mut agent =
        runtime.block_on(async { replica_client(&ours.join("run"), Timeouts::default()) });
    let run = run_of(ours)?;
    let unfollow = v1::UnfollowRequest { run: run.clone() };
    runtime.block_on(agent.unfollow(unfollow.clone()))?;
    link_is(&mut replica, "down")?;
    assert_eq!(
        replica.ok(&replicaof)?.text(),
        "OK Already connected to specified master"
    );
    // At once, not when the agent looks for itself.
    let status = v1::ReplicaStatusRequest { run };
    let status = runtime.block_on(agent.status(status))?.into_inner();
    assert_eq!(status.master_port, u32::from(server.port));
    link_is(&mut replica, "up")?;

    // And without REPLICAOF the agent sees for itself that it has missed something.
    runtime.block_on(agent.unfollow(unfollow))?;
    link_is(&mut replica, "down")?;
    link_is(&mut replica, "up")?;
    same_data(&mut master, &mut replica)
}
