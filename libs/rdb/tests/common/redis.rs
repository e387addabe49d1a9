//! A real Redis server in a folder of its own, spoken to over a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a program says of its version: `7.0.15`; nothing if there is no such program.
fn version_of(program: &str) -> String {
    let said = Command::new(program).arg("--version").output();
    let text = said.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    let version = text.split_once("v=").map_or("", |(_, rest)| rest);
    version.split(' ').next().unwrap_or_default().to_owned()
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Text(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
}

impl Reply {
    pub(crate) fn bulk(self) -> Vec<u8> {
        match self {
            Self::Bulk(bytes) => bytes,
            other => panic!("not a bulk string: {other:?}"),
        }
    }
}

/// Names further servers to test with, separated by colons: programs of any version, Redis or Valkey.
/// What is named must be there.
const SERVERS: &str = "RR_SERVERS";

/// The machine's `redis-server` and the programs that `RR_SERVERS` names.
pub(crate) fn programs() -> Vec<String> {
    let named = std::env::var(SERVERS).unwrap_or_default();
    if named.is_empty() {
        eprintln!("skipped: no other servers, since {SERVERS} names none");
    }
    let named = named.split(':').filter(|program| !program.is_empty());
    std::iter::once("redis-server")
        .chain(named)
        .map(String::from)
        .collect()
}

/// A running server; dropping it stops the process and removes its folder.
pub(crate) struct Redis {
    process: Child,
    folder: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// Starts the machine's server, or tells that there is none to start.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_program("redis-server", test)
    }

    /// Starts one of [`programs`].
    pub(crate) fn start_program(program: &str, test: &str) -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("redrock-rdb-{test}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("create a folder for Redis");
        let socket = folder.join("redis.sock");
        let knows_debug_option = !version_of(program).starts_with('6');
        let spawned = Command::new(program)
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--loglevel",
                "warning",
            ])
            .args(["--sanitize-dump-payload", "yes"].repeat(usize::from(knows_debug_option)))
            .args(["--enable-debug-command", "yes"].repeat(usize::from(knows_debug_option)))
            .arg("--dir")
            .arg(&folder)
            .arg("--unixsocket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(_) => {
                let what = format!("{program} is not installed");
                let is_named = program != "redis-server";
                assert!(!is_named, "{SERVERS}: {what}");
                assert!(std::env::var_os("RR_NO_SKIP").is_none(), "{what}");
                eprintln!("skipped: {what}");
                let _ = std::fs::remove_dir_all(&folder);
                return None;
            }
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => panic!("connect to Redis: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("set a timeout");
        Some(Self {
            process,
            folder,
            stream: BufReader::new(stream),
        })
    }

    /// Its name and version, and the newest version of RDB files that it reads.
    pub(crate) fn rdb_version_max(&mut self) -> (String, u16) {
        let info = String::from_utf8(self.line("INFO server").bulk()).expect("text");
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim_end().to_owned())
        };
        if let Some(version) = field("valkey_version:") {
            return (format!("Valkey {version}"), 11);
        }
        let version = field("redis_version:").expect("a version");
        let rdb_version = match version.split('.').take(2).collect::<Vec<_>>().join(".") {
            older if older.starts_with('6') => 9,
            version if version == "7.0" => 10,
            version if version == "7.2" => 11,
            _ => 12,
        };
        (format!("Redis {version}"), rdb_version)
    }

    /// Where it saves.
    pub(crate) fn dump_path(&self) -> PathBuf {
        self.folder.join("dump.rdb")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sends a command and gives the reply, errors included.
    pub(crate) fn try_call<T: AsRef<[u8]>>(&mut self, arguments: &[T]) -> Reply {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let bytes = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            request.extend_from_slice(bytes);
            request.extend_from_slice(b"\r\n");
        }
        self.stream
            .get_mut()
            .write_all(&request)
            .expect("send a command");
        self.read_reply()
    }

    /// Like [`Redis::try_call`]; an error reply fails the test.
    pub(crate) fn call<T: AsRef<[u8]>>(&mut self, arguments: &[T]) -> Reply {
        match self.try_call(arguments) {
            Reply::Error(text) => {
                let name = String::from_utf8_lossy(arguments[0].as_ref()).into_owned();
                panic!("{name}: {text}")
            }
            reply => reply,
        }
    }

    /// Sends a command of words without spaces.
    pub(crate) fn line(&mut self, command: &str) -> Reply {
        self.call(&command.split(' ').collect::<Vec<_>>())
    }

    /// Replaces the data set by a file.
    pub(crate) fn load(&mut self, rdb: &[u8]) {
        std::fs::write(self.dump_path(), rdb).expect("write a dump");
        self.line("DEBUG RELOAD NOSAVE");
    }

    /// The digest of the whole data set.
    pub(crate) fn digest(&mut self) -> String {
        match self.line("DEBUG DIGEST") {
            Reply::Text(digest) => digest,
            other => panic!("not a digest: {other:?}"),
        }
    }

    fn read_reply(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read a reply");
        assert!(!line.is_empty(), "Redis has gone");
        let text = line[1..].trim_end();
        let number = || text.parse::<i64>().expect("a number");
        match line.as_bytes()[0] {
            b'+' => Reply::Text(text.to_owned()),
            b'-' => Reply::Error(text.to_owned()),
            b':' => Reply::Int(number()),
            b'$' | b'*' if text == "-1" => Reply::Nil,
            b'$' => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes).expect("read a reply");
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            b'*' => Reply::Array((0..number()).map(|_| self.read_reply()).collect()),
            other => panic!("unknown reply type {other}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
