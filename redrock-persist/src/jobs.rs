//! Long actions: one at a time, shared by those who ask for the same before its cut.
//!
//! A job runs to its end whether or not anybody still watches it. Jobs of different kinds wait
//! for each other in order of arrival; at most one of each kind exists, so the queue is bounded.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use redrock_daemon::tasks::Tasks;
use redrock_proto::{RpcError, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::progress::{ActionProgress, millis, unix_ms};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    Save,
    Rewrite,
    Base,
    Backup,
}

impl Activity {
    pub fn to_wire(self) -> v1::Activity {
        match self {
            Activity::Save => v1::Activity::Save,
            Activity::Rewrite => v1::Activity::Rewrite,
            Activity::Base => v1::Activity::Base,
            Activity::Backup => v1::Activity::Backup,
        }
    }

    /// `None` if it is no action of the persister's.
    pub fn from_wire(activity: v1::Activity) -> Option<Activity> {
        let all = [
            Activity::Save,
            Activity::Rewrite,
            Activity::Base,
            Activity::Backup,
        ];
        all.into_iter().find(|known| known.to_wire() == activity)
    }

    fn name(self) -> &'static str {
        match self {
            Activity::Save => "save",
            Activity::Rewrite => "rewrite",
            Activity::Base => "base",
            Activity::Backup => "backup",
        }
    }

    /// Whether it runs only while no other does. A backup does not: it takes the turn itself,
    /// while it places files.
    fn waits_for_turn(self) -> bool {
        self != Activity::Backup
    }
}

/// A job that waits, runs or has ended. Clones are the same.
#[derive(Debug, Clone)]
pub struct Job {
    pub activity: Activity,
    pub progress: ActionProgress,
    pub cancel: CancellationToken,
    result: watch::Receiver<Option<Result<v1::Outcome>>>,
}

impl Job {
    /// The result, once there is one. Cancel-safe.
    pub async fn finished(&self) -> Result<v1::Outcome> {
        let mut result = self.result.clone();
        match result.wait_for(Option::is_some).await {
            Ok(result) => result
                .clone()
                .unwrap_or_else(|| Err(RpcError::internal("a job ended without a result"))),
            Err(_) => Err(RpcError::cancelled("the persister is stopping")),
        }
    }

    fn is_over(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_err()
    }
}

/// What a request may do if something else runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queueing {
    /// Wait for its turn.
    Wait,
    /// BUSY.
    Refuse,
}

/// How the last jobs of a kind went.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub last: Option<v1::LastAction>,
    /// When the last attempt began, unix milliseconds.
    pub attempt_unix_ms: u64,
    /// When the last success ended.
    pub success_unix_ms: u64,
    /// Failures since the last success.
    pub failures: u32,
}

/// All jobs of a session.
#[derive(Debug)]
pub struct Jobs {
    tasks: Tasks,
    stop: CancellationToken,
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: Vec<Job>,
    history: HashMap<Activity, History>,
}

impl Jobs {
    /// Jobs are cancelled when `stop` is.
    pub fn new(tasks: Tasks, stop: CancellationToken) -> Jobs {
        Jobs {
            tasks,
            stop,
            turn: Arc::default(),
            state: Arc::default(),
        }
    }

    /// Starts a job, or shares the one of its kind that has made no cut yet. `work` gets the
    /// job's progress and its token.
    pub fn start<F, W>(&self, activity: Activity, queueing: Queueing, work: W) -> Result<Job>
    where
        W: FnOnce(ActionProgress, CancellationToken) -> F,
        F: Future<Output = Result<v1::Outcome>> + Send + 'static,
    {
        self.start_newer(activity, queueing, None, work)
    }

    /// As [`Jobs::start`]; also shares one whose cut has a number above `newer_than`.
    pub fn start_newer<F, W>(
        &self,
        activity: Activity,
        queueing: Queueing,
        newer_than: Option<u64>,
        work: W,
    ) -> Result<Job>
    where
        W: FnOnce(ActionProgress, CancellationToken) -> F,
        F: Future<Output = Result<v1::Outcome>> + Send + 'static,
    {
        let mut state = self.state.lock();
        state.live.retain(|job| !job.is_over());
        if self.stop.is_cancelled() {
            return Err(RpcError::unavailable("the persister is stopping"));
        }
        if let Some(job) = state.live.iter().find(|job| job.activity == activity) {
            let is_newer = |number| job.progress.is_newer_than(number);
            let serves = job.progress.is_before_cut() || newer_than.is_some_and(is_newer);
            if serves && !job.cancel.is_cancelled() {
                return Ok(job.clone());
            }
            return Err(busy(activity));
        }
        if queueing == Queueing::Refuse
            && let Some(other) = state.live.iter().find(|job| job.activity.waits_for_turn())
        {
            return Err(busy(other.activity));
        }
        let (sender, result) = watch::channel(None);
        let job = Job {
            activity,
            progress: ActionProgress::new(),
            cancel: self.stop.child_token(),
            result,
        };
        state.live.push(job.clone());
        drop(state);
        let work = work(job.progress.clone(), job.cancel.clone());
        let (turn, shared) = (Arc::clone(&self.turn), Arc::clone(&self.state));
        let running = job.clone();
        self.tasks.spawn(activity.name(), async move {
            let began = unix_ms();
            let result = match activity.waits_for_turn() {
                false => work.await,
                true => tokio::select! {
                    _turn = turn.lock() => work.await,
                    () = running.cancel.cancelled() => {
                        Err(RpcError::cancelled("aborted before it began"))
                    }
                },
            };
            report(&running, &result);
            shared.lock().note(&running, began, &result);
            sender.send_replace(Some(result));
        });
        Ok(job)
    }

