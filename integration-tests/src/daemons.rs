//! All our processes on a folder: the server with the companions it started, or companions that
//! a test starts itself.

use crate::process::{Server, binary};
use crate::resp::{Client, Reply};
use crate::scale::{PATIENCE, between};
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a state may take to come about at the full size of tests, seconds.
const FULL_WAIT_S: u64 = 900;

fn wait_max() -> Duration {
    Duration::from_secs(between(PATIENCE.as_secs(), FULL_WAIT_S))
}

/// Waits for a state.
pub fn until(what: &str, mut reached: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + wait_max();
    while !reached()? {
        if Instant::now() > deadline {
            bail!("{what} did not come about");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A field of an INFO section.
pub fn info(client: &mut Client, section: &str, field: &str) -> anyhow::Result<String> {
    let text = client.ok(&format!("INFO {section}"))?.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.unwrap_or_default().to_owned())
}

/// Waits until both companions answer.
pub fn companions_up(client: &mut Client) -> anyhow::Result<()> {
    until("two companions that answer", || {
        let text = client.ok("INFO companions")?.text();
        Ok(text.matches("state=up").count() == 2)
    })
}

/// Runs a command that needs a companion until it is not answered with the companion's absence,
/// be it because it is still starting; `over` says when to give up.
pub fn ask_companion(
    client: &mut Client,
    line: &str,
    mut over: impl FnMut() -> bool,
) -> anyhow::Result<Reply> {
    let words: Vec<&str> = line.split(' ').collect();
    let deadline = Instant::now() + wait_max();
    loop {
        let reply = client.run(&words)?;
        match &reply {
            Reply::Error(text) if text.contains("persister") && !over() => {
                if Instant::now() > deadline {
                    bail!("{line}: {text}");
                }
            }
            _ => return Ok(reply),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The process id of a companion, `persist` or `replica`, that the server has started.
pub fn companion(client: &mut Client, name: &str) -> anyhow::Result<u32> {
    let line = info(client, "companions", &format!("companion_{name}"))?;
    let pid = line
        .split(',')
        .find_map(|part| part.strip_prefix("pid="))
        .with_context(|| format!("companion {name}: {line:?}"))?;
    Ok(pid.parse()?)
}

/// Kills a process of ours (SIGKILL); one that is gone is fine.
pub fn kill_9(pid: u32) -> anyhow::Result<()> {
    signal(pid, Signal::KILL)
}

/// Sends a signal; a process that is gone is fine.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match kill_process(pid.context("a process id")?, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The server and the companions that it has started and that live.
pub fn processes(server: &Server) -> Vec<u32> {
    crate::memory::family(server.pid())
}

/// Whether a process has ended, be it that nobody has asked for its status.
pub fn has_ended(pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let state = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

/// Kills processes (SIGKILL), beginning with number `turn`, and does not wait for their end.
pub fn kill_each(pids: &[u32], turn: u64) -> anyhow::Result<()> {
    let mut pids = pids.to_vec();
    let first = turn % pids.len().max(1) as u64;
    pids.rotate_left(first as usize);
    for pid in pids {
        kill_9(pid)?;
    }
    Ok(())
}

/// Stops processes where they are (SIGSTOP). What waits for a disk stops behind that.
pub fn freeze(pids: &[u32]) -> anyhow::Result<()> {
    for pid in pids {
        signal(*pid, Signal::STOP)?;
    }
    until("processes that stand still", || {
        Ok(pids.iter().all(|pid| stands_still(*pid)))
    })
}

/// Whether each thread of a process is stopped, waits for a disk, or is gone.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let text = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = text.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_none_or(|state| state.starts_with(['T', 't', 'D', 'Z', 'X']))
    })
}

/// Waits until all of them have ended.
pub fn wait_ended(pids: &[u32]) -> anyhow::Result<()> {
    until("the end of what was killed", || {
        Ok(pids.iter().all(|pid| has_ended(*pid)))
    })
}

/// A companion started by a test; dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `redrock-persist` or `redrock-replica` beside a server with external companions.
    /// `failpoints` is for the persister only (`libs/log/src/failpoint.rs`).
    pub fn start(program: &str, folder: &Path, failpoints: &str) -> anyhow::Result<Self> {
        let log = tempfile::NamedTempFile::new()?.into_temp_path().keep()?;
        let output = std::fs::File::create(&log)?;
        let mut command = Command::new(binary(program)?);
        command
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if !failpoints.is_empty() {
            command
                .arg("--allow-failpoints")
                .env("REDROCK_FAILPOINTS", failpoints);
        }
        let child = command
            .spawn()
            .with_context(|| format!("start {program}"))?;
        Ok(Self { child, log })
    }

    /// Whether it has ended.
    pub fn is_gone(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    pub fn wait_gone(&mut self) -> anyhow::Result<()> {
        let child = &mut self.child;
        let result = until("the end of a companion", || Ok(child.try_wait()?.is_some()));
        result.with_context(|| self.log_text())
    }

    /// What it has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Copies what a backup of the folder would hold: everything but the tier and the sockets.
pub fn copy_durable(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if kind.is_dir() && name == "appendonlydir" {
            crate::process::copy_folder(&entry.path(), &to.join(name))?;
        } else if kind.is_file() && name.to_string_lossy().ends_with(".rdb") {
            std::fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
