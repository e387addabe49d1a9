//! Saves and rewrites: asked of the persister, within bounds. When it is absent nothing changes.

use super::{SILENCE_MAX, Services, companion_error, tick};
use crate::log::state::LogKind;
use crate::replication::backlog;
use crate::replication::commands::GETACK;
use crate::replication::identity::lose_count;
use crate::replication::replicas::reached;
use crate::server::Server;
use crate::state::{PauseBy, PauseMode, ShutdownRequest};
use redrock_proto::client::next_within;
use redrock_proto::v1::{self, Activity, Progress, SaveKind};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::Streaming;

/// The messages of an action that has been accepted, and the first of them.
type Begun = Result<(Streaming<Progress>, Progress), RpcError>;

const NAME: &str = "persister";
/// How long a persister that was just started may take until it answers.
const START_WAIT: Duration = Duration::from_secs(5);
/// The same for one that has died: its supervisor starts it again after a pause.
const RESTART_WAIT: Duration = Duration::from_millis(1500);
pub(super) const START_PAUSE: Duration = Duration::from_millis(20);
/// A rewrite that waits for its turn may be taken for the beginning of the log.
const ENABLE_ATTEMPTS: u32 = 3;
const SAVING: &str = "ERR Background save already in progress";
const REWRITING: &str = "ERR Background append only file rewriting already in progress";
const OTHER: &str = "ERR Another child process is active (AOF?): can't BGSAVE right now. Use \
BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.";

/// Makes a flag false again when an action has ended, however.
pub(super) struct Running(Arc<Services>, fn(&Services) -> &AtomicBool);

impl Running {
    /// `None` if it runs already.
    pub(super) fn begin(
        services: &Arc<Services>,
        flag: fn(&Services) -> &AtomicBool,
    ) -> Option<Self> {
        let before = flag(services).swap(true, Ordering::AcqRel);
        (!before).then(|| Self(services.clone(), flag))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.1(&self.0).store(false, Ordering::Release);
        self.0.look_now.notify_one();
    }
}

impl Services {
    /// SAVE: clients are held back until it is done.
    pub async fn save(self: Arc<Self>) -> Result<(), String> {
        let Some(_running) = Running::begin(&self, |services| &services.saving) else {
            return Err(SAVING.to_owned());
        };
        if matches!(self.activity().await?, Activity::Save) {
            return Err(SAVING.to_owned());
        }
        let Some(_hold) = self.hold_clients() else {
            return Err(SAVING.to_owned());
        };
        self.save_now(SaveKind::Foreground).await
    }

    /// Saves and follows the save to its end.
    pub(super) async fn save_now(&self, kind: SaveKind) -> Result<(), String> {
        self.try_save(kind, None).await.map_err(error_line)
    }

    /// As [`Self::save_now`], with the persister's own error. A save that runs will do if its cut
    /// has a number above `newer_than`.
    pub(super) async fn try_save(
        &self,
        kind: SaveKind,
        newer_than: Option<u64>,
    ) -> Result<(), RpcError> {
        let saved = async {
            let (stream, first) = self.start_save(kind, false, newer_than).await?;
            finish(stream, first, |_| {}).await
        };
        let was_ok = self.server().map(|s| s.state.snapshot.lock().last_ok);
        let result = saved.await;
        if let Some(server) = self.server() {
            tick::look(self, &server).await;
            if let (Err(_), SaveKind::Foreground, Some(was_ok)) = (&result, kind, was_ok) {
                // As in Redis who asked hears of it, and writes go on.
                server.state.snapshot.lock().last_ok = was_ok;
                server.refresh_gates();
            }
        }
        result
    }