    /// Whether any job waits for its turn or has it.
    pub fn busy(&self) -> bool {
        let mut state = self.state.lock();
        state.live.retain(|job| !job.is_over());
        let mut live = state.live.iter();
        live.any(|job| job.activity.waits_for_turn())
    }

    /// The job that runs or waits the longest; a backup only if there is no other.
    pub fn present(&self) -> Option<Job> {
        let mut state = self.state.lock();
        state.live.retain(|job| !job.is_over());
        let other = state.live.iter().find(|job| job.activity.waits_for_turn());
        other.or(state.live.first()).cloned()
    }

    /// Says in the log how far the jobs are that work.
    pub fn log_progress(&self) {
        let state = self.state.lock();
        for job in state.live.iter().filter(|job| !job.is_over()) {
            let note = job.progress.message().note;
            if !note.is_empty() {
                tracing::info!(job = job.activity.name(), "{note}");
            }
        }
    }

    /// The job of a kind that runs or waits.
    pub fn of(&self, activity: Activity) -> Option<Job> {
        let mut state = self.state.lock();
        state.live.retain(|job| !job.is_over());
        let mut live = state.live.iter();
        live.find(|job| job.activity == activity).cloned()
    }

    /// Cancels the jobs of a kind, or all; gives them.
    pub fn abort(&self, activity: Option<Activity>) -> Vec<Job> {
        self.abort_cuts(activity, None)
    }

    /// As [`Jobs::abort`], of those whose cut has at most the number `up_to`. One that has made
    /// no cut yet ends by itself if its cut turns out to have.
    pub fn abort_cuts(&self, activity: Option<Activity>, up_to: Option<u64>) -> Vec<Job> {
        let mut state = self.state.lock();
        state.live.retain(|job| !job.is_over());
        let jobs: Vec<Job> = state
            .live
            .iter()
            .filter(|job| activity.is_none_or(|activity| activity == job.activity))
            .filter(|job| up_to.is_none_or(|up_to| job.progress.refuse_cut(up_to)))
            .cloned()
            .collect();
        for job in &jobs {
            job.cancel.cancel();
        }
        jobs
    }

    /// Holds jobs back while the guard lives; `None` if one runs.
    pub fn try_hold(&self) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Holds jobs back while the guard lives, once none runs. Cancel-safe.
    pub async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    pub fn history(&self, activity: Activity) -> History {
        let state = self.state.lock();
        state.history.get(&activity).cloned().unwrap_or_default()
    }
}

impl State {
    fn note(&mut self, job: &Job, began: u64, result: &Result<v1::Outcome>) {
        let ended = unix_ms();
        let history = self.history.entry(job.activity).or_default();
        history.attempt_unix_ms = began;
        let cancelled = |error: &RpcError| error.code == redrock_proto::ErrorCode::Cancelled;
        if job.cancel.is_cancelled() && result.as_ref().is_err_and(cancelled) {
            // As with Redis's child that is killed on purpose, no failure that stops writes.
            return;
        }
        if result.is_ok() {
            history.success_unix_ms = ended;
            history.failures = 0;
        } else {
            history.failures = history.failures.saturating_add(1);
        }
        history.last = Some(v1::LastAction {
            ended_unix_ms: ended,
            succeeded: result.is_ok(),
            elapsed_ms: millis(job.progress.elapsed()),
            bytes: result.as_ref().map_or(0, |outcome| outcome.bytes),
            error: result
                .as_ref()
                .err()
                .map_or(String::new(), |error| error.message.clone()),
        });
    }
}

fn report(job: &Job, result: &Result<v1::Outcome>) {
    let name = job.activity.name();
    match result {
        Ok(outcome) => tracing::info!(
            job = name,
            path = %outcome.path,
            bytes = outcome.bytes,
            keys = outcome.keys,
            copied = outcome.records_copied,
            transcoded = outcome.records_transcoded,
            elapsed_ms = outcome.elapsed_ms,
            "done"
        ),
        Err(error) if error.code == redrock_proto::ErrorCode::Cancelled => {
            tracing::info!(job = name, %error, "given up");
        }
        Err(error) => {
            tracing::warn!(job = name, %error, hint = %error.hint, "failed; the files that were valid stay so");
        }
    }
}

