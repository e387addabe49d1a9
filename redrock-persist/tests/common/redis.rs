//! A real Redis server in a folder of its own, spoken to over a Unix socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; dropping it stops the process. `None` where Redis isn't installed.
pub struct Redis {
    process: Child,
    stream: BufReader<UnixStream>,
}

impl Redis {
    pub fn start(folder: &Path, options: &[&str]) -> Option<Redis> {
        let socket = folder.join("redis.sock");
        let spawned = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--loglevel", "warning"])
            .args(["--enable-debug-command", "yes"])
            .args(["--sanitize-dump-payload", "yes"])
            .args(options)
            .arg("--dir")
            .arg(folder)
            .arg("--unixsocket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut process) = spawned else {
            let what = "redis-server is not installed";
            assert!(std::env::var_os("RR_NO_SKIP").is_none(), "{what}");
            eprintln!("skipped: {what}");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => {
                    let gone = process.try_wait().unwrap();
                    assert!(gone.is_none(), "Redis refused to start: {gone:?}");
                    assert!(Instant::now() < deadline, "connect to Redis: {error}");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut redis = Redis {
            process,
            stream: BufReader::new(stream),
        };
        while redis.call(&["PING"]) != "PONG" {
            assert!(Instant::now() < deadline, "Redis keeps loading");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(redis)
    }

    /// Sends a command; gives the reply's text (a bulk as it is, elements joined by spaces).
    pub fn call<T: AsRef<[u8]>>(&mut self, arguments: &[T]) -> String {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let bytes = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            request.extend_from_slice(bytes);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).unwrap();
        self.read_reply()
    }

    /// A command of words without spaces.
    pub fn line(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        self.call(&words)
    }

    /// The digest of the whole data set.
    pub fn digest(&mut self) -> String {
        self.line("DEBUG DIGEST")
    }

    fn read_reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "Redis has gone");
        let text = line[1..].trim_end().to_owned();
        match line.as_bytes()[0] {
            b'+' | b':' | b'-' => text,
            b'$' | b'*' if text == "-1" => "(nil)".into(),
            b'$' => {
                let mut bytes = vec![0; text.parse::<usize>().unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => {
                let count: usize = text.parse().unwrap();
                let parts: Vec<String> = (0..count).map(|_| self.read_reply()).collect();
                parts.join(" ")
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
