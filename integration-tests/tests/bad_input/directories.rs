//! Data directories that can't be used: foreign, unreadable, full, in use.

use crate::tree::{filled, listing, refused, run, run_command, unchanged};
use redrock_integration_tests::process::{Kind, Server, binary, free_port, has_redis};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TIERING: [&str; 4] = ["--maxmemory", "256mb", "--enable-rocksdb-feature", "yes"];

fn write(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(std::fs::write(path, content)?)
}

#[test]
fn a_tier_folder_without_our_marker_is_not_wiped() -> anyhow::Result<()> {
    for (name, content) in [
        ("tier/photo.jpg", &b"precious"[..]),
        ("tier/CURRENT", b"MANIFEST-000001\n"),
        ("tier/deep/below/file", b"precious"),
        // The name alone proves nothing.
        ("tier/REDROCK_TIER", b"somebody else's notes"),
    ] {
        let folder = tempfile::tempdir()?;
        write(folder.path(), name, content)?;
        let reason = "has no REDROCK_TIER file of ours";
        refused(
            folder.path(),
            &TIERING,
            &[reason, "Point rockdbdir at an empty folder"],
        )?;
    }
    let folder = tempfile::tempdir()?;
    write(folder.path(), "other/file", b"precious")?;
    std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("tier"))?;
    refused(
        folder.path(),
        &TIERING,
        &["has no REDROCK_TIER file of ours"],
    )?;
    let folder = tempfile::tempdir()?;
    write(folder.path(), "tier", b"a file")?;
    refused(folder.path(), &TIERING, &["Not a directory"])?;
    let folder = tempfile::tempdir()?;
    write(folder.path(), "dump.rdb", b"REDIS0010")?;
    let path = folder.path().display().to_string();
    let options = [&TIERING[..], &["--rockdbdir", &path]].concat();
    refused(folder.path(), &options, &["is wiped at start"])
}

#[test]
fn files_that_are_not_ours_are_named_and_left_alone() -> anyhow::Result<()> {
    for (name, options, reason) in [
        ("redrock.epoch", &[][..], "redrock.epoch is damaged"),
        ("replication.state", &[], "replication.state is damaged"),
        (
            "dump.rdb",
            &[],
            "Wrong signature trying to load DB from file",
        ),
        (
            "appendonlydir/appendonly.aof.manifest",
            &["--appendonly", "yes"],
            "FATAL AOF MANIFEST",
        ),
        ("appendonlydir", &["--appendonly", "yes"], "Not a directory"),
        (
            "run/server.sock",
            &[],
            "server.sock exists and is no socket",
        ),
        ("run", &[], "run/server.sock"),
    ] {
        let folder = tempfile::tempdir()?;
        write(folder.path(), name, b"this is something else entirely\n")?;
        refused(folder.path(), options, &[reason])?;
        let content = std::fs::read(folder.path().join(name))?;
        assert_eq!(content, b"this is something else entirely\n");
    }
    for name in ["redrock-server.lock", "redrock.epoch", "dump.rdb"] {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(name))?;
        refused(folder.path(), &[], &[name, "Is a directory"])?;
    }
    Ok(())
}

#[test]
fn a_second_server_on_the_directory_is_refused_and_told_who_has_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    filled(Kind::RedRock, folder.path(), false)?;
    let options = ["--companions", "external"];
    let first = Server::start(Kind::RedRock, folder.path(), &options)?;
    let who = format!("in use by another redrock-server (pid {})", first.pid());
    refused(folder.path(), &[], &[&who, "choose another directory"])?;
    let all = [&TIERING[..], &["--appendonly", "yes"]].concat();
    refused(folder.path(), &all, &[&who])?;
    let mut client = first.client()?;
    assert_eq!(client.ok("DBSIZE")?.int(), Some(204));
    Ok(())
}

