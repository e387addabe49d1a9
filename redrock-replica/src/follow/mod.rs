//! Following a master: connect, shake hands, receive, apply, and again.
//!
//! - Data is touched only by the server, and only once a snapshot is whole or
//!   a stream continues what it has: a wrong master, a wrong password or a
//!   master that loads leave everything as it is.
//! - A session lives on while its link is down; the next link resumes it.
//! - One master at a time. Following the same one again changes nothing.

mod apply;
mod connection;
mod eof_marker;
mod in_step;
pub(crate) mod link;
mod partial;
mod receive;
mod reply;
mod session;
pub(crate) mod spool;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redrock_proto::model::{HexId, LinkStatus};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::context::{Context, Position};
use apply::Snapshot;
use connection::Connection;
pub(crate) use in_step::keep_in_step;
use link::Link;
use partial::SnapshotFile;
use reply::PsyncReply;
use session::Session;

/// Redis tries again each second.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Each full sync costs the master a snapshot: between those that can't be loaded it has rest.
const LOAD_PAUSE_MAX: Duration = Duration::from_secs(60);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

/// A master to follow.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
    pub(crate) listening_port: u16,
    pub(crate) announced_ip: String,
    pub(crate) tls: bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password stays out of the log.
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What to say at the first attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FirstAsk {
    /// Continue from here.
    From(Position),
    /// Nothing of ours may be continued.
    FullSync,
    /// Whatever the server says that it has.
    AskServer,
}

/// Follows at most one master.
#[derive(Debug)]
pub(crate) struct Follower {
    context: Arc<Context>,
    link: watch::Sender<Link>,
    wanted: Mutex<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    /// The server has told us whom to follow, or that we shall follow nobody.
    is_told: bool,
    /// How often whom to follow has been changed.
    changes: u64,
    running: Option<Running>,
    /// What a former process received of a snapshot: for the first master that is followed.
    partial: Option<SnapshotFile>,
}

