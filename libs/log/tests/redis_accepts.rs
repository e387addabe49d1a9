//! Redis 7 and this crate read each other's append-only folders.
//!
//! Runs the installed `redis-server`, `redis-cli` and `redis-check-aof` (7.0 or later); skips with a
//! message where they are missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redrock_log::fs::{Fs, OpenMode, RealFs};
use redrock_log::manifest::{self, BaseFormat, Manifest, Names};
use redrock_log::scan::{
    Content, ScanEnd, ScanLimits, SegmentScanner, Step, StopReason, detect_content, truncate_tail,
};
use redrock_log::writer::{SegmentStart, SegmentWriter};

fn redis_is_installed() -> bool {
    let found = ["redis-server", "redis-cli", "redis-check-aof"]
        .iter()
        .all(|tool| {
            Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok()
        });
    if !found {
        let what = "redis-server, redis-cli or redis-check-aof is not installed";
        assert!(std::env::var_os("RR_NO_SKIP").is_none(), "{what}");
        eprintln!("skipped: {what}");
    }
    found
}

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts a server on the folder and waits until it answers; `Err` is what it logged
    /// before it exited instead.
    fn start(directory: &Path, arguments: &[&str]) -> Result<Self, String> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = directory.join("redis.log");
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--appendonly",
                "yes",
                "--save",
                "",
                "--logfile",
                "redis.log",
            ])
            .arg("--dir")
            .arg(directory)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if server.child.try_wait().unwrap().is_some() {
                return Err(std::fs::read_to_string(&log).unwrap_or_default());
            }
            if server.cli(&["PING"]) == "PONG" {
                return Ok(server);
            }
            assert!(Instant::now() < deadline, "redis-server did not answer");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn stop(mut self) {
        self.cli(&["SHUTDOWN", "NOSAVE"]);
        self.child.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        bytes.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    bytes.into_bytes()
}

fn start(offset: u64, database: u32) -> SegmentStart {
    SegmentStart {
        start_offset: offset,
        database,
        replid: [b'a'; 40],
        run_id: [b'b'; 40],
        epoch: 1,
    }
}

