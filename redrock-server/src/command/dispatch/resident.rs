//! Takes the keyspace for a command that may run now, with all that it needs in memory.

use super::super::{CommandError, latched, residency};
use super::{Outcome, Reply, Request, Wait, gave_up, waits_under_lock};
use crate::keyspace::locks::KeyspaceGuard;
use crate::keyspace::tiering::direct::DirectRead;

/// Commands that read one string, and only while they run.
const READERS: &[&str] = &["get", "strlen", "getrange", "substr"];

/// The keyspace, held, or what became of the request.
///
/// Where cold values may be read by this thread they are, between two holds of the keyspace; what the
/// command may not do then is looked at again. In the second hold they come into memory and the command
/// runs, so that they need no pin.
pub(super) fn take<'a>(request: &mut Request<'a>) -> Result<KeyspaceGuard<'a>, Outcome> {
    let Request {
        server,
        spec,
        flags,
        args,
        ..
    } = *request;
    let Some(client) = request.slot.as_deref_mut() else {
        return Err(Outcome::Done);
    };
    let reads_only = client.transaction.is_none() && READERS.contains(&spec.name);
    let (mut read, mut has_read) = (None, false);
    loop {
        let Some(mut keyspace) = server.keyspace_unless_busy() else {
            if let Some(read) = read {
                DirectRead::finish_later(read, server);
            }
            // It is refused, or not, as one that comes now.
            return Err(Outcome::Retry(Wait::Nothing));
        };
        if let Some(Err(error)) = read.take().map(|read: DirectRead| match reads_only {
            true => read.finish_for_reader(&mut keyspace),
            false => read.finish(&mut keyspace),
        }) {
            drop(keyspace);
            let error = gave_up(server, client, args.all(), CommandError::tier(error));
            Reply::new(request.out, client.resp3).error(&error.resp());
            return Err(Outcome::Done);
        }
        if let Some(wait) = waits_under_lock(server, &keyspace, flags)
            .or_else(|| latched::wait(&keyspace.latches, client, spec, args))
        {
            drop(keyspace.take_lent());
            return Err(Outcome::Retry(wait));
        }
        if keyspace.has_lent() {
            return Ok(keyspace);
        }
        let missing = residency::missing(&keyspace, client, spec, args);
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