    /// BGSAVE: the status line once the cut has been made, or when it will be made later.
    pub async fn background_save(self: Arc<Self>, schedule: bool) -> Result<&'static str, String> {
        let Some(running) = Running::begin(&self, |services| &services.saving) else {
            return Err(SAVING.to_owned());
        };
        let idle = match self.activity().await? {
            Activity::Save => return Err(SAVING.to_owned()),
            Activity::Idle | Activity::Unspecified => true,
            _ if schedule => false,
            _ => return Err(OTHER.to_owned()),
        };
        let (stream, first) = match self.start_save(SaveKind::Background, schedule, None).await {
            Ok(started) => started,
            Err(error) if error.code == ErrorCode::Busy => return Err(OTHER.to_owned()),
            Err(error) => return Err(error_line(error)),
        };
        if let Some(server) = self.server().filter(|_| idle) {
            let now_s = crate::clock::unix_ms() / 1000;
            server
                .state
                .snapshot
                .lock()
                .running_since_s
                .get_or_insert(now_s);
            server.refresh_gates();
        }
        let (stream, first) = match idle {
            true => past_cut(stream, first).await.map_err(error_line)?,
            false => (stream, first),
        };
        let services = self.clone();
        self.handle.spawn(async move {
            let server = services.server.clone();
            let result = finish(stream, first, |progress| {
                if let Some(server) = server.upgrade() {
                    server.state.snapshot.lock().progress = progress.into();
                }
            });
            if let Err(error) = result.await {
                tracing::warn!(%error, "Background saving error");
            }
            drop(running);
        });
        Ok(if idle {
            "Background saving started"
        } else {
            "Background saving scheduled"
        })
    }

    async fn start_save(&self, kind: SaveKind, schedule: bool, newer_than: Option<u64>) -> Begun {
        let request = v1::SaveRequest {
            run: self.run.to_wire(),
            kind: kind.into(),
            schedule,
            newer_than_snapshot: newer_than,
        };
        begun(self.persist().save(request).await?.into_inner()).await
    }

    /// BGREWRITEAOF: the status line once the cut has been made, or when it will be made later.
    pub async fn rewrite(self: Arc<Self>) -> Result<&'static str, String> {
        let Some(running) = Running::begin(&self, |services| &services.rewriting) else {
            return Err(REWRITING.to_owned());
        };
        let idle = match self.activity().await? {
            Activity::Rewrite => return Err(REWRITING.to_owned()),
            Activity::Idle | Activity::Unspecified => true,
            _ => false,
        };
        let request = v1::RewriteRequest {
            run: self.run.to_wire(),
            automatic: false,
        };
        let started = async { begun(self.persist().rewrite(request).await?.into_inner()).await };
        let (stream, first) = match started.await {
            Ok(started) => started,
            Err(error) if error.code == ErrorCode::Busy => return Err(REWRITING.to_owned()),
            Err(error) => return Err(error_line(error)),
        };
        self.rewrite_scheduled.store(!idle, Ordering::Release);
        if let Some(server) = self.server() {
            let now_s = crate::clock::unix_ms() / 1000;
            let mut state = server.state.append_only.lock();
            state.rewrite_scheduled = !idle;
            if idle {
                state.rewrite_since_s.get_or_insert(now_s);
            }
            drop(state);
            server.refresh_gates();
        }
        let (stream, first) = match idle {
            true => past_cut(stream, first).await.map_err(error_line)?,
            false => (stream, first),
        };
        let services = self.clone();
        self.handle.spawn(async move {
            let result = finish(stream, first, |progress| {
                if progress.phase() != v1::Phase::Waiting {
                    services.rewrite_scheduled.store(false, Ordering::Release);
                }
            });
            if let Err(error) = result.await {
                tracing::warn!(%error, "Background AOF rewrite failed");
            }
            services.rewrite_scheduled.store(false, Ordering::Release);
            drop(running);
        });
        Ok(match idle {
            true => "Background append only file rewriting started",
            false => "Background append only file rewriting scheduled",
        })
    }

    /// `appendonly yes` at run time: returns when base and manifest are in place.
    pub async fn enable_append_only(self: &Arc<Self>) -> Result<(), String> {
        let _switching = self.switching.lock().await;
        let before = self.server().map(|server| server.log.state().kind);
        if before == Some(LogKind::AppendOnly) {
            // Whoever held the lock has done it.
            return Ok(());
        }
        let _running = Running::begin(self, |services| &services.enabling);
        self.log_turned_off.store(false, Ordering::Release);
        if self.starts("persist") {
            // How it fares shows below.
            let _ = self.activity().await;
        }
        let result = self
            .begin_append_only()
            .await
            .map_err(|error| companion_error(NAME, &error).split_off("ERR ".len()));
        if result.is_err()
            && let Some(server) = self.server()
            && !(before == Some(LogKind::Replication)
                && server.log.state().kind == LogKind::Replication)
        {
            // Whatever was begun has no base: nothing may count on it.
            server.log.disable();
            begin_anew(server).await;
        }
        result
    }

    /// Has the persister write the first base, until the log is on.
    async fn begin_append_only(&self) -> Result<(), RpcError> {
        let is_on = |server: Arc<Server>| server.log.state().kind == LogKind::AppendOnly;
        for _ in 0..ENABLE_ATTEMPTS {
            let request = v1::EnableAppendOnlyRequest {
                run: self.run.to_wire(),
            };
            let stream = self
                .persist()
                .enable_append_only(request)
                .await?
                .into_inner();
            let (stream, first) = begun(stream).await?;
            finish(stream, first, |_| {}).await?;
            if self.server().is_none_or(is_on) {
                return Ok(());
            }
        }
        Err(RpcError::busy("rewrites were under way: try again"))
    }

    /// For [`Services::disable_append_only`]. Without a persister no rewrite can be running.
    pub(super) async fn turn_log_off(&self) -> Result<(), String> {
        let request = v1::DisableAppendOnlyRequest {
            run: self.run.to_wire(),
            keep_stream: !self.replicas.list().is_empty(),
        };
        let keep_stream = request.keep_stream;
        let rewrites =
            |server: Arc<Server>| server.state.append_only.lock().rewrite_since_s.is_some();
        if self.server().is_some_and(rewrites) {
            tracing::info!("Killing running AOF rewrite child");
        }
        match self
            .persist()
            .disable_append_only(request)
            .await
            .map_err(RpcError::from)
        {
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::Unavailable => {}
            Err(error) => return Err(companion_error(NAME, &error).split_off("ERR ".len())),
        }
        // What was being switched on has been stopped with it, and is put away first.
        let _switching = self.switching.lock().await;
        let Some(server) = self.server() else {
            return Ok(());
        };
        if keep_stream {
            let kept = server.clone();
            let going_on = move || backlog::go_on_for_replicas(&kept);
            match tokio::task::spawn_blocking(going_on).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => tracing::warn!(why, "the replicas will synchronize again"),
                Err(error) => tracing::error!(%error, "switching the log failed"),
            }
        }
        server.log.disable();
        begin_anew(server).await;
        Ok(())
    }

    /// What the persister is at. One that was just started, or that is started again, is waited
    /// for.
    pub(super) async fn activity(&self) -> Result<Activity, String> {
        let asked = Instant::now();
        loop {
            let request = v1::PersistStatusRequest {
                run: self.run.to_wire(),
            };
            let error = match self.persist().status(request).await {
                Ok(status) => return Ok(status.into_inner().activity()),
                Err(status) => RpcError::from(status),
            };
            let wait = match self.starts("persist") {
                true => START_WAIT,
                false if self.supervises("persist") => RESTART_WAIT,
                false => Duration::ZERO,
            };
            if error.code != ErrorCode::Unavailable || asked.elapsed() >= wait {
                return Err(error_line(error));
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// Stops what the persister writes, if it is at anything.
    async fn stop(&self, activity: Activity) {
        if matches!(activity, Activity::Idle | Activity::Unspecified) {
            return;
        }
        tracing::warn!("There is a save or a rewrite running. Stopping it!");
        let all = v1::AbortRequest {
            run: self.run.to_wire(),
            activity: Activity::Unspecified.into(),
            up_to_snapshot: None,
        };
        if let Err(error) = self.persist().abort(all).await {
            tracing::warn!(error = error.message(), "it could not be stopped");
        }
    }

    /// As Redis, an end without a save leaves no half of a file of one that is running.
    async fn stop_running_save(&self) {
        let running = || {
            let server = self.server();
            server.is_some_and(|s| s.state.snapshot.lock().running_since_s.is_some())
        };
        if !running() {
            return;
        }
        self.stop(Activity::Save).await;
        let deadline = Instant::now() + SILENCE_MAX;
        while let Ok(Activity::Save) = self.activity().await
            && Instant::now() < deadline
        {
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// The save before the end. As Redis kills its child, what runs is stopped first.
    async fn last_save(self: &Arc<Self>) -> Result<(), String> {
        let activity = self.activity().await?;
        self.stop(activity).await;
        let deadline = Instant::now() + SILENCE_MAX;
        loop {
            match self.clone().save().await {
                // The one that was stopped is still being put away.
                Err(why) if why == SAVING && Instant::now() < deadline => {
                    tokio::time::sleep(START_PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

fn error_line(error: RpcError) -> String {
    companion_error(NAME, &error)
}

/// The first message of a stream: the action has been accepted.
async fn begun(mut stream: Streaming<Progress>) -> Begun {
    let first = next_within(&mut stream, SILENCE_MAX).await?;
    let first = first.ok_or_else(|| RpcError::internal("the action ended without a word"))?;
    Ok((stream, first))
}

/// Follows an action until its cut has been made: the client's next write must not be in it.
async fn past_cut(mut stream: Streaming<Progress>, first: Progress) -> Begun {
    let mut message = first;
    while message.phase() <= v1::Phase::Cut {
        message = next_within(&mut stream, SILENCE_MAX)
            .await?
            .ok_or_else(|| RpcError::internal("the action ended before its cut"))?;
    }
    Ok((stream, message))
}

/// Follows an action to its end. A stream that is silent for too long is given up.
async fn finish(
    mut stream: Streaming<Progress>,
    first: Progress,
    mut seen: impl FnMut(&Progress),
) -> Result<(), RpcError> {
    let mut message = first;
    loop {
        seen(&message);
        if message.phase() == v1::Phase::Done {
            return Ok(());
        }
        message = next_within(&mut stream, SILENCE_MAX)
            .await?
            .ok_or_else(|| RpcError::internal("the action ended without an outcome"))?;
    }
}

/// What must happen before the server may go: replicas catch up, data are saved where that is
/// configured or wanted. An error means that the server stays.
pub async fn before_shutdown(server: &Arc<Server>, wish: ShutdownRequest) -> Result<(), String> {
    let config = server.config();
    let Some(services) = server.services.get().cloned() else {
        return Ok(());
    };
    if !wish.now {
        let wait = Duration::from_secs(config.shutdown_timeout_s);
        wait_for_replicas(server, &services, wait).await;
    }
    if services.enabling.load(Ordering::Acquire) {
        // Neither the log has the data nor, without save points, anything else.
        if !wish.force {
            return Err("Writing initial AOF, can't exit.".to_owned());
        }
        tracing::warn!("Writing initial AOF. Exit anyway.");
    }
    if wish.nosave {
        services.stop_running_save().await;
    }
    let save = wish.save || (!wish.nosave && !config.snapshot.points.is_empty());
    if !save || server.loading.is_active() {
        return Ok(());
    }
    tracing::info!("Saving the final RDB snapshot before exiting.");
    match services.last_save().await {
        Ok(()) => {
            tracing::info!("DB saved on disk");
            Ok(())
        }
        Err(why) if wish.force => {
            tracing::warn!(why, "Error trying to save the DB. Exit anyway.");
            Ok(())
        }
        Err(why) => Err(format!("Error trying to save the DB, can't exit: {why}")),
    }
}

/// [`lose_count`] off the runtime's thread: a busy script may hold the keyspace.
async fn begin_anew(server: Arc<Server>) {
    let work = tokio::task::spawn_blocking(move || lose_count(&server));
    if let Err(error) = work.await {
        tracing::error!(%error, "the stream got no other id");
    }
}

/// Holds writes back until all replicas have what there is, or for `wait`.
async fn wait_for_replicas(server: &Server, services: &Services, wait: Duration) {
    let online = |list: &[redrock_proto::model::ReplicaAck]| reached(list, 0);
    let mut replicas = services.replicas.subscribe();
    if online(&services.replicas.list()) == 0 || server.is_replica() {
        return;
    }
    let until = crate::clock::unix_ms().saturating_add(wait.as_millis() as i64);
    server
        .state
        .pause
        .start(PauseBy::Shutdown, until, PauseMode::Write);
    // Lifted also when the shutdown is taken back meanwhile.
    let _paused = Paused(server);
    server.append_to_stream(GETACK);
    let target = server.log.appended_offset();
    let caught_up = replicas.wait_for(|list| reached(list, target) == online(list));
    if tokio::time::timeout(wait, caught_up).await.is_err() {
        tracing::warn!("some replicas lag behind at the end of shutdown-timeout");
    }
}

/// Ends the pause of a shutdown.
struct Paused<'s>(&'s Server);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.state.pause.lift(PauseBy::Shutdown);
    }
}
