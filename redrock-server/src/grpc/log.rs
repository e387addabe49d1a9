//! `Log`: where the effect log stands, and what the companions have to say about it.

use super::Shared;
use crate::log::rotation::Offered;
use crate::log::state::{LogKind as Kind, LogState as State};
use crate::server::Server;
use crate::services::Services;
use crate::state::AttachedReplica;
use redrock_daemon::turns::Turns;
use redrock_proto::RpcError;
use redrock_proto::model::{
    HexId, LogKind, LogState, OfferSegment, ReplicaAck, Role, Segment, SharedPath,
};
use redrock_proto::v1::{self, OfferResult, log_server};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// One state in this time on the average, unless the segment, the replication id or the role changed.
const COALESCE: Duration = Duration::from_millis(10);
/// What changes without the log being written (the count of changes) is looked for so often.
const LOOK: Duration = Duration::from_millis(100);
/// Replicas in one message.
const REPLICAS_MAX: usize = 1024;
/// Segments in one message.
const SEGMENTS_MAX: usize = 65_536;

/// The service.
#[derive(Clone)]
pub struct LogService {
    shared: Shared,
}

impl LogService {
    /// The service of one server.
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

/// The log's state as it travels.
pub fn wire_state(server: &Server, data_dir: &Path) -> v1::LogState {
    wire(server, &server.log.state(), data_dir)
}

fn wire(server: &Server, state: &State, data_dir: &Path) -> v1::LogState {
    let hex = |id: &[u8; 40]| {
        std::str::from_utf8(id)
            .ok()
            .and_then(HexId::parse)
            .unwrap_or(HexId::from_bytes([0; 20]))
    };
    let changes = server.state.changes.load(Ordering::Relaxed);
    let saved = server.state.changes_at_save.load(Ordering::Relaxed);
    let segment = state.segment.as_ref().map(|segment| Segment {
        seq: segment.sequence,
        path: SharedPath::new(data_dir, &segment.path),
        start_offset: segment.start_offset,
        prefix_bytes: segment.prefix_bytes,
    });
    v1::LogState::from(LogState {
        written_offset: state.written_offset,
        durable_offset: state.durable_offset.min(state.written_offset),
        kind: match state.kind {
            Kind::AppendOnly if segment.is_some() => LogKind::AppendOnly,
            Kind::Replication if segment.is_some() => LogKind::Replication,
            _ => LogKind::None,
        },
        segment,
        replid: hex(&state.replid),
        // On the wire the first offset that is no longer valid, here the last valid end.
        replid2: state
            .former
            .as_ref()
            .map(|(id, end)| (hex(id), end.saturating_add(1))),
        stream_db: u32::try_from(server.log.stream_database()).ok(),
        role: if server.is_replica() {
            Role::Replica
        } else {
            Role::Master
        },
        changes_since_save: changes.saturating_sub(saved),
        write_error: state.write_error.clone(),
    })
}

/// Whether a state needs no turn.
fn is_urgent(old: &v1::LogState, new: &v1::LogState) -> bool {
    old.segment_seq != new.segment_seq
        || old.kind != new.kind
        || old.replid != new.replid
        || old.role != new.role
        || old.write_error != new.write_error
}

/// Sends states until the reader leaves or the server goes.
async fn watch(
    shared: Shared,
    for_replicas: Duration,
    states: mpsc::Sender<Result<v1::LogState, Status>>,
) {
    // The first words mean that the files may be touched: not while they are being loaded.
    while shared.server.loading.is_active() {
        tokio::select! {
            () = tokio::time::sleep(COALESCE) => {}
            () = states.closed() => return,
            () = shared.stop.cancelled() => return,
        }
    }
    let mut log = shared.server.log.subscribe();
    let mut last: Option<v1::LogState> = None;
    let mut turns = Turns::new(COALESCE, Instant::now());
    loop {
        let state = wire(
            &shared.server,
            &log.borrow_and_update().clone(),
            &shared.data_dir,
        );
        let wait = match &last {
            None => None,
            Some(old) if *old == state => Some(LOOK),
            Some(old) if is_urgent(old, &state) => None,
            Some(_) => {
                let is_followed = !shared.server.state.replication.lock().replicas.is_empty();
                let interval = if is_followed { for_replicas } else { COALESCE };
                Some(turns.take(interval, Instant::now())).filter(|wait| !wait.is_zero())
            }
        };
        if wait.is_none() {
            // A slow reader makes this wait; what changes meanwhile is in the next state.
            if states.send(Ok(state.clone())).await.is_err() {
                return;
            }
            last = Some(state);
        }
        let is_changed = wait.is_some_and(|wait| wait < LOOK);
        tokio::select! {
            // What has changed meanwhile goes with what waits for its turn.
            changed = log.changed(), if !is_changed => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(wait.unwrap_or(LOOK)) => {}
            () = states.closed() => return,
            () = shared.stop.cancelled() => return,
        }
    }
}

#[tonic::async_trait]
impl log_server::Log for LogService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::LogState, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchLogRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.shared.run.check(request.run)?;
        let for_replicas = match request.interval_ms {
            0 => COALESCE,
            given => Duration::from_millis(given.into()).min(COALESCE),
        };
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(watch(self.shared.clone(), for_replicas, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn offer_segment(
        &self,
        request: Request<v1::OfferSegmentRequest>,
    ) -> Result<Response<v1::OfferSegmentReply>, Status> {
        let wire = request.into_inner();
        let offer = OfferSegment::try_from(&wire)?;
        self.shared.run.check(wire.run)?;
        self.shared.loaded()?;
        let kind = match offer.kind {
            LogKind::AppendOnly => Kind::AppendOnly,
            LogKind::Replication => Kind::Replication,
            LogKind::None => return Err(RpcError::invalid("kind must name a log").into()),
        };
        let path = offer.path.resolve(&self.shared.data_dir);
        if offer.switch_now {
            let result = self.switch_now(offer.seq, path).await?;
            return Ok(Response::new(v1::OfferSegmentReply {
                result: result.into(),
                seq_min: offer.seq.saturating_add(1),
            }));
        }
        let (result, seq_min) = match self.shared.server.log.offer(offer.seq, path, kind) {
            Offered::Accepted => (OfferResult::Accepted, 0),
            Offered::InUse => (OfferResult::InUse, 0),
            Offered::Refused(seq_min) => (OfferResult::Refused, seq_min),
        };
        Ok(Response::new(v1::OfferSegmentReply {
            result: result.into(),
            seq_min,
        }))
    }

    async fn replica_acks(
        &self,
        request: Request<Streaming<v1::ReplicaAcksRequest>>,
    ) -> Result<Response<v1::Empty>, Status> {
        let mut messages = request.into_inner();
        let Some(first) = messages.message().await? else {
            return Err(RpcError::invalid("the first message is missing").into());
        };
        self.shared.run.check(first.run)?;
        let server = &self.shared.server;
        let services = self.shared.services()?.clone();
        let stream = services.replicas.begin();
        let result = tokio::select! {
            result = receive_acks(server, &services, stream, first.replicas, messages) => result,
            () = self.shared.stop.cancelled() => Err(RpcError::unavailable("the server stops")),
        };
        if services.replicas.leave(stream) {
            note_replicas(server, &services);
        }
        result
            .map(|()| Response::new(v1::Empty {}))
            .map_err(Status::from)
    }

    async fn segments_listed(
        &self,
        request: Request<v1::SegmentsListedRequest>,
    ) -> Result<Response<v1::Empty>, Status> {
        let wire = request.into_inner();
        self.shared.run.check(wire.run.clone())?;
        LogKind::from_wire(wire.kind)?;
        if wire.segments.len() > SEGMENTS_MAX || !wire.segments.is_sorted_by(|a, b| a.seq < b.seq) {
            return Err(RpcError::invalid("segments must ascend, at most 65536").into());
        }
        *self.shared.services()?.segments.lock() = Some(wire);
        Ok(Response::new(v1::Empty {}))
    }
}

impl LogService {
    /// Goes on in the next segment for replicas.
    async fn switch_now(&self, sequence: u64, path: PathBuf) -> Result<OfferResult, RpcError> {
        let server = self.shared.server.clone();
        let work = tokio::task::spawn_blocking(move || {
            let switched = {
                let _keyspace = server.keyspace.lock();
                server.log.cut_to_next(sequence, path)
            };
            let switched = switched.ok_or_else(|| "it is not wanted".to_owned())?;
            server.log.wait_switched(switched)
        });
        match work.await {
            Ok(Ok(())) => Ok(OfferResult::InUse),
            Ok(Err(why)) => {
                tracing::debug!(why, sequence, "no switch to another file for replicas");
                Ok(OfferResult::Refused)
            }
            Err(error) => Err(RpcError::internal(format!("switch log files: {error}"))),
        }
    }
}

/// Takes lists until the stream ends, another one takes over, or a message breaks a rule.
async fn receive_acks(
    server: &Server,
    services: &Services,
    stream: u64,
    first: Vec<v1::ReplicaAck>,
    mut messages: Streaming<v1::ReplicaAcksRequest>,
) -> Result<(), RpcError> {
    let mut wire = first;
    loop {
        if wire.len() > REPLICAS_MAX {
            return Err(RpcError::invalid("at most 1024 replicas"));
        }
        let acks: Vec<ReplicaAck> = wire
            .into_iter()
            .map(ReplicaAck::try_from)
            .collect::<Result<_, _>>()?;
        if !services.replicas.replace(stream, acks) {
            return Err(RpcError::cancelled(
                "another stream of acknowledgements has begun",
            ));
        }
        note_replicas(server, services);
        match messages.message().await? {
            Some(message) => wire = message.replicas,
            None => return Ok(()),
        }
    }
}

/// For INFO and ROLE.
fn note_replicas(server: &Server, services: &Services) {
    let list = services.replicas.list();
    let attached = list
        .iter()
        .map(|ack| AttachedReplica {
            ip: match ack.announced_ip.as_str() {
                "" => ip_of(&ack.address).to_owned(),
                announced => announced.to_owned(),
            },
            port: ack.listening_port,
            state: ack.state.info_name(),
            offset: ack.acked_offset,
            acknowledged_s: i64::try_from(ack.acked_unix_ms / 1000).unwrap_or(i64::MAX),
        })
        .collect::<Vec<_>>();
    let mut replication = server.state.replication.lock();
    let former = std::mem::replace(&mut replication.replicas, attached);
    if !former.is_empty() || !replication.replicas.is_empty() {
        replication.replica_seen_ms = Some(crate::clock::unix_ms());
    }
    drop(replication);
    server.refresh_gates();
}

/// `address:port` without the port; an IPv6 address without its brackets.
fn ip_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_port() {
        assert_eq!(ip_of("127.0.0.1:6379"), "127.0.0.1");
        assert_eq!(ip_of("[::1]:6379"), "::1");
        assert_eq!(ip_of("plain"), "plain");
    }

    #[test]
    fn another_segment_or_role_does_not_wait() {
        let old = v1::LogState {
            segment_seq: 1,
            role: 1,
            ..v1::LogState::default()
        };
        let moved = v1::LogState {
            written_offset: 5,
            ..old.clone()
        };
        assert!(!is_urgent(&old, &moved));
        assert!(is_urgent(
            &old,
            &v1::LogState {
                segment_seq: 2,
                ..moved.clone()
            }
        ));
        assert!(is_urgent(&old, &v1::LogState { role: 2, ..moved }));
    }
}