fn check_aof(directory: &Path, names: &Names) -> (bool, String) {
    let output = Command::new("redis-check-aof")
        .arg(directory.join(names.manifest()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

/// Two segments, the second of which starts in database 2, sidecars beside them.
fn write_folder(aof: &Path, names: &Names) {
    std::fs::create_dir(aof).unwrap();
    let first = aof.join(names.incr(1));
    let mut writer = SegmentWriter::begin(&RealFs, &first, &start(100, 0), 1).unwrap();
    writer.write(&command(&["SET", "plain", "one"]), 1).unwrap();
    let mut transaction = command(&["MULTI"]);
    transaction.extend(command(&["SELECT", "2"]));
    transaction.extend(command(&["SET", "in-two", "x"]));
    transaction.extend(command(&["EXEC"]));
    writer.write(&transaction, 2).unwrap();
    writer.write(&command(&["PING"]), 2).unwrap();
    writer
        .write(&command(&["REPLCONF", "GETACK", "*"]), 2)
        .unwrap();
    let end = writer.finish(3).unwrap();

    let second = aof.join(names.incr(2));
    let mut writer = SegmentWriter::begin(&RealFs, &second, &start(end, 2), 4).unwrap();
    writer
        .write(&command(&["APPEND", "in-two", "y"]), 5)
        .unwrap();
    writer.finish(6).unwrap();
    let manifest = Manifest::default()
        .with_incr(names, 1, Some(100))
        .unwrap()
        .with_incr(names, 2, Some(end))
        .unwrap();
    manifest::store(&RealFs, aof, names, &manifest).unwrap();
}

#[test]
fn redis_loads_and_checks_a_folder_without_base() {
    if !redis_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names = Names::new("a log.aof");
    let aof = dir.path().join("appendonlydir");
    write_folder(&aof, &names);
    let (accepted, text) = check_aof(&aof, &names);
    assert!(accepted, "{text}");
    let redis = Redis::start(dir.path(), &["--appendfilename", &names.file_name]).unwrap();
    assert_eq!(redis.cli(&["GET", "plain"]), "one");
    assert_eq!(redis.cli(&["-n", "2", "GET", "in-two"]), "xy");
    redis.stop();
}

#[test]
fn redis_loads_a_rewritten_folder_and_we_read_what_it_made_of_it() {
    if !redis_is_installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names = Names::default();
    let aof = dir.path().join("appendonlydir");
    write_folder(&aof, &names);
    // An RDB base made by Redis itself, put in place by our manifest operations.
    let maker = tempfile::tempdir().unwrap();
    let redis = Redis::start(maker.path(), &["--appendonly", "no"]).unwrap();
    redis.cli(&["SET", "from-base", "yes"]);
    redis.cli(&["SAVE"]);
    redis.stop();
    let old = manifest::load(&RealFs, &aof, &names).unwrap().unwrap();
    let rewritten = old.with_base(&names, BaseFormat::Rdb, 2).unwrap();
    let base = rewritten.base.as_ref().unwrap().name.clone();
    std::fs::copy(maker.path().join("dump.rdb"), aof.join(base)).unwrap();
    manifest::store(&RealFs, &aof, &names, &rewritten).unwrap();

    let redis = Redis::start(dir.path(), &["--aof-timestamp-enabled", "yes"]).unwrap();
    assert_eq!(redis.cli(&["GET", "from-base"]), "yes");
    assert_eq!(redis.cli(&["GET", "plain"]), "");
    assert_eq!(redis.cli(&["-n", "2", "GET", "in-two"]), "y");
    redis.cli(&["SET", "by-redis", "1"]);
    redis.cli(&["BGREWRITEAOF"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !redis
        .cli(&["INFO", "persistence"])
        .contains("aof_rewrite_in_progress:0")
    {
        assert!(Instant::now() < deadline, "rewrite did not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Redis annotates at most once a second: the new file gets one only after this.
    std::thread::sleep(Duration::from_millis(1100));
    redis.cli(&["SET", "after", "2"]);
    redis.stop();
    read_folder_of_redis(&aof, &names);
}

fn read_folder_of_redis(aof: &Path, names: &Names) {
    let manifest = manifest::load(&RealFs, aof, names).unwrap().unwrap();
    let base = manifest.base.as_ref().unwrap();
    let file = RealFs.open(&aof.join(&base.name), OpenMode::Read).unwrap();
    assert_eq!(detect_content(file.as_ref()).unwrap(), Content::Rdb);
    let last = manifest.incr.last().unwrap();
    let (commands, end, timestamp) = scan(&aof.join(&last.name));
    assert_eq!(end.reason, StopReason::End);
    assert!(commands.contains(&vec![b"SET".to_vec(), b"after".to_vec(), b"2".to_vec()]));
    assert!(timestamp.is_some_and(|seconds| seconds > 1_600_000_000));
    // What Redis formatted is what we would format.
    let text = std::fs::read_to_string(aof.join(names.manifest())).unwrap();
    assert_eq!(manifest::format(&manifest), text);
}

fn scan(path: &Path) -> (Vec<Vec<Vec<u8>>>, ScanEnd, Option<i64>) {
    let file = RealFs.open(path, OpenMode::Read).unwrap();
    let mut scanner = SegmentScanner::new(file.as_ref(), 0, ScanLimits::default()).unwrap();
    let mut commands = Vec::new();
    loop {
        match scanner.next_step().unwrap() {
            Step::Command(command) => {
                commands.push(command.arguments().map(<[u8]>::to_vec).collect());
            }
            Step::End(end) => return (commands, end, scanner.last_timestamp()),
        }
    }
}

#[test]
fn our_cut_of_a_torn_tail_is_where_redis_s_checker_says_it_is_good() {
    if !redis_is_installed() {
        return;
    }
    for garbage in [
        &b"*3\r\n$3\r\nSET\r\n$4\r\nhalf"[..],
        &[0u8; 64],
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::default();
        let aof = dir.path().join("appendonlydir");
        write_folder(&aof, &names);
        let segment = aof.join(names.incr(2));
        let mut bytes = std::fs::read(&segment).unwrap();
        let whole = bytes.len();
        bytes.extend_from_slice(garbage);
        std::fs::write(&segment, &bytes).unwrap();
        let (accepted, text) = check_aof(&aof, &names);
        assert!(!accepted);
        assert!(text.contains(&format!("ok_up_to={whole},")), "{text}");
        let (_, end, _) = scan(&segment);
        assert_eq!(end.safe_position, whole as u64);
        let copy = truncate_tail(&RealFs, &segment, end.safe_position, 5)
            .unwrap()
            .unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), garbage);
        let (accepted, text) = check_aof(&aof, &names);
        assert!(accepted, "{text}");
    }
}

#[test]
fn redis_exits_on_manifests_that_we_refuse_with_the_same_words() {
    if !redis_is_installed() {
        return;
    }
    for text in [
        "",
        "\n",
        "file a seq 1 type x\n",
        "file a/b seq 1 type i\n",
        "file a seq 1 type i\nfile b seq 1 type i\n",
        "file a seq 1 type b\nfile b seq 2 type b\n",
        "file a seq 1 type i",
        "file \"a\"b seq 1 type i\n",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::default();
        let aof = dir.path().join("appendonlydir");
        std::fs::create_dir(&aof).unwrap();
        std::fs::write(aof.join(names.manifest()), text).unwrap();
        let ours = manifest::parse(text.as_bytes()).unwrap_err();
        let Err(log) = Redis::start(dir.path(), &[]) else {
            panic!("redis accepted {text:?}");
        };
        assert!(log.contains(ours.message), "{text:?}: {log}");
        if let Some(line) = &ours.line {
            assert!(log.contains(&format!(">>> '{line}'")), "{text:?}: {log}");
        }
    }
}
