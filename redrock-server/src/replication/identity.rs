//! Changing the id of our stream: promotion, a master that goes on under another id, DEBUG
//! CHANGE-REPL-ID, and streams that lose count.
//!
//! The new id is durable before it is in force (see [`super::history`]). Its file is written
//! outside the locks, for the offset at which the stream stands; if more was appended meanwhile,
//! that is done anew.

use super::history::Former;
use crate::keyspace::Keyspace;
use crate::server::Server;
use crate::start::directory::random_id;
use parking_lot::MutexGuard;
use redrock_log::StateFileError;
use redrock_log::sidecar::HexId;

/// Attempts outside the locks. Only DEBUG CHANGE-REPL-ID can need more: elsewhere nobody appends
/// meanwhile. The last one keeps the keyspace locked while it writes the file.
const ATTEMPTS_MAX: u32 = 5;

/// Gives the stream the id `replid`. `decide` sees the keyspace, locked, and the offset from
/// which the id is to hold; if it says yes, it has done what belongs to the change. The offset
/// then, or `None` for a no.
pub(super) fn change(
    server: &Server,
    replid: HexId,
    former: Former,
    mut decide: impl FnMut(&mut Keyspace, u64) -> bool,
) -> Result<Option<u64>, StateFileError> {
    let (log, history) = (&server.log, &server.history);
    let _one = history.begin_change();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let held = (attempt > ATTEMPTS_MAX).then(|| server.keyspace.lock());
        let offset = log.appended_offset();
        let prepared = history.prepare(replid, offset, log.stream_database(), former)?;
        let mut keyspace = match held {
            Some(keyspace) => keyspace,
            None => server.keyspace.lock(),
        };
        if log.appended_offset() != offset || !history.is_current(&prepared) {
            continue;
        }
        if !decide(&mut keyspace, offset) {
            return Ok(None);
        }
        history.commit(prepared);
        let before = log.state().replid;
        let kept = (former == Former::Keep).then_some((before, offset));
        log.set_replid(replid, kept);
        drop(keyspace);
        server.report_log();
        return Ok(Some(offset));
    }
}

/// DEBUG CHANGE-REPL-ID: nobody can go on from what there was.
pub fn change_for_debugging(server: &Server) -> Result<(), StateFileError> {
    change(server, random_id(), Former::Forget, |_, _| true).map(|_| ())
}

/// A master's changes are no longer counted: whoever knows the present id must not go on from
/// where it stands. As Redis, when it gives its backlog up.
pub fn lose_count(server: &Server) {
    forget(server, server.keyspace.lock());
}

/// As [`lose_count`], if the log for replicas has ended: nobody may have been there to say so. Left to
/// the next look while a command takes long: the caller is who ends the server then.
pub fn lose_count_of_a_log_that_ended(server: &Server) {
    let has_ended = || server.history.is_for_replicas() && !server.log.is_on();
    if !has_ended() {
        return;
    }
    let Some(keyspace) = server.keyspace_soon() else {
        return;
    };
    // With the keyspace held: a log that is just being begun is on, though not written yet.
    if has_ended() {
        forget(server, keyspace);
    }
}

/// The same before anything is named by the stream's id and place: what was changed since that log
/// has ended is not counted. Called with the keyspace held; true if the id is another one now, which
/// is to be shown ([`Server::report_log`]) once it is released.
pub fn is_count_lost(server: &Server) -> bool {
    server.history.is_for_replicas() && !server.log.is_on() && forget_held(server)
}

fn forget(server: &Server, keyspace: MutexGuard<'_, Keyspace>) {
    let is_forgotten = forget_held(server);
    drop(keyspace);
    if is_forgotten {
        server.report_log();
    }
}

fn forget_held(server: &Server) -> bool {
    if server.is_replica() {
        // Its offset is its master's, which is followed with or without a log.
        server.history.end_log();
        return false;
    }
    let replid = random_id();
    server.history.replace(replid, server.log.appended_offset());
    server.log.set_replid(replid, None);
    true
}
