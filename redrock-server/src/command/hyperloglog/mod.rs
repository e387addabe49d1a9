//! Commands of HyperLogLogs, which are strings.

mod debug;
#[cfg(test)]
mod tests;
mod update;

use super::error::{CommandError, CommandResult};
use super::table::{Group, Handler, KeySpec, Spec, acl, flag};
use crate::keyspace::db::Db;
use crate::value::ValueRef;
use crate::value::hyperloglog::{self, Corrupted, Encoding};

const NOT_ONE: CommandError =
    CommandError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupted> for CommandError {
    fn from(_: Corrupted) -> Self {
        Self::fixed("INVALIDOBJ Corrupted HLL object detected")
    }
}

const fn spec(
    name: &'static str,
    arity: i32,
    flags: u32,
    handler: Handler,
    summary: &'static str,
) -> Spec {
    Spec::new(name, arity, flags, handler)
        .group(Group::HyperLogLog)
        .acl(acl::HYPERLOGLOG)
        .keys(KeySpec::ONE)
        .doc("2.8.9", summary)
}

/// This family's records.
pub const COMMANDS: &[Spec] = &[
    spec(
        "pfadd",
        -2,
        flag::WRITE | flag::DENYOOM | flag::FAST,
        update::pfadd,
        "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
    ),
    spec(
        "pfcount",
        -2,
        flag::READONLY | flag::MAY_REPLICATE,
        update::pfcount,
        "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).",
    )
    .keys(KeySpec::ALL),
    spec(
        "pfdebug",
        3,
        flag::WRITE | flag::DENYOOM | flag::ADMIN,
        debug::pfdebug,
        "Internal commands for debugging HyperLogLog values.",
    )
    .keys(KeySpec::Range {
        first: 2,
        last: 2,
        step: 1,
    }),
    spec(
        "pfmerge",
        -2,
        flag::WRITE | flag::DENYOOM,
        update::pfmerge,
        "Merges one or more HyperLogLog values into a single key.",
    )
    .keys(KeySpec::ALL),
    spec(
        "pfselftest",
        1,
        flag::ADMIN,
        debug::pfselftest,
        "An internal command for testing HyperLogLog values.",
    )
    .keys(KeySpec::None),
];

/// The HyperLogLog in a value; refuses what is none.
fn of_value(value: ValueRef<'_>) -> CommandResult<(&[u8], Encoding)> {
    match value {
        ValueRef::Str(bytes) => {
            let encoding = hyperloglog::encoding(bytes).ok_or(NOT_ONE)?;
            Ok((bytes, encoding))
        }
        ValueRef::Int(_) => Err(NOT_ONE),
        _ => Err(CommandError::WrongType),
    }
}

/// Looks one up that is going to be changed: nothing is counted.
fn peek<'d>(db: &'d mut Db<'_>, key: &[u8]) -> CommandResult<Option<(&'d [u8], Encoding)>> {
    db.peek(key)?.map(of_value).transpose()
}

/// Looks one up for reading.
fn read<'d>(db: &'d mut Db<'_>, key: &[u8]) -> CommandResult<Option<(&'d [u8], Encoding)>> {
    db.read_any(key)?.map(of_value).transpose()
}

/// Redis makes the string editable before it looks what there is to change.
fn make_raw(db: &mut Db<'_>, key: &[u8]) -> CommandResult {
    if db.encoding(key)? != Some("raw") {
        db.string_mut(key)?;
    }
    Ok(())
}
