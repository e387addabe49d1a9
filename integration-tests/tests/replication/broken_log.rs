//! A replica whose log for its own replicas can be replayed in part only.

use crate::link::{link_is, number, same_data, start, synced, until};
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_log::backlog;
use redrock_log::fs::RealFs;
use redrock_log::writer::{SegmentStart, SegmentWriter};
use std::io::Write as _;
use std::path::Path;

/// The beginning of a command.
const TORN: &[u8] = b"*2\r\n$4\r\nINC";

/// Ends the log's last file within a command and puts another file behind it.
fn tear(folder: &Path) -> anyhow::Result<()> {
    let directory = backlog::directory(folder);
    let segments = backlog::segments(&RealFs, &directory)?;
    let last = segments
        .last()
        .ok_or_else(|| anyhow::anyhow!("no log for replicas"))?;
    let mut file = std::fs::OpenOptions::new().append(true).open(&last.path)?;
    file.write_all(TORN)?;
    let start = SegmentStart {
        start_offset: last.end_offset() + TORN.len() as u64,
        database: 0,
        replid: last.header.replid,
        run_id: [b'0'; 40],
        epoch: 1,
    };
    let path = directory.join(backlog::names().incr(last.sequence + 1));
    SegmentWriter::begin(&RealFs, &path, &start, 1)?;
    Ok(())
}

fn count(master: &mut Client, times: usize) -> anyhow::Result<()> {
    (0..times).try_for_each(|_| master.ok("INCR count").map(drop))
}

#[test]
fn what_was_replayed_of_a_torn_log_is_not_applied_twice() -> anyhow::Result<()> {
    if !has_redis() {
        return Ok(());
    }
    let (theirs, ours, leaf) = (
        tempfile::tempdir()?,
        tempfile::tempdir()?,
        tempfile::tempdir()?,
    );
    let no_delay = ["--repl-diskless-sync-delay", "0"];
    let top = start(Kind::Redis, theirs.path(), &no_delay)?;
    let mut master = top.client()?;
    let (above, port) = (top.port.to_string(), free_port()?);
    let options = [
        "--save",
        "",
        "--replicaof",
        "127.0.0.1",
        &above,
        "--enable-debug-command",
        "yes",
    ];
    let start_middle =
        || Server::spawn_on(port, Kind::RedRock, ours.path(), &options)?.wait_ready();
    let server = start_middle()?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    let below = port.to_string();
    let last = start(
        Kind::Redis,
        leaf.path(),
        &["--replicaof", "127.0.0.1", &below],
    )?;
    link_is(&mut last.client()?, "up")?;
    count(&mut master, 5)?;
    same_data(&mut master, &mut replica)?;
    replica.ok("SAVE")?;
    // These are in the log behind the dump.
    count(&mut master, 100)?;
    same_data(&mut master, &mut replica)?;
    until("all of it in the log", || {
        let told = number(&mut replica, "replication", "master_repl_offset")?;
        let segments = backlog::segments(&RealFs, &backlog::directory(ours.path()))?;
        Ok(segments.last().map(backlog::BacklogSegment::end_offset) == Some(told))
    })?;
    server.kill_family()?;
    tear(ours.path())?;

    let server = start_middle()?;
    let mut replica = server.client()?;
    link_is(&mut replica, "up")?;
    let said = server.log_text();
    assert!(said.contains("is replayed no further"), "{said}");
    same_data(&mut master, &mut replica)?;
    // From a place that nobody knows there is no going on.
    synced(&mut master, (2, 0))
}
