//! Deleting what the target has taken.

use super::{DEMOTED, Job};
use crate::command::CommandError;
use crate::command::dispatch::{Wait, waits_under_lock};
use crate::command::effect::Effect;
use crate::command::table::flag;
use crate::keyspace::Keyspace;
use crate::keyspace::db::Db;
use crate::notify::Class;
use crate::server::Server;
use crate::state::PauseMode;
use crate::waits::WaitBudget;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why the keys can't be deleted now.
enum Not {
    /// Until this has come about.
    Yet(Wait),
    /// At all.
    Ever(CommandError),
}

/// Deletes the keys and appends one DEL; the stream offset behind it, 0 if there was nothing to
/// delete any more. As for a write of a client, it waits for the end of a pause and of SAVE.
pub(super) async fn delete(
    server: &Arc<Server>,
    job: &Job,
    keys: &[&[u8]],
) -> Result<u64, Vec<u8>> {
    let mut budget = WaitBudget::default();
    let mut pins = Vec::new();
    loop {
        unpaused(server).await;
        let wait = match try_delete(server, job, keys) {
            Ok(offset) => return Ok(offset),
            Err(Not::Ever(error)) => return Err(error.resp().into_owned()),
            Err(Not::Yet(wait)) => wait,
        };
        match server.clone().wait_for(wait, &mut budget).await {
            Ok(loaded) => pins.push(loaded),
            Err(error) => return Err(error.resp().into_owned()),
        }
    }
}

/// Until writes are not paused.
async fn unpaused(server: &Server) {
    let pause = &server.state.pause;
    loop {
        let mut lifted = std::pin::pin!(pause.lifted.notified());
        lifted.as_mut().enable();
        let now_ms = crate::clock::unix_ms();
        if pause.mode(now_ms) == PauseMode::None {
            return;
        }
        let left_ms = pause.end_ms().saturating_sub(now_ms).max(1) as u64;
        let left = std::time::Duration::from_millis(left_ms);
        tokio::select! {
            () = lifted => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

fn try_delete(server: &Server, job: &Job, keys: &[&[u8]]) -> Result<u64, Not> {
    let mut keyspace = server.keyspace.lock();
    if server.state.feed.load(Ordering::Acquire) != job.feed {
        // Another data set, or another server's to change.
        return Err(Not::Ever(CommandError::fixed(DEMOTED)));
    }
    if server.state.pause.mode(crate::clock::unix_ms()) != PauseMode::None {
        return Err(Not::Yet(Wait::Nothing));
    }
    if server.lacks_log() {
        // It is not known for how long.
        return Err(Not::Ever(server.no_log_error()));
    }
    if let Some(wait) = waits_under_lock(server, &keyspace, flag::WRITE) {
        return Err(Not::Yet(wait));
    }
    let deleted = delete_locked(server, job, keys, &mut keyspace);
    let garbage = keyspace.garbage.take();
    drop(keyspace);
    server.reclaimer.dispose(garbage);
    server.log.flush();
    deleted
}

fn delete_locked(
    server: &Server,
    job: &Job,
    keys: &[&[u8]],
    keyspace: &mut Keyspace,
) -> Result<u64, Not> {
    let mut effect = Effect::default();
    let now_ms = crate::clock::unix_ms();
    let mut db = Db::new(keyspace, server, &mut effect, job.source, now_ms);
    let mut words: Vec<&[u8]> = vec![b"DEL"];
    let mut cold = Vec::new();
    for key in keys {
        match db.exists(key) {
            Ok(true) if !words.contains(key) => words.push(key),
            Ok(_) => {}
            Err(CommandError::Cold(db, key)) => cold.push((db, key)),
            Err(error) => return Err(Not::Ever(error)),
        }
    }
    if cold.is_empty() {
        for key in words.iter().skip(1) {
            // They exist and what there is to know of them is in memory.
            if let Ok(true) = db.remove(key) {
                db.changed(key, Class::GENERIC, "del");
            }
        }
        if words.len() > 1 {
            db.effect.replace(job.source, &words);
        }
    }
    let changes = effect.dirty;
    server.state.changes.fetch_add(changes, Ordering::Relaxed);
    server.log.append_effect(&mut effect);
    let offset = server.log.appended_offset();
    keyspace.serve_blocked(server, &mut effect);
    keyspace.tell_clients(server);
    match (cold.is_empty(), changes) {
        (false, _) => Err(Not::Yet(Wait::Load(cold))),
        (true, 0) => Ok(0),
        (true, _) => Ok(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{listener, with_job};
    use super::*;
    use crate::services::gates::NO_LOG;

    #[test]
    fn what_was_deleted_is_told_before_the_next_command() {
        let (server, job) = with_job(None);
        let listener = listener(&server, "Eg", "del");
        assert!(try_delete(&server, &job, &[b"k"]).is_ok());
        let told = listener.shared.outbox.lock();
        assert!(told.ends_with(b"$1\r\nk\r\n"), "{told:?}");
    }

    #[test]
    fn nothing_is_deleted_while_the_log_is_not_there() {
        let (server, job) = with_job(None);
        server.gates.store(NO_LOG, Ordering::Relaxed);
        let refused = try_delete(&server, &job, &[b"k"]);
        assert!(
            matches!(&refused, Err(Not::Ever(error)) if error.resp().starts_with(b"MISCONF")),
            "it would be tried again without a pause"
        );
        let keyspace = server.keyspace.lock();
        assert_eq!(keyspace.database(0).map(|db| db.keys), Some(1));
    }
}