fn busy(activity: Activity) -> RpcError {
    let text = match activity {
        Activity::Save => "a save is in progress",
        Activity::Rewrite => "a rewrite of the append only log is in progress",
        Activity::Base => "a snapshot for replicas is in progress",
        Activity::Backup => "a backup is in progress",
    };
    RpcError::busy(text).with_hint("try again when it has ended")
}

#[cfg(test)]
mod tests {
    use redrock_proto::ErrorCode;
    use tokio::sync::oneshot;

    use super::*;

    fn jobs() -> Jobs {
        Jobs::new(Tasks::new(), CancellationToken::new())
    }

    fn start(
        jobs: &Jobs,
        activity: Activity,
        queueing: Queueing,
        go: oneshot::Receiver<()>,
    ) -> Result<Job> {
        jobs.start(activity, queueing, |_, cancel| async move {
            tokio::select! {
                _ = go => Ok(v1::Outcome::default()),
                () = cancel.cancelled() => Err(RpcError::cancelled("aborted")),
            }
        })
    }

    #[tokio::test]
    async fn a_second_request_shares_the_job_until_its_cut() {
        let jobs = jobs();
        let (go, wait) = oneshot::channel();
        let (_unused, never) = oneshot::channel();
        let first = start(&jobs, Activity::Save, Queueing::Refuse, wait).unwrap();
        let second = start(&jobs, Activity::Save, Queueing::Refuse, never).unwrap();
        first.progress.enter(v1::Phase::Streaming);
        let (_unused, never) = oneshot::channel();
        let third = start(&jobs, Activity::Save, Queueing::Wait, never).unwrap_err();
        assert_eq!(third.code, ErrorCode::Busy);
        go.send(()).unwrap();
        assert!(first.finished().await.is_ok() && second.finished().await.is_ok());
        assert!(!jobs.busy());
        assert!(jobs.history(Activity::Save).last.unwrap().succeeded);
    }

    #[tokio::test]
    async fn kinds_wait_for_each_other_or_refuse() {
        let jobs = jobs();
        let (go, wait) = oneshot::channel();
        let save = start(&jobs, Activity::Save, Queueing::Refuse, wait).unwrap();
        let (_unused, never) = oneshot::channel();
        let refused = start(&jobs, Activity::Base, Queueing::Refuse, never).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        let (go_rewrite, wait) = oneshot::channel();
        let rewrite = start(&jobs, Activity::Rewrite, Queueing::Wait, wait).unwrap();
        go_rewrite.send(()).unwrap();
        tokio::task::yield_now().await;
        assert!(!rewrite.is_over(), "it waits for the save");
        go.send(()).unwrap();
        save.finished().await.unwrap();
        rewrite.finished().await.unwrap();
    }

    #[tokio::test]
    async fn an_abort_that_names_a_cut_leaves_later_saves_alone_which_can_be_shared() {
        let jobs = jobs();
        let (go, wait) = oneshot::channel();
        let save = start(&jobs, Activity::Save, Queueing::Wait, wait).unwrap();
        assert!(jobs.abort_cuts(Some(Activity::Save), Some(6)).is_empty());
        assert!(save.progress.note_cut(7));
        save.progress.enter(v1::Phase::Streaming);
        assert!(jobs.abort_cuts(Some(Activity::Save), Some(6)).is_empty());
        let share = |newer_than| {
            let never = |_, _| std::future::pending();
            jobs.start_newer(Activity::Save, Queueing::Wait, Some(newer_than), never)
        };
        assert_eq!(share(7).unwrap_err().code, ErrorCode::Busy);
        let shared = share(6).unwrap();
        go.send(()).unwrap();
        assert!(save.finished().await.is_ok() && shared.finished().await.is_ok());
        let (_go, wait) = oneshot::channel();
        let save = start(&jobs, Activity::Save, Queueing::Wait, wait).unwrap();
        save.progress.note_cut(8);
        assert_eq!(jobs.abort_cuts(None, Some(8)).len(), 1);
        assert_eq!(
            save.finished().await.unwrap_err().code,
            ErrorCode::Cancelled
        );
    }

    #[tokio::test]
    async fn an_abort_ends_running_and_waiting_jobs() {
        let jobs = jobs();
        let (_go, wait) = oneshot::channel();
        let save = start(&jobs, Activity::Save, Queueing::Wait, wait).unwrap();
        let (_go, wait) = oneshot::channel();
        let rewrite = start(&jobs, Activity::Rewrite, Queueing::Wait, wait).unwrap();
        assert_eq!(jobs.abort(None).len(), 2);
        for job in [save, rewrite] {
            assert_eq!(job.finished().await.unwrap_err().code, ErrorCode::Cancelled);
        }
        // Whoever stops a save has not found that saving fails.
        assert_eq!(jobs.history(Activity::Save).failures, 0);
        assert!(jobs.history(Activity::Save).last.is_none());
    }
}
