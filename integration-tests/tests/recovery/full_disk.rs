//! A full disk: writes are refused, what was acknowledged stays, and room brings writes back.

use super::{AOF, policy};
use redrock_integration_tests::daemons::{
    Daemon, ask_companion, companions_up, copy_durable, info, signal, until,
};
use redrock_integration_tests::process::{Kind, Server, Signal, binary, has_redis};
use redrock_integration_tests::resp::{Client, Reply, encode};
use redrock_integration_tests::small_disk::SmallDisk;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_comes_back() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        return;
    };
    let server = Server::start(Kind::RedRock, disk.path(), &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    let value = "x".repeat(20_000);
    let mut acknowledged = 0;
    let refusal = loop {
        match client.run(&["RPUSH", "list", &value]).unwrap() {
            Reply::Int(n) => acknowledged = n,
            Reply::Error(text) => break text,
            other => panic!("{other:?}"),
        }
        assert!(acknowledged < 10_000, "the disk never filled up");
    };
    assert_eq!(
        refusal,
        "MISCONF Errors writing to the AOF file: No space left on device"
    );
    // Reading goes on.
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert!(
        client
            .ok("INFO persistence")
            .unwrap()
            .text()
            .contains("aof_last_write_status:err")
    );
    server.kill().unwrap();

    // Room again by an administrator's hand, here a larger disk.
    let server = Server::start(Kind::RedRock, disk.path(), &policy("everysec")).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    let refusal = loop {
        if let Reply::Error(text) = client.run(&["RPUSH", "list", &value]).unwrap() {
            break text;
        }
        acknowledged += 1;
    };
    assert!(refusal.starts_with("MISCONF"), "{refusal}");
    let grown = std::process::Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(grown.success());
    let recovered = Arc::new(AtomicBool::new(false));
    for _ in 0..100 {
        if let Reply::Int(n) = client.run(&["RPUSH", "list", "after"]).unwrap() {
            acknowledged += 1;
            assert_eq!(n, acknowledged);
            recovered.store(true, Ordering::Relaxed);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(recovered.load(Ordering::Relaxed), "{}", server.log_text());
    server.kill().unwrap();
    let server = Server::start(Kind::RedRock, disk.path(), &AOF).unwrap();
    let mut client = server.client().unwrap();
    assert_eq!(client.ok("LLEN list").unwrap().int(), Some(acknowledged));
    assert_eq!(client.ok("LINDEX list -1").unwrap().text(), "after");
}

const DISK_BYTES: u64 = 64 << 20;
const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];
const VALUE_BYTES: usize = 20_000;

/// A file of so many bytes: of a size to leave little room, or as much as there is.
fn fill(path: &Path, bytes: usize) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    for length in [1 << 20, 4096] {
        let mut left = bytes;
        while left >= length && file.write_all(&vec![1; length]).is_ok() {
            left -= length;
        }
    }
    Ok(())
}

/// Writes keys that don't compress, `from` to `to`.
fn set_keys(client: &mut Client, from: usize, to: usize) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for n in from..to {
        let mut word = n as u64 + 1;
        let next = || {
            // xorshift64
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            (word >> 32) as u8
        };
        let value: Vec<u8> = std::iter::repeat_with(next).take(VALUE_BYTES).collect();
        encode(&mut bytes, &[b"SET", format!("key:{n}").as_bytes(), &value]);
    }
    client.send_raw(&bytes)?;
    for n in from..to {
        let reply = client.receive()?;
        anyhow::ensure!(reply == Reply::Status("OK".into()), "key:{n}: {reply:?}");
    }
    Ok(())
}

fn persistence(client: &mut Client, field: &str) -> anyhow::Result<String> {
    info(client, "persistence", field)
}

fn number(client: &mut Client, field: &str) -> anyhow::Result<u64> {
    Ok(persistence(client, field)?.parse()?)
}

