//! The binary from its start to its end: configuration, listening, limits, signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_redrock-server");
const PATIENCE: Duration = Duration::from_secs(20);

/// A port that no other test of this process gets, outside the range that the system picks from.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 11_000 + (std::process::id() % 400) as u16 * 40 + next % 40;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Server(Child);

impl Server {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(BINARY)
            .args(arguments)
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    return Self(BufReader::new(stream));
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One reply as text: lines joined by spaces, without lengths.
    fn call(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        let end = Instant::now() + PATIENCE;
        loop {
            self.0.get_mut().write_all(request.as_bytes()).unwrap();
            let reply = self.reply();
            // The port is open while the data is still loaded.
            if !reply.starts_with("-LOADING") || Instant::now() > end {
                return reply;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn reply(&mut self) -> String {
        let line = self.line();
        match line.as_bytes().first() {
            Some(b'$') if line != "$-1" => self.line(),
            Some(b'*') if line != "*-1" => {
                let count = line[1..].parse().unwrap_or(0);
                (0..count)
                    .map(|_| self.reply())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            _ => line,
        }
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0) | Err(_))
    }
}

#[test]
fn a_rewritten_file_brings_the_server_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (port, other) = (free_port(), free_port());
    let file = format!("# mine\nport {port}\nbind 127.0.0.1\nsave 60 1\nrename-command ECHO say\n");
    std::fs::write(dir.path().join("redis.conf"), file).unwrap();
    let server = Server::start(dir.path(), &["redis.conf", "--hz", "20"]);
    let mut client = Client::connect(port);
    assert_eq!(
        client.call(&["config", "get", "hz", "save"]),
        "hz 20 save 60 1"
    );
    assert_eq!(client.call(&["say", "x"]), "x");
    assert!(
        client
            .call(&["echo", "x"])
            .starts_with("-ERR unknown command 'echo'")
    );
    assert_eq!(
        client.call(&["config", "set", "port", &other.to_string()]),
        "+OK"
    );
    assert_eq!(
        client.call(&["config", "set", "maxmemory", "1gb", "save", "", "hz", "30"]),
        "+OK"
    );
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "the old port is closed"
    );
    assert_eq!(Client::connect(other).call(&["config", "rewrite"]), "+OK");
    assert!(server.terminate().success());
    let text = std::fs::read_to_string(dir.path().join("redis.conf")).unwrap();
    assert!(
        text.starts_with(&format!(
            "# mine\nport {other}\nbind 127.0.0.1\nsave \"\"\n"
        )),
        "{text}"
    );
    assert!(text.contains("rename-command ECHO say\n"), "{text}");
    let _server = Server::start(dir.path(), &["redis.conf"]);
    let mut client = Client::connect(other);
    let all = client.call(&["config", "get", "hz", "save", "maxmemory"]);
    assert_eq!(all, "hz 30 save  maxmemory 1073741824");
}

#[test]
fn a_start_that_can_not_be_fails_with_the_reason_and_status_1() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, reason) in [
        (
            &["--port", &port, "--bind", "127.0.0.1"][..],
            format!("listening on port {port}"),
        ),
        (
            &["--port", "x"],
            "argument couldn't be parsed into an integer".into(),
        ),
        (&["--port", "0"], "configured to not listen anywhere".into()),
        (
            &["--cluster-enabled", "yes"],
            "cluster-enabled yes is not supported".into(),
        ),
        (
            &["none.conf"],
            "none.conf': No such file or directory".into(),
        ),
        (
            &["--logfile", "none/x.log"],
            "Can't open the log file".into(),
        ),
    ] {
        let output = Command::new(BINARY)
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&reason), "{text}");
    }
}

#[test]
fn no_more_clients_come_in_than_maxclients() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = port.to_string();
    let _server = Server::start(dir.path(), &["--port", &text, "--maxclients", "2"]);
    let mut first = Client::connect(port);
    assert_eq!(first.call(&["ping"]), "+PONG");
    let second = Client::connect(port);
    let mut third = Client::connect(port);
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    drop(second);
    let end = Instant::now() + PATIENCE;
    while Client::connect(port).call(&["ping"]) != "+PONG" {
        assert!(
            Instant::now() < end,
            "the place of a gone client stays taken"
        );
    }
}

#[test]
fn idle_clients_are_closed_but_not_those_that_wait_for_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), &["--port", &port.to_string(), "--timeout", "1"]);
    let (mut idle, mut blocked) = (Client::connect(port), Client::connect(port));
    assert_eq!(idle.call(&["ping"]), "+PONG");
    assert_eq!(blocked.call(&["blpop", "key", "4"]), "*-1");
    assert!(idle.is_closed());
    assert_eq!(
        blocked.call(&["ping"]),
        "+PONG",
        "its time counts from the reply on"
    );
}

#[test]
fn a_password_is_asked_of_new_clients() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _server = Server::start(dir.path(), &["--port", &port.to_string()]);
    let mut old = Client::connect(port);
    assert_eq!(old.call(&["config", "set", "requirepass", "secret"]), "+OK");
    assert_eq!(old.call(&["ping"]), "+PONG", "who is in stays in");
    let mut new = Client::connect(port);
    assert_eq!(new.call(&["get", "a"]), "-NOAUTH Authentication required.");
    assert!(
        new.call(&["hello", "3"])
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert!(new.call(&["auth", "wrong"]).starts_with("-WRONGPASS "));
    assert_eq!(new.call(&["auth", "default", "secret"]), "+OK");
    assert_eq!(new.call(&["get", "a"]), "$-1");
    assert_eq!(new.call(&["reset"]), "+RESET");
    assert_eq!(new.call(&["get", "a"]), "-NOAUTH Authentication required.");
    assert!(
        new.call(&["hello", "2", "auth", "default", "secret"])
            .starts_with("server redis")
    );
    assert_eq!(new.call(&["quit"]), "+OK");
    assert!(new.is_closed());
}

#[test]
fn a_unix_socket_serves_alone_and_is_gone_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "--port",
        "0",
        "--unixsocket",
        "r.sock",
        "--pidfile",
        "r.pid",
    ];
    let server = Server::start(dir.path(), &arguments);
    let (socket, pid_file) = (dir.path().join("r.sock"), dir.path().join("r.pid"));
    let end = Instant::now() + PATIENCE;
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut reply = String::from("-LOADING");
    while reply.starts_with("-LOADING") && Instant::now() < end {
        reply.clear();
        stream.write_all(b"PING\r\n").unwrap();
        replies.read_line(&mut reply).unwrap();
    }
    assert_eq!(reply, "+PONG\r\n");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid.trim(), server.0.id().to_string());
    assert!(server.terminate().success());
    assert!(!socket.exists() && !pid_file.exists());
}

#[test]
fn a_daemon_leaves_its_starter_and_writes_its_pid() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let text = format!("daemonize yes\nport {port}\npidfile r.pid\nlogfile r.log\n");
    std::fs::write(dir.path().join("redis.conf"), text).unwrap();
    let status = Command::new(BINARY)
        .arg("redis.conf")
        .current_dir(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(Client::connect(port).call(&["ping"]), "+PONG");
    let pid: i32 = std::fs::read_to_string(dir.path().join("r.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert_eq!(
        rustix::process::getsid(Some(pid)).unwrap(),
        pid,
        "it leads a session of its own"
    );
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let end = Instant::now() + PATIENCE;
    while dir.path().join("r.pid").exists() {
        assert!(Instant::now() < end, "the daemon does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = std::fs::read_to_string(dir.path().join("r.log")).unwrap();
    assert!(log.contains("Ready to accept connections tcp"), "{log}");
}
