//! Takes the keyspace for a command that may run now, with all that it needs in memory.

use super::super::{CommandError, latched, residency};
use super::{Outcome, Reply, Request, Wait, gave_up, waits_under_lock};
use crate::keyspace::locks::KeyspaceGuard;
use crate::keyspace::tiering::direct::DirectRead;
use crate::keyspace::tiering::lend::Reader;
use crate::keyspace::tiering::loader::LoadResult;
use crate::keyspace::tiering::one_read::{Begun, Need, OneRead};
use crate::net::client::Client;
use crate::server::Server;

/// Whether the command reads one string, its first argument, and only while it runs.
fn reads_a_string(client: &Client, name: &str) -> bool {
    let by_name = matches!(
        name,
        "get" | "strlen" | "getrange" | "substr" | "getbit" | "bitcount" | "bitpos"
    );
    by_name && client.transaction.is_none()
}

/// The keyspace, held, or what became of the request.
///
/// Where cold values may be read by this thread they are, between two holds of the keyspace; what the
/// command may not do then is looked at again. In the second hold they come into memory and the command
/// runs, so that they need no pin.
pub(super) fn take<'a>(request: &mut Request<'a>) -> Result<KeyspaceGuard<'a>, Outcome> {
    let Some(client) = request.slot.as_deref_mut() else {
        return Err(Outcome::Done);
    };
    if reads_a_string(client, request.spec.name) {
        return take_for_reader(request);
    }
    let server = request.server;
    let (mut read, mut has_read) = (None, false);
    loop {
        let Some(mut keyspace) = server.keyspace_unless_busy() else {
            if let Some(read) = read {
                DirectRead::finish_later(read, server);
            }
            return Err(AGAIN);
        };
        if let Some(read) = read.take() {
            let ended = DirectRead::finish(read, &mut keyspace);
            keyspace = unless_failed(request, keyspace, ended)?;
        }
        keyspace = unless_waiting(request, keyspace)?;
        let Some(client) = request.slot.as_deref_mut() else {
            return Err(Outcome::Done);
        };
        let command = (request.spec, request.args);
        let direct = (!has_read).then_some(&server.readers.direct);
        let missing = residency::missing(&keyspace, client, command, direct);
        if missing.is_empty() {
            return Ok(keyspace);
        }
        if !has_read {
            has_read = true;
            read = DirectRead::begin(server, &mut keyspace, &missing);
        }
        drop(keyspace);
        match &mut read {
            Some(read) => read.run(server),
            None => return Err(Outcome::Retry(Wait::Load(missing))),
        }
    }
}

/// It is refused, or not, as one that comes now.
const AGAIN: Outcome = Outcome::Retry(Wait::Nothing);

/// As [`take`] for a command that reads one string, perhaps after the pool has read it. The value may be
/// lent to it.
fn take_for_reader<'a>(request: &mut Request<'a>) -> Result<KeyspaceGuard<'a>, Outcome> {
    let (server, key) = (request.server, request.args.at(1));
    let Some(client) = request.slot.as_deref() else {
        return Err(Outcome::Done);
    };
    let (db, touch) = (client.db, !client.no_touch);
    let mut read = request.scratch.read.take();
    let mut may_read = read.is_none();
    loop {
        let Some(mut keyspace) = server.keyspace_unless_busy() else {
            if let Some(read) = read {
                OneRead::give_up_later(read, server);
            }
            return Err(AGAIN);
        };
        let now_ms = crate::clock::unix_ms();
        if let Some(read) = read.take() {
            let ended = OneRead::finish(read, &mut keyspace, Reader { touch, now_ms });
            keyspace = unless_failed(request, keyspace, ended)?;
        }
        keyspace = unless_waiting(request, keyspace)?;
        if keyspace.has_lent() {
            return Ok(keyspace);
        }
        let reads_itself = || may_read && server.readers.direct.is_open(1);
        let begun = match keyspace.begin_read(db, key, now_ms, reads_itself) {
            Need::Nothing => return Ok(keyspace),
            Need::Others => return Err(wait_for_load(db, key)),
            Need::Read(begun) => begun,
        };
        let may_read = std::mem::take(&mut may_read) && server.readers.direct.is_open(1);
        let store = keyspace.tiering.as_ref().filter(|_| may_read);
        let Some(store) = store.map(|tiering| tiering.cold.clone()) else {
            return Err(leave_to_pool(server, keyspace, begun, db, key));
        };
        drop(keyspace);
        // A large value's room is seen to where it is read alone.
        let together = request
            .scratch
            .together()
            .filter(|_| !store.has_large_records());
        if let (Some(together), Ok(handle)) = (together, server.handle()) {
            return Err(Outcome::Retry(Wait::Read(
                together.join(begun, handle, store),
            )));
        }
        read = Some(begun.run(server, &store));
    }
}

fn wait_for_load(db: usize, key: &[u8]) -> Outcome {
    Outcome::Retry(Wait::Load(vec![(db, key.to_vec())]))
}

fn leave_to_pool(
    server: &Server,
    mut keyspace: KeyspaceGuard<'_>,
    begun: Begun,
    db: usize,
    key: &[u8],
) -> Outcome {
    let Ok(handle) = server.handle() else {
        // A server without a handle has no connections: a test's.
        begun.abandon(&mut keyspace);
        return wait_for_load(db, key);
    };
    drop(keyspace);
    Outcome::Retry(Wait::Read(begun.hand_over(handle)))
}

/// Goes on unless a value could not be read, which is the reply.
fn unless_failed<'a>(
    request: &mut Request<'_>,
    keyspace: KeyspaceGuard<'a>,
    ended: LoadResult,
) -> Result<KeyspaceGuard<'a>, Outcome> {
    let (Err(error), Some(client)) = (ended, request.slot.as_deref_mut()) else {
        return Ok(keyspace);
    };
    drop(keyspace);
    let error = CommandError::tier(error);
    let error = gave_up(request.server, client, request.args.all(), error);
    Reply::new(request.out, client.resp3).error(&error.resp());
    Err(Outcome::Done)
}

/// Goes on unless the command has to wait for something else than values.
fn unless_waiting<'a>(
    request: &Request<'_>,
    mut keyspace: KeyspaceGuard<'a>,
) -> Result<KeyspaceGuard<'a>, Outcome> {
    let Some(client) = request.slot.as_deref() else {
        return Err(Outcome::Done);
    };
    let wait = waits_under_lock(request.server, &keyspace, request.flags)
        .or_else(|| latched::wait(&keyspace.latches, client, request.spec, request.args));
    match wait {
        None => Ok(keyspace),
        Some(wait) => {
            drop(keyspace.take_lent());
            Err(Outcome::Retry(wait))
        }
    }
}