#[derive(Debug)]
struct Running {
    target: Target,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn new(context: Arc<Context>) -> Follower {
        let (link, _) = watch::channel(Link::none());
        let wanted = Wanted {
            is_told: false,
            changes: 0,
            running: None,
            partial: SnapshotFile::adopt(&context),
        };
        Follower {
            context,
            link,
            wanted: Mutex::new(wanted),
        }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Follows `target` from now on. `failover` asks it at the first attempt
    /// to become our master. What has begun is done, even if this is dropped.
    pub(crate) async fn follow(self: &Arc<Self>, target: Target, first: FirstAsk, failover: bool) {
        let follower = Arc::clone(self);
        let change = async move {
            let mut wanted = follower.wanted.lock().await;
            wanted.is_told = true;
            let is_same = wanted.running.as_ref().is_some_and(|present| {
                present.target == target && !failover && !present.task.is_finished()
            });
            if !is_same {
                follower
                    .change(&mut wanted, Some((target, first, failover)))
                    .await;
            }
        };
        self.whole(change).await;
    }

    /// Does all of it: a caller gives up after a while, and half of a change would leave nobody
    /// followed.
    async fn whole(&self, change: impl Future<Output = ()> + Send + 'static) {
        let changing = self.context.tasks.spawn("change the master", change);
        if let Err(error) = changing.await {
            tracing::error!(%error, "changing the master panicked");
        }
    }

    /// Ends the former link, if there is one, then follows the next master, if there shall be one.
    async fn change(&self, wanted: &mut Wanted, next: Option<(Target, FirstAsk, bool)>) {
        wanted.changes += 1;
        if let Some(former) = wanted.running.take() {
            tracing::info!(master = ?former.target, "the master is no longer followed");
            stop(former).await;
        }
        let partial = wanted.partial.take();
        match next {
            Some((target, first, failover)) => {
                wanted.running = Some(self.start(target, first, failover, partial));
            }
            None => drop(self.link.send_replace(Link::none())),
        }
    }

    fn start(
        &self,
        target: Target,
        first: FirstAsk,
        failover: bool,
        partial: Option<SnapshotFile>,
    ) -> Running {
        tracing::info!(master = ?target, "following a master");
        self.link
            .send_replace(Link::wanted(&target.host, target.port));
        let tasks = &self.context.tasks;
        let token = tasks.token().child_token();
        let mut settings = self.context.settings.clone();
        settings.mark_unchanged();
        let work = Work {
            settings,
            context: Arc::clone(&self.context),
            target: target.clone(),
            link: self.link.clone(),
            session: None,
            partial,
            first: Some(first),
            failover,
        };
        let task = tasks.spawn("follow", work.run(token.clone()));
        Running {
            target,
            stop: token,
            task,
        }
    }

    /// Follows nobody from now on. What has begun is done, even if this is dropped.
    pub(crate) async fn unfollow(self: &Arc<Self>) {
        let follower = Arc::clone(self);
        let change = async move {
            let mut wanted = follower.wanted.lock().await;
            wanted.is_told = true;
            follower.change(&mut wanted, None).await;
        };
        self.whole(change).await;
    }
}

async fn stop(running: Running) {
    running.stop.cancel();
    if tokio::time::timeout(CLOSE_TIME_MAX, running.task)
        .await
        .is_err()
    {
        tracing::warn!(master = ?running.target, "the former link takes long to end");
    }
}

struct Work {
    context: Arc<Context>,
    /// What changes there is not in `target` yet.
    settings: watch::Receiver<Settings>,
    target: Target,
    link: watch::Sender<Link>,
    session: Option<Session>,
    /// Of the snapshot that is being received, also while its link is down.
    partial: Option<SnapshotFile>,
    first: Option<FirstAsk>,
    failover: bool,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        let mut load_pause = PAUSE_FIRST;
        loop {
            self.link
                .send_modify(|link| link.set_status(LinkStatus::Connecting));
            let mut up_since = None;
            let error = tokio::select! {
                error = self.attempt(&mut up_since) => error,
                () = stop.cancelled() => break,
            };
            tracing::warn!(master = ?self.target, error = %format!("{error:#}"),
                "the link to the master is down");
            self.link.send_modify(|link| {
                link.set_status(LinkStatus::Connect);
                link.set_error(&error);
            });
            let was_up = up_since.is_some_and(|since| since.elapsed() >= PAUSE_FIRST);
            let session = self.session.as_ref();
            let got_on = self.partial.as_ref().is_some_and(SnapshotFile::got_on);
            if got_on {
                pause = PAUSE_FIRST;
            }
            if was_up && (got_on || session.is_some_and(|session| !session.is_over())) {
                // As Redis: the sooner, the likelier the master still has what
                // we lack.
                (pause, load_pause) = (PAUSE_FIRST, PAUSE_FIRST);
                continue;
            }
            let (wait, most) = match session.is_some_and(Session::failed_to_load) {
                true => (&mut load_pause, LOAD_PAUSE_MAX),
                false => (&mut pause, PAUSE_MAX),
            };
            tokio::select! {
                () = tokio::time::sleep(*wait) => {}
                () = stop.cancelled() => break,
            }
            *wait = wait.saturating_mul(2).min(most);
        }
        self.close_session().await;
    }

    /// One link, from connecting to its end.
    async fn attempt(&mut self, up_since: &mut Option<Instant>) -> anyhow::Error {
        let mut connection = match self.connect(up_since).await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        up_since.get_or_insert_with(Instant::now);
        let Some(session) = &mut self.session else {
            return anyhow::anyhow!("no session");
        };
        receive::stream(&self.context, &mut connection, session, &self.link).await
    }

