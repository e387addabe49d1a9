//! Once a second, and when something asks for it: what the companions say of themselves goes
//! into the server's state, where INFO, LASTSAVE and the gates read it.

use super::Services;
use crate::log::state::{LogKind, LogState};
use crate::memory::oom_score;
use crate::replication::backlog;
use crate::server::Server;
use crate::state::{AppendOnlyState, Companion, LinkState, SaveProgress, SnapshotState};
use redrock_proto::client::Timeouts;
use redrock_proto::v1::{self, Activity, PersistStatus};
use redrock_proto::{ErrorCode, RpcError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(1);
/// A companion that takes longer for its status counts as down for this time.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// Runs until `stop`.
pub async fn run(services: Arc<Services>, stop: CancellationToken) {
    let mut last_ping_s = crate::clock::unix_ms() / 1000;
    let mut backlog = backlog::Watch::default();
    while let Some(server) = services.server() {
        look(&services, &server).await;
        oom_score::apply_to_companions(&server.config(), services.companions.pids());
        ping_replicas(&services, &server, &mut last_ping_s);
        backlog.look(&services, &server);
        drop(server);
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = services.look_now.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One look at everybody.
pub async fn look(services: &Services, server: &Server) {
    let run = services.run.to_wire();
    let (mut persist, mut replica) = (services.persist(), services.replica());
    let (persist, replica) = tokio::join!(
        bounded(persist.status(v1::PersistStatusRequest { run: run.clone() })),
        bounded(replica.status(v1::ReplicaStatusRequest { run })),
    );
    note_companion(services, server, "persist", persist.is_ok());
    note_companion(services, server, "replica", replica.is_ok());
    if let Ok(status) = &persist {
        note_persist(server, status, crate::clock::unix_ms() / 1000);
    } else {
        // What ran there is over, or at least nobody knows how far it is.
        server.state.snapshot.lock().running_since_s = None;
        server.state.append_only.lock().rewrite_since_s = None;
    }
    note_replica(server, replica.as_ref().ok());
    note_log(services, server);
    let mut heard = services.heard.lock();
    heard.persist_error = persist
        .as_ref()
        .err()
        .map_or_else(String::new, RpcError::to_string);
    heard.replica_error = replica
        .as_ref()
        .err()
        .map_or_else(String::new, RpcError::to_string);
    heard.persist = persist.ok();
    heard.replica = replica.ok();
    drop(heard);
    server.refresh_gates();
}

async fn bounded<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RpcError> {
    match tokio::time::timeout(STATUS_WAIT.min(Timeouts::default().request), call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(RpcError::new(ErrorCode::Timeout, "no answer")),
    }
}

fn note_companion(services: &Services, server: &Server, name: &'static str, up: bool) {
    let process = services
        .companions
        .members()
        .iter()
        .find(|member| member.name == name)
        .and_then(|member| Some(member.process()?.state()));
    let pid = process.as_ref().and_then(|process| process.pid);
    let mut list = server.state.companions.lock();
    let index = list
        .iter()
        .position(|companion| companion.name == name)
        .unwrap_or(list.len());
    if index == list.len() {
        list.push(Companion {
            name,
            ..Companion::default()
        });
    }
    let Some(companion) = list.get_mut(index) else {
        return;
    };
    companion.state = match (up, pid) {
        (true, _) => "up",
        (false, Some(_)) => "starting",
        (false, None) => "down",
    };
    companion.pid = pid;
    companion.starts = process.map_or(0, |process| process.starts.into());
    companion.resident_bytes = pid.map_or(0, |pid| services.companions.resident_of(pid));
    if up {
        companion.last_seen_s = Some(crate::clock::unix_ms() / 1000);
    }
}

fn note_persist(server: &Server, status: &PersistStatus, now_s: i64) {
    let activity = Activity::try_from(status.activity).unwrap_or(Activity::Unspecified);
    let running = status
        .progress
        .as_ref()
        .filter(|_| activity != Activity::Idle);
    let since_s = running.map(|progress| now_s - seconds(progress.elapsed_ms));
    let saved = {
        let mut snapshot = server.state.snapshot.lock();
        note_save(
            &mut snapshot,
            activity,
            since_s,
            running,
            status.last_save.as_ref(),
        )
    };
    if saved {
        let at_cut = server.state.changes_at_cut.load(Ordering::Acquire);
        server
            .state
            .changes_at_save
            .fetch_max(at_cut, Ordering::AcqRel);
    }
    let mut append_only = server.state.append_only.lock();
    let since_s = since_s.filter(|_| activity == Activity::Rewrite);
    note_rewrite(
        &mut append_only,
        since_s,
        status.last_rewrite.as_ref(),
        now_s,
    );
    append_only.current_bytes = status.aof_current_bytes;
    append_only.base_bytes = status.aof_base_bytes;
}

/// True if a save ended well since the last look.
fn note_save(
    snapshot: &mut SnapshotState,
    activity: Activity,
    since_s: Option<i64>,
    progress: Option<&v1::Progress>,
    last: Option<&v1::LastAction>,
) -> bool {
    let saving = activity == Activity::Save;
    snapshot.running_since_s = since_s.filter(|_| saving);
    // As in Redis, a rewrite's as well.
    let writes = saving || activity == Activity::Rewrite;
    let progress = progress.filter(|_| writes);
    snapshot.progress = progress.map(SaveProgress::from).unwrap_or_default();
    let Some(last) = last.filter(|last| last.ended_unix_ms > snapshot.last_ended_ms) else {
        return false;
    };
    snapshot.last_ended_ms = last.ended_unix_ms;
    snapshot.last_ok = last.succeeded;
    snapshot.last_duration_s = Some(seconds(last.elapsed_ms));
    if last.succeeded {
        snapshot.saves += 1;
        snapshot.last_save_s = seconds(last.ended_unix_ms);
    }
    last.succeeded
}

fn note_rewrite(
    state: &mut AppendOnlyState,
    since_s: Option<i64>,
    last: Option<&v1::LastAction>,
    now_s: i64,
) {
    state.rewrite_since_s = since_s;
    let Some(last) = last.filter(|last| last.ended_unix_ms > state.last_ended_ms) else {
        return;
    };
    // What ended before this server started is known, but not counted.
    let counts = seconds(last.ended_unix_ms) <= now_s;
    state.last_ended_ms = last.ended_unix_ms;
    state.last_rewrite_ok = last.succeeded;
    state.last_rewrite_s = Some(seconds(last.elapsed_ms));
    if last.succeeded {
        state.rewrites += u64::from(counts);
        state.consecutive_failures = 0;
    } else {
        state.consecutive_failures += 1;
    }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

fn note_replica(server: &Server, status: Option<&v1::ReplicaStatus>) {
    let now_s = crate::clock::unix_ms() / 1000;
    let mut replication = server.state.replication.lock();
    if let Some(status) = status {
        replication.syncs = [
            status.sync_full,
            status.sync_partial_ok,
            status.sync_partial_err,
            status.sync_resumed,
        ];
    }
    // While the agent lives it reports each change of the link itself.
    if status.is_none()
        && let Some(link) = &mut replication.master
    {
        link.state = LinkState::Connect;
        link.down_since_s.get_or_insert(now_s);
    }
}

/// What the log says of itself.
fn note_log(services: &Services, server: &Server) {
    let state = server.log.state();
    {
        let mut append_only = server.state.append_only.lock();
        append_only.enabled = state.kind == LogKind::AppendOnly;
        append_only.last_write_ok = state.write_error.is_none();
        append_only.rewrite_scheduled = services.rewrite_scheduled.load(Ordering::Relaxed);
    }
    let text = |id: &[u8; 40]| String::from_utf8_lossy(id).into_owned();
    let oldest = oldest_offset(services, &state);
    let mut replication = server.state.replication.lock();
    replication.replid = text(&state.replid);
    (replication.replid2, replication.second_offset) = match &state.former {
        // The first offset that is not valid any more, as Redis counts.
        Some((id, end)) => (text(id), i64::try_from(*end).map_or(-1, |end| end + 1)),
        None => ("0".repeat(40), -1),
    };
    replication.backlog_active = oldest.is_some();
    if let Some(oldest) = oldest {
        replication.backlog_oldest = oldest;
    }
    replication.backlog_bytes_max = backlog::bytes_max(&server.config(), &services.data_dir);
}

/// Where the kept log begins; `None` if none is kept.
fn oldest_offset(services: &Services, state: &LogState) -> Option<u64> {
    let present = state.segment.as_ref()?;
    let kind = match state.kind {
        LogKind::None => return None,
        LogKind::AppendOnly => v1::LogKind::AppendOnly,
        LogKind::Replication => v1::LogKind::Replication,
    };
    let listed = services.segments.lock();
    // A list of another kind, or of another history, says nothing about this log.
    let told = listed.as_ref().filter(|listed| {
        listed.kind() == kind && listed.segments.iter().any(|s| s.seq == present.sequence)
    });
    let oldest = told.map_or(present.start_offset, |listed| listed.oldest_offset);
    Some(oldest.min(present.start_offset))
}

/// PING in the stream, so that replicas notice a link that is gone (`repl-ping-replica-period`).
fn ping_replicas(services: &Services, server: &Server, last_ping_s: &mut i64) {
    let now_s = crate::clock::unix_ms() / 1000;
    let period_s = server.config().replication.ping_period_s.max(1);
    let due = now_s.saturating_sub(*last_ping_s) >= i64::try_from(period_s).unwrap_or(i64::MAX);
    // While clients are held back the log stands still (DEBUG LOADAOF reads it).
    let held = server.held.load(Ordering::Acquire);
    if !due
        || held
        || server.is_failing_over()
        || services.replicas.list().is_empty()
        || server.is_replica()
    {
        return;
    }
    *last_ping_s = now_s;
    server.append_to_stream(b"*1\r\n$4\r\nPING\r\n");
}

impl Server {
    /// Appends a command that is no change (PING, GETACK) to the stream for replicas.
    pub fn append_to_stream(&self, resp: &[u8]) {
        // A long command must not hold up who serves new connections; it is due again soon.
        let Some(keyspace) = self.keyspace_soon() else {
            return;
        };
        if self.is_replica() {
            // The stream is the master's.
            return;
        }
        self.log.append_raw(resp, None);
        drop(keyspace);
        self.log.flush();
    }

    /// Whether the server follows a master.
    pub fn is_replica(&self) -> bool {
        self.state.replication.lock().master.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(at_ms: u64, succeeded: bool) -> v1::LastAction {
        v1::LastAction {
            ended_unix_ms: at_ms,
            succeeded,
            elapsed_ms: 2500,
            bytes: 1,
            error: String::new(),
        }
    }

    #[test]
    fn each_save_counts_once_and_a_failed_one_keeps_the_last_good_time() {
        let mut state = SnapshotState::default();
        let good = ended(5_000_000, true);
        assert!(note_save(
            &mut state,
            Activity::Idle,
            None,
            None,
            Some(&good)
        ));
        assert!(!note_save(
            &mut state,
            Activity::Idle,
            None,
            None,
            Some(&good)
        ));
        assert_eq!(
            (state.saves, state.last_save_s, state.last_ok),
            (1, 5000, true)
        );
        let bad = ended(6_000_000, false);
        assert!(!note_save(
            &mut state,
            Activity::Idle,
            None,
            None,
            Some(&bad)
        ));
        assert_eq!(
            (state.saves, state.last_save_s, state.last_ok),
            (1, 5000, false)
        );
        assert_eq!(state.last_duration_s, Some(2));
    }

    #[test]
    fn only_a_save_shows_as_one() {
        let mut state = SnapshotState::default();
        let progress = v1::Progress {
            keys_done: 3,
            keys_total: 9,
            ..v1::Progress::default()
        };
        note_save(
            &mut state,
            Activity::Rewrite,
            Some(50),
            Some(&progress),
            None,
        );
        assert_eq!(
            (state.running_since_s, state.progress.keys_total),
            (None, 9)
        );
        note_save(
            &mut state,
            Activity::Backup,
            Some(50),
            Some(&progress),
            None,
        );
        assert_eq!(state.progress, SaveProgress::default());
        note_save(&mut state, Activity::Save, Some(50), Some(&progress), None);
        assert_eq!(
            (state.running_since_s, state.progress.keys_done),
            (Some(50), 3)
        );
    }

    #[test]
    fn rewrites_in_a_row_that_fail_are_counted() {
        let mut state = AppendOnlyState::default();
        note_rewrite(&mut state, None, Some(&ended(1_000, false)), 10);
        note_rewrite(&mut state, None, Some(&ended(2_000, false)), 10);
        assert_eq!(
            (state.consecutive_failures, state.last_rewrite_ok),
            (2, false)
        );
        note_rewrite(&mut state, None, Some(&ended(3_000, true)), 10);
        assert_eq!((state.consecutive_failures, state.rewrites), (0, 1));
    }
}
