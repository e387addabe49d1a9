//! A real Redis server in a folder of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_TIME_MAX: Duration = Duration::from_secs(20);

/// A running server; dropping it ends the process.
pub struct Redis {
    process: Child,
    pub port: u16,
    stream: BufReader<TcpStream>,
    _dir: tempfile::TempDir,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Redis {
    pub fn start(options: &[&str]) -> Redis {
        Redis::start_with(options, None)
    }

    /// With an RDB file to load.
    pub fn start_with(options: &[&str], rdb: Option<&Path>) -> Redis {
        let dir = tempfile::tempdir().unwrap();
        if let Some(rdb) = rdb {
            std::fs::copy(rdb, dir.path().join("dump.rdb")).unwrap();
        }
        let port = free_port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--enable-debug-command", "yes"])
            .args(["--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(dir.path())
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("start redis-server");
        let began = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) if began.elapsed() > START_TIME_MAX => panic!("connect: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut redis = Redis {
            process,
            port,
            stream: BufReader::new(stream),
            _dir: dir,
        };
        while redis.call("PING") != "PONG" {
            assert!(began.elapsed() < START_TIME_MAX, "Redis keeps loading");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    pub fn dir(&self) -> PathBuf {
        self._dir.path().to_owned()
    }

    /// An inline command's reply as text.
    pub fn call(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// Raw bytes; replies stay unread.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" if rest == "-1" => "(nil)".to_owned(),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            "*" => {
                let count: usize = rest.parse().unwrap();
                let items: Vec<String> = (0..count).map(|_| self.reply()).collect();
                items.join(" ")
            }
            _ => rest.to_owned(),
        }
    }

    pub fn digest(&mut self) -> String {
        self.call("DEBUG DIGEST")
    }

    /// One field of INFO.
    pub fn info(&mut self, field: &str) -> String {
        let page = self.call("INFO everything");
        let prefix = format!("{field}:");
        page.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Applies a stream of commands on a connection of its own.
    pub fn apply(&mut self, bytes: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let drain = std::thread::spawn(move || {
            let mut all = vec![];
            reader.read_to_end(&mut all).unwrap();
            all
        });
        stream.write_all(bytes).unwrap();
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").unwrap();
        let replies = String::from_utf8_lossy(&drain.join().unwrap()).into_owned();
        let failed = replies.lines().find(|line| line.starts_with("-"));
        assert_eq!(failed, None, "a command of the stream failed");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A command as an array of bulk strings.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
