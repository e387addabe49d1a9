//! Raw bytes to a port, and all that comes back.

use redrock_integration_tests::process::{Kind, Server, has_redis};
use redrock_integration_tests::resp::encode;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tempfile::TempDir;

/// How long an answer may take; nothing here waits for it in the good case.
const ANSWER_WAIT: Duration = redrock_integration_tests::scale::PATIENCE;

/// Sends bytes, says that no more will come, and reads until the server closes.
pub(crate) fn ask(port: u16, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    // A server that has closed already does not take everything.
    let _ = stream.write_all(input);
    let _ = stream.shutdown(Shutdown::Write);
    let mut output = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(output),
            Ok(count) => output.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(output),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A command in RESP.
pub(crate) fn resp(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, words);
    bytes
}

/// As [`resp`], from words separated by blanks.
pub(crate) fn line(text: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    resp(&words)
}

/// Bytes as text that can be read in a failure.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let head = bytes.get(..300).unwrap_or(bytes);
    let more = if head.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{more} ({} bytes)", head.escape_ascii(), bytes.len())
}

/// Our server and a real one with the same options.
pub(crate) struct Pair {
    pub(crate) ours: Server,
    pub(crate) real: Server,
    _folders: [TempDir; 2],
}

impl Pair {
    /// Starts both; `None` without a real Redis.
    pub(crate) fn start(options: &[&str]) -> anyhow::Result<Option<Self>> {
        if !has_redis() {
            return Ok(None);
        }
        let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
        let ours = [options, &["--companions", "external"]].concat();
        Ok(Some(Self {
            ours: Server::spawn(Kind::RedRock, folders[0].path(), &ours)?,
            real: Server::spawn(Kind::Redis, folders[1].path(), options)?,
            _folders: folders,
        }))
    }

    /// Waits until both answer.
    pub(crate) fn ready(self) -> anyhow::Result<Self> {
        let answers = |port| loop {
            let answer = ask(port, b"PING\r\n").unwrap_or_default();
            if answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        answers(self.ours.port);
        answers(self.real.port);
        Ok(self)
    }

    /// Sends the same to both and compares all that comes back: once as it is, and once with a
    /// PING behind it, which shows whether the connection was still good.
    pub(crate) fn compare(&self, input: &[u8], failures: &mut Vec<String>) -> anyhow::Result<()> {
        for tail in [&b""[..], b"*1\r\n$4\r\nPING\r\n"] {
            if !self.compare_once(&[input, tail].concat(), failures)? {
                break;
            }
        }
        Ok(())
    }

    /// Sends the same to both and compares all that comes back; false if it differs.
    pub(crate) fn compare_once(
        &self,
        bytes: &[u8],
        failures: &mut Vec<String>,
    ) -> anyhow::Result<bool> {
        {
            let real = ask(self.real.port, bytes)?;
            let ours = ask(self.ours.port, bytes)?;
            if real != ours {
                failures.push(format!(
                    "{}\n  Redis: {}\n  ours:  {}",
                    shown(bytes),
                    shown(&real),
                    shown(&ours)
                ));
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Fails with all differences that were found.
pub(crate) fn none(failures: Vec<String>, cases: usize) {
    println!("{cases} cases, {} differences", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
