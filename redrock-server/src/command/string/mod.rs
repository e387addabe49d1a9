//! Commands of the string family, bitmaps included.
//!
//! A string that grows or is edited in place ([`crate::keyspace::db::Db::string_mut`]) is a heap
//! object from then on, as Redis's `raw`; anything set as a whole goes through
//! [`crate::keyspace::db::Db::set_string`], which finds integers.

mod bitmap;
mod counter;
mod edit;
pub mod expire_time;
mod get;
mod lcs;
mod set;
#[cfg(test)]
mod tests;

use super::error::{CommandError, CommandResult};
use super::reply::Reply;
use super::table::{Group, KeySpec, Spec, flag};
use crate::config::Config;
use crate::keyspace::db::{Db, StringRef};
use crate::server::Server;
use crate::value::ValueRef;

const WRITE: u32 = flag::WRITE | flag::DENYOOM;
const FAST_WRITE: u32 = WRITE | flag::FAST;
const READ: u32 = flag::READONLY;
const FAST_READ: u32 = READ | flag::FAST;
const PAIRS: KeySpec = KeySpec::Range {
    first: 1,
    last: -1,
    step: 2,
};

/// A record of this family with one key at argument 1.
const fn one(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: super::table::Handler,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::String)
        .keys(KeySpec::ONE)
        .doc(since, summary)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    one("append", 3, FAST_WRITE, edit::append, "2.0.0",
        "Appends a string to the value of a key. Creates the key if it doesn't exist."),
    one("decr", 2, FAST_WRITE, counter::decr, "1.0.0",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    one("decrby", 3, FAST_WRITE, counter::decrby, "1.0.0",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist."),
    one("get", 2, FAST_READ, get::get, "1.0.0", "Returns the string value of a key."),
    one("getdel", 2, flag::WRITE | flag::FAST, get::getdel, "6.2.0",
        "Returns the string value of a key after deleting the key."),
    one("getex", -2, flag::WRITE | flag::FAST, get::getex, "6.2.0",
        "Returns the string value of a key after setting its expiration time."),
    one("getrange", 4, READ, get::getrange, "2.4.0",
        "Returns a substring of the string stored at a key."),
    one("getset", 3, FAST_WRITE, set::getset, "1.0.0",
        "Returns the previous string value of a key after setting it to a new value."),
    one("incr", 2, FAST_WRITE, counter::incr, "1.0.0",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    one("incrby", 3, FAST_WRITE, counter::incrby, "1.0.0",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
    one("incrbyfloat", 3, FAST_WRITE, counter::incrbyfloat, "2.6.0",
        "Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
    one("lcs", -3, READ, lcs::lcs, "7.0.0", "Finds the longest common substring.")
        .keys(KeySpec::TWO),
    one("mget", -2, FAST_READ, get::mget, "1.0.0",
        "Atomically returns the string values of one or more keys.")
        .keys(KeySpec::ALL),
    one("mset", -3, WRITE, set::mset, "1.0.1",
        "Atomically creates or modifies the string values of one or more keys.")
        .keys(PAIRS)
        .presence(),
    one("msetnx", -3, WRITE, set::msetnx, "1.0.1",
        "Atomically modifies the string values of one or more keys only when all keys don't exist.")
        .keys(PAIRS)
        .presence(),
    one("psetex", 4, WRITE, set::psetex, "2.6.0",
        "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.")
        .presence(),
    one("set", -3, WRITE, set::set, "1.0.0",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.")
        .presence(),
    one("setex", 4, WRITE, set::setex, "2.0.0",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.")
        .presence(),
    one("setnx", 3, FAST_WRITE, set::setnx, "1.0.0",
        "Set the string value of a key only when the key doesn't exist.")
        .presence(),
    one("setrange", 4, WRITE, edit::setrange, "2.2.0",
        "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."),
    one("strlen", 2, FAST_READ, get::strlen, "2.2.0", "Returns the length of a string value."),
    one("substr", 4, READ, get::getrange, "1.0.0", "Returns a substring from a string value."),
    // Bitmaps.
    one("bitcount", -2, READ, bitmap::bitcount, "2.6.0",
        "Counts the number of set bits (population counting) in a string.")
        .group(Group::Bitmap),
    one("bitfield", -2, WRITE, bitmap::bitfield, "3.2.0",
        "Performs arbitrary bitfield integer operations on strings.")
        .group(Group::Bitmap),
    one("bitfield_ro", -2, FAST_READ, bitmap::bitfield_ro, "6.0.0",
        "Performs arbitrary read-only bitfield integer operations on strings.")
        .group(Group::Bitmap),
    one("bitop", -4, WRITE, bitmap::bitop, "2.6.0",
        "Performs bitwise operations on multiple strings, and stores the result.")
        .group(Group::Bitmap)
        .keys(KeySpec::Range { first: 2, last: -1, step: 1 }),
    one("bitpos", -3, READ, bitmap::bitpos, "2.8.7",
        "Finds the first set (1) or clear (0) bit in a string.")
        .group(Group::Bitmap),
    one("getbit", 3, FAST_READ, bitmap::getbit, "2.2.0", "Returns a bit value by offset.")
        .group(Group::Bitmap),
    one("setbit", 4, WRITE, bitmap::setbit, "2.2.0",
        "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.")
        .group(Group::Bitmap),
];

/// Writes a string as a bulk.
fn reply_string(reply: &mut Reply<'_>, value: StringRef<'_>) {
    match value {
        StringRef::Int(n) => reply.bulk_int(n),
        StringRef::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// Looks a string up that is going to be changed: nothing is counted, as in Redis's
/// `lookupKeyWrite`.
fn peek_string<'d>(db: &'d mut Db<'_>, key: &[u8]) -> CommandResult<Option<StringRef<'d>>> {
    match db.peek(key)? {
        None => Ok(None),
        Some(ValueRef::Int(n)) => Ok(Some(StringRef::Int(n))),
        Some(ValueRef::Str(bytes)) => Ok(Some(StringRef::Bytes(bytes))),
        Some(_) => Err(CommandError::WrongType),
    }
}

/// Length of a string that is going to be changed, in bytes; `None` if there is none.
fn peek_len(db: &mut Db<'_>, key: &[u8]) -> CommandResult<Option<usize>> {
    Ok(peek_string(db, key)?.map(|value| value.len()))
}

/// Refuses a string of `start + added` bytes when it passes `proto-max-bulk-len`.
fn check_length(config: &Config, start: usize, added: usize) -> CommandResult<usize> {
    start
        .checked_add(added)
        .filter(|total| *total <= config.proto_bulk_bytes_max)
        .ok_or(CommandError::fixed(
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ))
}

/// Called before a string grows from `len` to `grown` bytes by a command that is itself small:
/// refuses what memory can't hold, and charges the rest.
fn check_growth(server: &Server, len: usize, grown: usize) -> CommandResult {
    const CHARGED_BYTES_MIN: usize = 4096;
    if grown as u64 > server.memory.string_bytes_max() {
        return Err(CommandError::fixed(
            "ERR string exceeds maximum allowed size (an eighth of maxmemory)",
        ));
    }
    let growth = grown.saturating_sub(len);
    if growth >= CHARGED_BYTES_MIN {
        server.charge(growth as u64);
    }
    Ok(())
}

/// Makes room for `len` bytes in all. As Redis's strings do, one that grows again gets spare room
/// of its own size, at most 1 MiB: doubling a large string would break the memory bound.
fn reserve(bytes: &mut Vec<u8>, len: usize) {
    const SPARE_BYTES_MAX: usize = 1 << 20;
    if bytes.capacity() < len {
        let spare = if bytes.is_empty() {
            0
        } else {
            len.min(SPARE_BYTES_MAX)
        };
        bytes.reserve_exact(len + spare - bytes.len());
    }
}

/// Pads with zero bytes to at least `len` bytes.
fn grow_zeroed(bytes: &mut Vec<u8>, len: usize) {
    if bytes.len() < len {
        reserve(bytes, len);
        bytes.resize(len, 0);
    }
}