#[test]
fn a_port_in_use_ends_the_start_before_anything_is_touched() -> anyhow::Result<()> {
    let (used, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let first = Server::start(Kind::RedRock, used.path(), &["--companions", "external"])?;
    let reason = format!("Failed listening on port {} (TCP), aborting.", first.port);
    let port = first.port.to_string();
    // The last of several wins.
    let options = [&TIERING[..], &["--appendonly", "yes", "--port", &port]].concat();
    refused(
        folder.path(),
        &options,
        &[&reason, "Address already in use"],
    )?;
    filled(Kind::RedRock, folder.path(), true)?;
    refused(folder.path(), &options, &[&reason])?;
    if has_redis() {
        let real = run(Kind::Redis, folder.path(), &["--port", &port])?;
        assert_eq!(real.code, Some(1));
        assert!(real.text.contains(&reason), "{real:?}");
    }
    refused(
        folder.path(),
        &["--bind", "1.2.3.4"],
        &["Could not create server TCP listening"],
    )?;
    refused(
        folder.path(),
        &["--unixsocket", "/nonexistent/s"],
        &["/nonexistent/s"],
    )
}

/// A file system of its own in memory, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(bytes: u64) -> anyhow::Result<Option<Self>> {
        let path = tempfile::tempdir()?.keep();
        let size = format!("size={bytes}");
        if command("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], &path) {
            return Ok(Some(Self(path)));
        }
        std::fs::remove_dir(&path)?;
        eprintln!("skipped: a tmpfs can't be mounted here");
        Ok(None)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        command("umount", &["-l"], &self.0);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn command(name: &str, arguments: &[&str], path: &Path) -> bool {
    let status = Command::new(name).args(arguments).arg(path).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_disk_that_is_full_or_read_only_ends_the_start() -> anyhow::Result<()> {
    let Some(disk) = Disk::mount(16 << 20)? else {
        return Ok(());
    };
    for options in [&[][..], &["--appendonly", "yes"], &TIERING] {
        let fill = disk.0.join("fill");
        // Ends with the error that the disk is full.
        let written = std::io::copy(&mut std::io::repeat(7), &mut std::fs::File::create(&fill)?);
        assert!(written.is_err());
        refused(&disk.0, options, &["No space left on device", "Make room"])?;
        std::fs::remove_file(fill)?;
    }
    filled(Kind::RedRock, &disk.0, false)?;
    // Companions that are still ending have files open.
    let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
    while !command("mount", &["-o", "remount,ro"], &disk.0) {
        assert!(Instant::now() < deadline, "the disk stays busy");
        std::thread::sleep(Duration::from_millis(50));
    }
    refused(
        &disk.0,
        &[],
        &["can't be used: Read-only file system", "--dir"],
    )?;
    assert!(command("mount", &["-o", "remount,rw"], &disk.0));
    let server = Server::start(Kind::RedRock, &disk.0, &["--companions", "external"])?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(204));
    Ok(())
}

#[test]
fn a_directory_of_somebody_else_is_refused() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    filled(Kind::RedRock, folder.path(), false)?;
    // As a user without the rights of root.
    let bare = Command::new("setpriv")
        .args(["--bounding-set=-all", "true"])
        .stderr(Stdio::null())
        .status();
    if !rustix::process::geteuid().is_root() || !bare.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs root and setpriv");
        return Ok(());
    }
    std::os::unix::fs::chown(folder.path(), Some(65_534), Some(65_534))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder.path(), mode)?;
    let before = listing(folder.path())?;
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary("redrock-server")?)
        .args(["--port", &free_port()?.to_string(), "--dir"])
        .arg(folder.path());
    let refusal = crate::tree::run_command(command)?;
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(refusal.text.contains("Permission denied"), "{refusal:?}");
    unchanged(folder.path(), &before)
}

#[test]
fn without_its_companions_programs_the_server_serves_and_says_what_is_missing() -> anyhow::Result<()>
{
    let (alone, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let program = alone.path().join("redrock-server");
    std::fs::copy(binary("redrock-server")?, &program)?;
    let port = free_port()?;
    let log = std::fs::File::create(alone.path().join("log"))?;
    let mut child = Command::new(&program)
        .args(["--port", &port.to_string(), "--save", "", "--dir"])
        .arg(folder.path())
        .env("PATH", "/nonexistent")
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let served = serves_without(port);
    child.kill()?;
    child.wait()?;
    served?;
    let text = std::fs::read_to_string(alone.path().join("log"))?;
    for part in [
        "redrock-persist is neither beside this program nor in PATH",
        "no snapshots and no log rewrites",
        "redrock-replica is neither beside this program nor in PATH",
    ] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

fn serves_without(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
    let mut client = loop {
        let client = Client::connect(port).and_then(|mut client| {
            client.ok("PING")?;
            Ok(client)
        });
        match client {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    client.ok("SET a 1")?;
    for command in [
        "SAVE",
        "BGSAVE",
        "BGREWRITEAOF",
        "CONFIG SET appendonly yes",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let Reply::Error(text) = client.run(&words)? else {
            anyhow::bail!("{command} was done");
        };
        anyhow::ensure!(text.contains("persister is not available"), "{text}");
    }
    anyhow::ensure!(client.ok("GET a")?.text() == "1");
    Ok(())
}

/// A file that keeps whoever opens it waiting.
pub(crate) fn make_fifo(path: &Path) -> anyhow::Result<()> {
    let made = Command::new("mkfifo").arg(path).status()?;
    anyhow::ensure!(made.success(), "mkfifo {}", path.display());
    Ok(())
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_named_and_not_waited_for() -> anyhow::Result<()> {
    for name in [
        "dump.rdb",
        "redrock.epoch",
        "replication.state",
        "redrock-server.lock",
    ] {
        let folder = tempfile::tempdir()?;
        make_fifo(&folder.path().join(name))?;
        refused(folder.path(), &[], &[name, "is no regular file"])?;
    }
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("tier"))?;
    make_fifo(&folder.path().join("tier/REDROCK_TIER"))?;
    refused(
        folder.path(),
        &TIERING,
        &["has no REDROCK_TIER file of ours"],
    )
}

#[test]
fn an_agent_whose_spool_folder_is_a_file_says_so_in_a_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["--companions", "external"];
    let _server = Server::start(Kind::RedRock, folder.path(), &options)?;
    write(folder.path(), "spool", b"somebody's notes")?;
    let mut command = Command::new(binary("redrock-replica")?);
    command.arg("--dir").arg(folder.path());
    command
        .env("RUST_BACKTRACE", "1")
        .current_dir(folder.path());
    let refusal = run_command(command)?;
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    let reason = "redrock-replica: list the spool directory";
    for part in [reason, "spool: Not a directory"] {
        assert!(refusal.text.contains(part), "{refusal:?}");
    }
    assert!(!refusal.text.contains("backtrace"), "{refusal:?}");
    let notes = std::fs::read(folder.path().join("spool"))?;
    assert_eq!(notes, b"somebody's notes");
    Ok(())
}