/// Names in a folder of files under construction.
fn temporary(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("temp-") {
            found.push(name);
        }
    }
    Ok(found)
}

/// Starts a save and waits for its end; whether it went well.
fn save_ends(client: &mut Client) -> anyhow::Result<bool> {
    let reply = ask_companion(client, "BGSAVE", || false)?;
    anyhow::ensure!(matches!(reply, Reply::Status(_)), "{reply:?}");
    until("the end of a save", || {
        Ok(persistence(client, "rdb_bgsave_in_progress")? == "0")
    })?;
    Ok(persistence(client, "rdb_last_bgsave_status")? == "ok")
}

#[test]
fn a_save_without_room_keeps_the_old_dump_and_refuses_writes_until_one_succeeds()
-> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else {
        return Ok(());
    };
    let options = ["--save", "100000 1"];
    let server = Server::start(Kind::RedRock, disk.path(), &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    set_keys(&mut client, 0, 100)?;
    assert!(save_ends(&mut client)?);
    let dump = disk.path().join("dump.rdb");
    let old = std::fs::read(&dump)?;
    set_keys(&mut client, 100, 1000)?;
    let filler = disk.path().join("filler");
    fill(&filler, 50 << 20)?;

    // 20 MB into what is left beside the old one.
    assert!(!save_ends(&mut client)?);
    let refused = client.run(&["SET", "k", "v"])?;
    let told = matches!(&refused, Reply::Error(text)
        if text.starts_with("MISCONF Redis is configured to save RDB snapshots"));
    assert!(told, "{refused:?}");
    assert_eq!(client.ok("STRLEN key:999")?.int(), Some(20_000));
    assert!(std::fs::read(&dump)? == old, "the old dump has changed");
    assert_eq!(temporary(disk.path())?, Vec::<String>::new());
    assert!(server.log_text().contains("No space left on device"));
    client.ok("CONFIG SET stop-writes-on-bgsave-error no")?;
    client.ok("SET k v")?;
    client.ok("CONFIG SET stop-writes-on-bgsave-error yes")?;
    assert!(matches!(client.run(&["SET", "k", "w"])?, Reply::Error(_)));

    // Tried again by itself, which says that there is room.
    std::fs::remove_file(&filler)?;
    let set = client.run(&["CONFIG", "SET", "save", "1 1"])?;
    assert_eq!(set, Reply::Status("OK".into()));
    until("a write that is taken", || {
        Ok(client.run(&["SET", "k", "w"])? == Reply::Status("OK".into()))
    })?;
    assert_eq!(persistence(&mut client, "rdb_last_bgsave_status")?, "ok");
    server.kill_family()?;
    let server = Server::start(Kind::RedRock, disk.path(), &[])?;
    assert_eq!(server.client()?.ok("DBSIZE")?.int(), Some(1001));
    Ok(())
}

/// What `redrock-persist check` makes of a copy of the append-only files.
fn check(copy: &Path) -> anyhow::Result<()> {
    let output = Command::new(binary("redrock-persist")?)
        .arg("check")
        .arg(copy)
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    anyhow::ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(())
}

/// Our check and a real Redis find the log whole, with the data that the server has.
fn log_is_sound(folder: &Path, client: &mut Client) -> anyhow::Result<()> {
    let copy = tempfile::tempdir()?;
    copy_durable(folder, copy.path())?;
    check(copy.path())?;
    if has_redis() {
        let redis = Server::start(Kind::Redis, copy.path(), &AOF)?;
        let theirs = redis.client()?.ok("DEBUG DIGEST")?;
        assert_eq!(theirs, client.ok("DEBUG DIGEST")?);
    }
    Ok(())
}

