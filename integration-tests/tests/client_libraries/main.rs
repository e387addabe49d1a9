//! Programs that people write against Redis: client libraries in Python, JavaScript and Rust, job
//! queues, and redis-cli. Each runs against a real Redis and against this server, so that a check
//! that Redis itself does not pass shows.
//!
//! `scripts/install-deps.sh test` installs the libraries; their versions are in `clients/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod redis_cli;
mod redis_rs;

use redrock_integration_tests::process::{Kind, Server, has_redis, missing};
use redrock_integration_tests::resp::{Client, Reply};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The password of all servers here.
const PASSWORD: &str = "secret";

/// The servers that each suite runs against.
const KINDS: [Kind; 2] = [Kind::Redis, Kind::RedRock];

/// A server, its folder, and what it can.
struct Target {
    server: Server,
    // Kept for its end.
    _folder: tempfile::TempDir,
    scripts: bool,
}

impl Target {
    fn start(kind: Kind) -> Self {
        let companions: &[&str] = match kind {
            Kind::Redis => &[],
            Kind::RedRock => &["--companions", "external"],
        };
        Self::start_with(kind, companions)
    }

    fn start_with(kind: Kind, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = [&["--requirepass", PASSWORD], options].concat();
        let server = Server::spawn(kind, folder.path(), &options).unwrap();
        let deadline = Instant::now() + redrock_integration_tests::scale::PATIENCE;
        let mut client = loop {
            let client = Client::connect(server.port).and_then(|mut client| {
                client.ok(&format!("AUTH {PASSWORD}"))?;
                client.ok("DBSIZE")?;
                Ok(client)
            });
            match client {
                Ok(client) => break client,
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}: {}", server.log_text()),
            }
        };
        let answer = client.run(&["EVAL", "return 1", "0"]).unwrap();
        let scripts = match answer {
            Reply::Int(1) => true,
            Reply::Error(text) if text.starts_with("ERR unknown command") => false,
            other => panic!("EVAL: {other:?}"),
        };
        Self {
            server,
            _folder: folder,
            scripts,
        }
    }
}

/// The folder of the programs that are run.
fn programs() -> PathBuf {
    std::path::absolute("clients").unwrap()
}

/// Where the libraries are installed: `REDROCK_CLIENTS_DIR`, or beside the build's folder.
fn installed() -> PathBuf {
    if let Some(folder) = std::env::var_os("REDROCK_CLIENTS_DIR") {
        return folder.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
    cache.unwrap_or_else(home).join("redrock/clients")
}

/// Whether the libraries are there.
fn has_clients() -> bool {
    let found = ["python/bin/python", "node/node_modules/ioredis"]
        .iter()
        .all(|path| installed().join(path).exists());
    if !found {
        missing("client libraries are not installed: scripts/install-deps.sh test");
    }
    found && has_redis()
}

/// Runs one program against a server and gives its lines; panics if it fails.
fn run(target: &Target, interpreter: &Path, program: &str) -> Vec<String> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "60"])
        .arg(interpreter)
        .arg(programs().join(program))
        .current_dir(programs())
        .env("PORT", target.server.port.to_string())
        .env("PASSWORD", PASSWORD)
        .env("SCRIPTS", if target.scripts { "1" } else { "0" })
        .env("CLIENTS_DIR", installed().join("node"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    println!("{program}\n{text}");
    assert!(output.status.success(), "{program}: {text}\n{errors}");
    text.lines().map(str::to_owned).collect()
}

/// Runs a program against both servers; it must tell of so many checks.
fn suite(interpreter: &Path, program: &str, checks: usize, needs_scripts: bool) {
    if !has_clients() {
        return;
    }
    for kind in KINDS {
        let target = Target::start(kind);
        if needs_scripts && !target.scripts {
            println!("{program} needs scripts, which {kind:?} has not");
            continue;
        }
        let lines = run(&target, interpreter, program);
        let done = lines.iter().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(done, checks, "{kind:?} {program}: {lines:#?}");
        let left_out = lines.iter().filter(|line| line.contains("left out"));
        assert!(
            left_out.count() <= usize::from(!target.scripts),
            "{lines:#?}"
        );
    }
}

fn python() -> PathBuf {
    installed().join("python/bin/python")
}

#[test]
fn redis_py_is_served() {
    suite(&python(), "redis_py.py", 11, false);
}

#[test]
fn rq_runs_its_jobs() {
    suite(&python(), "rq_jobs.py", 3, false);
}

#[test]
fn ioredis_is_served() {
    suite(Path::new("node"), "ioredis.mjs", 9, false);
}

#[test]
fn node_redis_is_served() {
    suite(Path::new("node"), "node_redis.mjs", 10, false);
}

#[test]
fn bullmq_runs_its_jobs() {
    suite(Path::new("node"), "bullmq.mjs", 4, true);
}
