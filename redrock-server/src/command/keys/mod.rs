//! Commands of the keys family: what works on keys of any type, and on whole databases.

mod cold_scan;
mod delete;
mod dump;
mod expire;
mod flush;
mod migrate;
mod moves;
mod object;
mod scan;
mod sort;
#[cfg(test)]
mod tests;
mod ttl;

pub(crate) use dump::target as dump_target;

use super::table::{Group, Handler, KeySpec, Spec, acl, flag};
use super::{Args, CommandError, CommandResult};
use redrock_rdb::number::parse_i64;

const WRITE: u32 = flag::WRITE;
const FAST_WRITE: u32 = flag::WRITE | flag::FAST;
const READ: u32 = flag::READONLY;
const FAST_READ: u32 = flag::READONLY | flag::FAST;
const GROW: u32 = flag::WRITE | flag::DENYOOM;

/// A record with one key at argument 1 of which presence is enough.
const fn one(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .keys(KeySpec::ONE)
        .presence()
        .acl(acl::KEYSPACE)
}

/// A record without keys.
const fn none(name: &'static str, arity: i32, flags: u32, handler: Handler) -> Spec {
    Spec::new(name, arity, flags, handler)
        .presence()
        .acl(acl::KEYSPACE)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    one("copy", -3, GROW, moves::copy)
        .keys(KeySpec::TWO)
        .first_value()
        .doc("6.2.0", "Copies the value of a key to a new key."),
    none("dbsize", 1, FAST_READ, flush::dbsize)
        .group(Group::Server)
        .doc("1.0.0", "Returns the number of keys in the database."),
    one("del", -2, WRITE, delete::del)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Deletes one or more keys."),
    Spec::new("dump", 2, READ, dump::dump)
        .keys(KeySpec::ONE)
        .acl(acl::KEYSPACE)
        .doc("2.6.0", "Returns a serialized representation of the value stored at a key."),
    one("exists", -2, FAST_READ, delete::exists)
        .keys(KeySpec::ALL)
        .doc("1.0.0", "Determines whether one or more keys exist."),
    one("expire", -3, FAST_WRITE, expire::expire)
        .doc("1.0.0", "Sets the expiration time of a key in seconds."),
    one("expireat", -3, FAST_WRITE, expire::expireat)
        .doc("1.2.0", "Sets the expiration time of a key to a Unix timestamp."),
    one("expiretime", 2, FAST_READ, ttl::expiretime)
        .doc("7.0.0", "Returns the expiration time of a key as a Unix timestamp."),
    none("flushall", -1, WRITE, flush::flushall)
        .group(Group::Server)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("1.0.0", "Removes all keys from all databases."),
    none("flushdb", -1, WRITE, flush::flushdb)
        .group(Group::Server)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("1.0.0", "Remove all keys from the current database."),
    none("keys", 2, READ, scan::keys)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("1.0.0", "Returns all key names that match a pattern."),
    one("migrate", -6, WRITE | flag::MOVABLE_KEYS, migrate::migrate)
        .keys(KeySpec::Custom(migrate::keys))
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc(
            "2.6.0",
            "Atomically transfers a key from one Redis instance to another.",
        ),
    one("move", 3, FAST_WRITE, moves::move_key)
        .first_value()
        .doc("1.0.0", "Moves a key to another database."),
    Spec::new("object", -2, 0, object::help)
        .sub(object::SUBCOMMANDS)
        .doc("2.2.3", "A container for object introspection commands."),
    one("persist", 2, FAST_WRITE, expire::persist)
        .doc("2.2.0", "Removes the expiration time of a key."),
    one("pexpire", -3, FAST_WRITE, expire::pexpire)
        .doc("2.6.0", "Sets the expiration time of a key in milliseconds."),
    one("pexpireat", -3, FAST_WRITE, expire::pexpireat)
        .doc("2.6.0", "Sets the expiration time of a key to a Unix milliseconds timestamp."),
    one("pexpiretime", 2, FAST_READ, ttl::pexpiretime)
        .doc("7.0.0", "Returns the expiration time of a key as a Unix milliseconds timestamp."),
    one("pttl", 2, FAST_READ, ttl::pttl)
        .doc("2.6.0", "Returns the expiration time in milliseconds of a key."),
    none("randomkey", 1, READ, scan::randomkey)
        .doc("1.0.0", "Returns a random key name from the database."),
    one("rename", 3, WRITE, moves::rename)
        .keys(KeySpec::TWO)
        .first_value()
        .doc("1.0.0", "Renames a key and overwrites the destination."),
    one("renamenx", 3, FAST_WRITE, moves::renamenx)
        .keys(KeySpec::TWO)
        .first_value()
        .doc("1.0.0", "Renames a key only when the target key name doesn't exist."),
    one("restore", -4, GROW, dump::restore)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("2.6.0", "Creates a key from the serialized representation of a value."),
    one("restore-asking", -4, GROW, dump::restore)
        .group(Group::Server)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("3.0.0", "An internal command for migrating keys in a cluster."),
    none("scan", -2, READ, scan::scan)
        .doc("2.8.0", "Iterates over the key names in the database."),
    Spec::new(
        "sort",
        -2,
        flag::WRITE | flag::DENYOOM | flag::MOVABLE_KEYS,
        sort::sort,
    )
    .keys(KeySpec::Custom(sort::keys))
    .acl(acl::DANGEROUS)
    .doc(
        "1.0.0",
        "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
    ),
    Spec::new(
        "sort_ro",
        -2,
        flag::READONLY | flag::MOVABLE_KEYS,
        sort::sort_ro,
    )
    .keys(KeySpec::ONE)
    .acl(acl::DANGEROUS)
    .doc(
        "7.0.0",
        "Returns the sorted elements of a list, a set, or a sorted set.",
    ),
    none("swapdb", 3, FAST_WRITE, flush::swapdb)
        .group(Group::Server)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc("4.0.0", "Swaps two Redis databases."),
    one("touch", -2, FAST_READ, delete::touch).keys(KeySpec::ALL).doc(
        "3.2.1",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
    ),
    one("ttl", 2, FAST_READ, ttl::ttl)
        .doc("1.0.0", "Returns the expiration time in seconds of a key."),
    one("type", 2, FAST_READ, delete::type_name)
        .doc("1.0.0", "Determines the type of value stored at a key."),
    one("unlink", -2, FAST_WRITE, delete::del)
        .keys(KeySpec::ALL)
        .doc("4.0.0", "Asynchronously deletes one or more keys."),
];

const NO_DATABASE: CommandError = CommandError::fixed("ERR DB index is out of range");
const SAME_OBJECT: CommandError =
    CommandError::fixed("ERR source and destination objects are the same");

/// Argument `at` as a 32-bit number (Redis: `getIntFromObjectOrReply`).
fn small_int(args: &Args<'_>, at: usize) -> CommandResult<i32> {
    let n = parse_i64(args.at(at)).ok_or(CommandError::NotInteger)?;
    i32::try_from(n).map_err(|_| {
        CommandError::fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        )
    })
}
