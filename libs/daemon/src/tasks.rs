//! Tasks that are named, tracked and end together.
//!
//! One [`Tasks`] per daemon: a token asks all to stop, [`Tasks::drain`] waits
//! for them with a deadline and names those that hang. When a critical task
//! ends, whether by return, error or panic, the daemon stops.
//!
//! [`Gate`] protects something shared that must not be closed while in use.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The tasks of a daemon. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    live: BTreeMap<u64, String>,
    failure: Option<String>,
}

/// Tasks that were still there at the deadline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still running after {waited:?}: {}", names.join(", "))]
pub struct DrainTimeout {
    pub waited: Duration,
    pub names: Vec<String>,
}

impl Tasks {
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Cancelled when all shall stop. Give tasks a clone or a child of it.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks all tasks to stop because of a failure; the first reason stays.
    pub fn fail(&self, reason: impl Into<String>) {
        self.lock().failure.get_or_insert(reason.into());
        self.stop.cancel();
    }

    /// Returns when stopping was asked for: `Err` with the reason if it is a
    /// failure, so that the daemon exits with an error.
    pub async fn stopped(&self) -> anyhow::Result<()> {
        self.stop.cancelled().await;
        match self.lock().failure.clone() {
            Some(reason) => Err(anyhow::anyhow!(reason)),
            None => Ok(()),
        }
    }

    /// Spawns a task that may end whenever it likes. It is expected to watch
    /// the token; aborting its handle is fine too.
    pub fn spawn<F>(&self, name: impl Into<String>, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut entry = self.enter(name.into(), false);
        let span = tracing::debug_span!("task", name = %entry.name);
        self.tracker.spawn(
            async move {
                let output = work.await;
                entry.end();
                output
            }
            .instrument(span),
        )
    }

    /// Spawns a task without which the daemon is of no use: when it ends before
    /// stopping was asked for, everything stops, and [`stopped`](Tasks::stopped)
    /// gives the reason.
    pub fn spawn_critical<F>(&self, name: impl Into<String>, work: F) -> JoinHandle<()>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut entry = self.enter(name.into(), true);
        let span = tracing::debug_span!("task", name = %entry.name);
        self.tracker.spawn(
            async move {
                let result = work.await;
                entry.end();
                match result {
                    Err(error) => {
                        tracing::error!(task = %entry.name, error = %format!("{error:#}"),
                            "a critical task failed");
                        entry
                            .tasks
                            .fail(format!("{} failed: {error:#}", entry.name));
                    }
                    Ok(()) if !entry.tasks.stop.is_cancelled() => {
                        tracing::error!(task = %entry.name, "a critical task ended");
                        entry
                            .tasks
                            .fail(format!("{} ended unexpectedly", entry.name));
                    }
                    Ok(()) => {}
                }
            }
            .instrument(span),
        )
    }

    /// Asks all to stop and waits for them, at most `deadline`.
    pub async fn drain(&self, deadline: Duration) -> Result<(), DrainTimeout> {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(DrainTimeout {
                waited: deadline,
                names: self.live_names(),
            }),
        }
    }

    /// Names of the tasks that run, oldest first.
    pub fn live_names(&self) -> Vec<String> {
        self.lock().live.values().cloned().collect()
    }

    fn enter(&self, name: String, critical: bool) -> Entry {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.live.insert(id, name.clone());
        drop(state);
        Entry {
            tasks: self.clone(),
            id,
            name,
            critical,
            ended: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live task's place in the list; its drop also sees panics.
struct Entry {
    tasks: Tasks,
    id: u64,
    name: String,
    critical: bool,
    ended: bool,
}

impl Entry {
    /// The work came to its end. A method, so that the task captures the whole
    /// entry and not just the flag.
    fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.lock().live.remove(&self.id);
        if self.ended {
            return;
        }
        if std::thread::panicking() {
            tracing::error!(task = %self.name, "a task panicked");
        }
        if self.critical && !self.tasks.stop.is_cancelled() {
            self.tasks.fail(format!("{} was torn down", self.name));
        }
    }
}

/// Lets holders in until it is closed, then waits for those inside.
#[derive(Debug, Clone)]
pub struct Gate {
    closed: CancellationToken,
    holders: TaskTracker,
}

/// Keeps the gate from closing completely.
#[derive(Debug)]
pub struct GatePass {
    _token: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    pub fn new() -> Gate {
        Gate {
            closed: CancellationToken::new(),
            holders: TaskTracker::new(),
        }
    }

    /// `None` once the gate is being closed.
    pub fn enter(&self) -> Option<GatePass> {
        // The pass is taken before looking, so that closing waits for whoever
        // looked just before.
        let pass = GatePass {
            _token: self.holders.token(),
        };
        (!self.closed.is_cancelled()).then_some(pass)
    }

    /// Cancelled when closing begins: holders should hurry.
    pub fn closing(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Lets nobody in any more and waits for those inside, at most `deadline`;
    /// false if some are still there.
    pub async fn close(&self, deadline: Duration) -> bool {
        self.closed.cancel();
        self.holders.close();
        tokio::time::timeout(deadline, self.holders.wait())
            .await
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_failing_critical_task_stops_the_daemon_with_its_reason() {
        let tasks = Tasks::new();
        tasks.spawn_critical("log writer", async { anyhow::bail!("disk gone") });
        let error = tasks.stopped().await.unwrap_err().to_string();
        assert_eq!(error, "log writer failed: disk gone");
    }

    #[tokio::test]
    async fn a_critical_task_that_returns_or_panics_stops_the_daemon() {
        let tasks = Tasks::new();
        tasks.spawn_critical("worker", async { Ok(()) });
        assert_eq!(
            tasks.stopped().await.unwrap_err().to_string(),
            "worker ended unexpectedly"
        );

        let tasks = Tasks::new();
        tasks.spawn_critical("worker", async { panic!("expected by the test") });
        assert_eq!(
            tasks.stopped().await.unwrap_err().to_string(),
            "worker was torn down"
        );
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_failure() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn_critical("worker", async move {
            token.cancelled().await;
            Ok(())
        });
        tasks.stop();
        tasks.drain(LONG).await.unwrap();
        tasks.stopped().await.unwrap();
        assert!(tasks.live_names().is_empty());
    }

    #[tokio::test]
    async fn drain_names_what_hangs() {
        let tasks = Tasks::new();
        tasks.spawn("polite", async {}).await.unwrap();
        tasks.spawn("stubborn", std::future::pending::<()>());
        let error = tasks.drain(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.names, ["stubborn"]);
    }

    #[tokio::test]
    async fn a_gate_closes_when_the_last_holder_has_left() {
        let gate = Gate::new();
        let pass = gate.enter().unwrap();
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close(LONG).await }
        });
        gate.closing().cancelled().await;
        assert!(gate.enter().is_none());
        assert!(!closing.is_finished());
        drop(pass);
        assert!(closing.await.unwrap());
    }
}
