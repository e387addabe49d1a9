//! What stands at a snapshot's beginning: the flush before the cut, and the walker's thread behind it.

use super::frames::FrameResult;
use super::{STALL, WAITING_PERIOD};
use crate::keyspace::snapshot::ring::{Item, Ring};
use crate::keyspace::snapshot::walk;
use crate::priority;
use crate::server::Server;
use redrock_proto::error::RpcError;
use redrock_proto::model::Frame;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the flush before the cut waits for the keyspace.
const IDLE_WAIT: Duration = Duration::from_millis(20);

/// Writes the tier's memtables to files before the cut. The checkpoint's own flush holds up whatever is to go to
/// the tier behind the cut, and with it clients who need memory: it has less to do then. False: what was asked for
/// is wanted no longer.
pub(super) async fn flush_before(server: &Arc<Server>, frames: &mpsc::Sender<FrameResult>) -> bool {
    let cold = {
        // Who cuts tells the persister for what it waits; this is no more than a help.
        let waiting = tokio::time::timeout(IDLE_WAIT, server.keyspace_when_idle());
        let Ok(keyspace) = waiting.await else {
            return true;
        };
        keyspace
            .tiering
            .as_ref()
            .map(|tiering| tiering.cold.clone())
    };
    let Some(cold) = cold else { return true };
    // A failure is the checkpoint's to tell.
    let mut flushing = tokio::task::spawn_blocking(move || cold.flush_roughly());
    while tokio::time::timeout(WAITING_PERIOD, &mut flushing)
        .await
        .is_err()
    {
        if frames.send(Ok(Frame::Waiting.into())).await.is_err() {
            return false;
        }
    }
    true
}

/// Starts the thread that sends what is in memory. A `patient` one lets clients go first.
pub(super) fn spawn_walker(
    server: Arc<Server>,
    ring: Arc<Ring>,
    patient: bool,
) -> Result<(), RpcError> {
    std::thread::Builder::new()
        .name("snapshot-walker".into())
        .spawn(move || {
            priority::patient();
            priority::lower(priority::WALK);
            if !walk::walk(&server.keyspace, &ring, STALL, patient) {
                let ended = server.keyspace.lock().end_snapshot_of(&ring);
                drop(ended);
                ring.push(Item::Failed("the snapshot was abandoned".into()));
            }
        })
        .map(|_| ())
        .map_err(|error| RpcError::internal(format!("start the walker: {error}")))
}
