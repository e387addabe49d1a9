//! Serving replicas: taking their connections from the server, answering,
//! feeding, and telling the server what they acknowledged.

mod base;
mod catalog;
mod feed;
mod holds;
mod lookup;
mod peer;
pub(crate) mod registry;
mod replica;
mod sync_state;
mod transfer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redrock_daemon::handoff::{self, Handoff, HandoffReply};
use redrock_daemon::turns::Turns;
use redrock_daemon::uds::PrivateListener;
use redrock_proto::model::{HexId, LinkStatus, LogKind, LogState, RunRef};
use redrock_proto::v1;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_stream::Stream;

use crate::context::Context;
use crate::follow::Follower;
use crate::follow::link::Link;
use crate::socket;
use holds::Holds;
use registry::{Membership, Registry, slowest_beyond};

const RECEIVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Lists of acknowledgements travel once in this time on the average; the first few at once.
const COALESCE: Duration = Duration::from_millis(1);
const ACKS_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What all replicas' tasks share.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) context: Arc<Context>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) holds: Holds,
    pub(crate) follower: Arc<Follower>,
    link: watch::Receiver<Link>,
}

impl Master {
    pub(crate) fn new(context: Arc<Context>, follower: Arc<Follower>) -> Master {
        Master {
            context,
            registry: Arc::new(Registry::default()),
            holds: Holds::default(),
            link: follower.link(),
            follower,
        }
    }

    fn link_is_up(&self) -> bool {
        self.link.borrow().state.status == LinkStatus::Connected
    }
}

/// Takes handed-over connections until the daemon stops.
pub(crate) async fn accept(master: Arc<Master>, listener: PrivateListener) -> anyhow::Result<()> {
    let stop = master.context.tasks.token();
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = stop.cancelled() => return Ok(()),
        };
        let taken = Arc::clone(&master);
        master.context.tasks.spawn("handoff", async move {
            match tokio::time::timeout(RECEIVE_TIME_MAX, take(&taken, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "a handoff failed");
                }
                Err(_) => tracing::warn!("a handoff took too long"),
            }
        });
    }
}

async fn take(master: &Arc<Master>, mut stream: UnixStream) -> anyhow::Result<()> {
    let (message, descriptor) = handoff::receive(&mut stream).await?;
    let membership = match admit(master, &message) {
        Ok(membership) => membership,
        Err(reason) => {
            tracing::warn!(client = message.client_id, reason, "a peer is refused");
            return Ok(handoff::answer(&mut stream, &HandoffReply::Refused(reason)).await?);
        }
    };
    let socket = socket::from_descriptor(descriptor, &master.context.settings())?;
    handoff::answer(&mut stream, &HandoffReply::Accepted).await?;
    tracing::info!(
        client = message.client_id,
        address = message.address,
        port = message.listening_port,
        "a replica asks for synchronization"
    );
    let name = format!("replica {}", message.client_id);
    let stop = master.context.tasks.token();
    let work = replica::run(Arc::clone(master), message, socket, membership);
    master.context.tasks.spawn(name, async move {
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

fn admit(master: &Arc<Master>, message: &Handoff) -> Result<Membership, String> {
    let theirs = HexId::parse(&message.run_id).map(|run_id| RunRef {
        run_id,
        epoch: message.epoch,
    });
    if theirs != Some(master.context.run) {
        return Err("this agent works for another run of the server".to_owned());
    }
    let kick = master.context.tasks.token().child_token();
    master
        .registry
        .admit(message, kick)
        .map_err(|error| error.to_string())
}

/// Tells the server what the replicas have, until the daemon stops.
pub(crate) async fn report_acks(master: Arc<Master>) {
    loop {
        let messages = ack_messages(Arc::clone(&master));
        let context = &master.context;
        let answer = context
            .server_for_streams
            .log()
            .replica_acks(messages)
            .await;
        if let Err(error) = context.checked(answer) {
            tracing::debug!(%error, "reporting acknowledgements was interrupted");
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn ack_messages(master: Arc<Master>) -> impl Stream<Item = v1::ReplicaAcksRequest> {
    let first = v1::ReplicaAcksRequest {
        run: master.context.run.to_wire(),
        replicas: vec![],
    };
    let turns = Turns::new(COALESCE, Instant::now());
    let begin = (master, false, turns);
    let lists = futures::stream::unfold(begin, |(master, waits, mut turns)| async move {
        if waits {
            tokio::select! {
                () = master.registry.changed.notified() => turns.wait(COALESCE).await,
                () = attached_for(&master) => {}
            }
        }
        let replicas = master.registry.acks();
        let message = v1::ReplicaAcksRequest {
            run: None,
            replicas: replicas.into_iter().map(v1::ReplicaAck::from).collect(),
        };
        Some((message, (master, true, turns)))
    });
    futures::StreamExt::chain(futures::stream::iter([first]), lists)
}

/// A second, if a replica is attached then.
async fn attached_for(master: &Master) {
    loop {
        tokio::time::sleep(ACKS_INTERVAL).await;
        if master.registry.len() > 0 {
            return;
        }
    }
}

/// Drops the slowest replica when it would hold too much of the disk, until
/// the daemon stops.
pub(crate) async fn bound_disk(master: Arc<Master>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(log) = master.context.log.borrow().clone() else {
            continue;
        };
        let context = &master.context;
        let backlog = context.settings().backlog_bytes(&context.data_dir);
        let holds = &master.holds;
        holds.bound(context, log.written_offset, backlog).await;
        let replicas = master.registry.all();
        if replicas.is_empty() {
            continue;
        }
        let lags: Vec<(u64, u64)> = replicas
            .iter()
            .map(|replica| lag_of(replica, &log, backlog))
            .collect();
        let slowest =
            slowest_beyond(&lags).and_then(|index| Some((replicas.get(index)?, lags.get(index)?)));
        if let Some((replica, (lag, limit))) = slowest {
            tracing::warn!(
                client = replica.client_id,
                address = replica.address,
                port = replica.listening_port,
                lag_bytes = lag,
                limit_bytes = limit,
                "the slowest replica is dropped: it holds more of the log than \
                 repl-backlog-disk-size allows"
            );
            replica.kick.cancel();
        }
    }
}

fn lag_of(replica: &registry::Replica, log: &LogState, backlog_bytes: u64) -> (u64, u64) {
    let figures = replica.figures();
    if figures.state == redrock_proto::model::ReplicaState::WaitBase {
        return (0, u64::MAX);
    }
    // What only replicas need is kept for nobody else.
    let lag_at_start = match log.kind {
        LogKind::Replication => 0,
        LogKind::AppendOnly | LogKind::None => figures.lag_at_start,
    };
    let limit = sync_state::lag_bytes_max(lag_at_start, backlog_bytes);
    (
        log.written_offset.saturating_sub(figures.sent_offset),
        limit,
    )
}
