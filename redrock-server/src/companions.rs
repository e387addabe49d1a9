//! The companion daemons: started and supervised (`companions spawn`), or expected at their
//! sockets (`companions external`).
//!
//! A companion that can't be found or started is told in the log; the server serves anyway (I2).

use crate::config::Config;
use redrock_daemon::supervise::{self, BackOff, CompanionSpec};
use redrock_daemon::tasks::Tasks;
use redrock_log::failpoint;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a companion is to us.
#[derive(Debug)]
pub struct Member {
    /// `persist` or `replica`
    pub name: &'static str,
    process: OnceLock<supervise::Companion>,
}

impl Member {
    /// Its supervisor; `None` if it is started by somebody else, can't be found, or is not
    /// started yet.
    pub fn process(&self) -> Option<&supervise::Companion> {
        self.process.get()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Companions {
    members: Vec<Member>,
    page_bytes: u64,
}

/// Name, program, and what is added to `metrics-port` for its own.
const ALL: [(&str, &str, u16); 2] = [
    ("persist", "redrock-persist", 1),
    ("replica", "redrock-replica", 2),
];

impl Default for Companions {
    fn default() -> Self {
        Self::new()
    }
}

impl Companions {
    /// None of them is started yet, or ever.
    pub fn new() -> Self {
        let members = ALL.map(|(name, ..)| Member {
            name,
            process: OnceLock::new(),
        });
        Self {
            members: members.into(),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Starts both, if the configuration says so. The epoch file must name this run already.
    /// Must be called within the runtime that is to look after them.
    pub fn start(&self, config: &Config, tasks: &Tasks) {
        if !config.companions.spawn {
            tracing::info!(
                sockets = %config.companions.socket_dir.display(),
                "companions are started by somebody else"
            );
            return;
        }
        for (member, (name, program, port)) in self.members.iter().zip(ALL) {
            let Some(path) = find_program(program) else {
                tracing::warn!(
                    "{program} is neither beside this program nor in PATH: the server serves \
                     without it, {}",
                    what_is_missing(name)
                );
                continue;
            };
            let spec = CompanionSpec {
                name,
                program: path,
                args: arguments(config, name, port),
                env: Vec::new(),
            };
            member
                .process
                .get_or_init(|| supervise::supervise(tasks, spec, BackOff::default()));
        }
    }

    /// All of them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Resident memory of those that we started, bytes. Cheap: one small read each.
    pub fn resident_bytes(&self) -> u64 {
        self.pids().map(|pid| self.resident_of(pid)).sum()
    }

    /// Processes that we started and that live.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().filter_map(|m| m.process()?.state().pid)
    }

    /// Resident memory of a process, bytes; 0 if it is gone.
    pub fn resident_of(&self, pid: u32) -> u64 {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else {
            return 0;
        };
        let pages: u64 = text
            .split(' ')
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        pages * self.page_bytes
    }
}

fn what_is_missing(name: &str) -> &'static str {
    match name {
        "persist" => "no snapshots and no log rewrites",
        _ => "no replication",
    }
}

/// As their `main` takes them.
fn arguments(config: &Config, name: &str, port: u16) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--dir".into(), config.dir.as_os_str().into()];
    if name == "persist" && failpoint::allowed() {
        args.push(failpoint::FLAG.into());
    }
    args.extend([
        "--socket-dir".into(),
        config.companions.socket_dir.clone().into(),
    ]);
    args.extend(["--server-pid".into(), std::process::id().to_string().into()]);
    if let Some(file) = &config.observation.log_file {
        args.extend(["--log-file".into(), file.clone().into()]);
    }
    if config.observation.metrics_port != 0
        && let Some(own) = config.observation.metrics_port.checked_add(port)
    {
        args.extend(["--metrics-port".into(), own.to_string().into()]);
    }
    args
}

/// Beside our own program, else in PATH.
fn find_program(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own
        .as_deref()
        .and_then(Path::parent)
        .map(|dir| dir.join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    beside
        .into_iter()
        .chain(in_path)
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_path_is_found_and_what_is_none_is_not() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("redrock-no-such-program"), None);
        assert!(!is_program(Path::new("/etc")));
    }

    #[tokio::test]
    async fn without_started_companions_nothing_counts() {
        let companions = Companions::new();
        assert_eq!(companions.members().len(), 2);
        assert_eq!(companions.resident_bytes(), 0);
        assert!(companions.resident_of(std::process::id()) > 100_000);
    }
}
