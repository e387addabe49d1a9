//! A replica whose own disk is full: what comes waits with the master instead of in memory, and goes
//! on when there is room. Where such errors are to be ignored the log is begun anew then.

use crate::link::{companions_up, fill, info, link_is, number, same_data, start, syncs, until};
use anyhow::Context as _;
use redrock_integration_tests::memory::resident_bytes;
use redrock_integration_tests::process::{Kind, Server, free_port, has_redis};
use redrock_integration_tests::resp::Client;
use redrock_integration_tests::small_disk::SmallDisk;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const DISK_BYTES: u64 = 320 << 20;
/// What is left of it before the master writes.
const LEFT_BYTES: u64 = 24 << 20;
/// What it writes then, megabytes, always to the same keys.
const WRITTEN_MB: u64 = 128;
/// Buffers of the log and of the stream, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// A master that keeps what its replica can't take, and a replica with a log on a small disk.
struct Pair {
    disk: SmallDisk,
    _folder: tempfile::TempDir,
    _spool: tempfile::TempDir,
    _redis: Server,
    master: Client,
    port: u16,
    options: Vec<String>,
    server: Server,
    replica: Client,
}

impl Pair {
    /// `spool_elsewhere`: what comes from the master lies on a disk that has room.
    fn start(spool_elsewhere: bool, more: &[&str]) -> anyhow::Result<Option<Self>> {
        let Some(disk) = SmallDisk::mount_ext4(DISK_BYTES).filter(|_| has_redis()) else {
            return Ok(None);
        };
        let (folder, spool) = (tempfile::tempdir()?, tempfile::tempdir()?);
        if spool_elsewhere {
            symlink(spool.path(), disk.path().join("spool"))?;
        }
        let kept = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-backlog-size",
            "512mb",
            "--client-output-buffer-limit",
            "replica 0 0 0",
        ];
        let redis = start(Kind::Redis, folder.path(), &kept)?;
        let mut master = redis.client()?;
        write(&mut master, 1)?;
        let above = redis.port.to_string();
        let options = [
            "--appendonly",
            "yes",
            "--auto-aof-rewrite-percentage",
            "0",
            "--enable-debug-command",
            "yes",
            "--replicaof",
            "127.0.0.1",
            &above,
        ];
        let options = [&options[..], more].concat();
        let port = free_port()?;
        let server = Server::spawn_on(port, Kind::RedRock, disk.path(), &options)?.wait_ready()?;
        let mut replica = server.client()?;
        companions_up(&mut replica)?;
        link_is(&mut replica, "up")?;
        same_data(&mut master, &mut replica)?;
        until("the log after the full sync, with its base", || {
            Ok(info(&mut replica, "persistence", "aof_enabled")? == "1"
                && info(&mut replica, "persistence", "aof_rewrite_in_progress")? == "0")
        })?;
        Ok(Some(Self {
            disk,
            _folder: folder,
            _spool: spool,
            _redis: redis,
            master,
            port,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            server,
            replica,
        }))
    }

    /// Takes the disk's room; the file that has it.
    fn fill_disk(&self) -> anyhow::Result<PathBuf> {
        let path = self.disk.path().join("filler");
        let stat = statvfs(self.disk.path())?;
        let free = stat.f_bavail * stat.f_frsize;
        let length = free
            .checked_sub(LEFT_BYTES)
            .context("a disk that is full")?;
        let file = std::fs::File::create(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, length)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Kills everything of the replica and starts it again.
    fn restart(self) -> anyhow::Result<Self> {
        self.server.kill_family()?;
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let server = Server::spawn_on(self.port, Kind::RedRock, self.disk.path(), &options)?;
        let server = server.wait_ready()?;
        let replica = server.client()?;
        Ok(Self {
            server,
            replica,
            ..self
        })
    }
}

fn write(master: &mut Client, megabytes: u64) -> anyhow::Result<()> {
    (0..megabytes).try_for_each(|_| fill(master, "again", 0..64, 16 << 10))
}

fn log_length(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder.join("appendonlydir"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

#[test]
fn a_replica_whose_disk_is_full_takes_no_more_into_memory_and_goes_on_later() -> anyhow::Result<()>
{
    let Some(mut pair) = Pair::start(false, &[])? else {
        return Ok(());
    };
    let filler = pair.fill_disk()?;
    let before = resident_bytes(pair.server.pid());
    write(&mut pair.master, WRITTEN_MB)?;
    // The log can't be written, or what comes has no room before it gets there: which of the two meets the end
    // first depends on which of the processes is ahead.
    until("a replica that can take no more", || {
        let log = info(&mut pair.replica, "persistence", "aof_last_write_status")?;
        let link = info(&mut pair.replica, "replication", "master_link_status")?;
        Ok(log == "err" || link == "down")
    })?;
    // The master has written all that it will, and the replica can't have it.
    let length = log_length(pair.disk.path());
    pair.master.ok("INCR waited")?;
    assert_eq!(pair.master.ok("WAIT 1 1500")?.int(), Some(0));
    assert_eq!(pair.replica.ok("EXISTS waited")?.int(), Some(0));
    let grown = resident_bytes(pair.server.pid()).saturating_sub(before);
    anyhow::ensure!(grown < GROWTH_BYTES_MAX, "{grown} bytes more in memory");
    assert_eq!(info(&mut pair.replica, "replication", "role")?, "slave");
    std::fs::remove_file(filler)?;
    link_is(&mut pair.replica, "up")?;
    same_data(&mut pair.master, &mut pair.replica)?;
    assert!(log_length(pair.disk.path()) > length + (64 << 20));
    assert_eq!(syncs(&mut pair.master)?.0, 1);
    let mut pair = pair.restart()?;
    link_is(&mut pair.replica, "up")?;
    same_data(&mut pair.master, &mut pair.replica)?;
    assert_eq!(syncs(&mut pair.master)?.0, 1);
    Ok(())
}

#[test]
fn one_that_ignores_it_goes_on_without_a_log_until_there_is_room() -> anyhow::Result<()> {
    let ignoring = ["--replica-ignore-disk-write-errors", "yes"];
    let Some(mut pair) = Pair::start(true, &ignoring)? else {
        return Ok(());
    };
    let filler = pair.fill_disk()?;
    let before = resident_bytes(pair.server.pid());
    write(&mut pair.master, WRITTEN_MB)?;
    same_data(&mut pair.master, &mut pair.replica)?;
    let left = "replica-ignore-disk-write-errors is on";
    assert!(pair.server.log_text().contains(left));
    let grown = resident_bytes(pair.server.pid()).saturating_sub(before);
    anyhow::ensure!(grown < GROWTH_BYTES_MAX, "{grown} bytes more in memory");
    // A death now: the log that was left is whole up to where it ends, and goes on from there.
    let offset = number(&mut pair.replica, "replication", "slave_repl_offset")?;
    let mut pair = pair.restart()?;
    link_is(&mut pair.replica, "up")?;
    same_data(&mut pair.master, &mut pair.replica)?;
    assert!(number(&mut pair.replica, "replication", "slave_repl_offset")? >= offset);
    std::fs::remove_file(filler)?;
    until("the log is on again", || {
        Ok(info(&mut pair.replica, "persistence", "aof_enabled")? == "1")
    })?;
    write(&mut pair.master, 1)?;
    same_data(&mut pair.master, &mut pair.replica)?;
    let mut pair = pair.restart()?;
    link_is(&mut pair.replica, "up")?;
    same_data(&mut pair.master, &mut pair.replica)?;
    assert_eq!(syncs(&mut pair.master)?.0, 1);
    Ok(())
}
