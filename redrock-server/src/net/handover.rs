//! Giving a connection to the replica agent: PSYNC and SYNC (DESIGN 8).
//!
//! What was replied before leaves first. From then on the socket is the agent's, with the bytes
//! that were read and not run; our side stays in the list of clients until the agent says that
//! the replica is gone, so that CLIENT LIST and KILL know it. Of a TLS connection the agent gets one end
//! of a pair of sockets instead, and the thread of TLS passes on what comes and goes
//! ([`super::tls`]).

use super::client::{ClientShared, state_flag};
use super::connection::Session;
use super::stream::WriteHalf;
use super::tls::stream::TlsStream;
use super::tls::{Job, Passing};
use crate::server::Server;
use crate::services::Services;
use redrock_daemon::handoff::{self, Handoff, HandoffError, HandoffReply, PeerRequest};
use redrock_proto::client::HANDOFF_SOCKET;
use redrock_proto::v1::KickRequest;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// For the agent's answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Between looks for an agent that starts.
const START_PAUSE: Duration = Duration::from_millis(20);
/// For a replica that was handed over to show up among those that the agent tells of.
const SHOW_UP_WAIT: Duration = Duration::from_secs(30);
/// For what the agent said last to leave over TLS.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);
/// A real replica tries again later when it hears this code; anything else makes it fall back to
/// SYNC, or give up.
const ABSENT: &str = "NOMASTERLINK Can't SYNC: the replication agent is not available";

/// What became of the connection.
pub(super) enum HandedOver {
    /// It was the agent's, and now it is over.
    Gone,
    /// It is still ours, and the peer was told why.
    Kept,
    /// It must be closed.
    Lost,
}

/// Lets the thread of TLS pass on what comes and goes, until what is returned ends. `None`: it
/// can't, and everything is closed.
async fn pass_on(
    server: &Server,
    stream: Option<TlsStream>,
    agent: UnixStream,
) -> Option<oneshot::Receiver<()>> {
    let jobs = server.tls.jobs()?;
    let stream = stream?;
    let shared = stream.shared().clone();
    let (stream, session) = stream.into_parts().ok()?;
    let (ended, end) = oneshot::channel();
    let passing = Passing {
        stream,
        session,
        agent,
        shared,
        ended,
    };
    jobs.send(Job::Pass(Box::new(passing))).await.ok()?;
    Some(end)
}

/// The agent has ended: so does what is passed on, once its last words have left.
async fn end_passing(client: &ClientShared, passed: Option<oneshot::Receiver<()>>) {
    if let Some(end) = passed {
        // Dropped at the end, whatever that was.
        let _ended = tokio::time::timeout(LAST_WORDS_WAIT, end).await;
        if let Some(tls) = &client.tls {
            tls.cancel();
        }
    }
}

impl Session {
    /// Hands the connection over and waits for its end.
    pub(super) async fn hand_over(&mut self, request: PeerRequest) -> HandedOver {
        let server = self.worker.server.clone();
        let Some(services) = server.services.get().cloned() else {
            self.reply_with(|reply| reply.error(ABSENT.as_bytes()));
            return HandedOver::Kept;
        };
        let Some(writer) = self.flushed().await else {
            return HandedOver::Lost;
        };
        let Some(mut message) = self.message(&services, request) else {
            return HandedOver::Lost;
        };
        let Ok(pair) = writer.is_tls().then(UnixStream::pair).transpose() else {
            return HandedOver::Lost;
        };
        message.tls_proxied = pair.is_some();
        let descriptor = match &pair {
            Some((theirs, _)) => theirs.as_fd(),
            None => writer.as_fd(),
        };
        let answer = self.offer(&services, &message, descriptor).await;
        let client = message.client_id;
        match answer {
            Ok(HandoffReply::Accepted) => {
                let flags = &self.connection.shared.flags;
                flags.fetch_or(state_flag::REPLICA, Ordering::Relaxed);
            }
            Ok(HandoffReply::Refused(reason)) => {
                tracing::warn!(client, reason, "the replication agent refused a replica");
                return HandedOver::Lost;
            }
            Err(HandoffError::Unreachable(error)) => {
                tracing::warn!(client, %error, "a replica asks for the stream without an agent");
                self.reply_with(|reply| reply.error(ABSENT.as_bytes()));
                return HandedOver::Kept;
            }
            Err(error) => {
                // The agent may have it or not: only closing is safe, the peer comes again.
                tracing::warn!(client, %error, "a replica could not be handed over");
                return HandedOver::Lost;
            }
        }
        drop(writer);
        let reader = self.reader.take();
        self.buffered = Vec::new();
        self.connection.close_writer(&server);
        let mut passed = None;
        if let Some((theirs, ours)) = pair {
            // The agent's end is to be its alone, so that its death shows.
            drop(theirs);
            let stream = reader.and_then(|reader| reader.into_tls());
            passed = pass_on(&server, stream, ours).await;
            if passed.is_none() {
                return HandedOver::Lost;
            }
        }
        self.wait_for_end(&services).await;
        end_passing(&self.connection.shared, passed).await;
        self.worker
            .connections
            .borrow_mut()
            .remove(&self.connection.shared.id);
        server.forget_client(&self.connection.shared, self.client.take());
        HandedOver::Gone
    }

