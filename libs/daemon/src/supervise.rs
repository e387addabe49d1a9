//! Companions as supervised children.
//!
//! A child that ends is started again after a pause that doubles from 0.2 to
//! 10 seconds and falls back once it has lived for a while. Children get a
//! process group of their own, so that a terminal's Ctrl-C or a signal to the
//! server's group leaves them alone: they end by themselves when the server
//! has gone (see [`parent_watch`](crate::parent_watch)).
//!
//! Nothing is done between fork and exec (no `pre_exec`, uid or gid), which is
//! what lets the standard library use `posix_spawn`: the server's memory is
//! not copied, however large it is.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// What to start.
#[derive(Debug, Clone)]
pub struct CompanionSpec {
    /// For log lines and task names.
    pub name: &'static str,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Added to the environment of the server.
    pub env: Vec<(OsString, OsString)>,
}

/// Pauses between starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    pub first: Duration,
    pub max: Duration,
    /// A child that lived for so long was healthy: the next pause is the first.
    pub healthy_after: Duration,
}

impl Default for BackOff {
    fn default() -> BackOff {
        BackOff {
            first: Duration::from_millis(200),
            max: Duration::from_secs(10),
            healthy_after: Duration::from_secs(10),
        }
    }
}

impl BackOff {
    /// The pause after a child that lived for `lived`, when the pause before
    /// it was `last` (`None` at the first time).
    pub fn next(&self, last: Option<Duration>, lived: Duration) -> Duration {
        match last {
            Some(last) if lived < self.healthy_after => last.saturating_mul(2).min(self.max),
            _ => self.first.min(self.max),
        }
    }
}

/// Where a companion stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompanionState {
    /// Of the child that runs.
    pub pid: Option<u32>,
    /// Successful starts so far.
    pub starts: u32,
    /// Pause before the next start, while none runs.
    pub pause: Option<Duration>,
    /// How the last child ended or why it couldn't be started.
    pub last_end: Option<String>,
}

/// A companion being supervised. Clones watch the same.
#[derive(Debug, Clone)]
pub struct Companion {
    name: &'static str,
    state: watch::Receiver<CompanionState>,
}

impl Companion {
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn state(&self) -> CompanionState {
        self.state.borrow().clone()
    }

    /// Waits for a state; `None` if the supervisor has ended before.
    pub async fn wait_for(
        &mut self,
        wanted: impl FnMut(&CompanionState) -> bool,
    ) -> Option<CompanionState> {
        self.state
            .wait_for(wanted)
            .await
            .ok()
            .map(|state| state.clone())
    }
}

/// Keeps a companion running until the tasks are told to stop. Then it only
/// stops restarting: the child stays until it sees that this process has gone.
pub fn supervise(tasks: &Tasks, spec: CompanionSpec, back_off: BackOff) -> Companion {
    let (sender, state) = watch::channel(CompanionState::default());
    let name = spec.name;
    let supervisor = Supervisor {
        spec,
        back_off,
        state: sender,
        stop: tasks.token(),
    };
    tasks.spawn(format!("supervise {name}"), supervisor.run());
    Companion { name, state }
}

struct Supervisor {
    spec: CompanionSpec,
    back_off: BackOff,
    state: watch::Sender<CompanionState>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut last_pause = None;
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let end = match self.start() {
                Ok(mut child) => tokio::select! {
                    end = child.wait() => describe_end(end),
                    () = self.stop.cancelled() => return,
                },
                Err(error) => {
                    format!("could not start {}: {error}", self.spec.program.display())
                }
            };
            let pause = self.back_off.next(last_pause, started.elapsed());
            last_pause = Some(pause);
            tracing::warn!(
                companion = self.spec.name,
                pause_ms = pause.as_millis() as u64,
                "companion down: {end}"
            );
            self.state.send_modify(|state| {
                state.pid = None;
                state.pause = Some(pause);
                state.last_end = Some(end);
            });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .envs(self.spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        tracing::info!(
            companion = self.spec.name,
            pid = child.id(),
            "companion started"
        );
        self.state.send_modify(|state| {
            state.pid = child.id();
            state.starts = state.starts.saturating_add(1);
            state.pause = None;
        });
        Ok(child)
    }
}

fn describe_end(end: std::io::Result<ExitStatus>) -> String {
    match end {
        Ok(status) => status.to_string(),
        Err(error) => format!("lost sight of it: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, getpgid, kill_process};

    use super::*;

    fn spec(program: &str, args: &[&str]) -> CompanionSpec {
        CompanionSpec {
            name: "persist",
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env: vec![],
        }
    }

    fn quick() -> BackOff {
        BackOff {
            first: Duration::from_millis(5),
            ..BackOff::default()
        }
    }

    fn kill(pid: u32) {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_falls_back_after_health() {
        let back_off = BackOff::default();
        let mut pause = back_off.next(None, Duration::ZERO);
        let mut pauses = vec![];
        for _ in 0..8 {
            pauses.push(pause.as_millis());
            pause = back_off.next(Some(pause), Duration::from_secs(1));
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(
            back_off
                .next(Some(pause), Duration::from_secs(11))
                .as_millis(),
            200
        );
    }

    #[tokio::test]
    async fn a_killed_child_is_started_again_in_its_own_group() {
        let tasks = Tasks::new();
        let mut companion = supervise(&tasks, spec("sleep", &["1000"]), quick());
        let first = companion
            .wait_for(|state| state.pid.is_some())
            .await
            .unwrap();
        let first_pid = first.pid.unwrap();
        let raw = Pid::from_raw(first_pid.try_into().unwrap());
        assert_eq!(getpgid(raw).unwrap(), raw.unwrap());
        kill(first_pid);
        let second = companion
            .wait_for(|state| state.starts == 2 && state.pid.is_some())
            .await
            .unwrap();
        assert_ne!(second.pid, Some(first_pid));
        assert!(second.last_end.unwrap().contains("signal: 9"));

        // Stopping leaves the child alone.
        tasks.drain(Duration::from_secs(30)).await.unwrap();
        let pid = second.pid.unwrap();
        assert!(std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
        kill(pid);
    }

    #[tokio::test]
    async fn a_child_that_keeps_failing_is_started_with_growing_pauses() {
        let tasks = Tasks::new();
        let mut companion = supervise(&tasks, spec("false", &[]), quick());
        let state = companion
            .wait_for(|state| state.pause == Some(Duration::from_millis(20)))
            .await
            .unwrap();
        assert_eq!(state.starts, 3);
        assert_eq!(state.last_end.as_deref(), Some("exit status: 1"));
        tasks.drain(Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_told_and_tried_again() {
        let tasks = Tasks::new();
        let mut companion = supervise(&tasks, spec("/nonexistent/x", &[]), quick());
        let state = companion
            .wait_for(|state| state.pause >= Some(Duration::from_millis(10)))
            .await
            .unwrap();
        assert_eq!((state.starts, state.pid), (0, None));
        assert!(
            state
                .last_end
                .unwrap()
                .contains("could not start /nonexistent/x")
        );
        tasks.drain(Duration::from_secs(30)).await.unwrap();
    }
}