    /// Connects until the stream can flow: on success there is a session.
    async fn connect(&mut self, up_since: &mut Option<Instant>) -> anyhow::Result<Connection> {
        if self.session.as_ref().is_some_and(Session::is_over) {
            self.close_session().await;
        }
        let ask = self.ask().await?;
        let settings = self.context.settings();
        if self.settings.has_changed().unwrap_or(false) {
            // CONFIG SET masterauth and the like count from the next link on.
            self.settings.mark_unchanged();
            self.target.user.clone_from(&settings.masteruser);
            // Settings come as text: bytes that are none are known from the request only.
            if !settings
                .masterauth
                .windows(3)
                .any(|c| c == "\u{fffd}".as_bytes())
            {
                self.target.password.clone_from(&settings.masterauth);
            }
            self.target.listening_port = settings.listening_port();
            self.target
                .announced_ip
                .clone_from(&settings.replica_announce_ip);
            self.target.tls = settings.tls_replication;
        }
        let mut connection =
            Connection::open(&self.target, &settings, &self.context.data_dir).await?;
        let held = self.partial.as_ref().and_then(SnapshotFile::held);
        connection.shake_hands(&self.target, held).await?;
        let reply = match self.failover {
            true => self.hand_over_role(&mut connection, ask).await?,
            false => connection.psync(ask, false).await?,
        };
        match reply {
            PsyncReply::Continue { replid } => {
                self.partial = None;
                self.go_on(ask, replid).await?;
            }
            PsyncReply::Full { replid, offset } => {
                tracing::info!(%replid, offset, "the master answers with a full sync");
                *up_since = Some(Instant::now());
                let position = Position { replid, offset };
                self.begin_full(&mut connection, position).await?;
            }
        }
        Ok(connection)
    }

    /// PSYNC ... FAILOVER, at each attempt until it is answered. An answer may have been lost:
    /// one that says that it is a master already took the role before.
    async fn hand_over_role(
        &mut self,
        connection: &mut Connection,
        ask: Option<Position>,
    ) -> anyhow::Result<PsyncReply> {
        let is_first = !self.link.borrow().is_asked;
        self.link.send_modify(|link| link.is_asked = true);
        let answer = connection.psync(ask, true).await;
        match &answer {
            Ok(_) => self.failover = false,
            Err(error) => {
                if let Some(refusal) = error.downcast_ref::<reply::Refusal>() {
                    let is_master = refusal.to_string().contains("can't be sent to a master");
                    self.failover = is_first || !is_master;
                    let is_refused = self.failover;
                    self.link.send_modify(|link| link.is_refused = is_refused);
                }
            }
        }
        answer
    }

    /// `+CONTINUE`.
    async fn go_on(&mut self, ask: Option<Position>, replid: Option<HexId>) -> anyhow::Result<()> {
        if let Some(session) = &mut self.session {
            tracing::info!(offset = session.received_offset(), "the link is resumed");
            return session.resume(replid).await;
        }
        let asked = ask.context("the master continues what we did not ask for")?;
        tracing::info!(offset = asked.offset, "the master continues our stream");
        let position = Position {
            replid: replid.unwrap_or(asked.replid),
            ..asked
        };
        self.start_session(position, None).await?;
        self.first = None;
        Ok(())
    }

    /// `+FULLRESYNC`: what we had received is of no more use.
    async fn begin_full(
        &mut self,
        connection: &mut Connection,
        position: Position,
    ) -> anyhow::Result<()> {
        self.close_session().await;
        self.link
            .send_modify(|link| link.set_status(LinkStatus::Sync));
        let (context, link, partial) = (&self.context, &self.link, &mut self.partial);
        let snapshot = receive::snapshot(context, connection, position, link, partial).await?;
        self.start_session(position, Some(snapshot)).await
    }

    async fn start_session(
        &mut self,
        position: Position,
        snapshot: Option<Snapshot>,
    ) -> anyhow::Result<()> {
        let (context, master) = (&self.context, &self.target);
        let session = Session::start(context, master, position, snapshot, &self.link);
        self.session = Some(session.await?);
        Ok(())
    }

    /// What to continue from; `None` asks for a full sync.
    async fn ask(&mut self) -> anyhow::Result<Option<Position>> {
        if let Some(position) = self.session.as_ref().and_then(Session::position) {
            return Ok(Some(position));
        }
        match self.first {
            Some(FirstAsk::From(position)) => Ok(Some(position)),
            Some(FirstAsk::FullSync) => Ok(None),
            Some(FirstAsk::AskServer) | None => {
                let state = self.context.server_state().await;
                Ok(Some(
                    state.context("ask the server where it stands")?.position,
                ))
            }
        }
    }

    async fn close_session(&mut self) {
        if let Some(session) = self.session.take() {
            if !session.progress.borrow().loading {
                // The server's own state says more than what was first told.
                self.first = None;
            }
            session.close().await;
        }
    }
}
