//! A disk that fails a sync of the log: no reply claims what is not on it, and what was replied to
//! is there when it works again, for a machine that starts anew too.

use super::{AOF, policy, segment};
use redrock_integration_tests::daemons::{ask_companion, companions_up, info, until};
use redrock_integration_tests::process::{Kind, Server};
use redrock_integration_tests::resp::{Client, Reply};
use redrock_integration_tests::small_disk::SmallDisk;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BLOCK_BYTES: u64 = 4096;

/// Where on the disk a file begins, bytes.
fn begin(path: &Path) -> anyhow::Result<u64> {
    let output = Command::new("filefrag").arg("-v").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    // `0: first..last: first on the disk..last on the disk: count`
    let extent = text
        .lines()
        .find(|line| line.trim_start().starts_with("0:"));
    let block = extent
        .and_then(|line| line.split(':').nth(2)?.split("..").next())
        .ok_or_else(|| anyhow::anyhow!("filefrag: {text}"))?;
    Ok(block.trim().parse::<u64>()? * BLOCK_BYTES)
}

/// Sets keys until one is not answered with OK; how many were, and what it was answered with.
fn set_until_refused(client: &mut Client, from: usize) -> (usize, anyhow::Result<Reply>) {
    let value = "v".repeat(1000);
    let mut next = from;
    loop {
        match client.run(&["SET", &format!("key:{next}"), &value]) {
            Ok(Reply::Status(_)) => next += 1,
            other => return (next, other),
        }
        if next > from + 30_000 {
            return (next, Err(anyhow::anyhow!("it is never refused")));
        }
        // It takes up to a second, in which the disk must not fill up.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn set_keys(client: &mut Client, from: usize, count: usize) -> anyhow::Result<usize> {
    for n in from..from + count {
        client.ok(&format!("SET key:{n} {}", "v".repeat(1000)))?;
    }
    Ok(from + count)
}

fn all_there(client: &mut Client, keys: usize) -> anyhow::Result<()> {
    for n in 0..keys {
        let length = client.ok(&format!("STRLEN key:{n}"))?.int();
        anyhow::ensure!(length == Some(1000), "key:{n} of {keys}: {length:?}");
    }
    Ok(())
}

#[test]
fn a_failed_sync_ends_the_server_under_always_and_loses_nothing() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4_that_fails(64 << 20) else {
        return Ok(());
    };
    let alone = [&policy("always")[..], &["--companions", "external"]].concat();
    let mut server = Server::start(Kind::RedRock, disk.path(), &alone)?;
    let mut client = server.client()?;
    let kept = set_keys(&mut client, 0, 100)?;
    let at = begin(&segment(disk.path()))?;
    let rest = disk.cut(at)?;
    let (kept, refused) = set_until_refused(&mut client, kept);
    assert!(!matches!(refused, Ok(Reply::Status(_))), "{refused:?}");
    let status = server.wait_exit()?;
    assert_eq!(status.code(), Some(1), "{}", server.log_text());
    let log = server.log_text();
    let told = "can't persist AOF for fsync error when the AOF fsync policy is 'always': \
                Input/output error";
    assert!(log.contains(told), "{log}");
    drop(server);

    disk.mend(at, &rest)?;
    let server = Server::start(Kind::RedRock, disk.path(), &alone)?;
    let mut client = server.client()?;
    all_there(&mut client, kept)?;
    let kept = set_keys(&mut client, kept, 50)?;
    server.kill()?;
    // What the failed sync left in the cache is on the disk by now.
    disk.mount_again()?;
    let server = Server::start(Kind::RedRock, disk.path(), &alone)?;
    all_there(&mut server.client()?, kept)
}

#[test]
fn a_failed_sync_refuses_writes_under_everysec_until_a_rewrite_has_landed() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount_ext4_that_fails(64 << 20) else {
        return Ok(());
    };
    let server = Server::start(Kind::RedRock, disk.path(), &policy("everysec"))?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    let kept = set_keys(&mut client, 0, 100)?;
    until("a sync", || {
        Ok(begin(&segment(disk.path())).is_ok_and(|at| at > 0))
    })?;
    let at = begin(&segment(disk.path()))?;
    let rest = disk.cut(at)?;
    let (kept, refused) = set_until_refused(&mut client, kept);
    let text = "MISCONF Errors writing to the AOF file: Input/output error";
    assert_eq!(refused?, Reply::Error(text.into()));
    assert_eq!(
        info(&mut client, "persistence", "aof_last_write_status")?,
        "err"
    );
    all_there(&mut client, kept)?;

    // A disk that works again does not make the lost pages good.
    disk.mend(at, &rest)?;
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.run(&["SET", "k", "v"])?, Reply::Error(text.into()));
    let reply = ask_companion(&mut client, "BGREWRITEAOF", || false)?;
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
    until("writes that are taken", || {
        Ok(client.run(&["SET", "k", "v"])? == Reply::Status("OK".into()))
    })?;
    assert_eq!(
        info(&mut client, "persistence", "aof_last_write_status")?,
        "ok"
    );
    let kept = set_keys(&mut client, kept, 50)?;
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, disk.path(), &AOF)?;
    all_there(&mut server.client()?, kept)?;
    server.kill_family()?;
    disk.mount_again()?;
    let server = Server::start(Kind::RedRock, disk.path(), &AOF)?;
    all_there(&mut server.client()?, kept)
}