    /// The agent's answer; one that was just started is waited for.
    async fn offer(
        &self,
        services: &Services,
        message: &Handoff,
        descriptor: BorrowedFd<'_>,
    ) -> Result<HandoffReply, HandoffError> {
        let socket = services.socket_dir.join(HANDOFF_SOCKET);
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let answer = handoff::hand_over(&socket, message, descriptor, ANSWER_WAIT).await;
            // An agent that was just started has no socket yet.
            let starts = matches!(answer, Err(HandoffError::Unreachable(_)))
                && services.starts("replica")
                && Instant::now() < deadline;
            if !starts || self.killed() {
                return answer;
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// Sends all replies made so far; the writing half then. `None`: the peer is gone.
    async fn flushed(&self) -> Option<WriteHalf> {
        loop {
            self.worker.schedule(&self.connection, 0);
            self.worker.flush();
            let writer = self.connection.writer()?;
            if self.connection.unsent() == 0 {
                return Some(writer);
            }
            if self.killed() || writer.writable().await.is_err() {
                return None;
            }
            // Replies held back for a sync of the log come soon.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn message(&self, services: &Services, request: PeerRequest) -> Option<Handoff> {
        let client = self.client.as_ref()?;
        let peer = client.peer.as_deref().cloned().unwrap_or_default();
        Some(Handoff {
            run_id: services.run.run_id.to_string(),
            epoch: services.run.epoch,
            client_id: client.id(),
            tls_proxied: false,
            address: self.connection.shared.addr.clone(),
            local_address: self.connection.shared.laddr.clone(),
            user: String::from_utf8_lossy(client.account.name()).into_owned(),
            listening_port: peer.listening_port,
            announced_ip: peer.announced_ip,
            version: peer.version,
            capabilities: peer.capabilities,
            request,
            unread: self.buffered.clone(),
        })
    }

    /// Until the agent no longer tells of the replica; a kill is passed on.
    async fn wait_for_end(&self, services: &Arc<Services>) {
        let id = self.connection.shared.id;
        let mut replicas = services.replicas.subscribe();
        let shown = replicas.wait_for(|list| list.iter().any(|replica| replica.client_id == id));
        let shown = tokio::time::timeout(SHOW_UP_WAIT, shown)
            .await
            .is_ok_and(|s| s.is_ok());
        if !shown {
            return;
        }
        let gone = replicas.wait_for(|list| list.iter().all(|replica| replica.client_id != id));
        let mut gone = std::pin::pin!(gone);
        let mut kicked = false;
        loop {
            tokio::select! {
                _ = &mut gone => return,
                () = self.connection.wake.notified() => {}
            }
            let killed = self.connection.shared.kill.load(Ordering::Relaxed);
            if killed && !kicked {
                kicked = true;
                let request = KickRequest {
                    run: services.run.to_wire(),
                    client_ids: vec![id],
                };
                if let Err(error) = services.replica().kick(request).await {
                    tracing::warn!(client = id, %error, "a killed replica stays for now");
                }
            }
        }
    }
}
