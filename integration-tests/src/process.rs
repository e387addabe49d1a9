//! Servers as processes: ours and real Redis, each on a free port and in a folder of its own.

use crate::cgroup::Cgroup;
use crate::resp::{Client, Reply};
use anyhow::{Context as _, bail};
pub use rustix::process::Signal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take until it answers, and to end.
fn start_wait() -> Duration {
    Duration::from_secs(60 * (1 + crate::scale::scale() / 10))
}

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `redrock-server`, built beside the tests.
    RedRock,
    /// `redis-server` of the machine.
    Redis,
}

/// A port that nobody uses at the moment.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Says why a test is skipped; panics under `RR_NO_SKIP`, where nothing may be.
pub fn missing(what: &str) {
    assert!(std::env::var_os("RR_NO_SKIP").is_none(), "{what}");
    eprintln!("skipped: {what}");
}

/// Whether a real Redis is installed.
pub fn has_redis() -> bool {
    let found = Command::new("redis-server")
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        missing("redis-server is not installed");
    }
    found
}

/// Programs of further servers to test with, of any version, Redis or Valkey: `RR_SERVERS`, separated by
/// colons. What is named must be there.
pub fn other_servers() -> Vec<PathBuf> {
    let named = std::env::var("RR_SERVERS").unwrap_or_default();
    if named.is_empty() {
        eprintln!("skipped: no other servers, since RR_SERVERS names none");
    }
    let named = named.split(':').filter(|program| !program.is_empty());
    named.map(PathBuf::from).collect()
}

/// The path of one of our binaries: `REDROCK_BIN_DIR`, or the folder above the tests'.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("REDROCK_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let test = std::env::current_exe()?;
            test.parent()
                .and_then(Path::parent)
                .context("folder of the tests")?
                .to_owned()
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} does not exist: build the workspace first",
            path.display()
        );
    }
    Ok(path)
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its port.
    pub port: u16,
    log: PathBuf,
}

/// A command that joins a cgroup and then becomes the program, so that its pid is the program's.
fn inside(group: &Cgroup, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            r#"echo $$ > "$1" && shift && exec "$@""#,
            "join-cgroup",
        ])
        .arg(group.procs())
        .arg(program);
    command
}

fn command(
    kind: Kind,
    folder: &Path,
    port: u16,
    options: &[&str],
    group: Option<&Cgroup>,
) -> anyhow::Result<Command> {
    let program = match kind {
        Kind::RedRock => binary("redrock-server")?,
        Kind::Redis => "redis-server".into(),
    };
    let mut command = match group {
        Some(group) => inside(group, &program),
        None => Command::new(program),
    };
    command
        .args(["--port", &port.to_string(), "--save", ""])
        .arg("--dir")
        .arg(folder);
    if kind == Kind::Redis {
        command.args(["--enable-debug-command", "yes"]);
        // With `everysec` it answers before it writes while a sync is under way: a kill would
        // take what it has answered.
        command.args(["--appendfsync", "always"]);
    }
    command.args(options).stdin(Stdio::null());
    Ok(command)
}

impl Server {
    /// Starts a server over a folder and waits until it serves.
    pub fn start(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let server = Self::spawn(kind, folder, options)?;
        server.wait_ready()
    }

    /// Starts a server and waits for nothing.
    pub fn spawn(kind: Kind, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        Self::spawn_inside(kind, folder, options, None)
    }

    /// As [`Server::spawn`], on a given port.
    pub fn spawn_on(
        port: u16,
        kind: Kind,
        folder: &Path,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        Self::launch(port, kind, folder, options, None)
    }

    /// Starts a server, in a cgroup if one is given, and waits for nothing.
    pub fn spawn_inside(
        kind: Kind,
        folder: &Path,
        options: &[&str],
        group: Option<&Cgroup>,
    ) -> anyhow::Result<Self> {
        Self::launch(free_port()?, kind, folder, options, group)
    }

    fn launch(
        port: u16,
        kind: Kind,
        folder: &Path,
        options: &[&str],
        group: Option<&Cgroup>,
    ) -> anyhow::Result<Self> {
        Self::watched(port, command(kind, folder, port, options, group)?)
    }

    /// Starts a server of [`other_servers`] over a folder and waits until it serves.
    pub fn start_program(program: &Path, folder: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .args(["--port", &port.to_string(), "--save", ""])
            .arg("--dir")
            .arg(folder)
            .args(options)
            .stdin(Stdio::null());
        Self::watched(port, command)?.wait_ready()
    }