/// The bases that are there.
fn bases(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join("appendonlydir"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".base.rdb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn a_rewrite_without_room_leaves_the_log_sound_and_is_tried_again_until_there_is_some()
-> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else {
        return Ok(());
    };
    let folder = disk.path();
    let options = [&AOF[..], &DEBUG, &["--auto-aof-rewrite-percentage", "0"]].concat();
    let server = Server::start(Kind::RedRock, folder, &options)?;
    let mut client = server.client()?;
    companions_up(&mut client)?;
    set_keys(&mut client, 0, 700)?;
    let filler = folder.join("filler");
    fill(&filler, 37 << 20)?;

    // 14 MB into less. First by hand, then by itself.
    let reply = ask_companion(&mut client, "BGREWRITEAOF", || false)?;
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
    until("a rewrite that failed", || {
        Ok(number(&mut client, "aof_rewrites_consecutive_failures")? == 1)
    })?;
    let failed = Instant::now();
    assert_eq!(
        persistence(&mut client, "aof_last_bgrewrite_status")?,
        "err"
    );
    assert_eq!(temporary(folder)?, Vec::<String>::new());
    assert_eq!(bases(folder)?, Vec::<PathBuf>::new());
    // The disk was full for a moment; there is room for what clients write.
    until("a write that is taken", || {
        Ok(client.run(&["SET", "k", "v"])? == Reply::Status("OK".into()))
    })?;
    log_is_sound(folder, &mut client)?;

    client.ok("CONFIG SET auto-aof-rewrite-min-size 1mb auto-aof-rewrite-percentage 10")?;
    until("a second one", || {
        Ok(number(&mut client, "aof_rewrites_consecutive_failures")? == 2)
    })?;
    assert!(failed.elapsed() > Duration::from_secs(4), "no pause");
    assert_eq!(number(&mut client, "aof_rewrites")?, 0);
    std::fs::remove_file(&filler)?;
    until("a rewrite by itself", || {
        Ok(number(&mut client, "aof_rewrites")? == 1)
    })?;
    assert_eq!(persistence(&mut client, "aof_last_bgrewrite_status")?, "ok");
    assert_eq!(number(&mut client, "aof_rewrites_consecutive_failures")?, 0);
    assert_eq!(bases(folder)?.len(), 1);
    client.ok("SET k w")?;
    log_is_sound(folder, &mut client)
}

/// What makes room is the manifest that names the new base: it is written however full the disk.
#[test]
fn a_rewrite_ends_on_a_disk_that_is_full_when_its_base_is_there() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else {
        return Ok(());
    };
    let folder = disk.path();
    let options = [&AOF[..], &DEBUG, &["--companions", "external"]].concat();
    let server = Server::start(Kind::RedRock, folder, &options)?;
    let mut client = server.client()?;
    set_keys(&mut client, 0, 500)?;
    let persist = Daemon::start("redrock-persist", folder, "rewrite-step-6:hang")?;
    let reply = ask_companion(&mut client, "BGREWRITEAOF", || false)?;
    assert!(matches!(reply, Reply::Status(_)), "{reply:?}");
    until("a base that is in place", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", persist.pid()))?;
        Ok(stat.contains(") T ") && bases(folder)?.len() == 1)
    })?;
    fill(&folder.join("filler"), usize::MAX)?;
    let full = std::fs::write(folder.join("more"), [1]);
    assert!(full.is_err(), "there is room");
    std::fs::remove_file(folder.join("more"))?;
    signal(persist.pid(), Signal::CONT)?;
    until("the end of the rewrite", || {
        Ok(number(&mut client, "aof_rewrites")? == 1)
    })?;
    assert_eq!(persistence(&mut client, "aof_last_bgrewrite_status")?, "ok");
    // The log that the base replaces is gone, and what it took is there for all.
    until("a write that is taken", || {
        Ok(client.run(&["SET", "k", "v"])? == Reply::Status("OK".into()))
    })?;
    until("a reserve for the next one", || {
        let path = folder.join("appendonlydir/redrock.reserve");
        Ok(std::fs::metadata(path).is_ok_and(|file| file.len() == 64 << 10))
    })?;
    log_is_sound(folder, &mut client)
}
