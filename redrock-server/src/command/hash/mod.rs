//! Commands of the hash family.
//!
//! Fields that have expired are treated as absent, but where Redis 7.4 does not look (HSET, HDEL,
//! HLEN). Those that a command meets are deleted where this server may, as Redis does, and the
//! deletion is propagated before what the command does itself.

mod expire;
mod expiring;
pub(crate) mod random;
mod read;
pub mod scan;
mod write;

pub(in crate::command) use expire::check_allowed;

use super::table::{Group, Handler, KeySpec, Spec, flag};
use super::{CommandError, CommandResult, Context};
use crate::keyspace::db::{Collection, Db};

const ADD: u32 = flag::WRITE | flag::DENYOOM | flag::FAST;
const REMOVE: u32 = flag::WRITE | flag::FAST;
const LOOK: u32 = flag::READONLY | flag::FAST;
const WALK: u32 = flag::READONLY;

const fn spec(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::Hash)
        .keys(KeySpec::ONE)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec("hdel", -3, REMOVE, write::hdel).doc(
        "2.0.0",
        "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
    ),
    spec("hexists", 3, LOOK, read::hexists)
        .doc("2.0.0", "Determines whether a field exists in a hash."),
    spec("hget", 3, LOOK, read::hget).doc("2.0.0", "Returns the value of a field in a hash."),
    spec("hgetall", 2, WALK, read::hgetall)
        .doc("2.0.0", "Returns all fields and values in a hash."),
    spec("hincrby", 4, ADD, write::hincrby).doc(
        "2.0.0",
        "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
    spec("hincrbyfloat", 4, ADD, write::hincrbyfloat).doc(
        "2.6.0",
        "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
    ),
    spec("hkeys", 2, WALK, read::hkeys).doc("2.0.0", "Returns all fields in a hash."),
    spec("hlen", 2, LOOK, read::hlen).doc("2.0.0", "Returns the number of fields in a hash."),
    spec("hmget", -3, LOOK, read::hmget)
        .doc("2.0.0", "Returns the values of all fields in a hash."),
    spec("hmset", -4, ADD, write::hmset).doc("2.0.0", "Sets the values of multiple fields."),
    spec("hrandfield", -2, WALK, random::hrandfield)
        .doc("6.2.0", "Returns one or more random fields from a hash."),
    spec("hscan", -3, WALK, read::hscan)
        .doc("2.8.0", "Iterates over fields and values of a hash."),
    spec("hset", -4, ADD, write::hset)
        .doc("2.0.0", "Creates or modifies the value of a field in a hash."),
    spec("hsetnx", 4, ADD, write::hsetnx)
        .doc("2.0.0", "Sets the value of a field in a hash only when the field doesn't exist."),
    spec("hstrlen", 3, LOOK, read::hstrlen)
        .doc("3.2.0", "Returns the length of the value of a field."),
    spec("hvals", 2, WALK, read::hvals).doc("2.0.0", "Returns all values in a hash."),
    spec("hexpire", -6, ADD, expire::hexpire).doc(
        "7.4.0",
        "Set expiry for hash field using relative time to expire (seconds)",
    ),
    spec("hexpireat", -6, ADD, expire::hexpireat).doc(
        "7.4.0",
        "Set expiry for hash field using an absolute Unix timestamp (seconds)",
    ),
    spec("hexpiretime", -5, LOOK, expire::hexpiretime).doc(
        "7.4.0",
        "Returns the expiration time of a hash field as a Unix timestamp, in seconds.",
    ),
    spec("hgetdel", -5, REMOVE, expiring::hgetdel).doc(
        "8.0.0",
        "Returns the value of a field and deletes it from the hash.",
    ),
    spec("hgetex", -5, REMOVE, expiring::hgetex).doc(
        "8.0.0",
        "Get the value of one or more fields of a given hash key, and optionally set their expiration.",
    ),
    spec("hpersist", -5, REMOVE, expire::hpersist)
        .doc("7.4.0", "Removes the expiration time for each specified field"),
    spec("hpexpire", -6, ADD, expire::hpexpire).doc(
        "7.4.0",
        "Set expiry for hash field using relative time to expire (milliseconds)",
    ),
    spec("hpexpireat", -6, ADD, expire::hpexpireat).doc(
        "7.4.0",
        "Set expiry for hash field using an absolute Unix timestamp (milliseconds)",
    ),
    spec("hpexpiretime", -5, LOOK, expire::hpexpiretime).doc(
        "7.4.0",
        "Returns the expiration time of a hash field as a Unix timestamp, in msec.",
    ),
    spec("hpttl", -5, LOOK, expire::hpttl)
        .doc("7.4.0", "Returns the TTL in milliseconds of a hash field."),
    spec("hsetex", -6, ADD, expiring::hsetex).doc(
        "8.0.0",
        "Set the value of one or more fields of a given hash key, and optionally set their expiration.",
    ),
    spec("httl", -5, LOOK, expire::httl)
        .doc("7.4.0", "Returns the TTL in seconds of a hash field."),
];

/// Deletes those of `fields` that are over on behalf of a command that only reads: not where
/// nothing is deleted at the moment.
fn expire_met(ctx: &mut Context<'_>, key: &[u8], fields: &[&[u8]]) {
    if !ctx.server.state.pause.is_on() && !ctx.server.log.refuses_writes() {
        // A large hash that a snapshot is reading is left to active expiry.
        let _deleted = ctx.db.expire_named(key, fields);
    }
}

/// A collection looked up for a write that may turn out to change nothing: not counted as a hit,
/// nothing recorded, and the entry stays as it is.
pub(crate) fn peek_as<'a, T: Collection + 'static>(
    db: &'a mut Db<'_>,
    key: &[u8],
) -> CommandResult<Option<&'a T>> {
    match db.peek(key)? {
        None => Ok(None),
        Some(value) => T::of(value).map(Some).ok_or(CommandError::WrongType),
    }
}

#[cfg(test)]
mod tests;