    /// Starts our server with a configuration file over a folder and waits until it serves.
    pub fn start_with_file(file: &Path, folder: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(binary("redrock-server")?);
        command
            .arg(file)
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(folder)
            .stdin(Stdio::null());
        Self::watched(port, command)?.wait_ready()
    }

    /// Starts our server with failpoints armed (`redrock_log::failpoint`) on a port and waits for
    /// nothing.
    pub fn spawn_armed(
        port: u16,
        folder: &Path,
        options: &[&str],
        failpoints: &str,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(binary("redrock-server")?);
        command
            .arg("--allow-failpoints")
            .env("REDROCK_FAILPOINTS", failpoints)
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(folder)
            .args(options)
            .stdin(Stdio::null());
        Self::watched(port, command)
    }

    fn watched(port: u16, mut command: Command) -> anyhow::Result<Self> {
        // A port may be used again while the log of the server before is still there.
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let (test, start) = (std::process::id(), STARTS.fetch_add(1, Ordering::Relaxed));
        // Outside the data folder, which tests copy and compare.
        let log = std::env::temp_dir().join(format!("redrock-test-{test}-{start}-{port}.log"));
        let output = std::fs::File::create(&log)?;
        let child = command
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start the server")?;
        Ok(Self { child, port, log })
    }

    /// Waits until the server answers PING, be it that it can't write.
    pub fn wait_ready(mut self) -> anyhow::Result<Self> {
        match self.ready_or_ended()? {
            None => Ok(self),
            Some(status) => bail!("the server ended with {status}:\n{}", self.log_text()),
        }
    }

    /// Waits until the server answers PING, or has ended: then its status.
    pub fn ready_or_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + start_wait();
        loop {
            let answer = Client::connect(self.port).and_then(|mut client| client.run(&["PING"]));
            let ready = match &answer {
                Ok(Reply::Status(pong)) => pong == "PONG",
                Ok(Reply::Error(text)) => text.starts_with("MISCONF"),
                _ => false,
            };
            if ready {
                return Ok(None);
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                bail!(
                    "the server does not answer ({answer:?}):\n{}",
                    self.log_text()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a server that is expected to refuse its start: exit status and what it said.
    pub fn refused(
        kind: Kind,
        folder: &Path,
        port: u16,
        options: &[&str],
    ) -> anyhow::Result<(ExitStatus, String)> {
        let mut server = Self::watched(port, command(kind, folder, port, options, None)?)?;
        // It may be the port's former owner that answers, so the end alone is waited for.
        let deadline = Instant::now() + start_wait();
        loop {
            if let Some(status) = server.child.try_wait()? {
                return Ok((status, server.log_text()));
            }
            if Instant::now() > deadline {
                bail!("the server does not refuse:\n{}", server.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A new connection.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.port)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it and everything that it started (SIGKILL), and waits until all are gone. The
    /// server goes first, so that it can't start its companions again.
    pub fn kill_family(mut self) -> anyhow::Result<()> {
        let companions = crate::memory::family(self.pid()).split_off(1);
        self.child.kill()?;
        for &pid in &companions {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            // It may just have ended.
            let _ =
                rustix::process::kill_process(pid.context("pid")?, rustix::process::Signal::KILL);
        }
        self.child.wait()?;
        let deadline = Instant::now() + crate::scale::PATIENCE;
        while companions.iter().any(|&pid| lives(pid)) {
            anyhow::ensure!(Instant::now() < deadline, "a companion does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait_exit()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + start_wait();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server does not end:\n{}", self.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The most physical memory that the process has used so far, bytes.
    pub fn peak_bytes(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line
            .and_then(|line| line.trim().strip_suffix("kB"))
            .context("VmHWM")?;
        Ok(kilobytes.trim().parse::<u64>()? * 1024)
    }

    /// User and system time that the process has used so far, seconds.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields = text.rsplit_once(')').context("stat")?.1;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || {
            fields
                .next()
                .and_then(|field| field.parse::<f64>().ok())
                .context("stat")
        };
        Ok((ticks()? + ticks()?) / rustix::param::clock_ticks_per_second() as f64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Copies a folder with everything in it, lock and epoch files of ours apart.
pub fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
